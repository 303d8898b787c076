"""Muted words in whatever a tweet stands for, against the plain reading of words and references."""

import msgspec
import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine.batch import Kind, make_batch
from engine.muted_words.state import MutedWordsConfig
from engine.pipeline.scratch import Buffers
from engine.rooms import small_rooms
from engine.state import EngineState
from engine.visibility.judge import Hidden, Visibility
from streams.events.ids import text_hash
from tests.oracles import muted_words as plain
from tests.oracles.visibility import Tweet, stands_for, why_missing

VIEWER, AUTHOR = 1, 2
TWEETS = range(1, 8)
PIECES = ("the flock turns", "a flocking", "Flock!", "小鳥が飛ぶ", "🔥", "breaking news", "plain", "")
TAGS = ("", "flock", "ＦＬＯＣＫ", "news", "小鳥")
MUTED = ("flock", "#flock", "breaking news", "小鳥", "🔥", "news")
BITS = Hidden.UNHYDRATED | Hidden.CONTEXT_MISSING

tweets = st.builds(
    dict,
    author=st.sampled_from([VIEWER, AUTHOR]), text=st.sampled_from(PIECES), tag=st.sampled_from(TAGS),
    packed=st.booleans(), edited=st.booleans(),
    refs=st.tuples(*[st.sampled_from([0, 0, *TWEETS])] * 4),
)  # fmt: skip


def says(state, kind, words, time_ms=1):
    data = [word.encode() for word in words]
    sizes = np.array([len(word) for word in data], np.int64)
    state.apply(
        make_batch(
            b"".join(data), kind=[kind] * len(data), user_id=[VIEWER] * len(data), timestamp_ms=[time_ms] * len(data),
            context_id=[text_hash(word) for word in words], payload=range(len(data)),
            tweet_text_start=np.cumsum(sizes) - sizes, tweet_text_bytes=sizes,
        )
    )  # fmt: skip


def write(state, tweet_id, tweet, kind=Kind.CREATE):
    """A JSON tweet has text, and its hashtag by name; a packed one nothing but the hash of its hashtag."""
    author, refs = tweet["author"], tweet["refs"]
    kinds, contexts, payloads, text, name = [kind], [0], [0], tweet["text"].encode(), b""
    if tweet["tag"] and tweet["packed"]:
        kinds, contexts, payloads = [kind, Kind.HASHTAG], [0, text_hash(tweet["tag"])], [0, -1]
    elif tweet["tag"]:
        name = f"\n#{tweet['tag']}".encode()
    count = len(kinds)
    state.apply(
        make_batch(
            text + name, kind=kinds, user_id=[author] * count, author_id=[author] * count,
            subject_id=[tweet_id] * count, timestamp_ms=[10] * count, context_id=contexts, payload=payloads,
            tweet_reply_to_id=[refs[0]], tweet_conversation_id=[refs[1]], tweet_quoted_id=[refs[2]],
            tweet_retweeted_id=[refs[3]], tweet_text_start=[0], tweet_text_bytes=[len(text)],
            tweet_hashtag_bytes=[len(name)],
        )
    )  # fmt: skip


def hidden(state, viewer=VIEWER):
    ids = np.array(TWEETS, np.uint64)
    return dict(zip(TWEETS, Visibility(state).judge(viewer, ids, Buffers()).hidden.tolist(), strict=True))


@settings(max_examples=200, deadline=None)
@example(
    {1: {"author": AUTHOR, "text": "", "tag": "ＦＬＯＣＫ", "packed": True, "edited": False, "refs": (0,) * 4}},
    ["#flock"],
)
@given(st.dictionaries(st.sampled_from(TWEETS), tweets, min_size=1), st.lists(st.sampled_from(MUTED), max_size=3))
def test_a_tweet_is_hidden_when_it_or_what_it_stands_for_has_a_muted_word(world, muted):
    world = {
        name: tweet | {"refs": tuple(at if at != name else 0 for at in tweet["refs"])} for name, tweet in world.items()
    }
    state = EngineState(small_rooms(1 << 7))
    if muted:
        says(state, Kind.MUTE_WORD, muted)
    known = {}
    for name, tweet in world.items():
        refs = tweet["refs"]
        known[name] = Tweet(tweet["author"], refs[3], refs[2], refs[0], refs[1])
        if tweet["edited"]:
            write(state, name, tweet | {"text": "🔥 flock news 小鳥 breaking news", "packed": False})
        write(state, name, tweet, Kind.EDIT if tweet["edited"] and not tweet["packed"] else Kind.CREATE)
    found = hidden(state)
    for name, tweet in world.items():
        everything = [world[at] for at in stands_for(known, name) if at in world]
        if why_missing(known, name) or any(other["edited"] and other["packed"] for other in everything):
            continue
        texts = [f"{other['text']}\n{'#' * bool(other['tag'])}{other['tag']}" for other in everything]
        there = tweet["author"] != VIEWER and any(plain.occurs(word, text) for word in muted for text in texts)
        assert bool(found[name] & Hidden.MUTED_WORD) == there, name
    assert not any(bits & Hidden.MUTED_WORD for bits in hidden(state, viewer=5).values())


def test_unmuting_brings_back():
    state = EngineState(small_rooms(1 << 7))
    write(state, 1, {"author": AUTHOR, "text": "Flock!", "tag": "", "packed": False, "refs": (0, 0, 0, 0)})
    for kind, time_ms, there in ((104, 5, True), (105, 4, True), (105, 6, False), (104, 5, False), (104, 7, True)):
        says(state, kind, ["flock"], time_ms)
        assert bool(hidden(state)[1]) is there


def test_text_that_cannot_be_read_any_more_is_hidden_from_who_mutes_words():
    rooms = small_rooms(1 << 7)
    store = msgspec.structs.replace(rooms.tweet_store, author_text_bytes_per_day_max=1 << 20)
    state = EngineState(msgspec.structs.replace(rooms, tweet_store=store))
    says(state, Kind.MUTE_WORD, ["flock"])
    tweet = {"author": AUTHOR, "text": "short", "tag": "", "packed": False, "refs": (0, 0, 0, 0)}
    write(state, 1, tweet)
    write(state, 2, tweet | {"text": "x" * (64 << 7)})
    assert hidden(state)[1] == Hidden.MUTED_WORD
    assert hidden(state)[2] == 0
    write(state, 3, tweet | {"text": "y" * ((64 << 7) + 1)})
    assert hidden(state)[3] == Hidden.MUTED_WORD
    assert set(hidden(state, viewer=5).values()) == {0, int(Hidden.UNHYDRATED)}


def test_whose_mute_found_no_room_sees_nothing_but_their_own():
    rooms = small_rooms(1 << 7)
    state = EngineState(type(rooms)(muted_words=MutedWordsConfig(words_max=1)))
    tweet = {"author": AUTHOR, "text": "plain", "tag": "", "packed": False, "refs": (0, 0, 0, 0)}
    write(state, 1, tweet)
    write(state, 2, tweet | {"author": VIEWER})
    says(state, Kind.MUTE_WORD, ["flock", "news"])
    assert [bits & Hidden.MUTED_WORD for bits in hidden(state).values()][:2] == [Hidden.MUTED_WORD, 0]
    assert hidden(state, viewer=5)[1] == 0
