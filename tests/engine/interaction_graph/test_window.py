"""The sliding window against a brute-force model: inserts, late events, undo, deletes, caps, clock moves."""

import itertools

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.batch import Kind, make_batch
from engine.interaction_graph.state import (
    EdgeType,
    InteractionGraph,
    InteractionGraphConfig,
    interaction_graph_bytes,
)

from .model import DELETE, Model, Op, listed, run

USERS = range(1, 7)
TWEETS = range(100, 107)


@st.composite
def histories(draw: st.DrawFn) -> list[Op]:
    """Operations whose clock moves mostly forward, in small steps and jumps, with late events."""
    now = draw(st.integers(0, 300))
    ops = []
    for _ in range(draw(st.integers(0, 120))):
        move = draw(st.sampled_from([0, 0, 0, 1, 1, 3, 40, 300, -1, -5, -60, -400]))
        second = max(0, now + move)
        now = max(now, second)
        code = draw(st.sampled_from([1, 1, 1, 2, 2, 4, EdgeType.UNFAVORITE, EdgeType.UNRETWEET, DELETE]))
        ops.append(Op(draw(st.sampled_from(USERS)), draw(st.sampled_from(TWEETS)), int(code), second))
    return ops


CONFIGS = st.builds(
    InteractionGraphConfig,
    users_max=st.just(8),
    tweets_max=st.just(8),
    edges_max=st.sampled_from([1, 5, 20, 200]),
    arena_slots_per_edge=st.just(64.0),
    window_ms=st.sampled_from([1_000, 50_000, 700_000]),
    late_ms_max=st.sampled_from([0, 10_000, 1_000_000]),
    undos_max=st.sampled_from([1, 2, 5, 1000]),
    user_degree_max=st.sampled_from([1, 3, 10, 1000]),
    tweet_degree_max=st.sampled_from([1, 4, 1000]),
)


def assert_same(graph: InteractionGraph, model: Model) -> None:
    graph.check()
    for user in USERS:
        expected = model.neighbors(user, "user")
        assert listed(graph.neighbors_of_user(user, 10_000)) == expected
        assert graph.user_degree(user) == len(expected)
    for tweet in TWEETS:
        expected = model.neighbors(tweet, "tweet")
        assert listed(graph.neighbors_of_tweet(tweet, 10_000)) == expected
        assert graph.tweet_degree(tweet) == len(expected)
    assert graph.counters()["too_late"] == model.too_late
    assert graph.counters()["came_after_undo"] == model.came_after_undo
    assert graph.fill()["edges"] * graph.config.edges_max == pytest.approx(len(model.log))


@settings(deadline=None, max_examples=200)
@given(CONFIGS, histories())
def test_window_is_the_model(config: InteractionGraphConfig, ops: list[Op]) -> None:
    # The arena is made so large that it is not what limits here.
    config = msgspec.structs.replace(config, arena_slots_per_edge=max(2.0, min(64.0, 4000 / config.edges_max)))
    graph = InteractionGraph(config)
    model = Model(config)
    for op in ops:
        run(graph, [op])
        model.apply(op)
    assert_same(graph, model)


@settings(deadline=None, max_examples=100)
@given(CONFIGS, histories(), st.lists(st.integers(0, 120), max_size=6))
def test_cutting_batches_anywhere_gives_the_same_bytes(
    config: InteractionGraphConfig, ops: list[Op], cuts: list[int]
) -> None:
    whole = InteractionGraph(config)
    run(whole, ops)
    cut = InteractionGraph(config)
    edges = [0, *sorted(min(c, len(ops)) for c in cuts), len(ops)]
    for start, end in itertools.pairwise(edges):
        run(cut, ops[start:end])
    assert {k: a.tobytes() for k, a in whole.arrays().items()} == {k: a.tobytes() for k, a in cut.arrays().items()}


