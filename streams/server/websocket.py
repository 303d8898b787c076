"""``GET /v1/feed``: upgrade, authentication, and the frames of one viewer."""

import asyncio
import time
from typing import Final, NamedTuple

import structlog
from aiohttp import WSMsgType, web

from engine.errors import EventError
from engine.feed import Request
from streams.server.auth import check_site, require_viewer
from streams.server.connections import SUBPROTOCOL, Connection, FeedSocket
from streams.server.context import CONTEXT, Context
from streams.server.encode import ack_frame, encode, heartbeat_frame, hello_frame
from streams.server.error_names import CLOSE_CODES, ProtocolError, name_error
from streams.server.frames import (
    AuthFrame,
    ClientFrame,
    EngageFrame,
    FeedFrame,
    PingFrame,
    SubscribeFrame,
    decode_frame,
    find_request_id,
    parse_id,
)
from streams.server.limits import TokenBucket
from streams.server.query import check_query, query_id
from streams.server.subscription import Subscription

#: Requests of one connection that are worked on at once, and how many more may wait.
IN_FLIGHT_MAX: Final = 4
WAITING_MAX: Final = 28

_OVER: Final = (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR)
_log = structlog.get_logger(__name__)


async def feed_socket(request: web.Request) -> web.StreamResponse:
    """Handle one websocket connection."""
    context = request.app[CONTEXT]
    _check_upgrade(request, context)
    asked = query_id(request, "viewer")
    if context.auth.open and asked is None:
        raise ProtocolError("bad_request", "viewer: open mode needs ?viewer=ID")
    socket = FeedSocket(context.config)
    writer = await socket.prepare(request)
    transport = request.transport
    if writer is None or transport is None:
        return socket
    connection = Connection(f"{context.new_id():016x}", socket, writer, transport, context.config, context.metrics)
    try:
        context.connections.admit(connection)
        connection.start()
        viewer = await _authenticate(request, connection, context, asked)
        if viewer is not None:
            context.connections.admit_viewer(connection, viewer.id)
            await Conversation(context, connection, viewer).run()
    except ProtocolError as error:
        await connection.end(error.name, error.message)
    finally:
        try:
            await connection.release()
        finally:
            context.connections.discard(connection)
    return socket


def _check_upgrade(request: web.Request, context: Context) -> None:
    check_query(request, {"viewer"})
    check_site(request.headers, context.config)
    if context.draining:
        raise ProtocolError("shutting_down", "the server is shutting down")
    offered = [p.strip() for header in request.headers.getall("Sec-WebSocket-Protocol", []) for p in header.split(",")]
    if offered and SUBPROTOCOL not in offered:
        raise ProtocolError("bad_request", f"Sec-WebSocket-Protocol: this server speaks {SUBPROTOCOL}")
    if not FeedSocket(context.config).can_prepare(request):
        raise ProtocolError("bad_request", "this is a websocket: an upgrade is expected (RFC 6455, version 13)")


class _Viewer(NamedTuple):
    """Who speaks on a connection, and whether they are trusted with volume."""

    id: int
    trusted: bool


async def _authenticate(
    request: web.Request, connection: Connection, context: Context, asked: int | None
) -> _Viewer | None:
    """The viewer of the connection; None when the client left before it sent a token."""
    if context.auth.open:
        return None if asked is None else _Viewer(asked, trusted=True)
    if "Authorization" in request.headers:
        identity = context.auth.verify_header(request.headers)
    else:
        try:
            async with asyncio.timeout(context.config.auth_timeout_s):
                token = await _first_frame(connection)
        except TimeoutError:
            raise ProtocolError("unauthorized", "no token came in time") from None
        if token is None:
            return None
        identity = context.auth.verify(token)
    viewer_id = require_viewer(identity, asked)
    connection.end_at(max(0.0, identity.expires_s - time.time()), "unauthorized", "the token has expired")
    return _Viewer(viewer_id, identity.publisher)


async def _first_frame(connection: Connection) -> str | None:
    """The token of an ``auth`` frame ("" for any other frame), None when the client left."""
    while True:
        message = await connection.socket.receive()
        if message.type is WSMsgType.PING:
            connection.outbox.pong(message.data)
        elif message.type is WSMsgType.TEXT:
            try:
                frame = decode_frame(message.data)
            except ProtocolError:
                return ""
            return frame.token if isinstance(frame, AuthFrame) else ""
        elif message.type is WSMsgType.BINARY:
            return ""
        elif message.type in _OVER:
            return None


