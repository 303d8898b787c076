"""What viewers get of whom little is known: their tier, a feed of their own, and never an empty one."""

from contextlib import nullcontext

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.batch import Kind, make_batch
from engine.feed import FEEDS, Explain, Feed, Product, Request
from engine.home_mixer.cold_start import Tier, tier_of
from engine.home_mixer.config import HomeMixerConfig
from engine.home_mixer.products import build_products
from engine.interests.content import encode_interests
from engine.pipeline.execute import Unwatched, execute
from engine.pipeline.scratch import Scratch
from engine.profiles.bits import ProfileBit, ProfileState
from engine.rooms import small_rooms
from engine.state import EngineState
from engine.visibility.judge import Visibility

NOW = 1_760_000_000_000
HOUR = 3_600_000
GERMAN, JAPANESE = 7, 9
SCRATCH = Scratch()


def new_state(authors, langs=None, ages_ms=None, size=1 << 11) -> EngineState:
    """Tweet 1000 + i is the i-th author's; the first is the oldest."""
    state = EngineState(small_rooms(size))
    n = len(authors)
    ages_ms = np.arange(n, 0, -1) * 1000 if ages_ms is None else np.array(ages_ms)
    ids = np.arange(1000, 1000 + n)
    state.apply(
        make_batch(
            b"x" * n, kind=np.full(n, Kind.CREATE), id=ids, user_id=authors, author_id=authors, subject_id=ids,
            timestamp_ms=NOW - ages_ms, payload=np.arange(n), tweet_text_start=np.arange(n),
            tweet_text_bytes=np.ones(n), tweet_lang=np.zeros(n) if langs is None else langs,
        )
    )  # fmt: skip
    return state


def act(state, kind, user, subjects, **columns):
    n = len(subjects)
    state.apply(
        make_batch(
            kind=[kind] * n, id=state.version * 10_000 + np.arange(n), user_id=[user] * n, subject_id=list(subjects),
            timestamp_ms=np.full(n, NOW - 500), **columns,
        )
    )  # fmt: skip


def ask(state, viewer, product=Product.FOR_YOU, limit=20, config=None) -> Feed:
    pipeline = build_products(state, config or HomeMixerConfig(), "hash")[product]
    request = Request(viewer_id=viewer, request_id=1, time_ms=NOW, seed=5, product=product, limit=limit,
                      explain=Explain.ALL)  # fmt: skip
    return execute(pipeline, request, scratch=SCRATCH, reading=nullcontext(state.version), watcher=Unwatched())


def shown(feed) -> list[int]:
    return [entry.tweet_id for entry in feed.entries]


@pytest.mark.parametrize(
    ("edges", "followees", "interests", "languages", "tier", "reason"),
    [
        (0, 0, 0, 0, Tier.NOTHING_KNOWN, "no act on a tweet, no followees, no interests, no language"),
        (0, 0, 0, 1, Tier.INTERESTS_OR_LANGUAGE, "no act on a tweet, no followees; the language is known"),
        (0, 0, 3, 1, Tier.INTERESTS_OR_LANGUAGE, "no act on a tweet, no followees; 3 interests known"),
        (0, 0, 1, 0, Tier.INTERESTS_OR_LANGUAGE, "no act on a tweet, no followees; 1 interest known"),
        (0, 1, 2, 1, Tier.FOLLOWS_ONLY, "no act on a tweet, 1 followee"),
        (1, 10, 2, 0, Tier.FEW_LIKES, "1 act on tweets, fewer than 5"),
        (4, 0, 0, 0, Tier.FEW_LIKES, "4 acts on tweets, fewer than 5"),
        (1234, 0, 0, 0, Tier.ACTIVE, "1,234 acts on tweets"),
    ],
)
def test_the_tier_and_its_reason(edges, followees, interests, languages, tier, reason):
    assert tier_of(edges, 5, followees, interests, languages) == (tier, reason)


@pytest.mark.parametrize("product", FEEDS)
def test_every_feed_names_the_tier(product):
    state = new_state(np.arange(1, 9))
    act(state, Kind.FOLLOW, 50, [1])
    act(state, Kind.FAVORITE, 51, [1000], author_id=[1])
    act(state, Kind.FAVORITE, 52, range(1000, 1005), author_id=range(1, 6))
    act(state, Kind.USER, 53, [0], context_id=[GERMAN << ProfileBit.LANGUAGE_SHIFT])
    tiers = [ask(state, viewer, product).tier for viewer in (49, 53, 50, 51, 52)]
    assert tiers == [*Tier]


