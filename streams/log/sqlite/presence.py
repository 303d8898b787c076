"""Whether the files that SQLite has open are still the log.

SQLite goes on with the files that it opened, even after another program removed, replaced, cut or overwrote them. What
is appended then would be acknowledged and lost. So the log asks here before it uses an answer or acknowledges a write.
"""

import os
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Final

from streams.log.interface import LogUnavailableError
from streams.log.sqlite.descriptors import FileKey, descriptors, file_key
from streams.log.sqlite.write_ahead import as_written, only_row

_RESTORE: Final = "stop this process, put the log back, and start again"


class Presence:
    """The log's files as they were opened. ``check`` may be called on any thread.

    Make it before the first connection to the file, and close it after the last one.
    """

    def __init__(self, path: Path) -> None:
        """Raises OSError: there is no such file, or it cannot be read."""
        self._path = path
        self._wal = path.with_name(f"{path.name}-wal")
        self._key, self._descriptor = descriptors.take(path)
        self._wal_key: FileKey | None = None
        #: The write-ahead file and its index: keys and descriptors.
        self._beside: list[tuple[FileKey, int]] = []
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
        if self._wal_key is None and self._wal.exists():
            self._beside.append(descriptors.take(self._wal))
            self._wal_key = self._beside[0][0]
            with suppress(FileNotFoundError):  # where nothing may be written, there is no index
                self._beside.append(descriptors.take(self._path.with_name(f"{self._path.name}-shm")))
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
            if file_key(self._path) != self._key:
                return f"another file was put in its place; {_RESTORE}"
        except OSError as error:
            return f"the file is gone ({error.strerror}); put it back, and this process goes on with it"
        if self._wal_key is not None:
            try:
                if file_key(self._wal) != self._wal_key:
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
        if self._damaged is None and len(self._beside) == 2 and not as_written(*(at for _, at in self._beside)):
            self._damaged = f"{self._wal.name} was cut or overwritten; {_RESTORE}"
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
            descriptors.give_back(self._key)
            for key, _ in self._beside:
                descriptors.give_back(key)