@settings(deadline=None, max_examples=80)
@given(histories(), st.integers(1, 6), st.integers(1, 6), st.sampled_from([2.0, 3.0, 8.0]))
def test_tiny_capacities_never_break_the_state(ops: list[Op], users: int, tweets: int, slots: float) -> None:
    config = InteractionGraphConfig(
        users_max=users, tweets_max=tweets, edges_max=24, arena_slots_per_edge=slots, window_ms=100_000
    )
    graph = InteractionGraph(config)
    for op in ops:
        run(graph, [op])
    graph.check()
    counters = graph.counters()
    left = counters["added"] - counters["evicted_by_time"] - counters["evicted_by_capacity"]
    assert left == round(graph.fill()["edges"] * 24)


def test_random_churn_stays_exact_and_gives_back_everything() -> None:
    config = InteractionGraphConfig(
        users_max=300, tweets_max=300, edges_max=2000, window_ms=500_000, user_degree_max=40, tweet_degree_max=60
    )
    graph = InteractionGraph(config)
    model = Model(config)
    rng = np.random.default_rng(5)
    now = 1_000_000
    for _ in range(40):
        ops = []
        for _ in range(400):
            now += int(rng.integers(0, 2))
            late = int(rng.integers(0, 300)) if rng.random() < 0.2 else 0
            code = int(rng.choice([1, 2, 3, 8, 15, DELETE], p=[0.5, 0.2, 0.15, 0.08, 0.05, 0.02]))
            ops.append(Op(int(rng.zipf(1.3) % 250 + 1), int(rng.zipf(1.3) % 280 + 1), code, now - late))
        run(graph, ops)
        for op in ops:
            model.apply(op)
        graph.check()
        for node in range(1, 290):
            assert listed(graph.neighbors_of_user(node, 99)) == model.neighbors(node, "user")
            assert listed(graph.neighbors_of_tweet(node, 99)) == model.neighbors(node, "tweet")
    run(graph, [Op(0, 1, DELETE, now + 10_000)])
    graph.check()
    fill = graph.fill()
    assert fill == {"edges": 0.0, "users": 0.0, "tweets": 0.0, "arena": 0.0}


def test_an_act_that_comes_after_its_undo_is_not_stored() -> None:
    graph = InteractionGraph(InteractionGraphConfig())
    run(graph, [Op(1, 50, EdgeType.UNFAVORITE, 20), Op(9, 60, DELETE, 20), Op(3, 50, 1, 30)])
    # A like of before the undo, one of the same second (what came last is true), one of after it, and a retweet.
    run(graph, [Op(1, 50, 1, 19), Op(1, 50, 1, 20), Op(1, 50, 1, 21), Op(1, 50, 2, 19), Op(2, 60, 1, 19)])
    assert listed(graph.neighbors_of_user(1, 9)) == [(50, 1, 21), (50, 1, 20), (50, 2, 19)]
    assert graph.user_degree(2) == graph.tweet_degree(60) == 0
    assert graph.counters()["came_after_undo"] == 2
    run(graph, [Op(1, 50, EdgeType.UNFAVORITE, 25), Op(1, 50, 1, 24), Op(2, 60, 1, 26)])
    assert listed(graph.neighbors_of_user(1, 9)) == [(50, 2, 19)]
    assert graph.tweet_degree(60) == 1
    graph.check()


def test_the_first_undo_is_forgotten_for_the_newest() -> None:
    graph = InteractionGraph(InteractionGraphConfig(undos_max=2))
    # The second undo of 50 renews its second, not its turn.
    undos = [Op(1, tweet, EdgeType.UNFAVORITE, second) for tweet, second in ((50, 20), (51, 21), (50, 22), (52, 23))]
    run(graph, [*undos, Op(1, 50, 1, 10), Op(1, 51, 1, 10), Op(1, 52, 1, 10)])
    assert listed(graph.neighbors_of_user(1, 9)) == [(50, 1, 10)]
    graph.check()


