"""Which line of the shared order a node belongs to: the line for its rooms in topic ``order``, else a new line."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final, NamedTuple

import structlog

from engine.errors import MurmurationError
from streams.log.interface import EventLog, Tail, TopicMadeAgainError, TopicPartition
from streams.ordering.proposals import ORDER, Genesis, Proposal, decode, encode, line_id, of_rooms

_RECORDS_MAX: Final = 4096
_TIMEOUT_S: Final = 0.5

log = structlog.get_logger("murmuration.order")


class LineLostError(MurmurationError):
    """Topic ``order`` has proposals of the line, but no longer its beginning."""

    code = "line_lost"


class Line(NamedTuple):
    """A line: its id, the next offsets at its version 0 (including that of ``ORDER``), and the topics' ids then."""

    id: str
    start: dict[TopicPartition, int]
    topics: Mapping[str, str]


class _Search:
    """Reads topic ``order`` and finds the current line for one configuration of the rooms.

    The first genesis record for these rooms starts the line. A later genesis takes over only if it names the current
    line as the one it replaces. So every node that reads the same records finds the same line. If retention has deleted
    the genesis, only the proposals give the line's id, and ``found`` stays None.
    """

    def __init__(self, rooms_hash: str) -> None:
        self._rooms_hash = rooms_hash
        self.id = ""
        self.found: Line | None = None

    def read(self, offset: int, record: Genesis | Proposal | None) -> None:
        if record is None or not of_rooms(record.line, self._rooms_hash):
            return
        if isinstance(record, Genesis):
            if record.replaces == self.id:
                self.id = record.line
                self.found = Line(record.line, record.start_positions | {ORDER: offset + 1}, record.topics)
        elif not self.id:
            self.id = record.line


async def find_line(
    event_log: EventLog,
    rooms_hash: str,
    *,
    number: int,
    start: Callable[[], Awaitable[Mapping[TopicPartition, int]]],
    replace: bool,
) -> Line:
    """The current line for the rooms; if no line exists, this node begins one at ``start``, with ``number`` in its id.

    ``replace``: begin a new line if the log no longer has everything from the current line's beginning on, or has other
    topics of the same names.

    Raises:
        LineLostError: topic ``order`` no longer has the line's beginning, and ``replace`` is False.
        TopicMadeAgainError: a topic that the line orders was deleted and made again, and ``replace`` is False.
        LogError: the log cannot be read or written.
    """
    await event_log.ensure_topics({ORDER.topic: 1})
    first = (await event_log.start_offsets(ORDER.topic))[ORDER.partition]
    end = (await event_log.end_offsets(ORDER.topic))[ORDER.partition]
    search = _Search(rooms_hash)
    async with await event_log.tail({ORDER: first}) as tail:
        await _read(tail, search, end)
        identity = await event_log.identity()
        if search.found is not None:
            known = search.found.topics
            again = sorted(topic for topic, id in known.items() if identity.topics.get(topic, id) != id)
            if again and not replace:
                raise TopicMadeAgainError(again[0], identity.log)
            if not again and not (replace and await _lost(event_log, search.found)):
                return search.found
        if search.id and not replace:
            raise LineLostError(
                f"the shared order does not reach back to the beginning of {search.id}: copy the durable folder of "
                "another node, or let --accept-gap begin a new order"
            )
        positions = await start()
        genesis = Genesis(
            line_id(rooms_hash, number),
            tuple((*where, offset) for where, offset in positions.items()),
            replaces=search.id,
            topics={topic: identity.topics[topic] for topic, _ in positions if topic in identity.topics},
        )
        ((_, offset),) = await event_log.append(ORDER.topic, [encode(genesis)])
        await _read(tail, search, offset + 1)
    assert search.found is not None
    log.info("the order of the nodes", line=search.found.id, begun_here=search.found.id == genesis.line)
    return search.found


async def _read(tail: Tail, search: _Search, end: int) -> None:
    while tail.positions[ORDER] < end:
        for run in await tail.poll(records_max=_RECORDS_MAX, timeout_s=_TIMEOUT_S):
            for offset, form, value in zip(run.offsets, run.formats, run.values, strict=True):
                search.read(offset, decode(value, form))


async def _lost(event_log: EventLog, line: Line) -> bool:
    """Whether the log has lost any record that follows the line's beginning."""
    starts: dict[TopicPartition, int] = {}
    for topic in {where.topic for where in line.start}:
        starts |= {TopicPartition(topic, p): offset for p, offset in (await event_log.start_offsets(topic)).items()}
    return any(starts.get(where, 0) > offset for where, offset in line.start.items())
