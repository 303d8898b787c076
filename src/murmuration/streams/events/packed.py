"""Packed batches: many fixed-width events in one log record, for load, bridges and internal topics.

Layout 1, little endian: a 16-byte header (magic ``MURM``, version u8 = 1, layout u8 = 1, bytes a row u16 = 56, rows
u32, CRC-32 of the rows u32), then the rows (``ROW``). A record that is damaged anywhere is refused whole: the header
is constant but for the count, which the length must match, and the checksum, which the rows must.
"""

import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from murmuration.engine.errors import EventError
from murmuration.engine.feed import Feed
from murmuration.engine.types import DERIVED_KINDS, ENGAGEMENT_KINDS, RELATIONSHIP_KINDS, Kind
from murmuration.streams.events.columns import Columns
from murmuration.streams.events.ids import mix_ids
from murmuration.streams.events.reasons import Reason
from murmuration.streams.events.wire import TIMESTAMP_MS_MAX, VALUE_MAX

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
#: Rows a record that ``pack`` makes: 229 KB, well under any log's record limit.
ROWS_MAX = 4096

_NONE = np.uint64(0)
_CONSTANT = struct.pack("<4sBBH", MAGIC, VERSION, LAYOUT, ROW.itemsize)


def _kind_table(*kinds: Kind) -> NDArray[np.bool_]:
    table = np.zeros(256, np.bool_)
    table[list(kinds)] = True
    return table


#: Kinds that may stand in a topic's packed records. Those whose content has no fixed width (edits, labels, profiles)
#: are JSON only.
PACKED_KINDS = {
    "engagements": _kind_table(*ENGAGEMENT_KINDS),
    "tweets": _kind_table(Kind.CREATE, Kind.DELETE, *DERIVED_KINDS),
    "relationships": _kind_table(*RELATIONSHIP_KINDS),
    "served": _kind_table(Kind.SERVED),
}
_DERIVED = _kind_table(*DERIVED_KINDS)
_PEOPLE = _kind_table(Kind.MENTION, Kind.MEDIA_TAG)
_TOWARDS_USER = _kind_table(*(kind for kind in RELATIONSHIP_KINDS if kind != Kind.MUTE_WORD))
_WITHOUT_SUBJECT = _kind_table(Kind.MUTE_WORD)
_WITHOUT_AUTHOR = _kind_table(*RELATIONSHIP_KINDS)
#: Kinds whose actor is the author.
_OWN = _kind_table(Kind.CREATE, Kind.DELETE, Kind.HASHTAG, Kind.URL)
_NEEDS_AUTHOR = _kind_table(Kind.CREATE, Kind.DELETE, *DERIVED_KINDS)
_NEEDS_CONTEXT = _kind_table(Kind.MUTE_WORD, Kind.HASHTAG, Kind.URL, Kind.SERVED)
_MAY_HAVE_CONTEXT = _kind_table(*ENGAGEMENT_KINDS, Kind.MUTE_WORD, Kind.HASHTAG, Kind.URL, Kind.SERVED)
_VALUED = _kind_table(Kind.DWELL, Kind.IMPRESSION, Kind.SERVED)
_SIGNED = _kind_table(Kind.SERVED)


class BadRow(NamedTuple):
    """A row that cannot be used: its record (index), its place in it, its bytes and why."""

    record: int
    row: int
    reason: Reason
    value: bytes


def make_rows(size: int, **columns: object) -> NDArray[np.void]:
    """Rows (``ROW``, n) from columns by field name, arrays or scalars; what is not given is 0.

    Raises:
        ValueError: an unknown field, or a column that is not ``size`` long.
    """
    rows = np.zeros(size, ROW)
    for name, column in columns.items():
        if name not in ROW.fields:  # type: ignore[operator]
            raise ValueError(f"a packed row has no field {name!r}")
        rows[name] = column
    return rows


def served_rows(feed: Feed) -> NDArray[np.void]:
    """One SERVED row for each entry of a feed: context = request, value = score, id mixed from request and position."""
    size = len(feed.entries)
    request_ids = np.full(size, feed.request_id, np.uint64)
    positions = np.array([entry.position for entry in feed.entries], np.uint64)
    return make_rows(
        size,
        id=mix_ids(request_ids, positions),
        user_id=feed.viewer_id,
        subject_id=np.array([entry.tweet_id for entry in feed.entries], np.uint64),
        author_id=np.array([entry.author_id for entry in feed.entries], np.uint64),
        timestamp_ms=feed.time_ms,
        context_id=request_ids,
        value=np.array([entry.score for entry in feed.entries], np.float32),
        kind=int(Kind.SERVED),
    )


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
    derived = _DERIVED[rows["kind"]]
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
        raise EventError(Reason.BAD_PACKED_HEADER, f"{value[:8].hex()} is not {_CONSTANT.hex()}")
    if not count:
        raise EventError(Reason.BAD_PACKED_HEADER, "no rows")
    if len(value) != HEADER.size + count * ROW.itemsize:
        raise EventError(Reason.TRUNCATED_BATCH, f"{len(value)} bytes are not {count} rows of {ROW.itemsize}")
    if zlib.crc32(memoryview(value)[HEADER.size :]) != checksum:
        raise EventError(Reason.BAD_CHECKSUM, "the rows do not match their checksum")
    return int(count)


