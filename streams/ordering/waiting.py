"""Records that were read before their turn, by partition."""

from collections import deque
from collections.abc import Sequence

from engine.errors import MurmurationError
from streams.durable.journal import Run
from streams.log.interface import Records, TopicPartition
from streams.log.merge import held_bytes, slice_records
from streams.ordering.pieces import join


class ReplayError(MurmurationError):
    """The log does not return the records that are to be applied next."""

    code = "replay_failed"


class Waiting:
    """Keeps runs as a tail returned them, until they are taken to be applied. Pure: no clock, no I/O."""

    def __init__(self) -> None:
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

    def reaches(self, partition: TopicPartition, last: int) -> bool:
        """Whether the record at offset ``last``, or a later one, has arrived."""
        runs = self._runs.get(partition)
        return bool(runs) and runs[-1][1].offsets[-1] >= last  # type: ignore[index]

    def take(self, partition: TopicPartition, last: int, count: int) -> Records:
        """Remove and return the partition's records up to offset ``last`` as one run; ``reaches`` must be true.

        Raises:
            ReplayError: there are not exactly ``count`` such records, or ``last`` is not among them.
        """
        runs, taken = self._runs[partition], []
        while runs and runs[0][1].offsets[0] <= last:
            arrived, run = runs.popleft()
            if run.offsets[-1] > last:
                size = next(i for i, offset in enumerate(run.offsets) if offset > last)
                runs.appendleft((arrived, slice_records(run, size, len(run.offsets))))
                run = slice_records(run, 0, size)
            taken.append(run)
        found = sum(len(run.offsets) for run in taken)
        self.bytes -= sum(map(held_bytes, taken))
        if found != count or taken[-1].offsets[-1] != last:
            raise ReplayError(
                f"{partition.topic}/{partition.partition}: {count} records up to offset {last} are to be applied, "
                f"the log now has {found}"
            )
        return join(taken)

    def missing(self, runs: Sequence[Run]) -> list[Run]:
        """Those of ``runs`` whose last record has not arrived."""
        return [run for run in runs if not self.reaches(run.partition, run.last)]


def _arrival(part: tuple[int, Records]) -> int:
    return part[0]
