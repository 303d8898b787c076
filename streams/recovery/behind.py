"""When the journal ends before a snapshot, or is gone: a new history begins at the snapshot.

A journal is synced before each snapshot, so this happens only where a disk has lost synced bytes or files. Going on at
the journal's end would make versions a second time, beside a snapshot of what they were the first time. The new history
holds the same rooms; versions between the journal's end and the snapshot cannot be rebuilt any more.
"""

import asyncio

import msgspec
import structlog

from config.schema import Config, room_hashes, with_rooms_settings
from engine.state import EngineState
from streams.durable.snapshot_file import name_positions
from streams.durable.snapshots import SnapshotError, SnapshotInfo
from streams.durable.store import Began, HistoryInfo, NoJournalError, Store
from streams.recovery.replay import touched

log = structlog.get_logger("murmuration.recovery")


async def go_on_at_snapshot(
    before: HistoryInfo, config: Config, store: Store, *, history: str, now_ms: int
) -> HistoryInfo | None:
    """Begin a history called ``history`` at the newest whole snapshot behind the end of the journal of ``before``, and
    make it current. Where none is whole: remove the others, so that none of them is ever taken for a later version of
    the same number; returns ``before``, or None if it has no journal.

    Raises:
        JournalError: the journal cannot be used.
        OSError: the folder cannot be written.
    """
    snapshots = store.snapshots(before)
    try:
        with store.journal(before) as journal:
            end = journal.version
    except NoJournalError:
        end = -1
    old = with_rooms_settings(config, before.settings)
    for info in snapshots.infos():
        if info.version <= end:
            break
        state = await asyncio.to_thread(touched, old)
        try:
            await asyncio.to_thread(snapshots.load_into, info.version, state.arrays(), room_hashes(old.rooms))
        except SnapshotError as error:
            log.error("a snapshot cannot be used, the one before it is tried", error=str(error))
            continue
        return await asyncio.to_thread(_begin, before, info, state, store, history, now_ms)
    if end < 0:
        log.error("the journal is gone, and no snapshot is whole: a new history begins", history=before.id)
        return None
    log.error("the journal ends before a snapshot that is damaged: the snapshot is removed", version=end)
    snapshots.remove_after(end)
    return before


def _begin(
    before: HistoryInfo, base: SnapshotInfo, state: EngineState, store: Store, history: str, now_ms: int
) -> HistoryInfo:
    info = msgspec.structs.replace(
        before,
        id=history,
        start=name_positions(base.positions),
        created_ms=now_ms,
        began=Began(history=before.id, version=state.version, rooms=dict.fromkeys(before.rooms, "kept")),
    )
    store.prepare(info, base.gaps)
    snapshot = msgspec.structs.replace(base, history=history, created_ms=now_ms)
    store.snapshots(info).write(snapshot, state.arrays())
    store.put_in_force(history)
    log.error(
        "the disk has lost the end of the journal: a new history begins at the newest snapshot",
        version=state.version,
        before=before.id,
    )
    return info
