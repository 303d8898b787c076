"""The record of a served feed: the request, the state, and digests of the result (docs/audit.md).

A log record holds many feeds (``served_records``). Each feed's part is made here together with the answer's JSON, so
that nothing is encoded twice.
"""

import struct
from functools import cached_property
from typing import Any, Final, NamedTuple
from zlib import crc32

import msgspec
import orjson

from engine.feed import Feed, PersonEntry, Product, Request, Why
from streams.events.feed_fields import (
    digest_with,
    dropped_fields,
    entries_fields,
    entries_json,
    in_order,
    reasons_fields,
)
from streams.events.ids import hash64
from streams.events.json_types import ServedFeed

TOPIC: Final = "served"
#: The parts of an entry's digest, in order: for each, the fields of the protocol's entry that it covers.
ENTRY_PARTS: Final = {
    "origin": ("created_ms", "in_network"),
    "text": ("text",),
    "counts": ("counts",),
}
#: The same of a person.
PERSON_PARTS: Final = {
    "origin": ("created_ms",),
    "reasons": ("reasons",),
    "counts": ("counts",),
}

#: A feed's row in a record: id, viewer, time (ms), request, number of entries, bytes of details.
FEED_ROW: Final = struct.Struct("<QQqQII")
#: An entry's row: tweet, author, score, position, and the CRC-32 of each of its parts.
ENTRY_ROW: Final = struct.Struct("<QQdIIII")


class ServedDetails(msgspec.Struct, frozen=True, array_like=True):
    """The fields of ``ServedFeed`` that a record keeps outside the rows.

    ``digest`` is binary. ``whys`` has one ``why`` per entry if these were sent to the viewer; else it is empty.
    """

    request: Request
    version: int
    history: str
    incarnation: int
    config_hash: str
    model_version: str
    digest: bytes
    cursor_digest: str
    dropped_digest: str
    degraded: tuple[str, ...]
    gap_records: int
    late_rooms: dict[str, int]
    models: dict[str, str]
    whys: tuple[Why | None, ...] = ()


class ServedPart(NamedTuple):
    """A feed's part of a record of topic ``served``; ``entries`` is the number of entries, ``of_people`` whether these
    are people instead of tweets."""

    viewer_id: int
    entries: int
    feed_row: bytes
    entry_rows: bytes
    details: bytes
    of_people: bool = False

    @property
    def size(self) -> int:
        """The part's bytes in a record."""
        return len(self.feed_row) + len(self.entry_rows) + len(self.details)


class EncodedFeed:
    """A feed with its entries as JSON, encoded once for the answer, the pushes and the digest."""

    def __init__(self, feed: Feed, like: "EncodedFeed | None" = None) -> None:
        """``like``: a feed whose entries are the same objects; what was encoded of them is used again."""
        self.feed = feed
        if like is not None and like.feed.entries is feed.entries:
            self.entries_json = like.entries_json
            self._entry_rows = like._entry_rows

    @cached_property
    def entries_json(self) -> bytes:
        """The JSON array of the feed's entries."""
        return entries_json(entries_fields(self.feed.entries))

    @cached_property
    def _entry_rows(self) -> bytes:
        """The rows of the feed's entries in a record, each with the CRC-32 of its parts (``ENTRY_PARTS``): of time and
        network, of the text, of the counts."""
        if self.feed.product is Product.WHO_TO_FOLLOW:
            return b"".join([_person_row(entry) for entry in self.feed.entries if isinstance(entry, PersonEntry)])
        pack, dumps = ENTRY_ROW.pack, orjson.dumps
        return b"".join(
            [
                pack(
                    entry.tweet_id,
                    entry.author_id,
                    entry.score,
                    entry.position,
                    crc32(b"%d,%d" % (entry.created_ms, entry.in_network)),
                    crc32(entry.text.encode()),
                    crc32(dumps(in_order(entry.counts), option=orjson.OPT_SERIALIZE_NUMPY)),
                )
                for entry in self.feed.entries
            ]
        )

    @cached_property
    def digest(self) -> str:
        """``feed_digest`` of the feed."""
        return digest_with(self.feed, self.entries_json)

    def served_part(self, request: Request, *, history: str, incarnation: int) -> ServedPart:
        """The feed's part of a record; ``request`` is the request that the feed answers.

        The feed's id is computed from viewer, request and result, so that a second copy is a duplicate.
        """
        feed, digest = self.feed, self.digest
        explained = any(entry.why is not None for entry in feed.entries)
        details = _encoder.encode(
            ServedDetails(
                request=request,
                version=int(feed.version),
                history=history,
                incarnation=incarnation,
                config_hash=feed.config_hash,
                model_version=feed.model_version,
                digest=bytes.fromhex(digest),
                cursor_digest=part_digest(feed.cursor),
                dropped_digest=part_digest(dropped_fields(feed)) if feed.dropped else "",
                degraded=feed.degraded,
                gap_records=int(feed.gap_records),
                late_rooms={name: int(since) for name, since in feed.late_rooms.items()},
                models=feed.models,
                whys=tuple([entry.why for entry in feed.entries]) if explained else (),
            )
        )
        served_id = hash64(f"{feed.viewer_id}/{feed.request_id}/{digest}".encode())
        counts = (len(feed.entries), len(details))
        row = FEED_ROW.pack(served_id, feed.viewer_id, feed.time_ms, feed.request_id, *counts)
        of_people = feed.product is Product.WHO_TO_FOLLOW
        return ServedPart(feed.viewer_id, len(feed.entries), row, self._entry_rows, details, of_people)


_encoder = msgspec.msgpack.Encoder()


def _person_row(entry: PersonEntry) -> bytes:
    """The row of a person in a record, with the CRC-32 of its parts (``PERSON_PARTS``)."""
    reasons = orjson.dumps(reasons_fields(entry.reasons), option=orjson.OPT_SERIALIZE_NUMPY)
    counts = orjson.dumps(entry.counts, option=orjson.OPT_SERIALIZE_NUMPY)
    crcs = (crc32(b"%d" % entry.created_ms), crc32(reasons), crc32(counts))
    return ENTRY_ROW.pack(entry.tweet_id, 0, entry.score, entry.position, *crcs)


def part_digest(value: Any) -> str:
    """CRC-32 (8 hex digits) of a JSON value; "" for None and for an empty list."""
    # A CRC-32 is enough: it only locates a difference. Whether feeds differ is decided by the SHA-256.
    return "" if value is None or value == [] else f"{crc32(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)):08x}"


def repeated(served: ServedFeed) -> Request:
    """The request that gives the same feed again: it skips components that failed or were skipped the first time."""
    return msgspec.structs.replace(served.request, sources_skipped=served.degraded)
