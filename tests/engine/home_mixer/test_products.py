"""Both products over small random worlds against the plain reading of their rules."""

from contextlib import nullcontext
from functools import lru_cache

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.batch import Kind, TweetFlag, make_batch
from engine.feed import FEEDS, Explain, Feed, Product, Request, seed_of, viewer_hour
from engine.home_mixer import cursor as cursors
from engine.home_mixer import hydrators
from engine.home_mixer.config import (
    ForYouConfig,
    HomeMixerConfig,
    LikedByConfig,
    NarrowConfig,
    RelatedConfig,
    WalkConfig,
)
from engine.home_mixer.products import build_products
from engine.interaction_graph.related import RelatedTweetsConfig
from engine.pipeline.execute import Unwatched, execute
from engine.pipeline.scratch import Scratch
from engine.rooms import small_rooms
from engine.state import EngineState
from tests.oracles.feeds import MUTED_WORDS, Expected, expected

NOW = 1_760_000_000_000
HOUR = 3_600_000
PEOPLE, TWEETS = 8, 40
ACTS = {
    Kind.FAVORITE: 30, Kind.RETWEET: 12, Kind.REPLY: 8, Kind.QUOTE: 4, Kind.BOOKMARK: 4, Kind.IMPRESSION: 8,
    Kind.SERVED: 16, Kind.NOT_INTERESTED: 3, Kind.SEE_FEWER: 1, Kind.REPORT: 1, Kind.UNFAVORITE: 3, Kind.DELETE: 1,
}  # fmt: skip
BONDS = {Kind.FOLLOW: 30, Kind.BLOCK: 2, Kind.MUTE: 2, Kind.UNFOLLOW: 4}
RELATED = RelatedTweetsConfig(query_degree_min=1, degree_min=2, tweet_cooccurrence_min=1, tweet_score_above=0.0)
ENDLESS = LikedByConfig(engagement_age_ms_max=1000 * HOUR)
TIMELESS = RelatedConfig(counting=msgspec.structs.replace(RELATED, age_ms_max=1000 * HOUR))
#: Small limits, so that small worlds reach them.
CONFIG = HomeMixerConfig(
    for_you=ForYouConfig(
        narrow=NarrowConfig(followees=6, liked_by_followees=7, walk_own=5, popular=3, total=14),
        related=RelatedConfig(counting=RELATED),
        walk=WalkConfig(walks=50),
        popular_below=40,
        time_aware_walks=20,
        pages_tweets_max=12,
        social_proof_per_tweet=3,
    )
)


def draw_kinds(rng: np.random.Generator, kinds: dict[Kind, int], count: int) -> np.ndarray:
    chances = np.array(list(kinds.values()), float)
    return rng.choice(np.array([int(k) for k in kinds]), count, p=chances / chances.sum())


@lru_cache(maxsize=64)
def world(seed: int) -> EngineState:
    """People, tweets (some are retweets, some of them of what nobody wrote), and what people did.

    The last person does nothing, the one before only follows: their walks start elsewhere.
    """
    rng = np.random.default_rng(seed)
    state = EngineState(small_rooms(1 << 7))
    bonds = 60
    state.apply(
        make_batch(
            kind=draw_kinds(rng, BONDS, bonds), id=np.arange(1, bonds + 1), user_id=rng.integers(1, PEOPLE, bonds),
            subject_id=rng.integers(1, PEOPLE, bonds), timestamp_ms=np.full(bonds, NOW - 72 * HOUR),
        )
    )  # fmt: skip
    muted = [(user, word.encode()) for user, words in MUTED_WORDS.items() for word in words]
    ends = np.cumsum([len(word) for _, word in muted])
    state.apply(
        make_batch(
            b"".join(word for _, word in muted), kind=np.full(len(muted), Kind.MUTE_WORD),
            user_id=[user for user, _ in muted], timestamp_ms=np.full(len(muted), NOW), payload=np.arange(len(muted)),
            tweet_text_start=ends - [len(word) for _, word in muted], tweet_text_bytes=[len(word) for _, word in muted],
        )
    )  # fmt: skip
    authors = rng.integers(1, PEOPLE - 1, TWEETS)
    retweeted = np.where(rng.random(TWEETS) < 0.3, rng.integers(100, 100 + TWEETS + 3, TWEETS), 0)
    retweeted[retweeted == np.arange(100, 100 + TWEETS)] = 0
    # A few quote or answer another, and some of these what nobody wrote.
    quoted, answered = (
        np.where((rng.random(TWEETS) < 0.15) & (retweeted == 0), rng.integers(100, 100 + TWEETS + 3, TWEETS), 0)
        for _ in range(2)
    )
    texts = [f"tweet {n}".encode() for n in range(TWEETS)]
    sizes = np.array([len(text) for text in texts])
    state.apply(
        make_batch(
            b"".join(texts), kind=np.full(TWEETS, Kind.CREATE), id=np.arange(100, 100 + TWEETS), user_id=authors,
            author_id=authors, subject_id=np.arange(100, 100 + TWEETS),
            timestamp_ms=NOW - rng.integers(0, 52 * HOUR, TWEETS), payload=np.arange(TWEETS),
            tweet_retweeted_id=retweeted, tweet_quoted_id=quoted, tweet_reply_to_id=answered,
            tweet_flags=np.where(retweeted > 0, TweetFlag.RETWEET, 0),
            tweet_text_start=np.cumsum(sizes) - sizes, tweet_text_bytes=sizes,
        )
    )  # fmt: skip
    acts = 150
    subjects = rng.integers(100, 100 + TWEETS + 2, acts)
    known = subjects < 100 + TWEETS
    state.apply(
        make_batch(
            kind=draw_kinds(rng, ACTS, acts), id=np.arange(1000, 1000 + acts),
            user_id=rng.integers(1, PEOPLE - 1, acts),
            subject_id=subjects, author_id=np.where(known, authors[np.minimum(subjects - 100, TWEETS - 1)], 0),
            timestamp_ms=NOW - rng.integers(0, 6 * HOUR, acts),
        )
    )  # fmt: skip
    return state