def test_two_new_viewers_get_feeds_that_differ_as_their_followees_do():
    state = new_state(np.tile(np.arange(1, 31), 4))
    act(state, Kind.FOLLOW, 50, range(1, 11))
    act(state, Kind.FOLLOW, 51, range(11, 21))
    feeds = [ask(state, viewer) for viewer in (50, 51)]
    assert [feed.tier for feed in feeds] == [Tier.FOLLOWS_ONLY] * 2
    assert [{e.author_id for e in feed.entries} for feed in feeds] == [{*range(1, 11)}, {*range(11, 21)}]


def test_who_has_only_a_language_gets_what_is_popular_in_it():
    state = new_state(np.arange(1, 41), langs=[GERMAN, JAPANESE] * 20)
    for person in range(60, 64):
        act(state, Kind.FAVORITE, person, range(1000, 1040), author_id=range(1, 41))
    act(state, Kind.USER, 50, [0], context_id=[JAPANESE << ProfileBit.LANGUAGE_SHIFT])
    hits = {tweet: {s.name for s in e.why.sources} for e in ask(state, 50).entries for tweet in [e.tweet_id]}
    japanese = {tweet for tweet, names in hits.items() if "popular_in_language" in names}
    assert japanese
    assert japanese == {tweet for tweet in hits if tweet % 2}
    assert not any("popular_in_language" in {s.name for s in e.why.sources} for e in ask(state, 51).entries)


CATS, DOGS, TEA = 11, 12, 13


def tag(state, tag_hash, tweets):
    """Put a hashtag on tweets of ``new_state`` with an author each."""
    n, tweets = len(tweets), np.array(tweets)
    authors = state.tweet_store.columns(state.tweet_store.lookup(tweets.astype(np.uint64))).author_id
    state.apply(
        make_batch(
            kind=[Kind.HASHTAG] * n, id=tweets, user_id=authors, author_id=authors, subject_id=tweets,
            context_id=[tag_hash] * n, timestamp_ms=NOW - 1000 * (3000 - tweets),
        )
    )  # fmt: skip


def say(state, viewer, tags=(), languages=(), age_ms=500):
    text = encode_interests(tags, languages)
    state.apply(
        make_batch(
            text, kind=[Kind.INTERESTS], id=[state.version * 10_000], user_id=[viewer], timestamp_ms=[NOW - age_ms],
            payload=[0], tweet_text_start=[0], tweet_text_bytes=[len(text)],
        )
    )  # fmt: skip


def names_of(feed) -> set[str]:
    return {source.name for entry in feed.entries for source in entry.why.sources}


def test_who_has_only_interests_gets_tweets_of_those_whatever_is_popular():
    state = new_state(np.tile(np.arange(1, 31), 3))
    tag(state, CATS, range(1000, 1030))
    tag(state, DOGS, range(1030, 1060))
    for person in range(60, 64):
        act(state, Kind.FAVORITE, person, range(1060, 1090), author_id=range(1, 31))
    say(state, 50, [CATS])
    say(state, 51, [DOGS])
    say(state, 52, [DOGS, CATS], age_ms=400)
    feeds = [ask(state, viewer) for viewer in (50, 51, 52)]
    assert [feed.tier for feed in feeds] == [Tier.INTERESTS_OR_LANGUAGE] * 3
    assert all(len(feed.entries) == 20 and names_of(feed) == {"interests"} for feed in feeds)
    assert {*shown(feeds[0])} <= {*range(1000, 1030)}
    assert {*shown(feeds[1])} <= {*range(1030, 1060)}
    assert {*shown(feeds[2])} <= {*range(1000, 1060)}
    # What is taken back counts no more, also if what was said before comes later.
    say(state, 50, age_ms=300)
    say(state, 50, [CATS], age_ms=350)
    assert ask(state, 50).tier == Tier.NOTHING_KNOWN


def test_few_tweets_of_an_interest_come_first_and_others_fill_up():
    state = new_state(np.arange(1, 61))
    tag(state, TEA, range(1000, 1003))
    for person in range(60, 64):
        act(state, Kind.FAVORITE, person, range(1010, 1060), author_id=range(11, 61))
    say(state, 90, [TEA])
    feed = ask(state, 90)
    assert {*shown(feed)[:3]} == {*range(1000, 1003)}
    assert len(feed.entries) == 20
    # With followees an interest adds to what they bring.
    act(state, Kind.FOLLOW, 90, range(20, 30))
    feed = ask(state, 90, limit=60)
    assert feed.tier == Tier.FOLLOWS_ONLY
    assert {e.author_id for e in feed.entries} >= {*range(20, 30)}
    assert {"interests", "followees"} <= names_of(feed)


