"""The records of topic ``order``, in which nodes share the order of pieces (docs/decisions/0008-shared-order.md).

A *line* is one sequence of versions from an empty state on. It begins with a genesis record. Proposals are read in the
order of the topic, and each one that fits is the line's next version. The topic may hold lines of several room
configurations.
"""

from typing import Final

import msgspec

from streams.events.json_types import APPLIED_TOPICS
from streams.log.interface import Format, NewRecord, Records, TopicPartition
from streams.log.record_times import Settled

#: The one partition of the topic.
ORDER: Final = TopicPartition("order", 0)
_LINE_CHARS = 16
_ROOMS_CHARS = 8


class ProposedRun(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """``count`` records of a partition: those from next offset ``position`` on, up to offset ``last``."""

    topic: str
    partition: int
    position: int
    last: int
    count: int

    @property
    def where(self) -> TopicPartition:
        """The partition."""
        return TopicPartition(self.topic, self.partition)


class Genesis(msgspec.Struct, tag="genesis", forbid_unknown_fields=True, omit_defaults=True, frozen=True):
    """Begins a line: the line's id (which is the history's), its first offsets, and the line it replaces ("": none).

    ``topics``: the ids of the topics that it orders, as far as they have one. If one of them has been made again, the
    line's proposals are about records that are gone.
    """

    line: str
    start: tuple[tuple[str, int, int], ...]
    replaces: str = ""
    topics: dict[str, str] = {}

    @property
    def start_positions(self) -> dict[TopicPartition, int]:
        """Next offsets at version 0."""
        return {TopicPartition(topic, partition): offset for topic, partition, offset in self.start}


class Proposal(msgspec.Struct, tag="proposal", forbid_unknown_fields=True, omit_defaults=True, frozen=True, gc=False):
    """The runs that a node wants to make the line's next version."""

    line: str
    node: int
    runs: tuple[ProposedRun, ...]
    #: The times that the node took for doubted append times: topic, partition, offset, ms each.
    times: tuple[tuple[str, int, int, int], ...] = ()

    @property
    def settled(self) -> tuple[Settled, ...]:
        """The times that stand for doubted append times."""
        return tuple(Settled(TopicPartition(topic, number), offset, ms) for topic, number, offset, ms in self.times)

    def sound(self) -> bool:
        """Whether the proposal is well formed: one run per partition, of topics that make the state."""
        return 0 < len(self.runs) == len({run.where for run in self.runs}) and all(
            run.topic in APPLIED_TOPICS
            and run.partition >= 0
            and run.position >= 0
            and 0 < run.count <= run.last - run.position + 1
            for run in self.runs
        )


_decoder: msgspec.json.Decoder[Genesis | Proposal] = msgspec.json.Decoder(Genesis | Proposal)


def line_id(rooms_hash: str, number: int) -> str:
    """The id of a line. Its first half is a hash of the rooms, so that every proposal names its rooms."""
    return rooms_hash[:_ROOMS_CHARS] + f"{number:016x}"[_ROOMS_CHARS - _LINE_CHARS :]


def of_rooms(line: str, rooms_hash: str) -> bool:
    """Whether a line belongs to these rooms."""
    return line[:_ROOMS_CHARS] == rooms_hash[:_ROOMS_CHARS]


def encode(record: Genesis | Proposal) -> NewRecord:
    """The record to append."""
    return NewRecord(value=msgspec.json.encode(record), partition=ORDER.partition)


def decode(value: bytes, format_: Format) -> Genesis | Proposal | None:
    """The genesis or proposal in a record; None if the record is neither, and every node then ignores it."""
    if format_ is not Format.JSON:
        return None
    try:
        return _decoder.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def events_only(piece: list[Records]) -> list[Records]:
    """A piece without the record of topic ``order``."""
    return [run for run in piece if run.topic != ORDER.topic]
