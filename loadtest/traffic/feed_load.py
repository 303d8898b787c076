"""An open-loop load of feed requests from a separate process, with as little work per feed as a client can do.

Each request is sent when it is due, whether or not earlier ones are answered, and its latency counts from when it was
due: a stalled server is charged for every request that came due meanwhile. The client speaks websocket frames itself:
it masks with zeros, finds the request's id at a fixed place in the answer and decodes nothing else. This takes about
30 µs of CPU per feed.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from loadtest.traffic.client_process import ClientProcess
from loadtest.traffic.raw_socket import TEXT, RawSocket, open_sockets

#: How long to wait for the answers of a load after its last request.
SETTLE_S: Final = 5.0
#: Entries are counted in the first answer of a load, and in every ``COUNTED_EVERY``-th after it.
COUNTED_EVERY: Final = 16

_FEED: Final = b'{"type":"feed","request_id":"'


class Load(NamedTuple):
    """``feeds_per_s`` for ``seconds``: arrivals of a Poisson process drawn from ``seed``."""

    feeds_per_s: float
    seconds: float
    seed: int


class LoadResult(NamedTuple):
    """Figures of a load. ``latency_ms`` (float64, one per answer) is the time from due to answered; ``late_ms_max`` is
    the longest delay with which the client sent a request; ``cpu_s`` is the client's own CPU time."""

    sent: int
    latency_ms: NDArray[np.float64]
    errors: int
    seconds: float
    entries_mean: float
    late_ms_max: float
    cpu_s: float

    @property
    def lost(self) -> int:
        """Requests without a feed: refused, or not answered in time."""
        return self.sent - len(self.latency_ms)


class _Client:
    """The connections, and the load that is running."""

    def __init__(self) -> None:
        self.viewers: list[RawSocket] = []
        self._due: dict[bytes, float] = {}
        self._latency_s: list[float] = []
        self._errors = 0
        self._entries: list[int] = []
        self._first_id = time.time_ns() << 4 & 0x3FFF_FFFF_FFFF_FFFF

    async def open(self, host: str, port: int, viewer_ids: Sequence[int]) -> None:
        """Connect everybody."""
        self.viewers = await open_sockets(host, port, viewer_ids, self.received)

    def received(self, _viewer_id: int, payload: bytes) -> None:
        """Count an answer."""
        now_s = time.perf_counter()
        if not payload.startswith(_FEED):
            self._errors += payload.startswith(b'{"type":"error"')
            return
        due_s = self._due.pop(payload[len(_FEED) : payload.index(b'"', len(_FEED))], None)
        if due_s is None:
            return
        if len(self._latency_s) % COUNTED_EVERY == 0:
            self._entries.append(payload.count(b'"tweet_id":'))
        self._latency_s.append(now_s - due_s)

    async def answer(self, load: Load) -> LoadResult:
        """Send a load and wait for its answers."""
        rng = np.random.default_rng(load.seed)
        count = max(1, round(load.feeds_per_s * load.seconds))
        due = np.cumsum(rng.exponential(1.0 / load.feeds_per_s, count)).tolist()
        who = rng.integers(0, len(self.viewers), count).tolist()
        self._due.clear()
        self._latency_s, self._errors, self._entries = [], 0, []
        cpu_s, began_s, late_s = time.process_time(), time.perf_counter(), 0.0
        for number, (at_s, viewer) in enumerate(zip(due, who, strict=True)):
            while (wait_s := began_s + at_s - time.perf_counter()) > 0:  # noqa: ASYNC110 (waits for a time)
                await asyncio.sleep(wait_s)
            late_s = max(late_s, -wait_s)
            request_id = b"%d" % (self._first_id + number)
            self._due[request_id] = began_s + at_s
            self.viewers[viewer].send(TEXT, _FEED + request_id + b'"}')
            if number % 8 == 0:
                await asyncio.sleep(0)  # read answers even while sending lags
        self._first_id += count
        ended_s = time.perf_counter()
        while len(self._latency_s) + self._errors < count and time.perf_counter() < ended_s + SETTLE_S:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        return LoadResult(
            sent=count,
            latency_ms=np.array(self._latency_s) * 1000.0,
            errors=self._errors,
            seconds=ended_s - began_s,
            entries_mean=float(np.mean(self._entries)) if self._entries else 0.0,
            late_ms_max=late_s * 1000.0,
            cpu_s=time.process_time() - cpu_s,
        )


class LoadProcess(ClientProcess):
    """The client's process: call ``open``, ``run`` any number of times, ``close``. All of them block."""

    def __init__(self, host: str, port: int, viewer_ids: Sequence[int]) -> None:
        super().__init__(_Client, host, port, viewer_ids)

    def run(self, load: Load) -> LoadResult:
        """Run one load to its end."""
        result = self.ask(load)
        assert isinstance(result, LoadResult)
        return result
