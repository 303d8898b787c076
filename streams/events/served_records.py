"""Records of topic ``served``: many feeds each, in fixed-width rows that the engine reads without decoding the rest.

Layouts 2 and 3 of packed records (layout 1: ``packed``), little endian: a 24-byte header (magic ``MURM``, version u8 =
1, layout u8 = 2, or 3 where the entries are people instead of tweets, reserved u16 = 0, feeds u32, entries u32, bytes
of details u32, CRC-32 of all that follows, begun with layout - 2, u32), one row per feed, one row per entry in the
order of the feeds, and the details of each feed (MessagePack, ``ServedDetails``), which only audits read. A record that
is damaged anywhere is refused whole.

A record of one feed as JSON (``json_types.ServedFeed``) has the same fields, and is read as well.
"""

import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.batch import Kind
from engine.errors import EventError
from streams.events.columns import Columns
from streams.events.ids import mix_ids
from streams.events.json_types import ServedEntry, ServedFeed
from streams.events.packed import BadRow
from streams.events.reasons import Reason
from streams.events.served_feed import ENTRY_ROW, FEED_ROW, ServedDetails, ServedPart
from streams.events.units import TIMESTAMP_MS_MAX
from streams.log.interface import Format

LAYOUT: Final = 2
#: The same, of feeds whose entries are people instead of tweets.
LAYOUT_OF_PEOPLE: Final = 3
HEADER: Final = struct.Struct("<4sBBHIIII")
#: Most entries of a record: all of them are applied under one hold of the state lock.
ENTRIES_MAX: Final = 4096

FEED: Final = np.dtype(
    [
        ("id", "<u8"),
        ("viewer_id", "<u8"),
        ("time_ms", "<i8"),
        ("request_id", "<u8"),
        ("entries", "<u4"),
        ("detail_bytes", "<u4"),
    ]
)
ENTRY: Final = np.dtype(
    [
        ("tweet_id", "<u8"),
        ("author_id", "<u8"),
        ("score", "<f8"),
        ("position", "<u4"),
        ("origin", "<u4"),
        ("text", "<u4"),
        ("counts", "<u4"),
    ]
)
assert (FEED.itemsize, ENTRY.itemsize) == (FEED_ROW.size, ENTRY_ROW.size)

_CONSTANT = struct.pack("<4sBBH", b"MURM", 1, LAYOUT, 0)
_CONSTANT_OF_PEOPLE = struct.pack("<4sBBH", b"MURM", 1, LAYOUT_OF_PEOPLE, 0)


class ServedRecord(NamedTuple):
    """A verified record: rows of ``FEED`` (n), rows of ``ENTRY`` (m), the details' bytes, and whether the entries are
    people instead of tweets."""

    feeds: NDArray[np.void]
    entries: NDArray[np.void]
    details: memoryview
    of_people: bool


def encode_served(parts: Sequence[ServedPart]) -> bytes:
    """One record of these feeds, at least one; their entries are either all tweets or all people."""
    layout = LAYOUT_OF_PEOPLE if parts[0].of_people else LAYOUT
    body = b"".join(
        [
            *[part.feed_row for part in parts],
            *[part.entry_rows for part in parts],
            *[part.details for part in parts],
        ]
    )
    counts = (len(parts), sum(part.entries for part in parts), sum(len(part.details) for part in parts))
    return HEADER.pack(b"MURM", 1, layout, 0, *counts, zlib.crc32(body, layout - LAYOUT)) + body


def open_served(value: bytes) -> ServedRecord:
    """Verify a record.

    Raises:
        EventError: ``bad_packed_header``, ``truncated_batch`` or ``bad_checksum``.
    """
    if len(value) < HEADER.size:
        raise EventError(Reason.TRUNCATED_BATCH, f"{len(value)} bytes are less than a header")
    *_, feeds, entries, detail_bytes, checksum = HEADER.unpack_from(value)
    if not value.startswith((_CONSTANT, _CONSTANT_OF_PEOPLE)):
        raise EventError(Reason.BAD_PACKED_HEADER, f"{value[:8].hex()} is not {_CONSTANT.hex()}")
    if not feeds or entries > ENTRIES_MAX:
        raise EventError(Reason.BAD_PACKED_HEADER, f"a record has feeds, and at most {ENTRIES_MAX} entries")
    entries_at = HEADER.size + feeds * FEED.itemsize
    details_at = entries_at + entries * ENTRY.itemsize
    if len(value) != details_at + detail_bytes:
        raise EventError(Reason.TRUNCATED_BATCH, f"{len(value)} bytes are not {feeds} feeds of {entries} entries")
    of_people = value.startswith(_CONSTANT_OF_PEOPLE)
    if zlib.crc32(memoryview(value)[HEADER.size :], of_people) != checksum:
        raise EventError(Reason.BAD_CHECKSUM, "the feeds do not match their checksum")
    record = ServedRecord(
        np.frombuffer(value, FEED, feeds, HEADER.size),
        np.frombuffer(value, ENTRY, entries, entries_at),
        memoryview(value)[details_at:],
        of_people,
    )
    if (record.feeds["entries"].sum(), record.feeds["detail_bytes"].sum()) != (entries, detail_bytes):
        raise EventError(Reason.BAD_PACKED_HEADER, "the feeds' counts are not the record's")
    return record


