"""Appends events to the log after checking them by the decoder's rules, so that none becomes a dead letter.

``classify`` serves the HTTP and websocket intake, ``publish_file`` the command line.
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping, Sequence
from io import BufferedIOBase
from typing import Any

import msgspec

from engine.errors import EventError
from streams.events import json_types
from streams.events.decode import EventTypes
from streams.events.mend import mend, refuse_repeated_names
from streams.events.reasons import DECODE_ERRORS, Reason, diagnose
from streams.events.units import TIMESTAMP_MS_MAX
from streams.log.interface import EventLog, NewRecord

#: Topics in the order of appending: people, then tweets, then the rest, so that an event comes after those it names.
TOPIC_ORDER = ("users", "relationships", "tweets")
CHUNK_BYTES = 262_144
ERRORS_KEPT = 20

_TYPES = {topic: EventTypes(topic) for topic in json_types.TOPICS}
_ALL_TYPES = frozenset(json_types.TOPIC_BY_TYPE)


class _Head(msgspec.Struct):
    type: str


_decode_head = msgspec.json.Decoder(_Head).decode


class LineError(msgspec.Struct, frozen=True):
    """A line that was refused; lines count from 1."""

    line: int
    reason: str
    detail: str


class PublishResult(msgspec.Struct):
    """Counts so far.

    ``dated``: accepted lines that named no time and happened now; ``first_errors`` keeps the first few refused lines.
    """

    accepted: int = 0
    rejected: int = 0
    dated: int = 0
    by_topic: dict[str, int] = msgspec.field(default_factory=dict)
    first_errors: list[LineError] = msgspec.field(default_factory=list)

    def accept(self, topic: str, count: int) -> None:
        """Count acknowledged events of a topic."""
        if count:
            self.accepted += count
            self.by_topic[topic] = self.by_topic.get(topic, 0) + count

    def reject(self, line: int, error: EventError) -> None:
        """Count a refused line."""
        self.rejected += 1
        if len(self.first_errors) < ERRORS_KEPT:
            self.first_errors.append(LineError(line, str(error.reason), error.detail))


#: Called with the result so far and how much of the input was read.
Progress = Callable[[PublishResult, int], None]


def ignore_progress(result: PublishResult, done: int) -> None:
    """The default: nobody watches."""


def _record_key(topic: str, event: json_types.Event) -> bytes:
    field = json_types.TOPICS[topic].key
    # An id has only one decimal form, so number and string give the same key.
    return str(getattr(event, field)).encode() if field else b""


def classify(raw: bytes, *, time_ms_max: int = TIMESTAMP_MS_MAX) -> tuple[str, bytes, bytes]:
    """Check one JSON event of any topic; returns its topic, its record key and its canonical bytes (compact JSON).

    ``time_ms_max``: the latest event time to accept (now plus the allowed clock skew).

    Raises:
        EventError: the event would be a dead letter; ``reason`` names why.
    """
    told, topic = raw, _topic_of(raw)
    if topic is None:
        raw = mend(raw) or raw
        topic = _topic_of(raw)
    if topic is None:
        raise diagnose(raw, _ALL_TYPES, json_types.TOPIC_BY_TYPE, EventError(Reason.UNKNOWN_TYPE, "no such type"))
    event = _TYPES[topic].checked(raw, time_ms_max)
    canonical = msgspec.json.encode(event)
    # An event with a name twice has more colons than its canonical form, or one that is hidden in an escape.
    if told.count(b":") != canonical.count(b":") or b"\\u003" in told:
        refuse_repeated_names(told)
    return topic, _record_key(topic, event), canonical


def _classify_line(raw: bytes, now_ms: int, time_ms_max: int) -> tuple[tuple[str, bytes, bytes], bool]:
    """``classify`` a line, and whether it got its time here; only a line that was refused is looked at for that."""
    try:
        return classify(raw, time_ms_max=time_ms_max), False
    except EventError as error:
        if error.reason != Reason.MISSING_FIELD or (dated := _dated(raw, now_ms)) is None:
            raise
        refuse_repeated_names(raw)
    return classify(dated, time_ms_max=time_ms_max), True


def _dated(raw: bytes, now_ms: int) -> bytes | None:
    """An event without ``timestamp_ms`` as one that happened now; None if it has one or is no object."""
    try:
        fields = msgspec.json.decode(mend(raw) or raw, type=dict[str, Any])
        return None if "timestamp_ms" in fields else msgspec.json.encode(fields | {"timestamp_ms": now_ms})
    except (*DECODE_ERRORS, ValueError, OverflowError):
        return None


def decode(topic: str, canonical: bytes) -> json_types.Event:
    """The event of bytes that ``classify`` returned."""
    event: json_types.Event = _TYPES[topic].decode(canonical)
    return event


def _topic_of(raw: bytes) -> str | None:
    """The topic of an event's type; None: no event, or of no known type."""
    try:
        return json_types.TOPIC_BY_TYPE.get(_decode_head(raw).type)
    except DECODE_ERRORS:
        return None


