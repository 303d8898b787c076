"""Subscribers in a process of their own: many websockets, and when each received a push with a given tweet in it."""

import asyncio
import time
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from loadtest.traffic.client_process import ClientProcess
from loadtest.traffic.raw_socket import TEXT, RawSocket, open_sockets

#: When no push comes for this long, everything that was to be pushed has come.
QUIET_S: Final = 2.0
QUIET_TIMEOUT_S: Final = 120.0
_PUSHES: Final = (b'{"type":"new_tweets"', b'{"type":"new_entries"')


class Wait(NamedTuple):
    """Wait until each subscriber received this tweet, or ``timeout_s``; the tweet may have come before."""

    tweet_id: int
    timeout_s: float


class Received(NamedTuple):
    """``at_s``: float64, the clock (``time.perf_counter``, which all processes share) at each arrival; ``missing``: to
    whom the tweet did not come."""

    at_s: NDArray[np.float64]
    missing: list[int]
    bytes_mean: float
    errors: int


class _Subscribers:
    def __init__(self) -> None:
        self.sockets: list[RawSocket] = []
        self.viewer_ids: list[int] = []
        #: By entry: when each viewer first received it.
        self.watched: dict[bytes, dict[int, float]] = {}
        self.pushes = self.bytes = self.errors = 0
        self.newest_s = 0.0

    async def open(self, host: str, port: int, viewer_ids: Sequence[int]) -> None:
        """Connect everybody."""
        self.viewer_ids = list(viewer_ids)
        self.sockets = await open_sockets(host, port, viewer_ids, self.received)

    async def answer(self, work: bytes | int | Wait) -> int | Received | None:
        """Subscribe with a frame, watch for a tweet's id, or wait for a watched tweet."""
        if isinstance(work, bytes):
            return await self.subscribe(work)
        if isinstance(work, Wait):
            return await self.wait(work)
        self.watched[_entry(work)] = {}
        return None

    def received(self, viewer_id: int, payload: bytes) -> None:
        """Note a push: of a tweet that somebody waits for, the time."""
        if not payload.startswith(_PUSHES):
            self.errors += payload.startswith(b'{"type":"error"')
            return
        self.newest_s = time.perf_counter()
        self.pushes += 1
        self.bytes += len(payload)
        for entry, arrivals in self.watched.items():
            if entry in payload:
                arrivals.setdefault(viewer_id, self.newest_s)

    async def subscribe(self, frame: bytes) -> int:
        """Subscribe everybody, wait until the pushes have ended; how many there were."""
        self.pushes = 0
        for number, socket in enumerate(self.sockets):
            socket.send(TEXT, frame)
            if number % 50 == 0:
                await asyncio.sleep(0.01)  # frames of pushes are read meanwhile
        deadline_s = time.perf_counter() + QUIET_TIMEOUT_S
        while self.pushes < len(self.sockets) or time.perf_counter() < self.newest_s + QUIET_S:
            if time.perf_counter() > deadline_s:
                break
            await asyncio.sleep(0.05)
        return self.pushes

    async def wait(self, wait: Wait) -> Received:
        """Wait until everybody has the tweet."""
        arrivals = self.watched[_entry(wait.tweet_id)]  # grows while this waits
        deadline_s = time.perf_counter() + wait.timeout_s
        while len(arrivals) < len(self.sockets) and time.perf_counter() < deadline_s:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        del self.watched[_entry(wait.tweet_id)]
        missing = [viewer for viewer in self.viewer_ids if viewer not in arrivals]
        received = Received(np.array(list(arrivals.values())), missing, self.bytes / max(1, self.pushes), self.errors)
        self.pushes = self.bytes = self.errors = 0
        return received


def _entry(tweet_id: int) -> bytes:
    """How an entry of a push begins."""
    return b'{"tweet_id":"%d"' % tweet_id


class PushLoad(ClientProcess):
    """The subscribers' process. All methods block."""

    def __init__(self, host: str, port: int, viewer_ids: Sequence[int]) -> None:
        super().__init__(_Subscribers, host, port, viewer_ids)

    def subscribe(self, frame: bytes) -> int:
        """Subscribe everybody with this frame; returns how many pushes came until none came any more."""
        pushes: int = self.ask(frame)
        return pushes

    def watch(self, tweet_id: int) -> None:
        """From now on note when this tweet arrives."""
        self.ask(tweet_id)

    def wait(self, wait: Wait) -> Received:
        """The arrivals of a watched tweet."""
        received = self.ask(wait)
        assert isinstance(received, Received)
        return received
