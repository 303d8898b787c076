"""The filter table: what a candidate is like → kept, or the first filter that drops it."""

import numpy as np
import pytest

from engine.feed import Request
from engine.home_mixer.config import HomeMixerConfig
from engine.home_mixer.products import build_following, build_for_you
from engine.pipeline.candidates import Candidates
from engine.pipeline.components import Query, Unwatched
from engine.pipeline.scratch import Buffers, Scratch
from engine.pipeline.stages import Filtering, Work
from engine.rooms import small_rooms
from engine.signals.state import ViewerFlag
from engine.state import EngineState
from engine.visibility.judge import Hidden

NOW = 1_760_000_000_000
HOUR = 3_600_000
VIEWER, AUTHOR, OTHER = 1, 8, 9

#: A tweet that nothing is wrong with; each row of the table changes something.
CLEAN = {
    "hidden": 0, "author_id": AUTHOR, "original_author_id": AUTHOR, "original_id": 100, "created_ms": NOW - HOUR,
    "viewer_flags": 0, "answers_stranger": 0,
}  # fmt: skip
DTYPES = {
    "hidden": np.uint16, "author_id": np.uint64, "original_author_id": np.uint64, "original_id": np.uint64,
    "created_ms": np.int64, "viewer_flags": np.uint16, "answers_stranger": np.uint16,
}  # fmt: skip

FOR_YOU = [
    ({}, None),
    ({"hidden": Hidden.UNHYDRATED}, "unhydrated"),
    ({"hidden": Hidden.BLOCKED}, "blocked"),
    ({"hidden": Hidden.MUTED}, "muted"),
    ({"hidden": Hidden.CONTEXT_MISSING}, "context_missing"),
    ({"hidden": Hidden.MUTED | Hidden.BLOCKED}, "blocked"),
    ({"hidden": Hidden.MUTED | Hidden.CONTEXT_MISSING}, "muted"),
    ({"author_id": VIEWER}, "own"),
    ({"original_author_id": VIEWER}, "own"),
    ({"created_ms": NOW - 48 * HOUR}, None),
    ({"created_ms": NOW - 48 * HOUR - 1}, "too_old"),
    ({"created_ms": NOW + HOUR}, None),
    ({"viewer_flags": ViewerFlag.SEEN}, "seen"),
    ({"viewer_flags": ViewerFlag.SERVED}, None),
    ({"viewer_flags": ViewerFlag.ENGAGED}, "engaged"),
    ({"viewer_flags": ViewerFlag.REJECTED}, "rejected"),
    ({"viewer_flags": ViewerFlag.AUTHOR_REJECTED}, "author_rejected"),
    ({"viewer_flags": ViewerFlag.AUTHOR_NOT_INTERESTED}, None),
    ({"viewer_flags": ViewerFlag.SEEN | ViewerFlag.ENGAGED}, "seen"),
    ({"hidden": Hidden.UNHYDRATED | Hidden.BLOCKED, "author_id": VIEWER}, "unhydrated"),
]
FOLLOWING = [
    ({}, None),
    ({"hidden": Hidden.UNHYDRATED}, "unhydrated"),
    ({"hidden": Hidden.BLOCKED}, "blocked"),
    ({"hidden": Hidden.MUTED}, "muted"),
    ({"hidden": Hidden.CONTEXT_MISSING}, "context_missing"),
    ({"answers_stranger": 1}, "reply_to_stranger"),
    ({"answers_stranger": 1, "hidden": Hidden.MUTED}, "muted"),
    ({"author_id": VIEWER, "original_author_id": VIEWER}, None),
    ({"created_ms": NOW - 1000 * HOUR}, None),
    ({"viewer_flags": ViewerFlag.SEEN | ViewerFlag.ENGAGED}, None),
]


@pytest.fixture(scope="module")
def products():
    state = EngineState(small_rooms())
    return {
        "for_you": build_for_you(state, HomeMixerConfig(), "hash"),
        "following": build_following(state, HomeMixerConfig(), "hash"),
    }


def table(rows, ids):
    found = [("followees", np.array(ids, np.uint64), np.zeros(len(ids)))]
    candidates = Candidates.merge(found, Buffers())
    candidates.add({name: np.array([row[name] for row in rows], dtype) for name, dtype in DTYPES.items()})
    return candidates


