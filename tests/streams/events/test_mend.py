"""Input that is not in the documented form: taken as it was meant, or refused with words about what it looks like."""

import base64
import bz2
import contextlib
import gzip
import json
import lzma
import zlib
from typing import Any

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given, settings

from engine.errors import EventError
from streams.events import Decoder, encode_events, make_rows
from streams.events.decode import EventTypes
from streams.events.foreign import UTF8_MARK
from streams.events.json_types import STRUCT_BY_TYPE, TOPICS
from streams.events.mend import mend
from streams.events.publish import classify
from streams.log.interface import Format
from tests.streams.events.conftest import FUTURE_MS_MAX, NOW_MS, SAMPLES, encode, events, make_run, topic_of

LIKE = SAMPLES["favorite"]
TWEET = SAMPLES["create"]
USER = SAMPLES["user"]


def without(event: dict[str, Any], *fields: str) -> dict[str, Any]:
    return {name: value for name, value in event.items() if name not in fields}


#: (written, meant): both must be decoded to the same event.
MEANT = [
    (UTF8_MARK + encode(LIKE), LIKE),
    (UTF8_MARK + b"\r\n " + encode(LIKE) + b"\r", LIKE),
    (LIKE | {"author_id": None, "request_id": None}, without(LIKE, "author_id", "request_id")),
    (LIKE | {"author_id": 0, "request_id": "0"}, without(LIKE, "author_id", "request_id")),
    (LIKE | {"author_id": "", "value": None}, without(LIKE, "author_id")),
    (LIKE | {"type": "Favorite"}, LIKE),
    (TWEET | {"type": "CREATE", "quoted_id": ""}, without(TWEET, "quoted_id")),
    (LIKE | {"timestamp_ms": str(NOW_MS)}, LIKE),
    (LIKE | {"timestamp_ms": float(NOW_MS)}, LIKE),
    (LIKE | {"timestamp_ms": NOW_MS + 0.75}, LIKE),
    (TWEET | {"mentions": None, "lang": None, "text": None}, without(TWEET, "mentions", "lang", "text")),
    (USER | {"created_ms": 0, "verified": None, "country": ""}, without(USER, "created_ms", "verified", "country")),
    (SAMPLES["follow"] | {"word": ""}, SAMPLES["follow"]),
    (SAMPLES["mute_word"] | {"target_id": None}, SAMPLES["mute_word"]),
    (encode(TWEET).replace(b"Dusk", b"\\ud83d"), TWEET | {"text": TWEET["text"].replace("Dusk", "�")}),
    (encode(TWEET).replace(b"Dusk", b"\\udc26\\\\ud83d"), TWEET | {"text": TWEET["text"].replace("Dusk", "�\\ud83d")}),
    (encode(LIKE).replace(b":", b" :\r\n\t"), LIKE),
]


@pytest.mark.parametrize(("written", "meant"), MEANT)
def test_what_has_one_meaning_is_taken_as_it_was_meant(written: Any, meant: dict[str, Any]) -> None:
    value = written if isinstance(written, bytes) else encode(written)
    topic = topic_of(encode(meant))
    types = EventTypes(topic)
    event = types.checked(encode(meant), NOW_MS + FUTURE_MS_MAX)
    assert types.checked(value, NOW_MS + FUTURE_MS_MAX) == event
    # The intake writes the documented form into the log.
    assert classify(value, time_ms_max=NOW_MS + FUTURE_MS_MAX) == classify(encode(meant), time_ms_max=NOW_MS + 1000)
    # The decoder of the log takes it beside events that need no mending.
    decoded = Decoder(future_ms_max=FUTURE_MS_MAX).decode([make_run(topic, [encode(meant), value, encode(meant)])])
    assert not decoded.dead
    assert len(set(decoded.record_row_counts.tolist())) == 1


@pytest.mark.parametrize(
    "tag", ["EN", "fr_FR", "i-navajo", "X-fr-CH", "x" * 41, "English", "日本語", " ", "en\n", "\0"]
)
def test_a_tweet_with_an_odd_language_tag_is_taken(tag: str) -> None:
    value = encode(TWEET | {"lang": tag})
    assert not Decoder(future_ms_max=FUTURE_MS_MAX).decode([make_run("tweets", [value])]).dead
    assert not Decoder(future_ms_max=0).decode([make_run("users", [encode(USER | {"languages": [tag, "de"]})])]).dead


