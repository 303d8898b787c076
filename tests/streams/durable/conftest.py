"""A disk in memory that can be told to fail."""

import errno
from collections.abc import Callable

import pytest

from streams.durable.disk import Buffer, Disk, File


class Crash(BaseException):
    """The process ends here."""


class MemoryDisk(Disk):
    """Files by name. ``before`` is asked before each operation and may raise; a write it refuses is done in part."""

    def __init__(self) -> None:
        self.files: dict[str, bytearray] = {}
        self.before: Callable[[str, str], None] = lambda operation, name: None

    def names(self, prefix: str = "") -> list[str]:
        return sorted(name for name in self.files if name.startswith(prefix))

    def size(self, name: str) -> int:
        return len(self._file(name))

    def view(self, name: str) -> Buffer:
        return bytes(self._file(name))

    def open(self, name: str) -> File:
        self.before("open", name)
        return MemoryFile(self, name, self.files.setdefault(name, bytearray()))

    def truncate(self, name: str, size: int) -> None:
        self.before("truncate", name)
        del self._file(name)[size:]

    def publish(self, temporary: str, name: str) -> None:
        self.before("publish", name)
        self.files[name] = self.files.pop(temporary)

    def remove(self, name: str) -> None:
        self.before("remove", name)
        self._file(name)
        del self.files[name]

    def _file(self, name: str) -> bytearray:
        if name not in self.files:
            raise FileNotFoundError(errno.ENOENT, "no such file", name)
        return self.files[name]

    def fail_at(self, nth: int, error: BaseException) -> None:
        """Raise ``error`` in the nth operation from now on, counted from 0, and in all that follow."""
        left = nth

        def before(operation: str, name: str) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise error

        self.before = before

    def heal(self) -> None:
        """No more failures."""
        self.before = lambda operation, name: None


class MemoryFile(File):
    def __init__(self, disk: MemoryDisk, name: str, data: bytearray) -> None:
        self._disk, self._name, self._data = disk, name, data

    def read(self) -> bytes:
        return bytes(self._data)

    def write(self, data: Buffer) -> None:
        try:
            self._disk.before("write", self._name)
        except BaseException:
            self._data += data[: len(data) // 2]
            raise
        self._data += data

    def sync(self) -> None:
        self._disk.before("sync", self._name)

    def close(self) -> None:
        pass


@pytest.fixture
def memory_disk() -> type[MemoryDisk]:
    return MemoryDisk


@pytest.fixture
def crash() -> type[Crash]:
    return Crash
