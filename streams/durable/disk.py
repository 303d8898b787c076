"""The file operations that journal and snapshots use. They are few, so that a simulation can make each of them fail.

Names are relative paths with ``/``; missing folders are created. Every operation may raise OSError.
"""

import contextlib
import errno
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Protocol, TypeAlias

from engine.errors import MurmurationError

if sys.platform != "win32":
    import fcntl

Buffer: TypeAlias = bytes | bytearray | memoryview

#: What the folder holds is everybody's: only the process's own user may read it.
FILE_MODE = 0o600
FOLDER_MODE = 0o700

#: Ends the name of a file that is being written; a start that finds such a file knows that a crash left it.
TEMPORARY = ".tmp"


class FolderBusyError(MurmurationError):
    """Another process uses the folder."""

    code = "folder_busy"


class View(Protocol):
    """The bytes of a file, from which parts are read when they are asked for. Reading a part may raise OSError."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> bytes: ...

    def __bytes__(self) -> bytes: ...


class File(ABC):
    """A file that only grows."""

    @abstractmethod
    def write(self, data: Buffer) -> None:
        """Append; after an OSError any part of ``data`` may have been written."""

    @abstractmethod
    def sync(self) -> None:
        """Make everything written so far survive a power loss. May run while another thread writes."""

    def there(self) -> bool:
        """Whether the file still has a name. Where it was removed or replaced, what is written is lost."""
        return True

    @abstractmethod
    def read(self) -> bytes:
        """Everything in the file, also after its name was removed. Raises OSError."""

    def forget(self) -> None:  # noqa: B027 - a file that nothing caches has nothing to forget
        """Tell the system that synced bytes will not be read soon, so it need not keep them in memory."""

    @abstractmethod
    def close(self) -> None:
        """Release the file; idempotent. Does not sync."""


class Disk(ABC):
    """A folder of files."""

    #: Whether this process sees the files that a forked child writes.
    shared: ClassVar[bool] = False

    @abstractmethod
    def names(self, prefix: str = "") -> list[str]:
        """Names of all files that begin with ``prefix``, sorted."""

    @abstractmethod
    def size(self, name: str) -> int:
        """Bytes of the file."""

    @abstractmethod
    def view(self, name: str) -> View:
        """The file's bytes as of now. A file that is renamed or removed afterward can still be read."""

    @abstractmethod
    def open(self, name: str) -> File:
        """Open to append; a missing file is created. A new file's name is durable only after ``publish``."""

    @abstractmethod
    def truncate(self, name: str, size: int) -> None:
        """Cut the file to its first ``size`` bytes."""

    @abstractmethod
    def publish(self, temporary: str, name: str) -> None:
        """Rename a synced file, atomically and durably; replaces a file that has the name already."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Delete the file, durably.

        Raises:
            FileNotFoundError: the file does not exist.
        """

    def sync_names(self) -> None:  # noqa: B027 - a disk without a cache has nothing to do
        """Make the names of all files survive a power loss.

        A process that is killed between a rename and the sync of the folder leaves a name that the next process sees
        and relies on, although the disk may not hold the name yet.
        """

    def lock(self, name: str) -> None:  # noqa: B027 - only a disk of the system is shared by processes
        """Keep other processes out until ``unlock`` or the end of this process. By default nothing is shared.

        Raises:
            FolderBusyError: another process holds the lock.
        """

    def unlock(self) -> None:  # noqa: B027
        """Let others in; idempotent."""


def write_whole(disk: Disk, name: str, data: Buffer) -> None:
    """Write a small file atomically: after a crash the file holds either the whole new content or the old one."""
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
    """Remove the file if it exists."""
    with contextlib.suppress(FileNotFoundError):
        disk.remove(name)


class RealFile(File):
    """A file of the system, unbuffered, in append mode."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "a+b", buffering=0, opener=_open_own)  # noqa: SIM115 - closed by close()

    def write(self, data: Buffer) -> None:
        written = self._file.write(data)
        while written < len(data):  # a full disk first writes a part; only the next write raises
            data = memoryview(data)[written:]
            written = self._file.write(data)

    def sync(self) -> None:
        _sync(self._file.fileno())

    def there(self) -> bool:
        return os.fstat(self._file.fileno()).st_nlink > 0  # a replaced file has lost its name, too

    def read(self) -> bytes:
        size = os.fstat(self._file.fileno()).st_size
        return os.pread(self._file.fileno(), size, 0)

    def forget(self) -> None:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def close(self) -> None:
        self._file.close()


class RealView:
    """The bytes of a file of the system (``View``).

    The file is read, not mapped into memory: where the disk cannot read a page of a mapped file, the system ends the
    process.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = os.open(path, os.O_RDONLY)
        self._size = os.fstat(self._descriptor).st_size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, part: slice) -> bytes:
        start, stop, _ = part.indices(self._size)
        data = os.pread(self._descriptor, max(0, stop - start), start)
        while len(data) < stop - start:  # a read may be cut short
            more = os.pread(self._descriptor, stop - start - len(data), start + len(data))
            if not more:
                raise OSError(errno.EIO, "became shorter while it was read", str(self._path))
            data += more
        return data

    def __bytes__(self) -> bytes:
        return self[:]

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError):  # the file could not be opened
            os.close(self._descriptor)


class RealDisk(Disk):
    """A folder of the file system, created at the first write."""

    shared = True

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock: int | None = None

    def names(self, prefix: str = "") -> list[str]:
        paths = (path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file())
        return sorted(name for name in paths if name.startswith(prefix))

    def size(self, name: str) -> int:
        return (self.folder / name).stat().st_size

    def view(self, name: str) -> View:
        return RealView(self.folder / name)

    def open(self, name: str) -> File:
        path = self.folder / name
        make_folder(path.parent)
        return RealFile(path)

    def truncate(self, name: str, size: int) -> None:
        os.truncate(self.folder / name, size)

    def publish(self, temporary: str, name: str) -> None:
        path = self.folder / name
        os.replace(self.folder / temporary, path)
        for folder in (path.parent, self.folder):  # the outer folder too, because the inner one may be new
            _sync_folder(folder)

    def remove(self, name: str) -> None:
        path = self.folder / name
        path.unlink()
        _sync_folder(path.parent)

    def sync_names(self) -> None:
        for folder in (self.folder, *(path for path in self.folder.rglob("*") if path.is_dir())):
            _sync_folder(folder)
        for folder in self.folder.absolute().parents:
            with contextlib.suppress(OSError):  # another user's folder, which was there before
                _sync_folder(folder)

    def lock(self, name: str) -> None:
        make_folder(self.folder)
        descriptor = os.open(self.folder / name, os.O_RDWR | os.O_CREAT, FILE_MODE)
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


def make_folder(folder: Path) -> None:
    """Create the folder and those above it where they are missing, for this user alone, durably."""
    for missing in reversed(list(_missing(folder.absolute()))):
        with contextlib.suppress(FileExistsError):  # another process was faster
            missing.mkdir(mode=FOLDER_MODE)
        _sync_folder(missing.parent)
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))


def _missing(folder: Path) -> Iterator[Path]:
    while not folder.exists():
        yield folder
        folder = folder.parent


def _open_own(path: str, flags: int) -> int:
    return os.open(path, flags, FILE_MODE)


def _sync(descriptor: int) -> None:
    if sys.platform == "linux":
        os.fdatasync(descriptor)
    else:
        os.fsync(descriptor)


def _sync_folder(folder: Path) -> None:
    if sys.platform == "win32":
        return  # Windows cannot sync a folder
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