def test_one_author_does_not_take_a_whole_interest():
    state = new_state([*range(1, 31), *[40] * 500])
    tag(state, CATS, range(1000, 1530))
    say(state, 50, [CATS])
    feed = ask(state, 50)
    assert len({e.author_id for e in feed.entries}) > 12
    assert sum(e.author_id == 40 for e in feed.entries) <= 5


def test_languages_of_onboarding_come_before_the_profiles():
    state = new_state(np.arange(1, 61), langs=[GERMAN, JAPANESE, 5] * 20)
    for person in range(60, 64):
        act(state, Kind.FAVORITE, person, range(1000, 1060), author_id=range(1, 61))
    act(state, Kind.USER, 90, [0], context_id=[5 << ProfileBit.LANGUAGE_SHIFT])
    assert {tweet % 3 for tweet in shown(ask(state, 90))} == {0}
    say(state, 90, languages=[GERMAN, JAPANESE])
    feed = ask(state, 90)
    assert feed.tier_reason.endswith("the language is known")
    assert {tweet % 3 for tweet in shown(feed)} == {1, 2}


def test_tweets_that_nobody_has_touched_are_shown_newest_first():
    state = new_state(np.arange(1, 31))
    feed = ask(state, 50)
    assert shown(feed) == list(range(1029, 1009, -1))
    assert {s.name for e in feed.entries for s in e.why.sources} == {"newest"}


def test_a_flood_of_what_must_not_be_shown_hides_nothing_else():
    """More tweets than one part of the last resort, and than the source: blocked, suspended and seen ones."""
    flood = 1400
    state = new_state([7] + [8] * (flood // 2) + [9] * (flood // 2))
    act(state, Kind.BLOCK, 50, [9])
    act(state, Kind.USER, 8, [0], context_id=[ProfileState.SUSPENDED << ProfileBit.STATE_SHIFT])
    assert shown(ask(state, 50)) == [1000]
    act(state, Kind.IMPRESSION, 50, [1000])
    assert shown(ask(state, 50)) == []
    assert all(e.author_id == 9 for e in ask(state, 51).entries)


def test_the_last_resort_judges_no_more_than_its_bound():
    crowd = range(8, 17)  # nobody puts more than a share into the store
    state = new_state([7] + [author for author in crowd for _ in range(100)])
    for author in crowd:
        act(state, Kind.USER, author, [0], context_id=[ProfileState.SUSPENDED << ProfileBit.STATE_SHIFT])
    small = HomeMixerConfig()
    small = _with(small, last_resort_max=600)
    assert shown(ask(state, 50, config=small)) == []
    assert shown(ask(state, 50, config=_with(small, last_resort_max=1000))) == [1000]


def _with(config, **bounds):
    replace = msgspec.structs.replace
    return replace(config, for_you=replace(config.for_you, cold_start=replace(config.for_you.cold_start, **bounds)))


BARS = (Kind.BLOCK, Kind.MUTE, Kind.IMPRESSION, Kind.FAVORITE, Kind.REPORT, Kind.NOT_INTERESTED)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(BARS), st.integers(0, 5)), max_size=10),
    st.lists(st.sampled_from([1, 2, 3, 50]), min_size=1, max_size=6),
    st.lists(st.sampled_from([1, 40 * HOUR, 49 * HOUR]), min_size=6, max_size=6),
    st.lists(st.sampled_from([CATS, DOGS]), max_size=2, unique=True),
)
def test_no_feed_is_empty_while_there_is_a_tweet_to_show(bars, authors, ages_ms, interests):
    state = new_state(authors, ages_ms=ages_ms[: len(authors)], size=64)
    tag(state, CATS, range(1000, 1000 + len(authors), 2))
    if interests:
        say(state, 50, interests)
    barred, rejected = set(), set()
    for kind, which in bars:
        tweet = 1000 + which % len(authors)
        author = authors[tweet - 1000]
        if kind in (Kind.BLOCK, Kind.MUTE):
            act(state, kind, 50, [author])
        else:
            act(state, kind, 50, [tweet], author_id=[author])
            barred.add(tweet)
            rejected |= {author} if kind is Kind.REPORT else set()
    ids = np.arange(1000, 1000 + len(authors), dtype=np.uint64)
    free = {
        int(tweet)
        for tweet, author, age_ms, visible in zip(
            ids, authors, ages_ms, Visibility(state).may_see(50, ids).tolist(), strict=False
        )
        if visible and author != 50 and age_ms <= 48 * HOUR and int(tweet) not in barred and author not in rejected
    }
    feed = ask(state, 50)
    assert {*shown(feed)} <= free
    assert bool(feed.entries) == bool(free)
    assert not feed.degraded
