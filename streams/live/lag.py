"""How far the state is behind the log: in records, and by the age of the oldest record that is not applied."""

from collections import deque
from collections.abc import Mapping
from typing import Final, NamedTuple

from streams.log.interface import TopicPartition

#: Readings of a partition's end are kept at this interval at first; if there are more than ``_READINGS_MAX``, every
#: second one is forgotten.
_READINGS_MAX: Final = 256
#: A transaction that holds back records for this long is named.
HELD_S: Final = 5.0


class Held(NamedTuple):
    """An open transaction that holds back the records from ``offset`` to ``end`` of a partition since ``since_s``."""

    where: TopicPartition
    offset: int
    end: int
    since_s: float

    def line(self, now_s: float) -> str:
        """One line for the operator."""
        return (
            f"an open transaction holds back {self.end - self.offset} records of {self.where.topic}/"
            f"{self.where.partition} from offset {self.offset} on, for {now_s - self.since_s:.0f} s now: its producer "
            "has to commit or abort it (kafka-transactions.sh finds and ends it)"
        )


class Arrivals:
    """When the records of one partition arrived.

    The partition's end is looked at again and again: a record arrived between the last look that did not have it and
    the first that did. Of records that were there at the first look, their own append times count, once they were read.
    (What a producer claims as append time may be anything, so looks come first.)
    """

    def __init__(self) -> None:
        self._ends: deque[tuple[int, float]] = deque()
        self._read: deque[tuple[int, float]] = deque()
        self._first_end: int | None = None

    def see_end(self, end: int, now_s: float) -> None:
        """Note that the partition ends at ``end`` now."""
        if self._ends and end <= self._ends[-1][0]:
            return
        if self._first_end is None:
            self._first_end = end
        self._ends.append((end, now_s))
        if len(self._ends) > _READINGS_MAX:
            last = len(self._ends) - 1
            self._ends = deque(reading for i, reading in enumerate(self._ends) if i % 2 == 0 or i == last)

    def note(self, last: int, append_s: float) -> None:
        """Note records up to offset ``last`` that were read; the first of them was appended at ``append_s``."""
        if len(self._read) < _READINGS_MAX:
            self._read.append((last, append_s))
        else:
            self._read[-1] = (last, self._read[-1][1])

    def oldest_s(self, position: int) -> float | None:
        """When the record at ``position``, which is the next one to be applied, was appended; None: not known."""
        while self._read and self._read[0][0] < position:
            self._read.popleft()
        while self._ends and self._ends[0][0] <= position:
            self._ends.popleft()
        was_there = not self._ends or self._ends[0][0] == self._first_end
        if self._read and was_there:
            return self._read[0][1]
        return self._ends[0][1] if self._ends else None


class Transactions:
    """Which partitions are held back by open transactions, and since when."""

    def __init__(self) -> None:
        self._since: dict[TopicPartition, tuple[int, float]] = {}

    def see(self, readable: Mapping[TopicPartition, int], now_s: float, written: Mapping[TopicPartition, int]) -> None:
        """Note the ends of partitions: up to where records can be read, and up to where they are written."""
        for where, end in written.items():
            offset = readable.get(where, end)
            if offset >= end:
                self._since.pop(where, None)
            elif self._since.get(where, (-1, 0.0))[0] != offset:
                self._since[where] = (offset, now_s)

    def held(self, now_s: float, written: Mapping[TopicPartition, int]) -> Held | None:
        """The partition that is held back for longest, if that is long enough to be named."""
        where = min(self._since, key=lambda where: self._since[where][1], default=None)
        if where is None or now_s - self._since[where][1] < HELD_S:
            return None
        offset, since_s = self._since[where]
        return Held(where, offset, written[where], since_s)
