"""A viewer's connection: the server's own ``Outbox``, with a client that reads fast, slowly or not at all."""

import asyncio
from typing import Any, cast

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from prometheus_client import CollectorRegistry

from loadtest.simulation.chance import Chance
from loadtest.simulation.lineage import CheckError
from streams.server.metrics import ServingMetrics
from streams.server.outbox import Outbox, SlowConsumerError

BUFFER_BYTES_MAX = 20_000
SEND_TIMEOUT_S = 5.0
#: Longest time that a client may stay connected after the first frame that it did not read.
CUT_S_MAX = 2 * SEND_TIMEOUT_S


class _Wire:
    """Stands for socket, transport and stream writer, as far as an outbox uses them."""

    def __init__(self, bytes_per_s: float) -> None:
        self._bytes_per_s = bytes_per_s
        self._unread = 0
        self._taken = asyncio.Event()
        self._reading = asyncio.create_task(self._read())
        self.stuck_since_s: float | None = None

    async def send_frame(self, frame: bytes, kind: Any) -> None:
        self._unread += len(frame)
        if self._unread > 2 * BUFFER_BYTES_MAX:
            raise CheckError(f"{self._unread} bytes wait for a client that does not read")
        if self.stuck_since_s is None:
            self.stuck_since_s = asyncio.get_running_loop().time()

    def get_write_buffer_size(self) -> int:
        return self._unread

    async def drain(self) -> None:
        while self._unread:
            self._taken.clear()
            await self._taken.wait()

    def close(self) -> None:
        self._reading.cancel()

    async def _read(self) -> None:
        if not self._bytes_per_s:
            return
        while True:
            await asyncio.sleep(0.25)
            if self._unread:
                self._unread = max(0, self._unread - int(self._bytes_per_s / 4))
                self.stuck_since_s = asyncio.get_running_loop().time() if self._unread else None
                self._taken.set()


class Connection:
    """A client that connects again after it was cut; it may then read at another speed."""

    def __init__(self, chance: Chance) -> None:
        self._chance = chance
        self._wire: _Wire | None = None
        self._outbox: Outbox | None = None
        self._writing: asyncio.Task[None] | None = None
        #: How often the client was cut for not reading.
        self.cuts = 0

    async def send(self, frame: bytes) -> None:
        """Give the outbox an answer; connects first if there is no connection.

        Raises:
            CheckError: a client that does not read is still connected, or its buffers exceed their bounds.
        """
        if self._writing is not None and self._writing.done():
            await self._buried(self._writing)
        if self._wire is None:
            self._open()
        assert self._wire is not None
        assert self._outbox is not None
        since_s = self._wire.stuck_since_s
        if since_s is not None and asyncio.get_running_loop().time() - since_s > CUT_S_MAX:
            raise CheckError(f"a client that has taken nothing since {since_s:.3f} is still connected")
        self._outbox.answer(frame)

    def _open(self) -> None:
        bytes_per_s = self._chance.weighted(((1e9, 0.6), (2000.0, 0.2), (0.0, 0.2)))
        self._wire = wire = _Wire(bytes_per_s)
        self._outbox = Outbox(
            cast("web.WebSocketResponse", wire),
            cast("AbstractStreamWriter", wire),
            cast("asyncio.Transport", wire),
            ServingMetrics(CollectorRegistry()),
            buffer_bytes_max=BUFFER_BYTES_MAX,
            send_timeout_s=SEND_TIMEOUT_S,
        )
        self._writing = asyncio.create_task(self._outbox.run())

    async def _buried(self, writing: asyncio.Task[None]) -> None:
        error = writing.exception()
        if not isinstance(error, SlowConsumerError):
            raise CheckError(f"a connection ended by {error!r}") from error
        self.cuts += 1
        self._chance.note("a client that does not read is cut")
        await self.close()

    async def close(self) -> None:
        """End the connection; idempotent."""
        if self._writing is not None and self._outbox is not None and self._wire is not None:
            self._writing.cancel()
            self._wire.close()
            await self._outbox.close()
        self._wire = self._outbox = self._writing = None
