"""What processors receive and return, and how records of served feeds are decoded for them."""

from collections.abc import Callable, MutableMapping, Sequence
from typing import Literal, NamedTuple

import msgspec

from engine.errors import EventError
from engine.feed import Product
from streams.events.ids import parse_id
from streams.events.served_records import bad_feeds, open_served
from streams.log.interface import Format

#: Processors' state: keys begin with the partition's number and "/", or are that number.
State = MutableMapping[bytes, bytes]
#: A function of an author's id and a time (ms): the groups to which the author belonged at that time.
GroupsOf = Callable[[int, int], Sequence[str]]


class FeedShown(NamedTuple):
    """A feed that a viewer was shown. Feeds with the same ``feed_id`` (the record's event id) are the same feed.

    ``author_ids`` has one id for each entry, 0 if the author is not known.
    """

    feed_id: int
    viewer_id: int
    time_ms: int
    author_ids: tuple[int, ...]


class Batch(NamedTuple):
    """Feeds of one partition of ``served``, in the log's order, and the groups of their authors."""

    partition: int
    feeds: Sequence[FeedShown]
    groups_of: GroupsOf


class Outcome(NamedTuple):
    """How many of a batch's feeds had which result. Only ``applied`` feeds are counted in the windows."""

    applied: int = 0
    duplicate: int = 0
    late: int = 0
    full: int = 0


class _Entry(msgspec.Struct, gc=False):
    author_id: int | str = 0


class _Request(msgspec.Struct, gc=False):
    product: str = ""


class _ServedFeed(msgspec.Struct, gc=False):
    """The fields of ``events.json_types.ServedFeed`` that are counted. Decoding only these costs a third."""

    type: Literal["served_feed"]
    id: int | str
    user_id: int | str
    timestamp_ms: int
    entries: tuple[_Entry, ...]
    request: _Request = msgspec.field(default_factory=_Request)


_decode = msgspec.json.Decoder(_ServedFeed).decode


def decode_feeds(format_: Format, value: bytes, time_ms_max: int) -> list[FeedShown | None]:
    """The feeds of a record of topic ``served``; None for each feed that cannot be used or is later than
    ``time_ms_max``. (The engine refuses the same feeds, and writes the dead letters.) People who were suggested are no
    exposures of authors: none for a record of these."""
    if not value:  # null says nothing on this topic
        return []
    if format_ is Format.JSON:
        return _decode_one(value, time_ms_max)
    try:
        record = open_served(value)
    except EventError:
        return [None]
    if record.of_people:
        return []
    bad = bad_feeds(record, time_ms_max)
    authors = record.entries["author_id"].tolist()
    feeds: list[FeedShown | None] = []
    first = 0
    for i, (feed_id, viewer_id, time_ms, _, size, _) in enumerate(record.feeds.tolist()):
        shown = FeedShown(feed_id, viewer_id, time_ms, tuple(authors[first : first + size]))
        feeds.append(None if i in bad else shown)
        first += size
    return feeds


def _decode_one(value: bytes, time_ms_max: int) -> list[FeedShown | None]:
    try:
        feed = _decode(value)
        if feed.request.product == Product.WHO_TO_FOLLOW:
            return []
        authors = tuple(parse_id(entry.author_id) if entry.author_id else 0 for entry in feed.entries)
        shown = FeedShown(parse_id(feed.id), parse_id(feed.user_id), feed.timestamp_ms, authors)
    except (msgspec.MsgspecError, UnicodeDecodeError, EventError):
        return [None]
    return [shown if 0 < shown.time_ms <= time_ms_max else None]