SCRATCH = Scratch()


def ask(state: EngineState, request: Request, config: HomeMixerConfig = CONFIG) -> Feed:
    pipeline = build_products(state, config, "hash")[request.product]
    return execute(pipeline, request, scratch=SCRATCH, reading=nullcontext(state.version), watcher=Unwatched())


def agree(feed: Feed, plain: Expected, request: Request) -> None:
    assert [(e.tweet_id, e.score) for e in feed.entries] == plain.entries
    if request.explain is Explain.ALL:
        assert {d.tweet_id: d.filter for d in feed.dropped} == plain.dropped
        assert len(feed.dropped) == len(plain.dropped)
    for entry in feed.entries:
        why = entry.why
        assert entry.text == f"tweet {entry.tweet_id - 100}"
        if request.explain is Explain.NONE:
            assert why is None
            continue
        assert why is not None
        parts, factors = plain.scores[entry.tweet_id]
        assert why.scores == parts
        assert {f.name: f.factor for f in why.factors} == factors
        assert why.social_proof == plain.proofs[entry.tweet_id]
        assert [(s.name, s.score, s.rank) for s in why.sources] == plain.hits[entry.tweet_id]
    if plain.cursor is None:
        assert feed.cursor is None
    else:
        assert feed.cursor is not None
        offset, numbers = cursors.decode(feed.cursor, request.product, request.viewer_id, 2000)
        assert (offset, numbers.tolist()) == plain.cursor


requests = st.fixed_dictionaries(
    {
        "viewer_id": st.integers(1, PEOPLE),
        "product": st.sampled_from(FEEDS),
        "limit": st.integers(1, 12),
        "seed": st.integers(0, 2**64 - 1),
        "exclude": st.lists(st.integers(100, 100 + TWEETS), max_size=3).map(tuple),
    }
)


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 23), requests)
def test_pages_of_feeds_are_what_their_rules_say(seed, terms):
    state = world(seed)
    cursor = None
    for page in range(3):
        request = Request(
            **terms,
            request_id=page + 1,
            time_ms=NOW,
            cursor=cursor,
            explain=Explain.ALL if page != 1 else Explain.ENTRIES,
        )
        pipeline = build_products(state, CONFIG, "hash")[request.product]
        feed = ask(state, request)
        agree(feed, expected(state, pipeline, CONFIG, request), request)
        cursor = feed.cursor
        if cursor is None:
            break


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 23), requests)
def test_a_feed_without_candidates_of_sources_has_those_of_all_tweets(seed, terms):
    state = world(seed)
    skipped = tuple(NarrowConfig.__struct_fields__)
    request = Request(**terms | {"product": Product.FOR_YOU}, request_id=1, time_ms=NOW, explain=Explain.ALL,
                      sources_skipped=skipped)  # fmt: skip
    feed = ask(state, request)
    agree(feed, expected(state, build_products(state, CONFIG, "hash")[Product.FOR_YOU], CONFIG, request), request)
    assert {s.name for e in feed.entries for s in e.why.sources} <= {"newest"}


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 23), requests)
def test_explaining_changes_nothing_but_the_explanation(seed, terms):
    state = world(seed)
    feeds = [ask(state, Request(**terms, request_id=1, time_ms=NOW, explain=explain)) for explain in Explain]
    plain = [[(e.tweet_id, e.score, e.position, e.text, e.counts) for e in feed.entries] for feed in feeds]
    assert plain[0] == plain[1] == plain[2]
    assert len({feed.cursor for feed in feeds}) == 1
    assert [bool(feed.dropped) for feed in feeds[:2]] == [False, False]


