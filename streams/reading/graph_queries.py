"""Runs queries of the interaction graph: on the reader pool, each at exactly one state version.

A query holds a reader thread and the read side of the state lock for its whole walk or count. One reader is always left
to feeds: at most all readers but one work on queries, a few more queries wait, and the rest are refused.
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

#: Queries that may wait for a reader; further ones are refused as ``overloaded``.
WAITING_MAX: Final = 32


class Answer(NamedTuple):
    """What a query found. ``request``: all its terms, with those that the caller left out (seed, time) filled in. The
    same request at the same version gives the same results."""

    request: dict[str, Any]
    results: list[dict[str, Any]]
    stats: dict[str, int]


class GraphQuery(Protocol):
    """A question to the interaction graph. Its work is bounded by the budgets of the engine's functions."""

    @property
    def name(self) -> str:
        """The query's name in its answer."""

    def look(self, state: EngineState, scratch: Scratch) -> Callable[[], Answer]:
        """Look in the state, under the read side of its lock. The function returned makes the answer after the release.

        Raises:
            RequestError: the query cannot be answered as asked; ``code`` names the reason.
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
            CapacityError: too many queries wait already.
            RequestError: the query cannot be answered as asked; ``code`` names the reason.
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
        # Large answers take milliseconds to build and encode: this thread does it, so that the event loop need not.
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
