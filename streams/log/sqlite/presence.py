"""Whether the files that SQLite has open are still the log.

SQLite goes on with the files that it opened, even after another program removed, replaced, cut or overwrote them. What
is appended then would be acknowledged and lost. So the log asks here before it uses an answer or acknowledges a write.
"""

import os
import sqlite3
import threading
from pathlib import Path
from typing import Final

from streams.log.interface import LogUnavailableError

FileKey = tuple[int, int]

#: SQLite's types of columns that have no bytes (NULL, which stands for the key, 0 and 1), and the bytes of the others.
_CONSTANTS: Final = {0: 0, 8: 0, 9: 1}
_WIDTHS: Final = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}
_LEAF: Final = 13
_RESTORE: Final = "stop this process, put the log back, and start again"


class _Descriptors:
    """One descriptor per file, however many logs of this process look at it.

    A process loses all its locks on a file, SQLite's too, as soon as it closes any descriptor of the file. So the
    descriptor is closed with its last user.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[FileKey, int] = {}
        self._users: dict[FileKey, int] = {}

    def take(self, path: Path) -> tuple[FileKey, int]:
        """The file that has this name now, and a descriptor to read it."""
        with self._lock:
            key = _key(os.stat(path))
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


_descriptors = _Descriptors()


class Presence:
    """The log's files as they were opened. ``check`` may be called on any thread.

    Make it before the first connection to the file, and close it after the last one.
    """

    def __init__(self, path: Path) -> None:
        """Raises OSError: there is no such file, or it cannot be read."""
        self._path = path
        self._wal = path.with_name(f"{path.name}-wal")
        self._key, self._descriptor = _descriptors.take(path)
        self._wal_key: FileKey | None = None
        self._page: tuple[int, bytes] | None = None
        #: Where the file keeps the row of table ``log``, and the row as it was seen there.
        self._log_page: tuple[int, int] | None = None
        self._log_row: tuple[int, ...] = ()
        self._bytes_max = 0
        self._damaged: str | None = None
        self._closed = False

    def learn(self, connection: sqlite3.Connection) -> None:
        """Note the write-ahead file, the page with the log's id, which never changes, and the page of table ``log``.

        Raises:
            sqlite3.Error: SQLite cannot read the log.
        """
        ((identity,),) = connection.execute("SELECT id FROM identity")
        ((root,),) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'identity'")
        ((log_root,),) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'log'")
        ((page_bytes,),) = connection.execute("PRAGMA page_size")
        if self._wal.exists():
            self._wal_key = _key(os.stat(self._wal))
        place = (root - 1) * page_bytes
        page = os.pread(self._descriptor, page_bytes, place)
        if identity.encode() in page:  # else it is still in the write-ahead file
            self._page = (place, page)
        self._log_page = ((log_root - 1) * page_bytes, page_bytes)

    def check(self) -> None:
        """Look whether the files are the same; costs a few microseconds.

        Raises:
            LogUnavailableError: they are not; the message says what to do.
        """
        problem = self._damaged or self._moved() or self._overwritten()
        if problem is not None:
            raise LogUnavailableError(f"log {self._path}: {problem}")

    def _moved(self) -> str | None:
        try:
            if _key(os.stat(self._path)) != self._key:
                return f"another file was put in its place; {_RESTORE}"
        except OSError as error:
            return f"the file is gone ({error.strerror}); put it back, and this process goes on with it"
        if self._wal_key is not None:
            try:
                if _key(os.stat(self._wal)) != self._wal_key:
                    return f"another file was put in place of {self._wal.name}; {_RESTORE}"
            except OSError as error:
                return f"{self._wal.name}, which holds its newest records, is gone ({error.strerror}); put it back"
        return None

    def _overwritten(self) -> str | None:
        # In this order: the file may grow between the two, while another thread writes. SQLite never shortens it.
        most = self._bytes_max
        size = os.fstat(self._descriptor).st_size
        if size < most:
            self._damaged = f"the file was cut from {most} to {size} bytes; {_RESTORE}"
        self._bytes_max = max(self._bytes_max, size)
        if self._page is not None:
            place, page = self._page
            if os.pread(self._descriptor, len(page), place) != page:
                self._damaged = self._damaged or f"the file was overwritten; {_RESTORE}"
        if self._damaged is None and self._went_back() and self._went_back():  # a page that is being written: again
            self._damaged = f"the file was overwritten by an older copy; {_RESTORE}"
        return self._damaged

    def _went_back(self) -> bool:
        """Whether the file is at an earlier state than before: SQLite only ever brings newer pages into it."""
        if self._log_page is None:
            return False
        place, page_bytes = self._log_page
        before, row = self._log_row, only_row(os.pread(self._descriptor, page_bytes, place))
        if any(now < then for now, then in zip(row, before, strict=False)):
            return True
        self._log_row = row or before
        return False

    def close(self) -> None:
        """Release the file; idempotent."""
        if not self._closed:
            self._closed = True
            _descriptors.give_back(self._key)


def only_row(page: bytes) -> tuple[int, ...]:
    """The integers of the row of a table with one row, whose page this is; empty if the page is not of that form.

    https://www.sqlite.org/fileformat2.html: a leaf page of a table holds for each row the size of its record, its key,
    and the record, which begins with its header (a size, and the type of each column).
    """
    try:
        if page[0] != _LEAF or int.from_bytes(page[3:5], "big") != 1:
            return ()
        at = int.from_bytes(page[8:10], "big")
        for _ in range(2):
            _, at = _varint(page, at)
        size, types_at = _varint(page, at)
        value_at, row = at + size, []
        while types_at < at + size:
            kind, types_at = _varint(page, types_at)
            if kind in _CONSTANTS:
                row.append(_CONSTANTS[kind])
                continue
            width = _WIDTHS[kind]
            row.append(int.from_bytes(page[value_at : value_at + width], "big", signed=True))
            value_at += width
    except (IndexError, KeyError):
        return ()
    return tuple(row)


def _varint(page: bytes, at: int) -> tuple[int, int]:
    """A number of seven bits per byte, highest first, of at most three bytes here; and where it ends."""
    value = 0
    while page[at] > 127:
        value = (value | page[at] & 127) << 7
        at += 1
    return value | page[at], at + 1


def _key(status: os.stat_result) -> FileKey:
    return status.st_dev, status.st_ino
