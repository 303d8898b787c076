"""Benchmark of the interaction graph on an edge list: ingest, walks, both at once, and the limits of the machine.

The list is a file as ``edge_list`` writes it. The graph holds all edges: capacities fit
the list, and no degree is capped. Single-thread figures are per CPU second of the thread, so that other work on the
machine disturbs them less; figures of a reader beside a writer use the wall clock.
"""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.interaction_graph.salsa import SalsaRequest, SalsaScratch, salsa
from engine.interaction_graph.second_degree import SecondDegreeRequest, second_degree
from engine.interaction_graph.state import InteractionGraph, InteractionGraphConfig, warm
from loadtest.benches import graph_phases as bench_graph_phases
from loadtest.benches.edge_list import USERS_MIN, read_list
from loadtest.benches.graph_limits import cycles, machine, per_second, shares
from streams.reading.state_lock import PhaseFairLock

Ids = NDArray[np.uint64]
Figures = dict[str, float]
Progress = Callable[[str], Any]

BATCH = 2048
PACED_EDGES_PER_S = 200_000
HALF_LIVES_MS = (1_800_000.0, 3_600_000.0, 21_600_000.0, 86_400_000.0)
_GAP_MS = 10  # between edges: 10 M edges span 28 hours
#: Random reads per edge that enters (hash slot, record and end of the list, on both sides), per edge that leaves
#: (record and head), per step (record and entry), and per counted seed (hash slot, record, list).
_READS_IN, _READS_OUT, _READS_STEP, _READS_SEED = 6, 4, 2, 3
#: Entries in a cache line.
_LINE = 8