@pytest.mark.parametrize(
    ("name", "field"),
    [(name, field.name) for name in SAMPLES for field in msgspec.structs.fields(STRUCT_BY_TYPE[name])],
)
def test_null_stands_for_an_absent_field(name: str, field: str) -> None:
    topic = topic_of(encode(SAMPLES[name]))
    types = EventTypes(topic)

    def outcome(event: dict[str, Any]) -> Any:
        try:
            return types.checked(encode(event), NOW_MS + FUTURE_MS_MAX)
        except EventError as error:
            return None if error.reason in ("missing_field", "wrong_type", "unknown_value") else error.reason

    assert outcome(SAMPLES[name] | {field: None}) == outcome(without(SAMPLES[name], field))


AVRO = bytes.fromhex("0a6675676c0e0210")
PROTOBUF = b"\x08\x96\x01\x12\x07testing\x1d\x00\x00\x80\x3f"
TEXT = encode(LIKE).decode()
CLOUD = {
    "specversion": "1.0",
    "id": "a",
    "source": "/app",
    "type": "like",
    "time": "2025-10-09T08:53:20Z",
    "data": LIKE,
}
CHANGE = {"before": None, "after": LIKE, "source": {"db": "app"}, "op": "c", "ts_ms": NOW_MS}
FOREIGN = [
    (TEXT.encode("utf-16"), "UTF-16"),
    (TEXT.encode("utf-16-le"), "UTF-16"),
    (TEXT.encode("utf-16-be"), "UTF-16"),
    (TEXT.encode("utf-32"), "UTF-32"),
    (TEXT.encode("utf-32-le"), "UTF-32"),
    (TEXT.encode("utf-32-be"), "UTF-32"),
    (gzip.compress(TEXT.encode(), mtime=0), "gzip"),
    (zlib.compress(TEXT.encode()), "zlib"),
    (bz2.compress(TEXT.encode()), "bzip2"),
    (lzma.compress(TEXT.encode()), "xz"),
    (b"\x28\xb5\x2f\xfd\x04\x00rest", "zstd"),
    (b"\xff\x06\x00\x00sNaPpYrest", "snappy"),
    (b"\x82SNAPPY\x00\x00\x00\x00\x01", "snappy"),
    (b"\x04\x22\x4d\x18\x64\x40rest", "lz4"),
    (b"\x00\x00\x00\x00\x07" + encode(LIKE), "Confluent's wire format (schema 7, then JSON)"),
    (b"\x00\x00\x00\x00\x07" + AVRO, "Confluent's wire format (schema 7, then Avro or Protobuf)"),
    (b"\x00\x00\x00\x7b\x07" + AVRO, "Confluent's wire format (schema 31495"),
    (PROTOBUF, "Protobuf"),
    (b"Obj\x01\x04\x14avro.codec", "Avro"),
    (b"\xc3\x01" + b"\x12" * 8 + AVRO, "Avro"),
    (msgspec.msgpack.encode(LIKE), "MessagePack"),
    (b"\x16\x00\x00\x00\x02hello\x00\x06\x00\x00\x00world\x00\x00"[:21] + b"\x00", "BSON"),
    (b"\xac\xed\x00\x05sr\x00", "Java"),
    (b"\x80\x04\x95\x10\x00.", "pickle"),
    (b"<event/>", "XML"),
    (str(LIKE).encode(), "Python"),
    (base64.b64encode(encode(LIKE)), "base64"),
    (encode(LIKE) + b"\n" + encode(LIKE), "several JSON objects"),
    (encode([LIKE, LIKE]), "an array of 2"),
    (encode(TEXT), "encoded twice"),
    (encode(base64.b64encode(encode(LIKE)).decode()), "base64"),
    (encode(CLOUD), "CloudEvents"),
    (encode(CHANGE), "Debezium"),
    (encode({"schema": {}, "payload": CHANGE}), "Debezium"),
    (encode({"payload": CHANGE}), "Debezium"),
    (encode({"schema": {"type": "struct"}, "payload": LIKE}), "Kafka Connect"),
    (encode({"@context": "https://www.w3.org/ns/activitystreams", "type": "Like"}), "ActivityStreams"),
    (encode({"did": "did:plc:x", "time_us": 1, "kind": "commit", "commit": {}}), "Jetstream"),
    (encode_events(make_rows(1, id=1)), "a packed batch"),
]


