"""Feeds as JSON: exactly the protocol's shape, the same bytes always, and a digest of what must come out again."""

import msgspec
import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.feed import Explain, Product, Request
from streams.events.feed_fields import feed_digest
from streams.events.served_feed import EncodedFeed
from streams.server.encode import Changes, encode, encode_feed, new_tweets_frame

REQUEST = Request(
    viewer_id=42, request_id=17, time_ms=1_760_000_000_000, seed=990, explain=Explain.ALL, product=Product.FOR_YOU
)


def test_a_feed_looks_exactly_as_documented(feed_of):
    feed = feed_of(REQUEST, 1234, [7])
    assert encode_feed(feed).decode() == (
        '{"type":"feed","request_id":"17","viewer_id":"42","product":"for_you","version":1234,"seed":"990",'
        '"time_ms":1760000000000,"config_hash":"c0ffee","model_version":"blend-1","entries":[{"tweet_id":"7",'
        '"author_id":"9223372036854775809","created_ms":1759999999000,"text":"a tweet","position":0,"score":0.375,'
        '"in_network":true,"counts":{"favorite":3,"retweet":2,"reply":1,"quote":0},"why":{"sources":[{"name":'
        '"followees","score":0.5,"rank":0}],"social_proof":{"favorite":["9","18446744073709551615"],"retweet":[]},'
        '"scores":{"recency":0.5,"walk":0.25},"factors":[{"name":"author_diversity","factor":0.5}],'
        '"filters_passed":["own","seen"]}}],"dropped":[{"tweet_id":"55","filter":"seen","sources":["followees"]}],'
        '"degraded":[],"cursor":"next","timings_ms":{"total":0.5}}'
    )


def test_what_is_absent_is_left_out(feed_of):
    feed = msgspec.structs.replace(feed_of(msgspec.structs.replace(REQUEST, explain=Explain.NONE), 1, [7]), cursor=None)
    fields = orjson.loads(encode_feed(feed))
    assert not {"cursor", "dropped"} & fields.keys()
    assert "why" not in fields["entries"][0]
    assert orjson.loads(encode_feed(feed, with_dropped=True))["dropped"] == []


def test_numpy_values_are_the_same_bytes(feed_of):
    feed = feed_of(REQUEST, 1234, [7])
    entry = feed.entries[0]
    scores = {name: np.float64(value) for name, value in entry.why.scores.items()}
    other = msgspec.structs.replace(
        entry,
        tweet_id=np.uint64(7),
        position=np.int64(0),
        score=np.float64(0.375),
        in_network=np.True_,
        counts={kind: np.int32(count) for kind, count in entry.counts.items()},
        why=msgspec.structs.replace(entry.why, scores=scores),
    )
    same = msgspec.structs.replace(
        feed, entries=(other,), version=np.int64(1234), timings_ms={"total": np.float64(0.5)}
    )
    assert encode_feed(same) == encode_feed(feed)
    assert feed_digest(same) == feed_digest(feed)


def test_the_order_a_mapping_was_built_in_does_not_show(feed_of):
    feed = feed_of(REQUEST, 1, [7])
    why = feed.entries[0].why
    turned = msgspec.structs.replace(
        why,
        scores=dict(reversed(why.scores.items())),
        social_proof=dict(reversed(why.social_proof.items())),
    )
    entry = msgspec.structs.replace(feed.entries[0], why=turned, counts=dict(reversed(feed.entries[0].counts.items())))
    assert encode_feed(msgspec.structs.replace(feed, entries=(entry,))) == encode_feed(feed)


def test_the_digest_covers_all_but_timings_and_request_id(feed_of):
    feed = feed_of(REQUEST, 1, [7, 8])
    change = msgspec.structs.replace
    assert feed_digest(change(feed, timings_ms={}, request_id=1)) == feed_digest(feed)
    others = [
        change(feed, version=2),
        change(feed, seed=1),
        change(feed, viewer_id=1),
        change(feed, time_ms=1),
        change(feed, config_hash="x"),
        change(feed, model_version="x"),
        change(feed, product=Product.FOLLOWING),
        change(feed, cursor=None),
        change(feed, degraded=("walk",)),
        change(feed, dropped=()),
        change(feed, entries=feed.entries[:1]),
        change(feed, entries=feed.entries[::-1]),
        change(feed, entries=(change(feed.entries[0], score=0.3750000000000001), feed.entries[1])),
        change(feed, entries=(change(feed.entries[0], text="a tweeT"), feed.entries[1])),
        change(feed, entries=(change(feed.entries[0], why=None), feed.entries[1])),
    ]
    digests = [feed_digest(feed), *map(feed_digest, others)]
    assert len(set(digests)) == len(digests)


def test_a_push_names_what_is_new(feed_of):
    frame = orjson.loads(new_tweets_frame(EncodedFeed(feed_of(REQUEST, 5, [7, 8])), seq=3, changes=Changes([8], [7])))
    assert list(frame) == ["type", "request_id", "product", "version", "seq", "entries", "new", "edited"]
    assert (frame["type"], frame["version"], frame["seq"]) == ("new_tweets", 5, 3)
    assert (frame["new"], frame["edited"]) == (["8"], ["7"])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_json_cannot_carry_become_null(value):
    assert encode({"score": value}) == b'{"score":null}'


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=2000) | st.integers(-(2**53), 2**53), max_size=5))
def test_small_and_large_frames_are_json(fields):
    assert orjson.loads(encode(fields)) == fields
