import hashlib

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given

from streams.events import DeadLetter, decode_dead_letter, encode_dead_letter
from streams.events.json_types import DeadLetterEvent

letters = st.builds(
    DeadLetter,
    topic=st.text(min_size=1, max_size=100),
    partition=st.integers(0, 1000),
    offset=st.integers(0, 2**53),
    row=st.none() | st.integers(0, 1000),
    reason=st.just("bad_row"),
    detail=st.text(max_size=300),
    append_ms=st.integers(1, 2**40),
    value=st.binary(max_size=9000),
)


@given(letters, st.integers(4096, 12_000))
def test_letters_survive_a_round_trip_within_the_limit(letter: DeadLetter, record_bytes_max: int) -> None:
    record = encode_dead_letter(letter, record_bytes_max=record_bytes_max)
    assert len(record.value) <= record_bytes_max
    event = msgspec.json.decode(record.value, type=DeadLetterEvent)
    assert event.value_bytes == len(letter.value)
    if event.truncated:
        assert letter.value.startswith(event.value)
        assert event.sha256 == hashlib.sha256(letter.value).hexdigest()
    kept = msgspec.structs.replace(letter, value=event.value, detail=letter.detail[:200])
    if not event.value:  # the detail gives way, but only to the last
        kept = msgspec.structs.replace(kept, detail=event.detail)
    assert decode_dead_letter(record.value) == kept
    assert event.truncated == (event.value != letter.value)


def test_the_largest_record_gives_a_letter_that_fits() -> None:
    letter = DeadLetter("\x01" * 300, 0, 2**53, 0, "r" * 100, "\x01" * 300, 2**41, b"\xff" * 1_000_000)
    assert 999_000 < len(encode_dead_letter(letter, record_bytes_max=1_000_000).value) <= 1_000_000


def test_the_id_follows_from_the_place() -> None:
    letter = DeadLetter("tweets", 0, 1, None, "bad_row", "", 1, b"")
    others: list[dict[str, object]] = [{"row": 0}, {"partition": 1}, {"topic_id": "made again"}]
    places = [letter, *(msgspec.structs.replace(letter, **other) for other in others)]

    def event_id(letter: DeadLetter) -> object:
        return msgspec.json.decode(encode_dead_letter(letter, record_bytes_max=10_000).value)["id"]

    assert len({event_id(place) for place in places}) == 4
    assert event_id(letter) == event_id(msgspec.structs.replace(letter, value=b"x"))


@pytest.mark.parametrize("record_bytes_max", [1, 500, 600, 1000])
def test_place_and_reason_are_never_cut(record_bytes_max: int) -> None:
    letter = DeadLetter("engagements", 3, 7, None, "record_malformed", "why" * 60, 1, b"x" * 10_000)
    record = encode_dead_letter(letter, record_bytes_max=record_bytes_max)
    assert len(record.value) <= max(record_bytes_max, 400)
    short = decode_dead_letter(record.value)
    assert letter.value.startswith(short.value)
    assert (short.topic, short.partition, short.offset, short.reason) == ("engagements", 3, 7, "record_malformed")
