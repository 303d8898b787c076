"""Merging partitions by append time: what lets a tail that catches up read all topics at the same pace.

A Kafka fetch brings about the same number of bytes of every partition. After an outage that would mean hours of a
quiet topic beside minutes of a busy one, and event time would jump ahead of most events. So runs are buffered, and
released only up to the time that every partition with more to come has reached. Pure: no clock, no I/O.
"""

from collections import deque
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from streams.log.interface import Records, TopicPartition

#: What a record costs beside its bytes: objects of value, key, offset and time, their places in lists (measured: 184).
_RECORD_BYTES = 184


class _Chunk:
    """A buffered run, its times made non-decreasing (producers' clocks may disagree), and how far it was released."""

    __slots__ = ("first", "run", "times")

    def __init__(self, run: Records, times: NDArray[np.int64]) -> None:
        self.run = run
        self.times = times
        self.first = 0


class TimeMerge:
    """Buffers of several partitions, released in order of append time; offset order within a partition always.

    One release is cut into one run a partition (in order of their first times), so the order between partitions is
    exact between releases and by partition within one.
    """

    def __init__(self, partitions: Collection[TopicPartition]) -> None:
        self._chunks: dict[TopicPartition, deque[_Chunk]] = {}
        self._bytes: dict[TopicPartition, int] = {}
        self._newest_ms: dict[TopicPartition, int] = {}
        for partition in partitions:
            self.add(partition)

    def add(self, partition: TopicPartition) -> None:
        """Merge one more partition from now on."""
        self._chunks[partition] = deque()
        self._bytes[partition] = 0
        self._newest_ms[partition] = -(1 << 62)

    def push(self, run: Records) -> None:
        """Buffer a run that follows what was buffered of its partition."""
        partition = TopicPartition(run.topic, run.partition)
        times = np.array(run.append_ms, np.int64)
        times[0] = max(int(times[0]), self._newest_ms[partition])
        np.maximum.accumulate(times, out=times)
        self._newest_ms[partition] = int(times[-1])
        self._bytes[partition] += held_bytes(run)
        self._chunks[partition].append(_Chunk(run, times))

    def bytes(self, partition: TopicPartition) -> int:
        """Memory that what is buffered of a partition takes, in bytes."""
        return self._bytes[partition]

    def empty(self, partition: TopicPartition) -> bool:
        """Whether nothing of a partition is buffered."""
        return not self._chunks[partition]

    def release(self, records_max: int, behind: Collection[TopicPartition]) -> list[Records]:
        """The next runs, at most ``records_max`` records.

        ``behind``: partitions whose next record exists but is not buffered yet (it comes after what is buffered of
        them). Nothing later than the newest buffered record of any of them is released; nothing at all while one
        of them has nothing buffered.
        """
        limit = min((self._newest_ms[p] for p in behind), default=None)
        if any(not self._chunks[p] for p in behind):
            return []
        heads = {p: self._times_until(chunks, limit, records_max) for p, chunks in self._chunks.items() if chunks}
        counts = _cut({p: times for p, times in heads.items() if times.size}, records_max)
        order = sorted(counts, key=lambda p: (int(heads[p][0]), p))
        return [run for p in order for run in self._take(p, counts[p])]

    @staticmethod
    def _times_until(chunks: deque[_Chunk], limit: int | None, records_max: int) -> NDArray[np.int64]:
        """Times of the first records of a partition, at most ``records_max`` and none after ``limit``."""
        parts, size = [], 0
        for chunk in chunks:
            part = chunk.times[chunk.first : chunk.first + records_max - size]
            parts.append(part)
            size += part.size
            if size >= records_max:
                break
        times = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return times if limit is None else times[: np.searchsorted(times, limit, side="right")]

    def _take(self, partition: TopicPartition, count: int) -> list[Records]:
        chunks = self._chunks[partition]
        taken = []
        while count > 0:
            chunk = chunks[0]
            first, last = chunk.first, min(chunk.first + count, len(chunk.run.offsets))
            whole = first == 0 and last == len(chunk.run.offsets)
            run = chunk.run if whole else slice_records(chunk.run, first, last)
            chunk.first = last
            count -= last - first
            if last == len(chunk.run.offsets):
                chunks.popleft()
            self._bytes[partition] -= held_bytes(run)
            taken.append(run)
        return taken


def _cut(heads: Mapping[TopicPartition, NDArray[np.int64]], records_max: int) -> dict[TopicPartition, int]:
    """How many records of each partition are among the ``records_max`` earliest."""
    if sum(times.size for times in heads.values()) <= records_max:
        return {p: times.size for p, times in heads.items()}
    last_ms = np.partition(np.concatenate(list(heads.values())), records_max - 1)[records_max - 1]
    counts = {p: int(np.searchsorted(times, last_ms, side="left")) for p, times in heads.items()}
    room = records_max - sum(counts.values())
    for p, times in heads.items():  # of the last millisecond as much as there is room for
        more = min(room, int(np.searchsorted(times, last_ms, side="right")) - counts[p])
        counts[p] += more
        room -= more
    return {p: count for p, count in counts.items() if count}


def held_bytes(run: Records) -> int:
    """The memory that a run takes, in bytes: values, keys, and what every record costs beside them."""
    return sum(map(len, run.values)) + sum(map(len, run.keys)) + _RECORD_BYTES * len(run.values)


def slice_records(run: Records, first: int, last: int) -> Records:
    """Records ``first`` (inclusive) to ``last`` (exclusive) of a run."""
    columns: Sequence[Sequence[object]] = (run.offsets, run.append_ms, run.formats, run.keys, run.values)
    return Records(run.topic, run.partition, *[column[first:last] for column in columns])  # type: ignore[arg-type]
