import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given, settings

from config.serving import LogConfig
from engine.errors import EventError
from streams.events import TOPICS, Decoder
from streams.events.publish import (
    PublishResult,
    append_all,
    classify,
    publish,
    publish_file,
    read_chunks,
)
from streams.log import open_log
from streams.log.interface import EventLog, Format, NewRecord, Records, TopicPartition
from tests.streams.events.conftest import FUTURE_MS_MAX, encode, events, make_run, mutated, topic_of

NOW_MS = 1_760_000_000_000
LIKE: dict[str, Any] = {"v": 1, "id": 5, "type": "favorite", "user_id": "1", "tweet_id": 2, "timestamp_ms": NOW_MS}
CREATE: dict[str, Any] = {
    "v": 1,
    "id": 6,
    "type": "create",
    "tweet_id": 2,
    "author_id": 9,
    "timestamp_ms": NOW_MS,
    "text": "Dusk",
}


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[EventLog]:
    async with open_log(LogConfig(url=f"sqlite:///{tmp_path}/log.db")) as event_log:
        await event_log.ensure_topics(dict.fromkeys(TOPICS, 2))
        yield event_log


async def read_all(log: EventLog, topic: str) -> list[Records]:
    ends = await log.end_offsets(topic)
    runs: list[Records] = []
    starts = {TopicPartition(topic, partition): 0 for partition in ends}
    async with await log.tail(starts) as tail:
        while any(tail.positions[where] < ends[where.partition] for where in starts):
            runs += await tail.poll(records_max=10_000, timeout_s=5)
    return runs


def lines(*events: Any) -> bytes:
    return b"".join((e if isinstance(e, bytes) else msgspec.json.encode(e)) + b"\n" for e in events)


async def publish_bytes(log: EventLog, data: bytes, **options: Any) -> PublishResult:
    settings_ = {"now_ms": lambda: NOW_MS, "future_ms_max": 1000, "record_bytes_max": 10_000} | options
    return await publish_file(io.BytesIO(data), log, **settings_)


def test_classify_names_topic_key_and_canonical_bytes() -> None:
    pretty = msgspec.json.format(msgspec.json.encode(LIKE), indent=4) + b"\n"
    topic, key, value = classify(pretty)
    assert (topic, key) == ("engagements", b"1")
    assert msgspec.json.decode(value) == LIKE
    assert b"\n" not in value
    assert classify(msgspec.json.encode(LIKE | {"user_id": 1}))[1] == key
    assert classify(msgspec.json.encode(CREATE))[:2] == ("tweets", b"9")


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (b"{", "malformed_json"),
        (b"[]", "foreign_format"),
        (b"\xff", "not_utf8"),
        ({"v": 1}, "missing_field"),
        (LIKE | {"type": None}, "wrong_type"),
        (LIKE | {"type": "like"}, "unknown_type"),
        (LIKE | {"colour": 1}, "unknown_field"),
        (LIKE | {"v": 3, "type": "like"}, "unsupported_version"),
        (LIKE | {"timestamp_ms": NOW_MS + 1}, "timestamp_in_future"),
    ],
)
def test_classify_refuses_with_the_decoders_reasons(event: Any, reason: str) -> None:
    with pytest.raises(EventError) as caught:
        classify(event if isinstance(event, bytes) else msgspec.json.encode(event), time_ms_max=NOW_MS)
    assert caught.value.reason == reason


@settings(deadline=None)
@given(st.binary(max_size=40) | st.text(max_size=20).map(str.encode) | st.just(b"[" * 100_000))
def test_classify_raises_nothing_but_event_errors(raw: bytes) -> None:
    with pytest.raises(EventError):
        classify(raw)


async def test_published_lines_decode_again(log: EventLog) -> None:
    data = lines(LIKE, CREATE, LIKE | {"id": 7, "user_id": 2}) + b"\r\n  \n" + msgspec.json.encode(LIKE | {"id": 8})
    seen: list[tuple[int, int]] = []
    result = await publish_bytes(log, data, on_progress=lambda r, taken: seen.append((r.accepted, taken)))
    assert (result.accepted, result.rejected) == (4, 0)
    assert result.by_topic == {"engagements": 3, "tweets": 1}
    assert seen[-1][0] == 4
    runs = await read_all(log, "engagements") + await read_all(log, "tweets")
    decoded = Decoder(future_ms_max=1000).decode(runs)
    assert not decoded.dead
    assert sorted(decoded.batch.id.tolist()) == [5, 6, 7, 8]
    by_user = {user: i for run in runs for i, user in enumerate(run.keys) if run.topic == "engagements"}
    assert set(by_user) == {b"1", b"2"}


async def test_refused_lines_are_named_and_the_rest_goes_on(log: EventLog) -> None:
    data = lines(LIKE, b"{", b"", LIKE | {"type": "like"}, LIKE | {"timestamp_ms": NOW_MS + 1001}, LIKE | {"id": 9})
    data += lines(CREATE | {"text": "x" * 12_000}, b"x" * 50_000, CREATE)
    result = await publish_bytes(log, data)
    assert (result.accepted, result.rejected) == (3, 5)
    assert [(error.line, error.reason) for error in result.first_errors] == [
        (2, "malformed_json"),
        (4, "unknown_type"),
        (5, "timestamp_in_future"),
        (7, "record_too_large"),
        (8, "record_too_large"),
    ]
    await publish_bytes(log, data, record_bytes_max=100_000)


