"""Compares two unbiased estimators of a time-aware walk's last step on one graph.

A walk of three edges from a user, whose last edge, of age a, counts 2^(-a / half-life): user u is reached with
probability P(u), and tweet t's expected weight is Σ over u of P(u) / degree(u) · Σ over the edges (u, t) of 2^(-a / h).

- **uniform** (the engine's): each of u's edges is equally likely to be drawn, and the drawn edge counts its own power.
  One draw serves all half-lives.
- **proportional**: an edge is drawn with a probability proportional to its power, and counts the mean power of u's
  edges. The mean takes a pass over u's list, the draw takes another, and each half-life needs its own draw.

Both are compared with the exact expectation, computed over all edges. The earlier steps, counting and ranking are the
engine's; lists are capped as the engine caps them by default.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.interaction_graph import walk_kernels as walk
from engine.interaction_graph.arrays import ALL_TYPES, NODE_MASK
from engine.interaction_graph.salsa import SalsaScratch
from engine.interaction_graph.state import InteractionGraph, InteractionGraphConfig
from engine.kernels.id_map import lookup
from engine.kernels.jit import inlined, kernel
from engine.kernels.prefetch import prefetch
from engine.kernels.ring_slices import degree, slot_of, time_of
from engine.kernels.rng import draw64, stream, uniform01
from loadtest.benches.edge_list import made_list, read_list
from loadtest.benches.graph import BATCH, HALF_LIVES_MS, Figures, Ids, Progress
from loadtest.benches.graph_phases import WalkBuffers
from loadtest.quality.evaluate import half_life_name
from streams.recordings.read_csv import read_recording

Times = NDArray[np.int64]
Mass = NDArray[np.float64]

LANES = walk.LANES
WALKS = 1000
MADE_EDGES = 1_000_000
#: Time span over which edges without times are spread.
SPAN_MS = 48 * 3_600_000
_RESULTS = 100
_USERS = 40
_RUNS = 20
#: Smaller errors are not compared: an estimate can be exact, for example if only one tweet can be reached.
_ERROR_MIN = 1e-18


@kernel
def _first_steps(g: Any, cut: Any, n: Any, seed: Any) -> Any:
    """Step from users to tweets and on to other users, as the engine does; returns how many walkers are left."""
    types = np.int64(ALL_TYPES)
    moved, waiting = walk.step_left(g, cut, n, np.int64(-1), types, np.uint64(0), stream(seed, np.uint64(0)))
    return walk.step_right(g, cut, moved, waiting, types, stream(seed, np.uint64(1)))


@kernel
def _uniform(g: Any, cut: Any, counted: Any, n: Any, timed: Any, weights: Any, seed: Any) -> Any:
    """The engine's last step: every visit counts its edge's power, at all half-lives; returns the tweets reached."""
    table, shift, nodes, visits, ranks = counted
    now, ages = timed
    found = cut[3]
    start = stream(seed, np.uint64(2))
    moved, _ = walk.step_left(g, cut, n, np.int64(-1), np.int64(ALL_TYPES), np.uint64(0), start)
    reached = np.int64(0)
    for m in range(moved):
        rank = walk.count_visit(table, shift, nodes, visits, reached, found[m] & NODE_MASK)
        ranks[m] = rank
        reached += rank == reached
    weights[: LANES * reached] = 0.0
    walk._weigh(found, ranks, moved, now, ages, weights)
    return reached


@inlined
def _power(entry: Any, timed: Any, lane: Any) -> Any:
    """2^(-age / half-life) of an entry, from the table that the engine uses."""
    now, ages = timed
    tables, lows, bits = ages
    last = tables.shape[0] // LANES - 1
    age = max(np.int64(0), now - time_of(entry))
    return tables[LANES * (age & (lows - 1)) + lane] * tables[LANES * min(lows + (age >> bits), last) + lane]


@kernel
def _proportional(g: Any, users: Any, counted: Any, n: Any, timed: Any, weighed: Any, seed: Any, which: Any) -> Any:
    """Draw in proportion to the power at each of some half-lives (``which``: first half-life, number of half-lives);
    returns the tweets reached."""
    table, shift, nodes, visits, _ = counted
    weights, totals = weighed
    first, lanes = which
    entries = g.entries
    reached = np.int64(0)
    start = stream(seed, np.uint64(2))
    for w in range(n):
        prefetch(entries, slot_of(g.user_records[users[w]], 0))
    for w in range(n):
        record = g.user_records[users[w]]
        count = degree(record)
        totals[:] = 0.0
        for i in range(count):
            entry = entries[slot_of(record, i)]
            for lane in range(first, first + lanes):
                totals[lane] += _power(entry, timed, lane)
        for lane in range(first, first + lanes):
            if totals[lane] <= 0.0:
                continue
            left = uniform01(draw64(start, np.uint64(LANES * w + lane))) * totals[lane]
            # Begin at the newest edge, which is the heaviest, so that the draw ends soon.
            at = count
            while left >= 0.0 and at > 0:
                at -= 1
                left -= _power(entries[slot_of(record, at)], timed, lane)
            rank = walk.count_visit(table, shift, nodes, visits, reached, entries[slot_of(record, at)] & NODE_MASK)
            if rank == reached:
                weights[LANES * rank : LANES * (rank + 1)] = 0.0
                reached += 1
            weights[LANES * rank + lane] += totals[lane] / count
    return reached


@kernel
def _rank(g: Any, picked: Any, stats: Any, weights: Any, totals: Any, blend: Any) -> None:
    walk._blend(weights, stats[walk.REACHED], blend, totals, picked[2])
    walk._select(g, picked, stats, _RESULTS)


@kernel
def _expect(g: Any, user: Any, timed: Any, tweets: Any, users: Any, out: Any) -> None:
    """Add each tweet's expected weight at each half-life to ``out`` (LANES, tweets); buffers must be zero before."""
    record = g.user_records[user]
    for i in range(degree(record)):
        tweets[g.entries[slot_of(record, i)] & NODE_MASK] += 1.0 / degree(record)
    for t in range(tweets.shape[0]):
        if tweets[t] > 0.0:
            record = g.tweet_records[t]
            for i in range(degree(record)):
                users[g.entries[slot_of(record, i)] & NODE_MASK] += tweets[t] / degree(record)
    for u in range(users.shape[0]):
        if users[u] > 0.0:
            record = g.user_records[u]
            for i in range(degree(record)):
                entry = g.entries[slot_of(record, i)]
                for lane in range(LANES):
                    out[lane, entry & NODE_MASK] += users[u] / degree(record) * _power(entry, timed, lane)


