"""Rebuilding a state: load a snapshot, read the records of the journal's later entries from the log, and apply them.

Exactly the pieces that the journal names are applied again (docs/durability.md). A missing record is a named error.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence

import structlog

from config.schema import Config, room_hashes
from config.serving import IngestConfig
from engine.errors import MurmurationError
from engine.state import EngineState
from streams.durable.journal import Entry, Gap, Journal, JournalError
from streams.durable.snapshots import SnapshotError, Snapshots
from streams.durable.store import HistoryInfo, Store
from streams.events.dead_letters import DeadLetter, passed_over
from streams.events.decode import Decoder
from streams.events.json_types import APPLIED_TOPICS
from streams.log.interface import EventLog, TopicPartition
from streams.ordering.own import Replay
from streams.ordering.pieces import Piece
from streams.ordering.proposals import ORDER
from streams.recovery.effects import dead_letters

log = structlog.get_logger("murmuration.recovery")

Positions = dict[TopicPartition, int]


class LogGapError(MurmurationError):
    """The log has lost records that the state needs (retention)."""

    code = "log_gap"


class LogBehindError(MurmurationError):
    """The log ends before the last applied record: it is another log, or it has lost its end."""

    code = "log_behind"


class JournalBehindError(JournalError):
    """The journal ends before a snapshot: the disk has lost what was synced."""


class NoSnapshotError(JournalError):
    """No snapshot is whole, and the journal or the log does not reach back to the history's beginning."""


async def rebuild(config: Config, store: Store, event_log: EventLog, history: str, version: int) -> EngineState:
    """The state at a version of a history, rebuilt from snapshot, journal and log; also while a process writes there.

    ``config`` must have the rooms with which the history was made.

    Raises:
        StoreError: there is no such history.
        JournalError: the history's journal does not hold the version.
        LogGapError: the log has lost records that the rebuild needs.
        ReplayError: the log has other records than those applied.
    """
    info = store.history(history)
    journal, snapshots = store.journal(info, cut=False), store.snapshots(info)
    state, positions = await asyncio.to_thread(restore_newest, config, snapshots, journal, version)
    again = await topics_made_again(info, event_log)
    await forward(state, positions, config, journal, event_log, version, again=again)
    return state


async def topics_made_again(info: HistoryInfo, event_log: EventLog) -> frozenset[str]:
    """The topics that were deleted and made again since the history began: its offsets mean other records there."""
    ids = (await event_log.identity()).topics
    return frozenset(topic for topic, id in info.topics.items() if ids.get(topic, id) != id)


async def forward(
    state: EngineState,
    positions: Positions,
    config: Config,
    journal: Journal,
    event_log: EventLog,
    version: int,
    *,
    again: Collection[str] = (),
    compacted: Collection[str] = (),
) -> list[DeadLetter]:
    """Apply the journal's entries up to a version, and update ``positions``. Raises as ``rebuild``.

    ``again``: topics that were made again since the history began. ``compacted``: topics of which only what the log
    still has is applied; without, a missing record is an error.

    Returns:
        The dead letters of these pieces.
    """
    letters: list[DeadLetter] = []
    if state.version >= version:
        return letters
    entries: list[Entry] = []
    for item in journal.entries(state.version, version):
        if isinstance(item, Gap):
            raise LogGapError(f"records of {name_of(item.partition)} were passed over at version {item.version}")
        entries.append(item)
    needed = first_needed(entries)
    if foreign := sorted(where for where in needed if where.topic in again):
        raise LogGapError(f"{name_of(foreign[0])}: topic {foreign[0].topic!r} was deleted and made again since")
    starts = await log_starts(event_log)
    lost = {p: starts[p] for p, first in needed.items() if starts.get(p, 0) > first}
    if lost:
        raise LogGapError(describe_gap(lost, {p: needed[p] for p in lost}, state.version))
    decoder = Decoder(future_ms_max=config.ingest.future_ms_max)
    skipped = journal.skipped
    async for piece in pieces_of(entries, event_log, config.ingest, compacted):
        letters += await asyncio.to_thread(apply_piece, state, decoder, piece, skipped)
    positions.update(journal.positions_at(version))
    return letters


def apply_piece(state: EngineState, decoder: Decoder, piece: Piece, skipped: Collection[int]) -> list[DeadLetter]:
    """Apply a piece as the next version, or pass over it; returns the piece's dead letters."""
    if state.version + 1 in skipped:
        state.skip(sum(len(run.offsets) for run in piece))
        return passed_over(piece)
    decoded = decoder.decode(piece)
    return dead_letters(piece, decoded, state.apply(decoded.batch).effects)


async def pieces_of(
    entries: Sequence[Entry], event_log: EventLog, config: IngestConfig, compacted: Collection[str] = ()
) -> AsyncIterator[Piece]:
    """The pieces of the journal's entries, in order; their records are read from the log.

    The journal records a shared order as well, so topic ``order`` is not read again.
    """
    own = [entry._replace(runs=tuple(run for run in entry.runs if run.partition != ORDER)) for entry in entries]
    async with await event_log.tail(first_needed(own)) as tail:
        replay = Replay(iter(own), tail, config, compacted)
        while pieces := await replay.next():
            for piece in pieces:
                yield piece