def test_indices_are_reused_under_endless_new_users_and_tweets() -> None:
    graph = InteractionGraph(InteractionGraphConfig(users_max=1100, tweets_max=1100, edges_max=1000))
    ids = np.arange(1, 200_001, dtype=np.uint64)
    graph.ingest(ids, ids + np.uint64(10**9), np.ones(len(ids), np.uint8), np.zeros(len(ids), np.int64))
    graph.check()
    assert graph.counters()["dropped_full"] == 0
    assert graph.state.users.header[2] <= 1001
    assert graph.user_degree(200_000) == 1
    assert graph.user_degree(199_000) == 0


def test_ten_million_events_of_churn_do_not_grow() -> None:
    """New people and tweets for ever, popular ones among them, late events, undo: what is in use stays level."""
    config = InteractionGraphConfig(
        users_max=60_000, tweets_max=60_000, edges_max=50_000, window_ms=40_000_000, arena_slots_per_edge=3.5
    )
    graph = InteractionGraph(config)
    rng = np.random.default_rng(11)
    size, fills, indices = 500_000, [], []
    for block in range(20):
        serial = np.arange(block * size, (block + 1) * size)
        # An id is near the newest, skewed: the newest thousands are popular, then nobody comes back to them.
        users = serial // 4 - (rng.pareto(1.2, size) * 20).astype(np.int64) % 12_000 + 20_000
        tweets = serial // 6 - (rng.pareto(0.9, size) * 10).astype(np.int64) % 9_000 + 20_000
        types = rng.choice(np.array([1, 2, 3, 8], np.uint8), size, p=[0.6, 0.2, 0.17, 0.03])
        times = serial * 700 - np.where(rng.random(size) < 0.1, rng.integers(0, 20_000_000, size), 0)
        graph.ingest(users.astype(np.uint64), tweets.astype(np.uint64), types, np.maximum(times, 0))
        fills.append(graph.fill()["arena"])
        indices.append(int(graph.state.users.header[2]) + int(graph.state.tweets.header[2]))
    graph.check()
    counters = graph.counters()
    assert counters["dropped_full"] == counters["arena_full"] == 0
    assert counters["added"] > 9_000_000
    assert max(fills[5:]) < 1.02 * max(fills[1:5])
    assert max(indices[5:]) <= 1.02 * max(indices[1:5])


def test_full_of_users_pushes_out_the_oldest_and_then_drops() -> None:
    graph = InteractionGraph(InteractionGraphConfig(users_max=2, tweets_max=8, edges_max=100))
    run(graph, [Op(1, 100, 1, 10), Op(2, 100, 1, 11), Op(3, 100, 1, 12)])
    assert [graph.user_degree(u) for u in (1, 2, 3)] == [0, 1, 1]
    # Only after 64 newer edges of the same user would an index come free: the new user's edge is dropped instead.
    graph = InteractionGraph(InteractionGraphConfig(users_max=1, tweets_max=8, edges_max=100))
    run(graph, [Op(1, 100, 1, 10)] * 90 + [Op(2, 101, 1, 11)])
    assert graph.counters()["dropped_full"] == 1
    assert graph.user_degree(1) == 26
    graph.check()


def test_a_full_arena_keeps_the_newest_of_a_list() -> None:
    graph = InteractionGraph(InteractionGraphConfig(users_max=4, tweets_max=64, edges_max=50, arena_slots_per_edge=2))
    run(graph, [Op(1, 100 + i % 20, 1, i) for i in range(45)])
    graph.check()
    newest = listed(graph.neighbors_of_user(1, 100))
    assert newest == [(100 + i % 20, 1, i) for i in range(44, 44 - len(newest), -1)]
    assert graph.counters()["arena_full"] > 0


