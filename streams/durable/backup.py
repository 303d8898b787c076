"""A copy of a durable folder, also while an engine writes there: its newest whole snapshot, journals and descriptions.

The snapshot is copied before the journal, so that the journal reaches it. An entry that is being written meanwhile is a
torn tail of the copy.
"""

from typing import NamedTuple

from streams.durable.disk import TEMPORARY, Disk
from streams.durable.journal import JournalError
from streams.durable.snapshots import SnapshotError, Snapshots
from streams.durable.store import CURRENT, LOCK, HistoryInfo, Store
from streams.log.interface import TopicPartition

_TRIES = 3
_PART_BYTES = 1 << 20
#: The counted exposures have their own positions in the log: a start without this file counts them anew.
_LEFT_OUT = (LOCK, "processors.db")


class Copied(NamedTuple):
    """A copied folder: where its journal ends, its newest snapshot (0: none), and the next offsets at that snapshot."""

    version: int
    snapshot_version: int
    positions: dict[TopicPartition, int]
    bytes: int


def copy_folder(store: Store, disk: Disk) -> Copied | None:
    """Copy the folder of ``store`` to the empty ``disk``, and verify the copy; None: no history was begun there yet.

    Raises:
        JournalError, SnapshotError, StoreError: the folder is damaged.
        OSError: it cannot be read, or the copy cannot be written.
    """
    for tries_left in reversed(range(_TRIES)):
        info = store.current
        if info is None:
            return None
        try:
            return _copy(store, info, disk)
        except (FileNotFoundError, JournalError, SnapshotError):
            # The engine has removed what it no longer needs, between two files.
            if not tries_left:
                raise
            for name in disk.names():
                disk.remove(name)
    raise AssertionError("unreachable")


def _copy(store: Store, info: HistoryInfo, disk: Disk) -> Copied:
    own = f"{info.id}/snapshot-"
    copy = Store(disk, segment_bytes=1, snapshots_keep=1, writable=False)
    size = 0
    snapshot_version, positions = 0, info.start_positions
    for snapshot in store.snapshots(info).infos():
        if snapshot_version and snapshot.version != info.begins_after:
            continue
        size += _copy_file(store.disk, f"{own}{snapshot.version:020}", disk)
        if not snapshot_version:
            snapshot_version, positions = _checked(copy.snapshots(info), snapshot.version) or (0, positions)
    for name in store.disk.names():
        if not name.endswith(TEMPORARY) and not name.startswith((*_LEFT_OUT, own, CURRENT)):
            size += _copy_file(store.disk, name, disk)
    size += _copy_file(store.disk, CURRENT, disk)
    disk.sync_names()
    journal = copy.journal(info)
    if not journal.first_version - 1 <= snapshot_version <= journal.version:
        raise JournalError(
            f"the journal holds versions {journal.first_version} to {journal.version}, the newest whole snapshot is of "
            f"version {snapshot_version}"
        )
    for _ in journal.entries(snapshot_version):
        pass
    return Copied(journal.version, snapshot_version, positions, size)


def _checked(snapshots: Snapshots, version: int) -> tuple[int, dict[TopicPartition, int]] | None:
    """The copied snapshot's version and positions, every byte verified; None, and no copy, if it is damaged."""
    try:
        return version, dict(snapshots.check(version)[0].positions)
    except SnapshotError:
        snapshots.remove_after(version - 1)
        return None


def _copy_file(source: Disk, name: str, target: Disk) -> int:
    view = source.view(name)
    file = target.open(name)
    try:
        for start in range(0, len(view), _PART_BYTES):
            file.write(view[start : start + _PART_BYTES])
        file.sync()
    finally:
        file.close()
    return len(view)
