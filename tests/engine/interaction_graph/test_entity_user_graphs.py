"""The graphs of users and users, and of tweets and what they carry: which rows of a batch do what, against dicts."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.batch import EVENT_COLUMNS, RESOLVED_COLUMNS, EventBatch, Kind, make_batch
from engine.interaction_graph.entity_graph import EntityGraph, EntityGraphConfig, EntityType
from engine.interaction_graph.state import InteractionGraph
from engine.interaction_graph.user_graph import UserEdgeType, UserGraph, UserGraphConfig
from engine.tweet_store.state import TweetStore, TweetStoreConfig

Row = tuple[Kind, int, int, int]
Found = dict[tuple[int, int, int], list[int]]


def in_order(rows: list[Row]) -> list[Row]:
    """By time: what comes late is tested with the window (test_window.py), whose code this is."""
    return sorted(rows, key=lambda row: row[3])


SECONDS = st.integers(0, 40)
PEOPLE = st.integers(1, 5)
KINDS = (Kind.FOLLOW, Kind.FOLLOW, Kind.UNFOLLOW, Kind.BLOCK, Kind.MUTE, Kind.MENTION, Kind.MEDIA_TAG, Kind.FAVORITE)
ROWS = st.lists(st.tuples(st.sampled_from(KINDS), PEOPLE, PEOPLE, SECONDS), max_size=40).map(in_order)
CARRIED = (Kind.HASHTAG, Kind.HASHTAG, Kind.URL, Kind.DELETE, Kind.CREATE, Kind.EDIT)
CARRYING = st.tuples(st.sampled_from(CARRIED), st.integers(1, 6), st.integers(1, 6), SECONDS)
ENTITY_ROWS = st.lists(CARRYING, max_size=40).map(in_order)
WINDOW_S = 20


def user_batch(rows: list[Row]) -> EventBatch:
    """``source`` acts on ``target``; a mention's row has the person named as its user, and a tweet."""
    named = [kind in (Kind.MENTION, Kind.MEDIA_TAG) for kind, *_ in rows]
    batch = make_batch(
        kind=[kind for kind, *_ in rows],
        user_id=[target if n else source for n, (_, source, target, _) in zip(named, rows, strict=True)],
        subject_id=[900 if n else target for n, (_, _, target, _) in zip(named, rows, strict=True)],
        author_id=[source if n else 0 for n, (_, source, _, _) in zip(named, rows, strict=True)],
        timestamp_ms=[second * 1000 for *_, second in rows],
    )
    # The tweet store says which follows begin, are renewed and end.
    TweetStore(TweetStoreConfig(tweets_max=4, text_bytes_max=4)).apply(batch)
    return batch


def entity_batch(rows: list[Row]) -> EventBatch:
    return make_batch(
        kind=[kind for kind, *_ in rows],
        user_id=[8 for _ in rows],
        author_id=[tweet for _, tweet, _, _ in rows],
        subject_id=[tweet for _, tweet, _, _ in rows],
        context_id=[entity if kind in (Kind.HASHTAG, Kind.URL) else 0 for kind, _, entity, _ in rows],
        timestamp_ms=[second * 1000 for *_, second in rows],
    )


def window(found: Found, clock: int) -> Found:
    """What is in the window, by (left, right, type): seconds."""
    kept = {key: sorted(second for second in seconds if second > clock - WINDOW_S) for key, seconds in found.items()}
    return {key: seconds for key, seconds in kept.items() if seconds}


def user_model(rows: list[Row]) -> Found:
    found: Found = {}
    follows: dict[tuple[int, int], int] = {}
    clock = -1
    types = {Kind.FOLLOW: UserEdgeType.FOLLOW, Kind.MENTION: UserEdgeType.MENTION}
    types[Kind.MEDIA_TAG] = UserEdgeType.MEDIA_TAG
    for kind, source, target, second in rows:
        if kind is Kind.UNFOLLOW and follows.pop((source, target), -1) < 0:
            continue
        if kind in (*types, Kind.UNFOLLOW, Kind.BLOCK):
            clock = max(clock, second)
            found = window(found, clock)
        if kind is Kind.FOLLOW and follows.get((source, target)) == second:
            continue
        if kind in types:
            # One edge of each type, the newest.
            found[source, target, types[kind]] = [second]
            found = window(found, clock)
            if kind is Kind.FOLLOW:
                follows[source, target] = second
        ended = {Kind.UNFOLLOW: [(source, target)], Kind.BLOCK: [(source, target), (target, source)]}.get(kind, [])
        for pair in ended:
            key = (*pair, int(UserEdgeType.FOLLOW))
            found[key] = [held for held in found.get(key, []) if held > second]
    return window(found, clock)