def test_apply_selects_kinds() -> None:
    graph = InteractionGraph(InteractionGraphConfig())
    kinds = [Kind.CREATE, Kind.MENTION, Kind.FAVORITE, Kind.IMPRESSION, Kind.CLICK, Kind.NOT_INTERESTED, Kind.FOLLOW]
    graph.apply(
        make_batch(
            kind=kinds,
            user_id=[1, 2, 3, 4, 5, 6, 7],
            subject_id=[50] * 7,
            timestamp_ms=[1_000_000 + i * 1000 for i in range(7)],
        )
    )
    assert listed(graph.neighbors_of_tweet(50, 9)) == [
        (3, EdgeType.FAVORITE, 1002),
        (2, EdgeType.IS_MENTIONED, 1001),
        (1, EdgeType.TWEET, 1000),
    ]
    graph.apply(make_batch(kind=[Kind.UNFAVORITE], user_id=[3], subject_id=[50], timestamp_ms=[1_100_000]))
    assert graph.user_degree(3) == 0
    assert graph.counters()["taken_back"] == 1
    graph.apply(make_batch(kind=[Kind.DELETE], user_id=[1], subject_id=[50], timestamp_ms=[1_100_000]))
    assert graph.tweet_degree(50) == graph.user_degree(1) == 0
    graph.check()
    clicks = InteractionGraph(InteractionGraphConfig(edge_kinds=("click",)))
    clicks.apply(make_batch(kind=kinds, user_id=[1] * 7, subject_id=[50] * 7, timestamp_ms=[1] * 7))
    assert clicks.user_degree(1) == 1


@pytest.mark.parametrize(
    ("user", "tweet", "time_ms"), [(0, 5, 1000), (5, 0, 1000), (5, 5, -1), (5, 5, (1 << 32) * 1000)]
)
def test_rows_that_cannot_be_edges_are_refused_and_counted(user: int, tweet: int, time_ms: int) -> None:
    graph = InteractionGraph(InteractionGraphConfig())
    graph.ingest(
        np.array([user], np.uint64), np.array([tweet], np.uint64), np.ones(1, np.uint8), np.array([time_ms], np.int64)
    )
    assert graph.counters()["refused"] == 1
    assert graph.watermark_ms == -1000
    assert graph.fill()["edges"] == 0


def test_times_of_the_largest_second_survive() -> None:
    graph = InteractionGraph(InteractionGraphConfig(window_ms=10**12, late_ms_max=10**12))
    last = (1 << 32) - 1
    run(graph, [Op(1, 2, 14, last), Op(1, 3, 1, last - 10**8), Op(1, 4, 2, (1 << 31) - 1)])
    expected = [(2, 14, last), (3, 1, last - 10**8)]
    assert listed(graph.neighbors_of_user(1, 9)) == expected
    assert graph.counters()["too_late"] == 1
    graph.check()


def test_columns_of_unequal_length_are_an_error() -> None:
    graph = InteractionGraph(InteractionGraphConfig())
    with pytest.raises(ValueError, match="unequal"):
        graph.ingest(np.ones(2, np.uint64), np.ones(1, np.uint64), np.ones(1, np.uint8), np.ones(1, np.int64))


def test_top_users() -> None:
    graph = InteractionGraph(InteractionGraphConfig())
    run(graph, [Op(9, t, 1, 5) for t in (1, 2, 3)] + [Op(4, 1, 1, 5), Op(7, 1, 1, 5), Op(7, 2, 1, 5)])
    ids, degrees = graph.top_users(10)
    assert ids.tolist() == [9, 7, 4]
    assert degrees.tolist() == [3, 2, 1]
    assert graph.top_users(1)[0].tolist() == [9]


@pytest.mark.parametrize("edges_max", [1, 100, 4096])
def test_bytes_formula(edges_max: int) -> None:
    config = InteractionGraphConfig(edges_max=edges_max, users_max=77, tweets_max=33, window_ms=999_999)
    graph = InteractionGraph(config)
    assert graph.bytes_max == interaction_graph_bytes(config) == sum(a.nbytes for a in graph.arrays().values())
