"""The SQLite file of an embedded log: address, schema, and every query that reads it.

Tables: ``log`` (one row: next block number, last append time, how often retention removed records), ``identity`` (one
row: a random id, drawn when the file is made), ``partitions`` (start and end offset of each) and ``blocks`` (module
``blocks``).
"""

import os
import secrets
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl, urlsplit

from engine.errors import ConfigError
from streams.log.interface import LogUnavailableError
from streams.log.sqlite.blocks import Block
from streams.log.sqlite.write_ahead import WAL_BYTES_MAX, check_write_ahead_file

#: "Murm", in the file's header, so that another program's database is never taken for a log.
_APPLICATION_ID = 0x4D75726D
_FORMAT_VERSION = 1
_BUSY_TIMEOUT_S = 10.0
_SYNCHRONOUS = ("full", "normal")
#: The write-ahead file is copied into the database after this many pages (4 KiB each), and then cut to
#: ``WAL_BYTES_MAX``.
_CHECKPOINT_PAGES = 4000

DISK_FULL = "the disk is full"

_SCHEMA = f"""
CREATE TABLE log (id INTEGER PRIMARY KEY CHECK (id = 1), next_seq INTEGER NOT NULL, append_ms INTEGER NOT NULL,
    retentions INTEGER NOT NULL, opened INTEGER NOT NULL);
INSERT INTO log VALUES (1, 1, 0, 0, 0);
CREATE TABLE partitions (id INTEGER PRIMARY KEY, topic TEXT NOT NULL, partition INTEGER NOT NULL,
    start_offset INTEGER NOT NULL DEFAULT 0, end_offset INTEGER NOT NULL DEFAULT 0, UNIQUE (topic, partition));
CREATE TABLE blocks (seq INTEGER PRIMARY KEY, partition_id INTEGER NOT NULL, base_offset INTEGER NOT NULL,
    records INTEGER NOT NULL, append_ms INTEGER NOT NULL, crc INTEGER NOT NULL, body BLOB NOT NULL);
CREATE UNIQUE INDEX blocks_by_offset ON blocks (partition_id, base_offset);
CREATE INDEX blocks_by_time ON blocks (partition_id, append_ms);
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {_FORMAT_VERSION};
"""


class SqliteAddress(NamedTuple):
    """The parts of ``sqlite:///path?synchronous=full``; three slashes: relative path, four: absolute."""

    path: Path
    synchronous: str = "full"


class PartitionRow(NamedTuple):
    """A row of table ``partitions``."""

    id: int
    partition: int
    start_offset: int
    end_offset: int


def parse_address(url: str) -> SqliteAddress:
    """Read a ``sqlite:`` URL.

    Raises:
        ConfigError: no path, a host, or an option that does not exist.
    """
    parts = urlsplit(url)
    if parts.netloc or not parts.path.strip("/"):
        raise ConfigError(f"log.url: {url!r} names no file; write sqlite:///relative/path or sqlite:////absolute/path")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    synchronous = options.pop("synchronous", "full").lower()
    if options or synchronous not in _SYNCHRONOUS:
        raise ConfigError(f"log.url: {parts.query!r} is no option; there is ?synchronous=full and ?synchronous=normal")
    return SqliteAddress(Path(parts.path[1:]), synchronous)


def unavailable(path: Path, error: Exception) -> LogUnavailableError:
    """The error to raise for an error of SQLite or the file system; its message says what to do."""
    said = str(error)
    for words, advice in (
        ("full", f"{DISK_FULL}; free some space (nothing of this append was written)"),
        ("readonly", "the file is read-only; make it and its folder writable"),
        ("unable to open", "cannot be opened or created; check that its folder can be written to"),
        ("not a database", "is damaged, or no log at all; restore it, or move it away to begin a new one"),
        ("malformed", "is damaged; restore it, or move it away to begin a new one"),
        ("checksum", "is damaged; restore it, or move it away to begin a new one"),
        ("locked", f"another process has held its write lock for {_BUSY_TIMEOUT_S:.0f} s; end it or try again"),
    ):
        if words in said:
            return LogUnavailableError(f"log {path}: {advice} ({said})")
    return LogUnavailableError(f"log {path}: {said}")


def create(address: SqliteAddress) -> None:
    """Create the file and its folder where they are missing, and check that it can be written.

    Raises:
        LogUnavailableError: with what to do about it.
    """
    path = address.path
    if path.is_dir():
        raise LogUnavailableError(f"log {path}: is a folder; name a file in it")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise LogUnavailableError(f"log {path}: its folder cannot be created ({error.strerror})") from error
    check_write_ahead_file(path)
    # What everybody does is for this user alone to read: SQLite gives its files beside the log the same mode.
    with suppress(OSError):  # it is there, or SQLite says why it cannot be made
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        with closing(connect(address)) as connection:
            _prepare(path, connection)
    except sqlite3.Error as error:
        raise unavailable(path, error) from error


