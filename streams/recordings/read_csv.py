"""Reading recorded engagements and follows from CSV files. Names of users and items become indexes."""

import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple, TextIO

import numpy as np
from numpy.typing import NDArray

from engine.errors import ConfigError, EventError
from streams.events.foreign import looks_like
from streams.events.ids import hash64, parse_id
from streams.events.reasons import Reason
from streams.events.units import TIMESTAMP_MS_MAX, TIMESTAMP_MS_MIN

#: UTF-8, with or without the byte order mark that spreadsheets write.
_ENCODING: Final = "utf-8-sig"


class CsvError(ConfigError):
    """A folder or file that cannot be replayed; the message says what is missing or wrong."""

    code = "bad_csv"


class Recording(NamedTuple):
    """The rows of a folder.

    Engagements in order of time: ``time_ms``, ``user`` and ``item`` (indexes into ``users`` and ``items``). Follows:
    ``source`` and ``target`` (indexes into ``users``). ``refused``: line numbers of unusable rows, with the reason.
    """

    time_ms: NDArray[np.int64]
    user: NDArray[np.int64]
    item: NDArray[np.int64]
    source: NDArray[np.int64]
    target: NDArray[np.int64]
    users: list[str]
    items: list[str]
    refused: list[tuple[int, EventError]]


def user_id(name: str) -> int:
    """The id of a user's name: the name as a number if it is a decimal id, else the name's 64-bit BLAKE2b hash."""
    try:
        return parse_id(name)
    except EventError:
        return hash64(f"user:{name}".encode())


def require_engagements(folder: Path) -> None:
    """Look for the file without which there is no recording, before anything else is opened.

    Raises:
        CsvError: it is not there.
    """
    if _file_of(folder, "engagements") is None:
        raise _nothing_in(folder)


def _file_of(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / f"{name}.csv.gz", folder / f"{name}.csv") if path.is_file()), None)


def _nothing_in(folder: Path) -> CsvError:
    return CsvError(f"{folder}: no engagements.csv.gz with columns ts,user,item and at least one row")


def read_recording(folder: Path) -> Recording:
    """Read a folder's files whole (about 100 bytes of memory per row and per name).

    Rows with missing columns, times that are not numbers, empty names and users who follow themselves are left out, and
    listed in ``refused`` by line.

    Raises:
        CsvError: no ``engagements.csv.gz`` (or ``.csv``), not the expected columns, or two names with one id.
    """
    refused: list[tuple[int, EventError]] = []
    users: dict[str, int] = {}
    items: dict[str, int] = {}
    rows: list[tuple[int, int, int]] = []
    for line, (ts, user, item) in _read_rows(folder, "engagements", ("ts", "user", "item"), refused):
        try:
            row = (_time_ms(ts), users.setdefault(user, len(users)), items.setdefault(item, len(items)))
        except (ValueError, OverflowError):
            detail = f"engagements: {ts[:40]!r} is not a time in seconds{_finer_unit(ts)}"
            refused.append((line, EventError(Reason.TIMESTAMP_OUT_OF_RANGE, detail)))
            continue
        rows.append(row)
    if not rows:
        raise _nothing_in(folder)
    links: list[tuple[int, int]] = []
    for line, (source, target) in _read_rows(folder, "follows", ("src", "dst"), refused):
        if source == target:
            refused.append((line, EventError(Reason.SELF_TARGET, "follows: source and target are the same")))
            continue
        links.append((users.setdefault(source, len(users)), users.setdefault(target, len(users))))
    names_by_id = {user_id(name): name for name in users}
    if len(names_by_id) < len(users):
        clash = next(name for name in users if names_by_id[user_id(name)] != name)
        raise CsvError(f"{folder}: users {clash!r} and {names_by_id[user_id(clash)]!r} have the same id; rename one")
    table = np.array(rows, np.int64)
    # A stable sort: rows of the same second stay in the file's order.
    table = table[np.argsort(table[:, 0], kind="stable")]
    link_table = np.array(links, np.int64).reshape(-1, 2)
    time_ms, user_column, item_column = np.ascontiguousarray(table.T)
    source_column, target_column = np.ascontiguousarray(link_table.T)
    return Recording(time_ms, user_column, item_column, source_column, target_column, list(users), list(items), refused)


def _time_ms(ts: str) -> int:
    try:
        time_ms = int(ts) * 1000
    except ValueError:
        time_ms = round(float(ts) * 1000)
    if not 0 <= time_ms <= TIMESTAMP_MS_MAX:
        raise ValueError(ts)
    return time_ms


def _finer_unit(ts: str) -> str:
    """Words about a time in milliseconds, which the file should have in seconds."""
    milliseconds = ts.isascii() and ts.isdigit() and TIMESTAMP_MS_MIN <= int(ts[:20]) <= TIMESTAMP_MS_MAX
    return "; it looks like milliseconds" if milliseconds else ""


def _read_rows(
    folder: Path, name: str, columns: tuple[str, ...], refused: list[tuple[int, EventError]]
) -> Iterator[tuple[int, list[str]]]:
    path = _file_of(folder, name)
    if path is None:
        return
    try:
        with _open_text(path) as file:
            reader = csv.reader(file)
            if tuple(next(reader, ())) != columns:
                raise CsvError(f"{path}: the first line must be {','.join(columns)}")
            for row in reader:
                if len(row) == len(columns) and all(row):
                    yield reader.line_num, row
                elif row:
                    detail = f"{path.name}: expected {','.join(columns)}"
                    refused.append((reader.line_num, EventError(Reason.MISSING_FIELD, detail)))
    except UnicodeDecodeError as error:
        with path.open("rb") as file:
            words = looks_like(file.read(16))
        raise CsvError(f"{path}: looks like {words}" if words else f"{path}: {error}") from error
    except (OSError, EOFError, zlib.error, csv.Error) as error:
        raise CsvError(f"{path}: {error}") from error


def _open_text(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return io.TextIOWrapper(gzip.open(path), encoding=_ENCODING, newline="")
    return path.open(encoding=_ENCODING, newline="")
