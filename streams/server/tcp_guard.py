"""TCP connections of the server: counted, limited per address, and closed when they hold a place and say nothing.

aiohttp bounds neither how many connections there are nor how long one may take over the head of a request, nor over
reading an answer. ``GuardedHandler`` is aiohttp's protocol with these bounds. A connection is *silent* until the head
of its first request is complete, then busy while a request is answered (a websocket all its life), and *idle* between
requests. Where a limit is reached, the longest silent connection gives way to the new one, then the longest idle one:
holding connections open keeps nobody out. If all are busy, the new one is refused.
"""

import asyncio
import contextlib
import ipaddress
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import _ErrInfo

from config.serving import ServingConfig
from streams.process.listening import allow_files
from streams.server.encode import encode
from streams.server.malformed import FrameParser, MalformedLog, MaskedFrames
from streams.server.metrics import ServingMetrics

#: File descriptors that are left for everything but connections of clients.
DESCRIPTORS_RESERVED: Final = 256
#: The fewest connections that are allowed, however few descriptors the process may open.
CONNECTIONS_MIN: Final = 64
#: How long a refused client may take to read why.
FAREWELL_S: Final = 1.0
#: Refused clients that are told why at one time; further ones are cut without words.
FAREWELLS_MAX: Final = 64
#: Addresses of IPv6 are counted by the network that one customer gets.
_IPV6_PREFIX: Final = 64

_NO_STORE: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}

_log = structlog.get_logger(__name__)


def address_of(peername: Any) -> str:
    """The address by which a peer is counted; "" for one without (a Unix socket)."""
    if not isinstance(peername, tuple | list) or not peername:
        return ""
    host = str(peername[0]).partition("%")[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, _IPV6_PREFIX), strict=False))
    return host


class _Queue:
    """Connections in the order in which they were added, in all and by address."""

    def __init__(self) -> None:
        self._all: dict[GuardedHandler, None] = {}
        self._by_address: dict[str, dict[GuardedHandler, None]] = {}

    def add(self, handler: "GuardedHandler") -> None:
        self._all[handler] = None
        self._by_address.setdefault(handler.address, {})[handler] = None

    def discard(self, handler: "GuardedHandler") -> None:
        if handler not in self._all:
            return
        del self._all[handler]
        of_address = self._by_address[handler.address]
        del of_address[handler]
        if not of_address:
            del self._by_address[handler.address]

    def first(self, address: str | None) -> "GuardedHandler | None":
        """The connection that was added first (of an address, or of all)."""
        return next(iter(self._all if address is None else self._by_address.get(address, ())), None)


