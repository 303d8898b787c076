"""Merging partitions by append time, so that a tail that catches up reads all topics at the same pace.

A Kafka fetch brings about the same number of bytes of every partition. After an outage, those bytes are hours of a
quiet topic but only minutes of a busy one, and event time would jump ahead of most events. So runs are buffered here,
and released only up to the append time that every partition with more records has reached. Pure: no clock, no I/O.
"""

from collections import deque
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from streams.log.interface import Records, TopicPartition

#: Bytes that a record costs beside its key and value: Python objects and their places in lists (measured: 184).
_RECORD_BYTES = 184
#: Earlier than every time.
_NO_TIME = -(1 << 62)


class _Chunk:
    """A buffered run, released up to index ``first``. Times that go back (producers' clocks differ) are raised."""

    __slots__ = ("first", "run", "times")

    def __init__(self, run: Records, times: NDArray[np.int64]) -> None:
        self.run = run
        self.times = times
        self.first = 0


class TimeMerge:
    """Buffers of several partitions, released in order of append time. A partition always keeps its order of offsets.

    One release has one run per partition, in order of the runs' first times. So the order between partitions is exact
    between two releases, but not within one.
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
        self._newest_ms[partition] = _NO_TIME

    def push(self, run: Records) -> None:
        """Buffer a run that follows what was buffered of its partition."""
        partition = TopicPartition(run.topic, run.partition)
        times = np.array(run.append_ms, np.int64)
        if run.doubted:  # such a record is released with the one before it
            times[[offset in run.doubted for offset in run.offsets]] = _NO_TIME
        times[0] = max(int(times[0]), self._newest_ms[partition])
        np.maximum.accumulate(times, out=times)
        self._newest_ms[partition] = int(times[-1])
        self._bytes[partition] += held_bytes(run)
        self._chunks[partition].append(_Chunk(run, times))

    def bytes(self, partition: TopicPartition) -> int:
        """Memory that the buffered records of a partition take, in bytes."""
        return self._bytes[partition]

    def empty(self, partition: TopicPartition) -> bool:
        """Whether no record of a partition is buffered."""
        return not self._chunks[partition]

    @property
    def all_empty(self) -> bool:
        """Whether no record is buffered."""
        return not any(self._chunks.values())

    def release(self, records_max: int, behind: Collection[TopicPartition]) -> list[Records]:
        """The next runs, at most ``records_max`` records.

        ``behind``: partitions that have records in the log after those that are buffered. No record is released whose
        time is later than that of the newest buffered record of each of these partitions. If one of them has no record
        buffered, nothing is released.
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
    for p, times in heads.items():  # records of the last millisecond, until ``records_max`` is reached
        more = min(room, int(np.searchsorted(times, last_ms, side="right")) - counts[p])
        counts[p] += more
        room -= more
    return {p: count for p, count in counts.items() if count}


def time_order(runs: Sequence[Records], append_ms: NDArray[np.int64] | None = None) -> NDArray[np.int64] | None:
    """All records of the runs in the order of their append times: int64, indices over all runs; None: as they stand.

    A partition always keeps its order of offsets: a time that goes back counts as the greatest before it. Records of
    equal times stay in the order of the runs. ``append_ms``: the times of all records, where the caller has them.
    """
    if len(runs) < 2:
        return None
    if append_ms is None:
        append_ms = np.concatenate([np.array(run.append_ms, np.int64) for run in runs])
    keys = append_ms.copy()
    newest_ms: dict[TopicPartition, int] = {}
    start = 0
    for run in runs:
        partition = TopicPartition(run.topic, run.partition)
        times = keys[start : start + len(run.offsets)]
        times[0] = max(int(times[0]), newest_ms.get(partition, int(times[0])))
        np.maximum.accumulate(times, out=times)
        newest_ms[partition] = int(times[-1])
        start += len(run.offsets)
    return np.argsort(keys, kind="stable") if (keys[1:] < keys[:-1]).any() else None


def held_bytes(run: Records) -> int:
    """The memory that a run takes, in bytes: values, keys, and the fixed cost per record."""
    return sum(map(len, run.values)) + sum(map(len, run.keys)) + _RECORD_BYTES * len(run.values)


def slice_records(run: Records, first: int, last: int) -> Records:
    """Records ``first`` (inclusive) to ``last`` (exclusive) of a run."""
    return Records(
        run.topic,
        run.partition,
        run.offsets[first:last],
        run.append_ms[first:last],
        run.formats[first:last],
        run.keys[first:last],
        run.values[first:last],
        run.doubted,
    )
