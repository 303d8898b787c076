"""Runs queries of the interaction graph: on the reader pool, each at exactly one state version.

A query holds a reader thread and the read side of the state lock for its whole walk or count. So that feeds never wait
for queries alone, at most all readers but one work on queries; a few more wait, the rest are refused.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol

import orjson

from engine.errors import CapacityError
from engine.pipeline.scratch import Scratch
from engine.state import EngineState
from streams.reading.readers import Readers

#: Queries that may wait for a reader; more are ``overloaded``.
WAITING_MAX: Final = 32


class Answer(NamedTuple):
    """What a query found. ``request``: its terms, those included that it did not name (seed, time): asked again with
    these at the same version, the same results come back."""

    request: dict[str, Any]
    results: list[dict[str, Any]]
    stats: dict[str, int]


class GraphQuery(Protocol):
    """A question to the interaction graph. Its work is bounded by the budgets of the engine's functions."""

    @property
    def name(self) -> str:
        """The query's name in its answer."""

    def look(self, state: EngineState, scratch: Scratch) -> Callable[[], Answer]:
        """Look, under the read side of the state lock; what is returned shapes the answer after it is released.

        Raises:
            RequestError: it cannot be answered as asked; named by its ``code``.
        """


class GraphService:
    """Answers queries. Called on the event loop."""

    def __init__(self, state: EngineState, readers: Readers, *, concurrent_max: int) -> None:
        self._state, self._readers = state, readers
        self._running = asyncio.Semaphore(concurrent_max)
        self._waiting = 0

    async def run(self, query: GraphQuery) -> bytes:
        """The answer as JSON (docs/protocol.md, graph queries).

        Raises:
            CapacityError: as many queries wait as are allowed.
            RequestError: it cannot be answered as asked; named by its ``code``.
        """
        asked = time.perf_counter()
        if self._waiting >= WAITING_MAX:
            raise CapacityError(f"{self._waiting} queries are waiting already")
        self._waiting += 1
        try:
            await self._running.acquire()
        finally:
            self._waiting -= 1
        try:
            return await self._readers.read(lambda: self._answer(query, asked))
        finally:
            self._running.release()

    def _answer(self, query: GraphQuery, asked: float) -> bytes:
        with self._readers.reading() as version:
            entered = time.perf_counter()
            shape = query.look(self._state, self._readers.scratch)
            looked = time.perf_counter()
        answer = shape()
        timings = {"wait": entered - asked, "look": looked - entered, "total": time.perf_counter() - asked}
        # Large answers take milliseconds to build and encode: here, not on the event loop.
        return orjson.dumps(
            {
                "query": query.name,
                "version": version,
                "request": answer.request,
                "results": answer.results,
                "stats": answer.stats,
                "timings_ms": {stage: round(seconds * 1000.0, 3) for stage, seconds in timings.items()},
            }
        )
