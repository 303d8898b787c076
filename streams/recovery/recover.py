"""Recovery: the newest whole snapshot and the journal's later entries, or the whole log; never something in between.

What the journal says was applied is applied again, exactly (docs/durability.md). A state that cannot be reached so is
refused by name, unless the operator accepts the gap.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec
import structlog

from config.schema import Config, feed_hash, feed_settings, rooms_hash
from config.serving import LogConfig
from engine.errors import MurmurationError
from engine.state import EngineState
from streams.durable.journal import Entry, Gap, Journal, JournalError
from streams.durable.origin import Origin
from streams.durable.snapshots import SnapshotError, Snapshots
from streams.durable.store import HistoryInfo, Store
from streams.events.decode import Decoder
from streams.events.json_types import APPLIED_TOPICS
from streams.log.interface import EventLog, TopicPartition
from streams.ordering.line import Line, find_line
from streams.ordering.own import Replay
from streams.ordering.proposals import ORDER

log = structlog.get_logger("murmuration.recovery")

Positions = dict[TopicPartition, int]


class LogGapError(MurmurationError):
    """The log has lost records that the state needs (retention)."""

    code = "log_gap"


class LogBehindError(MurmurationError):
    """The log ends before what the state has applied: it is another log, or it has lost its end."""

    code = "log_behind"


class Recovered(NamedTuple):
    """Where a start begins: a state, the journal's entries to be replayed on it, and what to read after them.

    ``positions`` (next offsets) are those of the state as it is, before the entries. ``journal`` None: nothing is kept.
    ``on_disk`` says that a snapshot of the state as it is exists (or would be of nothing).
    """

    state: EngineState
    positions: Positions
    entries: Iterator[Entry]
    journal: Journal | None
    snapshots: Snapshots | None
    origin: Origin
    on_disk: bool = True


async def recover(
    config: Config,
    store: Store | None,
    event_log: EventLog,
    *,
    incarnation: int,
    now_ms: int,
    accept_gap: bool = False,
    progress: Callable[[str], None] = lambda line: None,
) -> Recovered:
    """Bring a state as far as the disk has it, and say what is left to replay.

    ``incarnation`` is a random number of this start; ``now_ms`` is used where ``ingest.start`` is ``window``.

    With ``log.order`` ``shared`` the history is the nodes' common line. It has no gaps: ``accept_gap`` begins another.

    Raises:
        LogGapError: records are gone that the state needs, and ``accept_gap`` does not allow to go on without.
        LineLostError: the same of the shared order.
        LogBehindError: the log ends before what was applied.
        JournalError: the journal cannot be used; the message names the file.
    """

    async def begin(*, replace: bool) -> Line:
        if config.log.order == "own":
            # Named after the start that begins it.
            return Line(f"{incarnation:016x}", await first_positions(config, event_log, now_ms))
        line = await find_line(
            event_log,
            rooms_hash(config),
            number=incarnation,
            start=lambda: first_positions(config, event_log, now_ms),
            replace=replace,
        )
        _check_gap(await _bounds(event_log.start_offsets, config), line.start, 0)
        return line

    if store is None:
        line = await begin(replace=accept_gap)
        state = await asyncio.to_thread(_touched, config)
        origin = Origin(line.id if config.log.order == "shared" else "", incarnation)
        return Recovered(state, line.start, iter(()), None, None, origin)
    info = store.current
    if info is None or not _goes_on(info, config):
        # Other rooms, or another order, are another state: it begins from nothing; the old history stays for audits.
        info = _begun(config, store, await begin(replace=accept_gap), now_ms)
    elif info.log != log_name(config.log):
        raise LogBehindError(f"history {info.id} is of the log {info.log}, not of {log_name(config.log)}")
    store.save_config(feed_hash(config), saved_config(config))
    pass_over = accept_gap and config.log.order == "own"
    try:
        return await _recover_history(config, store, event_log, info, incarnation, pass_over, progress)
    except LogGapError:
        if pass_over or not accept_gap:
            raise
        info = _begun(config, store, await begin(replace=True), now_ms)
        return await _recover_history(config, store, event_log, info, incarnation, False, progress)


def _goes_on(info: HistoryInfo, config: Config) -> bool:
    shared = config.log.order == "shared"
    return info.rooms_hash == rooms_hash(config) and (ORDER in info.start_positions) == shared


def _begun(config: Config, store: Store, line: Line, now_ms: int) -> HistoryInfo:
    return store.begin(
        line.id, rooms_hash=rooms_hash(config), log=log_name(config.log), start=line.start, created_ms=now_ms
    )


async def _recover_history(
    config: Config,
    store: Store,
    event_log: EventLog,
    info: HistoryInfo,
    incarnation: int,
    pass_over: bool,
    progress: Callable[[str], None],
) -> Recovered:
    journal = store.journal(info)
    try:
        recovered = await _resume(config, event_log, info.id, store.snapshots(info), journal, pass_over, progress)
        journal.note_incarnation(incarnation)
    except BaseException:
        journal.close()
        raise
    return recovered._replace(origin=Origin(info.id, incarnation))


async def _resume(
    config: Config,
    event_log: EventLog,
    history: str,
    snapshots: Snapshots,
    journal: Journal,
    pass_over: bool,
    progress: Callable[[str], None],
) -> Recovered:
    state, positions = await asyncio.to_thread(restore_newest, config, snapshots, journal, journal.version)
    if state.version:
        progress(f"the snapshot of version {state.version} is back, the journal goes to {journal.version}")
    starts = await _bounds(event_log.start_offsets, config)
    _check_ends(history, journal, await _bounds(event_log.end_offsets, config))
    lost = _lost(starts, positions)
    if lost and pass_over:
        _pass_over(state, journal, positions, lost)
    else:
        _check_gap(starts, positions, state.version)
    entries = (entry for entry in journal.entries(state.version, journal.version) if isinstance(entry, Entry))
    # A partition that was added since: in a shared order, from offset 0 on every node.
    positions = positions if ORDER in positions else starts | positions
    return Recovered(state, positions, entries, journal, snapshots, Origin(history, 0), on_disk=not lost)


def saved_config(config: Config) -> dict[str, Any]:
    """What a feed depends on, as plain values: no sockets, paths or secrets."""
    plain: dict[str, Any] = msgspec.to_builtins(feed_settings(config))
    return plain


def log_name(config: LogConfig) -> str:
    """Which log it is; a name without secrets."""
    return f"{config.url} {config.topic_prefix}".strip()


async def rebuild(config: Config, store: Store, event_log: EventLog, history: str, version: int) -> EngineState:
    """The state at a version of a history, made anew from snapshot, journal and log; beside a running process too.

    ``config`` is the one under which the history was made (its rooms).

    Raises:
        JournalError: there is no such history, or its journal does not hold the version.
        LogGapError: the log has lost records that it takes.
        ReplayError: the log has other records than were applied.
    """
    info = store.history(history)
    journal, snapshots = store.journal(info, cut=False), store.snapshots(info)
    state, positions = await asyncio.to_thread(restore_newest, config, snapshots, journal, version)
    await forward(state, positions, config, journal, event_log, version)
    return state


async def forward(
    state: EngineState, positions: Positions, config: Config, journal: Journal, event_log: EventLog, version: int
) -> None:
    """Apply the journal's entries up to a version; ``positions`` moves along. Raises as ``rebuild``."""
    if state.version >= version:
        return
    entries: list[Entry] = []
    for item in journal.entries(state.version, version):
        if isinstance(item, Gap):
            raise LogGapError(f"records of {_name(item.partition)} were passed over at version {item.version}")
        # What a shared order was is in the journal; its topic is not read again.
        entries.append(item._replace(runs=tuple(run for run in item.runs if run.partition != ORDER)))
    needed = {run.partition: run for entry in reversed(entries) for run in entry.runs}
    starts = await log_starts(event_log)
    lost = {p: starts[p] for p, run in needed.items() if starts.get(p, 0) > run.first}
    if lost:
        raise LogGapError(_describe(lost, {p: needed[p].first for p in lost}, state.version))
    decoder = Decoder(future_ms_max=config.ingest.future_ms_max)
    async with await event_log.tail({p: run.first for p, run in needed.items()}) as tail:
        replay = Replay(iter(entries), tail, config.ingest)
        while pieces := await replay.next():
            for piece in pieces:
                await asyncio.to_thread(state.apply, decoder.decode(piece).batch)
    positions.update(journal.positions_at(version))


