"""Both estimators of a time-aware walk's last step against their expectation, by sums over a plain list of edges."""

import gzip
import math
from pathlib import Path

import numpy as np
import pytest

from engine.kernels.id_map import lookup
from loadtest.benches import estimators as bench_estimators
from loadtest.benches.estimators import LANES, Estimators, edges_of, graph_of, run
from loadtest.benches.graph import HALF_LIVES_MS

HOUR_MS = 3_600_000
NOW_MS = 400 * HOUR_MS
Columns = tuple[np.ndarray, np.ndarray, np.ndarray]


def edges(seed: int, count: int = 300) -> Columns:
    """Parallel edges too; ages from seconds to two weeks, most of them young."""
    rng = np.random.default_rng(seed)
    ages = (10 ** rng.uniform(0.5, 6.0, count)).astype(np.int64) * 1000
    ages[0] = 0
    times = np.sort(NOW_MS - ages)
    return rng.integers(1, 25, count).astype(np.uint64), rng.integers(1, 40, count).astype(np.uint64), times


def expected(columns: Columns, user: int) -> np.ndarray:
    """Shares by (half-life, tweet id) of the last of three steps from a user."""
    users, tweets, times = columns
    shares = np.zeros((LANES, 64))
    for first in tweets[users == user]:
        company = users[tweets == first]
        for other in company:
            theirs = np.flatnonzero(users == other)
            for row in theirs:
                age_ms = (NOW_MS // 1000 - times[row] // 1000) * 1000
                weight = 1 / (users == user).sum() / len(company) / len(theirs)
                shares[:, int(tweets[row])] += weight * 2.0 ** (-age_ms / np.array(HALF_LIVES_MS))
    return shares / shares.sum(axis=1, keepdims=True)


@pytest.fixture(scope="module")
def made() -> tuple[Columns, Estimators]:
    columns = edges(3)
    return columns, Estimators(graph_of(*columns), walks=40_000)


def by_id(estimators: Estimators, shares: np.ndarray) -> np.ndarray:
    """Columns by tweet id instead of index."""
    found = np.zeros((LANES, 64))
    for tweet in range(1, 41):
        index = lookup(estimators.graph.state.tweets, tweet)
        if index >= 0:
            found[:, tweet] = shares[:, index]
    return found


@pytest.mark.parametrize("user", [1, 5, 9])
def test_both_have_the_expectation_of_the_sum(made: tuple[Columns, Estimators], user: int) -> None:
    columns, estimators = made
    index = lookup(estimators.graph.state.users, user)
    exact = expected(columns, user)
    np.testing.assert_allclose(by_id(estimators, estimators.exact(index)), exact, rtol=1e-9, atol=1e-15)
    runs: dict[str, list[np.ndarray]] = {"uniform": [], "proportional": [], "one by one": []}
    for seed in range(24):
        estimators.walk(index, seed)
        runs["uniform"].append(by_id(estimators, estimators.uniform(seed)))
        runs["proportional"].append(by_id(estimators, estimators.proportional(seed)))
        alone = [estimators.proportional(seed, lane, 1)[lane] for lane in range(LANES)]
        runs["one by one"].append(by_id(estimators, np.stack(alone)))
    for name, shares in runs.items():
        error = np.std(shares, axis=0) / np.sqrt(len(shares) - 1)
        z = ((np.mean(shares, axis=0) - exact) / np.where(error > 0, error, np.inf))[exact > 1e-4]
        assert len(z) > 60, name
        assert abs(z.mean()) < 0.5, name
        assert 0.7 < z.std() < 1.4, name
    # What one draw for each half-life buys: less variance where few edges have most of the weight.
    spread = {name: np.var(shares, axis=0).sum(axis=1) for name, shares in runs.items()}
    assert spread["proportional"][0] < 0.7 * spread["uniform"][0]


def test_equal_seeds_give_equal_estimates(made: tuple[Columns, Estimators]) -> None:
    _, estimators = made
    estimators.walk(3, 7)
    first = estimators.uniform(7), estimators.proportional(7)
    estimators.walk(4, 8)
    estimators.uniform(9)
    estimators.walk(3, 7)
    assert np.array_equal(first[1], estimators.proportional(7))
    assert np.array_equal(first[0], estimators.uniform(7))


def test_all_figures_come_out() -> None:
    figures = run(*edges(4, 3000), asked=5, runs=3)
    for name in ("30min", "1h", "6h", "1d"):
        assert figures[f"variance_ratio.{name}"] > 0
        assert 0 < figures[f"total_variation_uniform.{name}"] < 1
        for count in (1, 4):
            assert figures[f"variance_ratio_at_equal_time_{count}.{name}"] == pytest.approx(
                figures[f"variance_ratio.{name}"] / figures[f"time_ratio_{count}"]
            )
    assert all(math.isfinite(value) and value > 0 for value in figures.values())
    alone = np.ones(1, np.uint64)
    with pytest.raises(ValueError, match="more than one way"):
        run(alone, alone, np.ones(1, np.int64), asked=1, runs=1)


def test_edges_come_from_a_recording_a_list_or_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with gzip.open(tmp_path / "engagements.csv.gz", "wt") as file:
        file.write("ts,user,item\n5,a,x\n7,b,y\n9,a,y\n")
    users, tweets, times = edges_of(None, tmp_path, 2)
    assert (users.tolist(), tweets.tolist(), times.tolist()) == ([2, 1], [2, 2], [7000, 9000])
    path = tmp_path / "edges.bin"
    np.array([[3, 4], [5, 6]], "<i8").tofile(path)
    users, tweets, times = edges_of(path, None, None)
    assert (users.tolist(), tweets.tolist(), times.tolist()) == ([3, 5], [4, 6], [0, 24 * HOUR_MS])
    monkeypatch.setattr(bench_estimators, "MADE_EDGES", 500)
    assert [len(column) for column in edges_of(None, None, None)] == [500] * 3
    with pytest.raises(ValueError, match="one of the two"):
        edges_of(path, tmp_path, None)
