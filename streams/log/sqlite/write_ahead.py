"""The write-ahead file beside the log: whether it is still what SQLite wrote, and whether it is older than the log.

SQLite trusts any whole write-ahead file that lies beside a database. An older copy would bring older pages back, and
while the file is in use SQLite does not even verify it.
"""

import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Final

from streams.log.interface import LogUnavailableError
from streams.log.sqlite.descriptors import descriptors

#: SQLite cuts the file to this size when it begins it anew.
WAL_BYTES_MAX: Final = 64 << 20
_HEADER_BYTES: Final = 32
_FRAME_HEADER_BYTES: Final = 24
_INDEX_BYTES: Final = 48

#: SQLite's types of columns that have no bytes (NULL, which stands for the key, 0 and 1), and the bytes of the others.
_CONSTANTS: Final = {0: 0, 8: 0, 9: 1}
_WIDTHS: Final = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}
_LEAF: Final = 13


def as_written(wal: int, index: int) -> bool:
    """Whether the write-ahead file (a descriptor) ends as SQLite wrote it, by the index that its connections share.

    The index (the file ``-shm``) names the file's salts, how many frames are committed, and the checksum of the last of
    them, which continues those of all frames before it: https://www.sqlite.org/walformat.html. SQLite writes the
    frames first and then the index, so a commit between two looks changes the index.
    """
    before = os.pread(index, 2 * _INDEX_BYTES, 0)
    here, salts = before[:_INDEX_BYTES], before[32:40]
    if here != before[_INDEX_BYTES:] or not any(here):
        return True  # it is just being written, or was not yet
    page_bytes, frames = (int.from_bytes(here[at:end], sys.byteorder) for at, end in ((14, 16), (16, 20)))
    if not frames:
        return True
    header = os.pread(wal, _HEADER_BYTES, 0)
    frame_bytes = _FRAME_HEADER_BYTES + (page_bytes if page_bytes > 1 else 1 << 16)
    last = os.pread(wal, _FRAME_HEADER_BYTES, _HEADER_BYTES + (frames - 1) * frame_bytes)
    checksum = b"".join(int.from_bytes(here[at : at + 4], sys.byteorder).to_bytes(4, "big") for at in (24, 28))
    sound = header[16:24] == salts and last[8:] == salts + checksum
    size = os.fstat(wal).st_size
    if sound and size >= _HEADER_BYTES + frames * frame_bytes:
        return True
    return os.pread(index, 2 * _INDEX_BYTES, 0) != before


def check_write_ahead_file(path: Path) -> None:
    """Before the log is opened: whether the write-ahead file beside it, if there is one, is no older than the log.
    Changes nothing.

    The counters of table ``log`` never go back. So in the log's file they are not above those that SQLite reads through
    the write-ahead file. A copy that holds the first part of what follows the log's file is not noticed here: it looks
    like a log that ended earlier. A start of an engine compares the log's end with its state.

    Raises:
        LogUnavailableError: it is older, with what to do about it.
    """
    wal = path.with_name(f"{path.name}-wal")
    try:
        if not wal.stat().st_size:
            return
        key, descriptor = descriptors.take(path)
    except OSError:
        return
    try:
        older = _goes_back(path, descriptor)
    except (OSError, sqlite3.Error):
        return  # whoever opens the log next says what is wrong
    finally:
        descriptors.give_back(key)
    if older:
        raise LogUnavailableError(
            f"log {path}: {wal.name} beside it is older than the log; put the right one back, or move this one away to"
            " go on with what the log itself holds"
        )


def _goes_back(path: Path, descriptor: int) -> bool:
    # A connection that may not write does not copy the write-ahead file into the log when it is closed.
    uri = f"{path.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection:
        ((page_bytes,),) = connection.execute("PRAGMA page_size")
        root = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'log'").fetchone()
        if root is None:  # another process is just making the log
            return False
        page = os.pread(descriptor, page_bytes, (root[0] - 1) * page_bytes)
        counters = connection.execute("SELECT 0, next_seq, append_ms, retentions, opened FROM log").fetchone()
    return any(now < then for now, then in zip(counters, only_row(page), strict=False))


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
