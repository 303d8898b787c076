"""Edges of people's acts: one of a person, tweet and type, by the latest act, whatever the order; fair shares of it."""

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine.batch import UNDOES, EventBatch, Kind, make_batch
from engine.interaction_graph.state import EdgeType, InteractionGraph, InteractionGraphConfig
from engine.tweet_store.state import TweetStore, TweetStoreConfig

T0 = 1_760_000_000_000
KINDS = (
    Kind.FAVORITE,
    Kind.FAVORITE,
    Kind.UNFAVORITE,
    Kind.RETWEET,
    Kind.UNRETWEET,
    Kind.REPLY,
    Kind.UNREPLY,
    Kind.BOOKMARK,
)
AUTHOR = 9


class Act(NamedTuple):
    kind: Kind
    user: int
    tweet: int
    ms: int


def batch_of(acts: list[Act]) -> EventBatch:
    return make_batch(
        kind=[a.kind for a in acts],
        user_id=[a.user for a in acts],
        author_id=[a.user if a.kind == Kind.CREATE else 0 for a in acts],
        subject_id=[a.tweet for a in acts],
        timestamp_ms=[T0 + a.ms for a in acts],
    )


class Resolved:
    """A graph behind the tweet store that resolves its rows."""

    def __init__(self, **config: int) -> None:
        self.store = TweetStore(TweetStoreConfig(tweets_max=8192, text_bytes_max=64))
        self.graph = InteractionGraph(InteractionGraphConfig(**config))  # type: ignore[arg-type]

    def apply(self, acts: list[Act]) -> None:
        batch = batch_of(acts)
        self.store.apply(batch)
        self.graph.apply(batch)

    def edges(self, tweets: range) -> set[tuple[int, int, int, int]]:
        """(user, tweet, type, second since T0); every edge once."""
        found = [
            (int(user), tweet, int(kind), int(ms - T0) // 1000)
            for tweet in tweets
            for user, kind, ms in zip(*self.graph.neighbors_of_tweet(tweet, 99_999), strict=True)
        ]
        assert len(set(found)) == len(found)
        return set(found)


ACTS = st.lists(
    st.builds(Act, st.sampled_from(KINDS), st.integers(1, 4), st.integers(1, 4), st.just(0)), max_size=60
).map(lambda acts: [act._replace(ms=137 * t) for t, act in enumerate(acts)])


@given(ACTS, st.randoms(use_true_random=False), st.integers(0, 60))
def test_whatever_the_order_each_act_that_holds_is_one_edge(acts: list[Act], random, cut: int) -> None:
    latest: dict[tuple[int, int, Kind], tuple[int, bool]] = {}
    for kind, user, tweet, ms in acts:
        latest[user, tweet, UNDOES.get(kind, kind)] = (ms, kind not in UNDOES)
    expected = {
        (user, tweet, int(EdgeType[kind.name]), ms // 1000)
        for (user, tweet, kind), (ms, holds) in latest.items()
        if holds
    }
    shuffled = list(acts)
    random.shuffle(shuffled)
    room, parts = Resolved(), Resolved()
    room.apply(shuffled)
    parts.apply(shuffled[:cut])
    parts.apply(shuffled[cut:])
    room.graph.check()
    assert room.edges(range(1, 5)) == expected
    for name, array in room.graph.arrays().items():
        assert array.tobytes() == parts.graph.arrays()[name].tobytes(), name


@pytest.mark.parametrize("late", [False, True])
def test_an_author_has_one_edge_to_their_tweet_whatever_they_do_to_it(late: bool) -> None:
    room = Resolved()
    own = [Act(kind, AUTHOR, 50, 5) for kind in (Kind.FAVORITE, Kind.REPLY, Kind.BOOKMARK)]
    create = [Act(Kind.CREATE, AUTHOR, 50, 0), Act(Kind.CREATE, AUTHOR, 50, 3000)]
    for acts in (own, create) if late else (create, own):
        room.apply(acts)
    room.apply([Act(Kind.FAVORITE, 1, 50, 9000)])
    assert room.edges(range(50, 51)) == {(AUTHOR, 50, EdgeType.TWEET, 0), (1, 50, EdgeType.FAVORITE, 9)}
    room.graph.check()


def test_likes_and_unlikes_of_one_person_take_no_more_than_their_share_of_the_log() -> None:
    room = Resolved(edges_max=4096, user_entries_max=64, arena_slots_per_edge=16)
    others = [Act(Kind.FAVORITE, 100 + n, 1 + n % 7, n) for n in range(3900)]
    room.apply(others)
    before = room.edges(range(1, 8))
    toggles = [
        Act(Kind.FAVORITE if n % 2 else Kind.UNFAVORITE, 1, 5000 + n // 40, 5000 + 1000 * n) for n in range(4000)
    ]
    made_up = [Act(Kind.FAVORITE, 2, 7000 + n, 5000 + n) for n in range(1000)]
    room.apply(toggles + made_up)
    assert room.edges(range(1, 8)) == before
    assert room.graph.user_degree(2) == 64
    assert room.graph.counters()["over_share"] > 0
    room.graph.check()


def test_whom_others_name_keeps_room_for_own_acts() -> None:
    """The first 8 of 256 entries are for all who name a person; of these one author has half in two days, a window."""
    room = Resolved(user_degree_max=64, user_entries_max=256)

    def name(authors: NDArray[np.int64], first: int) -> None:
        n = len(authors)
        rows = make_batch(
            kind=[Kind.MENTION, Kind.MEDIA_TAG] * (n // 2),
            user_id=[7] * n,
            author_id=authors,
            subject_id=np.arange(first, first + n),
            timestamp_ms=[T0 + n for n in range(n)],
        )
        room.store.apply(rows)
        room.graph.apply(rows)

    name(np.full(500, 8), 1000)
    assert room.graph.user_degree(7) == 2
    assert room.graph.counters()["over_share"] == 498
    name(np.arange(100, 200), 2000)
    assert room.graph.user_degree(7) == 8
    room.apply([Act(Kind.FAVORITE, 7, 1 + n, 1000 + n) for n in range(20)])
    assert room.graph.user_degree(7) == 28
