"""An event log in memory that fails like real logs: late, lost or doubled answers, absences, reads that return little.

``Broker`` holds the partitions and outlives a crash of the engine. ``MemoryLog`` is one client's handle on it, an
``EventLog`` like the others (it passes their contract tests). ``LogFaults`` decides what fails. Each tail interleaves
partitions anew, as Kafka's reads do, so only the journal knows the order that a first run saw.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from streams.events.json_types import APPLIED_TOPICS
from streams.log.interface import (
    EventLog,
    Format,
    LogError,
    LogIdentity,
    LogUnavailableError,
    NewRecord,
    OffsetOutOfRangeError,
    Records,
    Tail,
    TopicPartition,
)
from streams.log.placement import check_sizes, place


class Stored(NamedTuple):
    """A record as the broker stores it."""

    offset: int
    append_ms: int
    format: Format
    key: bytes
    value: bytes


class Partition:
    """Records by offset, with gaps where offsets were skipped. ``removed`` keeps the records that retention took, for
    the checks."""

    def __init__(self) -> None:
        self.records: list[Stored] = []
        self.removed: list[Stored] = []
        self.start = 0
        self.end = 0

    def append(self, record: NewRecord, append_ms: int, skip: int) -> int:
        """Store a record after ``skip`` unused offsets; returns its offset. The log's time never goes back."""
        offset = self.end + skip
        append_ms = max(append_ms, self.records[-1].append_ms) if self.records else append_ms
        self.records.append(Stored(offset, append_ms, record.format, record.key, record.value))
        self.end = offset + 1
        return offset

    def index(self, offset: int) -> int:
        """Index in ``records`` of the first record at or after the offset."""
        low, high = 0, len(self.records)
        while low < high:
            middle = (low + high) // 2
            if self.records[middle].offset < offset:
                low = middle + 1
            else:
                high = middle
        return low

    def remove(self, count: int) -> None:
        """Remove the first ``count`` records."""
        if count:
            self.removed += self.records[:count]
            self.records = self.records[count:]
            self.start = self.removed[-1].offset + 1


class Broker:
    """The partitions, by full topic name, and the tails to wake. ``time_ms`` stamps the appends."""

    def __init__(self, time_ms: Callable[[], int]) -> None:
        self.time_ms = time_ms
        self.topics: dict[str, list[Partition]] = {}
        self.bells: list[asyncio.Event] = []
        #: Whether retention has taken records that the engine still needed.
        self.careless = False

    def create_topics(self, partitions: Mapping[str, int]) -> None:
        """Create the topics (full names) that do not exist yet."""
        for topic, count in partitions.items():
            self.topics.setdefault(topic, [Partition() for _ in range(count)])

    def applied_partitions(self) -> list[tuple[str, int, Partition]]:
        """Topic, number and records of every partition that makes the state."""
        return [(topic, n, p) for topic in APPLIED_TOPICS for n, p in enumerate(self.topics.get(topic, []))]

    def removed_any(self) -> bool:
        """Whether retention has taken any record."""
        return any(partition.removed for partitions in self.topics.values() for partition in partitions)

    def ring(self) -> None:
        """Wake every waiting tail."""
        for bell in self.bells:
            bell.set()

    def add_partition(self, topic: str) -> None:
        """Add a partition to a topic (full name), as an operator does."""
        self.topics[topic].append(Partition())
        self.ring()


class LogFaults(Protocol):
    """The faults between a client and the broker. ``NoFaults`` has none."""

    async def reach(self, what: str) -> None:
        """Called before each request; may wait.

        Raises:
            LogUnavailableError: the request never arrived.
        """

    async def answer(self, what: str) -> None:
        """Called after a request was carried out, before the client gets the answer; may wait.

        Raises:
            LogUnavailableError: the answer was lost.
        """

    def written(self, partitions: Sequence[int]) -> Sequence[int]:
        """Which of an append's partitions are written; if any is left out, the append is not acknowledged."""

    def skipped(self) -> int:
        """How many offsets stay unused before the next record."""

    def poll_order(self, partitions: Sequence[TopicPartition], available: Sequence[int]) -> list[tuple[int, int]]:
        """(index of a partition, number of records) in the order in which to take them; at least one record in all."""


class NoFaults:
    """Nothing fails and nothing waits; runs come partition by partition."""

    async def reach(self, what: str) -> None:
        pass

    async def answer(self, what: str) -> None:
        pass

    def written(self, partitions: Sequence[int]) -> Sequence[int]:
        return partitions

    def skipped(self) -> int:
        return 0

    def poll_order(self, partitions: Sequence[TopicPartition], available: Sequence[int]) -> list[tuple[int, int]]:
        return list(enumerate(available))


