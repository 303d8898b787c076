"""The limits of the machine, and each figure of the interaction graph as a share of them.

All work of the graph is bound by reads that miss the caches. So the limit is the number of random reads per second of
one thread: dependent reads, where each address comes from the read before, or independent reads.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from engine.kernels.jit import kernel
from engine.kernels.rng import mix64

_READ_BITS = 27  # 1 GiB of int64
_READS = 1_000_000
#: A 64-bit multiplication takes 3 cycles on the CPUs of the last ten years, an exclusive or 1.
_CYCLES_A_LINK = 4
LIMIT = "random_reads_independent_per_s"


@kernel
def _fill_random(cells: Any) -> None:
    for i in range(cells.shape[0]):
        cells[i] = np.int64(mix64(np.uint64(i)) & np.uint64(cells.shape[0] - 1))


@kernel
def _read_dependent(cells: Any, count: Any) -> Any:
    """Each address depends on the read before."""
    at = np.int64(0)
    for i in range(count):
        at = (cells[at] + i) & (cells.shape[0] - 1)
    return at


@kernel
def _read_independent(cells: Any, count: Any) -> Any:
    """Addresses are known beforehand, so the CPU keeps as many reads in flight as it can."""
    total = np.int64(0)
    for i in range(count):
        total += cells[np.int64(mix64(np.uint64(i)) & np.uint64(cells.shape[0] - 1))]
    return total


@kernel
def _chain(count: Any) -> Any:
    """A chain of multiplications and exclusive ors, each of which needs the result before."""
    x = np.uint64(1)
    for i in range(count):
        x = (x * np.uint64(0x9E3779B97F4A7C15)) ^ np.uint64(i)
    return x


def per_second(work: Callable[[], int], seconds: float) -> float:
    """Units of work per CPU second of this thread, over at least ``seconds``."""
    work()
    done = 0
    start = time.thread_time()
    while (elapsed := time.thread_time() - start) < seconds:
        done += work()
    return done / elapsed


def machine(seconds: float) -> dict[str, float]:
    """Random reads per second over 1 GiB, and the clock in cycles per nanosecond."""
    cells = np.empty(1 << _READ_BITS, np.int64)
    _fill_random(cells)

    def dependent() -> int:
        _read_dependent(cells, np.int64(_READS))
        return _READS

    def independent() -> int:
        _read_independent(cells, np.int64(_READS))
        return _READS

    def chain() -> int:
        _chain(np.int64(_READS))
        return _READS

    return {
        "random_reads_dependent_per_s": per_second(dependent, seconds),
        LIMIT: per_second(independent, seconds),
        "cycles_per_ns": per_second(chain, seconds / 4) * _CYCLES_A_LINK / 1e9,
    }


def shares(figures: Mapping[str, float], reads: Mapping[str, float]) -> dict[str, float]:
    """Each figure's share of the limit. ``reads``: the least number of random reads per unit of the figure's work.

    A share can exceed 1, because popular data is in a cache.
    """
    return {f"{key}.share_of_limit": figures[key] * count / figures[LIMIT] for key, count in reads.items()}


def cycles(figures: Mapping[str, float]) -> dict[str, float]:
    """The phases of a walk in cycles."""
    clock = figures["cycles_per_ns"]
    found = {}
    for key, value in figures.items():
        if key.startswith("phase_"):
            ns = value if "_ns_" in key else value * 1000.0
            found[key.replace("_ns_", "_cycles_").replace("_us_", "_cycles_")] = ns * clock
    return found
