"""What the server sends: feeds and frames as JSON bytes, always the same bytes for the same values."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import orjson

from engine.feed import Feed
from streams.events.feed_fields import frame_fields
from streams.events.served_feed import EncodedFeed

_OPTIONS: Final = orjson.OPT_SERIALIZE_NUMPY
_SLACK_BYTES: Final = 4096


def encode(frame: Mapping[str, Any]) -> bytes:
    """A frame or an HTTP answer as JSON, keys in the order given."""
    encoded = orjson.dumps(frame, option=_OPTIONS)
    # orjson leaves a small result in a block of 4 KiB. Frames may wait in queues, so copy them to their real size.
    return encoded if len(encoded) > _SLACK_BYTES else bytes(memoryview(encoded))


def encode_feed(feed: Feed, *, with_dropped: bool | None = None) -> bytes:
    """A feed as the protocol's JSON: ``feed_frame`` for a feed whose entries are not encoded yet."""
    return feed_frame(EncodedFeed(feed), with_dropped=with_dropped)


def feed_frame(
    encoded: EncodedFeed, *, with_dropped: bool | None = None, in_words: Sequence[Mapping[str, Any]] | None = None
) -> bytes:
    """A feed as the protocol's JSON. ``with_dropped`` None: with the dropped candidates if the feed has any.

    ``in_words``: the same by reason (``drop_words``); they follow from the rest, so no digest covers them.
    """
    feed = encoded.feed
    dropped = bool(feed.dropped) if with_dropped is None else with_dropped
    fields = frame_fields(feed, orjson.Fragment(encoded.entries_json), with_dropped=dropped)
    if in_words is not None:
        fields["dropped_in_words"] = in_words
    return encode(fields)


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


def error_frame(
    name: str, message: str, request_id: int | None = None, extra: Mapping[str, int] | None = None
) -> bytes:
    """A named error, with the id of the request that it answers, if any, and further fields."""
    fields: dict[str, Any] = {"type": "error", "error": name, "message": message, **(extra or {})}
    if request_id is not None:
        fields["request_id"] = str(request_id)
    return encode(fields)


def ack_frame(
    *, request_id: int | None, event_id: int, topic: str, partition: int, offset: int, duplicate: bool = False
) -> bytes:
    """Acknowledges an engagement: it is in the log. ``duplicate``: it repeats an earlier one."""
    fields: dict[str, Any] = {"type": "ack"}
    if request_id is not None:
        fields["request_id"] = str(request_id)
    fields |= {"event_id": str(event_id), "topic": topic, "partition": partition, "offset": offset}
    if duplicate:
        fields["duplicate"] = True
    return encode(fields)


def heartbeat_frame(*, version: int, time_ms: int) -> bytes:
    """Shows that the server lives, and the newest state version."""
    return encode({"type": "heartbeat", "version": version, "time_ms": time_ms})


class Changes(NamedTuple):
    """Tweets of a push that were not in the last one, and those that said something else there."""

    new: Sequence[int]
    edited: Sequence[int]


def new_tweets_frame(encoded: EncodedFeed, *, seq: int, changes: Changes) -> bytes:
    """A push: all current entries of the feed, and what changed since the last one."""
    return encode(_push_fields("new_tweets", encoded, seq, changes))


def new_entries_frame(encoded: EncodedFeed, *, seq: int, changes: Changes, gone: Sequence[int]) -> bytes:
    """A push of single entries, to be put into the client's list, and the tweets to be taken out of it."""
    fields = _push_fields("new_entries", encoded, seq, changes)
    if gone:
        fields["gone"] = [str(tweet_id) for tweet_id in gone]
    return encode(fields)


def _push_fields(kind: str, encoded: EncodedFeed, seq: int, changes: Changes) -> dict[str, Any]:
    feed = encoded.feed
    fields: dict[str, Any] = {
        "type": kind,
        "request_id": str(feed.request_id),
        "product": str(feed.product),
        "version": int(feed.version),
        "seq": seq,
        "entries": orjson.Fragment(encoded.entries_json),
        "new": [str(tweet_id) for tweet_id in changes.new],
    }
    if changes.edited:
        fields["edited"] = [str(tweet_id) for tweet_id in changes.edited]
    return fields