def test_the_worlds_meet_every_rule():
    """If a reason, a source or a factor never came up, the comparison above would say nothing about it."""
    reasons, sources, factors = set(), set(), set()
    for seed in range(24):
        state = world(seed)
        for viewer in range(1, PEOPLE + 1):
            for product in FEEDS:
                cursor = None
                for page in range(2):
                    request = Request(
                        viewer_id=viewer, request_id=1, time_ms=NOW, seed=seed, product=product, explain=Explain.ALL,
                        cursor=cursor, limit=5, exclude=(103,) if page else (),
                    )  # fmt: skip
                    feed = ask(state, request)
                    reasons |= {d.filter for d in feed.dropped}
                    sources |= {s.name for e in feed.entries for s in e.why.sources}
                    factors |= {f.name for e in feed.entries for f in e.why.factors}
                    cursor = feed.cursor
                    if cursor is None:
                        break
    assert reasons == {
        "unhydrated", "blocked", "muted", "context_missing", "muted_word", "own", "too_old", "duplicate", "excluded",
        "already_shown", "earlier_page",
        "reply_to_stranger", "reply_without_root", "reply_within_conversation",
        "seen", "served", "engaged", "rejected", "author_rejected", "narrowed", "not_selected",
    }  # fmt: skip
    assert sources == {
        "followees", "liked_by_followees", "related_to_favorites", "walk_own", "walk_followees", "walk_popular",
        "popular", "own_tweets",
    }  # fmt: skip
    assert factors == {"out_of_network", "author_not_interested", "author_diversity"}


@pytest.mark.parametrize("product", FEEDS)
def test_followees_are_the_same_people_however_many_there_are(product, monkeypatch):
    def feeds():
        requests = [Request(viewer_id=v, request_id=1, time_ms=NOW, seed=3, product=product) for v in range(1, PEOPLE)]
        return [ask(world(5), request) for request in requests]

    few = feeds()
    monkeypatch.setattr(hydrators, "FEW", 0)  # everybody follows very many people
    assert feeds() == few
    assert any(feed.entries for feed in few)


@pytest.mark.parametrize("product", FEEDS)
def test_a_used_scratch_leaves_no_trace(product):
    first, other = world(1), world(2)
    for viewer in range(1, PEOPLE + 1):
        request = Request(viewer_id=viewer, request_id=1, time_ms=NOW, seed=5, product=product, explain=Explain.ALL)
        ask(other, request)
        used = ask(first, request)
        pipeline = build_products(first, CONFIG, "hash")[product]
        fresh = execute(pipeline, request, scratch=Scratch(), reading=nullcontext(first.version), watcher=Unwatched())
        assert used == fresh


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 23), requests, st.integers(0, 50), st.integers(1, HOUR))
def test_a_refresh_within_the_viewers_hour_shows_the_same_feed(seed, terms, hours, later_ms):
    """Only what passes an age limit in between may differ: no such limit is near here."""
    for_you = msgspec.structs.replace(CONFIG.for_you, age_ms_max=1000 * HOUR, liked_by=ENDLESS, related=TIMELESS)
    config = msgspec.structs.replace(CONFIG, for_you=for_you)
    state, viewer = world(seed), terms["viewer_id"]
    first_ms = NOW + hours * HOUR // 10
    later_ms = min(first_ms + later_ms, viewer_hour(viewer, first_ms)[1] - 1)
    feeds = [
        ask(state, Request(**terms | {"seed": seed_of(viewer, time_ms)}, request_id=1, time_ms=time_ms), config)
        for time_ms in (first_ms, later_ms)
    ]
    assert feeds[0].entries == feeds[1].entries


@given(st.integers(1, 2**64 - 1), st.integers(1, 2**42))
def test_the_viewers_hour(viewer, time_ms):
    hour, end_ms = viewer_hour(viewer, time_ms)
    assert end_ms - HOUR <= time_ms < end_ms
    assert {viewer_hour(viewer, t)[0] for t in (end_ms - HOUR, end_ms - 1)} == {hour}
    assert viewer_hour(viewer, end_ms)[0] == hour + 1
    seeds = [seed_of(viewer, time_ms), seed_of(viewer, end_ms), seed_of(viewer % 2**32 + 1, time_ms)]
    assert len(set(seeds)) == 3 or viewer % 2**32 + 1 == viewer
    assert all(0 <= seed < 2**64 for seed in seeds)