@pytest.mark.parametrize(("value", "words"), FOREIGN)
def test_a_dead_letter_names_what_a_foreign_format_looks_like(value: bytes, words: str) -> None:
    (letter,) = Decoder(future_ms_max=FUTURE_MS_MAX).decode([make_run("engagements", [value])]).dead
    assert letter.reason == "foreign_format"
    assert letter.detail.startswith("looks like ")
    assert words in letter.detail
    with pytest.raises(EventError) as caught:
        classify(value)
    assert (caught.value.reason, caught.value.detail) == (letter.reason, letter.detail)


@pytest.mark.parametrize(("value", "words"), [(encode(LIKE), None), (gzip.compress(b"x" * 99, mtime=0), "gzip")])
def test_a_packed_record_that_is_none_is_refused_by_name(value: bytes, words: str | None) -> None:
    run = make_run("engagements", [value], Format.PACKED)
    (letter,) = Decoder(future_ms_max=FUTURE_MS_MAX).decode([run]).dead
    assert letter.reason == "bad_packed_header"
    assert words is None or words in letter.detail


UNITS = [
    (NOW_MS // 1000, "seconds"),
    (NOW_MS / 1000 + 0.5, "seconds"),
    (str(NOW_MS // 1000), "seconds"),
    (NOW_MS * 1000, "microseconds"),
    (NOW_MS * 1_000_000, "nanoseconds"),
    (123, "1970-04-26"),
    (-NOW_MS, "1970-04-26"),
    (10**19, "1970-04-26"),
]


@pytest.mark.parametrize(("time", "words"), UNITS)
@pytest.mark.parametrize(
    ("name", "field"),
    [
        *[(name, "timestamp_ms") for name in ("favorite", "follow", "create", "delete", "user", "promote")],
        *[("user", "created_ms"), ("promote", "starts_ms"), ("promote", "ends_ms")],
    ],
)
def test_a_time_in_a_wrong_unit_is_refused_with_the_unit(name: str, field: str, time: Any, words: str) -> None:
    value = encode(SAMPLES[name] | {field: time})
    with pytest.raises(EventError) as caught:
        EventTypes(topic_of(value)).checked(value, NOW_MS + FUTURE_MS_MAX)
    assert caught.value.reason == "timestamp_out_of_range"
    assert words in caught.value.detail
    assert field in caught.value.detail


def test_a_packed_row_in_a_wrong_unit_is_refused_with_the_unit() -> None:
    rows = make_rows(2, id=[5, 6], user_id=1, subject_id=2, timestamp_ms=[NOW_MS, NOW_MS // 1000], kind=1)
    (letter,) = Decoder(future_ms_max=0).decode([make_run("engagements", [encode_events(rows)], Format.PACKED)]).dead
    assert (letter.reason, letter.row) == ("timestamp_out_of_range", 1)
    assert "looks like seconds (2025-10-09)" in letter.detail


@settings(deadline=None, max_examples=300)
@given(st.binary() | st.text().map(str.encode) | st.builds(lambda e, b: encode(e) + b, events, st.binary(max_size=4)))
def test_any_bytes_give_rows_or_one_dead_letter(value: bytes) -> None:
    for topic in TOPICS:
        decoded = Decoder(future_ms_max=FUTURE_MS_MAX).decode([make_run(topic, [value])])
        assert len(decoded.dead) <= 1
        if decoded.dead:
            assert decoded.batch.size == 0
            assert decoded.dead[0].value == value
    with contextlib.suppress(EventError):
        assert topic_of(value) == classify(value)[0]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda parts: st.lists(parts, max_size=3)
)


@settings(deadline=None, max_examples=300)
@given(events, st.data())
def test_mending_is_done_after_one_pass_and_never_fails(event: dict[str, Any], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(event)))
    value = data.draw(st.sampled_from([b"", UTF8_MARK])) + encode(event | {name: data.draw(json_values)})
    meant = mend(value)
    if meant is not None:
        assert mend(meant) is None
        json.loads(meant)
