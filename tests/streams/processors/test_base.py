"""Records of topic ``served`` as feeds that were shown."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.feed import Entry, Feed, Product, Request
from streams.events.served_feed import EncodedFeed
from streams.events.served_records import decode_served, encode_served
from streams.log.interface import Format
from streams.processors.base import FeedShown, decode_feeds

NOW_MS = 1_760_000_000_000
ids = st.integers(1, 2**64 - 1)


def entry(position, author_id):
    return Entry(
        tweet_id=position + 1,
        author_id=author_id,
        created_ms=1,
        text="turn",
        position=position,
        score=0.5,
        in_network=True,
        counts={},
    )


@given(ids, ids, st.integers(1, NOW_MS), st.lists(st.just(0) | ids, max_size=5))
def test_the_engines_own_records_are_read(viewer_id, request_id, time_ms, authors):
    request = Request(viewer_id=viewer_id, request_id=request_id, time_ms=time_ms, seed=1)
    feed = Feed(
        request_id=request_id,
        viewer_id=viewer_id,
        product=Product.FOR_YOU,
        version=7,
        seed=1,
        time_ms=time_ms,
        config_hash="c",
        model_version="m",
        entries=tuple(entry(position, author) for position, author in enumerate(authors)),
    )
    value = encode_served([EncodedFeed(feed).served_part(request, history="", incarnation=0)] * 2)
    served, _ = decode_served(Format.PACKED, value)
    shown = FeedShown(int(served.id), viewer_id, time_ms, tuple(authors))
    assert decode_feeds(Format.PACKED, value, NOW_MS) == [shown, shown]
    assert decode_feeds(Format.PACKED, value, time_ms - 1) == [None, None]
    assert decode_feeds(Format.JSON, msgspec.json.encode(served), NOW_MS) == [shown]
    # People who were suggested are no exposures of authors.
    suggested = msgspec.structs.replace(feed, product=Product.WHO_TO_FOLLOW, entries=())
    asked = msgspec.structs.replace(request, product=Product.WHO_TO_FOLLOW)
    value = encode_served([EncodedFeed(suggested).served_part(asked, history="", incarnation=0)])
    (served,) = decode_served(Format.PACKED, value)
    assert decode_feeds(Format.PACKED, value, NOW_MS) == []
    assert decode_feeds(Format.JSON, msgspec.json.encode(served), NOW_MS) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"type": "served"},
        {"id": 0},
        {"id": "x"},
        {"user_id": 2**64},
        {"timestamp_ms": NOW_MS + 1},
        {"timestamp_ms": 0},
        {"entries": [{"author_id": "-1"}]},
        {"entries": 3},
    ],
)
def test_what_is_no_feed_is_none(make, changes):
    value = msgspec.json.decode(make.feed(1, 2, NOW_MS, [3]).value)
    assert decode_feeds(Format.JSON, msgspec.json.encode(value), NOW_MS) != [None]
    assert decode_feeds(Format.JSON, msgspec.json.encode(value | changes), NOW_MS) == [None]
    assert decode_feeds(Format.PACKED, msgspec.json.encode(value), NOW_MS) == [None]


@given(st.binary(min_size=1, max_size=30))
def test_no_bytes_are_too_odd(value):
    assert decode_feeds(Format.JSON, value, NOW_MS) == decode_feeds(Format.PACKED, value, NOW_MS) == [None]
