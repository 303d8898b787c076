"""Descriptors for looking at files that SQLite has open.

A process loses all its locks on a file, SQLite's too, as soon as it closes any descriptor of the file. So there is one
descriptor per file, however many logs of this process look at it, and it is closed with its last user.
"""

import os
import threading
from pathlib import Path

#: Device and inode.
FileKey = tuple[int, int]


class Descriptors:
    """The open descriptors of this process, by file. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[FileKey, int] = {}
        self._users: dict[FileKey, int] = {}

    def take(self, path: Path) -> tuple[FileKey, int]:
        """The file that has this name now, and a descriptor to read it.

        Raises:
            OSError: there is no such file, or it cannot be read.
        """
        with self._lock:
            key = file_key(path)
            if key not in self._open:
                self._open[key] = os.open(path, os.O_RDONLY)
            self._users[key] = self._users.get(key, 0) + 1
            return key, self._open[key]

    def give_back(self, key: FileKey) -> None:
        """One user less."""
        with self._lock:
            self._users[key] -= 1
            if not self._users[key]:
                del self._users[key]
                os.close(self._open.pop(key))


descriptors = Descriptors()


def file_key(path: Path) -> FileKey:
    """Which file has this name now. Raises OSError."""
    status = os.stat(path)
    return status.st_dev, status.st_ino
