"""Snapshots of the state at one version: written while traffic goes on, and published whole or not at all.

A snapshot is written under a temporary name, synced, and then renamed. Until then, whatever happens, the snapshot
before it is the newest.
"""

import contextlib
import errno
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray

from streams.durable.disk import TEMPORARY, Buffer, Disk, View, discard
from streams.durable.fork import CAN_FORK, Child
from streams.durable.snapshot_file import (
    Arrays,
    SnapshotError,
    SnapshotInfo,
    Target,
    read_info,
    read_room,
    read_snapshot,
    room_of,
    write_snapshot,
)

log = structlog.get_logger("murmuration.snapshots")

#: A snapshot is synced after every part of this size: one sync of the whole would delay all other writes to the disk.
_UNSYNCED_BYTES_MAX = 16 << 20

__all__ = ["Arrays", "Pending", "SnapshotError", "SnapshotInfo", "Snapshots"]


class Pending:
    """A snapshot being written. ``pause_s`` is how long its start blocked the caller."""

    def __init__(self, snapshots: "Snapshots", info: SnapshotInfo, child: Child | None, pause_s: float) -> None:
        self.info = info
        self.pause_s = pause_s
        self._snapshots = snapshots
        self._child = child
        self._finishing = threading.Lock()
        self._done: SnapshotInfo | None = None

    def finish(self) -> SnapshotInfo:
        """Wait until the snapshot is written, and publish it. Blocks; callable from any thread, and more than once.

        Raises:
            OSError: the snapshot could not be written; the one before it stays the newest.
        """
        with self._finishing:
            if self._done is None:
                if self._child is not None:
                    try:
                        self._child.wait()
                    except OSError:
                        self._snapshots.discard(self.info.version)
                        raise
                self._done = self._snapshots.publish(self.info.version)
            return self._done

    def abandon(self) -> None:
        """Stop writing; ``finish`` then raises."""
        if self._child is not None:
            self._child.kill()

    def discard(self) -> None:
        """Stop writing, and forget the snapshot unless it is published. Blocks."""
        self.abandon()
        with self._finishing:
            if self._done is None:
                if self._child is not None:
                    with contextlib.suppress(OSError):
                        self._child.wait()
                self._snapshots.discard(self.info.version)


