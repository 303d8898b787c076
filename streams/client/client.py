"""A websocket client of the feed server (docs/protocol.md): requests, engagements, pushes, and staying connected.

One task owns the connection. It connects, reads, and hands each answer to the caller that waits for it. After a loss it
connects again, after a wait with jitter and to the addresses in turn. If there are several addresses, it also leaves a
server that has not caught up with the log yet. A request that is in flight then is sent again: feeds are read-only, and
an engagement carries an id, so the log counts it once.
"""

import asyncio
import contextlib
import random
import re
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
import orjson
import structlog

from engine.errors import MurmurationError
from streams.client.entry_list import EntryList, joined
from streams.process.ending import end_tasks
from streams.process.retry import Retries

SUBPROTOCOL: Final = "murmuration.v1.json"
BACKOFF_S_MIN: Final = 0.1
BACKOFF_S_MAX: Final = 5.0
#: The entries of a subscription that names no limit.
LIMIT_DEFAULT: Final = 20
HELLO_TIMEOUT_S: Final = 10.0
RESUBSCRIBE_S: Final = 0.5
#: Interval at which a silent server is pinged; shorter where another server can take its place.
PING_S: Final = 20.0
PING_OF_SEVERAL_S: Final = 5.0
#: Tweets reported as seen within this time are excluded too: the next server may not have read the report yet.
SEEN_S: Final = 10.0
SEEN_MAX: Final = 200
#: Errors after which trying again is useless.
TERMINAL_ERRORS: Final = frozenset({"unauthorized", "wrong_viewer", "bad_request", "forbidden_origin"})

Frame = dict[str, Any]
_log = structlog.get_logger(__name__)


class FeedClientError(MurmurationError):
    """The server's named error: ``name`` and ``message`` as in docs/protocol.md."""

    code = "feed_client"

    def __init__(self, name: str, message: str) -> None:
        super().__init__(f"{name}: {message}")
        self.name = name
        self.message = message


class UnreachableError(MurmurationError):
    """No server answers; the message says which were tried."""

    code = "unreachable"


class _LeaveError(Exception):
    """This server does not serve yet."""


