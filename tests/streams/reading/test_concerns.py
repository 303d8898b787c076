"""Whom a piece concerns: nobody whose feed changes by it is left out, and few others are in."""

import json
from contextlib import nullcontext

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.batch import Kind, make_batch
from engine.feed import Product, Request
from engine.home_mixer.config import HomeMixerConfig
from engine.home_mixer.products import build_products
from engine.pipeline.execute import Unwatched, execute
from engine.pipeline.scratch import Scratch
from engine.rooms import small_rooms
from engine.social_graph.state import SocialGraph, SocialGraphConfig
from engine.state import EngineState
from streams.events.decode import Decoder
from streams.events.json_types import TOPIC_BY_TYPE
from streams.log.interface import Format, Records
from streams.reading import concerns
from streams.reading.concerns import NOBODY, Audience, Concern, Concerns, concern_of, find_concerned
from tests.engine.visibility.test_worlds import NOW, PEOPLE, ROOMS, worlds
from tests.oracles.world import World

SCRATCH = Scratch()
EVERYBODY = range(1, PEOPLE + 1)
NONE = np.empty(0, np.uint64)


def decoded(events):
    runs = [
        Records(TOPIC_BY_TYPE[e["type"]], 0, [at], [NOW + at], [Format.JSON], [b""], [json.dumps(e).encode()])
        for at, e in enumerate(events)
    ]
    return Decoder(future_ms_max=300_000).decode(runs).batch


def following(state, pipeline, viewer):
    """What Following shows: tweets in order, and what they say."""
    request = Request(viewer_id=viewer, request_id=1, time_ms=NOW, seed=1, product=Product.FOLLOWING, limit=100)
    feed = execute(pipeline, request, scratch=SCRATCH, reading=nullcontext(state.version), watcher=Unwatched())
    return {entry.tweet_id: entry.text for entry in feed.entries}


@settings(max_examples=25, deadline=None)
@given(worlds())
def test_nobody_is_left_out_whose_feed_changes(world):
    events, cuts = world
    state = EngineState(ROOMS)
    pipeline = build_products(state, HomeMixerConfig(), "test")[Product.FOLLOWING]
    audience = Audience(np.arange(1, PEOPLE + 1, dtype=np.uint64), reads_entries=True)
    truth = World()
    for begin, end in zip([0, *cuts], [*cuts, len(events)], strict=True):
        if begin == end:
            continue
        before = {viewer: following(state, pipeline, viewer) for viewer in EVERYBODY}
        batch = decoded(events[begin:end])
        applied = state.apply(batch)
        for event in events[begin:end]:
            truth.tell(event)
        shown = np.array([tweet for viewer in EVERYBODY for tweet in before[viewer]], np.uint64)
        owner = [viewer for viewer in EVERYBODY for _ in before[viewer]]
        found = find_concerned(state, concern_of(state.version, batch, applied.keep), audience, shown)
        at_once = {owner[i] for i in np.flatnonzero(found.touched)} | {1 + int(i) for i in np.flatnonzero(found.bound)}
        concerned = at_once | {
            1 + int(i) for i in np.flatnonzero(np.minimum(found.fewest, found.fewest_written) != NOBODY)
        }
        written = {event["tweet_id"] for event in events[begin:end] if event["type"] in ("create", "edit")}
        for viewer in EVERYBODY:
            after = following(state, pipeline, viewer)
            gone = [
                tweet
                for tweet in before[viewer]
                if not truth.visible(viewer, tweet)
                or (truth.author(tweet) != viewer and not truth.follows_now(viewer, truth.author(tweet)))
            ]
            other = [
                tweet for tweet in before[viewer] if after.get(tweet, before[viewer][tweet]) != before[viewer][tweet]
            ]
            assert viewer in at_once or not gone
            assert viewer in at_once or not other
            for tweet in written & (set(after) - set(before[viewer])):
                assert viewer - 1 in found.readers[tweet]
            assert viewer in concerned or not written & (set(after) - set(before[viewer]))


def graph_of(follows):
    graph = SocialGraph(SocialGraphConfig(users_max=512, edges_max=1024, list_entries_max=4096))
    who, whom = zip(*follows, strict=True)
    graph.apply(
        make_batch(kind=[Kind.FOLLOW] * len(who), user_id=who, subject_id=whom, timestamp_ms=range(1, len(who) + 1))
    )
    return graph


