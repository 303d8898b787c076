"""A tweet is one thing however it arrives: acts, exclusions, pages and answers, by original and carrier."""

from contextlib import nullcontext

import pytest

from engine.batch import Kind, make_batch
from engine.feed import FEEDS, Explain, Product, Request
from engine.home_mixer.config import FollowingConfig, HomeMixerConfig
from engine.home_mixer.products import build_products
from engine.pipeline.execute import Unwatched, execute
from engine.pipeline.scratch import Scratch
from engine.rooms import small_rooms
from engine.state import EngineState

NOW = 1_760_000_000_000
VIEWER, FRIEND, OTHER, STRANGER = 6, 22, 23, 9
ORIGINAL, CARRIER, FURTHER = 300, 301, 302
REFERENCES = {"retweets": "tweet_retweeted_id", "quotes": "tweet_quoted_id", "answers": "tweet_reply_to_id"}


class World:
    """A state to which events are applied one by one."""

    def __init__(self) -> None:
        self.state = EngineState(small_rooms(1 << 7))
        for friend in (FRIEND, OTHER):
            self.act(Kind.FOLLOW, VIEWER, friend)

    def act(self, kind, user, subject, at=0, author=0):
        version = self.state.version
        self.state.apply(
            make_batch(
                kind=[kind], id=[1000 + version], user_id=[user], subject_id=[subject], author_id=[author],
                timestamp_ms=[NOW + at + version],
            )
        )  # fmt: skip

    def create(self, tweet, author, at=0, **references):
        version = self.state.version
        refs = {REFERENCES[name]: [other] for name, other in references.items()}
        self.state.apply(
            make_batch(
                kind=[Kind.CREATE], id=[1000 + version], user_id=[author], author_id=[author], subject_id=[tweet],
                timestamp_ms=[NOW + at + version], payload=[0], **({"tweet_flags": [0]} | refs),
            )
        )  # fmt: skip

    def feed(self, product=Product.FOR_YOU, config=None, **terms):
        request = Request(
            viewer_id=VIEWER, request_id=1, seed=1, time_ms=NOW + 10_000, product=product, explain=Explain.ALL, **terms
        )
        pipeline = build_products(self.state, config or HomeMixerConfig(), "hash")[product]
        return execute(pipeline, request, scratch=Scratch(), reading=nullcontext(1), watcher=Unwatched())

    def shown(self, product=Product.FOR_YOU, **terms):
        return [entry.tweet_id for entry in self.feed(product, **terms).entries]

    def why_not(self, tweet):
        return {d.tweet_id: d.filter for d in self.feed().dropped}.get(tweet)


@pytest.fixture
def w():
    return World()


ACTS = {
    Kind.FAVORITE: "engaged", Kind.BOOKMARK: "engaged", Kind.REPLY: "engaged", Kind.NOT_INTERESTED: "rejected",
    Kind.SEE_FEWER: "rejected", Kind.IMPRESSION: "seen",
}  # fmt: skip
HOUR = 3_600_000


@pytest.mark.parametrize("kind", ACTS)
@pytest.mark.parametrize("acted_on", [ORIGINAL, CARRIER, FURTHER])
def test_an_act_on_any_of_them_drops_all_of_them(w, kind, acted_on):
    w.create(ORIGINAL, STRANGER)
    w.create(CARRIER, FRIEND, retweets=ORIGINAL)
    w.create(FURTHER, OTHER, retweets=CARRIER)
    assert len(w.shown()) == 1
    w.act(kind, VIEWER, acted_on)
    assert w.shown() == []
    assert {w.why_not(CARRIER), w.why_not(FURTHER)} == {ACTS[kind]}


@pytest.mark.parametrize("kind", ACTS)
@pytest.mark.parametrize("acted_on", [ORIGINAL, CARRIER, FURTHER])
def test_it_does_so_even_if_the_act_arrives_before_the_tweets(w, kind, acted_on):
    w.act(kind, VIEWER, acted_on)
    w.create(FURTHER, OTHER, retweets=CARRIER)
    w.create(CARRIER, FRIEND, retweets=ORIGINAL)
    w.create(ORIGINAL, STRANGER)
    assert {w.why_not(CARRIER), w.why_not(FURTHER)} == {ACTS[kind]}


def test_taking_back_a_like_of_one_takes_back_the_other(w):
    w.create(ORIGINAL, STRANGER)
    w.create(CARRIER, FRIEND, retweets=ORIGINAL)
    w.act(Kind.FAVORITE, VIEWER, CARRIER)
    assert w.why_not(CARRIER) == "engaged"
    w.act(Kind.UNFAVORITE, VIEWER, ORIGINAL)
    assert w.shown() == [CARRIER]


@pytest.mark.parametrize("rejected", [ORIGINAL, CARRIER])
def test_seeing_fewer_of_a_retweet_rejects_who_carried_it_and_of_an_original_who_wrote_it(w, rejected):
    w.create(ORIGINAL, STRANGER)
    w.create(CARRIER, FRIEND, retweets=ORIGINAL)
    w.create(310, STRANGER)
    w.create(311, OTHER, retweets=310)
    w.create(312, FRIEND)
    w.act(Kind.SEE_FEWER, VIEWER, rejected)
    by_friend, by_stranger = w.why_not(312), w.why_not(311)
    assert (by_friend, by_stranger) == (
        (None, "author_rejected") if rejected == ORIGINAL else ("author_rejected", None)
    )


