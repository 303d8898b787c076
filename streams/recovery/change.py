"""A new history begins where the previous one ended: when the configuration of the rooms changes, or a topic is new.

Each room is handled by itself. A room with the same configuration is copied. A room that has grown keeps its content.
Any other room is rebuilt from the log as far as the log reaches back, or begins empty; the state then says since when
that room knows everything (docs/durability.md). The same happens when every snapshot can be read only in part. The new
history becomes current once its first snapshot is on the disk; after a crash before that, the next start does all of
it again.
"""

import asyncio
from collections.abc import Callable, Collection
from typing import NamedTuple

import numpy as np
import structlog

from config.schema import Config, room_hashes, rooms_hash, rooms_settings, with_rooms_settings
from engine.rebuild import Rebuild, carry_over, rebuildable
from engine.state import EngineState, Since
from streams.durable.journal import Entry, Gap, Journal, JournalError, Run
from streams.durable.snapshot_file import name_positions
from streams.durable.snapshots import SnapshotError, SnapshotInfo, Snapshots
from streams.durable.store import Began, HistoryInfo, Store, StoreError
from streams.events.dead_letters import DeadLetter
from streams.events.decode import Decoder
from streams.events.json_types import APPLIED_TOPICS
from streams.log.interface import EventLog
from streams.recovery.dead_letters import write_fresh
from streams.recovery.replay import (
    Positions,
    bounds,
    check_ends,
    check_gap,
    check_reaches,
    forward,
    log_starts,
    lost_since,
    name_of,
    pass_over_gap,
    pieces_of,
    topics_made_again,
    touched,
)

log = structlog.get_logger("murmuration.recovery")


class _Base(NamedTuple):
    """The state that a history's snapshots give, its next offsets, and the names of the rooms that are intact."""

    state: EngineState
    positions: Positions
    rooms: frozenset[str]


async def go_on_from(
    before: HistoryInfo,
    config: Config,
    store: Store,
    event_log: EventLog,
    *,
    history: str,
    now_ms: int,
    pass_over: bool,
    progress: Callable[[str], None],
) -> HistoryInfo | None:
    """Begin a history called ``history`` where ``before`` ends, and make it current; None: no snapshot can be used.

    ``pass_over``: pass over records that the log has lost since the newest snapshot. Where a topic was deleted and made
    again, all records that the snapshot does not have are lost, and the new topic is read from its first record.

    Raises:
        LogGapError: the log has lost such records, and ``pass_over`` is False.
        LogBehindError: the log ends before the last record that was applied.
        JournalError: the journal of ``before`` cannot be used.
    """
    old = with_rooms_settings(config, before.settings)
    with store.journal(before) as journal:
        check_reaches(journal, store.snapshots(before))
        base = await asyncio.to_thread(_newest_base, old, before, store.snapshots(before), journal)
        if base is None:
            return None
        # The new history depends on every entry of the old journal: a power loss must not take any of them.
        journal.sync()
        again = await topics_made_again(before, event_log)
        letters: list[DeadLetter] = []
        if again and pass_over:
            gaps, positions = await _pass_over_topics(base, journal, before, event_log, again)
        else:
            letters, positions = await _bring_to_end(base, old, journal, before, store, event_log, pass_over=pass_over)
            gaps = journal.state.gaps
        progress(f"a new history goes on from version {base.state.version}")
        state = await asyncio.to_thread(touched, config)
        late = await asyncio.to_thread(carry_over, state, base.state, base.rooms)
        fates = _fates(state, base, old, config, late)
        since = await _build_late(state, late, config, store, before, event_log)
        fates |= {name: "rebuilt" for name in late if name in rebuildable(state) and since[name] < state.version}
        await write_fresh(event_log, letters, record_bytes_max=config.log.record_bytes_max)
        info = HistoryInfo(
            id=history,
            rooms_hash=rooms_hash(config),
            log=before.log,
            topics=await _topics_now(before, event_log),
            start=name_positions(positions),
            created_ms=now_ms,
            settings=rooms_settings(config),
            rooms=room_hashes(config.rooms),
            began=Began(history=before.id, version=state.version, rooms=fates, since=since),
        )
        store.prepare(info, gaps)
        snapshot = SnapshotInfo(
            history=history,
            version=state.version,
            clock_ms=state.clock_ms,
            positions=positions,
            models=journal.state.models,
            incarnation=journal.state.incarnation,
            rooms=info.rooms,
            gaps=gaps,
            created_ms=now_ms,
        )
        await asyncio.to_thread(store.snapshots(info).write, snapshot, state.arrays())
        store.put_in_force(history)
    log.warning("a new history goes on", version=state.version, before=before.id, rooms=fates, made_again=sorted(again))
    return info


async def _topics_now(before: HistoryInfo, event_log: EventLog) -> dict[str, str]:
    """The ids that the topics of ``before`` have now."""
    ids = (await event_log.identity()).topics
    return {topic: ids.get(topic, id) for topic, id in before.topics.items()}


def _newest_base(old: Config, before: HistoryInfo, snapshots: Snapshots, journal: Journal) -> _Base | None:
    """The newest whole snapshot, else the newest readable in part, else the empty state if the journal begins there."""
    rooms, state = room_hashes(old.rooms), touched(old)
    known = frozenset(name for name, saved in before.rooms.items() if rooms.get(name) == saved)
    usable = [info for info in snapshots.infos() if journal.first_version - 1 <= info.version <= journal.version]
    for info in usable:
        try:
            snapshots.load_into(info.version, state.arrays(), rooms)
        except SnapshotError as error:
            log.error("a snapshot is not whole, or another program's", error=str(error))
            continue
        return _Base(state, dict(info.positions), known)
    for info in usable:
        state = touched(old)
        loaded = snapshots.load_rooms(info.version, state.arrays(), rooms)[1]
        if "engine" in loaded:
            _empty_others(state, old, loaded)
            return _Base(state, dict(info.positions), frozenset(loaded))
    if journal.first_version == 1:
        return _Base(touched(old), journal.positions_at(0), known)
    return None