def served_columns(records: Sequence[ServedRecord], times_ms_max: NDArray[np.int64]) -> tuple[Columns, list[BadRow]]:
    """One SERVED row (of people a SUGGESTED one) per entry, in order, equal to those of a JSON record; unusable feeds
    are left out and returned.

    ``times_ms_max`` (one per record) bounds the feeds' times. ``Columns.source`` is the row's record.
    """
    feeds = np.concatenate([record.feeds for record in records])
    entries = np.concatenate([record.entries for record in records])
    record = np.repeat(np.arange(len(records)), [len(one.feeds) for one in records])
    kinds = np.array([Kind.SUGGESTED if one.of_people else Kind.SERVED for one in records], np.uint8)
    sizes = feeds["entries"].astype(np.int64)
    feed = np.repeat(np.arange(len(feeds)), sizes)
    bad = _bad_feeds(feeds, entries["tweet_id"], feed, times_ms_max[record])
    if bad:
        good = np.ones(len(feeds), np.bool_)
        good[list(bad)] = False
        entries, feed = entries[good[feed]], feed[good[feed]]
    of = feeds[feed]
    with np.errstate(over="ignore"):  # a score beyond float32 is infinite there
        score = entries["score"].astype(np.float32)
    columns: list[NDArray[Any]] = [
        kinds[record[feed]],
        mix_ids(of["id"].astype(np.uint64), entries["position"].astype(np.uint64)),
        of["viewer_id"].astype(np.uint64),
        entries["tweet_id"].astype(np.uint64),
        entries["author_id"].astype(np.uint64),
        of["time_ms"].astype(np.int64),
        of["request_id"].astype(np.uint64),
        score,
        np.full(len(entries), -1, np.int32),
    ]
    firsts = np.cumsum([0, *(len(one.feeds) for one in records)])
    bad_rows = [
        BadRow(int(record[i]), int(i - firsts[record[i]]), reason, feeds[i].tobytes()) for i, reason in bad.items()
    ]
    return Columns(columns, record[feed]), bad_rows


def bad_feeds(record: ServedRecord, time_ms_max: int) -> dict[int, Reason]:
    """The unusable feeds of one record (by index), each with the reason; ``time_ms_max`` bounds their times."""
    feed = np.repeat(np.arange(len(record.feeds)), record.feeds["entries"])
    return _bad_feeds(record.feeds, record.entries["tweet_id"], feed, np.full(len(record.feeds), time_ms_max))


def _bad_feeds(
    feeds: NDArray[np.void], tweet_id: NDArray[np.uint64], feed: NDArray[np.int64], times_ms_max: NDArray[np.int64]
) -> dict[int, Reason]:
    """``bad_feeds`` on columns: ``tweet_id`` and ``feed`` (index) per entry, ``times_ms_max`` per feed."""
    bad: dict[int, Reason] = {}
    nameless = (feeds["id"] == 0) | (feeds["viewer_id"] == 0) | (feeds["request_id"] == 0)
    nameless[feed[tweet_id == 0]] = True
    time_ms = feeds["time_ms"]
    rules = (
        (nameless, Reason.ID_OUT_OF_RANGE),
        ((time_ms <= 0) | (time_ms > TIMESTAMP_MS_MAX), Reason.TIMESTAMP_OUT_OF_RANGE),
        (time_ms > times_ms_max, Reason.TIMESTAMP_IN_FUTURE),
    )
    for broken, reason in rules:
        for i in np.flatnonzero(broken).tolist():
            bad.setdefault(i, reason)
    return dict(sorted(bad.items()))


def decode_served(format_: Format, value: bytes) -> list[ServedFeed]:
    """The feeds of a record of either form, with their details.

    Raises:
        EventError, msgspec.MsgspecError: the value is no record of served feeds.
    """
    if format_ is Format.JSON:
        return [_json.decode(value)]
    return list(_whole(open_served(value)))


_json = msgspec.json.Decoder(ServedFeed)
_details = msgspec.msgpack.Decoder(ServedDetails)


def _whole(record: ServedRecord) -> Iterator[ServedFeed]:
    first = detail = 0
    rows = record.entries.tolist()
    for served_id, viewer_id, time_ms, _, entries, detail_bytes in record.feeds.tolist():
        details = _details.decode(record.details[detail : detail + detail_bytes])
        whys = details.whys or (None,) * entries
        yield ServedFeed(
            v=1,
            id=str(served_id),
            type="served_feed",
            timestamp_ms=time_ms,
            user_id=str(viewer_id),
            request=details.request,
            version=details.version,
            history=details.history,
            incarnation=details.incarnation,
            config_hash=details.config_hash,
            model_version=details.model_version,
            models=details.models,
            digest=details.digest.hex(),
            cursor_digest=details.cursor_digest,
            dropped_digest=details.dropped_digest,
            degraded=details.degraded,
            gap_records=details.gap_records,
            late_rooms=details.late_rooms,
            entries=tuple(
                ServedEntry(
                    tweet_id=str(tweet_id),
                    author_id=str(author_id) if author_id else 0,
                    position=position,
                    score=score,
                    digest="-".join(f"{crc:08x}" for crc in crcs),
                    why=msgspec.UNSET if why is None else why,
                )
                for (tweet_id, author_id, score, position, *crcs), why in zip(
                    rows[first : first + entries], whys, strict=True
                )
            ),
        )
        first, detail = first + entries, detail + detail_bytes
