"""Viewers who read real feeds over websockets and react to them: an open-loop load.

Arrivals do not wait for responses, and a latency counts from when the request was due, not from when it could be sent:
a stalled server is charged for every request that came due meanwhile (no coordinated omission).
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Literal

import aiohttp
import msgspec
import numpy as np
import orjson
from hdrh.histogram import HdrHistogram

from loadtest.society.society import Event, Society
from streams.process.ending import end_tasks

SUBPROTOCOL = "murmuration.v1.json"
_LATENCY_US_MAX = 60_000_000
_RECONNECT_S_MAX = 5.0
_CLOSE_S_MAX = 1.0

Publish = Callable[[list[Event]], Awaitable[None]]


class ViewersConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``in_flight_max`` bounds the requests that wait at once, over all connections; a request beyond this is not sent
    and counts as ``shed``.

    Each connection belongs to one person. The ``spared`` most active people get no connection if there are enough
    others. The demo page offers these people to visitors, and if a simulated viewer read the same feed too, tweets it
    had seen would vanish from the visitor's page. For the same reason each person should read rarely, so use many
    connections.
    """

    connections: int = 256
    spared: int = 48
    limit: int = 20
    explain: Literal["none", "entries", "all"] = "none"
    arrivals: Literal["poisson", "constant"] = "poisson"
    in_flight_max: int = 256
    timeout_s: float = 10.0
    seed: int = 1


class ViewerStats:
    """Figures of the viewers; readable while they run. ``errors`` counts by name: the protocol's error names, and
    ``timeout``, ``disconnected``, ``shed``, ``publish``."""

    def __init__(self) -> None:
        self.feeds_served = 0
        self.entries_seen = 0
        self.reactions = 0
        self.reconnects = 0
        self.version = 0
        self.errors: Counter[str] = Counter()
        self._latency_us = HdrHistogram(1, _LATENCY_US_MAX, 3)

    def record(self, latency_s: float) -> None:
        """Count a feed that took this long."""
        self.feeds_served += 1
        self._latency_us.record_value(min(max(1, int(latency_s * 1e6)), _LATENCY_US_MAX))

    def latency_ms(self, percentile: float) -> float:
        """The latency at a percentile (0..100); 0 before the first feed."""
        if not self.feeds_served:
            return 0.0
        return float(self._latency_us.get_value_at_percentile(percentile)) / 1000.0

    def summary(self) -> dict[str, float | dict[str, int]]:
        """Figures for a report."""
        return {
            "feeds_served": self.feeds_served,
            "feed_p50_ms": self.latency_ms(50),
            "feed_p99_ms": self.latency_ms(99),
            "feed_max_ms": self.latency_ms(100),
            "entries_seen": self.entries_seen,
            "reactions": self.reactions,
            "reconnects": self.reconnects,
            "errors": dict(self.errors),
        }


class _FeedError(Exception):
    """A request that got no feed; ``args[0]`` names why."""


class _Connection:
    """One viewer's websocket, opened at the first request and reopened after it was lost."""

    def __init__(
        self, session: aiohttp.ClientSession, url: str, viewer_id: int, stats: ViewerStats, token: str | None
    ) -> None:
        self.viewer_id = viewer_id
        self._session = session
        self._url = url
        self._stats = stats
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._query = {"viewer": str(viewer_id)} if token is None else {}
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._reader: asyncio.Task[None] | None = None
        self._waiting: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._opening = asyncio.Lock()
        self._opened = False
        self._failures = 0
        self._retry_at_s = 0.0

    async def feed(self, request_id: int, frame: dict[str, Any]) -> dict[str, Any]:
        """Ask for a feed and wait for it.

        Raises:
            _FeedError: refused or disconnected.
        """
        key = str(request_id)
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[key] = answer
        try:
            socket = await self._connected()
            await socket.send_str(orjson.dumps({**frame, "request_id": key}).decode())
            return await answer
        except (aiohttp.ClientError, ConnectionError) as error:
            raise _FeedError("disconnected") from error
        finally:
            self._waiting.pop(key, None)

    async def _connected(self) -> aiohttp.ClientWebSocketResponse:
        async with self._opening:
            if self._socket is not None and not self._socket.closed:
                return self._socket
            loop = asyncio.get_running_loop()
            if loop.time() < self._retry_at_s:
                raise _FeedError("disconnected")
            await self._stop_reading()
            try:
                self._socket = await self._session.ws_connect(
                    self._url,
                    params=self._query,
                    headers=self._headers,
                    protocols=(SUBPROTOCOL,),
                    max_msg_size=0,
                    timeout=aiohttp.ClientWSTimeout(ws_close=_CLOSE_S_MAX),
                )
            except (aiohttp.ClientError, OSError) as error:
                # Back off for a time that differs by viewer, so that a restarted server is not flooded.
                self._failures += 1
                spread = 0.5 + (self.viewer_id % 64) / 64.0
                self._retry_at_s = loop.time() + spread * min(_RECONNECT_S_MAX, 0.1 * 2.0**self._failures)
                raise _FeedError("disconnected") from error
            self._failures = 0
            self._stats.reconnects += self._opened
            self._opened = True
            self._reader = asyncio.create_task(self._read(self._socket), name=f"viewer-{self.viewer_id}")
            return self._socket

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        async for message in socket:
            if message.type not in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
                break
            frame = orjson.loads(message.data)
            waiting = self._waiting.get(frame.get("request_id", ""))
            if frame["type"] == "feed" and waiting is not None and not waiting.done():
                waiting.set_result(frame)
            elif frame["type"] == "error":
                if waiting is not None and not waiting.done():
                    waiting.set_exception(_FeedError(frame["error"]))
                else:
                    self._stats.errors[frame["error"]] += 1
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(_FeedError("disconnected"))

    async def _stop_reading(self) -> None:
        if self._reader is not None:
            await end_tasks([self._reader])
            self._reader = None

    async def close(self) -> None:
        """Close the websocket."""
        if self._socket is not None:
            await self._socket.close()
        await self._stop_reading()


