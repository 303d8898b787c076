"""The record of a served feed: it round-trips, says what differs, and names what it takes to ask again."""

from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from engine.batch import EVENT_COLUMNS, Kind
from engine.errors import EventError
from engine.feed import Dropped, Entry, Explain, Factor, Feed, PersonEntry, Product, Reason, Request, SourceHit, Why
from streams.events.decode import Decoder
from streams.events.documents import json_schema
from streams.events.feed_fields import feed_digest
from streams.events.ids import ID_MAX
from streams.events.served_feed import ENTRY_PARTS, PERSON_PARTS, EncodedFeed, repeated
from streams.events.served_records import decode_served, encode_served
from streams.log.interface import Format, Records
from streams.processors.base import decode_feeds
from tests.streams.events.conftest import NOW_MS

ids = st.integers(1, ID_MAX)
floats = st.floats(allow_nan=False, allow_infinity=False)
names = st.text(min_size=1, max_size=10)
requests = st.builds(
    Request,
    viewer_id=ids,
    request_id=ids,
    time_ms=st.integers(1, NOW_MS),
    seed=st.integers(0, ID_MAX),
    product=st.sampled_from(Product),
    limit=st.integers(1, 100),
    cursor=st.none() | names,
    exclude=st.lists(ids, max_size=3).map(tuple),
    explain=st.sampled_from(Explain),
    sources_skipped=st.lists(names, max_size=2).map(tuple),
)
whys = st.builds(
    Why,
    sources=st.lists(st.builds(SourceHit, names, floats, st.integers(0, 99)), max_size=2).map(tuple),
    social_proof=st.dictionaries(st.sampled_from(["favorite", "retweet"]), st.lists(ids, max_size=2).map(tuple)),
    scores=st.dictionaries(names, floats, max_size=2),
    factors=st.lists(st.builds(Factor, names, floats), max_size=2).map(tuple),
    filters_passed=st.lists(names, max_size=2).map(tuple),
)
entries = st.builds(
    Entry,
    tweet_id=ids,
    author_id=st.integers(0, ID_MAX),
    created_ms=st.integers(1, NOW_MS),
    text=st.text(max_size=20),
    position=st.integers(0, 1000),
    score=floats,
    in_network=st.booleans(),
    counts=st.dictionaries(st.sampled_from(["favorite", "reply"]), st.integers(0, 99)),
    why=st.none() | whys,
)


people = st.builds(
    PersonEntry,
    tweet_id=ids,
    author_id=st.just(0),
    created_ms=st.integers(0, NOW_MS),
    text=st.just(""),
    position=st.integers(0, 1000),
    score=floats,
    in_network=st.just(False),
    counts=st.dictionaries(st.sampled_from(["followers", "followees"]), st.integers(0, 99)),
    why=st.none() | whys,
    reasons=st.lists(
        st.builds(Reason, name=names, text=names, people=st.lists(ids, max_size=2).map(tuple), count=st.integers(0, 9)),
        max_size=2,
    ).map(tuple),
)
of_people = st.just(Product.WHO_TO_FOLLOW)
of_tweets = st.sampled_from([Product.FOR_YOU, Product.FOLLOWING])


@st.composite
def answers(draw: st.DrawFn, products: st.SearchStrategy[Product] = of_people | of_tweets) -> tuple[Request, Feed]:
    request = msgspec.structs.replace(draw(requests), product=draw(products))
    drawn = people if request.product is Product.WHO_TO_FOLLOW else entries
    feed = Feed(
        request_id=request.request_id,
        viewer_id=request.viewer_id,
        product=request.product,
        version=draw(st.integers(0, 2**53)),
        seed=request.seed,
        time_ms=request.time_ms,
        config_hash="c0ffee",
        model_version="blend-2",
        models=draw(st.dictionaries(names, ids.map(str), max_size=2)),
        entries=draw(st.lists(drawn, max_size=4).map(tuple)),
        dropped=draw(st.lists(st.builds(Dropped, ids, names, st.just(("popular",))), max_size=2).map(tuple)),
        degraded=draw(st.lists(names, max_size=2).map(tuple)),
        gap_records=draw(st.integers(0, 9)),
        cursor=draw(st.none() | names),
        timings_ms={"total": 1.5},
    )
    return request, feed