def decode_rows(
    topic: str, values: Sequence[bytes], counts: Sequence[int], times_ms_max: NDArray[np.int64]
) -> tuple[Columns, list[BadRow]]:
    """Rows of verified records (``open_record`` gave ``counts``) as columns, in order; bad rows are left out.

    ``times_ms_max`` (one a record) bounds the event times. ``Columns.source`` is the row's record.
    """
    if len(values) == 1:
        rows = np.frombuffer(values[0], ROW, offset=HEADER.size)
    else:
        rows = np.frombuffer(b"".join(memoryview(value)[HEADER.size :] for value in values), ROW)
    source = np.repeat(np.arange(len(values)), counts)
    columns = [rows[name] for name in ("id", "user_id", "subject_id", "author_id", "timestamp_ms", "context_id")]
    kind, value = rows["kind"].copy(), rows["value"].astype(np.float32)
    contiguous = [np.ascontiguousarray(column, column.dtype.newbyteorder("=")) for column in columns]
    events = [kind, *contiguous, value, np.full(rows.size, -1, np.int32)]
    faults = _faults(topic, events, rows["reserved"], source, times_ms_max)
    bad = np.flatnonzero(faults)
    if not bad.size:
        return Columns(events, source), []
    starts = np.concatenate(([0], np.cumsum(counts)[:-1]))
    bad_rows = [BadRow(int(source[i]), int(i - starts[source[i]]), _FAULTS[faults[i]], rows[i].tobytes()) for i in bad]
    good = faults == 0
    return Columns([column[good] for column in events], source[good]), bad_rows


_FAULTS = {
    1: Reason.WRONG_TOPIC,
    2: Reason.ID_OUT_OF_RANGE,
    3: Reason.TIMESTAMP_OUT_OF_RANGE,
    4: Reason.TIMESTAMP_IN_FUTURE,
    5: Reason.SELF_TARGET,
    6: Reason.VALUE_OUT_OF_RANGE,
    7: Reason.BAD_ROW,
}


def _faults(
    topic: str,
    events: Sequence[NDArray[Any]],
    reserved: NDArray[np.uint8],
    source: NDArray[np.int64],
    times_ms_max: NDArray[np.int64],
) -> NDArray[np.uint8]:
    """What is wrong with each row: 0 for nothing, else a key of ``_FAULTS``; the first of them wins."""
    kind, id_, user_id, subject_id, author_id, time_ms, context_id, value, _ = events
    towards_user, without_subject = _TOWARDS_USER[kind], _WITHOUT_SUBJECT[kind]
    magnitude = np.abs(value)
    masks = (
        ~PACKED_KINDS[topic][kind],
        (id_ == _NONE) | (user_id == _NONE) | ((subject_id == _NONE) != without_subject),
        (time_ms <= 0) | (time_ms > TIMESTAMP_MS_MAX),
        time_ms > times_ms_max[source],
        towards_user & (user_id == subject_id),
        # A NaN fails every comparison.
        ~(magnitude <= VALUE_MAX) | ((value != 0) & ~_VALUED[kind]) | ((value < 0) & ~_SIGNED[kind]),
        (reserved != 0).any(axis=1)
        | (_WITHOUT_AUTHOR[kind] & (author_id != _NONE))
        | (_NEEDS_AUTHOR[kind] & (author_id == _NONE))
        | (_OWN[kind] & (author_id != user_id))
        | (_PEOPLE[kind] & (author_id == user_id))
        | (_NEEDS_CONTEXT[kind] & (context_id == _NONE))
        | (~_MAY_HAVE_CONTEXT[kind] & (context_id != _NONE)),
    )
    faults = np.zeros(kind.size, np.uint8)
    for fault, mask in zip(reversed(_FAULTS), reversed(masks), strict=True):
        if mask.any():
            faults[mask] = fault
    derived = _DERIVED[kind]
    if topic == "tweets" and derived.any():
        orphan = derived & ~_follows_create(events, derived, source, faults)
        faults[orphan & (faults == 0)] = 7
    return faults


def _follows_create(
    events: Sequence[NDArray[Any]],
    derived: NDArray[np.bool_],
    source: NDArray[np.int64],
    faults: NDArray[np.uint8],
) -> NDArray[np.bool_]:
    """Whether the last row that is not derived is a good create of the same record, event, tweet, author and time."""
    kind, id_, _, subject_id, author_id, time_ms, *_ = events
    index = np.arange(kind.size)
    anchor = np.maximum.accumulate(np.where(derived, -1, index))
    found = anchor >= 0
    anchor = np.maximum(anchor, 0)
    same: NDArray[np.bool_] = found & (kind[anchor] == Kind.CREATE) & (faults[anchor] == 0)
    for column in (source, id_, subject_id, author_id, time_ms):
        same &= column[anchor] == column
    return same
