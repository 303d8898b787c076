"""One websocket connection from upgrade to close, and the registry that counts and drains them all."""

import asyncio
import contextlib
import random
from collections.abc import Callable, Collection, Coroutine, Mapping
from typing import Any, Final

import structlog
from aiohttp import WSMsgType, web
from aiohttp.abc import AbstractStreamWriter

from config.serving import ServingConfig
from streams.process.ending import end_tasks, wait_ended
from streams.server.encode import error_frame
from streams.server.error_names import CLOSE_CODES, ProtocolError
from streams.server.metrics import ServingMetrics
from streams.server.outbox import Outbox, SlowConsumerError

SUBPROTOCOL: Final = "murmuration.v1.json"
#: How long the client of an ended connection may take to read the last frames and answer the closing handshake.
FAREWELL_S: Final = 2.0
#: After an oversized frame, how long bytes that still arrive are read and discarded: closing with unread bytes would
#: reset the connection, and the client would lose the error.
LINGER_S: Final = 0.5
FLUSH_POLL_S: Final = 0.02
RECONNECT_MS_MIN: Final = 500
RECONNECT_MS_MAX: Final = 5000

_NEVER_WAIT: Final = 2**62
_log = structlog.get_logger(__name__)


class FeedSocket(web.WebSocketResponse):
    """aiohttp's websocket, which here answers an oversized frame with a named error before it closes."""

    def __init__(self, config: ServingConfig) -> None:
        super().__init__(
            protocols=(SUBPROTOCOL,),
            heartbeat=None,  # the connection pings together with its own heartbeat: one write, and no task for it
            autoping=False,  # the outbox answers pings: its writes are bounded
            compress=False,
            max_msg_size=config.frame_bytes_max + 1,
            timeout=FAREWELL_S,
            writer_limit=_NEVER_WAIT,
        )
        self._frame_bytes_max = config.frame_bytes_max
        self.oversized = False

    async def close(self, *, code: int = 1000, message: bytes = b"", drain: bool = True) -> bool:
        if code == CLOSE_CODES["frame_too_large"] and not self.oversized and not self.closed:
            self.oversized = True
            text = f"a frame has at most {self._frame_bytes_max} bytes"
            with contextlib.suppress(ConnectionError):
                await self.send_frame(error_frame("frame_too_large", text), WSMsgType.TEXT)
            await asyncio.sleep(LINGER_S)
            message = b"frame_too_large"
        return await super().close(code=code, message=message, drain=drain)


