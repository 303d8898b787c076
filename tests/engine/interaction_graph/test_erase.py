"""An erased person is in no list of the graphs; everybody else's edges stay, and the window empties as ever."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.batch import Kind, make_batch
from engine.interaction_graph.state import InteractionGraph, InteractionGraphConfig
from engine.interaction_graph.user_graph import UserGraph, UserGraphConfig

T0 = 1_760_000_000_000
GONE, OTHERS, TWEETS = 901, [902, 903, 904], [1, 2, 3, 4]
LIMIT = 50
SIZES = {"edges_max": 64, "window_ms": 600_000}
ERASE = make_batch(kind=[Kind.ERASE], user_id=[GONE], timestamp_ms=[T0 + 9_000_000])

ACTS = st.tuples(
    st.sampled_from([Kind.FAVORITE, Kind.REPLY, Kind.UNFAVORITE, Kind.MENTION]),
    st.sampled_from([GONE, *OTHERS]),
    st.sampled_from(TWEETS),
    st.integers(0, 30),
)
PAIRS = st.tuples(
    st.sampled_from([Kind.FOLLOW, Kind.UNFOLLOW, Kind.MENTION]),
    st.sampled_from([GONE, *OTHERS]),
    st.sampled_from([GONE, *OTHERS]),
    st.integers(0, 30),
)


def columns(events):
    """Kinds and times as columns of a batch; who and whom or what."""
    table = np.array(events, np.int64).reshape(-1, 4)
    return {"kind": table[:, 0], "timestamp_ms": T0 + 1000 * table[:, 3]}, table[:, 1], table[:, 2]


def edges(graph, of, ids):
    found = {id: [column.tolist() for column in getattr(graph, of)(id, LIMIT)] for id in ids}
    return {id: list(zip(*lists, strict=True)) for id, lists in found.items()}


def without(lists, person):
    return {id: [edge for edge in found if edge[0] != person] for id, found in lists.items()}


def empties(graph):
    """Whether only the last edge is left when the window has passed."""
    later = T0 + 10_000_000
    graph.apply(make_batch(kind=[Kind.MENTION], user_id=[7], subject_id=[8], author_id=[9], timestamp_ms=[later]))
    graph.check()
    return [graph.usage()[side][0] for side in graph.sides] == [1, 1]


@settings(deadline=None, max_examples=150)
@given(st.lists(ACTS, max_size=40), st.integers(1, 4), st.integers(1, 12))
def test_the_interaction_graph_keeps_others_edges_alone(events, user_degree, tweet_degree):
    degrees = {"user_degree_max": user_degree, "tweet_degree_max": tweet_degree}
    graph = InteractionGraph(InteractionGraphConfig(users_max=8, tweets_max=8, **SIZES, **degrees))
    batch, who, what = columns(events)
    graph.apply(make_batch(**batch, user_id=who, subject_id=what, author_id=np.full(len(events), 999)))
    of_tweets, of_users = edges(graph, "neighbors_of_tweet", TWEETS), edges(graph, "neighbors_of_user", OTHERS)
    graph.apply(ERASE)
    graph.check()
    assert edges(graph, "neighbors_of_tweet", TWEETS) == without(of_tweets, GONE)
    assert edges(graph, "neighbors_of_user", OTHERS) == of_users
    assert graph.user_degree(GONE) == 0
    assert not (graph.state.users.keys == np.uint64(GONE)).any()
    whole = not graph.state.tweet_skips.any()
    graph.apply(make_batch(kind=[Kind.ERASED_TWEET], user_id=[GONE], subject_id=[TWEETS[0]]))
    graph.check()
    assert graph.tweet_degree(TWEETS[0]) == 0
    assert not whole or edges(graph, "neighbors_of_user", OTHERS) == without(of_users, TWEETS[0])
    assert empties(graph)


@settings(deadline=None, max_examples=150)
@given(st.lists(PAIRS, max_size=40), st.integers(1, 4))
def test_the_user_graph_keeps_others_edges_alone(events, degree):
    graph = UserGraph(UserGraphConfig(users_max=8, degree_max=degree, **SIZES))
    batch, who, what = columns(events)
    named = batch["kind"] == Kind.MENTION
    # In rows of mentions the person named comes first.
    people = {"user_id": np.where(named, what, who), "subject_id": np.where(named, 5, what), "author_id": who}
    graph.apply(make_batch(**batch, **people))
    sources, targets = edges(graph, "neighbors_of_user", OTHERS), edges(graph, "neighbors_of_tweet", OTHERS)
    graph.apply(ERASE)
    graph.check()
    assert edges(graph, "neighbors_of_user", OTHERS) == without(sources, GONE)
    assert edges(graph, "neighbors_of_tweet", OTHERS) == without(targets, GONE)
    assert not any((ids.keys == np.uint64(GONE)).any() for ids in (graph.state.users, graph.state.tweets))
    assert empties(graph)


@pytest.mark.parametrize(
    "graph", [InteractionGraph(InteractionGraphConfig(**SIZES)), UserGraph(UserGraphConfig(**SIZES))]
)
def test_erasing_somebody_unknown_changes_nothing(graph):
    before = {name: array.copy() for name, array in graph.arrays().items()}
    graph.apply(ERASE)
    assert all(np.array_equal(array, before[name]) for name, array in graph.arrays().items())