class TcpGuard:
    """Every open connection of a server, by address and by what it does. Lives on the event loop."""

    def __init__(self, config: ServingConfig, metrics: ServingMetrics) -> None:
        self.config = config
        self._metrics = metrics
        self._most = _affordable(config.tcp_connections_max)
        self._open: set[GuardedHandler] = set()
        self._by_address: Counter[str] = Counter()
        self._silent, self._idle = _Queue(), _Queue()
        self._farewells = 0
        self.malformed = MalformedLog(config.frame_bytes_max)

    def admit(self, handler: "GuardedHandler") -> str | None:
        """Count a connection in; if there is no room for it, say why not, in words for its client."""
        most = self.config.connections_per_address_max
        if most and self._by_address[handler.address] >= most and not self._give_way(handler.address):
            self._metrics.tcp_cut.labels("address_full").inc()
            return f"{most} connections of this address are busy"
        if len(self._open) >= self._most and not self._give_way(None):
            self._metrics.tcp_cut.labels("full").inc()
            return "the server is full; try again later"
        self._open.add(handler)
        self._by_address[handler.address] += 1
        self._silent.add(handler)
        self._metrics.tcp_connections.set(len(self._open))
        return None

    def busy(self, handler: "GuardedHandler") -> None:
        """The head of a request is complete."""
        self._silent.discard(handler)
        self._idle.discard(handler)

    def idle(self, handler: "GuardedHandler") -> None:
        """The request is answered."""
        if handler in self._open:
            self._idle.add(handler)

    def discard(self, handler: "GuardedHandler") -> None:
        """Count a connection out; one that was never counted in does no harm."""
        self.busy(handler)
        if handler in self._open:
            self._open.remove(handler)
            self._by_address[handler.address] -= 1
            if not self._by_address[handler.address]:
                del self._by_address[handler.address]
            self._metrics.tcp_connections.set(len(self._open))

    def cut(self, handler: "GuardedHandler", reason: str) -> None:
        """Count a connection that is cut, by reason."""
        self._metrics.tcp_cut.labels(reason).inc()
        self.discard(handler)

    def say_farewell(self, transport: asyncio.Transport, text: str) -> None:
        """Answer a refused connection by its named error, and close it."""
        if not self.may_linger():
            transport.abort()
            return
        transport.set_protocol(_Farewell())
        transport.write(raw_answer(503, "Service Unavailable", "too_many_connections", text))
        if transport.can_write_eof():
            transport.write_eof()

        def end() -> None:
            self.lingered()
            transport.abort()

        asyncio.get_running_loop().call_later(FAREWELL_S, end)

    def may_linger(self) -> bool:
        """Whether one more client may take its time to read why it is refused; counts it if so."""
        if self._farewells >= FAREWELLS_MAX:
            return False
        self._farewells += 1
        return True

    def lingered(self) -> None:
        """A client's time to read is over."""
        self._farewells -= 1

    def _give_way(self, address: str | None) -> bool:
        """Close the longest silent, else the longest idle connection (of an address, or of all)."""
        for waiting in (self._silent, self._idle):
            found = waiting.first(address)
            if found is not None:
                found.cut("gave_way")
                return True
        return False