def of_one_kind(most):
    """Answers that stand in one record."""
    return st.one_of(*(st.lists(answers(products), min_size=1, max_size=most) for products in (of_tweets, of_people)))


def part(feed, request, history="", incarnation=0):
    return EncodedFeed(feed).served_part(request, history=history, incarnation=incarnation)


def recorded(feed, request, history="", incarnation=0):
    (served,) = decode_served(Format.PACKED, encode_served([part(feed, request, history, incarnation)]))
    return served


@given(answers(), st.sampled_from(["", "00c0ffee00c0ffee"]), st.integers(0, ID_MAX))
def test_a_record_has_all_that_was_asked_and_fits_its_schema(answer, history, incarnation):
    request, feed = answer
    served = recorded(feed, request, history, incarnation)
    value = msgspec.json.encode(served)
    Draft202012Validator(json_schema("served")).validate(msgspec.json.decode(value))
    (again,) = decode_served(Format.JSON, value)
    assert msgspec.structs.replace(again, incarnation=incarnation) == served
    assert served.request == request
    assert (served.history, int(served.incarnation), served.version) == (history, incarnation, feed.version)
    assert (served.digest, served.degraded, served.gap_records) == (
        feed_digest(feed),
        feed.degraded,
        feed.gap_records,
    )
    assert served.models == feed.models
    for mine, entry in zip(served.entries, feed.entries, strict=True):
        assert (int(mine.tweet_id), int(mine.author_id)) == (entry.tweet_id, entry.author_id)
        assert (mine.position, mine.score) == (entry.position, entry.score)
        assert mine.why == (msgspec.UNSET if entry.why is None else entry.why)
    assert recorded(feed, request, history, incarnation) == served


@given(of_one_kind(6))
def test_a_record_of_many_feeds_is_each_of_them_in_order(answered):
    value = encode_served([part(feed, request) for request, feed in answered])
    assert decode_served(Format.PACKED, value) == [recorded(feed, request) for request, feed in answered]


