"""The graph bench on a small list: every figure is there and is a number; bad files have a clear error."""

import hashlib
import math
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from loadtest.benches import graph as bench_graph
from loadtest.benches import graph_limits as bench_graph_limits
from loadtest.benches import graph_scaling as bench_graph_scaling
from loadtest.benches.edge_list import made_list, read_list, write_list
from loadtest.commands.bench import bench

KEYS = {
    "ingest_edges_per_s",
    "ingest_evicting_edges_per_s",
    "bytes_per_edge",
    "salsa_steps_per_s",
    "salsa_requests_per_s_1000_walks",
    "salsa_time_aware_requests_per_s_1000_walks",
    "salsa_requests_per_s_1000_walks_76_seeds",
    "salsa_requests_per_s_10000_walks",
    "second_degree_requests_per_s_100_seeds",
    "second_degree_requests_per_s_500_seeds",
    "mixed_writer_edges_per_s",
    "mixed_reader_requests_per_s",
    "paced_reader_share",
    "random_reads_dependent_per_s",
    "random_reads_independent_per_s",
    "phase_left_cycles_per_walker",
    "phase_call_cycles_per_request",
}
#: Figures that are no rate of work.
NO_RATE = {"bytes_per_edge", "paced_reader_share", "cycles_per_ns"}


def test_all_figures_come_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_graph_limits, "_READ_BITS", 16)
    rng = np.random.default_rng(1)
    path = tmp_path / "edges.bin"
    np.stack([rng.integers(1, 3000, 20_000), rng.integers(1, 900, 20_000)], 1).astype("<i8").tofile(path)
    figures = bench_graph.run(path, seconds=0.01)
    assert figures.keys() >= KEYS
    assert all(math.isfinite(value) and value >= 0 for value in figures.values())
    assert figures["edges_let_go_for_lack_of_room"] == 0
    rates = {key for key in KEYS if not key.startswith(("phase_", "random_"))} - NO_RATE
    assert {key for key in figures if key.endswith(".share_of_limit")} == {f"{key}.share_of_limit" for key in rates}
    limit = figures["random_reads_independent_per_s"]
    assert figures["salsa_steps_per_s.share_of_limit"] == pytest.approx(2 * figures["salsa_steps_per_s"] / limit)
    # 3,500 steps of two reads each: two of three left steps' walkers move, and all of these step back.
    reads = figures["salsa_requests_per_s_1000_walks.share_of_limit"] * limit
    assert 6000 < reads / figures["salsa_requests_per_s_1000_walks"] < 8000
    clock = figures["cycles_per_ns"]
    assert 0.3 < clock < 10
    assert figures["phase_left_cycles_per_walker"] == pytest.approx(figures["phase_left_ns_per_walker"] * clock)
    assert figures["phase_select_cycles_per_request"] == pytest.approx(
        figures["phase_select_us_per_request"] * 1000 * clock
    )


def test_scaling_fits_a_slope() -> None:
    figures = bench_graph_scaling.run((20_000, 40_000), seconds=0.01)
    assert {f"slope.{name}" for name in bench_graph_scaling.FITTED} <= figures.keys()
    assert all(math.isfinite(value) for value in figures.values())


@pytest.mark.parametrize("content", [b"", b"12345678", bytes(16 * 50)])
def test_what_is_no_edge_list_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "edges.bin"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"multiple of 16|users"):
        bench_graph.run(path, seconds=0.01)


def test_the_made_list_is_the_same_everywhere(tmp_path: Path) -> None:
    path = tmp_path / "lists" / "edges_200k.bin"
    write_list(path, 200_000, seed=20162)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert digest == "6d75be1d883dae8baa8608ae993f37f869d38c3d4b5fcbfd8b21d22c78e3fbdd"
    users, tweets = read_list(path)
    assert len(users) == len(tweets) == 200_000
    assert (len(np.unique(users)), len(np.unique(tweets))) == (19_374, 7_968)
    assert np.array_equal(np.stack(made_list(200_000, 20162)), np.stack([users, tweets]))


def test_the_command_makes_a_list_that_the_bench_reads(tmp_path: Path) -> None:
    path = tmp_path / "new" / "edges.bin"
    done = CliRunner().invoke(bench, ["make-edges", str(path), "--edges", "20000"])
    assert done.exit_code == 0, done.output
    assert bench_graph.GraphBench.read(path, seconds=0.01).size == 20_000
    done = CliRunner().invoke(bench, ["make-edges", str(tmp_path), "--edges", "20000"])
    assert done.exit_code == 2
