"""Packed batches: many fixed-width events in one log record, for load, bridges and internal topics.

Layout 1, little endian: a 16-byte header (magic ``MURM``, version u8 = 1, layout u8 = 1, bytes per row u16 = 56, rows
u32, CRC-32 of the rows u32), then the rows (``ROW``). A record that is damaged anywhere is refused whole: the header is
constant except for the count, which must match the length, and the checksum, which must match the rows.
"""

import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.batch import DERIVED_KINDS, ENGAGEMENT_KINDS, OWN_KINDS, RELATIONSHIP_KINDS, Kind
from engine.errors import EventError
from streams.events import kernels
from streams.events.columns import Columns
from streams.events.foreign import looks_like
from streams.events.reasons import Reason
from streams.events.units import wrong_unit

MAGIC = b"MURM"
VERSION = 1
LAYOUT = 1
HEADER = struct.Struct("<4sBBHII")
ROW = np.dtype(
    [
        ("id", "<u8"),
        ("user_id", "<u8"),
        ("subject_id", "<u8"),
        ("author_id", "<u8"),
        ("timestamp_ms", "<i8"),
        ("context_id", "<u8"),
        ("value", "<f4"),
        ("kind", "u1"),
        ("reserved", "u1", (3,)),
    ]
)
#: The same row with kind and reserved bytes as one number, which a kernel can check at once.
_WIDE_ROW = np.dtype([(name, ROW[name]) for name in ROW.names[:-2]] + [("tail", "<u4")])  # type: ignore[index]
_COLUMNS = _WIDE_ROW.names[:-1]  # type: ignore[index]
#: Most rows per record that ``pack`` makes: 115 KB, and one batch of the state thread.
ROWS_MAX = 2048
#: Most rows that a record may have. A version applies whole records, and a write must not hold the state lock for long.
RECORD_ROWS_MAX = 4096

_CONSTANT = struct.pack("<4sBBH", MAGIC, VERSION, LAYOUT, ROW.itemsize)


def _kind_table(*kinds: Kind) -> NDArray[np.bool_]:
    table = np.zeros(256, np.bool_)
    table[list(kinds)] = True
    return table


#: Kinds that a topic's packed records may have. Events whose content has no fixed width (edits, labels, profiles,
#: muted words, interests) are JSON only.
PACKED_KINDS = {
    "engagements": _kind_table(*ENGAGEMENT_KINDS),
    "tweets": _kind_table(Kind.CREATE, Kind.DELETE, *DERIVED_KINDS),
    "relationships": _kind_table(*(kind for kind in RELATIONSHIP_KINDS if kind not in OWN_KINDS)),
}
_FAULT_REASONS = {
    kernels.WRONG_TOPIC: Reason.WRONG_TOPIC,
    kernels.BAD_ID: Reason.ID_OUT_OF_RANGE,
    kernels.BAD_TIME: Reason.TIMESTAMP_OUT_OF_RANGE,
    kernels.IN_FUTURE: Reason.TIMESTAMP_IN_FUTURE,
    kernels.SELF_TARGET: Reason.SELF_TARGET,
    kernels.BAD_VALUE: Reason.VALUE_OUT_OF_RANGE,
    kernels.BAD_ROW: Reason.BAD_ROW,
}


class BadRow(NamedTuple):
    """A row that cannot be used: its record (index), its place in the record, its bytes, and the reason."""

    record: int
    row: int
    reason: Reason
    value: bytes


def make_rows(size: int, **columns: object) -> NDArray[np.void]:
    """Rows (``ROW``, n) from columns by field name, arrays or scalars; fields that are not given are 0.

    Raises:
        ValueError: an unknown field, or a column that is not ``size`` long.
    """
    rows = np.zeros(size, ROW)
    for name, column in columns.items():
        if name not in ROW.fields:  # type: ignore[operator]
            raise ValueError(f"a packed row has no field {name!r}")
        rows[name] = column
    return rows


def encode_events(rows: NDArray[np.void]) -> bytes:
    """One packed record of these rows (``ROW``, at least one).

    Raises:
        ValueError: no rows, or rows of another dtype.
    """
    if rows.dtype != ROW or rows.ndim != 1 or not rows.size:
        raise ValueError(f"a packed batch is a non-empty array of {ROW}, not {rows.dtype}{rows.shape}")
    body = rows.tobytes()
    return HEADER.pack(MAGIC, VERSION, LAYOUT, ROW.itemsize, rows.size, zlib.crc32(body)) + body