@given(of_one_kind(3), st.data())
def test_no_byte_of_a_record_changes_unnoticed(answered, data):
    value = bytearray(encode_served([part(feed, request) for request, feed in answered]))
    place = data.draw(st.integers(0, len(value) - 1))
    value[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(EventError):
        decode_served(Format.PACKED, bytes(value))
    with pytest.raises(EventError):
        decode_served(Format.PACKED, bytes(value[:place]))


def runs_of(*records):
    formats, values = zip(*records, strict=True)
    size = len(records)
    return [Records("served", 0, list(range(size)), [NOW_MS] * size, list(formats), [b""] * size, list(values))]


@given(of_one_kind(5), st.data())
def test_the_engine_reads_the_same_rows_from_either_form(answered, data):
    cuts = sorted(data.draw(st.sets(st.integers(1, len(answered)), max_size=3)) | {0, len(answered)})
    parts = [part(feed, request) for request, feed in answered]
    packed = [(Format.PACKED, encode_served(parts[a:b])) for a, b in pairwise(cuts)]
    json = [(Format.JSON, msgspec.json.encode(recorded(feed, request))) for request, feed in answered]
    decoder = Decoder(future_ms_max=0)
    one, other = decoder.decode(runs_of(*packed)), decoder.decode(runs_of(*json))
    assert not one.dead
    assert not other.dead
    for name in EVENT_COLUMNS:
        np.testing.assert_array_equal(getattr(one.batch, name), getattr(other.batch, name))
    assert one.record_row_counts.sum() == sum(p.entries for p in parts)
    kind = Kind.SUGGESTED if answered[0][1].product is Product.WHO_TO_FOLLOW else Kind.SERVED
    assert set(one.batch.kind.tolist()) <= {kind}


def shown(request_id, time_ms, tweet_id=7, viewer_id=5):
    request = Request(viewer_id=viewer_id, request_id=request_id, time_ms=time_ms, seed=1)
    entry = Entry(
        tweet_id=tweet_id,
        author_id=0,
        created_ms=1,
        text="",
        position=0,
        score=1.0,
        in_network=True,
        counts={},
    )
    feed = Feed(
        request_id=request_id,
        viewer_id=viewer_id,
        product=Product.FOR_YOU,
        version=1,
        seed=1,
        time_ms=time_ms,
        config_hash="c",
        model_version="m",
        entries=(entry,),
    )
    return part(feed, request)


def test_a_feed_that_cannot_be_used_is_a_dead_letter_and_the_others_are_applied():
    parts = [
        shown(1, NOW_MS),
        shown(2, NOW_MS + 1),
        shown(3, NOW_MS, tweet_id=0),
        shown(4, NOW_MS, viewer_id=0),
        shown(0, NOW_MS),
        shown(6, 0),
        shown(7, 2**62),
        shown(8, NOW_MS),
    ]
    damaged = encode_served(parts[:1])[:-1]
    decoded = Decoder(future_ms_max=0).decode(runs_of((Format.PACKED, encode_served(parts)), (Format.PACKED, damaged)))
    assert decoded.batch.context_id.tolist() == [1, 8]
    assert [(letter.offset, letter.row, letter.reason) for letter in decoded.dead] == [
        (0, 1, "timestamp_in_future"),
        (0, 2, "id_out_of_range"),
        (0, 3, "id_out_of_range"),
        (0, 4, "id_out_of_range"),
        (0, 5, "timestamp_out_of_range"),
        (0, 6, "timestamp_out_of_range"),
        (1, None, "truncated_batch"),
    ]
    both = decode_feeds(Format.PACKED, encode_served(parts), NOW_MS)
    assert [i for i, feed in enumerate(both) if feed is not None] == [0, 7]


CHANGES = {"origin": {"created_ms": 5}, "text": {"text": "other"}, "counts": {"counts": {"favorite": 100}}}
CHANGES_OF_PEOPLE = CHANGES | {"reasons": {"reasons": (Reason(name="other", text="other"),)}}


@pytest.mark.parametrize(
    ("products", "parts", "changed_part"),
    [
        *((of_tweets, ENTRY_PARTS, part) for part in ENTRY_PARTS),
        *((of_people, PERSON_PARTS, part) for part in PERSON_PARTS),
    ],
)
@given(data=st.data())
def test_an_entrys_digest_says_which_part_differs(products, parts, changed_part, data):
    request, feed = data.draw(answers(products))
    changes = CHANGES_OF_PEOPLE[changed_part]
    changed = msgspec.structs.replace(
        feed, entries=tuple(msgspec.structs.replace(entry, **changes) for entry in feed.entries)
    )
    one, other = (recorded(f, request) for f in (feed, changed))
    for mine, its, entry, change in zip(one.entries, other.entries, feed.entries, changed.entries, strict=True):
        differing = [a != b for a, b in zip(mine.digest.split("-"), its.digest.split("-"), strict=True)]
        assert differing == [name == changed_part and entry != change for name in parts]


@given(answers(), answers())
def test_the_same_feed_twice_is_one_record_and_others_are_others(answer, other):
    request, feed = answer
    first = recorded(feed, request, incarnation=1)
    assert recorded(msgspec.structs.replace(feed, timings_ms={}), request, incarnation=1) == first
    different = recorded(other[1], other[0], incarnation=1)
    assert (first.id == different.id) == (
        (first.digest, first.request.request_id) == (different.digest, different.request.request_id)
    )


@given(answers())
def test_what_failed_is_skipped_when_asked_again(answer):
    request, feed = answer
    served = recorded(feed, request)
    assert repeated(served) == msgspec.structs.replace(request, sources_skipped=feed.degraded)
