"""Letters as long as their topic takes them, and those of a topic that was made again."""

from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from structlog.testing import capture_logs

from streams.events.dead_letters import DeadLetter, decode_dead_letter, letter_id
from streams.log.interface import LogUnavailableError, NewRecord, RecordTooLargeError
from streams.recovery.dead_letters import LetterBox, WrittenLetters

places = st.tuples(
    st.sampled_from(["tweets", "users"]), st.integers(0, 2), st.integers(0, 5), st.none() | st.integers(0, 3)
)


class NarrowLog:
    """Takes appends of at most so many bytes together."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.letters: list[DeadLetter] = []
        self.refused = 0

    async def append(self, topic: str, records: list[NewRecord]) -> None:
        assert topic == "dead-letters"
        if sum(len(record.value) for record in records) > self.bytes_max:
            self.refused += 1
            raise RecordTooLargeError("too large")
        self.letters += [decode_dead_letter(record.value) for record in records]


def letter(offset: int, size: int = 1, **fields: Any) -> DeadLetter:
    return DeadLetter("tweets", 0, offset, None, "malformed_json", "not JSON", 1, b"x" * size, **fields)


@settings(max_examples=40)
@given(st.lists(st.integers(0, 200_000), max_size=5), st.integers(600, 100_000))
async def test_every_letter_is_written_as_long_as_it_may_be(sizes: list[int], bytes_max: int) -> None:
    log = NarrowLog(bytes_max)
    box = LetterBox(log, 1_000_000)  # type: ignore[arg-type]
    await box.write([letter(offset, size) for offset, size in enumerate(sizes)])
    assert [found.offset for found in log.letters] == list(range(len(sizes)))
    for found, size in zip(log.letters, sizes, strict=True):
        assert len(found.value) == size or len(found.value) >= bytes_max // 4 - 600
    await box.write([letter(98, 500_000)])
    refused = log.refused
    for offset in range(99, 120):
        await box.write([letter(offset, 500_000)])
    # The limit is known now, but for the few bytes by which letters of one size differ; each is refused twice at most.
    assert log.refused <= refused + 2


async def test_a_topic_that_takes_no_letter_stops_nothing() -> None:
    log = NarrowLog(100)
    with capture_logs() as lines:
        await LetterBox(log, 1_000_000).write([letter(0), letter(1, 9000)])  # type: ignore[arg-type]
    assert log.letters == []
    assert [(line["of"], line["reason"]) for line in lines] == [
        ("tweets/0 offset 0", "malformed_json"),
        ("tweets/0 offset 1", "malformed_json"),
    ]


async def test_a_log_that_is_away_is_the_callers_matter() -> None:
    class Away:
        async def append(self, topic: str, records: list[NewRecord]) -> None:
            raise LogUnavailableError("away")

    with pytest.raises(LogUnavailableError):
        await LetterBox(Away(), 1_000_000).write([letter(0)])  # type: ignore[arg-type]


def test_letters_of_the_topic_that_was_there_before_do_not_count() -> None:
    old = [letter_id(letter(7, topic_id="old")), letter_id(letter(8))]
    written = WrittenLetters({"tweets": "new"}, old)
    assert [found.offset for found in written.fresh([letter(0), letter(7)])] == [0, 7]
    assert {found.topic_id for found in written.fresh([letter(0)])} == {"new"}
    written = WrittenLetters({"tweets": "new"}, [*old, letter_id(letter(5, topic_id="new"))])
    assert [found.offset for found in written.fresh([letter(5), letter(6)])] == [6]
    other = WrittenLetters({}, [letter_id(letter(5))])  # a log without such ids
    assert [found.offset for found in other.fresh([letter(5), letter(6)])] == [6]


@given(st.sets(places), st.lists(places))
def test_a_letter_is_fresh_unless_it_was_there_whatever_was_refused_after_it(there, asked) -> None:
    """Records that are applied again may be refused where they were not before."""
    of = [DeadLetter(*place, "reserved_id", "0", 1, b"x") for place in asked]
    fresh = WrittenLetters({}, [letter_id(DeadLetter(*place, "", "", 2, b"")) for place in there]).fresh(of)
    assert fresh == [one for one, place in zip(of, asked, strict=True) if place not in there]
