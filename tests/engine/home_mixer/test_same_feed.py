"""Feeds of named tweets, many at once: each is what the pipeline gives alone, and shows what Following shows."""

import json
from collections import Counter
from contextlib import nullcontext

import msgspec
import numpy as np
from hypothesis import event as note
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.batch import Kind, make_batch
from engine.feed import Product, Request
from engine.home_mixer.config import HomeMixerConfig
from engine.home_mixer.products import build_products
from engine.home_mixer.same_feed import SameFeed
from engine.pipeline.execute import Unwatched, execute
from engine.pipeline.scratch import Scratch
from engine.rooms import small_rooms
from engine.state import EngineState
from streams.events.feed_fields import feed_digest
from tests.engine.visibility.test_worlds import NOW, PEOPLE, TWEETS, apply, told, worlds

SCRATCH = Scratch()


def computed(state):
    pipeline = build_products(state, HomeMixerConfig(), "hash")[Product.FOLLOWING]

    def compute(request):
        return execute(pipeline, request, scratch=SCRATCH, reading=nullcontext(state.version), watcher=Unwatched())

    return compute


def request_of(viewer, **terms):
    return Request(viewer_id=viewer, request_id=viewer, time_ms=NOW, seed=viewer, product=Product.FOLLOWING, **terms)


@settings(max_examples=25, deadline=None)
@given(worlds(), st.lists(st.integers(101, 100 + TWEETS), min_size=1, max_size=3, unique=True))
def test_each_feed_is_the_one_that_the_pipeline_gives(made, only):
    events, cuts = made
    state, world = apply(events, cuts), told(events)
    compute = computed(state)
    alone = []

    def compute_alone(request):
        alone.append(request.viewer_id)
        return compute(request)

    requests = [request_of(viewer, only=tuple(only), limit=len(only)) for viewer in range(1, PEOPLE + 1)]
    served = Counter()
    feeds = SameFeed(state, 1000).feeds(requests, compute_alone, lambda source, n: served.update({source: n}))
    assert served.total() == (len(feeds) - len(alone)) * len(only)
    for request, feed in zip(requests, feeds, strict=True):
        right = compute(request)
        assert feed_digest(feed) == feed_digest(right)
        assert (feed.request_id, feed.viewer_id, feed.entries) == (right.request_id, right.viewer_id, right.entries)
        shown = {entry.tweet_id for entry in feed.entries}
        whole = {entry.tweet_id for entry in compute(request_of(request.viewer_id, limit=100)).entries}
        assert all(world.visible(request.viewer_id, number) for number in shown)
        # What Following shows of them; and a retweet that stands behind another tweet there.
        assert whole & set(only) <= shown
        assert all(number in whole or world.original(number) != number for number in shown)
    note(f"{len(feeds) - len(alone)} feeds were not computed")


def test_one_tweet_for_many_is_computed_once():
    state = EngineState(small_rooms())
    viewers = range(1, 60)
    state.apply(
        make_batch(
            kind=[Kind.FOLLOW] * len(viewers), user_id=viewers, subject_id=[90] * len(viewers), timestamp_ms=viewers
        )
    )
    state.apply(make_batch(kind=[Kind.CREATE], user_id=[90], subject_id=[900], author_id=[90], timestamp_ms=[NOW]))
    state.apply(make_batch(kind=[Kind.BLOCK], user_id=[90], subject_id=[7], timestamp_ms=[NOW]))
    compute, alone = computed(state), []

    def compute_alone(request):
        alone.append(request.viewer_id)
        return compute(request)

    served = Counter()
    requests = [request_of(viewer, only=(900,), limit=1) for viewer in viewers]
    feeds = SameFeed(state, 1000).feeds(requests, compute_alone, lambda source, n: served.update({source: n}))
    assert served == {"named": len(viewers) - len(alone)}
    assert alone == [1, 7]
    assert [len(feed.entries) for feed in feeds] == [viewer != 7 for viewer in viewers]


def test_a_request_that_names_tweets_is_encoded_with_them_and_others_as_before():
    encoded = msgspec.json.decode(msgspec.json.encode(request_of(1, only=(5,))))
    assert encoded["only"] == [5]
    assert "only" not in json.loads(msgspec.json.encode(request_of(1)))
    assert np.array(encoded["only"], np.uint64) == 5