class MemoryLog(EventLog):
    """One client of a broker."""

    def __init__(
        self, broker: Broker, faults: LogFaults, *, topic_prefix: str = "", record_bytes_max: int = 1_000_000
    ) -> None:
        self._broker, self._faults = broker, faults
        self._prefix = topic_prefix
        self._record_bytes_max = record_bytes_max
        self._opened = False
        self._keyless = 0
        self._tails: list[MemoryTail] = []

    async def open(self) -> None:
        await self._faults.reach("open")
        self._opened = True

    async def close(self) -> None:
        self._opened = False
        for tail in list(self._tails):
            await tail.close()

    async def identity(self) -> LogIdentity:
        return LogIdentity("memory", {})

    async def ensure_topics(self, partitions: Mapping[str, int]) -> None:
        await self.ask("create topics")
        self._broker.create_topics({self._prefix + topic: count for topic, count in partitions.items()})

    async def partitions(self, topic: str) -> int:
        await self.ask("partitions")
        return len(self.topic(topic))

    async def append(self, topic: str, records: Sequence[NewRecord]) -> list[tuple[int, int]]:
        self.check_open()
        check_sizes(records, self._record_bytes_max)
        if not records:
            return []
        await self.ask("append")
        partitions = self.topic(topic)
        self._keyless += 1
        placed = place(records, len(partitions), self._keyless)
        reached = sorted(set(placed))
        written = self._faults.written(reached)
        offsets = []
        for number, record in zip(placed, records, strict=True):
            if number in written:
                offset = partitions[number].append(record, self._broker.time_ms(), self._faults.skipped())
                offsets.append((number, offset))
        self._broker.ring()
        if len(written) < len(reached):
            raise LogUnavailableError("the append was acknowledged by some partitions only")
        await self._faults.answer("append")
        self.check_open()
        return offsets

    async def tail(self, positions: Mapping[TopicPartition, int], *, follow_new: bool = False) -> Tail:
        await self.ask("tail")
        for topic, partition in positions:
            if partition >= len(self.topic(topic)):
                raise LogError(f"topic {topic!r} has no partition {partition}")
        tail = MemoryTail(self, self._broker, self._faults, positions, follow_new=follow_new)
        self._tails.append(tail)
        return tail

    async def start_offsets(self, topic: str) -> dict[int, int]:
        await self.ask("start offsets")
        return {number: partition.start for number, partition in enumerate(self.topic(topic))}

    async def end_offsets(self, topic: str) -> dict[int, int]:
        await self.ask("end offsets")
        return {number: partition.end for number, partition in enumerate(self.topic(topic))}

    async def offsets_for_time(self, topic: str, time_ms: int) -> dict[int, int]:
        await self.ask("offsets for time")
        return {
            number: next((r.offset for r in partition.records if r.append_ms >= time_ms), partition.end)
            for number, partition in enumerate(self.topic(topic))
        }

    async def apply_retention(self, topic: str, *, before_ms: int) -> dict[int, int]:
        await self.ask("retention")
        for partition in self.topic(topic):
            partition.remove(sum(record.append_ms < before_ms for record in partition.records))
        return {number: partition.start for number, partition in enumerate(self.topic(topic))}

    # What a tail needs

    def check_open(self) -> None:
        """Raise LogUnavailableError if the handle is closed."""
        if not self._opened:
            raise LogUnavailableError("the log is not open")

    async def ask(self, what: str) -> None:
        """Reach the broker; raises LogUnavailableError if the faults say so."""
        self.check_open()
        await self._faults.reach(what)
        self.check_open()

    def topic(self, name: str) -> list[Partition]:
        """The topic's partitions."""
        partitions = self._broker.topics.get(self._prefix + name)
        if partitions is None:
            raise LogError(f"no topic {self._prefix + name!r}")
        return partitions

    def forget(self, tail: "MemoryTail") -> None:
        """Note that a tail was closed."""
        if tail in self._tails:
            self._tails.remove(tail)


class MemoryTail(Tail):
    """Follows partitions in the order that the faults draw."""

    def __init__(
        self,
        log: MemoryLog,
        broker: Broker,
        faults: LogFaults,
        positions: Mapping[TopicPartition, int],
        *,
        follow_new: bool,
    ) -> None:
        self._log, self._broker, self._faults = log, broker, faults
        self._positions = dict(positions)
        self._followed = list(dict.fromkeys(topic for topic, _ in positions)) if follow_new else []
        self._follow()
        self._bell = asyncio.Event()
        self._closed = False
        broker.bells.append(self._bell)

    @property
    def positions(self) -> Mapping[TopicPartition, int]:
        return self._positions

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._broker.bells.remove(self._bell)
            self._log.forget(self)
            self._bell.set()

    async def poll(self, *, records_max: int, timeout_s: float) -> list[Records]:
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + timeout_s
        while True:
            if self._closed:
                raise LogUnavailableError("the tail is closed")
            self._bell.clear()
            await self._log.ask("poll")
            # State changes only after the last wait: a cancelled poll loses nothing.
            runs = self._take(records_max)
            if runs or loop.time() >= deadline_s:
                return runs
            try:
                async with asyncio.timeout_at(deadline_s):
                    await self._bell.wait()
            except TimeoutError:
                continue

    def _follow(self) -> None:
        """Add partitions that were created since."""
        for topic in self._followed:
            for number in range(len(self._log.topic(topic))):
                self._positions.setdefault(TopicPartition(topic, number), 0)

    def _take(self, records_max: int) -> list[Records]:
        self._follow()
        ready: list[tuple[TopicPartition, Partition]] = []
        for where, position in self._positions.items():
            partition = self._log.topic(where.topic)[where.partition]
            if not partition.start <= position <= partition.end:
                raise OffsetOutOfRangeError(where, position, partition.start)
            if position < partition.end:
                ready.append((where, partition))
        if not ready:
            return []
        available = [len(partition.records) - partition.index(self._positions[where]) for where, partition in ready]
        runs = []
        for number, count in self._faults.poll_order([where for where, _ in ready], available):
            where, partition = ready[number]
            first = partition.index(self._positions[where])
            records = partition.records[first : first + min(count, records_max)]
            if not records:
                continue
            records_max -= len(records)
            self._positions[where] = records[-1].offset + 1
            offsets, append_ms, formats, keys, values = map(list, zip(*records, strict=True))
            runs.append(Records(where.topic, where.partition, offsets, append_ms, formats, keys, values))
        return runs