@pytest.mark.parametrize("product", FEEDS)
@pytest.mark.parametrize("excluded", [ORIGINAL, CARRIER, FURTHER])
def test_excluding_any_of_them_excludes_all_of_them(w, product, excluded):
    w.create(ORIGINAL, STRANGER)
    w.create(CARRIER, FRIEND, retweets=ORIGINAL)
    w.create(FURTHER, OTHER, retweets=CARRIER)
    assert w.shown(product, exclude=(excluded,)) == []


@pytest.mark.parametrize("product", FEEDS)
def test_an_original_comes_once_in_all_pages_whatever_arrives_between_them(w, product):
    w.create(303, FRIEND)
    w.create(ORIGINAL, STRANGER)
    w.create(CARRIER, FRIEND, retweets=ORIGINAL)
    first = w.feed(product, limit=1)
    w.create(FURTHER, OTHER, retweets=ORIGINAL)
    w.create(304, OTHER, retweets=CARRIER)
    pages = [[entry.tweet_id for entry in first.entries]]
    cursor = first.cursor
    while cursor is not None:
        page = w.feed(product, limit=1, cursor=cursor)
        pages.append([entry.tweet_id for entry in page.entries])
        cursor = page.cursor
    assert [tweet for page in pages for tweet in page] in ([CARRIER, 303], [303, FURTHER], [303, 304])
    assert product is Product.FOR_YOU or pages == [[CARRIER], [303]]


def test_following_shows_the_original_in_its_place_where_its_author_is_followed(w):
    w.create(ORIGINAL, STRANGER)
    w.create(303, FRIEND)
    w.create(CARRIER, FRIEND, retweets=ORIGINAL)
    first = w.feed(Product.FOLLOWING, limit=1)
    w.act(Kind.FOLLOW, VIEWER, STRANGER)
    assert [entry.tweet_id for entry in first.entries] == [CARRIER]
    assert w.shown(Product.FOLLOWING, cursor=first.cursor) == [303], "it was shown already"
    assert w.shown(Product.FOLLOWING) == [303, ORIGINAL]


def test_an_original_does_not_come_again_where_the_retweet_that_was_shown_is_deleted(w):
    w.create(ORIGINAL, STRANGER)
    w.create(CARRIER, FRIEND, retweets=ORIGINAL)
    w.create(FURTHER, OTHER, retweets=ORIGINAL)
    w.create(303, FRIEND, at=-100)
    first = w.feed(Product.FOLLOWING, limit=1)
    assert [entry.tweet_id for entry in first.entries] == [FURTHER]
    w.act(Kind.DELETE, OTHER, FURTHER)
    assert w.shown(Product.FOLLOWING, cursor=first.cursor) == [303]


def test_answers_to_strangers_leave_following_unless_it_is_configured_otherwise(w):
    w.create(ORIGINAL, STRANGER)
    w.create(401, FRIEND, answers=ORIGINAL)
    w.create(402, OTHER, answers=401)
    w.create(403, VIEWER, answers=ORIGINAL)
    w.create(404, FRIEND, answers=401)
    w.create(405, FRIEND, answers=403)
    assert w.shown(Product.FOLLOWING) == [405, 404, 403, 402]
    config = HomeMixerConfig(following=FollowingConfig(replies_to_strangers=True))
    assert w.shown(Product.FOLLOWING, config=config) == [405, 404, 403, 402, 401]


def test_for_you_shows_an_answer_to_a_stranger_only_with_its_root(w):
    w.create(ORIGINAL, STRANGER)
    w.create(401, FRIEND, answers=ORIGINAL)
    w.create(402, FRIEND)
    assert w.why_not(401) == "reply_without_root"
    w.act(Kind.IMPRESSION, VIEWER, 402)
    assert sorted(w.shown()) == [ORIGINAL, 401], "the last resort brings the root"
    w.create(CARRIER, OTHER, retweets=ORIGINAL)
    assert sorted(w.shown()) == [CARRIER, 401]
    for limit in (1, 2):
        shown, cursor = [], None
        for _ in range(3):
            page = w.feed(limit=limit, cursor=cursor)
            shown += [entry.tweet_id for entry in page.entries]
            cursor = page.cursor
            if cursor is None:
                break
        assert sorted(shown) == [CARRIER, 401]
        assert limit > 1 or shown == [CARRIER, 401]


def test_nobody_who_is_blocked_or_muted_is_named_or_brings_a_tweet_in(w):
    w.create(ORIGINAL, STRANGER)
    w.create(312, FRIEND)
    for tweet in (ORIGINAL, 312):
        w.act(Kind.FAVORITE, OTHER, tweet)
    named = {entry.tweet_id: entry.why.social_proof for entry in w.feed().entries}
    assert named == {ORIGINAL: {"favorite": (OTHER,)}, 312: {"favorite": (OTHER,)}}
    w.act(Kind.MUTE, VIEWER, OTHER)
    feed = w.feed()
    assert {entry.tweet_id: entry.why.social_proof for entry in feed.entries if entry.tweet_id == 312} == {312: {}}
    assert all(source.name != "liked_by_followees" for entry in feed.entries for source in entry.why.sources)
