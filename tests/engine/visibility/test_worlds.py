"""Random people, chains, orders of arrival and cuts into pieces: whatever a feed shows or names, its viewer may see.

The model is ``tests/oracles/world.py``. Events go through the decoder, as they do from the log.
"""

import json
from contextlib import nullcontext

from hypothesis import event as note
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.feed import FEEDS, Explain, Feed, Product, Request
from engine.home_mixer.config import ForYouConfig, HomeMixerConfig, WalkConfig
from engine.home_mixer.products import build_products
from engine.pipeline.execute import Unwatched, execute
from engine.pipeline.scratch import Scratch
from engine.rooms import small_rooms
from engine.state import EngineState
from streams.events.decode import Decoder
from streams.events.json_types import TOPIC_BY_TYPE
from streams.log.interface import Format, Records
from tests.oracles.world import ENGAGING, REJECTING, Event, World

NOW = 1_760_000_000_000
PEOPLE, TWEETS = 6, 12
CONFIG = HomeMixerConfig(for_you=ForYouConfig(time_aware_walks=20, walk=WalkConfig(walks=50)))
SCRATCH = Scratch()
ROOMS = small_rooms(1 << 6)

person = st.integers(1, PEOPLE)
tweet = st.integers(101, 100 + TWEETS)
word = st.sampled_from(["flock", "Flock", "#flock", "shoal", "ＦＬＯＣＫ"])
text = st.sampled_from(["a flock", "Flock!", "flocking", "shoals", "a shoal", "#Flock", ""])
BONDS = (
    "follow",
    "follow",
    "follow",
    "unfollow",
    "block",
    "unblock",
    "mute",
    "unmute",
    "mute_retweets",
    "mute_retweets",
    "unmute_retweets",
)
ACTS = ("favorite", "favorite", "unfavorite", "retweet", "unretweet", "bookmark", "not_interested", "impression")


def author_of(number: int) -> int:
    """Whoever says otherwise is not the tweet's author."""
    return number % PEOPLE + 1


references = st.sampled_from([(), ("retweeted_id",), ("retweeted_id",), ("quoted_id",), ("reply_to_id",)])


@st.composite
def creates(draw, number):
    """The create of a tweet; most refer to one of their neighbours."""
    made = {"type": "create", "tweet_id": number, "author_id": author_of(number), "text": draw(text)}
    for name in draw(references):
        made[name] = (number - 101 + draw(st.integers(1, TWEETS - 1))) % TWEETS + 101
    return made


bonds = st.builds(
    lambda kind, one, step: {"type": kind, "user_id": one, "target_id": (one + step - 1) % PEOPLE + 1},
    st.sampled_from(BONDS), person, st.integers(1, PEOPLE - 1),
)  # fmt: skip
acts = st.builds(
    lambda kind, one, number: {"type": kind, "user_id": one, "tweet_id": number}, st.sampled_from(ACTS), person, tweet
)
deletes = st.builds(lambda number: {"type": "delete", "tweet_id": number, "author_id": author_of(number)}, tweet)
forged = st.builds(
    lambda kind, number, step: {"type": kind, "tweet_id": number, "author_id": (author_of(number) + step) % PEOPLE + 1}
    | ({"text": "forged flock"} if kind == "edit" else {}),
    st.sampled_from(["delete", "edit"]), tweet, st.integers(0, PEOPLE - 2),
)  # fmt: skip
edits = st.builds(
    lambda number, said: {"type": "edit", "tweet_id": number, "author_id": author_of(number), "text": said}, tweet, text
)
profiles = st.builds(
    lambda one, state, protected: {"type": "user", "user_id": one, "state": state, "protected": protected},
    person, st.sampled_from(["active", "active", "suspended", "deactivated"]), st.booleans(),
)  # fmt: skip
words = st.builds(
    lambda kind, one, said: {"type": kind, "user_id": one, "word": said},
    st.sampled_from(["mute_word", "mute_word", "unmute_word"]), person, word,
)  # fmt: skip
labels = st.builds(
    lambda kind, number, label: {"type": kind, "tweet_id": number, "author_id": author_of(number), "label": label},
    st.sampled_from(["label", "label", "unlabel"]), tweet, st.sampled_from(["Spam", "spam", "harmless"]),
)  # fmt: skip

KINDS = [bonds, bonds, acts, acts, deletes, edits, profiles, words]


