"""Append times that producers claim and that cannot be true, and what stands in their place.

On Kafka topics with ``CreateTime`` a record's time is what its producer says: -1, 0, or a year to come. Events must not
be judged by that, or an event of the year 2199 would move every window there. Such a time is replaced by the clock when
the record's piece is made. That is no function of the log, so the journal and the shared order keep the time that was
taken instead (``Settled``), and a replay takes it from there. Times that the log itself gives are never doubted.
"""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import msgspec

from streams.log.interface import Records, TopicPartition

#: 1970-04-26: an earlier append is none in milliseconds.
APPEND_MS_MIN: Final = 10_000_000_000
#: How far a producer's clock may be ahead of this machine's.
AHEAD_MS_MAX: Final = 300_000


class Settled(NamedTuple):
    """The time that stands for a record's append time."""

    partition: TopicPartition
    offset: int
    time_ms: int


def doubted(offsets: Sequence[int], claimed_ms: Sequence[int], now_ms: int) -> frozenset[int]:
    """The offsets of the records whose claimed append times cannot be true at ``now_ms``."""
    return frozenset(
        offset
        for offset, time_ms in zip(offsets, claimed_ms, strict=True)
        if not APPEND_MS_MIN <= time_ms <= now_ms + AHEAD_MS_MAX
    )


def settle(runs: Sequence[Records], now_ms: int) -> Sequence[Records]:
    """The runs with ``now_ms`` in place of doubted times; ``doubted`` still says which times were replaced."""
    if not any(run.doubted for run in runs):
        return runs
    return [_replaced(run, dict.fromkeys(run.doubted, now_ms)) if run.doubted else run for run in runs]


def settled_of(piece: Iterable[Records]) -> tuple[Settled, ...]:
    """The times that were taken in place of doubted ones in a piece."""
    return tuple(
        Settled(TopicPartition(run.topic, run.partition), offset, time_ms)
        for run in piece
        if run.doubted
        for offset, time_ms in zip(run.offsets, run.append_ms, strict=True)
        if offset in run.doubted
    )


def settled_again(run: Records, settled: Iterable[Settled]) -> Records:
    """A run as it was when its piece was made: with exactly the times that were taken then."""
    where = TopicPartition(run.topic, run.partition)
    times_ms = {known.offset: known.time_ms for known in settled if known.partition == where}
    return _replaced(run, times_ms) if times_ms or run.doubted else run


def _replaced(run: Records, times_ms: dict[int, int]) -> Records:
    append_ms = [times_ms.get(offset, time_ms) for offset, time_ms in zip(run.offsets, run.append_ms, strict=True)]
    return msgspec.structs.replace(run, append_ms=append_ms, doubted=frozenset(times_ms))