def pack(rows: NDArray[np.void], rows_max: int = ROWS_MAX) -> Iterator[bytes]:
    """Packed records of at most ``rows_max`` rows, in order. A create and its derived rows stay in one record.

    Raises:
        ValueError: a create with more derived rows than fit.
    """
    start = 0
    derived = (kernels.TRAITS[rows["kind"]] & kernels.DERIVED) != 0
    while start < rows.size:
        stop = min(start + rows_max, rows.size)
        while stop < rows.size and derived[stop]:
            stop -= 1
            if stop == start:
                raise ValueError(f"a tweet has more than {rows_max - 1} derived rows")
        yield encode_events(rows[start:stop])
        start = stop


def open_record(value: bytes) -> int:
    """Verify a packed record; returns how many rows it holds.

    Raises:
        EventError: ``bad_packed_header``, ``truncated_batch`` or ``bad_checksum``.
    """
    if len(value) < HEADER.size:
        raise EventError(Reason.TRUNCATED_BATCH, f"{len(value)} bytes are less than a header")
    *_, count, checksum = HEADER.unpack_from(value)
    if not value.startswith(_CONSTANT):
        words = looks_like(value)
        detail = f"looks like {words}" if words else f"{value[:8].hex()} is not {_CONSTANT.hex()}"
        raise EventError(Reason.BAD_PACKED_HEADER, detail)
    if not 1 <= count <= RECORD_ROWS_MAX:
        raise EventError(Reason.BAD_PACKED_HEADER, f"a record has 1 to {RECORD_ROWS_MAX} rows, not {count}")
    if len(value) != HEADER.size + count * ROW.itemsize:
        raise EventError(Reason.TRUNCATED_BATCH, f"{len(value)} bytes are not {count} rows of {ROW.itemsize}")
    if zlib.crc32(memoryview(value)[HEADER.size :]) != checksum:
        raise EventError(Reason.BAD_CHECKSUM, "the rows do not match their checksum")
    return int(count)


def row_bytes(value: bytes, row: int) -> bytes:
    """One row of a verified packed record, as it stands there."""
    start = HEADER.size + row * ROW.itemsize
    return value[start : start + ROW.itemsize]


def decode_rows(
    topic: str, values: Sequence[bytes], counts: Sequence[int], times_ms_max: NDArray[np.int64]
) -> tuple[Columns, list[BadRow]]:
    """Rows of verified records (``open_record`` gave ``counts``) as columns, in order; bad rows are left out.

    ``times_ms_max`` (one per record) bounds the event times. ``Columns.source`` is the row's record.
    """
    if len(values) == 1:
        rows = np.frombuffer(values[0], _WIDE_ROW, offset=HEADER.size)
    else:
        rows = np.frombuffer(b"".join(memoryview(value)[HEADER.size :] for value in values), _WIDE_ROW)
    record = np.repeat(np.arange(len(values)), counts)
    columns = [_column(rows, name) for name in _COLUMNS]
    id_, user_id, subject_id, author_id, timestamp_ms, context_id, value = columns
    tail = _column(rows, "tail")
    kind = tail.astype(np.uint8)  # the lowest byte of the four
    faults = np.empty(rows.size, np.uint8)
    bad_count = kernels.find_faults(
        PACKED_KINDS[topic],
        kernels.TRAITS,
        kind,
        id_,
        user_id,
        subject_id,
        author_id,
        timestamp_ms,
        context_id,
        value,
        tail,
        record,
        times_ms_max,
        faults,
    )
    events = [kind, *columns, np.full(rows.size, -1, np.int32)]
    if not bad_count:
        return Columns(events, record), []
    bad_rows = []
    starts = np.cumsum(counts) - counts
    for i in np.flatnonzero(faults):
        of = int(record[i])
        bad_rows.append(BadRow(of, int(i - starts[of]), _FAULT_REASONS[int(faults[i])], rows[i].tobytes()))
    good = faults == 0
    return Columns([column[good] for column in events], record[good]), bad_rows


def row_words(row: BadRow) -> str:
    """What more a dead letter of a row says: the unit that its time looks like."""
    if row.reason is not Reason.TIMESTAMP_OUT_OF_RANGE:
        return ""
    return f": {wrong_unit(int(np.frombuffer(row.value, ROW)['timestamp_ms'][0]))}"


def _column(rows: NDArray[np.void], name: str) -> NDArray[Any]:
    """A field of packed rows as a writable contiguous array in the machine's byte order."""
    column = rows[name]
    return np.array(column, column.dtype.newbyteorder("="))
