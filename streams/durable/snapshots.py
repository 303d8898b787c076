"""Snapshots of the state at one version: written beside running traffic, there whole or not at all.

A snapshot is written under a temporary name, synced, and then given its name. Until then, whatever happens, the one
before it is in force.
"""

import contextlib
import threading
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.durable.disk import TEMPORARY, Buffer, Disk, discard
from streams.durable.fork import CAN_FORK, Child
from streams.durable.snapshot_file import (
    Arrays,
    SnapshotError,
    SnapshotInfo,
    Target,
    read_info,
    read_snapshot,
    write_snapshot,
)

#: A snapshot goes to the disk in parts of so many bytes: all at once, every other write of the machine would wait.
_UNSYNCED_BYTES_MAX = 16 << 20

__all__ = ["Arrays", "Pending", "SnapshotError", "SnapshotInfo", "Snapshots"]


class Pending:
    """A snapshot under way. ``pause_s`` is how long its start kept the caller."""

    def __init__(self, snapshots: "Snapshots", info: SnapshotInfo, child: Child | None, pause_s: float) -> None:
        self.info = info
        self.pause_s = pause_s
        self._snapshots = snapshots
        self._child = child
        self._finishing = threading.Lock()
        self._done: SnapshotInfo | None = None

    def finish(self) -> SnapshotInfo:
        """Wait until it is written, and put it in force. Blocking, from any thread; may be called again.

        Raises:
            OSError: it could not be written; the one before it is in force.
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


class Snapshots:
    """One history's snapshots, of which the newest ``keep`` are kept."""

    def __init__(self, disk: Disk, history: str, *, keep: int) -> None:
        self._disk = disk
        self._keep = keep
        self._prefix = f"{history}/snapshot-"

    def write(self, info: SnapshotInfo, arrays: Arrays) -> SnapshotInfo:
        """Write a snapshot here and now.

        Raises:
            OSError: it could not be written; the one before it is in force.
        """
        try:
            self._write(info, arrays)
        except OSError:
            self.discard(info.version)
            raise
        return self.publish(info.version)

    def start(self, info: SnapshotInfo, arrays: Arrays) -> Pending:
        """Write a snapshot of the arrays as they are now while the caller goes on changing them.

        A forked child does; where there are none, or they cannot write to this disk, it is written before this
        returns. The calling thread must outlive the writing (``Child``).

        Raises:
            OSError: it cannot be begun.
        """
        if CAN_FORK and self._disk.shared:
            child = Child(lambda: self._write(info, arrays))
            return Pending(self, info, child, child.pause_s)
        started = time.perf_counter()
        self._write(info, arrays)
        return Pending(self, info, None, time.perf_counter() - started)

    def versions(self) -> list[int]:
        """Versions of all files that are there, whole or not, oldest first."""
        names = self._disk.names(self._prefix)
        return [int(name.removeprefix(self._prefix)) for name in names if not name.endswith(TEMPORARY)]

    def size(self, version: int) -> int:
        """Bytes of the snapshot's file."""
        return self._disk.size(self._name(version))

    def infos(self) -> list[SnapshotInfo]:
        """The snapshots that are there, newest first; those that cannot be read are left out (see ``problems``).

        Only their ends are looked at: ``load`` may still find one damaged.
        """
        return self._survey()[0]

    def problems(self) -> list[SnapshotError]:
        """Why each of the others cannot be read."""
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

    def load_into(self, version: int, arrays: Arrays) -> SnapshotInfo:
        """Overwrite the live arrays with the snapshot's: nothing is in memory twice.

        Raises:
            SnapshotError: as ``load``, or the arrays are not the same by name, shape and type. They are then partly
                overwritten, and of use only to load another snapshot into.
        """
        live = dict(arrays)

        def target(name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
            array = live.pop(name, None)
            if array is None or array.dtype != dtype or array.shape != shape:
                here = "no such array" if array is None else f"{array.dtype}{array.shape}"
                raise SnapshotError(f"{self._name(version)}: {name} is {dtype}{shape} there and {here} here")
            return array

        info = self._read(version, target)
        if live:
            raise SnapshotError(f"{self._name(version)}: lacks {', '.join(sorted(live))}")
        return info

    # Called by Pending

    def publish(self, version: int) -> SnapshotInfo:
        """Put what was written in force, and remove the oldest beyond ``keep``."""
        name = self._name(version)
        self._disk.publish(name + TEMPORARY, name)
        info = read_info(self._disk.view(name), name)
        oldest = self.infos()[: self._keep][-1].version
        with contextlib.suppress(OSError):  # the next one tries again
            for other in self.versions():
                if other < oldest:
                    self._disk.remove(self._name(other))
        return info

    def discard(self, version: int) -> None:
        """Remove what was written of a snapshot that failed; what cannot be removed now is at the next open."""
        with contextlib.suppress(OSError):
            discard(self._disk, self._name(version) + TEMPORARY)

    # Inside

    def _name(self, version: int) -> str:
        return f"{self._prefix}{version:020}"

    def _versions(self) -> list[int]:
        names = self._disk.names(self._prefix)
        return [int(name.removeprefix(self._prefix)) for name in names if not name.endswith(TEMPORARY)]

    def _survey(self) -> tuple[list[SnapshotInfo], list[SnapshotError]]:
        infos, problems = [], []
        for version in reversed(self.versions()):
            name = self._name(version)
            try:
                infos.append(read_info(self._disk.view(name), name))
            except FileNotFoundError:
                continue  # the process that writes has removed it meanwhile
            except SnapshotError as error:
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

    def _read(self, version: int, target: Target) -> SnapshotInfo:
        name = self._name(version)
        try:
            data = self._disk.view(name)
        except FileNotFoundError:
            raise SnapshotError(f"{name}: not there") from None
        return read_snapshot(data, name, target)
