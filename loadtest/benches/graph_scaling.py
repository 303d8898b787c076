"""How the interaction graph's cost grows with its size: the same work on made-up lists of 1 M to 30 M edges
(``edge_list``).
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from loadtest.benches.edge_list import made_list
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