@pytest.mark.parametrize("name", ["user_id", "user\\u005fid", "user_\\u0069d"])
async def test_an_event_with_a_name_twice_is_refused_whatever_else_it_says(log: EventLog, name: str) -> None:
    like = msgspec.json.encode(LIKE)
    for more in (b"", b',"author_id":0,"value":0', b',"request_id":null'):
        twice = like[:-1] + more + b',"' + name.encode() + b'":"9"}'
        result = await publish_bytes(log, twice)
        assert [(error.reason, error.detail) for error in result.first_errors] == [
            ("duplicate_key", "`user_id` is there twice")
        ]
        assert (await publish_bytes(log, like[:-1] + more + b"}")).rejected == 0
    colons = msgspec.json.encode(CREATE | {"text": 'a: "b": \\u003a {"c":1,"c":2}'})
    assert (await publish_bytes(log, colons)).rejected == 0


async def test_a_file_that_holds_an_array_is_refused_by_a_name_that_says_so(log: EventLog) -> None:
    for indent in (None, 2):
        result = await publish_bytes(log, json.dumps([LIKE, CREATE], indent=indent).encode())
        assert result.accepted == 0
        assert result.first_errors[0].reason == "foreign_format"
        assert "an array" in result.first_errors[0].detail


async def test_only_the_first_errors_are_kept(log: EventLog) -> None:
    result = await publish_bytes(log, b"{\n" * 1000)
    assert result.rejected == 1000
    assert [error.line for error in result.first_errors] == list(range(1, 21))


class Trickle(io.RawIOBase):
    """A pipe that gives a few bytes at a time."""

    def __init__(self, data: bytes, size: int) -> None:
        self._data, self._size = data, size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        part, self._data = self._data[: self._size], self._data[self._size :]
        buffer[: len(part)] = part
        return len(part)


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_chunks_are_lines_however_they_arrive(size: int) -> None:
    data = b"one\ntwo\n\n" + b"x" * 100 + b"\nlast"
    chunks = [chunk async for chunk in read_chunks(io.BufferedReader(Trickle(data, size)), line_bytes_max=50)]
    assert [line for chunk in chunks for line in chunk] == [b"one", b"two", b"", b"x" * 51, b"last"]


async def test_an_endless_line_is_not_held() -> None:
    class Endless(io.RawIOBase):
        left = 400

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            self.left -= 1
            buffer[:] = b"x" * len(buffer)
            return len(buffer) if self.left > 0 else 0

    chunks = [chunk async for chunk in read_chunks(io.BufferedReader(Endless()), line_bytes_max=100)]
    assert chunks == [[b"x" * 101]]


async def test_the_next_chunk_waits_for_the_log() -> None:
    order: list[str] = []

    class SlowLog:
        async def append(self, topic: str, records: list[NewRecord]) -> list[tuple[int, int]]:
            order.append(f"{topic} {len(records)}")
            return [(0, i) for i in range(len(records))]

    async def chunks() -> AsyncIterator[list[bytes]]:
        for i in range(2):
            order.append(f"chunk {i}")
            yield lines(LIKE, CREATE, LIKE).splitlines()

    await publish(chunks(), SlowLog(), now_ms=lambda: NOW_MS, future_ms_max=0, record_bytes_max=1000)  # type: ignore[arg-type]
    # Tweets before what people do with them.
    assert order == ["chunk 0", "tweets 1", "engagements 2", "chunk 1", "tweets 1", "engagements 2"]


async def test_append_all_keeps_formats(log: EventLog) -> None:
    await append_all(log, {"engagements": [NewRecord(value=b"x", format=Format.PACKED, partition=1)]})
    ((run,),) = [await read_all(log, "engagements")]
    assert (run.partition, run.formats) == (1, [Format.PACKED])


@settings(deadline=None, max_examples=200)
@given(events | mutated())
def test_what_is_accepted_here_decodes_to_the_same_rows(event: dict[str, Any]) -> None:
    raw = encode(event)
    decoder = Decoder(future_ms_max=FUTURE_MS_MAX)
    direct = decoder.decode([make_run(topic_of(raw), [raw])])
    if direct.dead:
        with pytest.raises(EventError) as caught:
            classify(raw, time_ms_max=NOW_MS + FUTURE_MS_MAX)
        assert caught.value.reason == direct.dead[0].reason
        return
    topic, _, canonical = classify(raw, time_ms_max=NOW_MS + FUTURE_MS_MAX)
    published = decoder.decode([make_run(topic, [canonical])])
    assert not published.dead
    for ours, theirs in zip(published.batch, direct.batch, strict=True):
        assert ours.tobytes() == theirs.tobytes()


async def test_a_line_without_a_time_happened_now(log: EventLog) -> None:
    like = {name: value for name, value in LIKE.items() if name != "timestamp_ms"}
    data = lines(like, b"\xef\xbb\xbf" + msgspec.json.encode(like | {"id": 7, "type": "Reply"}), LIKE | {"id": 8})
    result = await publish_bytes(log, data + lines({**like, "target_id": 3}, b'{"v":1}', b"[]"))
    assert (result.accepted, result.dated, result.rejected) == (3, 2, 3)
    assert [error.reason for error in result.first_errors] == ["unknown_field", "missing_field", "foreign_format"]
    kept = [msgspec.json.decode(value) for run in await read_all(log, "engagements") for value in run.values]
    assert {event["id"]: event["timestamp_ms"] for event in kept} == dict.fromkeys((5, 7, 8), NOW_MS)


def test_only_publish_gives_events_their_time() -> None:
    with pytest.raises(EventError, match="timestamp_ms"):
        classify(msgspec.json.encode({name: value for name, value in LIKE.items() if name != "timestamp_ms"}))