class GraphBench:
    """An edge list, a graph that holds all of its edges, and query sets drawn from it or read from files beside it."""

    def __init__(self, users: Ids, tweets: Ids, seconds: float, edges_path: Path | None = None) -> None:
        self.seconds = seconds
        self.edges_path = edges_path
        self.size = len(users)
        self.users, self.tweets = users, tweets
        self.types = np.ones(BATCH, np.uint8)
        span_ms = self.size * _GAP_MS * 4
        self.graph = InteractionGraph(
            InteractionGraphConfig(
                users_max=len(np.unique(self.users)),
                tweets_max=len(np.unique(self.tweets)),
                edges_max=self.size,
                arena_slots_per_edge=3.2,
                window_ms=max(span_ms, 1_000_000),
                late_ms_max=span_ms,
                user_degree_max=(1 << 26) - 1,
                tweet_degree_max=(1 << 26) - 1,
                user_entries_max=self.size,
            )
        )
        warm()  # compile now, so that ingest is measured alone
        self.at = 0
        #: The least number of random reads per unit of each figure's work.
        self.reads: dict[str, float] = {}
        self.rng = np.random.default_rng(7)
        self.queries = self.query_set("query_single_4000.bin", 4000, 1)

    @classmethod
    def read(cls, edges_path: Path, seconds: float) -> "GraphBench":
        """A bench of the edge list in a file.

        Raises:
            ValueError: the file is not such a list (``read_list``).
        """
        users, tweets = read_list(edges_path, USERS_MIN)
        return cls(users, tweets, seconds, edges_path)

    def query_set(self, name: str, count: int, size: int) -> Ids:
        """User ids (count, size), drawn by activity, distinct within a row; or from a file beside the list."""
        path = self.edges_path.with_name(name) if self.edges_path else None
        if path is not None and path.exists():
            return np.fromfile(path, "<i8").reshape(-1, size).astype(np.uint64)
        sets = np.empty((count, size), np.uint64)
        for i in range(count):
            drawn = np.unique(self.users[self.rng.integers(0, self.size, 4 * size + 16)])
            sets[i] = self.rng.permutation(drawn)[:size]
        return sets

    def ingest_batch(self) -> int:
        """Apply the next batch of the list; at its end the list begins again, at later times."""
        start = self.at % self.size
        end = min(start + BATCH, self.size)
        times_ms = np.arange(self.at, self.at + end - start, dtype=np.int64) * _GAP_MS
        self.graph.ingest(self.users[start:end], self.tweets[start:end], self.types[: end - start], times_ms)
        self.at += end - start
        return end - start

    def ingest(self) -> Figures:
        start = time.thread_time()
        while self.at < self.size:
            self.ingest_batch()
        filled = time.thread_time() - start
        evicting = per_second(self.ingest_batch, max(self.seconds, 2.0))
        counters = self.graph.counters()
        self.reads |= {"ingest_edges_per_s": _READS_IN, "ingest_evicting_edges_per_s": _READS_IN + _READS_OUT}
        return {
            "edges": self.size,
            "ingest_edges_per_s": self.size / filled,
            "ingest_evicting_edges_per_s": evicting,
            "bytes_per_edge": self.graph.bytes_max / self.size,
            "arena_fill": self.graph.fill()["arena"],
            "edges_let_go_for_lack_of_room": counters["arena_full"] + counters["dropped_full"],
        }

    def request(self, i: int, walks: int, seeds: Ids, half_lives_ms: tuple[float, ...] = ()) -> SalsaRequest:
        return SalsaRequest(
            query_user_id=int(seeds[0]),
            seed_user_ids=seeds,
            seed_weights=1 / np.sqrt(np.arange(1, len(seeds) + 1)),
            walks=walks,
            length=5,
            reset=0.3,
            results_max=100,
            seed=i,
            half_lives_ms=half_lives_ms,
        )

    def walks(self) -> Figures:
        scratch = SalsaScratch()
        many = self.query_set("query_seeds_1000x76.bin", 1000, 76)
        figures: Figures = {}
        cases: tuple[tuple[str, int, Ids, tuple[float, ...]], ...] = (
            ("salsa_requests_per_s_1000_walks", 1000, self.queries, ()),
            ("salsa_time_aware_requests_per_s_1000_walks", 1000, self.queries, HALF_LIVES_MS),
            ("salsa_requests_per_s_1000_walks_76_seeds", 1000, many, ()),
            ("salsa_requests_per_s_10000_walks", 10_000, self.queries, ()),
        )
        for key, count, sets, lives in cases:
            tally = [0, 0]

            def work(
                count: int = count, sets: Ids = sets, lives: tuple[float, ...] = lives, tally: list[int] = tally
            ) -> int:
                request = self.request(tally[0], count, sets[tally[0] % len(sets)], lives)
                tally[0] += 1
                tally[1] += salsa(self.graph, request, scratch).stats.steps
                return 1

            figures[key] = per_second(work, self.seconds)
            self.reads[key] = _READS_STEP * tally[1] / tally[0]
            if count == 10_000:
                self.reads["salsa_steps_per_s"] = _READS_STEP
                figures["salsa_steps_per_s"] = figures[key] * tally[1] / tally[0]
        return figures

    def second_degree(self) -> Figures:
        """Requests/s with 100 and 500 seeds (each row of the set is a query user, then the seeds)."""
        scratch = SalsaScratch()
        figures: Figures = {}
        for count in (100, 500):
            sets = self.query_set(f"query_seeds_1000x{count + 1}.bin", 1000, count + 1)
            weights = 1 / np.sqrt(np.arange(1, count + 1))
            tally = [0, 0]

            def work(sets: Ids = sets, weights: NDArray[np.float64] = weights, tally: list[int] = tally) -> int:
                seeds = sets[tally[0] % len(sets), 1:]
                request = SecondDegreeRequest(seed_user_ids=seeds, seed_weights=weights)
                tally[1] += second_degree(self.graph, request, scratch).edges_read
                tally[0] += 1
                return 1

            key = f"second_degree_requests_per_s_{count}_seeds"
            figures[key] = per_second(work, self.seconds)
            self.reads[key] = _READS_SEED * count + tally[1] / tally[0] / _LINE
        return figures

    def beside(self, *, writer: bool, pace: float | None) -> tuple[float, float]:
        """Edges/s and requests/s of a writer thread and a reader thread that share the state lock."""
        lock = PhaseFairLock()
        stop = threading.Event()
        requests = [0]

        def read() -> None:
            scratch = SalsaScratch()
            while not stop.is_set():
                request = self.request(requests[0], 1000, self.queries[requests[0] % len(self.queries)])
                lock.acquire_read()
                try:
                    salsa(self.graph, request, scratch)
                finally:
                    lock.release_read()
                requests[0] += 1

        reader = threading.Thread(target=read)
        reader.start()
        edges = 0
        start = time.perf_counter()
        while (elapsed := time.perf_counter() - start) < self.seconds:
            ahead = edges / pace - elapsed if pace else 0.0
            if not writer or ahead > 0:
                time.sleep(min(0.01, ahead) if writer else 0.01)
                continue
            lock.acquire_write()
            try:
                edges += self.ingest_batch()
            finally:
                lock.release_write()
        stop.set()
        reader.join()
        return edges / elapsed, requests[0] / elapsed

    def mixed(self) -> Figures:
        writer, reader = self.beside(writer=True, pace=None)
        _, alone = self.beside(writer=False, pace=None)
        _, paced = self.beside(writer=True, pace=PACED_EDGES_PER_S)
        self.reads["mixed_writer_edges_per_s"] = _READS_IN + _READS_OUT
        self.reads["mixed_reader_requests_per_s"] = self.reads["salsa_requests_per_s_1000_walks"]
        return {
            "mixed_writer_edges_per_s": writer,
            "mixed_reader_requests_per_s": reader,
            "paced_reader_share": paced / alone,
        }


def _nothing(line: str) -> None:
    """Ignore progress."""


def run(edges_path: Path, seconds: float = 2.0, progress: Progress = _nothing) -> Figures:
    """All figures, by name; each part runs for about ``seconds``.

    Raises:
        ValueError: the file is no edge list, or is too small to draw queries from.
    """
    progress("reading the edge list")
    bench = GraphBench.read(edges_path, seconds)
    progress("ingest")
    figures = bench.ingest()
    progress("walks")
    figures |= bench.walks()
    progress("phases of a walk")
    figures |= bench_graph_phases.run(bench.graph, bench.queries[:400, 0])
    progress("second degree")
    figures |= bench.second_degree()
    progress("a writer beside a reader")
    figures |= bench.mixed()
    reads = bench.reads
    del bench
    progress("the machine's own limit")
    figures |= machine(min(seconds, 1.0))
    return figures | cycles(figures) | shares(figures, reads)