class Conversation:
    """Answers one viewer's frames on one connection."""

    def __init__(self, context: Context, connection: Connection, viewer: _Viewer) -> None:
        self._context = context
        self._connection = connection
        self._viewer_id = viewer.id
        #: Whose bucket of events the events of this connection are taken from.
        self._limited_id = None if viewer.trusted else viewer.id
        rate = context.config.requests_per_s_max
        # In open mode anybody may name any viewer, so that a bucket per viewer would let them use up each other's.
        self._own_bucket = TokenBucket(rate_per_s=rate, burst=rate, clock=context.clock) if context.auth.open else None
        self._turns = asyncio.Semaphore(IN_FLIGHT_MAX)
        self._subscription: Subscription | None = None

    async def run(self) -> None:
        """Send ``hello``, then answer frames until either side ends the connection."""
        context, connection = self._context, self._connection
        config = context.config
        hello = hello_frame(
            session=connection.session,
            viewer_id=self._viewer_id,
            version=context.service.version,
            heartbeat_s=config.heartbeat_s,
            limits={
                "frame_bytes": config.frame_bytes_max,
                "limit": config.limit_max,
                "exclude": config.exclude_max,
                "seen": config.seen_max,
                "connections": config.connections_per_viewer_max,
                "events_per_s": config.events_per_s_max,
                "events_burst": config.events_burst,
            },
        )
        connection.outbox.answer(encode(hello))
        connection.keep_alive(config.heartbeat_s, self._heartbeat)
        try:
            await self._read()
        finally:
            self._unsubscribe()

    async def _read(self) -> None:
        connection = self._connection
        while True:
            message = await connection.socket.receive()
            connection.heard = True
            if message.type is WSMsgType.TEXT:
                if not connection.ending and not connection.outbox.backlogged:
                    self._receive(message.data)
            elif message.type is WSMsgType.BINARY:
                self._refuse(ProtocolError("bad_frame", "frames are text"), None)
            elif message.type is WSMsgType.PING:
                connection.outbox.pong(message.data)
            elif message.type in _OVER:
                break
        if connection.socket.oversized:
            self._context.metrics.errors.labels("websocket", "frame_too_large").inc()

    def _receive(self, text: str) -> None:
        metrics = self._context.metrics
        try:
            self._context.shares.take_request(self._viewer_id, self._own_bucket, way="websocket")
        except ProtocolError as error:
            self._refuse(error, text)
            return
        try:
            frame = decode_frame(text)
        except ProtocolError as error:
            metrics.frames.labels("bad").inc()
            self._refuse(error, text)
            return
        metrics.count_frame(str(type(frame).__struct_config__.tag))
        try:
            self._handle(frame)
        except Exception as error:
            self._refuse(error, text)

    def _handle(self, frame: ClientFrame) -> None:
        match frame:
            case FeedFrame():
                request, seen = self._context.feeds.build(frame, self._viewer_id)
                self._reserve()
                self._context.shares.take_events(self._limited_id, len(seen))
                self._connection.spawn(self._feed(request, seen))
            case EngageFrame():
                request_id = None if frame.request_id is None else parse_id(frame.request_id, "request_id")
                self._reserve()
                self._context.shares.take_events(self._limited_id, 1)
                self._connection.spawn(self._engage(request_id, bytes(frame.event)))
            case SubscribeFrame():
                self._subscribe(frame)
            case PingFrame():
                self._heartbeat()
            case AuthFrame():
                raise ProtocolError("bad_frame", "auth is the first frame of a connection in token mode")
            case _:
                self._unsubscribe()

    def _reserve(self) -> None:
        if self._connection.requests_in_flight >= IN_FLIGHT_MAX + WAITING_MAX:
            raise ProtocolError("overloaded", "this connection has too many requests in flight")

    async def _feed(self, request: Request, seen: tuple[int, ...]) -> None:
        try:
            async with self._turns:
                context = self._context
                finish = context.answers.finish(request)
                answer = await context.feeds.answer(request, finish, way="websocket", seen=seen)
            self._connection.outbox.answer(answer.frame)
        except Exception as error:
            self._refuse(error, None, request.request_id)
        else:
            self._context.served.offer(answer.served)

    async def _engage(self, request_id: int | None, event: bytes) -> None:
        events_received = self._context.metrics.events_received
        try:
            async with self._turns:
                ack = await self._context.intake.engage(self._viewer_id, event)
        except Exception as error:
            events_received.labels(error.reason if isinstance(error, EventError) else name_error(error)[0]).inc()
            self._refuse(error, None, request_id)
        else:
            events_received.labels("duplicate" if ack.duplicate else "accepted").inc()
            self._connection.outbox.answer(
                ack_frame(
                    request_id=request_id,
                    event_id=ack.event_id,
                    topic=ack.topic,
                    partition=ack.partition,
                    offset=ack.offset,
                    duplicate=ack.duplicate,
                )
            )

    def _subscribe(self, frame: SubscribeFrame) -> None:
        terms = self._context.feeds.build_subscription(frame)
        self._context.feeds.require_ready()
        self._unsubscribe()
        self._subscription = self._context.pushes.add(self._connection, self._viewer_id, terms)

    def _unsubscribe(self) -> None:
        if self._subscription is not None:
            self._context.pushes.discard(self._subscription)
            self._subscription = None

    def _heartbeat(self) -> None:
        service = self._context.service
        self._connection.outbox.heartbeat(heartbeat_frame(version=service.version, time_ms=service.now_ms()))

    def _refuse(self, error: Exception, text: str | None, request_id: int | None = None) -> None:
        """Answer with a named error. ``text``: the frame, to read the request id from where it is not known yet."""
        name, message = name_error(error)
        if name == "internal":
            _log.error("internal error", session=self._connection.session, exc_info=error)
        if text is not None:
            request_id = find_request_id(text)
        if name in CLOSE_CODES:
            self._connection.end_soon(name, message)
        else:
            extra = error.extra if isinstance(error, ProtocolError) else None
            self._connection.error(name, message, request_id, extra)
