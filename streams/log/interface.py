"""EventLog: topics, partitions, offsets. One small interface, two backends (sqlite, kafka).

The log is the truth (docs/architecture.md, invariant 1): a record that was acknowledged stays until retention removes
it, and each partition has one order. Both backends pass tests/streams/log/test_contract.py.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from enum import IntEnum
from types import TracebackType
from typing import NamedTuple, Self

import msgspec

from engine.errors import MurmurationError


class Format(IntEnum):
    """How a record's value is encoded; carried as a content-type header on Kafka, a column in SQLite."""

    JSON = 0
    PACKED = 1


#: Content types by format, the value of the header ``content-type``; absent means JSON.
CONTENT_TYPES = {Format.JSON: b"application/json", Format.PACKED: b"application/vnd.murmuration.packed"}


class TopicPartition(NamedTuple):
    """A partition of a topic."""

    topic: str
    partition: int


class NewRecord(msgspec.Struct, frozen=True, gc=False):
    """A record to append. Where ``partition`` is None the key chooses it (same key, same partition).

    An empty value is null: on Kafka it is written as null, a tombstone of compaction, and a null is read as empty.
    """

    value: bytes
    key: bytes = b""
    format: Format = Format.JSON
    partition: int | None = None


class Records(msgspec.Struct, frozen=True):
    """Records read from one partition, in offset order, as parallel lists (offsets may have gaps).

    ``append_ms`` is the log's own time of the append (ms since the epoch), not the event's. ``doubted`` has the offsets
    of records whose time a producer claimed and that cannot be true (``record_times``); it may have offsets of other
    records of the partition, too.
    """

    topic: str
    partition: int
    offsets: list[int]
    append_ms: list[int]
    formats: list[Format]
    keys: list[bytes]
    values: list[bytes]
    doubted: frozenset[int] = frozenset()


class LogError(MurmurationError):
    """The log cannot do what was asked."""

    code = "log_error"


class LogUnavailableError(LogError):
    """The log cannot be reached or written at present (broker away, file missing or read-only); may pass."""

    code = "log_unavailable"


class LogForbiddenError(LogUnavailableError):
    """The log knows who asks, and does not let them; may pass, when somebody gives the right. The message names it."""


class RecordTooLargeError(LogError):
    """A record is larger than the log's limit; no record of the append was written."""

    code = "record_too_large"


class OffsetOutOfRangeError(LogError):
    """A tail's position is no longer (or not yet) in the log. ``earliest`` is the partition's first offset."""

    code = "offset_out_of_range"

    def __init__(self, partition: TopicPartition, position: int, earliest: int) -> None:
        super().__init__(
            f"{partition.topic}/{partition.partition}: offset {position} is not in the log, which starts at {earliest}"
        )
        self.partition = partition
        self.position = position
        self.earliest = earliest


class TopicMadeAgainError(LogError):
    """A topic was deleted and made again since it was first read: its offsets mean other records now."""

    code = "topic_made_again"

    def __init__(self, topic: str, where: str) -> None:
        super().__init__(
            f"topic {topic!r} at {where} was deleted and made again; nothing more is read: start with "
            "serve --accept-gap, which keeps the state and reads the new topic from its first record"
        )
        self.topic = topic


class LogIdentity(NamedTuple):
    """The log's name, and the ids of those topics that have one. A topic that is made again has a new id."""

    log: str
    topics: dict[str, str]


