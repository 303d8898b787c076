"""The record of a served feed: what was asked, of which state, and digests of what came out (docs/audit.md)."""

from collections.abc import Mapping
from typing import Any, Final
from zlib import crc32

import msgspec
import orjson

from engine.feed import Feed, Request
from streams.events.feed_fields import feed_fields, fields_digest
from streams.events.ids import hash64
from streams.events.json_types import ServedEntry, ServedFeed

TOPIC: Final = "served"
#: What the parts of an entry's digest cover, in their order: names and fields of the protocol's entry.
ENTRY_PARTS: Final = {
    "origin": ("created_ms", "in_network"),
    "text": ("text",),
    "counts": ("counts",),
}

_decoder = msgspec.json.Decoder(ServedFeed)
_encoder = msgspec.json.Encoder()


def encode_served(feed: Feed, request: Request, *, history: str, incarnation: int) -> bytes:
    """A served feed as the value of its log record; ``request`` is what it answers."""
    return _encoder.encode(served_feed(feed, request, history=history, incarnation=incarnation))


def decode_served(value: bytes) -> ServedFeed:
    """The record of a served feed. Its ids may be numbers or decimal strings, as in every event.

    Raises:
        msgspec.DecodeError: it is not one.
    """
    return _decoder.decode(value)


def served_feed(feed: Feed, request: Request, *, history: str, incarnation: int) -> ServedFeed:
    """The record of a feed. Its id follows from viewer, request and result: written twice it is a duplicate."""
    fields = feed_fields(feed, with_dropped=True)
    digest = fields_digest(fields)
    return ServedFeed(
        v=1,
        id=str(hash64(f"{feed.viewer_id}/{feed.request_id}/{digest}".encode())),
        type="served_feed",
        timestamp_ms=feed.time_ms,
        user_id=str(feed.viewer_id),
        request=request,
        version=feed.version,
        history=history,
        incarnation=incarnation,
        config_hash=feed.config_hash,
        model_version=feed.model_version,
        models=feed.models,
        digest=digest,
        cursor_digest=part_digest(fields.get("cursor")),
        dropped_digest=part_digest(fields["dropped"]),
        degraded=feed.degraded,
        gap_records=feed.gap_records,
        entries=tuple(
            ServedEntry(
                tweet_id=str(entry.tweet_id),
                author_id=str(entry.author_id) if entry.author_id else 0,
                position=entry.position,
                score=entry.score,
                digest=entry_digest(entry_fields),
                why=msgspec.UNSET if entry.why is None else entry.why,
            )
            for entry, entry_fields in zip(feed.entries, fields["entries"], strict=True)
        ),
    )


def entry_digest(fields: Mapping[str, Any]) -> str:
    """The parts' digests of an entry's fields, in the order of ENTRY_PARTS."""
    return "-".join(part_digest([fields[name] for name in names]) for names in ENTRY_PARTS.values())


def part_digest(value: Any) -> str:
    """CRC-32 (8 hex digits) of a JSON value; "" for None and for an empty list."""
    # It only says where to look: whether anything differs at all is the SHA-256's word.
    return "" if value is None or value == [] else f"{crc32(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)):08x}"


def repeated(served: ServedFeed) -> Request:
    """The request that gives the same feed again: what failed or was skipped the first time is skipped."""
    return msgspec.structs.replace(served.request, sources_skipped=served.degraded)
