"""How the interaction graph's cost grows with its size: the same work on synthetic lists of 1 M to 30 M edges.

The lists have the shape of the reference list: users drawn with P ~ (rank + 50)^-0.9, tweets with (rank + 10)^-1, one
user per ten edges, one tweet per twenty-five; ids scattered.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadtest.benches.graph import GraphBench

SIZES = (1_000_000, 3_000_000, 10_000_000, 30_000_000)
#: Figures whose growth is fitted.
FITTED = (
    "ingest_edges_per_s",
    "ingest_evicting_edges_per_s",
    "salsa_steps_per_s",
    "salsa_requests_per_s_1000_walks",
    "second_degree_requests_per_s_100_seeds",
)


def _drawn(rng: np.random.Generator, count: int, population: int, exponent: float, offset: float) -> NDArray[np.uint64]:
    """Scattered 64-bit ids by a power law of rank."""
    cumulative = np.cumsum((np.arange(population) + offset) ** -exponent)
    rank = np.searchsorted(cumulative, rng.random(count) * cumulative[-1])
    ids = (np.minimum(rank, population - 1).astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    scattered: NDArray[np.uint64] = (ids ^ (ids >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    return scattered


def made_list(size: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Users and tweets of ``size`` edges; equal sizes give equal lists."""
    rng = np.random.default_rng(size)
    users = _drawn(rng, size, max(2000, size // 10), 0.9, 50.0)
    return users, _drawn(rng, size, max(800, size // 25), 1.0, 10.0)


def run(
    sizes: Sequence[int] = SIZES, seconds: float = 2.0, progress: Callable[[str], Any] = lambda line: None
) -> dict[str, float]:
    """The figures of each size (keys ``size.figure``), and ``slope.figure``: the exponent with which the cost of a unit
    of work grows with the size (0: it does not grow)."""
    figures: dict[str, float] = {}
    for size in sizes:
        progress(f"{size:,} edges")
        bench = GraphBench(*made_list(size), seconds)
        found = bench.ingest() | bench.walks() | bench.second_degree()
        figures |= {f"{size}.{name}": value for name, value in found.items()}
        del bench
    if len(sizes) > 1:
        for name in FITTED:
            costs = [1.0 / figures[f"{size}.{name}"] for size in sizes]
            figures[f"slope.{name}"] = float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])
    return figures
