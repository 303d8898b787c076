"""The record of a served feed: it round-trips, says what differs, and names what it takes to ask again."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from engine.feed import Dropped, Entry, Explain, Factor, Feed, Product, Request, SourceHit, Why
from streams.events.documents import json_schema
from streams.events.feed_fields import feed_digest
from streams.events.ids import ID_MAX
from streams.events.served_feed import ENTRY_PARTS, decode_served, encode_served, repeated
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


@st.composite
def answers(draw: st.DrawFn) -> tuple[Request, Feed]:
    request = draw(requests)
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
        entries=draw(st.lists(entries, max_size=4).map(tuple)),
        dropped=draw(st.lists(st.builds(Dropped, ids, names, st.just(("popular",))), max_size=2).map(tuple)),
        degraded=draw(st.lists(names, max_size=2).map(tuple)),
        gap_records=draw(st.integers(0, 9)),
        cursor=draw(st.none() | names),
        timings_ms={"total": 1.5},
    )
    return request, feed


@given(answers(), st.sampled_from(["", "00c0ffee00c0ffee"]), st.integers(0, ID_MAX))
def test_a_record_has_all_that_was_asked_and_fits_its_schema(answer, history, incarnation):
    request, feed = answer
    value = encode_served(feed, request, history=history, incarnation=incarnation)
    Draft202012Validator(json_schema("served")).validate(msgspec.json.decode(value))
    served = decode_served(value)
    assert served.request == request
    assert (served.history, int(served.incarnation), served.version) == (history, incarnation, feed.version)
    assert (served.digest, served.degraded, served.gap_records) == (
        feed_digest(feed),
        feed.degraded,
        feed.gap_records,
    )
    assert served.models == feed.models
    for recorded, entry in zip(served.entries, feed.entries, strict=True):
        assert (int(recorded.tweet_id), int(recorded.author_id)) == (entry.tweet_id, entry.author_id)
        assert (recorded.position, recorded.score) == (entry.position, entry.score)
        assert recorded.why == (msgspec.UNSET if entry.why is None else entry.why)
    assert encode_served(feed, request, history=history, incarnation=incarnation) == value


CHANGES = {"origin": {"created_ms": 5}, "text": {"text": "other"}, "counts": {"counts": {"favorite": 100}}}


@pytest.mark.parametrize("part", CHANGES)
@given(answer=answers())
def test_an_entrys_digest_says_which_part_differs(part, answer):
    request, feed = answer
    changed = msgspec.structs.replace(
        feed, entries=tuple(msgspec.structs.replace(entry, **CHANGES[part]) for entry in feed.entries)
    )
    one, other = (decode_served(encode_served(f, request, history="", incarnation=0)) for f in (feed, changed))
    for mine, its, entry, change in zip(one.entries, other.entries, feed.entries, changed.entries, strict=True):
        differing = [a != b for a, b in zip(mine.digest.split("-"), its.digest.split("-"), strict=True)]
        assert differing == [name == part and entry != change for name in ENTRY_PARTS]


@given(answers(), answers())
def test_the_same_feed_twice_is_one_record_and_others_are_others(answer, other):
    request, feed = answer
    first = decode_served(encode_served(feed, request, history="", incarnation=1))
    again = decode_served(
        encode_served(msgspec.structs.replace(feed, timings_ms={}), request, history="", incarnation=1)
    )
    assert first == again
    different = decode_served(encode_served(other[1], other[0], history="", incarnation=1))
    assert (first.id == different.id) == (
        (first.digest, first.request.request_id) == (different.digest, different.request.request_id)
    )


@given(answers())
def test_what_failed_is_skipped_when_asked_again(answer):
    request, feed = answer
    served = decode_served(encode_served(feed, request, history="", incarnation=0))
    assert repeated(served) == msgspec.structs.replace(request, sources_skipped=feed.degraded)
