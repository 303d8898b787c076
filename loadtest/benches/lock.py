"""The state lock measured: a writer of edges beside readers that walk, with several locks and switch intervals.

The naive lock is here only for comparison: it is what one writes first, and it starves one side. A run without a lock
is not possible: a reader that follows a list while the list moves reads outside its arrays.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import numpy as np

from engine.interaction_graph.salsa import SalsaRequest, SalsaScratch, salsa
from engine.interaction_graph.state import EdgeType, InteractionGraph, InteractionGraphConfig
from loadtest.traffic.made_up import make_traffic
from streams.reading.state_lock import PhaseFairLock

EDGES = 2_000_000
#: Twice the window, so that the edge being evicted is never identical to the edge being inserted.
CYCLE = 2 * EDGES
BATCH = 1000
SPAN_MS = 3_600_000
PACED_EDGES_PER_S = 200_000
SWITCH_INTERVALS_S = (0.005, 0.001, 0.0005, 0.0001)


class _Lock(Protocol):
    def reading(self) -> AbstractContextManager[None]: ...

    def writing(self) -> AbstractContextManager[None]: ...


class _Naive:
    """A condition-variable lock without turns."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._reading = 0
        self._writing = False

    @contextmanager
    def reading(self) -> Iterator[None]:
        with self._condition:
            while self._writing:
                self._condition.wait()
            self._reading += 1
        yield
        with self._condition:
            self._reading -= 1
            self._condition.notify_all()

    @contextmanager
    def writing(self) -> Iterator[None]:
        with self._condition:
            while self._writing or self._reading:
                self._condition.wait()
            self._writing = True
        yield
        with self._condition:
            self._writing = False
            self._condition.notify_all()


class _Bench:
    """A full window of edges, and threads that write and read it for a while."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        traffic = make_traffic(CYCLE, start_ms=10**12, span_ms=SPAN_MS)
        self.traffic = traffic
        self.types = np.full(BATCH, EdgeType.FAVORITE, np.uint8)
        self.graph = InteractionGraph(InteractionGraphConfig(edges_max=EDGES, users_max=1 << 19, tweets_max=1 << 19))
        self.at = 0
        while self.at < EDGES:
            self._write()
        self.people = np.unique(traffic.user_id)[:4000]

    def _write(self) -> None:
        part = self.traffic.take(slice(self.at % CYCLE, self.at % CYCLE + BATCH))
        # Event time always moves on, so that the full window stays full: each new edge evicts one.
        times_ms = part.timestamp_ms + self.at // CYCLE * SPAN_MS
        self.graph.ingest(part.user_id, part.subject_id, self.types, times_ms)
        self.at += BATCH

    def writer(self, lock: _Lock, stop: threading.Event, counts: dict[str, float], pace: float | None) -> None:
        """Write at full speed, or ``pace`` edges per second."""
        due = time.perf_counter()
        while not stop.is_set():
            with lock.writing():
                self._write()
            counts["edges"] += BATCH
            if pace is not None:
                due += BATCH / pace
                time.sleep(max(0.0, due - time.perf_counter()))

    def reader(self, lock: _Lock, stop: threading.Event, latencies: list[float], seed: int) -> None:
        """Walk after walk: 1,000 walks of length 5, top 100."""
        scratch, n = SalsaScratch(), seed
        while not stop.is_set():
            user = self.people[n % len(self.people)]
            request = SalsaRequest(
                query_user_id=int(user),
                seed_user_ids=np.array([user]),
                seed_weights=np.ones(1),
                walks=1000,
                length=5,
                reset=0.3,
                results_max=100,
                seed=n,
            )
            began = time.perf_counter()
            with lock.reading():
                salsa(self.graph, request, scratch)
            latencies.append(time.perf_counter() - began)
            n += 1

    def measure(self, lock: _Lock, *, readers: int, writer: bool, pace: float | None = None) -> dict[str, float]:
        """Rates over ``seconds``, and the readers' latencies."""
        stop, counts = threading.Event(), {"edges": 0.0}
        latencies: list[list[float]] = [[] for _ in range(readers)]
        threads = [
            threading.Thread(target=self.reader, args=(lock, stop, latencies[i], i * 997)) for i in range(readers)
        ]
        if writer:
            threads.append(threading.Thread(target=self.writer, args=(lock, stop, counts, pace)))
        for thread in threads:
            thread.start()
        time.sleep(self.seconds)
        stop.set()
        for thread in threads:
            thread.join()
        joined = np.array([s for one in latencies for s in one] or [0.0]) * 1e3
        return {
            "edges_per_s": round(counts["edges"] / self.seconds),
            "requests_per_s": round(sum(map(len, latencies)) / self.seconds),
            "request_p50_ms": round(float(np.percentile(joined, 50)), 3),
            "request_p99_ms": round(float(np.percentile(joined, 99)), 3),
        }


def run(*, seconds: float = 3.0, progress: Callable[[str], None] = lambda line: None) -> dict[str, float]:
    """All measured combinations; keys are ``case.figure``."""
    before = sys.getswitchinterval()
    bench = _Bench(seconds)
    bench.measure(PhaseFairLock(), readers=1, writer=True)  # compiles and warms
    cases: list[tuple[str, _Lock, int, bool, float | None]] = [
        ("alone_reader", PhaseFairLock(), 1, False, None),
        ("alone_writer", PhaseFairLock(), 0, True, None),
        ("naive", _Naive(), 1, True, None),
        ("phase_fair", PhaseFairLock(), 1, True, None),
        ("phase_fair_paced", PhaseFairLock(), 1, True, PACED_EDGES_PER_S),
        ("phase_fair_paced_2_readers", PhaseFairLock(), 2, True, PACED_EDGES_PER_S),
    ]
    figures: dict[str, float] = {}
    try:
        sys.setswitchinterval(0.0005)
        for name, lock, readers, writer, pace in cases:
            progress(name)
            found = bench.measure(lock, readers=readers, writer=writer, pace=pace)
            figures |= {f"{name}.{figure}": value for figure, value in found.items()}
        for interval in SWITCH_INTERVALS_S:
            progress(f"switch interval {interval}")
            sys.setswitchinterval(interval)
            found = _beside_python(bench)
            figures |= {f"switch_{interval * 1e3:g}ms.{figure}": value for figure, value in found.items()}
    finally:
        sys.setswitchinterval(before)
    return figures


def _beside_python(bench: _Bench) -> dict[str, float]:
    """A reader beside a thread that only runs Python (as decoding does): the cost of handing over the GIL."""
    stop, turns = threading.Event(), [0]

    def spin() -> None:
        while not stop.is_set():
            sum(range(500))
            turns[0] += 1

    thread = threading.Thread(target=spin)
    thread.start()
    found = bench.measure(PhaseFairLock(), readers=1, writer=False)
    stop.set()
    thread.join()
    return {
        "request_p50_ms": found["request_p50_ms"],
        "request_p99_ms": found["request_p99_ms"],
        "requests_per_s": found["requests_per_s"],
        "python_turns_per_s": round(turns[0] / bench.seconds),
    }
