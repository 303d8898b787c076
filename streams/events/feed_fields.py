"""Feeds as plain JSON values: the fields that clients receive, and the fields that a feed's digest covers.

Most of a feed's JSON is its entries. Answer, pushes and digest all contain them, so they are encoded once
(``entries_json``) and inserted into each.
"""

import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import orjson

from engine.feed import Entry, Feed, PersonEntry, Product, Reason, Why

_KINDS: Final = ("favorite", "retweet", "reply", "quote")
_KIND_ORDER: Final = {kind: place for place, kind in enumerate(_KINDS)}


def feed_digest(feed: Feed) -> str:
    """SHA-256 (hex) of the part of a feed that a recomputation must reproduce.

    Covers the JSON of all fields in the protocol's order, with the dropped candidates, except ``timings_ms`` and
    ``request_id``, which do not follow from state, request, configuration and model. Explanations and dropped
    candidates are covered as far as the feed has them.
    """
    return digest_with(feed, entries_json(entries_fields(feed.entries)))


def digest_with(feed: Feed, entries: bytes) -> str:
    """``feed_digest`` for a feed whose entries are encoded already (``entries_json``)."""
    covered = _fields(feed, orjson.Fragment(entries), with_dropped=True)
    del covered["request_id"]
    return hashlib.sha256(orjson.dumps(covered, option=orjson.OPT_SERIALIZE_NUMPY)).hexdigest()


def feed_fields(feed: Feed, *, with_dropped: bool) -> dict[str, Any]:
    """The fields of a ``feed`` frame, in the protocol's order."""
    return frame_fields(feed, entries_fields(feed.entries), with_dropped=with_dropped)


def frame_fields(feed: Feed, entries: Any, *, with_dropped: bool) -> dict[str, Any]:
    """``feed_fields`` with ready entries: ``entries_fields``, or an ``orjson.Fragment`` of their JSON."""
    fields = _fields(feed, entries, with_dropped=with_dropped)
    fields["timings_ms"] = dict(feed.timings_ms)
    return fields


def _fields(feed: Feed, entries: Any, *, with_dropped: bool) -> dict[str, Any]:
    """All fields but the last, ``timings_ms``."""
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
        "entries": entries,
    }
    if feed.models:
        fields["models"] = {name: feed.models[name] for name in sorted(feed.models)}
    if with_dropped:
        fields["dropped"] = dropped_fields(feed)
    fields["degraded"] = list(feed.degraded)
    if feed.gap_records:
        fields["gap_records"] = int(feed.gap_records)
    if feed.late_rooms:
        fields["late_rooms"] = {name: int(feed.late_rooms[name]) for name in sorted(feed.late_rooms)}
    if feed.tier:
        fields["tier"] = {"name": feed.tier, "reason": feed.tier_reason}
    if feed.followees_left_out:
        fields["followees_left_out"] = int(feed.followees_left_out)
    if feed.cursor is not None:
        fields["cursor"] = feed.cursor
    return fields


def dropped_fields(feed: Feed) -> list[dict[str, Any]]:
    """The dropped candidates as the protocol's JSON objects."""
    name = "user_id" if feed.product is Product.WHO_TO_FOLLOW else "tweet_id"
    return [{name: str(d.tweet_id), "filter": d.filter, "sources": list(d.sources)} for d in feed.dropped]


def entries_json(entries: Sequence[Mapping[str, Any]]) -> bytes:
    """The JSON array of ``entries_fields``."""
    return orjson.dumps(entries, option=orjson.OPT_SERIALIZE_NUMPY)


def entries_fields(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Entries as the protocol's JSON objects."""
    return [_entry_fields(entry) for entry in entries]


def _person_fields(entry: PersonEntry) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "user_id": str(entry.tweet_id),
        "created_ms": int(entry.created_ms),
        "position": int(entry.position),
        "score": float(entry.score),
        "counts": {name: int(count) for name, count in entry.counts.items()},
        "reasons": reasons_fields(entry.reasons),
    }
    if entry.why is not None:
        fields["why"] = _why_fields(entry.why)
    return fields


def reasons_fields(reasons: Sequence[Reason]) -> list[dict[str, Any]]:
    """Reasons for a person as the protocol's JSON objects; those about people have some of them, and their number."""
    return [
        {"name": reason.name, "text": reason.text}
        | ({"people": [str(person) for person in reason.people], "count": reason.count} if reason.count else {})
        for reason in reasons
    ]


def _entry_fields(entry: Entry) -> dict[str, Any]:
    if isinstance(entry, PersonEntry):
        return _person_fields(entry)
    fields: dict[str, Any] = {
        "tweet_id": str(entry.tweet_id),
        "author_id": str(entry.author_id),
        "created_ms": entry.created_ms,
        "text": entry.text,
        "position": entry.position,
        "score": float(entry.score),
        "in_network": entry.in_network,
        "counts": in_order(entry.counts),
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


def in_order(counts: Mapping[str, int]) -> Mapping[str, int]:
    """Counts by kind of engagement in the protocol's order; as a rule they are in it already."""
    kinds = tuple(counts)
    return counts if kinds == _KINDS else {kind: counts[kind] for kind in _by_kind(kinds)}


@lru_cache(maxsize=1024)
def _by_kind(kinds: tuple[str, ...]) -> tuple[str, ...]:
    """Kinds of engagement in the protocol's order, whatever their order in the feed."""
    return tuple(sorted(kinds, key=lambda kind: (_KIND_ORDER.get(kind, 9), kind)))


@lru_cache(maxsize=1024)
def _by_name(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(names))
