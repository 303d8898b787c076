"""A cold start compiles in processes of its own; a cache that is stale, broken or cannot be written is no obstacle."""

import contextlib
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from streams.live import compilation, kernel_cache

ROOT = Path(__file__).parents[3]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A cache folder, the same for every module, that numba knows nothing of."""
    monkeypatch.setattr(kernel_cache, "folder_of", lambda module: tmp_path)
    return tmp_path


def change(monkeypatch, module: str) -> None:
    """Let a module's source have one more line."""
    source = kernel_cache._source.__wrapped__
    monkeypatch.setattr(kernel_cache, "_source", lambda name: source(name) + (b"# changed" if name == module else b""))


def test_what_a_kernel_calls_belongs_to_its_sources():
    reached = kernel_cache.closure(["engine.tweet_store.write_kernels"])
    assert {"engine.tweet_store.arrays", "engine.kernels.id_map", "engine.exact_math", "engine.kernels.jit"} <= reached
    assert "engine.signals.write_kernels" not in reached


def test_a_change_in_a_callee_forgets_its_callers(folder, monkeypatch):
    kernel_cache.forget_stale()
    kernel_cache.note_filled()
    assert kernel_cache.unfilled() == []
    names = ["arrays.count-1.py311.nbi", "salsa.salsa-1.py311.1.nbc", "rng.mix64-1.py311.nbi", "other.nbi"]
    for name in names:
        (folder / name).touch()
    kernel_cache.forget_stale()
    assert all((folder / name).exists() for name in names)
    change(monkeypatch, "engine.exact_math")
    kernel_cache.forget_stale()
    assert [name for name in names if (folder / name).exists()] == ["rng.mix64-1.py311.nbi", "other.nbi"]
    again = kernel_cache.unfilled()
    assert "engine.tweet_store.state" in again
    assert "engine.interaction_graph.salsa" in again
    assert "engine.kernels.rng" not in again


def test_for_another_processor_nothing_is_filled(folder, monkeypatch):
    kernel_cache.forget_stale()
    kernel_cache.note_filled()
    monkeypatch.setenv("NUMBA_CPU_NAME", "another")
    assert kernel_cache.unfilled() == list(kernel_cache.MODULES)


def test_a_broken_ledger_is_as_none(folder):
    kernel_cache.note_filled()
    ledger = folder / kernel_cache._LEDGER
    ledger.write_bytes(ledger.read_bytes()[:20])
    assert kernel_cache.unfilled() == list(kernel_cache.MODULES)


def test_the_longest_come_first():
    ordered = compilation.in_order(kernel_cache.MODULES)
    assert ordered[: len(compilation.LONGEST)] == list(compilation.LONGEST)
    assert sorted(ordered) == sorted(kernel_cache.MODULES)


WORKER = """
import sys
for line in sys.stdin:
    if "broken" in line:
        sys.exit(1)
    print(1.5, flush=True)
"""


@pytest.fixture
def workers(monkeypatch) -> None:
    """Workers that compile nothing, and end at a module called broken."""
    monkeypatch.setattr(
        compilation,
        "_worker",
        lambda: subprocess.Popen([sys.executable, "-c", WORKER], stdin=-1, stdout=-1, text=True),
    )


def test_workers_share_the_modules(workers):
    told: list[tuple[int, str, float]] = []
    compilation.fill("abcdefg", 3, lambda *each: told.append(each))
    assert sorted(name for _, name, _ in told) == list("abcdefg")
    assert sorted(done for done, _, _ in told) == list(range(1, 8))
    assert {seconds for _, _, seconds in told} == {1.5}


def test_a_worker_that_fails_leaves_the_rest_to_others(workers):
    told: list[str] = []
    compilation.fill(["a", "broken", "b", "c"], 2, lambda done, name, seconds: told.append(name))
    assert sorted(told) == ["a", "b", "c"]


LOAD = """
import sys
from streams.live import compilation, kernel_cache
compilation._load("engine.kernels.rng")
print(kernel_cache.folder_of("engine.kernels.rng"))
"""


def load(cache: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Load one module's kernels in a process with its own cache. The last line that it prints: where the cache is."""
    return subprocess.run(
        [sys.executable, "-c", LOAD],
        env={**os.environ, "NUMBA_CACHE_DIR": cache, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip


def place(run: subprocess.CompletedProcess[str]) -> str:
    return run.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def filled_cache(tmp_path_factory) -> Path:
    """A cache with one module's kernels."""
    folder = tmp_path_factory.mktemp("filled")
    load(str(folder))
    return folder


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_cut_cache_is_compiled_anew(filled_cache, tmp_path, share):
    shutil.copytree(filled_cache, tmp_path, dirs_exist_ok=True)
    files = list(tmp_path.rglob("rng.*.nb[ic]"))
    assert files
    for path in files:
        whole = path.read_bytes()
        path.write_bytes(whole[: int(len(whole) * share)])
    load(str(tmp_path))
    assert all(path.stat().st_size for path in tmp_path.rglob("rng.*.nbi"))


def test_a_cache_that_can_neither_be_read_nor_replaced_is_passed_over(filled_cache, tmp_path):
    cache = shutil.copytree(filled_cache, tmp_path / "cache")
    for path in cache.rglob("rng.*.nbi"):
        path.unlink()
        path.mkdir()
    assert place(load(str(cache))) == "None"


def test_a_cache_of_something_else_is_compiled_anew(filled_cache, tmp_path):
    cache = shutil.copytree(filled_cache, tmp_path / "cache")
    for path in cache.rglob("rng.*.nb[ic]"):
        path.write_bytes(b"\x80\x04]\x94." if path.suffix == ".nbi" else b"nothing of numba")
    load(str(cache))
    assert all(path.stat().st_size > 1000 for path in cache.rglob("rng.*.nb[ic]"))


@pytest.mark.parametrize("which", ["rng.*.nbi", "rng.*.nbc"])
def test_a_flipped_bit_that_still_unpickles_is_compiled_anew(filled_cache, tmp_path, which):
    cache = shutil.copytree(filled_cache, tmp_path / "cache")
    path = max(cache.rglob(which), key=lambda path: path.stat().st_size)
    whole = path.read_bytes()
    for place in range(len(whole) // 2, len(whole)):
        harmed = bytearray(whole)
        harmed[place] ^= 4
        with contextlib.suppress(Exception):  # most flips do not unpickle, and numba notices by itself
            pickle.loads(harmed)
            break
    path.write_bytes(harmed)
    said = load(str(cache))
    assert path.name in said.stdout
    assert "damaged, and compiled anew" in said.stdout
    assert path.read_bytes() != harmed
    assert "damaged" not in load(str(cache)).stdout


def test_without_a_place_for_a_cache_kernels_compile_all_the_same():
    assert place(load("/proc/nowhere", NUMBA_CACHE_LOCATOR_CLASSES="UserProvidedCacheLocator")) == "None"
