"""A copy of an embedded log, also while processes write to it: SQLite's own backup, in one reading transaction."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from streams.log.interface import LogUnavailableError
from streams.log.sqlite.file import SqliteAddress, connect_to_read, require, unavailable


def copy_log(address: SqliteAddress, target: Path) -> int:
    """Copy the log into a new file; returns its bytes. The copy holds what was committed when the copying began.

    Raises:
        LogUnavailableError: the log cannot be read, the copy cannot be written, or the copy is not sound.
    """
    require(address)
    try:
        source = connect_to_read(address)
    except sqlite3.Error as error:
        raise unavailable(address.path, error) from error
    try:
        with closing(source):
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            with closing(sqlite3.connect(target, isolation_level=None)) as copy:
                source.backup(copy)
                ((verdict,),) = copy.execute("PRAGMA quick_check(1)")
    except (OSError, sqlite3.Error) as error:
        raise unavailable(target, error) from error
    if verdict != "ok":
        raise LogUnavailableError(f"log {address.path}: is damaged; a copy of it is no backup ({verdict})")
    _sync(target)
    return target.stat().st_size


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
