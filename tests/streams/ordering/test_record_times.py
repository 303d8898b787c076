"""Append times that cannot be true: judged by the clock when the piece is made, and by the same clock ever after."""

from collections.abc import Mapping, Sequence
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest

from config.serving import IngestConfig
from engine.batch import Kind
from streams.durable.journal import Entry, Journal
from streams.events import Decoder
from streams.log.interface import Format, Records, Tail, TopicPartition
from streams.log.kafka.tail import _records
from streams.log.merge import TimeMerge
from streams.log.record_times import AHEAD_MS_MAX, Settled, doubted, settled_of
from streams.ordering.own import OwnOrder, Replay
from streams.ordering.pieces import Piece, runs_of
from tests.streams.durable.conftest import MemoryDisk

NOW_MS = 1_760_000_000_000
FUTURE_MS_MAX = 300_000
YEAR_2199_MS = 7_226_582_400_000
WHERE = TopicPartition("engagements", 0)
HISTORY = "00c0ffee00c0ffee"


def like(event_id: int, time_ms: int) -> bytes:
    return msgspec.json.encode(
        {"v": 1, "id": event_id, "type": "favorite", "user_id": 1, "tweet_id": event_id, "timestamp_ms": time_ms}
    )


#: (record time, event time, whether the event holds)
CASES = [
    (NOW_MS, NOW_MS, True),
    (YEAR_2199_MS, YEAR_2199_MS, False),
    (YEAR_2199_MS, NOW_MS, True),
    (NOW_MS + AHEAD_MS_MAX + 1, NOW_MS + FUTURE_MS_MAX + 1, False),
    (-1, NOW_MS, True),
    (-1, YEAR_2199_MS, False),
    (0, NOW_MS + FUTURE_MS_MAX, True),
    (0, NOW_MS + FUTURE_MS_MAX + 1, False),
    (NOW_MS // 1000, NOW_MS, True),
    (NOW_MS, YEAR_2199_MS, False),
    (NOW_MS + AHEAD_MS_MAX, NOW_MS, True),
]


def run_at(now_ms: int, *, log_append_time: bool = False) -> Records:
    """The cases as a tail reads them at a time."""
    messages = [
        SimpleNamespace(
            offset=10 + i,
            timestamp=record_ms,
            timestamp_type=int(log_append_time),
            headers=(),
            key=b"1",
            value=like(i + 1, event_ms),
        )
        for i, (record_ms, event_ms, _) in enumerate(CASES)
    ]
    return _records(WHERE, messages, now_ms)  # type: ignore[arg-type]


class OneRun(Tail):
    """A tail that returns one run."""

    def __init__(self, run: Records) -> None:
        self.runs = [run]
        self._positions = {WHERE: run.offsets[0]}

    async def poll(self, *, records_max: int, timeout_s: float) -> list[Records]:
        runs, self.runs = self.runs, []
        for run in runs:
            self._positions[WHERE] = run.offsets[-1] + 1
        return runs

    @property
    def positions(self) -> Mapping[TopicPartition, int]:
        return self._positions

    async def close(self) -> None: ...


def outcome(piece: Piece) -> tuple[list[int], list[int], list[tuple[int, str]]]:
    """The tweets of a piece that are liked, the append times, and the refusals, by offset."""
    decoded = Decoder(future_ms_max=FUTURE_MS_MAX).decode(piece)
    assert (decoded.batch.kind == Kind.FAVORITE).all()
    times = [time_ms for run in piece for time_ms in run.append_ms]
    return decoded.batch.subject_id.tolist(), times, [(letter.offset, letter.reason) for letter in decoded.dead]


async def live() -> Piece:
    source = OwnOrder(OneRun(run_at(NOW_MS)), IngestConfig(), now_ms=lambda: NOW_MS)
    (piece,) = (await source.next()).pieces
    return piece


async def test_events_are_judged_by_the_clock_where_the_records_time_cannot_be_true() -> None:
    tweets, times_ms, refused = outcome(await live())
    assert tweets == [i + 1 for i, (*_, holds) in enumerate(CASES) if holds]
    assert refused == [(10 + i, "timestamp_in_future") for i, (*_, holds) in enumerate(CASES) if not holds]
    assert all(NOW_MS <= time_ms <= NOW_MS + AHEAD_MS_MAX for time_ms in times_ms)


@pytest.mark.parametrize("later_ms", [0, 200 * 365 * 86_400_000, -10 * 365 * 86_400_000])
async def test_a_replay_judges_as_the_journal_says_whatever_the_clock_is(later_ms: int) -> None:
    piece = await live()
    disk = MemoryDisk()
    journal = Journal.open(disk, HISTORY, segment_bytes=10_000, start={WHERE: 10})
    assert journal.append(runs_of(piece), settled_of(piece)) == 1
    journal.close()
    (entry,) = Journal.open(disk, HISTORY, segment_bytes=10_000, start={}, cut=False).entries(0)
    assert isinstance(entry, Entry)
    (again,) = await Replay(iter([entry]), OneRun(run_at(NOW_MS + later_ms)), IngestConfig()).next()
    assert outcome(again) == outcome(piece)
    assert settled_of(again) == settled_of(piece) == entry.settled


def test_times_of_the_broker_are_never_doubted() -> None:
    assert not run_at(NOW_MS, log_append_time=True).doubted
    assert not run_at(NOW_MS - 10**11, log_append_time=True).doubted
    assert doubted([3, 4], [NOW_MS, -1], NOW_MS) == {4}


def test_a_note_of_an_entry_that_was_not_written_does_not_stand_for_the_next() -> None:
    disk = MemoryDisk()
    journal = Journal.open(disk, HISTORY, segment_bytes=10_000, start={WHERE: 10})
    piece = [run_at(NOW_MS)]
    settled = [Settled(WHERE, 10, NOW_MS)]
    journal._write_note(notes_of(settled))  # as a write that failed after the note leaves it
    assert journal.append(runs_of(piece)) == 1
    (entry,) = Journal.open(disk, HISTORY, segment_bytes=10_000, start={}, cut=False).entries(0)
    assert isinstance(entry, Entry)
    assert entry.settled == ()


def notes_of(settled: Sequence[Settled]) -> object:
    from streams.durable.segment import TimesNote

    return TimesNote([(*known.partition, known.offset, known.time_ms) for known in settled])


def test_a_doubted_time_holds_no_other_partition_back() -> None:
    other = TopicPartition("tweets", 0)
    merge = TimeMerge((WHERE, other))
    merge.push(run_at(NOW_MS))
    n = 3
    merge.push(
        Records(*other, [0, 1, 2], [NOW_MS + 1 + i for i in range(n)], [Format.JSON] * n, [b""] * n, [b"{}"] * n)
    )
    runs = merge.release(100, ())
    assert [run.topic for run in runs] == ["engagements", "tweets"]
    assert np.diff([len(run.offsets) for run in runs]) == [3 - len(CASES)]
    # The last record's time is believed; the one of 2199 has moved nothing.
    assert merge._newest_ms[WHERE] == NOW_MS + AHEAD_MS_MAX