class Estimators(WalkBuffers):
    """Both estimators and the expectation, for one user at a time, at the time of the newest edge.

    Results are shares of the total weight: float64 (4 half-lives, tweet indices), 0 at half-lives without any weight.
    """

    def __init__(self, graph: InteractionGraph, walks: int, half_lives_ms: tuple[float, ...] = HALF_LIVES_MS) -> None:
        super().__init__(walks, LANES * walks, _RESULTS)
        self.graph = graph
        self.g = graph.read_arrays
        self.counted = (self.table, self.shift, self.nodes, self.visits, np.zeros(walks, np.int64))
        ages = SalsaScratch().ages(half_lives_ms, graph.config.window_ms // 1000)
        self.timed = (np.int64(graph.watermark_ms // 1000), ages)
        self.weights = np.zeros(LANES * (LANES * walks + 1))
        self.totals = np.zeros(LANES)
        self.spent: dict[str, float] = {}
        self._users = np.zeros(walks, np.int64)
        self._left = np.int64(0)

    def _clock(self, name: str, work: Callable[[], Any]) -> Any:
        start = time.thread_time()
        result = work()
        self.spent[name] = self.spent.get(name, 0.0) + time.thread_time() - start
        return result

    def walk(self, user: int, seed: int) -> None:
        """Walk all steps before the last one, which both estimators share; ``user`` is an index."""
        self.cut[0][:] = user
        n, draws = np.int64(len(self.cut[0])), np.uint64(seed)
        self._left = np.int64(self._clock("first_steps", lambda: _first_steps(self.g, self.cut, n, draws)))
        self._users[:] = self.cut[0]

    def uniform(self, seed: int) -> Mass:
        """The engine's estimate at all half-lives."""
        self._reset()
        arguments = (self.g, self.cut, self.counted, self._left, self.timed, self.weights, np.uint64(seed))
        return self._shares(int(self._clock("uniform", lambda: _uniform(*arguments))))

    def proportional(self, seed: int, first: int = 0, lanes: int = LANES) -> Mass:
        """The proportional estimate at ``lanes`` half-lives from the ``first``; timed separately by ``lanes``."""
        self._reset()
        weighed, which = (self.weights, self.totals), (np.int64(first), np.int64(lanes))
        arguments = (self.g, self.cut[0], self.counted, self._left, self.timed, weighed, np.uint64(seed), which)
        return self._shares(int(self._clock(f"proportional_{lanes}", lambda: _proportional(*arguments))))

    def exact(self, user: int) -> Mass:
        """The expected shares."""
        state = self.graph.state
        out = np.zeros((LANES, len(state.tweet_records)))
        tweets, users = np.zeros(len(state.tweet_records)), np.zeros(len(state.user_records))
        _expect(self.g, np.int64(user), self.timed, tweets, users, out)
        total = out.sum(axis=1, keepdims=True)
        return out / np.where(total > walk.TOTAL_MIN, total, np.inf)

    def _reset(self) -> None:
        self.cut[0][:] = self._users
        self.table[:] = 0

    def _shares(self, reached: int) -> Mass:
        weights = self.weights[: LANES * reached].reshape(-1, LANES)
        total = weights.sum(axis=0)
        shares = np.zeros((LANES, len(self.graph.state.tweet_records)))
        shares[:, self.nodes[:reached]] = (weights / np.where(total > walk.TOTAL_MIN, total, np.inf)).T
        self.stats[walk.REACHED] = reached
        arguments = (self.g, self.picked, self.stats, self.weights, self.totals, (0.25,) * LANES)
        self._clock("ranking", lambda: _rank(*arguments))
        return shares


def edges_of(edges: Path | None, recording: Path | None, newest: int | None) -> tuple[Ids, Ids, Times]:
    """Users, tweets and times, oldest first, from a recording, an edge list, or a synthetic list of a million edges.

    Raises:
        ValueError: both were given, or the file is not pairs of int64.
        CsvError: the recording cannot be read.
        OSError: the file cannot be read.
    """
    if edges and recording:
        raise ValueError("edges or recording: one of the two")
    if recording:
        read = read_recording(recording)
        users, tweets, times_ms = (read.user + 1).astype(np.uint64), (read.item + 1).astype(np.uint64), read.time_ms
    else:
        users, tweets = read_list(edges) if edges else made_list(MADE_EDGES)
        times_ms = np.arange(len(users), dtype=np.int64) * SPAN_MS // max(1, len(users))
    rows = slice(-newest if newest else None, None)
    return users[rows].copy(), tweets[rows].copy(), times_ms[rows].copy()


def graph_of(users: Ids, tweets: Ids, times_ms: Times) -> InteractionGraph:
    """A graph of all these edges, applied in time order, with the engine's default degree caps."""
    span_ms = int(times_ms[-1] - times_ms[0])
    graph = InteractionGraph(
        InteractionGraphConfig(
            users_max=len(np.unique(users)),
            tweets_max=len(np.unique(tweets)),
            edges_max=len(users),
            arena_slots_per_edge=8.0,
            window_ms=span_ms + 2000,
            late_ms_max=span_ms + 2000,
        )
    )
    for start in range(0, len(users), BATCH):
        rows = slice(start, start + BATCH)
        types = np.ones(len(users[rows]), np.uint8)
        graph.ingest(users[rows].copy(), tweets[rows].copy(), types, times_ms[rows].copy())
    return graph


def _askers(graph: InteractionGraph, users: Ids, count: int) -> list[int]:
    """Indices of users by activity among the newest tenth of the edges, distinct."""
    drawn = np.random.default_rng(7).choice(users[-max(1, len(users) // 10) :], 4 * count)
    distinct = drawn[np.sort(np.unique(drawn, return_index=True)[1])]
    return [lookup(graph.state.users, int(user)) for user in distinct[:count]]


def run(
    users: Ids,
    tweets: Ids,
    times_ms: Times,
    *,
    asked: int = _USERS,
    runs: int = _RUNS,
    progress: Progress = lambda line: None,
) -> Figures:
    """Figures by name: times in µs, and by half-life ``variance_ratio`` (uniform over proportional, equal walks),
    the same at equal time of a whole request at one half-life and at four, and both estimators' total variation.

    Raises:
        ValueError: no user was found whose walk can end in more than one way.
    """
    progress("a graph of the edges")
    graph = graph_of(users, tweets, times_ms)
    both = Estimators(graph, WALKS)
    both.walk(0, 0)  # compiles the kernels, so that walks are timed alone
    both.uniform(0), both.proportional(0)
    both.spent.clear()
    errors, distances = [], []
    for number, user in enumerate(_askers(graph, users, asked)):
        progress(f"user {number + 1} of {asked}")
        exact = both.exact(user)
        found = np.zeros((2, 2, LANES))
        for seed in range(number * runs, (number + 1) * runs):
            both.walk(user, seed)
            one_by_one = [both.proportional(seed, lane, 1)[lane] for lane in range(LANES)]
            both.proportional(seed)  # only to time it
            for k, shares in enumerate((both.uniform(seed), np.stack(one_by_one))):
                found[k, 0] += ((shares - exact) ** 2).sum(axis=1) / runs
                found[k, 1] += abs(shares - exact).sum(axis=1) / 2 / runs
        if exact.any(axis=1).all() and found[:, 0].min() > _ERROR_MIN:
            errors.append(found[:, 0])
            distances.append(found[:, 1])
    if not errors:
        raise ValueError("no user whose walks can end in more than one way")
    return {"edges": len(users), "users_asked": len(errors), "walks": WALKS} | _figures(
        both.spent, asked * runs, np.array(errors), np.array(distances)
    )


def _figures(spent: dict[str, float], requests: int, errors: Mass, distances: Mass) -> Figures:
    """``errors`` (users, estimators, half-lives): squared errors; ``distances``: total variation."""
    calls = {"first_steps": 1, "uniform": 1, "proportional_1": LANES, f"proportional_{LANES}": 1, "ranking": LANES + 2}
    us = {name: spent[name] * 1e6 / requests / count for name, count in calls.items()}
    shared = us["first_steps"] + us["ranking"]
    times = {count: (shared + us[f"proportional_{count}"]) / (shared + us["uniform"]) for count in (1, LANES)}
    # Geometric mean over users, so that one user with few and large shares does not decide alone.
    ratios = np.exp(np.log(errors[:, 0] / errors[:, 1]).mean(axis=0))
    figures = {f"{name}_us": value for name, value in us.items()}
    figures |= {f"time_ratio_{count}": value for count, value in times.items()}
    for lane, half_life_ms in enumerate(HALF_LIVES_MS):
        name = half_life_name(half_life_ms).replace(" ", "")
        figures[f"variance_ratio.{name}"] = float(ratios[lane])
        for count, ratio in times.items():
            figures[f"variance_ratio_at_equal_time_{count}.{name}"] = float(ratios[lane] / ratio)
        for k, estimator in enumerate(("uniform", "proportional")):
            figures[f"total_variation_{estimator}.{name}"] = float(distances[:, k, lane].mean())
    return figures
