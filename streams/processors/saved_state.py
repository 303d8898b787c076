"""A processor's state in a file, together with the positions up to which the log was counted into it.

The log is the truth, and the file only saves counting. So no fault of the file ends the process: what cannot be read or
is damaged is counted anew from the log, and what cannot be written now is kept in memory and written later. A file that
somebody else removed, replaced or changed while it was in use is written anew from memory.

Each row has a checksum, and the sum of all checksums is saved with the rows. So a file that mixes older and newer pages
(an older copy of its write-ahead file lies beside it) is noticed when it is read, although each of its rows is whole.
"""

import os
import sqlite3
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Final, Self
from zlib import crc32

from engine.errors import MurmurationError
from streams.durable.disk import FILE_MODE, make_folder
from streams.log.interface import TopicPartition

_VERSION: Final = 3
#: The format without ``sums``; it is read, and written anew as this version's.
_VERSION_WITHOUT_SUMS: Final = 2
#: ``crc`` is CRC-32 of the row's other columns: SQLite itself does not notice a changed byte in a value. ``sums`` has
#: one row: the sum of the checksums of all other rows.
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS state (key BLOB PRIMARY KEY, value BLOB NOT NULL, crc INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS positions (
    topic TEXT, partition INTEGER, position INTEGER NOT NULL, crc INTEGER NOT NULL, PRIMARY KEY (topic, partition)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sums (id INTEGER PRIMARY KEY CHECK (id = 1), crcs INTEGER NOT NULL);
PRAGMA user_version = {_VERSION};
"""
#: Primary result codes of SQLite for a file that must be replaced. A damaged header may say that it is read-only.
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_ERROR)


_FileState = tuple[int, int, int, int] | None


class NotSavedError(MurmurationError):
    """The state could not be written; it is complete in memory, and the next save writes all of it."""

    code = "not_saved"


class _DamagedError(Exception):
    """The file is not what this program wrote."""


#: What reading a damaged file may raise: text that is no UTF-8 and values of another type, too.
_NOT_READ = (sqlite3.Error, _DamagedError, TypeError, ValueError)


class SavedState(MutableMapping[bytes, bytes]):
    """A dict whose changes since the last ``save`` go to the file in one transaction with the positions.

    After a crash the file holds the state and the positions of the same save; records counted after it are read again.
    A power cut may lose the last saves, but never half of one. Without a path nothing is kept. For one thread at a
    time.
    """

    def __init__(self, path: Path | None) -> None:
        """Read the file if it is there. If it cannot be used, the state is empty and ``problem`` says why."""
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._values: dict[bytes, bytes] = {}
        self._positions: dict[TopicPartition, int] = {}
        self._changed: set[bytes] = set()
        #: The checksums of the values in the file, and their sum.
        self._crcs: dict[bytes, int] = {}
        self._sum = 0
        #: The files as the system described them after the last use; only this object may change them.
        self._files: list[_FileState] = []
        #: The file must be replaced; the file lacks more than ``_changed``.
        self._stale, self._whole = False, True
        #: Why the file's content could not be used; None if it could, or if there was no file.
        self.problem: str | None = None
        if path is not None and path.exists():
            try:
                self._load(path)
            except (OSError, *_NOT_READ) as error:
                self.problem = f"{path}: {error}"
                self._stale = True
                self._forget_file()
                self._values.clear()
                self._positions.clear()
                self._crcs.clear()

    def _load(self, path: Path) -> None:
        connection = self._connection = _connect(path)
        ((version,),) = connection.execute("PRAGMA user_version")
        if version not in (_VERSION, _VERSION_WITHOUT_SUMS):
            raise _DamagedError(f"has format {version}, this version of the program reads {_VERSION}")
        for key, value, crc in connection.execute("SELECT key, value, crc FROM state"):
            if crc != _value_crc(key, value):
                raise _DamagedError(f"the value of {key!r} fails its checksum")
            self._values[key], self._crcs[key] = value, crc
        for topic, partition, position, crc in connection.execute("SELECT * FROM positions"):
            if crc != _position_crc(topic, partition, position):
                raise _DamagedError(f"the position of {topic}/{partition} fails its checksum")
            self._positions[TopicPartition(topic, partition)] = position
        self._sum = sum(self._crcs.values())
        if version == _VERSION:
            if connection.execute("SELECT crcs FROM sums").fetchall() != [(self._sum_with_positions(),)]:
                raise _DamagedError("its rows are of different saves")
            self._whole = False
        self._files = _file_states(path)

    @property
    def positions(self) -> dict[TopicPartition, int]:
        """The next offset to be counted, by partition."""
        return dict(self._positions)

    @property
    def unsaved(self) -> bool:
        """Whether the file lacks something that is in memory."""
        return bool(self._changed or (self._whole and (self._values or self._positions)))

    def disturbed(self) -> str | None:
        """What somebody else did to the file since it was last used here; the next save writes it anew then. None if
        nothing. Costs two looks at the file system."""
        if self._path is None or not self._files or (found := _file_states(self._path)) == self._files:
            return None
        before, now = self._files[0], found[0]
        if now is None:
            what = "was removed"
        else:
            what = "was replaced" if before is None or now[:2] != before[:2] else "was changed by another program"
        self._stale = self._whole = True
        self._forget_file()
        return f"{self._path}: {what} while it was in use"

    def move(self, positions: Mapping[TopicPartition, int]) -> None:
        """Note up to which positions the log was counted, without writing anything."""
        self._positions |= positions

    def save(self, positions: Mapping[TopicPartition, int]) -> None:
        """Write the changed values, and the positions up to which the log was counted.

        Raises:
            NotSavedError: the file cannot be written; nothing is lost in memory.
        """
        self.move(positions)
        if self._path is None:
            self._changed.clear()
            return
        try:
            self._write(self._path)
            self._files = _file_states(self._path)
        except (OSError, *_NOT_READ) as error:
            # What the file holds now is uncertain: the next save writes everything.
            self._whole = True
            self._stale |= not isinstance(error, OSError) and _primary(error) in _DAMAGED
            self._forget_file()
            raise NotSavedError(f"{self._path}: {error}") from error
        self._changed.clear()
        self._stale = self._whole = False

    def _write(self, path: Path) -> None:
        if self._connection is None:
            if self._stale:
                for name in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm"))):
                    name.unlink(missing_ok=True)
            self._connection = _connect(path)
        with self._connection as file:
            if self._whole:
                for statement in _SCHEMA.split(";"):
                    file.execute(statement)
                file.execute("DELETE FROM state")
                file.execute("DELETE FROM positions")
                self._crcs.clear()
                self._sum = 0
            changed = self._values.keys() if self._whole else self._changed
            rows = [(k, self._values[k], _value_crc(k, self._values[k])) for k in changed if k in self._values]
            file.executemany("INSERT OR REPLACE INTO state VALUES (?, ?, ?)", rows)
            file.executemany("DELETE FROM state WHERE key = ?", [(k,) for k in changed if k not in self._values])
            for key, _, crc in rows:
                self._sum += crc - self._crcs.get(key, 0)
                self._crcs[key] = crc
            for key in changed:
                if key not in self._values:
                    self._sum -= self._crcs.pop(key, 0)
            file.executemany(
                "INSERT OR REPLACE INTO positions VALUES (?, ?, ?, ?)",
                [(*where, position, _position_crc(*where, position)) for where, position in self._positions.items()],
            )
            file.execute("INSERT OR REPLACE INTO sums VALUES (1, ?)", (self._sum_with_positions(),))

    def _sum_with_positions(self) -> int:
        return self._sum + sum(_position_crc(*where, position) for where, position in self._positions.items())

    def reset(self) -> None:
        """Delete all values and positions; the next save does so in the file."""
        self._values.clear()
        self._positions.clear()
        self._changed.clear()
        self._whole = True

    def close(self) -> None:
        """Release the file. Changes since the last save are lost, as in a crash. Idempotent."""
        self._forget_file()

    def _forget_file(self) -> None:
        connection, self._connection = self._connection, None
        self._files = []
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __getitem__(self, key: bytes) -> bytes:
        return self._values[key]

    def __setitem__(self, key: bytes, value: bytes) -> None:
        self._values[key] = value
        self._changed.add(key)

    def __delitem__(self, key: bytes) -> None:
        del self._values[key]
        self._changed.add(key)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def _file_states(path: Path) -> list[_FileState]:
    """Of the file and its write-ahead file: device, inode, bytes and time of the last change; None if it is missing."""
    found: list[_FileState] = []
    for name in (path, path.with_name(f"{path.name}-wal")):
        try:
            status = os.stat(name)
            found.append((status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))
        except FileNotFoundError:
            found.append(None)
    return found


def _connect(path: Path) -> sqlite3.Connection:
    """A connection to the file, which is made if it is missing, for this user alone."""
    make_folder(path.parent)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, FILE_MODE))
    connection = sqlite3.connect(path, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _primary(error: Exception) -> int:
    """The primary result code of SQLite; for errors that have none, that of any other error."""
    return int(getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)) & 0xFF


def _value_crc(key: bytes, value: bytes) -> int:
    return crc32(value, crc32(key))


def _position_crc(topic: str, partition: int, position: int) -> int:
    return crc32(f"{topic}/{partition}/{position}".encode())
