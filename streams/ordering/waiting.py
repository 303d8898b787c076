"""Records that were read before their turn, by partition."""

from collections import deque
from collections.abc import Collection, Mapping, Sequence

from engine.errors import MurmurationError
from streams.durable.journal import Run
from streams.log.interface import Records, TopicPartition
from streams.log.merge import held_bytes, slice_records
from streams.ordering.pieces import join


class ReplayError(MurmurationError):
    """The log does not return the records that are to be applied next."""

    code = "replay_failed"


class Waiting:
    """Keeps runs as a tail returned them, until they are taken to be applied. Pure: no clock, no I/O.

    ``compacted``: topics from which the log may have removed records that are to be applied.
    """

    def __init__(self, compacted: Collection[str] = ()) -> None:
        self._compacted = compacted
        self._read_to: Mapping[TopicPartition, int] = {}
        #: Each run with its arrival number.
        self._runs: dict[TopicPartition, deque[tuple[int, Records]]] = {}
        self._arrived = 0
        self.bytes = 0

    def add(self, runs: Sequence[Records]) -> None:
        """Add runs; each must follow the runs already added of its partition."""
        for run in runs:
            self._runs.setdefault(TopicPartition(run.topic, run.partition), deque()).append((self._arrived, run))
            self._arrived += 1
            self.bytes += held_bytes(run)

    def __bool__(self) -> bool:
        return self.bytes > 0

    def of(self, partition: TopicPartition) -> bool:
        """Whether any record of a partition waits."""
        return bool(self._runs.get(partition))

    def all(self) -> list[Records]:
        """All waiting runs, in the order of arrival."""
        return [run for _, run in sorted((part for runs in self._runs.values() for part in runs), key=_arrival)]

    def clear(self) -> None:
        """Forget everything."""
        self._runs.clear()
        self.bytes = 0

    def read_to(self, positions: Mapping[TopicPartition, int]) -> None:
        """Note the tail's positions: what lies before them and has not arrived is not in the log."""
        self._read_to = positions

    def reaches(self, partition: TopicPartition, last: int) -> bool:
        """Whether the record at offset ``last``, or a later one, has arrived, or will not."""
        runs = self._runs.get(partition)
        arrived = bool(runs) and runs[-1][1].offsets[-1] >= last  # type: ignore[index]
        return arrived or (partition.topic in self._compacted and self._read_to.get(partition, 0) > last)

    def take(self, partition: TopicPartition, last: int, count: int, first: int | None = None) -> Records | None:
        """Remove and return the partition's records up to offset ``last`` as one run; ``reaches`` must be true.

        None: a compacted topic has none of them any more.

        Raises:
            ReplayError: these are not exactly ``count`` records, the last at offset ``last`` and, if it is given, the
                first at ``first`` (of a compacted topic: more records, or earlier ones).
        """
        runs, taken = self._runs.get(partition, deque()), []
        while runs and runs[0][1].offsets[0] <= last:
            arrived, run = runs.popleft()
            if run.offsets[-1] > last:
                size = next(i for i, offset in enumerate(run.offsets) if offset > last)
                runs.appendleft((arrived, slice_records(run, size, len(run.offsets))))
                run = slice_records(run, 0, size)
            taken.append(run)
        found = sum(len(run.offsets) for run in taken)
        self.bytes -= sum(map(held_bytes, taken))
        if partition.topic in self._compacted:
            if not taken:
                return None
            whole = found <= count and (first is None or taken[0].offsets[0] >= first)
        else:
            whole = found == count and taken[-1].offsets[-1] == last and first in (None, taken[0].offsets[0])
        if not whole:
            begins = "" if first is None else f"from offset {first} "
            begins_now = f", the first at {taken[0].offsets[0]}" if taken else ""
            raise ReplayError(
                f"{partition.topic}/{partition.partition}: {count} records {begins}up to offset {last} are to be "
                f"applied, the log now has {found}{begins_now}"
            )
        return join(taken)

    def missing(self, runs: Sequence[Run]) -> list[Run]:
        """Those of ``runs`` whose last record has not arrived."""
        return [run for run in runs if not self.reaches(run.partition, run.last)]


def _arrival(part: tuple[int, Records]) -> int:
    return part[0]