@settings(max_examples=30, deadline=None)
@given(
    st.sets(
        st.tuples(st.integers(1, 40), st.integers(1, 40)).filter(lambda pair: pair[0] != pair[1]),
        min_size=1,
        max_size=200,
    ),
    st.lists(st.integers(1, 60), unique=True, min_size=1, max_size=50),
    st.lists(st.integers(1, 60), unique=True, max_size=10),
)
def test_followers_among_an_audience(follows, audience, authors):
    """A long list of followers and a short one are read in two ways; both say what the pairs say."""
    graph = graph_of(sorted(follows))
    fewest = np.full(len(audience), NOBODY, np.int32)
    graph.followers_among(np.array(authors, np.uint64), Audience(np.array(audience, np.uint64)).people, fewest)
    for place, person in enumerate(audience):
        followed = [author for author in authors if (person, author) in follows]
        sizes = [sum((other, author) in follows for other in audience) for author in followed]
        assert fewest[place] == min(sizes, default=NOBODY)


def test_what_happens_to_others_concerns_nobody():
    state = EngineState(small_rooms())
    state.apply(make_batch(kind=[Kind.CREATE], user_id=[2], subject_id=[20], author_id=[2], timestamp_ms=[1]))
    state.social_graph.apply(make_batch(kind=[Kind.FOLLOW], user_id=[1], subject_id=[2], timestamp_ms=[1]))
    batch = make_batch(
        kind=[Kind.CREATE, Kind.FAVORITE, Kind.BLOCK, Kind.DELETE, Kind.IMPRESSION, Kind.SERVED],
        user_id=[7, 7, 7, 7, 1, 1], subject_id=[70, 71, 8, 70, 70, 70], timestamp_ms=range(10, 16),
    )  # fmt: skip
    concern = concern_of(1, batch, np.ones(6, np.bool_))
    found = find_concerned(state, concern, Audience(np.array([1, 2], np.uint64)), np.array([20], np.uint64))
    assert concern.news == 5
    assert (found.fewest == NOBODY).all()
    assert (found.fewest_written == NOBODY).all()
    assert (found.fewest_for_you == NOBODY).all()
    assert not found.bound.any()
    assert not found.touched.any()


def test_a_followees_like_concerns_for_you_alone_and_the_engines_own_records_are_no_news():
    state = EngineState(small_rooms())
    state.social_graph.apply(make_batch(kind=[Kind.FOLLOW], user_id=[1], subject_id=[2], timestamp_ms=[1]))
    like = concern_of(1, make_batch(kind=[Kind.FAVORITE], user_id=[2], subject_id=[70]), np.ones(1, np.bool_))
    found = find_concerned(state, like, Audience(np.array([1, 3], np.uint64)), NONE)
    assert (found.fewest.tolist(), found.fewest_for_you.tolist()) == ([NOBODY] * 2, [1, NOBODY])
    served = concern_of(1, make_batch(kind=[Kind.SERVED], user_id=[2], subject_id=[70]), np.ones(1, np.bool_))
    assert (served.news, served.size) == (0, 0)
    repeated = concern_of(1, make_batch(kind=[Kind.CREATE], user_id=[2], subject_id=[70]), np.zeros(1, np.bool_))
    assert (repeated.news, repeated.size) == (0, 0)


def test_what_waits_is_joined_and_bounded(monkeypatch):
    waiting = Concerns()
    block = make_batch(kind=[Kind.BLOCK], user_id=[1], subject_id=[2])
    keep = np.ones(1, np.bool_)
    waiting.note(1, block, keep)
    assert waiting.take() is None  # nobody listened
    waiting.listening = True
    waiting.note(2, block, keep)
    waiting.note(3, make_batch(kind=[Kind.EDIT], user_id=[5], subject_id=[9]), keep)
    joined = waiting.take()
    assert isinstance(joined, Concern)
    assert (joined.version, joined.everybody, joined.touches) == (3, False, True)
    assert (joined.bound.tolist(), joined.authors.tolist(), joined.tweets.tolist()) == ([1, 2], [5], [9])
    assert waiting.take() is None
    monkeypatch.setattr(concerns, "IDS_MAX", 10)
    for version in range(4, 40):
        waiting.note(version, block, keep)
        assert len(waiting._waiting) <= 10
    joined = waiting.take()
    assert (joined.version, joined.everybody) == (39, True)