def restore_newest(
    config: Config, snapshots: Snapshots, journal: Journal, version: int
) -> tuple[EngineState, Positions]:
    """The state of the newest whole snapshot of at most this version (else the empty one), and its positions.

    Raises:
        JournalError: there is none, and the journal does not reach back to the beginning.
    """
    state = _touched(config)
    for info in snapshots.infos():
        if not journal.first_version - 1 <= info.version <= version:
            continue
        try:
            snapshots.load_into(info.version, state.arrays())
        except SnapshotError as error:
            log.error("a snapshot cannot be used, the one before it is tried", error=str(error))
            state = _touched(config)
            continue
        return state, dict(info.positions)
    if journal.first_version > 1:
        raise JournalError(
            f"no whole snapshot of version {journal.first_version - 1} or later, where the journal begins"
        )
    return state, journal.positions_at(0)


async def first_positions(config: Config, event_log: EventLog, now_ms: int) -> Positions:
    """Where a new history begins to read each partition of the topics that make the state.

    Raises:
        LogUnavailableError: the log cannot be read.
    """
    positions = await log_starts(event_log)
    if config.ingest.start == "window":
        since_ms = now_ms - config.rooms.interaction_graph.window_ms
        for topic in set(APPLIED_TOPICS) - set(config.log.kept_topics):
            offsets = await event_log.offsets_for_time(topic, since_ms)
            positions |= {TopicPartition(topic, partition): offset for partition, offset in offsets.items()}
    return positions


