"""``POST /v1/events``: reads a body of events in pieces, checks and appends them as they come, in bounded memory."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final

import msgspec
from aiohttp import StreamReader, web
from aiohttp.http_exceptions import HttpProcessingError

from config.serving import ServingConfig
from streams.events.foreign import UTF8_MARK, looks_like_encoded
from streams.log.interface import LogError
from streams.server.encode import encode
from streams.server.error_names import ProtocolError, name_error
from streams.server.intake import Accepted, EventIntake, Rejected
from streams.server.metrics import ServingMetrics
from streams.server.shares import Shares

#: Events checked and appended at a time: bounds how long the event loop is busy.
CHUNK_EVENTS_MAX: Final = 256
#: Lines of a body. Their results are kept until the answer is sent.
LINES_MAX: Final = 100_000
LINE_BYTES_MAX: Final = 1_000_000
#: A JSON array is held in memory whole, so it must be smaller than a body of lines may be.
ARRAY_BYTES_MAX: Final = 4_194_304
#: A body of which nothing arrives for this long is refused.
IDLE_S: Final = 30.0

_TOO_LONG = Rejected("record_too_large", f"a line has at most {LINE_BYTES_MAX} bytes")
_SPACE = b" \t\r\n"
#: Enough to see a byte order mark, and how a body is encoded.
_HEAD_BYTES_MIN: Final = 16
_raw_list = msgspec.json.Decoder(list[msgspec.Raw])


class EventsBody:
    """Gives one body to the intake and keeps the results of its lines, or of an array's elements (1, 2, …)."""

    def __init__(
        self,
        intake: EventIntake,
        metrics: ServingMetrics,
        shares: Shares,
        config: ServingConfig,
        *,
        viewer_id: int | None,
    ) -> None:
        self._intake = intake
        self._metrics = metrics
        self._shares = shares
        self._config = config
        self._viewer_id = viewer_id
        self._body_bytes_max = config.body_bytes_max
        self._accepted = 0
        self._duplicates = 0
        self._rejected = 0
        self._line = 0
        self._pending: list[tuple[int, bytes | Rejected]] = []
        self._results = bytearray()

    async def take(self, request: web.Request) -> bytes:
        """Read the body to its end; returns the answer's JSON.

        Raises:
            ProtocolError: ``body_too_large``, ``bad_request``, ``request_timeout``, ``rate_limited`` or
                ``log_unavailable``, with ``accepted`` and ``rejected`` so far: events before the error stay in the log.
        """
        try:
            if request.headers.get("Content-Encoding", "identity").lower() != "identity":
                raise ProtocolError("bad_request", "Content-Encoding: bodies are taken as they are, not compressed")
            if (request.content_length or 0) > self._body_bytes_max:
                raise self._too_large()
            async with contextlib.aclosing(self._pieces(request.content)) as pieces:
                head = await _head(pieces)
                if words := looks_like_encoded(head):
                    raise ProtocolError("bad_request", f"the body looks like {words}")
                if head.lstrip(_SPACE).startswith(b"["):
                    await self._take_array(head, pieces)
                else:
                    await self._take_lines(head, pieces)
            await self._flush()
        except ProtocolError as error:
            extra = error.extra | {"accepted": self._accepted, "rejected": self._rejected}
            raise ProtocolError(error.name, error.message, **extra) from None
        except LogError as error:
            name, message = name_error(error)
            raise ProtocolError(name, message, accepted=self._accepted, rejected=self._rejected) from error
        counts = b'{"accepted":%d,"rejected":%d,"duplicates":%d,"results":['
        counts %= (self._accepted, self._rejected, self._duplicates)
        return counts + self._results[:-1] + b"]}"

    async def _pieces(self, content: StreamReader) -> AsyncGenerator[bytes]:
        config, now = self._config, asyncio.get_running_loop().time
        size, waited_s = 0, 0.0
        while True:
            began_s = now()
            # A viewer must not hold a slot by sending a byte now and then; publishers may send as events arise.
            patience_s = IDLE_S if self._viewer_id is None else config.body_timeout_s - waited_s
            patience_s += size / config.body_bytes_per_s_min if self._viewer_id is not None else 0.0
            try:
                async with asyncio.timeout(min(IDLE_S, patience_s)):
                    piece = await content.readany()
            except TimeoutError:
                raise ProtocolError("request_timeout", "the body did not come in time") from None
            except HttpProcessingError:
                raise ProtocolError("bad_request", "the body's chunks are broken") from None
            except (web.RequestPayloadError, ConnectionError):
                raise ProtocolError("bad_request", "the body broke off") from None
            if not piece:
                return
            waited_s += now() - began_s
            size += len(piece)
            if size > self._body_bytes_max:
                raise self._too_large()
            yield piece

    async def _take_lines(self, head: bytes, pieces: AsyncIterator[bytes]) -> None:
        rest, skipping = b"", False
        piece: bytes | None = head
        while piece is not None:
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                await self._add(_TOO_LONG if skipping or len(line) > LINE_BYTES_MAX else line)
                skipping = False
            if len(rest) > LINE_BYTES_MAX:
                rest, skipping = b"", True
            piece = await anext(pieces, None)
        if skipping or rest.strip(_SPACE):
            await self._add(_TOO_LONG if skipping else rest)

    async def _take_array(self, head: bytes, pieces: AsyncIterator[bytes]) -> None:
        body = bytearray(head)
        async for piece in pieces:
            body += piece
            if len(body) > ARRAY_BYTES_MAX:
                raise ProtocolError("body_too_large", f"an array has at most {ARRAY_BYTES_MAX} bytes; send lines")
        try:
            events = _raw_list.decode(body)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            raise ProtocolError("bad_request", "the body is not a JSON array") from None
        for event in events:
            await self._add(bytes(event))

    async def _add(self, line: bytes | Rejected) -> None:
        self._line += 1
        if self._line > LINES_MAX:
            raise ProtocolError("body_too_large", f"a body has at most {LINES_MAX} events")
        if isinstance(line, bytes) and not line.strip(_SPACE):
            return
        self._pending.append((self._line, line))
        if len(self._pending) >= CHUNK_EVENTS_MAX:
            await self._flush()

    async def _flush(self) -> None:
        pending, self._pending = self._pending, []
        allowed = self._shares.take_events_up_to(self._viewer_id, len(pending))
        refused = pending[allowed:]
        pending = pending[:allowed]
        raws = [line for _, line in pending if isinstance(line, bytes)]
        outcomes = iter(await self._intake.accept(raws, viewer_id=self._viewer_id) if raws else ())
        for number, line in pending:
            outcome = next(outcomes) if isinstance(line, bytes) else line
            if isinstance(outcome, Accepted):
                self._accepted += 1
                self._duplicates += outcome.duplicate
                self._metrics.events_received.labels("duplicate" if outcome.duplicate else "accepted").inc()
            else:
                self._rejected += 1
                self._metrics.events_received.labels(outcome.error).inc()
            self._results += _result(number, outcome) + b","
        if refused and self._viewer_id is not None:
            raise self._shares.too_many_events(self._viewer_id, len(refused), line=refused[0][0])
        await asyncio.sleep(0)

    def _too_large(self) -> ProtocolError:
        return ProtocolError("body_too_large", f"a body has at most {self._body_bytes_max} bytes")


async def _head(pieces: AsyncIterator[bytes]) -> bytes:
    """The beginning of the body, far enough to tell an array from lines."""
    head = b""
    async for piece in pieces:
        head += piece
        if (len(head) >= _HEAD_BYTES_MIN and head.removeprefix(UTF8_MARK).strip(_SPACE)) or len(head) > LINE_BYTES_MAX:
            break
    return head.removeprefix(UTF8_MARK)


def _result(line: int, outcome: Accepted | Rejected) -> bytes:
    if isinstance(outcome, Accepted):
        return encode(
            {
                "line": line,
                "status": "duplicate" if outcome.duplicate else "accepted",
                "topic": outcome.topic,
                "partition": outcome.partition,
                "offset": outcome.offset,
            }
        )
    return encode({"line": line, "status": "rejected", "error": outcome.error, "message": outcome.message[:300]})
