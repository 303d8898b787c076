"""The first place at which a feed computed again differs from the record of the served feed."""

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any, Final, NamedTuple

import msgspec

from engine.feed import Feed, Product
from streams.events.feed_fields import feed_fields
from streams.events.json_types import ServedEntry, ServedFeed
from streams.events.served_feed import ENTRY_PARTS, PERSON_PARTS, EncodedFeed
from streams.events.served_records import decode_served, encode_served
from streams.log.interface import Format

#: Compared in this order, before the entries: causes of a difference come before its effects.
_TERMS: Final = ("version", "config_hash", "model_version", "models", "gap_records", "late_rooms", "degraded")


class Difference(msgspec.Struct, frozen=True):
    """The first place that differs (a path such as ``entries[3].why.scores.recency``), with both values there.

    A value is None if its side has nothing at this place.
    """

    where: str
    recorded: Any
    recomputed: Any


class _Part(NamedTuple):
    """A part of which the record has only the digest; its value is known only on the side computed again."""

    digest: str
    value: Any

    def shown(self) -> Any:
        if not self.digest:
            return "(absent)"
        return f"(not recorded but for its digest {self.digest})" if self.value is None else self.value


def first_difference(served: ServedFeed, feed: Feed) -> Difference | None:
    """The first difference; None if the digests are equal, so that the feeds are equal byte for byte."""
    encoded = EncodedFeed(feed)
    if encoded.digest == served.digest:
        return None
    part = encoded.served_part(served.request, history=served.history, incarnation=int(served.incarnation))
    (again,) = decode_served(Format.PACKED, encode_served([part]))
    fields = feed_fields(feed, with_dropped=True)
    found = _first("", _plain(served, None), _plain(again, fields))
    return found or Difference("digest", served.digest, again.digest)


def _plain(served: ServedFeed, fields: Mapping[str, Any] | None) -> dict[str, Any]:
    """A record as plain values, in the order of comparison; ``fields``: the whole feed, if it was computed again."""
    entries = [None] * len(served.entries) if fields is None else fields["entries"]
    parts = PERSON_PARTS if served.request.product is Product.WHO_TO_FOLLOW else ENTRY_PARTS
    plain: dict[str, Any] = {name: msgspec.to_builtins(getattr(served, name)) for name in _TERMS}
    plain["entries"] = [_plain_entry(entry, whole, parts) for entry, whole in zip(served.entries, entries, strict=True)]
    plain["cursor"] = _Part(served.cursor_digest, fields and fields.get("cursor"))
    plain["dropped"] = _Part(served.dropped_digest, fields and fields["dropped"])
    return plain


def _plain_entry(
    entry: ServedEntry, fields: Mapping[str, Any] | None, covered: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "tweet_id": int(entry.tweet_id),
        "author_id": int(entry.author_id),
        "position": entry.position,
    }
    for (name, parts), digest in zip(covered.items(), entry.digest.split("-"), strict=True):
        values = None if fields is None else {part: fields[part] for part in parts}
        plain[name] = _Part(digest, values[name] if values is not None and name in values else values)
    if entry.why is not msgspec.UNSET:
        plain["why"] = msgspec.to_builtins(entry.why)
    # The score is compared after its parts, which explain why it differs.
    plain["score"] = entry.score
    return plain


def _first(where: str, recorded: Any, recomputed: Any) -> Difference | None:
    """Depth first, in the order of the recorded side."""
    if isinstance(recorded, _Part) and isinstance(recomputed, _Part):
        if recorded.digest == recomputed.digest:
            return None
        return Difference(where, recorded.shown(), recomputed.shown())
    if isinstance(recorded, dict) and isinstance(recomputed, dict):
        pairs = [(f"{where}.{key}".lstrip("."), recorded.get(key), recomputed.get(key))
                 for key in dict.fromkeys((*recorded, *recomputed))]  # fmt: skip
    elif _is_list(recorded) and _is_list(recomputed):
        pairs = [(f"{where}[{i}]", one, other) for i, (one, other) in enumerate(zip_longest(recorded, recomputed))]
    else:
        return None if recorded == recomputed else Difference(where, _brief(recorded), _brief(recomputed))
    return next((found for pair in pairs if (found := _first(*pair)) is not None), None)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | _Part)


def _brief(value: Any) -> Any:
    """A value in short: of a whole entry that the other side lacks, only its tweet."""
    return {"tweet_id": value["tweet_id"]} if isinstance(value, dict) and "tweet_id" in value else value