def first_needed(entries: Sequence[Entry]) -> Positions:
    """The first offset that the entries need, by partition, without the shared order's partition."""
    return {run.partition: run.first for entry in reversed(entries) for run in entry.runs if run.partition != ORDER}


def restore_newest(
    config: Config, snapshots: Snapshots, journal: Journal, version: int
) -> tuple[EngineState, Positions]:
    """The state of the newest whole snapshot of at most this version (else the empty state), and its positions.

    Raises:
        NoSnapshotError: no snapshot can be used, and the journal does not reach back to the beginning.
    """
    state, rooms = touched(config), room_hashes(config.rooms)
    for info in snapshots.infos():
        if not journal.first_version - 1 <= info.version <= version:
            continue
        try:
            snapshots.load_into(info.version, state.arrays(), rooms)
        except SnapshotError as error:
            log.error("a snapshot cannot be used, the one before it is tried", error=str(error))
            state = touched(config)
            continue
        return state, dict(info.positions)
    if journal.first_version > 1:
        raise NoSnapshotError(
            f"no whole snapshot of version {journal.first_version - 1} or later, where the journal begins"
        )
    return state, journal.positions_at(0)


async def log_starts(event_log: EventLog) -> Positions:
    """The first offset that the log still has, of every partition that makes the state."""
    return await bounds(event_log.start_offsets)


async def bounds(offsets: Callable[[str], Awaitable[dict[int, int]]], config: Config | None = None) -> Positions:
    """``offsets`` of all topics that make the state, by partition; and of the shared order if ``config`` uses one."""
    shared = config is not None and config.log.order == "shared"
    return {
        TopicPartition(topic, partition): offset
        for topic in (*APPLIED_TOPICS, *((ORDER.topic,) if shared else ()))
        for partition, offset in (await offsets(topic)).items()
    }


def check_ends(history: str, journal: Journal, ends: Mapping[TopicPartition, int], but: Collection[str] = ()) -> None:
    """Raise LogBehindError unless the log holds everything that the journal has applied, ``but`` for these topics."""
    for partition, position in journal.state.positions.items():
        end = ends.get(partition, 0)
        if end < position and partition.topic not in but:
            raise LogBehindError(
                f"{name_of(partition)}: the log ends at offset {end}, but history {history} has applied it up to "
                f"{position}: it belongs to another log (move its folder away, or set durable.folder), or this one "
                "has lost its end"
            )


def lost_since(starts: Mapping[TopicPartition, int], positions: Mapping[TopicPartition, int]) -> Positions:
    """The first offset in the log, of the partitions that have lost records from ``positions`` on."""
    return {where: start for where, start in starts.items() if where in positions and positions[where] < start}


def check_gap(starts: Mapping[TopicPartition, int], positions: Mapping[TopicPartition, int], version: int) -> None:
    """Raise LogGapError unless the log still has everything from ``positions`` on."""
    if lost := lost_since(starts, positions):
        raise LogGapError(describe_gap(lost, positions, version))


def check_reaches(journal: Journal, snapshots: Snapshots) -> None:
    """Raise JournalBehindError unless the journal reaches every snapshot that could be used."""
    newest = max((info.version for info in snapshots.infos()), default=0)
    if newest > journal.version:
        raise JournalBehindError(
            f"history {journal.history}: the journal ends at version {journal.version}, before the snapshot of version "
            f"{newest}"
        )


def pass_over_gap(
    state: EngineState,
    journal: Journal,
    snapshots: Snapshots,
    positions: Positions,
    lost: Mapping[TopicPartition, int],
) -> None:
    """Go on without the lost records: cut off the entries after the state's version; their records are read again."""
    snapshots.remove_after(state.version)  # first: these versions will be made again, otherwise
    journal.rewind(state.version)
    for partition, earliest in lost.items():
        journal.note_gap(Gap(state.version, partition, positions[partition], earliest))
        state.note_gap(earliest - positions[partition])
        log.error("records passed over", partition=name_of(partition), records=earliest - positions[partition])
        positions[partition] = earliest


def describe_gap(lost: Mapping[TopicPartition, int], positions: Mapping[TopicPartition, int], version: int) -> str:
    """One line that says which records are lost and what the operator can do."""
    gone = ", ".join(f"{name_of(p)} from {positions[p]} to {start - 1}" for p, start in sorted(lost.items()))
    return (
        f"the log no longer has records that follow version {version}: {gone}; --accept-gap goes on without them "
        "(a shared order begins anew then: rather copy the durable folder of another node)"
    )


def name_of(partition: TopicPartition) -> str:
    """``topic/partition``."""
    return f"{partition.topic}/{partition.partition}"


def touched(config: Config) -> EngineState:
    """An empty state whose memory is already backed by pages."""
    state = EngineState(config.rooms)
    state.touch()
    return state
