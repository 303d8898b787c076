"""The file operations that journal and snapshots use: so few that a simulation can make each of them fail.

Names are relative paths with ``/``; folders come by themselves. Everything may raise OSError.
"""

import contextlib
import mmap
import os
import sys
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, TypeAlias

from engine.errors import MurmurationError

if sys.platform != "win32":
    import fcntl

Buffer: TypeAlias = bytes | bytearray | memoryview

#: Ends the name of a file that is being written; one found at a start was left by a crash.
TEMPORARY = ".tmp"


class FolderBusyError(MurmurationError):
    """Another process has the folder."""

    code = "folder_busy"


class File(ABC):
    """A file that only grows."""

    @abstractmethod
    def write(self, data: Buffer) -> None:
        """Append; after an OSError any part of ``data`` may have been written."""

    @abstractmethod
    def sync(self) -> None:
        """What was written survives a power loss. May run while another thread writes."""

    def forget(self) -> None:  # noqa: B027 - a file that nothing caches has nothing to forget
        """What was synced will not be read soon: the system need not keep it in memory."""

    @abstractmethod
    def close(self) -> None:
        """Release; idempotent. Not a sync."""


class Disk(ABC):
    """A folder of files."""

    #: Whether what a forked process writes is seen here.
    shared: ClassVar[bool] = False

    @abstractmethod
    def names(self, prefix: str = "") -> list[str]:
        """Names of all files that begin with ``prefix``, sorted."""

    @abstractmethod
    def size(self, name: str) -> int:
        """Bytes of the file."""

    @abstractmethod
    def view(self, name: str) -> Buffer:
        """The file's bytes now, mapped and not read where that can be."""

    @abstractmethod
    def open(self, name: str) -> File:
        """Open to append, made when missing. That it exists is durable only once it is published."""

    @abstractmethod
    def truncate(self, name: str, size: int) -> None:
        """Cut the file to its first ``size`` bytes."""

    @abstractmethod
    def publish(self, temporary: str, name: str) -> None:
        """Give a synced file its name, durably and at once; a file of that name is replaced."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Delete the file, durably.

        Raises:
            FileNotFoundError: there is none.
        """

    def sync_names(self) -> None:  # noqa: B027 - a disk without a cache has nothing to do
        """Names as they are now survive a power loss.

        A process that is killed between a rename and the sync of its folder leaves a name that the next one sees and
        builds on, but that the disk need not have.
        """

    def lock(self, name: str) -> None:  # noqa: B027 - most disks have no others
        """Keep other processes out until ``unlock`` or death. By default there are no others.

        Raises:
            FolderBusyError: one is in.
        """

    def unlock(self) -> None:  # noqa: B027
        """Let others in; idempotent."""


def write_whole(disk: Disk, name: str, data: Buffer) -> None:
    """Write a small file so that, whatever happens, it is there whole or as it was before."""
    temporary = name + TEMPORARY
    discard(disk, temporary)
    file = disk.open(temporary)
    try:
        file.write(data)
        file.sync()
    finally:
        file.close()
    disk.publish(temporary, name)


def discard(disk: Disk, name: str) -> None:
    """Remove the file if there is one."""
    with contextlib.suppress(FileNotFoundError):
        disk.remove(name)


class RealFile(File):
    """A file of the system, unbuffered, in append mode."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115 - closed by close()

    def write(self, data: Buffer) -> None:
        written = self._file.write(data)
        while written < len(data):  # a full disk takes a part first, and says so the next time
            data = memoryview(data)[written:]
            written = self._file.write(data)

    def sync(self) -> None:
        _sync(self._file.fileno())

    def forget(self) -> None:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def close(self) -> None:
        self._file.close()


class RealDisk(Disk):
    """A folder of the system, made when first written to."""

    shared = True

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock: int | None = None

    def names(self, prefix: str = "") -> list[str]:
        paths = (path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file())
        return sorted(name for name in paths if name.startswith(prefix))

    def size(self, name: str) -> int:
        return (self.folder / name).stat().st_size

    def view(self, name: str) -> Buffer:
        with open(self.folder / name, "rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                return b""  # nothing cannot be mapped
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))

    def open(self, name: str) -> File:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return RealFile(path)

    def truncate(self, name: str, size: int) -> None:
        os.truncate(self.folder / name, size)

    def publish(self, temporary: str, name: str) -> None:
        path = self.folder / name
        os.replace(self.folder / temporary, path)
        for folder in (path.parent, self.folder):  # the second, because the first may be new
            _sync_folder(folder)

    def remove(self, name: str) -> None:
        path = self.folder / name
        path.unlink()
        _sync_folder(path.parent)

    def sync_names(self) -> None:
        for folder in (self.folder, *(path for path in self.folder.rglob("*") if path.is_dir())):
            _sync_folder(folder)

    def lock(self, name: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.folder / name, os.O_RDWR | os.O_CREAT, 0o644)
        if sys.platform != "win32":
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                owner = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
                os.close(descriptor)
                raise FolderBusyError(f"{self.folder} is used by another process (pid {owner})") from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        self._lock = descriptor

    def unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _sync(descriptor: int) -> None:
    if sys.platform == "linux":
        os.fdatasync(descriptor)
    else:
        os.fsync(descriptor)


def _sync_folder(folder: Path) -> None:
    if sys.platform == "win32":
        return  # no such thing there
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