def _prepare(path: Path, connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        ((application_id,),) = connection.execute("PRAGMA application_id")
        ((version,),) = connection.execute("PRAGMA user_version")
        ((tables,),) = connection.execute("SELECT count(*) FROM sqlite_master")
        if tables == 0:
            for statement in _SCHEMA.split(";"):
                connection.execute(statement)
            application_id, version = _APPLICATION_ID, _FORMAT_VERSION
        if application_id != _APPLICATION_ID:
            raise LogUnavailableError(f"log {path}: is another program's database; name another file")
        if version != _FORMAT_VERSION:
            raise LogUnavailableError(
                f"log {path}: has format {version}, this version reads {_FORMAT_VERSION}; use the version that made it"
            )
        connection.execute("CREATE TABLE IF NOT EXISTS identity (id TEXT NOT NULL)")
        connection.execute(
            "INSERT INTO identity SELECT ? WHERE NOT EXISTS (SELECT 1 FROM identity)", (secrets.token_hex(8),)
        )
        # Always write something: SQLite opens a read-only file without an error.
        connection.execute("UPDATE log SET opened = opened + 1")
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def connect(address: SqliteAddress) -> sqlite3.Connection:
    """A connection in write-ahead mode, whose transactions the caller begins and ends. For one thread at a time.

    Raises:
        sqlite3.Error: the file cannot be opened.
    """
    connection = sqlite3.connect(
        address.path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False, cached_statements=64
    )
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {address.synchronous}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES_MAX}")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def require(address: SqliteAddress) -> None:
    """Raises LogUnavailableError: there is no such file."""
    path = address.path
    if not path.is_file():
        what = "is no file" if path.exists() else "is not there, so nothing was published or served yet"
        raise LogUnavailableError(f"log {path}: {what}")


def connect_to_read(address: SqliteAddress) -> sqlite3.Connection:
    """A connection that changes nothing and leaves no file behind, also where nothing may be written.

    Raises:
        LogUnavailableError: the file is no log.
        sqlite3.Error: the file cannot be opened or read.
    """
    path = address.path
    check_write_ahead_file(path)
    try:
        return _opened_to_read(path, "mode=rw")
    except sqlite3.OperationalError:
        wal = path.with_name(f"{path.name}-wal")
        if wal.exists() and wal.stat().st_size:
            raise
        # On a read-only disk SQLite has no place for its files beside the log, and nothing else can change the log.
        return _opened_to_read(path, "mode=ro&immutable=1")


def _opened_to_read(path: Path, options: str) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?{options}"
    connection = sqlite3.connect(uri, uri=True, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA query_only = 1")
        ((application_id,),) = connection.execute("PRAGMA application_id")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.Error:
        connection.close()
        raise
    if application_id != _APPLICATION_ID:
        connection.close()
        raise LogUnavailableError(f"log {path}: is no log of murmuration; name another file")
    return connection


def partition_rows(connection: sqlite3.Connection, topic: str) -> list[PartitionRow]:
    """The topic's partitions, in order; empty if there is no such topic."""
    rows = connection.execute(
        "SELECT id, partition, start_offset, end_offset FROM partitions WHERE topic = ? ORDER BY partition", (topic,)
    )
    return [PartitionRow(*row) for row in rows]


def offsets_for_time(connection: sqlite3.Connection, topic: str, time_ms: int) -> dict[int, int]:
    """The first offset appended at or after ``time_ms``, else the end offset, by partition."""
    found = {}
    for row in partition_rows(connection, topic):
        first = connection.execute(
            "SELECT base_offset FROM blocks WHERE partition_id = ? AND append_ms >= ? ORDER BY append_ms, seq LIMIT 1",
            (row.id, time_ms),
        ).fetchone()
        found[row.partition] = first[0] if first else row.end_offset
    return found


class Scan(NamedTuple):
    """The result of one scan: blocks in append order, and the block number from which the next scan begins.

    ``starts`` has the partitions' start offsets if retention ran since the last scan, else it is empty.
    """

    blocks: list[Block]
    next_seq: int
    retentions: int
    starts: dict[int, int]


def first_seq(connection: sqlite3.Connection, positions: Mapping[int, int]) -> int:
    """The block number from which a scan finds all records from these positions (offset by partition id) on."""
    ((first,),) = connection.execute("SELECT next_seq FROM log")
    for partition_id, offset in positions.items():
        row = connection.execute(
            "SELECT seq FROM blocks WHERE partition_id = ? AND base_offset <= ? AND base_offset + records > ?"
            " ORDER BY base_offset DESC LIMIT 1",
            (partition_id, offset, offset),
        ).fetchone()
        if row:
            first = min(first, row[0])
    return int(first)


def scan(
    connection: sqlite3.Connection,
    partition_ids: Iterable[int],
    *,
    next_seq: int,
    retentions: int,
    records_max: int,
    bytes_max: int,
) -> Scan:
    """Read blocks of these partitions from ``next_seq`` on, until ``records_max`` or ``bytes_max`` is reached."""
    ids = ",".join(map(str, partition_ids))
    blocks: list[Block] = []
    starts: dict[int, int] = {}
    connection.execute("BEGIN")
    try:
        ((end_seq, now_retentions),) = connection.execute("SELECT next_seq, retentions FROM log")
        if now_retentions != retentions:
            starts = dict(connection.execute(f"SELECT id, start_offset FROM partitions WHERE id IN ({ids})"))
        # "+partition_id" keeps SQLite from using the partition index; with that index it would have to sort by seq.
        cursor = connection.execute(
            "SELECT seq, partition_id, base_offset, records, append_ms, crc, body FROM blocks"
            f" WHERE seq >= ? AND +partition_id IN ({ids}) ORDER BY seq",
            (next_seq,),
        )
        for row in cursor:
            block = Block(*row)
            blocks.append(block)
            records_max -= block.records
            bytes_max -= len(block.body)
            if records_max <= 0 or bytes_max <= 0:
                end_seq = block.seq + 1
                break
        cursor.close()
    finally:
        connection.execute("COMMIT")
    return Scan(blocks, end_seq, now_retentions, starts)