def first_drop(pipeline, candidates, query):
    """Tweet id → name of the first filter that drops it."""
    work = Work(query, Unwatched())
    work.candidates = candidates
    (stage,) = (stage for stage in pipeline.under_lock if isinstance(stage, Filtering))
    stage.run(work)
    drops = {drop.tweet_id: drop.filter for drop in candidates.dropped()}
    assert candidates.tweet_id[candidates.rows].tolist() == [t for t in candidates.tweet_id.tolist() if t not in drops]
    return drops


def ask(**fields):
    return Query(Request(viewer_id=VIEWER, request_id=1, time_ms=NOW, seed=1, **fields), Scratch())


@pytest.mark.parametrize(
    ("product", "change", "expected"),
    [("for_you", *row) for row in FOR_YOU] + [("following", *row) for row in FOLLOWING],
)
def test_the_table(products, product, change, expected):
    candidates = table([CLEAN | change], [100])
    assert first_drop(products[product], candidates, ask()).get(100) == expected


def test_a_native_tweet_beats_its_retweets_and_the_first_retweet_the_others(products):
    rows = [CLEAN | {"original_id": o} for o in (100, 100, 200, 200, 300)]
    drops = first_drop(products["for_you"], table(rows, [101, 100, 201, 202, 300]), ask())
    assert drops == {101: "duplicate", 202: "duplicate"}


def test_a_blocked_native_does_not_take_its_retweet_down_with_it(products):
    rows = [CLEAN | {"viewer_flags": ViewerFlag.SEEN}, CLEAN | {"original_id": 200}]
    drops = first_drop(products["for_you"], table(rows, [100, 201]), ask())
    assert drops == {100: "seen"}


def test_excluded_and_shown_apply_only_when_asked(products):
    rows = [CLEAN | {"original_id": i} for i in (100, 200, 300)]
    assert first_drop(products["for_you"], table(rows, [100, 200, 300]), ask()) == {}
    query = ask(exclude=(201,), cursor="x")
    query.excluded = np.array([201, 200], np.uint64)
    query.shown = np.array([300], np.uint64)
    assert first_drop(products["for_you"], table(rows, [100, 202, 301]), query) == {
        202: "excluded",
        301: "already_shown",
    }


@pytest.mark.parametrize("product", ["for_you", "following"])
def test_who_retweets_what_the_viewer_does_not_want_is_shown_only_with_tweets_of_their_own(products, product):
    rows = [CLEAN | {"original_id": o, "author_id": by} for o, by in ((100, AUTHOR), (200, AUTHOR), (300, OTHER))]
    query = ask()
    query.muted_retweeters = np.array([AUTHOR, VIEWER], np.uint64)
    assert first_drop(products[product], table(rows, [100, 201, 301]), query) == {201: "muted_retweets"}
    # What hides a tweet from everybody comes first.
    hidden = [rows[1] | {"hidden": Hidden.MUTED}]
    assert first_drop(products[product], table(hidden, [201]), query) == {201: "muted"}


def test_served_counts_only_when_paging(products):
    served = [CLEAN | {"viewer_flags": ViewerFlag.SERVED}]
    assert first_drop(products["for_you"], table(served, [100]), ask()) == {}
    assert first_drop(products["for_you"], table(served, [100]), ask(cursor="x")) == {100: "served"}


def test_following_pages_by_time_then_id(products):
    rows = [CLEAN | {"original_id": i, "created_ms": t} for i, t in ((1, 50), (2, 50), (3, 50), (4, 49), (5, 51))]
    query = ask()
    query.first, query.before = (51, 5), (50, 2)
    drops = first_drop(products["following"], table(rows, [1, 2, 3, 4, 5]), query)
    assert drops == {2: "earlier_page", 3: "earlier_page", 5: "earlier_page"}


def test_the_newest_stands_for_an_original_but_for_what_came_after_the_first_page(products):
    rows = [CLEAN | {"original_id": 9, "created_ms": t} for t in (10, 30, 30, 20, 40)]
    ids = [1, 2, 3, 4, 5]
    assert first_drop(products["following"], table(rows, ids), ask()) == dict.fromkeys((1, 2, 3, 4), "duplicate")
    with_it = table([*rows, CLEAN | {"original_id": 9, "created_ms": 5}], [*ids, 9])
    assert first_drop(products["following"], with_it, ask()) == dict.fromkeys(ids, "duplicate")
    query = ask(cursor="x")
    query.first, query.before = (30, 3), (30, 3)
    drops = first_drop(products["following"], table(rows, ids), query)
    assert drops == {1: "duplicate", 2: "duplicate", 4: "duplicate", 3: "earlier_page", 5: "earlier_page"}
