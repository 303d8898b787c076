"""The records of topic ``order``, in which nodes share the order of pieces (docs/decisions/0008-shared-order.md).

A *line* is one order from an empty state. It begins with a genesis; every proposal that fits, in the order of the
topic, is the line's next version. Lines of other rooms may stand in the same topic.
"""

from typing import Final

import msgspec

from streams.events.json_types import APPLIED_TOPICS
from streams.log.interface import Format, NewRecord, Records, TopicPartition

#: The one partition of the topic.
ORDER: Final = TopicPartition("order", 0)
_LINE_CHARS = 16
_ROOMS_CHARS = 8


class ProposedRun(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """``count`` records of a partition from next offset ``position`` on; the last one is at ``last``."""

    topic: str
    partition: int
    position: int
    last: int
    count: int

    @property
    def where(self) -> TopicPartition:
        """The partition."""
        return TopicPartition(self.topic, self.partition)


class Genesis(msgspec.Struct, tag="genesis", forbid_unknown_fields=True, frozen=True):
    """Begins a line: its id (the history's), where it begins to read, and the line that it replaces ("": none)."""

    line: str
    start: tuple[tuple[str, int, int], ...]
    replaces: str = ""

    @property
    def start_positions(self) -> dict[TopicPartition, int]:
        """Next offsets at version 0."""
        return {TopicPartition(topic, partition): offset for topic, partition, offset in self.start}


class Proposal(msgspec.Struct, tag="proposal", forbid_unknown_fields=True, frozen=True, gc=False):
    """What a node wants to be the line's next version."""

    line: str
    node: int
    runs: tuple[ProposedRun, ...]

    def sound(self) -> bool:
        """Whether it can mean anything: runs of one partition each, of topics that make the state."""
        return 0 < len(self.runs) == len({run.where for run in self.runs}) and all(
            run.topic in APPLIED_TOPICS
            and run.partition >= 0
            and run.position >= 0
            and 0 < run.count <= run.last - run.position + 1
            for run in self.runs
        )


_decoder: msgspec.json.Decoder[Genesis | Proposal] = msgspec.json.Decoder(Genesis | Proposal)


def line_id(rooms_hash: str, number: int) -> str:
    """The id of a line: its first half names the rooms whose states it makes, so that every proposal says it."""
    return rooms_hash[:_ROOMS_CHARS] + f"{number:016x}"[_ROOMS_CHARS - _LINE_CHARS :]


def of_rooms(line: str, rooms_hash: str) -> bool:
    """Whether a line is of these rooms."""
    return line[:_ROOMS_CHARS] == rooms_hash[:_ROOMS_CHARS]


def encode(record: Genesis | Proposal) -> NewRecord:
    """As a record to append."""
    return NewRecord(value=msgspec.json.encode(record), partition=ORDER.partition)


def decode(value: bytes, format_: Format) -> Genesis | Proposal | None:
    """None for what is neither: every node passes over it."""
    if format_ is not Format.JSON:
        return None
    try:
        return _decoder.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def events_only(piece: list[Records]) -> list[Records]:
    """A piece without the record of its order."""
    return [run for run in piece if run.topic != ORDER.topic]