class Tail(ABC):
    """A reader that follows partitions from given offsets on. Used by one task at a time."""

    @abstractmethod
    async def poll(self, *, records_max: int, timeout_s: float) -> list[Records]:
        """The next records, at most ``records_max`` in all; an empty list if none arrives within ``timeout_s``.

        Waiting does not poll in a loop. The runs are to be applied in the order in which they are returned; one
        partition may come in several runs.

        Raises:
            OffsetOutOfRangeError: retention has removed records before they were read.
            TopicMadeAgainError: a topic is not the one any more that was followed.
            LogUnavailableError: the log went away; a later poll goes on from the same positions.
        """

    @property
    @abstractmethod
    def positions(self) -> Mapping[TopicPartition, int]:
        """The next offset to be read, by partition."""

    @abstractmethod
    async def close(self) -> None:
        """Release the reader's resources; idempotent."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class EventLog(ABC):
    """A durable, partitioned, ordered log of byte records. Used from one event loop."""

    @abstractmethod
    async def open(self) -> None:
        """Connect or open.

        Raises:
            LogUnavailableError: cannot be reached, read or created; the message says what to do.
        """

    @abstractmethod
    async def close(self) -> None:
        """Flush and release; idempotent."""

    @abstractmethod
    async def identity(self) -> "LogIdentity":
        """Which log this is. The identity stays the same when the log moves or is reached at another address.

        Raises:
            LogUnavailableError: the log cannot be reached.
        """

    @abstractmethod
    async def ensure_topics(self, partitions: Mapping[str, int]) -> None:
        """Create the topics that do not exist yet, with these numbers of partitions. Leave existing ones alone."""

    @abstractmethod
    async def partitions(self, topic: str) -> int:
        """How many partitions the topic has.

        Raises:
            LogError: no such topic.
        """

    async def check_readable(self, topics: Sequence[str]) -> None:
        """Find out before reading whether it is allowed.

        Raises:
            LogForbiddenError: a topic may not be read.
            LogUnavailableError: the log cannot be reached.
        """
        return

    async def compacted(self, topics: Sequence[str]) -> frozenset[str]:
        """Those of the topics from which the log removes records whose key has a newer one."""
        return frozenset()

    @abstractmethod
    async def append(self, topic: str, records: Sequence[NewRecord]) -> list[tuple[int, int]]:
        """Append, wait for the acknowledgement, and return (partition, offset) of each record, in the order given.

        Records of one partition keep their order. Many tasks may call this at once; their calls are grouped.

        Raises:
            RecordTooLargeError: a record is too large; nothing was written.
            LogUnavailableError: not acknowledged. Whether the records were written is unknown (consumers deduplicate by
                id).
        """

    def append_problem(self) -> str | None:
        """Why the log takes no records at present; None while it takes them, or where this is not known.

        Never waits, and may be called several times a second. A log that is not appended to finds out by itself.
        """
        return None

    @abstractmethod
    async def tail(self, positions: Mapping[TopicPartition, int], *, follow_new: bool = False) -> Tail:
        """Follow these partitions from these offsets (the next record to read).

        ``follow_new``: also follow every other partition of their topics, both those that exist and those that are
        added later, each from its first record, offset 0. So positions that were saved before a partition was added
        go on without loss. If retention has removed records of an added partition before they were read, ``poll``
        raises ``OffsetOutOfRangeError`` as for any other position.

        Raises:
            LogError: no such topic or partition.
            LogUnavailableError: the log cannot be reached.
        """

    @abstractmethod
    async def start_offsets(self, topic: str) -> dict[int, int]:
        """The first offset that is still in the log, by partition; the end offset where a partition holds no record."""

    @abstractmethod
    async def end_offsets(self, topic: str) -> dict[int, int]:
        """The offset after the last record that can be read, by partition."""

    async def written_offsets(self, topic: str) -> dict[int, int]:
        """The offset after the last record, by partition, whether it can be read or not.

        A record cannot be read while a transaction that began before it is open.
        """
        return await self.end_offsets(topic)

    async def written_offsets_of(self, topics: Sequence[str]) -> dict[TopicPartition, int]:
        """``written_offsets`` of several topics."""
        return {
            TopicPartition(topic, partition): offset
            for topic in topics
            for partition, offset in (await self.written_offsets(topic)).items()
        }

    @abstractmethod
    async def offsets_for_time(self, topic: str, time_ms: int) -> dict[int, int]:
        """The first offset appended at or after ``time_ms`` (the end offset when there is none), by partition."""

    @abstractmethod
    async def apply_retention(self, topic: str, *, before_ms: int) -> dict[int, int]:
        """Remove records appended before ``before_ms``; returns the start offsets, by partition.

        A topic that this project did not make is left alone.

        Raises:
            LogForbiddenError: the right to do so is missing.
            LogUnavailableError: the log cannot be reached.
        """

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
