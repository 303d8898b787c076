"""The frames that wait to be written to one websocket, and the one task that writes them.

A push shows the feed's current state, so of pushes, heartbeats and pongs only the newest of each waits. Answers are
never dropped: when too many wait, or the client reads nothing for ``send_timeout_s``, the connection is cut.
"""

import asyncio
from collections import deque
from typing import Final, Protocol

from aiohttp import WSMsgType, web
from aiohttp.abc import AbstractStreamWriter

from streams.process.ending import end_tasks
from streams.server.metrics import ServingMetrics

#: How many answers may wait, whatever their size.
ANSWERS_MAX: Final = 1024


class Push(Protocol):
    """A push that is rendered only when its turn comes, as a difference from what the client has received by then."""

    def render(self) -> bytes | None:
        """The frame; None when the client has everything already."""


class SlowConsumerError(Exception):
    """The client does not read the answers that it asked for."""


class Outbox:
    """Frames to one client. ``run`` writes; everything else only queues and never waits.

    ``transport`` is the connection's transport and ``writer`` its stream (for ``drain``). The websocket's write limit
    must be off: with it, control frames would wait for data to be sent.
    """

    def __init__(
        self,
        socket: web.WebSocketResponse,
        writer: AbstractStreamWriter,
        transport: asyncio.Transport,
        metrics: ServingMetrics,
        *,
        buffer_bytes_max: int,
        send_timeout_s: float,
    ) -> None:
        self._socket = socket
        self._writer = writer
        self._transport = transport
        self._metrics = metrics
        self._buffer_bytes_max = buffer_bytes_max
        self._send_timeout_s = send_timeout_s
        self._answers: deque[bytes] = deque()
        self._answers_bytes = 0
        self._pong: bytes | None = None
        self._ping = False
        self._heartbeat: bytes | None = None
        self._push: Push | None = None
        self._arrived = asyncio.Event()
        #: Whether ``run`` waits for something to write.
        self._idle = False
        self._full = False
        self._drain: asyncio.Task[None] | None = None

    def answer(self, frame: bytes) -> None:
        """Write an answer now if nothing waits before it, or queue it. If it does not fit, the connection ends as too
        slow."""
        if self._idle and self._write_now(frame):
            return
        fits = not self._answers or self._answers_bytes + len(frame) <= self._buffer_bytes_max
        if not fits or len(self._answers) >= ANSWERS_MAX:
            self._full = True
        else:
            self._answers.append(frame)
            self._answers_bytes += len(frame)
        self._arrived.set()

    def heartbeat(self, frame: bytes) -> None:
        """Replace the waiting heartbeat."""
        self._heartbeat = frame
        self._arrived.set()

    def pong(self, payload: bytes) -> None:
        """Replace the waiting pong (RFC 6455 §5.5.3: answering only the newest ping is enough)."""
        self._pong = payload
        self._arrived.set()

    def ping(self) -> None:
        """Queue a ping."""
        self._ping = True
        self._arrived.set()

    def push(self, push: Push | None) -> None:
        """Replace the waiting push (None: forget it)."""
        if self._push is not None and push is not None:
            self._metrics.pushes_superseded.inc()
        self._push = push
        if push is not None:
            self._arrived.set()

    @property
    def push_waits(self) -> bool:
        """Whether a push waits for the client to read."""
        return self._push is not None

    @property
    def backlogged(self) -> bool:
        """Whether enough answers wait already, so that no further request should be read."""
        return self._full

    def _write_now(self, frame: bytes) -> bool:
        """Write an answer without waking ``run``, if nothing waits and the client has taken all that was written."""
        if self._arrived.is_set() or self._transport.get_write_buffer_size():
            return False
        writing = self._socket.send_frame(frame, WSMsgType.TEXT)
        try:
            writing.send(None)
        except StopIteration:
            pass  # as a rule: the websocket's write limit is off, so that it does not wait
        except ConnectionError:
            return False  # ``run`` meets the same error
        else:
            writing.close()
        self._metrics.sent_bytes.inc(len(frame))
        if self._transport.get_write_buffer_size():
            self._arrived.set()  # the client does not read now: ``run`` waits for it
        return True

    async def run(self) -> None:
        """Write until cancelled.

        Raises:
            SlowConsumerError: the client does not read.
            ConnectionError: it is gone.
        """
        while True:
            self._idle = True
            try:
                await self._arrived.wait()
            finally:
                self._idle = False
            self._arrived.clear()
            await self.flush()

    async def flush(self) -> None:
        """Write everything that waits now.

        Raises:
            SlowConsumerError: the client does not read.
            ConnectionError: it is gone.
        """
        while True:
            if self._full or self._transport.get_write_buffer_size() > self._buffer_bytes_max:
                raise SlowConsumerError
            await self._until_read()
            if self._pong is not None:
                payload, self._pong = self._pong, None
                await self._send(payload, WSMsgType.PONG)
            elif self._ping:
                self._ping = False
                await self._send(b"", WSMsgType.PING)
            elif self._answers:
                frame = self._answers.popleft()
                self._answers_bytes -= len(frame)
                await self._send(frame, WSMsgType.TEXT)
            elif self._heartbeat is not None:
                frame, self._heartbeat = self._heartbeat, None
                await self._send(frame, WSMsgType.TEXT)
            elif self._push is not None:
                push, self._push = self._push, None
                rendered = push.render()
                if rendered is not None:
                    await self._send(rendered, WSMsgType.TEXT)
                    self._metrics.pushes.inc()
            else:
                return

    async def close(self) -> None:
        """Stop waiting for the client. To be called once the transport is closed or aborted."""
        if self._drain is not None and not self._drain.done():
            await end_tasks([self._drain])

    async def _send(self, frame: bytes, kind: WSMsgType) -> None:
        await self._socket.send_frame(frame, kind)
        self._metrics.sent_bytes.inc(len(frame))

    async def _until_read(self) -> None:
        """Wait until the client has taken what was written.

        Raises:
            SlowConsumerError: it has not within ``send_timeout_s``.
            ConnectionError: it is gone.
        """
        if self._transport.get_write_buffer_size() == 0:
            return
        # The drain runs as a separate task, because cancelling aiohttp's drain would cancel the next drain as well.
        if self._drain is None or self._drain.done():
            self._drain = asyncio.create_task(self._writer.drain(), name="drain")
        await asyncio.wait([self._drain], timeout=self._send_timeout_s)
        if not self._drain.done():
            raise SlowConsumerError
        self._drain.result()