async def log_starts(event_log: EventLog) -> Positions:
    """The first offset that is still in the log, of every partition that makes the state."""
    return await _bounds(event_log.start_offsets)


async def _bounds(offsets: Callable[[str], Awaitable[dict[int, int]]], config: Config | None = None) -> Positions:
    """By partition, of all topics that make the state; with a configuration that says so, of the shared order too."""
    shared = config is not None and config.log.order == "shared"
    return {
        TopicPartition(topic, partition): offset
        for topic in (*APPLIED_TOPICS, *((ORDER.topic,) if shared else ()))
        for partition, offset in (await offsets(topic)).items()
    }


def _check_ends(history: str, journal: Journal, ends: Mapping[TopicPartition, int]) -> None:
    for partition, position in journal.state.positions.items():
        end = ends.get(partition, 0)
        if end < position:
            raise LogBehindError(
                f"{_name(partition)}: the log ends at offset {end}, but history {history} has applied it up to "
                f"{position}: it belongs to another log (move its folder away, or set durable.folder), or this one "
                "has lost its end"
            )


def _lost(starts: Mapping[TopicPartition, int], positions: Mapping[TopicPartition, int]) -> Positions:
    """Where the log begins, of the partitions of which it does not reach back to ``positions``."""
    return {where: start for where, start in starts.items() if where in positions and positions[where] < start}


def _check_gap(starts: Mapping[TopicPartition, int], positions: Mapping[TopicPartition, int], version: int) -> None:
    if lost := _lost(starts, positions):
        raise LogGapError(_describe(lost, positions, version))


def _pass_over(state: EngineState, journal: Journal, positions: Positions, lost: Mapping[TopicPartition, int]) -> None:
    """Go on without the records that are gone: what was applied of later ones is taken back, and read again."""
    journal.rewind(state.version)
    for partition, earliest in lost.items():
        journal.note_gap(Gap(state.version, partition, positions[partition], earliest))
        state.note_gap(earliest - positions[partition])
        log.error("records passed over", partition=_name(partition), records=earliest - positions[partition])
        positions[partition] = earliest


def _describe(lost: Mapping[TopicPartition, int], positions: Mapping[TopicPartition, int], version: int) -> str:
    gone = ", ".join(f"{_name(p)} from {positions[p]} to {start - 1}" for p, start in sorted(lost.items()))
    return (
        f"the log no longer has records that follow version {version}: {gone}; --accept-gap goes on without them "
        "(a shared order begins anew then: rather copy the durable folder of another node)"
    )


def _name(partition: TopicPartition) -> str:
    return f"{partition.topic}/{partition.partition}"


def _touched(config: Config) -> EngineState:
    state = EngineState(config.rooms)
    state.touch()
    return state