class FeedClient:
    """One viewer's connection to one of several servers. Use as ``async with FeedClient(url, viewer_id=42) as client``.

    ``urls`` are tried in order (``http://host:port``); ``viewer_id`` is for open mode, ``token`` for token mode;
    ``on_connect`` is awaited after each hello. For one event loop.
    """

    def __init__(
        self,
        urls: str | Sequence[str],
        *,
        viewer_id: int | None = None,
        token: str | None = None,
        backoff_s_min: float = BACKOFF_S_MIN,
        on_connect: Callable[[Frame], Awaitable[None]] | None = None,
    ) -> None:
        self.urls = [urls] if isinstance(urls, str) else list(urls)
        if not self.urls:
            raise ValueError("at least one address is needed")
        self.hello: Frame = {}
        self.reconnects = 0
        self._query = {} if viewer_id is None else {"viewer": str(viewer_id)}
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._retries = Retries(
            "no connection", wait_s_min=backoff_s_min, wait_s_max=BACKOFF_S_MAX, level="info", log=_log
        )
        self.on_connect = on_connect
        self._address = 0
        self._session: aiohttp.ClientSession | None = None
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._task: asyncio.Task[None] | None = None
        self._connected = asyncio.Event()
        self._failure: MurmurationError | None = None
        self._pending: dict[str, asyncio.Future[Frame]] = {}
        self._subscription: Frame | None = None
        self._push: Frame | None = None
        self._list = EntryList(LIMIT_DEFAULT)
        self._pushed = asyncio.Event()
        self._refusal: FeedClientError | None = None
        #: (Time, tweet) of tweets that were reported as seen; kept only where there are several servers.
        self._seen: deque[tuple[float, str]] = deque(maxlen=SEEN_MAX)
        self._retry: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def url(self) -> str:
        """The address that is in use, or that is tried next."""
        return self.urls[self._address % len(self.urls)]

    async def connect(self) -> None:
        """Connect to the first address that answers.

        Raises:
            UnreachableError: no address answers.
            FeedClientError: the server refuses this viewer or token.
        """
        self._session = aiohttp.ClientSession(headers=self._headers)
        problems = []
        try:
            for _ in self.urls:
                try:
                    socket = await self._dial()
                    break
                except (aiohttp.ClientError, OSError, FeedClientError) as error:
                    if isinstance(error, FeedClientError) and error.name in TERMINAL_ERRORS:
                        raise
                    problems.append(f"{self.url}: {error}")
                    self._address += 1
            else:
                raise UnreachableError("; ".join(problems))
        except BaseException:
            await self.close()
            raise
        self._task = asyncio.create_task(self._run(socket), name="feed client")

    async def close(self) -> None:
        """Close the connection. Callers that wait for an answer get an ``UnreachableError``. Idempotent."""
        for task in (self._task, self._retry):
            if task is not None:
                await end_tasks([task])
        self._task = self._retry = None
        if self._session is not None:
            await self._session.close()
            self._session = None
        self._fail(self._failure or UnreachableError("the client is closed"))

    async def feed(self, *, timeout_s: float = 10.0, **fields: Any) -> Frame:
        """Ask for a feed; ``fields`` are those of the protocol's ``feed`` frame.

        Raises:
            FeedClientError: the server's named error.
            UnreachableError: no answer within ``timeout_s``, reconnects included.
        """
        frame = {"type": "feed", "request_id": str(_new_id()), **fields}
        if len(self.urls) > 1:
            self._exclude_seen(frame)
        return await self._ask(frame, timeout_s)

    def _exclude_seen(self, frame: Frame) -> None:
        now_s = asyncio.get_running_loop().time()
        self._seen.extend((now_s, str(tweet)) for tweet in frame.get("seen", ()))
        lately = [tweet for at_s, tweet in self._seen if at_s > now_s - SEEN_S]
        if lately:
            exclude = dict.fromkeys((*map(str, frame.get("exclude", ())), *lately))
            frame["exclude"] = list(exclude)[: self.hello["limits"]["exclude"]]

    async def engage(self, event: Mapping[str, Any], *, timeout_s: float = 10.0) -> Frame:
        """Append an engagement or relationship event; returns the ``ack`` frame.

        Raises:
            FeedClientError: the server's named error.
            UnreachableError: not acknowledged within ``timeout_s``; sending the same ``id`` again is safe.
        """
        complete = {"id": str(_new_id()), **event}
        return await self._ask({"type": "engage", "request_id": str(_new_id()), "event": complete}, timeout_s)

    async def subscribe(self, **fields: Any) -> AsyncIterator[Frame]:
        """``new_tweets`` (and ``new_entries``) frames while the feed changes, across reconnects; ``fields`` as in the
        protocol.

        For a slow consumer frames are joined to one of the whole list (``entry_list.joined``), whose ``request_id`` is
        that of the newest.

        Raises:
            FeedClientError: the server refuses the subscription.
            UnreachableError: the client was closed.
        """
        self._push = self._refusal = None
        self._pushed.clear()
        self._subscription = {"type": "subscribe", **fields}
        self._list = EntryList(fields.get("limit", LIMIT_DEFAULT))
        await self._send(self._subscription)
        try:
            while True:
                yield await self._next_push()
        finally:
            self._subscription = None
            await self._send({"type": "unsubscribe"})

    async def _next_push(self) -> Frame:
        while True:
            await self._pushed.wait()
            self._pushed.clear()
            push, self._push = self._push, None
            if push is not None:
                return push
            if problem := self._failure or self._refusal:
                raise problem

    async def _ask(self, frame: Frame, timeout_s: float) -> Frame:
        request_id = frame["request_id"] = str(frame["request_id"])
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    await self._connected.wait()
                    if self._failure is not None:
                        raise self._failure
                    answer = asyncio.get_running_loop().create_future()
                    self._pending[request_id] = answer
                    socket = self._socket
                    await self._send(frame)
                    try:
                        return _unless_error(await answer)
                    except ConnectionResetError:
                        continue
                    except FeedClientError as error:
                        if not self._leaves(error):
                            raise
                    if socket is not None:
                        await socket.close()
        except TimeoutError:
            raise UnreachableError(f"{self.url}: no answer within {timeout_s:g} s") from None
        finally:
            self._pending.pop(request_id, None)

    def _leaves(self, error: FeedClientError) -> bool:
        """Whether this server cannot answer yet, and another may."""
        return error.name == "not_ready" and len(self.urls) > 1

    async def _send(self, frame: Frame) -> None:
        """Send if connected. After a loss, requests that still wait and the subscription are sent again."""
        if self._socket is not None:
            with contextlib.suppress(ConnectionError):
                await self._socket.send_frame(orjson.dumps(frame), aiohttp.WSMsgType.TEXT)

    async def _run(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        while True:
            try:
                hint_s = await self._converse(socket)
                # The hint is about this server only: if there are several, try the next one at once.
                hint_s = hint_s if len(self.urls) == 1 else 0.0
                wait_s = self._retries.failed("it ended", at_least_s=hint_s, url=self.url)
                if len(self.urls) > 1:
                    self._address += 1
                socket = await self._redial(wait_s)
            except MurmurationError as error:
                self._fail(error)
                return
            self.reconnects += 1

    async def _redial(self, wait_s: float) -> aiohttp.ClientWebSocketResponse:
        while True:
            await asyncio.sleep(wait_s)
            try:
                return await self._dial()
            except (aiohttp.ClientError, OSError, FeedClientError) as error:
                if isinstance(error, FeedClientError) and error.name in TERMINAL_ERRORS:
                    raise
                wait_s = self._retries.failed(error, url=self.url)
                self._address += 1

    async def _dial(self) -> aiohttp.ClientWebSocketResponse:
        """A connection whose server has said hello."""
        assert self._session is not None
        try:
            async with asyncio.timeout(HELLO_TIMEOUT_S):
                socket = await self._session.ws_connect(
                    f"{self.url.rstrip('/')}/v1/feed",
                    params=self._query,
                    protocols=(SUBPROTOCOL,),
                    heartbeat=PING_S if len(self.urls) == 1 else PING_OF_SEVERAL_S,
                    max_msg_size=0,
                )
        except aiohttp.WSServerHandshakeError as error:
            name = "overloaded" if error.status >= 500 else "bad_request"
            raise FeedClientError(name, f"the server refused the connection (HTTP {error.status})") from None
        try:
            async with asyncio.timeout(HELLO_TIMEOUT_S):
                message = await socket.receive()
            if message.type is not aiohttp.WSMsgType.TEXT:
                raise ConnectionResetError("closed before the hello")
            self.hello = _unless_error(orjson.loads(message.data))
            if self.on_connect is not None:
                await self.on_connect(self.hello)
        except BaseException:
            await socket.close()
            raise
        return socket

    async def _converse(self, socket: aiohttp.ClientWebSocketResponse) -> float:
        """Read until the connection ends; returns how many seconds the server asked the client to stay away."""
        self._socket = socket
        self._connected.set()
        hint_s = 0.0
        try:
            if self._subscription is not None:
                await self._send(self._subscription)
            async for message in socket:
                if message.type is aiohttp.WSMsgType.TEXT:
                    hint_s = max(hint_s, self._receive(orjson.loads(message.data)))
        except _LeaveError as error:
            _log.info("leaving", url=self.url, reason=str(error))
        finally:
            self._socket = None
            self._connected.clear()
            await socket.close()
            for answer in self._pending.values():
                if not answer.done():
                    answer.set_exception(ConnectionResetError())
        return hint_s

    def _receive(self, frame: Frame) -> float:
        if frame["type"] in ("feed", "ack", "new_tweets", "new_entries"):
            # Only an answer shows that the server is back: one that takes connections may refuse every request.
            self._retries.succeeded()
        answer = self._pending.get(frame.get("request_id", ""))
        if answer is not None and not answer.done():
            answer.set_result(frame)
        elif frame["type"] in ("new_tweets", "new_entries"):
            self._take_push(frame)
        elif frame["type"] == "error" and "request_id" not in frame:
            _log.info("server error", url=self.url, error=frame["error"], message=frame["message"])
            return self._take_error(frame)
        return 0.0

    def _take_error(self, frame: Frame) -> float:
        """Take an error frame without ``request_id``: it is about the connection or about the subscription."""
        error = FeedClientError(frame["error"], frame["message"])
        if error.name == "shutting_down":
            hint = re.search(r"(\d+) ms", error.message)
            return int(hint[1]) / 1000 if hint else 0.0
        if error.name in ("bad_request", "bad_frame"):
            self._refusal = error
            self._pushed.set()
        elif error.name in TERMINAL_ERRORS:
            raise error
        elif self._leaves(error):
            raise _LeaveError(error.message)
        elif error.name in ("not_ready", "too_fast") and (self._retry is None or self._retry.done()):
            self._retry = asyncio.create_task(self._subscribe_again(), name="subscribe again")
        return 0.0

    async def _subscribe_again(self) -> None:
        await asyncio.sleep(RESUBSCRIBE_S)
        if self._subscription is not None:
            await self._send(self._subscription)

    def _take_push(self, frame: Frame) -> None:
        self._list.take(frame)
        self._push = frame if self._push is None else joined(self._push, frame, self._list.entries)
        self._pushed.set()

    def _fail(self, error: MurmurationError) -> None:
        self._failure = error
        for answer in self._pending.values():
            if not answer.done():
                answer.set_exception(error)
        self._connected.set()
        self._pushed.set()


def _new_id() -> int:
    return random.getrandbits(64) or 1


def _unless_error(frame: Frame) -> Frame:
    if frame["type"] == "error":
        raise FeedClientError(frame["error"], frame["message"])
    return frame