def entity_model(rows: list[Row]) -> Found:
    found: Found = {}
    clock = -1
    types = {Kind.HASHTAG: EntityType.HASHTAG, Kind.URL: EntityType.URL}
    for kind, tweet, entity, second in rows:
        if kind in (*types, Kind.DELETE):
            clock = max(clock, second)
        if kind in types:
            found.setdefault((entity, tweet, types[kind]), []).append(second)
        if kind is Kind.DELETE:
            found = {key: seconds for key, seconds in found.items() if key[1] != tweet}
        found = window(found, clock)
    return found


def held_by(graph: InteractionGraph, rights: range) -> Found:
    found: Found = {}
    for right in rights:
        for left, kind, time_ms in zip(*(a.tolist() for a in graph.neighbors_of_tweet(right, 99)), strict=True):
            found.setdefault((left, right, kind), []).insert(0, time_ms // 1000)
    return found


def make_user_graph() -> UserGraph:
    return UserGraph(UserGraphConfig(users_max=8, edges_max=64, window_ms=WINDOW_S * 1000))


def make_entity_graph() -> EntityGraph:
    return EntityGraph(EntityGraphConfig(entities_max=8, tweets_max=8, edges_max=64, window_ms=WINDOW_S * 1000))


def check_against(
    graph: InteractionGraph, batch: EventBatch, cut: int, model: Found, again: Callable[[], InteractionGraph]
) -> None:
    graph.apply(batch)
    graph.check()
    assert held_by(graph, range(1, 7)) == model
    other = again()
    for part in (slice(None, cut), slice(cut, None)):
        columns = {name: getattr(batch, name)[part] for name in EVENT_COLUMNS | RESOLVED_COLUMNS}
        other.apply(batch._replace(**columns))
    for name, array in graph.arrays().items():
        assert array.tobytes() == other.arrays()[name].tobytes(), name


@given(ROWS, st.integers(0, 40))
def test_users_are_the_model(rows: list[Row], cut: int) -> None:
    check_against(make_user_graph(), user_batch(rows), cut, user_model(rows), make_user_graph)


@given(ENTITY_ROWS, st.integers(0, 40))
def test_entities_are_the_model(rows: list[Row], cut: int) -> None:
    check_against(make_entity_graph(), entity_batch(rows), cut, entity_model(rows), make_entity_graph)


def test_both_lists_of_a_user_are_kept() -> None:
    graph = make_user_graph()
    graph.apply(user_batch([(Kind.FOLLOW, 1, 2, 3), (Kind.MENTION, 1, 4, 5), (Kind.MEDIA_TAG, 3, 1, 6)]))
    assert [column.tolist() for column in graph.neighbors_of_user(1, 9)] == [[4, 2], [1, 0], [5000, 3000]]
    assert [column.tolist() for column in graph.neighbors_of_tweet(1, 9)] == [[3], [2], [6000]]


def test_what_is_full_lets_the_oldest_tweets_go() -> None:
    graph = EntityGraph(EntityGraphConfig(entities_max=4, tweets_max=4, edges_max=64))
    n = 1000
    rng = np.random.default_rng(3)
    graph.apply(entity_batch([(Kind.HASHTAG, 1 + i // 2, int(e), i) for i, e in enumerate(rng.integers(1, 50, n))]))
    graph.check()
    assert graph.tweet_degree(n // 2) == 2
    assert graph.fill()["entities"] <= 1.0
    assert graph.counters()["evicted_by_capacity"] > n / 2
    assert graph.counters()["dropped_full"] == 0


@pytest.mark.parametrize("make", [make_user_graph, make_entity_graph])
def test_names_its_sides_and_bytes(make: Callable[[], InteractionGraph]) -> None:
    graph = make()
    assert graph.bytes_max == sum(array.nbytes for array in graph.arrays().values())
    assert set(graph.fill()) == {"edges", "arena", *graph.sides}
    assert graph.name in ("user_graph", "entity_graph")