class _Load:
    """Everything that the visits of one run share."""

    def __init__(
        self,
        society: Society,
        config: ViewersConfig,
        stats: ViewerStats,
        publish: Publish,
        now_ms: Callable[[], int],
    ) -> None:
        self.society = society
        self.config = config
        self.stats = stats
        self.publish = publish
        self.now_ms = now_ms

    async def visit(self, connection: _Connection, request_id: int, due_s: float) -> None:
        """Ask for one feed, count it, and publish the reactions to it."""
        loop = asyncio.get_running_loop()
        frame = {"type": "feed", "limit": self.config.limit, "explain": self.config.explain}
        try:
            async with asyncio.timeout(self.config.timeout_s):
                feed = await connection.feed(request_id, frame)
        except TimeoutError:
            self.stats.errors["timeout"] += 1
            return
        except _FeedError as error:
            self.stats.errors[str(error)] += 1
            return
        self.stats.record(loop.time() - due_s)
        self.stats.version = max(self.stats.version, int(feed["version"]))
        self.stats.entries_seen += len(feed["entries"])
        reactions = self.society.react(connection.viewer_id, feed["entries"], self.now_ms(), request_id)
        if not reactions:
            return
        try:
            await self.publish(reactions)
        except Exception:  # whatever the log raises, the viewers count it and go on
            self.stats.errors["publish"] += 1
        else:
            self.stats.reactions += len(reactions)


async def run_viewers(
    url: str,
    society: Society,
    feeds_per_s: float,
    stop: asyncio.Event,
    *,
    publish: Publish,
    now_ms: Callable[[], int],
    config: ViewersConfig | None = None,
    stats: ViewerStats | None = None,
    token: Callable[[int], str] | None = None,
    viewer_ids: Sequence[int] | None = None,
) -> ViewerStats:
    """Let viewers ask for ``feeds_per_s`` feeds per second and react to them, until ``stop`` is set.

    ``url`` is the websocket's (``ws://host:port/v1/feed``); ``publish`` appends the reactions to the log; ``now_ms``
    gives the events their time; ``token`` makes a viewer's token if the server wants one. Pass ``stats`` to watch
    the figures during the run. Server errors, time-outs and lost connections are counted, never raised.
    """
    config = config or ViewersConfig()
    stats = stats or ViewerStats()
    load = _Load(society, config, stats, publish, now_ms)
    people = list(viewer_ids or _readers(society, config))[: config.connections]
    rng = np.random.default_rng(config.seed)
    loop = asyncio.get_running_loop()
    visits: set[asyncio.Task[None]] = set()
    # Every connection stays open: with aiohttp's default limit of 100, the others would wait for ever.
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        connections = [_Connection(session, url, v, stats, token(v) if token else None) for v in people]
        # 42 bits of the clock and 22 of a counter, as in snowflake ids: unique across restarts, too.
        first_id = (now_ms() << 22) & 0x7FFF_FFFF_FFFF_FFFF
        try:
            number = 0
            async for due_s in _arrivals(loop.time, feeds_per_s, stop, rng, config.arrivals):
                number += 1
                if len(visits) >= config.in_flight_max:
                    stats.errors["shed"] += 1
                    continue
                connection = connections[int(rng.integers(len(connections)))]
                visit = asyncio.create_task(load.visit(connection, first_id + number, due_s))
                visits.add(visit)
                visit.add_done_callback(visits.discard)
        finally:
            for visit in visits:
                visit.cancel()
            await asyncio.gather(*visits, return_exceptions=True)
            await asyncio.gather(*(connection.close() for connection in connections))
    return stats


def _readers(society: Society, config: ViewersConfig) -> list[int]:
    """The most active people after the ``spared`` ones."""
    spared = max(0, min(config.spared, society.config.people - config.connections))
    return society.viewer_ids(spared + config.connections)[spared:]


async def _arrivals(
    clock: Callable[[], float], per_s: float, stop: asyncio.Event, rng: np.random.Generator, kind: str
) -> AsyncIterator[float]:
    """The times at which requests are due; each is yielded when it has come (perhaps late, but never skipped)."""
    due_s = clock()
    while True:
        due_s += float(rng.exponential(1.0 / per_s)) if kind == "poisson" else 1.0 / per_s
        wait_s = due_s - clock()
        if wait_s > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await stop.wait()
        else:
            await asyncio.sleep(0)
        if stop.is_set():
            return
        yield due_s