def _check_size(value: bytes, bytes_max: int) -> None:
    if len(value) > bytes_max:
        raise EventError(Reason.RECORD_TOO_LARGE, f"an event is at most {bytes_max} bytes")


async def append_all(log: EventLog, records: Mapping[str, Sequence[NewRecord]]) -> None:
    """Append records topic by topic, in ``TOPIC_ORDER`` first, and wait until all are acknowledged."""
    ordered = [topic for topic in TOPIC_ORDER if topic in records]
    for topic in (*ordered, *(topic for topic in records if topic not in TOPIC_ORDER)):
        await log.append(topic, records[topic])


async def read_chunks(file: BufferedIOBase, *, line_bytes_max: int) -> AsyncIterator[list[bytes]]:
    """Lines of a file or pipe as they arrive, in lists of at most about 256 KiB, read in a thread.

    Of a line over ``line_bytes_max`` only the first ``line_bytes_max`` + 1 bytes are given: enough to see that it is
    too long, without holding all of it.
    """
    rest = b""
    while chunk := await asyncio.to_thread(file.read1, CHUNK_BYTES):
        *lines, rest = (rest + chunk).split(b"\n")
        if lines:
            yield [line[: line_bytes_max + 1] for line in lines]
        rest = rest[: line_bytes_max + 1]
    if rest:
        yield [rest]


async def publish(
    chunks: AsyncIterable[Sequence[bytes]],
    log: EventLog,
    *,
    now_ms: Callable[[], int],
    future_ms_max: int,
    record_bytes_max: int,
    on_progress: Progress = ignore_progress,
) -> PublishResult:
    """Check NDJSON lines, append the good ones and count the refused ones.

    A chunk is acknowledged before the next is read, which bounds memory to one chunk and slows reading to the log's
    pace. ``on_progress`` is called after every chunk with the result so far and the bytes read. A line without
    ``timestamp_ms`` happened now.

    Raises:
        LogError: the log failed; ``on_progress`` has received the counts up to then.
    """
    result = PublishResult()
    line = taken = 0
    async for chunk in chunks:
        records: dict[str, list[NewRecord]] = {}
        chunk_ms = now_ms()
        for raw in chunk:
            line += 1
            taken += len(raw) + 1
            if not raw or raw.isspace():
                continue
            try:
                _check_size(raw, record_bytes_max)
                (topic, key, value), dated = _classify_line(raw, chunk_ms, chunk_ms + future_ms_max)
                _check_size(value, record_bytes_max)
            except EventError as error:
                result.reject(line, error)
                continue
            records.setdefault(topic, []).append(NewRecord(value=value, key=key))
            result.dated += dated
        await append_all(log, records)
        for topic, appended in records.items():
            result.accept(topic, len(appended))
        on_progress(result, taken)
    return result


async def publish_file(
    file: BufferedIOBase,
    log: EventLog,
    *,
    now_ms: Callable[[], int],
    future_ms_max: int,
    record_bytes_max: int,
    on_progress: Progress = ignore_progress,
) -> PublishResult:
    """``publish`` the lines of a binary file or pipe (NDJSON)."""
    return await publish(
        read_chunks(file, line_bytes_max=record_bytes_max),
        log,
        now_ms=now_ms,
        future_ms_max=future_ms_max,
        record_bytes_max=record_bytes_max,
        on_progress=on_progress,
    )