class GuardedHandler(web.RequestHandler):
    """aiohttp's server protocol, whose connection the guard knows."""

    __slots__ = ("_busy", "_cut", "_gone", "_guard", "_half", "_head_timer", "_malformed", "_read_timer", "address")

    def __init__(self, guard: TcpGuard, manager: web.Server, **options: Any) -> None:
        super().__init__(manager, loop=asyncio.get_running_loop(), **options)
        self.address = ""
        self._guard = guard
        self._busy = self._cut = self._half = self._malformed = False
        self._gone = asyncio.Event()
        self._head_timer: asyncio.TimerHandle | None = None
        self._read_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.address = address_of(transport.get_extra_info("peername"))
        refusal = self._guard.admit(self)
        if refusal is not None:
            self._guard.say_farewell(cast("asyncio.Transport", transport), refusal)
            return
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._stop_timers()
        self._gone.set()
        self._guard.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._cut:
            return
        if not self._busy:
            self._half = True
            if self._head_timer is None:
                self._await_head()
        super().data_received(data)
        if self._busy and self._messages:
            last = self._messages[-1][0]
            if isinstance(last, _ErrInfo):
                self._refuse_body(last.exc)

    def _refuse_body(self, error: BaseException | None) -> None:
        """What came is no part of a body. aiohttp would let the request wait for the rest, which never comes."""
        request = self._current_request
        if request is None or request.content.is_eof() or not isinstance(error, HttpProcessingError):
            return
        self._messages.pop()
        self._guard.malformed.note(error, self.address)
        self._malformed = True
        request.content.set_exception(error)

    def request_began(self) -> None:
        """The head of a request is complete; called by the application before it answers."""
        self._busy = True
        self._half = False
        self._stop_timers()
        self._guard.busy(self)

    def request_ended(self) -> None:
        """The request is answered, except for what the client has not read yet."""
        self._busy = False
        self._guard.idle(self)

    def set_parser(self, parser: Any, data_received_cb: Callable[[], None] | None = None) -> None:
        super().set_parser(cast("Any", MaskedFrames(cast("FrameParser", parser))), data_received_cb)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what cannot be parsed by its named error."""
        if not isinstance(exc, HttpProcessingError):
            _log.error("internal error", exc_info=exc)
            answer = error_answer(status, "internal", "a defect in the server; it has been logged")
        else:
            status, problem = self._guard.malformed.note(exc, self.address)
            answer = error_answer(status, "bad_request", problem)
        if request.writer.output_size > 0:
            raise ConnectionError("the answer had begun already")
        self._malformed = True
        return answer

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        finished = await super().finish_response(request, resp, start_time)
        transport = self.transport
        if self._malformed and transport is not None:
            # A connection that is closed with unread bytes is reset, and its client loses the answer.
            self.close()
            if transport.can_write_eof():
                transport.write_eof()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FAREWELL_S):
                    await self._gone.wait()
        return finished

    def pause_writing(self) -> None:
        super().pause_writing()
        # The outbox of a websocket, whose request never ends, has a rule of its own.
        if not self._busy and self.transport is not None:
            self._await_reader(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None

    def cut(self, reason: str, farewell: bytes = b"") -> None:
        """Close the connection, after ``farewell`` if there is one."""
        self._stop_timers()
        self._cut = True
        self._guard.cut(self, reason)
        transport = self.transport
        if farewell and transport is not None and self._guard.may_linger():
            # A connection that is closed while bytes still arrive is reset, and its client loses the farewell.
            transport.write(farewell)
            if transport.can_write_eof():
                transport.write_eof()
            self.close()
            asyncio.get_running_loop().call_later(FAREWELL_S, self._end_lingering)
        else:
            self.force_close()

    def _end_lingering(self) -> None:
        self._guard.lingered()
        self.force_close()

    def _await_head(self) -> None:
        wait_s = self._guard.config.head_timeout_s
        self._head_timer = asyncio.get_running_loop().call_later(wait_s, self._head_is_late)

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self._half:
            text = f"the head of a request must be there in {self._guard.config.head_timeout_s:g} s"
            self.cut("half_request", raw_answer(408, "Request Timeout", "request_timeout", text))
        else:
            self.cut("silent")

    def _await_reader(self, bytes_left: int) -> None:
        """Cut the connection if the client reads nothing of its answer for ``serving.send_timeout_s``."""

        def look() -> None:
            transport = self.transport
            self._read_timer = None
            if transport is None:
                return
            left = transport.get_write_buffer_size()
            if left < bytes_left:
                self._await_reader(left)
                return
            self._stop_timers()
            self._guard.cut(self, "not_reading")
            transport.abort()

        self._read_timer = asyncio.get_running_loop().call_later(self._guard.config.send_timeout_s, look)

    def _stop_timers(self) -> None:
        for timer in (self._head_timer, self._read_timer):
            if timer is not None:
                timer.cancel()
        self._head_timer = self._read_timer = None


class _Farewell(asyncio.Protocol):
    """Reads and forgets: a connection that is closed with unread bytes is reset, and its client loses the answer."""


def error_answer(status: int, name: str, message: str) -> web.Response:
    """An answer with a named error, after which the connection is closed."""
    body = encode({"error": name, "message": message})
    answer = web.Response(body=body, status=status, content_type="application/json", headers=_NO_STORE)
    answer.force_close()
    return answer


def raw_answer(status: int, phrase: str, name: str, message: str) -> bytes:
    """A whole HTTP answer with a named error, for connections that have no request to answer."""
    body = encode({"error": name, "message": message})
    fields: Mapping[str, str | int] = {
        "Content-Type": "application/json",
        "Content-Length": len(body),
        "Cache-Control": "no-store",
        "Retry-After": 1,
        "Connection": "close",
    }
    head = "".join(f"{field}: {value}\r\n" for field, value in fields.items())
    return f"HTTP/1.1 {status} {phrase}\r\n{head}\r\n".encode() + body


def _affordable(wanted: int) -> int:
    """How many connections the process has descriptors for, at most ``wanted``."""
    files = allow_files(wanted + DESCRIPTORS_RESERVED)
    most = max(CONNECTIONS_MIN, files - DESCRIPTORS_RESERVED)
    if most < wanted:
        _log.warning("fewer connections than configured: the process may open few files", connections=most, files=files)
    return min(wanted, most)
