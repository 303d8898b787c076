"""The judge of what a viewer may see against one recursive rule over a dictionary of tweets."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.batch import Kind, TweetFlag, make_batch
from engine.pipeline.scratch import Buffers
from engine.rooms import small_rooms
from engine.state import EngineState
from engine.visibility.judge import Hidden, Visibility
from engine.visibility.relate import CHAIN_NEAR, RELATED_MAX
from tests.oracles.visibility import Tweet, originals_of, stands_for, why_missing

T0 = 1_760_000_000_000
VIEWER, PEOPLE, IDS = 1, 6, 14
REFERENCES = ("tweet_retweeted_id", "tweet_quoted_id", "tweet_reply_to_id", "tweet_conversation_id")
NAMES = {
    Hidden.UNHYDRATED: "unhydrated",
    Hidden.CONTEXT_MISSING: "context_missing",
    Hidden.BLOCKED: "blocked",
    Hidden.MUTED: "muted",
}


def create(state, tweet, author, *references):
    refs = dict(zip(REFERENCES, ([r] for r in references), strict=False))
    state.apply(
        make_batch(
            kind=[Kind.CREATE], id=[state.version + 1000], user_id=[author], author_id=[author], subject_id=[tweet],
            timestamp_ms=[T0 + state.version], payload=[0], **({"tweet_flags": [0]} | refs),
        )
    )  # fmt: skip


def act(state, kind, user, subject, author=0):
    state.apply(
        make_batch(
            kind=[kind], id=[state.version + 1000], user_id=[user], subject_id=[subject], author_id=[author],
            timestamp_ms=[T0 + state.version],
        )
    )  # fmt: skip


def judge(state, tweets, viewer=VIEWER):
    """By tweet: the names of why it is hidden, and its original."""
    ids = np.array(tweets, np.uint64)
    judged = Visibility(state).judge(viewer, ids, Buffers())
    hidden = [{name for bit, name in NAMES.items() if bits & bit} for bits in judged.hidden.tolist()]
    assert (judged.hidden == 0).tolist() == Visibility(state).may_see(viewer, ids).tolist()
    return dict(zip(tweets, zip(hidden, judged.original_id.tolist(), strict=True), strict=True))


TWEET_IDS = st.integers(1, IDS)
MAYBE = st.just(0) | TWEET_IDS
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("create"), TWEET_IDS, st.integers(1, PEOPLE), MAYBE, MAYBE, MAYBE, MAYBE),
        st.tuples(st.just("create"), TWEET_IDS, st.integers(1, PEOPLE), TWEET_IDS),
        st.tuples(st.just("delete"), TWEET_IDS),
        st.tuples(st.just("favorite"), TWEET_IDS),
    ),
    max_size=40,
)
BONDS = st.lists(
    st.tuples(st.sampled_from([Kind.BLOCK, Kind.MUTE]), st.integers(1, PEOPLE), st.integers(1, PEOPLE)), max_size=3
)


@settings(max_examples=300, deadline=None)
@given(STEPS, BONDS)
def test_what_is_hidden_is_what_the_rule_says_whatever_refers_to_what_in_whatever_order(steps, bonds):
    state, tweets, deleted, early = EngineState(small_rooms(1 << 6)), {}, set(), set()
    hiding = {}
    for kind, user, other in bonds:
        act(state, kind, user, other)
        if user != other and VIEWER in (user, other):
            hiding.setdefault(user + other - VIEWER, set()).add("blocked" if kind == Kind.BLOCK else "muted")
    for step in steps:
        if step[0] == "create":
            create(state, *step[1:])
            if step[1] not in tweets and step[1] not in deleted and step[1:3] not in early:
                tweets[step[1]] = Tweet(*step[2:])
        elif step[0] == "delete":
            author = tweets[step[1]].author if step[1] in tweets else 1
            act(state, Kind.DELETE, author, step[1], author)
            if tweets.pop(step[1], None):
                deleted.add(step[1])
            elif step[1] not in deleted:
                early.add((step[1], author))  # holds only if the tweet turns out to be this author's
        else:
            act(state, Kind.FAVORITE, 2, step[1])
    asked = list(range(1, IDS + 2))
    for tweet, (hidden, original) in judge(state, asked).items():
        missing = why_missing(tweets, tweet)
        assert hidden & {"unhydrated", "context_missing"} == missing
        if missing != {"unhydrated"}:
            authors = {tweets[at].author for at in stands_for(tweets, tweet) if at in tweets}
            assert hidden == missing | {name for author in authors for name in hiding.get(author, ())}
            assert original == originals_of(tweets, tweet)[-1]
    state.check()


@pytest.mark.parametrize("links", [1, 2, CHAIN_NEAR, CHAIN_NEAR + 1, 40])
@pytest.mark.parametrize("order", ["as written", "backwards", "mixed"])
def test_a_chain_of_any_length_stands_for_its_end_whatever_the_order_of_arrival(links, order):
    state = EngineState(small_rooms(1 << 7))
    chain = [(tweet, 100 + tweet, tweet - 1) for tweet in range(1, links + 2)]
    if order == "backwards":
        chain.reverse()
    elif order == "mixed":
        np.random.default_rng(links).shuffle(chain)
    for tweet, author, retweeted in chain:
        create(state, tweet, author, retweeted)
    ids = list(range(1, links + 2))
    assert judge(state, ids) == {tweet: (set(), 1) for tweet in ids}
    act(state, Kind.BLOCK, 101, VIEWER)
    assert all(hidden == {"blocked"} for hidden, _ in judge(state, ids).values())
    act(state, Kind.DELETE, 101, 1, 101)
    assert all("unhydrated" in hidden for hidden, _ in judge(state, ids).values())


def test_a_circle_has_no_original_and_is_not_shown_nor_what_leads_into_it():
    state = EngineState(small_rooms(1 << 6))
    for tweet, retweeted in ((1, 2), (2, 3), (3, 1), (4, 3), (5, 5)):
        create(state, tweet, 100 + tweet, retweeted)
    assert all(hidden == {"unhydrated"} for hidden, _ in judge(state, [1, 2, 3, 4, 5]).values())


def test_an_original_that_fell_out_of_the_store_takes_its_retweets_along():
    state = EngineState(small_rooms(1 << 6))
    create(state, 1000, 9)
    create(state, 1001, 8, 1000)
    assert judge(state, [1001]) == {1001: (set(), 1000)}
    for tweet in range(1, (1 << 6) - 1):
        create(state, tweet, 100 + tweet)
    assert judge(state, [1001]) == {1001: (set(), 1000)}
    create(state, 99, 7)
    assert judge(state, [1001]) == {1001: ({"unhydrated"}, 1001)}


def test_whom_a_reply_answers_and_its_root_are_told():
    state = EngineState(small_rooms(1 << 6))
    create(state, 1, 11)
    create(state, 2, 12, 0, 0, 1, 1)
    create(state, 3, 13, 0, 0, 2)
    create(state, 4, 14, 3)
    judged = Visibility(state).judge(VIEWER, np.arange(1, 5, dtype=np.uint64), Buffers())
    assert judged.answered_author_id.tolist() == [0, 11, 12, 0]
    assert judged.root_id.tolist() == [0, 1, 1, 0]
    assert judged.original_author_id.tolist() == [11, 12, 13, 13]


def test_of_a_long_conversation_the_nearest_tweets_and_the_root_are_looked_at():
    state = EngineState(small_rooms(1 << 7))
    length = RELATED_MAX + 10
    for tweet in range(1, length + 1):
        create(state, tweet, 100 + tweet, 0, 0, tweet - 1, 1 if tweet > 1 else 0)
    act(state, Kind.BLOCK, VIEWER, 102)
    hidden = judge(state, [3, RELATED_MAX, length])
    assert [reasons for reasons, _ in hidden.values()] == [{"blocked"}, {"blocked"}, set()]
    act(state, Kind.MUTE, 101, VIEWER)
    assert judge(state, [length]) == {length: ({"muted"}, length)}


def test_a_tweet_of_which_nothing_is_known_may_be_mentioned_but_no_other_that_may_not_be_seen():
    state = EngineState(small_rooms(1 << 6))
    create(state, 1, 11)
    create(state, 2, 12, 99)
    create(state, 3, 13, 1)
    create(state, 4, 14, 0, 98)
    act(state, Kind.FAVORITE, 5, 6)
    create(state, 7, 16)
    act(state, Kind.DELETE, 16, 7, 16)
    ids = np.array([1, 2, 3, 4, 5, 6, 7], np.uint64)
    assert ids[Visibility(state).may_mention(VIEWER, ids)].tolist() == [1, 3, 5, 6]
    act(state, Kind.MUTE, 11, VIEWER)
    assert ids[Visibility(state).may_mention(VIEWER, ids)].tolist() == [5, 6]
    assert ids[Visibility(state).may_mention(0, ids)].tolist() == [1, 3, 5, 6]


def test_people_are_named_unless_a_block_or_a_mute_is_between():
    state = EngineState(small_rooms(1 << 6))
    for kind, user, other in (
        (Kind.BLOCK, VIEWER, 2), (Kind.BLOCK, 3, VIEWER), (Kind.MUTE, VIEWER, 4), (Kind.MUTE, 5, VIEWER),
        (Kind.FOLLOW, VIEWER, 6), (Kind.BLOCK, 7, 6),
    ):  # fmt: skip
        act(state, kind, user, other)
    people = np.arange(1, 9, dtype=np.uint64)
    assert people[Visibility(state).may_name(VIEWER, people)].tolist() == [1, 6, 7, 8]
    assert people[Visibility(state).may_name(0, people)].tolist() == people.tolist()


def test_flags_without_references_hide_nothing():
    """Packed creates carry flags only: whom they answer cannot be known, and they are shown as they are."""
    state = EngineState(small_rooms(1 << 6))
    state.apply(
        make_batch(
            kind=[Kind.CREATE], id=[1], user_id=[9], author_id=[9], subject_id=[5], timestamp_ms=[T0], payload=[0],
            tweet_flags=[TweetFlag.REPLY | TweetFlag.QUOTE],
        )
    )  # fmt: skip
    assert judge(state, [5]) == {5: (set(), 5)}