def _empty_others(state: EngineState, old: Config, loaded: Collection[str]) -> None:
    """Empty the rooms that were not loaded: a failed read may have filled part of their arrays."""
    empty = dict(EngineState(old.rooms).arrays())
    for name, array in state.arrays():
        if name.partition(".")[0] not in loaded:
            np.copyto(array, empty[name])


async def _bring_to_end(
    base: _Base,
    old: Config,
    journal: Journal,
    before: HistoryInfo,
    store: Store,
    event_log: EventLog,
    *,
    pass_over: bool,
) -> tuple[list[DeadLetter], Positions]:
    """Apply the journal's entries that follow the base; returns the dead letters, and the next offsets."""
    starts = await bounds(event_log.start_offsets)
    check_ends(before.id, journal, await bounds(event_log.end_offsets))
    lost = lost_since(starts, base.positions)
    if lost and pass_over:
        pass_over_gap(base.state, journal, store.snapshots(before), base.positions, lost)
        return [], starts | base.positions
    check_gap(starts, base.positions, base.state.version)
    compacted = await event_log.compacted(APPLIED_TOPICS)
    letters = await forward(base.state, base.positions, old, journal, event_log, journal.version, compacted=compacted)
    return letters, starts | journal.state.positions


async def _pass_over_topics(
    base: _Base, journal: Journal, before: HistoryInfo, event_log: EventLog, again: Collection[str]
) -> tuple[tuple[Gap, ...], Positions]:
    """Go on from the base with topics that were made again; returns all gaps so far, and the next offsets.

    The records of these topics that were applied after the base are lost. The other topics' are read again.
    """
    starts = await bounds(event_log.start_offsets)
    check_ends(before.id, journal, await bounds(event_log.end_offsets), again)
    ends = {where: end for where, end in journal.state.positions.items() if where.topic in again}
    lost = lost_since({where: start for where, start in starts.items() if where.topic not in again}, base.positions)
    lost |= {where: end for where, end in ends.items() if end > base.positions.get(where, end)}
    gaps = [Gap(base.state.version, where, base.positions[where], earliest) for where, earliest in lost.items()]
    for _, where, position, earliest in gaps:
        base.state.note_gap(earliest - position)
        log.error("records passed over", partition=name_of(where), records=earliest - position)
    kept = {where: lost.get(where, at) for where, at in base.positions.items() if where.topic not in again}
    return (*journal.state.gaps, *gaps), starts | kept


def _fates(state: EngineState, base: _Base, old: Config, config: Config, late: Collection[str]) -> dict[str, str]:
    """What became of each room, in the words of ``Began``."""
    before, after = room_hashes(old.rooms), room_hashes(config.rooms)
    fates = dict.fromkeys(base.rooms - after.keys(), "gone")
    for part in state.parts:
        fates[part.name] = "kept" if before.get(part.name) == after[part.name] else "grown"
    return fates | dict.fromkeys(late, "empty")


async def _build_late(
    state: EngineState, late: Collection[str], config: Config, store: Store, before: HistoryInfo, event_log: EventLog
) -> dict[str, int]:
    """Rebuild rooms from the log, and note in the state since when they know; returns that version, by room."""
    rooms = frozenset(late) & rebuildable(state)
    since = {name: Since(state.version, state.clock_ms) for name in late}
    if rooms and state.version:
        entries = await _reachable(store, before, state.version, event_log)
        first = entries[0].version - 1 if entries else state.version
        rebuild, decoder = Rebuild(state, rooms), Decoder(future_ms_max=config.ingest.future_ms_max)
        clock_ms = 0
        if entries:
            compacted = await event_log.compacted(APPLIED_TOPICS)
            async for piece in pieces_of(entries, event_log, config.ingest, compacted):
                batch = decoder.decode(piece).batch
                clock_ms = clock_ms or (int(batch.timestamp_ms.max()) if batch.size else 0)
                await asyncio.to_thread(rebuild.apply, batch)
        since |= dict.fromkeys(rooms, Since(first, clock_ms) if first < state.version else since[next(iter(rooms))])
    for name, begins in since.items():
        # A room that knows everything from version 0 on is complete, not late.
        state.begin_late(name, begins if begins.version else Since(0, 0))
    return {name: begins.version for name, begins in since.items()}


def _lost(run: Run, starts: Positions, again: Collection[str]) -> bool:
    """Whether the log has no longer all records of a run."""
    return run.partition.topic in again or starts.get(run.partition, 0) > run.first


async def _reachable(store: Store, info: HistoryInfo, version: int, event_log: EventLog) -> list[Entry]:
    """The newest entries up to ``version`` whose records the log still has, from this history and those before it."""
    first = await log_starts(event_log)
    entries: list[Entry] = []
    while True:
        again = await topics_made_again(info, event_log)
        try:
            journal = store.journal(info, cut=False)
            if journal.version < version:  # it has lost its end: what it still has does not lead on
                return entries
            items = list(journal.entries(max(info.begins_after, journal.first_version - 1), version))
        except JournalError:
            return entries
        part = [item for item in items if isinstance(item, Entry)]
        lost = [e.version for e in part if any(_lost(run, first, again) for run in e.runs)]
        whole = [entry for entry in part if not lost or entry.version > lost[-1]]
        entries = whole + entries
        if lost or info.began is None or journal.first_version - 1 > info.begins_after:
            return entries
        try:
            info, version = store.history(info.began.history), info.begins_after
        except StoreError:
            return entries