class Connection:
    """A websocket with its outbox, its requests in flight and its timers.

    ``start`` begins to write. ``end`` closes the websocket with a named error; any task may call it, and only the
    first call counts. ``release`` frees everything and is the last call.
    """

    def __init__(
        self,
        session: str,
        socket: FeedSocket,
        writer: AbstractStreamWriter,
        transport: asyncio.Transport,
        config: ServingConfig,
        metrics: ServingMetrics,
    ) -> None:
        self.session = session
        self.viewer_id: int | None = None
        self.socket = socket
        self.outbox = Outbox(
            socket,
            writer,
            transport,
            metrics,
            buffer_bytes_max=config.send_buffer_bytes_max,
            send_timeout_s=config.send_timeout_s,
        )
        self.ending = False
        #: Whether anything came from the client since the last ping.
        self.heard = False
        self._transport = transport
        self._config = config
        self._metrics = metrics
        self._requests: set[asyncio.Task[None]] = set()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._ends: set[asyncio.Task[None]] = set()
        self._sender: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to write what is queued."""
        self._sender = asyncio.create_task(self._write(), name=f"sender {self.session}")

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a request's coroutine. A drain waits for it, and ``release`` cancels it."""
        task = asyncio.create_task(work, name=f"request {self.session}")
        self._requests.add(task)
        task.add_done_callback(self._requests.discard)

    @property
    def requests_in_flight(self) -> int:
        """Requests that are being answered."""
        return len(self._requests)

    def error(
        self, name: str, message: str, request_id: int | None = None, extra: Mapping[str, int] | None = None
    ) -> None:
        """Queue a named error, with further fields in ``extra``."""
        self._metrics.errors.labels("websocket", name).inc()
        self.outbox.answer(error_frame(name, message, request_id, extra))

    def end_at(self, delay_s: float, name: str, message: str) -> None:
        """End the connection after ``delay_s``."""
        self._timers[name] = asyncio.get_running_loop().call_later(delay_s, self.end_soon, name, message)

    def keep_alive(self, interval_s: float, heartbeat: Callable[[], None]) -> None:
        """Send a heartbeat and a ping at every interval. A client that then sends nothing for half of it is cut."""
        loop = asyncio.get_running_loop()

        def beat() -> None:
            if not self.ending:
                self.heard = False
                self.outbox.ping()
                heartbeat()
                self._timers["beat"] = loop.call_later(interval_s / 2, check)

        def check() -> None:
            if self.ending:
                return
            if self.heard:
                self._timers["beat"] = loop.call_later(interval_s / 2, beat)
            else:
                _log.info("silent client cut", session=self.session)
                self.abort()

        self._timers["beat"] = loop.call_later(interval_s, beat)

    def end_soon(self, name: str, message: str) -> None:
        """End the connection from a callback."""
        task = asyncio.create_task(self.end(name, message), name=f"end {self.session}")
        self._ends.add(task)
        task.add_done_callback(self._ends.discard)

    async def end(self, name: str, message: str, *, patience_s: float = 0.0) -> None:
        """Close with a named error: requests in flight get ``patience_s``; then error and close code are sent.

        Takes at most ``patience_s`` plus about twice ``FAREWELL_S``: a client that does not answer by then is cut off.
        """
        if self.ending:
            return
        self.ending = True
        if self._requests and patience_s > 0:
            await asyncio.wait(self._requests, timeout=patience_s)
        await self._stop_sender()
        if name != "consumer_too_slow":
            with contextlib.suppress(SlowConsumerError, TimeoutError, ConnectionError):
                async with asyncio.timeout(FAREWELL_S):
                    await self.outbox.flush()
        self._metrics.errors.labels("websocket", name).inc()
        await self._farewell(error_frame(name, message), CLOSE_CODES[name], name.encode())

    def abort(self) -> None:
        """Cut the connection without a message."""
        self.ending = True
        self._transport.abort()

    async def release(self) -> None:
        """Stop every task and timer of the connection."""
        for timer in self._timers.values():
            timer.cancel()
        await wait_ended(self._ends)
        self.ending = True
        await end_tasks(list(self._requests))
        await self._stop_sender()
        await self.outbox.close()

    async def _write(self) -> None:
        try:
            await self.outbox.run()
        except ConnectionError:
            self._transport.abort()
        except SlowConsumerError:
            self._metrics.slow_readers.inc()
            _log.info("slow reader cut", session=self.session)
            self.end_soon("consumer_too_slow", "the client does not read what it asked for")
        except Exception:  # a defect must end one connection, not hide in a task nobody awaits
            _log.exception("sender failed", session=self.session)
            self._transport.abort()

    async def _stop_sender(self) -> None:
        if self._sender is not None:
            await end_tasks([self._sender])

    async def _farewell(self, frame: bytes, code: int, reason: bytes) -> None:
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(FAREWELL_S):
                await self.socket.send_frame(frame, WSMsgType.TEXT)
                await self.socket.close(code=code, message=reason, drain=False)
                # A transport that is closing calls nobody when its buffer is empty, so the buffer is polled.
                while self._transport.get_write_buffer_size() > 0:  # noqa: ASYNC110
                    await asyncio.sleep(FLUSH_POLL_S)
        if self._transport.get_write_buffer_size() > 0:
            self._transport.abort()  # closing alone would wait for a reader that never comes


class Connections:
    """Every open connection: the limits, in total and per viewer, and the drain."""

    def __init__(self, config: ServingConfig, metrics: ServingMetrics) -> None:
        self._config = config
        self._metrics = metrics
        self._open: set[Connection] = set()
        self._by_viewer: dict[int, set[Connection]] = {}
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, connection: Connection) -> None:
        """Count a connection in.

        Raises:
            ProtocolError: ``too_many_connections``.
        """
        if len(self._open) >= self._config.connections_max:
            raise ProtocolError("too_many_connections", "the server is full; try again later")
        self._open.add(connection)
        self._metrics.connections.set(len(self._open))

    def admit_viewer(self, connection: Connection, viewer_id: int) -> None:
        """Count a connection for its viewer.

        Raises:
            ProtocolError: ``too_many_connections``.
        """
        own = self._by_viewer.get(viewer_id, set())
        if len(own) >= self._config.connections_per_viewer_max:
            raise ProtocolError("too_many_connections", "this viewer has too many connections")
        self._by_viewer[viewer_id] = own | {connection}
        connection.viewer_id = viewer_id

    def discard(self, connection: Connection) -> None:
        """Count a connection out; one that was never counted in does no harm."""
        if connection in self._open:
            self._open.remove(connection)
            self._metrics.connections.set(len(self._open))
            self._changed.set()
        if connection.viewer_id is not None:
            own = self._by_viewer.pop(connection.viewer_id) - {connection}
            if own:
                self._by_viewer[connection.viewer_id] = own
            connection.viewer_id = None

    def of_viewer(self, viewer_id: int) -> Collection[Connection]:
        """The viewer's connections."""
        return self._by_viewer.get(viewer_id, ())

    async def drain(self, timeout_s: float) -> None:
        """Tell every client to reconnect later and close its connection; returns when all are closed or time is up."""
        try:
            async with asyncio.timeout(timeout_s):
                patience_s = max(timeout_s / 2, timeout_s - 2 * FAREWELL_S)
                await asyncio.gather(
                    *(c.end("shutting_down", _reconnect_hint(), patience_s=patience_s) for c in list(self._open))
                )
                while self._open:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            _log.warning("connections cut after the drain", connections=len(self._open))
            for connection in list(self._open):
                connection.abort()


def _reconnect_hint() -> str:
    return f"reconnect in {random.randint(RECONNECT_MS_MIN, RECONNECT_MS_MAX)} ms"
