"""Where a walk's time goes: the phases run one by one on the real graph, with the clock read between them.

The engine's walk is one kernel. Here each part is a separate kernel, which only adds some microseconds per call.
"""

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.interaction_graph import walk_kernels as walk
from engine.interaction_graph.arrays import ALL_TYPES, NODE_MASK
from engine.interaction_graph.salsa import SalsaRequest, SalsaScratch, salsa
from engine.interaction_graph.state import InteractionGraph
from engine.kernels.id_map import lookup
from engine.kernels.jit import kernel
from engine.kernels.rng import stream

_WALKS = 10_000
_LENGTH = 5
_RESULTS = 100
_RESET = np.uint64(int(0.3 * 2**32))
PHASES = ("left", "count", "right", "select")


@kernel
def _left(g: Any, cut: Any, n: Any, query: Any, seed: Any) -> Any:
    return walk.step_left(g, cut, n, query, np.int64(ALL_TYPES), _RESET, stream(seed, np.uint64(0)))


@kernel
def _count(table: Any, shift: Any, nodes: Any, visits: Any, found: Any, moved: Any, reached: Any) -> Any:
    for m in range(moved):
        rank = walk.count_visit(table, shift, nodes, visits, reached, found[m] & NODE_MASK)
        reached += rank == reached
    return reached


@kernel
def _right(g: Any, cut: Any, moved: Any, waiting: Any, seed: Any) -> Any:
    return walk.step_right(g, cut, moved, waiting, np.int64(ALL_TYPES), stream(seed, np.uint64(1)))


@kernel
def _select(g: Any, cut: Any, stats: Any) -> None:
    visits, scores = cut[1], cut[2]
    for r in range(stats[walk.REACHED]):
        scores[r] = np.float64(visits[r])
    walk._select(g, cut, stats, _RESULTS)


class WalkBuffers:
    """Buffers for one walk at a time, laid out like those of the engine's walk."""

    def __init__(self, walks: int, reached: int, results: int) -> None:
        # The last array is the budget for counting entries of rare types, which is not used here.
        self.cut = (*(np.zeros(walks, np.int64) for _ in range(4)), np.zeros(1, np.int64))
        self.nodes, self.visits, order, places, rows = (np.zeros(reached + 1, np.int64) for _ in range(5))
        self.table = np.zeros(1 << (2 * reached - 1).bit_length(), np.int64)
        self.shift = np.uint64(64 - (len(self.table).bit_length() - 1))
        self.stats = np.zeros(walk.STATS, np.int64)
        scores, kept, spare = np.zeros(reached), np.zeros(reached), np.zeros(reached)
        bins, best = np.zeros(walk.BINS, np.int64), np.zeros(results, np.int32)
        ids, counts = np.zeros(results, np.int64), np.zeros(results, np.int64)
        sides = (self.nodes, self.visits, scores, order, places, rows)
        self.picked = (*sides, bins, ids, best, counts, kept, spare, np.zeros(results))


class _Phases(WalkBuffers):
    """A walk step by step, and the seconds that each phase took."""

    def __init__(self, graph: InteractionGraph) -> None:
        super().__init__(_WALKS, _WALKS * (_LENGTH + 1) // 2, _RESULTS)
        self.graph = graph
        self.spent = dict.fromkeys(PHASES, 0.0)
        self.steps = 0

    def request(self, user: int, seed: int) -> None:
        """One walk from a user (index)."""
        g = self.graph.read_arrays
        self.cut[0][:] = user
        self.table[:] = 0
        n, reached = np.int64(_WALKS), np.int64(0)
        for step in range((_LENGTH + 1) // 2):
            draws = np.uint64(seed * _LENGTH + step)
            clock = [time.perf_counter()]
            moved, waiting = _left(g, self.cut, n, np.int64(user), draws)
            clock.append(time.perf_counter())
            reached = np.int64(_count(self.table, self.shift, self.nodes, self.visits, self.cut[3], moved, reached))
            clock.append(time.perf_counter())
            n = np.int64(_right(g, self.cut, moved, waiting, draws))
            clock.append(time.perf_counter())
            for phase, seconds in zip(PHASES, np.diff(clock).tolist(), strict=False):
                self.spent[phase] += seconds
            self.steps += int(moved)
        start = time.perf_counter()
        self.stats[walk.REACHED] = reached
        _select(g, self.picked, self.stats)
        self.spent["select"] += time.perf_counter() - start


def run(graph: InteractionGraph, queries: NDArray[np.uint64]) -> dict[str, float]:
    """By phase: nanoseconds per walker and step, and microseconds per request for selecting results and for Python."""
    indices = [i for i in (lookup(graph.state.users, int(q)) for q in queries) if i >= 0]
    phases = _Phases(graph)
    phases.request(indices[0], 0)
    phases = _Phases(graph)
    for seed, user in enumerate(indices):
        phases.request(user, seed)
    scratch = SalsaScratch()
    nobody = SalsaRequest(query_user_id=1 << 63, seed_user_ids=queries[:1] * 0, seed_weights=np.ones(1), walks=1)
    start = time.perf_counter()
    for _ in range(2000):
        salsa(graph, nobody, scratch)
    python = (time.perf_counter() - start) / 2000
    figures = {f"phase_{p}_ns_per_walker": phases.spent[p] / phases.steps * 1e9 for p in PHASES[:3]}
    return figures | {
        "phase_select_us_per_request": phases.spent["select"] / len(indices) * 1e6,
        "phase_call_us_per_request": python * 1e6,
    }