class Snapshots:
    """One history's snapshots: the newest ``keep`` are kept, and also the one of version ``base``.

    ``base``: the version that the history begins after, or None if the history begins empty. Nothing else in this
    history gives the state at ``base``.
    """

    def __init__(self, disk: Disk, history: str, *, keep: int, base: int | None = None) -> None:
        self._disk = disk
        self._keep = keep
        self._base = base
        self._history = history
        self._prefix = f"{history}/snapshot-"

    def write(self, info: SnapshotInfo, arrays: Arrays) -> SnapshotInfo:
        """Write a snapshot now, in the calling thread, and publish it.

        Raises:
            OSError: the snapshot could not be written; the one before it stays the newest.
        """
        try:
            self._write(info, arrays)
        except OSError:
            self.discard(info.version)
            raise
        return self.publish(info.version)

    def start(self, info: SnapshotInfo, arrays: Arrays) -> Pending:
        """Write a snapshot of the arrays as they are now, while the caller goes on changing them.

        A forked child writes it. On systems without fork, and on disks that a child cannot write to, the snapshot is
        written before this returns. The calling thread must outlive the child (``Child``).

        Raises:
            OSError: the snapshot cannot be begun.
        """
        if CAN_FORK and self._disk.shared:
            child = Child(lambda: self._write(info, arrays))
            return Pending(self, info, child, child.pause_s)
        started = time.perf_counter()
        self._write(info, arrays)
        return Pending(self, info, None, time.perf_counter() - started)

    def versions(self) -> list[int]:
        """Versions of all snapshot files, whole or not, oldest first."""
        names = self._disk.names(self._prefix)
        return [int(name.removeprefix(self._prefix)) for name in names if not name.endswith(TEMPORARY)]

    def size(self, version: int) -> int:
        """Bytes of the snapshot's file."""
        return self._disk.size(self._name(version))

    def infos(self) -> list[SnapshotInfo]:
        """The snapshots, newest first; those whose description cannot be read are left out (see ``problems``).

        Only the end of each file is read, so ``load`` may still find a snapshot damaged.
        """
        return self._survey()[0]

    def problems(self) -> list[SnapshotError]:
        """For each snapshot that ``infos`` leaves out, why it cannot be read."""
        return self._survey()[1]

    def check(self, version: int, *, kept: str = "") -> tuple[SnapshotInfo, dict[str, NDArray[Any]]]:
        """Verify every byte; raises as ``load`` does. Returns the arrays whose names begin with ``kept``, if given."""
        scratch: dict[tuple[str, tuple[int, ...]], NDArray[Any]] = {}
        arrays: dict[str, NDArray[Any]] = {}

        def target(name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
            if kept and name.startswith(kept):
                return arrays.setdefault(name, np.empty(shape, dtype))
            return scratch.setdefault((dtype.str, shape), np.empty(shape, dtype))

        return self._read(version, target), arrays

    def load(self, version: int) -> tuple[SnapshotInfo, dict[str, NDArray[Any]]]:
        """The snapshot's arrays, every checksum verified.

        Raises:
            SnapshotError: missing, damaged, or of another format.
        """
        arrays: dict[str, NDArray[Any]] = {}

        def target(name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
            return arrays.setdefault(name, np.empty(shape, dtype))

        return self._read(version, target), arrays

    def load_into(self, version: int, arrays: Arrays, rooms: Mapping[str, str]) -> SnapshotInfo:
        """Overwrite all live arrays with the snapshot's, in place: no array is in memory twice.

        ``rooms``: the hash of each room's layout and configuration, which must be the snapshot's.

        Raises:
            SnapshotError: as ``load``, or the rooms differ. The arrays may then be partly overwritten, and can only be
                used to load another snapshot into.
        """
        name = self._name(version)
        info = self._info(version)
        if differing := {room for room in rooms.keys() | info.rooms.keys() if rooms.get(room) != info.rooms.get(room)}:
            raise SnapshotError(f"{name}: of another configuration or program ({', '.join(sorted(differing))})")
        live = dict(arrays)
        info = self._read(version, self._into(live, name))
        if live:
            raise SnapshotError(f"{name}: lacks {', '.join(sorted(live))}")
        return info

    def load_rooms(self, version: int, arrays: Arrays, rooms: Mapping[str, str]) -> tuple[SnapshotInfo, set[str]]:
        """Overwrite the live arrays of those rooms that are whole and of the same hash; returns which they are.

        The arrays of the other rooms are of no use afterwards.

        Raises:
            SnapshotError: missing, of another format, or damaged at its end.
        """
        name, info = self._name(version), self._info(version)
        data, everything = self._view(version), dict(arrays)
        loaded = set()
        for room in sorted(rooms.keys() & info.rooms.keys()):
            if rooms[room] != info.rooms[room]:
                continue
            live = {label: array for label, array in everything.items() if room_of(label) == room}
            try:
                with _reading(name):
                    read_room(data, name, info, room, self._into(live, name))
            except SnapshotError as error:
                log.error("a room of a snapshot cannot be used", room=room, error=str(error))
                continue
            if not live:
                loaded.add(room)
        return info, loaded

    # Called by Pending

    def publish(self, version: int) -> SnapshotInfo:
        """Give the written snapshot its name, and remove the oldest snapshots beyond ``keep``.

        Raises:
            OSError: the disk refused, or does not give back what was written.
        """
        name = self._name(version)
        self._disk.publish(name + TEMPORARY, name)
        try:
            info = self._info(version)
        except SnapshotError as error:
            raise OSError(errno.EIO, str(error)) from error
        self._remove_oldest(self._base)
        return info

    def remove_after(self, version: int) -> None:
        """Remove the snapshots of later versions, for example before these versions are made again, otherwise.

        Raises:
            OSError: one cannot be removed.
        """
        for other in reversed(self.versions()):
            if other > version:
                self._disk.remove(self._name(other))

    def forget_base(self) -> None:
        """Stop keeping the snapshot that the history begins with: the log no longer has the records that follow it."""
        self._remove_oldest(None)

    def _remove_oldest(self, but: int | None) -> None:
        kept = self.infos()[: self._keep]
        with contextlib.suppress(OSError):  # the next snapshot tries again
            for other in self.versions():
                if kept and other < kept[-1].version and other != but:
                    self._disk.remove(self._name(other))

    def discard(self, version: int) -> None:
        """Remove the file of a snapshot that failed; if that fails too, the next start removes it."""
        with contextlib.suppress(OSError):
            discard(self._disk, self._name(version) + TEMPORARY)

    # Inside

    def _name(self, version: int) -> str:
        return f"{self._prefix}{version:020}"

    def _survey(self) -> tuple[list[SnapshotInfo], list[SnapshotError]]:
        infos, problems = [], []
        for version in reversed(self.versions()):
            try:
                infos.append(self._info(version))
            except SnapshotError as error:
                if self._there(version):  # else the writing process has removed it meanwhile
                    problems.append(error)
        return infos, problems

    def _write(self, info: SnapshotInfo, arrays: Arrays) -> None:
        name = self._name(info.version) + TEMPORARY
        discard(self._disk, name)
        file = self._disk.open(name)
        unsynced = 0

        def write(data: Buffer) -> None:
            nonlocal unsynced
            file.write(data)
            unsynced += len(data)
            if unsynced >= _UNSYNCED_BYTES_MAX:
                file.sync()
                file.forget()
                unsynced = 0

        try:
            write_snapshot(write, info, arrays)
            file.sync()
            file.forget()
        finally:
            file.close()

    @staticmethod
    def _into(live: dict[str, NDArray[Any]], name: str) -> Target:
        """A target that decodes into the live arrays, and removes each from ``live``."""

        def target(label: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
            array = live.pop(label, None)
            if array is None or array.dtype != dtype or array.shape != shape:
                here = "no such array" if array is None else f"{array.dtype}{array.shape}"
                raise SnapshotError(f"{name}: {label} is {dtype}{shape} there and {here} here")
            return array

        return target

    def _info(self, version: int) -> SnapshotInfo:
        name = self._name(version)
        with _reading(name):
            info = read_info(self._view(version), name)
        if (info.history, info.version) != (self._history, version):
            raise SnapshotError(f"{name}: is the snapshot of version {info.version} of history {info.history}")
        return info

    def _view(self, version: int) -> View:
        name = self._name(version)
        with _reading(name):
            return self._disk.view(name)

    def _there(self, version: int) -> bool:
        name = self._name(version)
        return name in self._disk.names(name)

    def _read(self, version: int, target: Target) -> SnapshotInfo:
        name = self._name(version)
        self._info(version)
        with _reading(name):
            return read_snapshot(self._view(version), name, target)


@contextlib.contextmanager
def _reading(name: str) -> Iterator[None]:
    """Name what cannot be read: a snapshot that the disk does not give back is as good as a damaged one."""
    try:
        yield
    except FileNotFoundError:
        raise SnapshotError(f"{name}: not there") from None
    except OSError as error:
        raise SnapshotError(f"{name}: cannot be read ({error})") from None
