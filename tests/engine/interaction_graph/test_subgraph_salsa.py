"""Subgraph SALSA: exact where nothing is sampled, without bias where it is."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import RequestError
from engine.interaction_graph.salsa import SalsaScratch
from engine.interaction_graph.state import InteractionGraph
from engine.interaction_graph.subgraph_salsa import SubgraphRequest, SubgraphResult, salsa_on_subgraph

from .model import Op, small_graph_of

SCRATCH = SalsaScratch()


def ask(
    graph: InteractionGraph, query: int, seeds: list[int], weights: list[float], **options: float
) -> SubgraphResult:
    request = SubgraphRequest(
        query_user_id=query,
        seed_user_ids=np.array(seeds, np.uint64),
        seed_weights=np.array(weights, float),
        **options,  # type: ignore[arg-type]
    )
    return salsa_on_subgraph(graph, request, SCRATCH)


def exact(
    edges: list[tuple[int, int]], query: int, seeds: dict[int, float], length: int, reset: float
) -> dict[int, float]:
    """The closed form on the seeds' edges, by dense matrices."""
    known = {u for u, _ in edges}
    mass = {s: w for s, w in seeds.items() if s in known}
    if query in known and query not in mass:
        total = sum(mass.values())
        mass[query] = total * 9.0 if total else 1.0
    people, tweets = sorted(mass), sorted({t for u, t in edges if u in mass})
    counts = np.zeros((len(people), len(tweets)))
    for u, t in edges:
        if u in mass:
            counts[people.index(u), tweets.index(t)] += 1
    right = counts / counts.sum(1, keepdims=True)
    left = (counts / counts.sum(0)).T
    x = np.array([mass[u] for u in people])
    visits = np.zeros(len(tweets))
    for _ in range((length + 1) // 2):
        y = (1 - reset) * x @ right
        visits += y
        resets = reset * x.sum()
        x = y @ left
        if query in people:
            x[people.index(query)] += resets
    total = visits.sum()
    return {t: float(v / total) for t, v in zip(tweets, visits, strict=True) if v > 0} if total else {}


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.tuples(st.integers(1, 6), st.integers(1, 8)), min_size=1, max_size=40),
    st.integers(1, 7),
    st.lists(st.tuples(st.integers(1, 7), st.floats(0.1, 5)), max_size=5, unique_by=lambda s: s[0]),
    st.sampled_from([1, 3, 5, 9]),
    st.sampled_from([0.0, 0.3, 0.8]),
)
def test_whole_lists_give_the_closed_form(
    edges: list[tuple[int, int]], query: int, seeds: list[tuple[int, float]], length: int, reset: float
) -> None:
    graph = small_graph_of([Op(u, t, 1, 5) for u, t in edges])
    result = ask(graph, query, [s for s, _ in seeds], [w for _, w in seeds], walks=10_000, length=length, reset=reset)
    found = dict(zip(result.tweet_ids.tolist(), result.scores.tolist(), strict=True))
    expected = exact(edges, query, dict(seeds), length, reset)
    assert found == pytest.approx(expected)
    order = list(zip((-result.scores).tolist(), result.tweet_ids.tolist(), strict=True))
    assert order == sorted(order)


def test_sampled_lists_are_right_on_average() -> None:
    rng = np.random.default_rng(8)
    edges = [(int(u), int(t)) for u, t in zip(rng.integers(1, 4, 600), rng.integers(1, 12, 600), strict=True)]
    graph = small_graph_of([Op(u, t, 1, 5) for u, t in edges])
    mean: dict[int, float] = {}
    runs = 300
    for seed in range(runs):
        result = ask(graph, 1, [1, 2, 3], [1.0, 1.0, 2.0], walks=200, length=1, seed=seed)
        assert 200 <= result.edges <= 203
        for tweet, score in zip(result.tweet_ids.tolist(), result.scores.tolist(), strict=True):
            mean[tweet] = mean.get(tweet, 0.0) + score / runs
    assert mean == pytest.approx(exact(edges, 1, {1: 1.0, 2: 1.0, 3: 2.0}, 1, 0.3), abs=0.006)


def test_types_restrict_the_subgraph() -> None:
    graph = small_graph_of([Op(1, 50, 1, 1), Op(1, 51, 2, 2), Op(2, 51, 2, 3), Op(2, 52, 1, 4)])
    result = ask(graph, 1, [1, 2], [1.0, 1.0], edge_types=1 << 2)
    assert result.tweet_ids.tolist() == [51]
    assert (result.scores.tolist(), result.degrees.tolist(), result.edges) == ([1.0], [2], 2)


def test_unknown_users_find_nothing() -> None:
    result = ask(small_graph_of([Op(1, 50, 1, 1)]), 8, [9], [1.0])
    assert len(result.tweet_ids) == result.edges == 0


@pytest.mark.parametrize(
    ("arguments", "options", "code"),
    [
        ((1, [1], [1.0]), {"length": 2}, "bad_walk_length"),
        ((1, [1], [1.0]), {"walks": 0}, "too_many_walks"),
        ((1, [1], [1.0]), {"walks": 10**9}, "too_many_walks"),
        ((1, [1], [1.0]), {"reset": 1.0}, "bad_walk_option"),
        ((1, [1], [1.0]), {"results_max": 0}, "bad_walk_option"),
        ((1, [1], [1.0, 2.0]), {}, "bad_seeds"),
        ((1, [1], [-1.0]), {}, "bad_seeds"),
        ((1, [1], [float("inf")]), {}, "bad_seeds"),
        ((0, [], []), {}, "bad_seeds"),
    ],
)
def test_bad_requests_have_names(arguments: tuple, options: dict[str, float], code: str) -> None:
    with pytest.raises(RequestError) as caught:
        ask(small_graph_of([Op(1, 50, 1, 1)]), *arguments, **options)
    assert caught.value.code == code
