"""What the server sends: feeds and frames as JSON bytes, always the same bytes for the same values."""

import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import orjson

from murmuration.engine.feed import Entry, Feed, Why

_OPTIONS: Final = orjson.OPT_SERIALIZE_NUMPY
_SLACK_BYTES: Final = 4096
_KIND_ORDER: Final = {"favorite": 0, "retweet": 1, "reply": 2, "quote": 3}


def encode(frame: Mapping[str, Any]) -> bytes:
    """A frame or an HTTP answer as JSON, keys in the order given."""
    encoded = orjson.dumps(frame, option=_OPTIONS)
    # orjson leaves small results in a 4 KiB block: what may wait in a queue is copied to its own size.
    return encoded if len(encoded) > _SLACK_BYTES else bytes(memoryview(encoded))


def encode_feed(feed: Feed, *, with_dropped: bool | None = None) -> bytes:
    """A feed as the protocol's JSON. ``with_dropped`` None: the dropped candidates are there if there are any."""
    return encode(feed_fields(feed, with_dropped=bool(feed.dropped) if with_dropped is None else with_dropped))


def feed_digest(feed: Feed) -> str:
    """SHA-256 (hex) of what must come out again when the feed is recomputed.

    Covers everything but ``timings_ms`` and ``request_id``, which the state, the request's terms, the configuration
    and the model do not determine. Explanations and dropped candidates are covered as far as the feed carries them.
    """
    fields = feed_fields(feed, with_dropped=True)
    del fields["timings_ms"], fields["request_id"]
    return hashlib.sha256(orjson.dumps(fields, option=_OPTIONS | orjson.OPT_SORT_KEYS)).hexdigest()


def feed_fields(feed: Feed, *, with_dropped: bool) -> dict[str, Any]:
    """The fields of a ``feed`` frame, in the protocol's order."""
    fields: dict[str, Any] = {
        "type": "feed",
        "request_id": str(feed.request_id),
        "viewer_id": str(feed.viewer_id),
        "product": str(feed.product),
        "version": int(feed.version),
        "seed": str(feed.seed),
        "time_ms": int(feed.time_ms),
        "config_hash": feed.config_hash,
        "model_version": feed.model_version,
        "entries": entries_fields(feed.entries),
    }
    if with_dropped:
        fields["dropped"] = [
            {"tweet_id": str(d.tweet_id), "filter": d.filter, "sources": list(d.sources)} for d in feed.dropped
        ]
    fields["degraded"] = list(feed.degraded)
    if feed.cursor is not None:
        fields["cursor"] = feed.cursor
    fields["timings_ms"] = dict(feed.timings_ms)
    return fields


def entries_fields(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Entries as the protocol's JSON objects."""
    return [_entry_fields(entry) for entry in entries]


def _entry_fields(entry: Entry) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "tweet_id": str(entry.tweet_id),
        "author_id": str(entry.author_id),
        "created_ms": int(entry.created_ms),
        "text": entry.text,
        "position": int(entry.position),
        "score": float(entry.score),
        "in_network": bool(entry.in_network),
        "counts": {kind: int(entry.counts[kind]) for kind in _by_kind(tuple(entry.counts))},
    }
    if entry.why is not None:
        fields["why"] = _why_fields(entry.why)
    return fields


def _why_fields(why: Why) -> dict[str, Any]:
    return {
        "sources": [{"name": s.name, "score": float(s.score), "rank": int(s.rank)} for s in why.sources],
        "social_proof": {kind: [str(u) for u in why.social_proof[kind]] for kind in _by_kind(tuple(why.social_proof))},
        "scores": {name: float(why.scores[name]) for name in _by_name(tuple(why.scores))},
        "factors": [{"name": f.name, "factor": float(f.factor)} for f in why.factors],
        "filters_passed": list(why.filters_passed),
    }


@lru_cache(maxsize=1024)
def _by_kind(kinds: tuple[str, ...]) -> tuple[str, ...]:
    """Kinds in the protocol's order, whatever order the engine met them in."""
    return tuple(sorted(kinds, key=lambda kind: (_KIND_ORDER.get(kind, 9), kind)))


@lru_cache(maxsize=1024)
def _by_name(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(names))


def hello_frame(
    *, session: str, viewer_id: int, version: int, heartbeat_s: float, limits: Mapping[str, int]
) -> dict[str, Any]:
    """The first frame after authentication."""
    return {
        "type": "hello",
        "session": session,
        "viewer_id": str(viewer_id),
        "version": version,
        "heartbeat_s": heartbeat_s,
        "limits": dict(limits),
    }


def error_frame(name: str, message: str, request_id: int | None = None) -> bytes:
    """A named error; with the request it answers where there is one."""
    fields: dict[str, Any] = {"type": "error", "error": name, "message": message}
    if request_id is not None:
        fields["request_id"] = str(request_id)
    return encode(fields)


def ack_frame(*, request_id: int | None, event_id: int, topic: str, partition: int, offset: int) -> bytes:
    """An engagement is in the log."""
    fields: dict[str, Any] = {"type": "ack"}
    if request_id is not None:
        fields["request_id"] = str(request_id)
    fields |= {"event_id": str(event_id), "topic": topic, "partition": partition, "offset": offset}
    return encode(fields)


def heartbeat_frame(*, version: int, time_ms: int) -> bytes:
    """The server lives; the newest state version."""
    return encode({"type": "heartbeat", "version": version, "time_ms": time_ms})


def new_tweets_frame(feed: Feed, *, seq: int, new: Sequence[int]) -> bytes:
    """A push: the feed's current entries, whole, and which of them were not in the last push."""
    return encode(
        {
            "type": "new_tweets",
            "product": str(feed.product),
            "version": int(feed.version),
            "seq": seq,
            "entries": entries_fields(feed.entries),
            "new": [str(tweet_id) for tweet_id in new],
        }
    )