@st.composite
def worlds(draw):
    """Events in the order of arrival, and where pieces are cut. No two events have one time; ids are their own.

    Most tweets are created, most people follow one another, and then something is done.
    """
    events = [draw(creates(number)) for number in draw(st.sets(tweet, min_size=TWEETS // 2))]
    for one in range(1, PEOPLE + 1):
        followees = draw(st.sets(st.integers(1, PEOPLE), min_size=2)) - {one}
        events += [{"type": "follow", "user_id": one, "target_id": other} for other in followees]
    events += draw(st.lists(st.one_of(KINDS), min_size=1, max_size=30))
    times = list(range(len(events)))
    if draw(st.booleans()):
        times = draw(st.permutations(times))
    for number, (made, at) in enumerate(zip(events, times, strict=True)):
        made |= {"v": 1, "id": 1000 + number, "timestamp_ms": NOW - 3_600_000 + at}
    if draw(st.booleans()):
        events = draw(st.permutations(events))
    cuts = draw(st.sets(st.integers(1, len(events)), max_size=6))
    return events, sorted(cuts)


def apply(events: list[Event], cuts: list[int]) -> EngineState:
    state, decoder = EngineState(ROOMS), Decoder(future_ms_max=300_000)
    for begin, end in zip([0, *cuts], [*cuts, len(events)], strict=True):
        if events[begin:end]:
            runs = [
                Records(TOPIC_BY_TYPE[e["type"]], 0, [at], [NOW + at], [Format.JSON], [b""], [json.dumps(e).encode()])
                for at, e in enumerate(events[begin:end], begin)
            ]
            decoded = decoder.decode(runs)
            assert not decoded.dead
            state.apply(decoded.batch)
    return state


def ask(state: EngineState, viewer: int, product: Product, **terms) -> Feed:
    request = Request(
        **{"viewer_id": viewer, "request_id": 1, "time_ms": NOW, "seed": 5, "product": product, "limit": 100}
        | {"explain": Explain.ALL}
        | terms
    )
    pipeline = build_products(state, CONFIG, "hash")[product]
    return execute(pipeline, request, scratch=SCRATCH, reading=nullcontext(state.version), watcher=Unwatched())


def told(events: list[Event]) -> World:
    world = World()
    for one in events:
        world.tell(one)
    return world


@settings(max_examples=60, deadline=None)
@given(worlds())
def test_a_feed_shows_only_what_its_viewer_may_see(made):
    events, cuts = made
    world, state = told(events), apply(events, cuts)
    for viewer in range(1, PEOPLE + 1):
        for product in FEEDS:
            feed = ask(state, viewer, product)
            shown = [entry.tweet_id for entry in feed.entries]
            assert all(world.visible(viewer, number) for number in shown), (viewer, product, shown)
            assert not any(world.retweets_unwanted(viewer, number) for number in shown), (viewer, product, shown)
            texts = {entry.tweet_id: entry.text for entry in feed.entries}
            assert texts == {number: world.content(number)["text"] for number in shown}
            originals = [world.original(number) for number in shown]
            assert len(set(originals)) == len(originals), (viewer, product, shown)
            note(f"{product} shows {min(len(shown), 3)}")
            for entry in feed.entries:
                for kind, people in entry.why.social_proof.items():
                    assert all(world.nameable(viewer, one) for one in people), (viewer, entry.tweet_id, people)
                    if kind in ("favorite", "retweet"):
                        assert all(world.did(one, (kind,), entry.tweet_id) for one in people), (entry.tweet_id, people)
            if product is Product.FOR_YOU:
                for number in shown:
                    assert world.author(world.original(number)) != viewer != world.author(number)
                    assert not world.did(viewer, (*ENGAGING, *REJECTING, "impression"), number), (viewer, number)


@settings(max_examples=60, deadline=None)
@given(worlds(), st.integers(1, 4))
def test_following_shows_everything_that_its_rules_admit_once_in_all_pages(made, limit):
    events, cuts = made
    world, state = told(events), apply(events, cuts)
    for viewer in range(1, PEOPLE + 1):
        shown, cursor = [], None
        while True:
            feed = ask(state, viewer, Product.FOLLOWING, limit=limit, cursor=cursor)
            shown += [entry.tweet_id for entry in feed.entries]
            cursor = feed.cursor
            if cursor is None:
                break
        for original, carriers in world.candidates_of_following(viewer).items():
            found = carriers & set(shown)
            strange = any(world.answers_a_stranger(viewer, number) for number in carriers)
            assert len(found) == 1 or (strange and not found), (viewer, original, carriers, shown)
        assert len(set(shown)) == len(shown)


@settings(max_examples=30, deadline=None)
@given(worlds())
def test_who_may_see_what_does_not_depend_on_the_cuts(made):
    events, cuts = made
    feeds = []
    for places in (cuts, [], list(range(1, len(events)))):
        state = apply(events, places)
        feeds.append(
            [
                [(entry.tweet_id, entry.counts) for entry in ask(state, viewer, Product.FOLLOWING).entries]
                for viewer in range(1, PEOPLE + 1)
            ]
        )
    assert feeds[0] == feeds[1] == feeds[2]
