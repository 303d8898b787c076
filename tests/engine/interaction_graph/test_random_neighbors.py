"""Random neighbors against the exact distribution of their draws."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import RequestError
from engine.interaction_graph import random_neighbors as room
from engine.interaction_graph.random_neighbors import (
    RandomNeighbors,
    RandomNeighborsRequest,
    random_neighbors,
)
from engine.interaction_graph.similarity import ENTRIES_MAX, CountScratch
from engine.interaction_graph.state import InteractionGraph

from .dense import modelled, ops_of
from .model import Op, small_graph_of

SCRATCH = CountScratch()
OPS = ops_of(10, list(range(1, 13)))


def ask(graph: InteractionGraph, weights: dict[int, float], **options: object) -> RandomNeighbors:
    request = RandomNeighborsRequest(
        user_ids=list(weights),
        weights=np.array(list(weights.values()), np.float64),
        **options,  # type: ignore[arg-type]
    )
    return random_neighbors(graph, request, SCRATCH)


@settings(deadline=None, max_examples=60)
@given(
    OPS,
    st.dictionaries(st.integers(1, 10), st.sampled_from([0.0, 0.001, 0.5, 1.0, 3.0]), min_size=1),
    st.sampled_from([0xFFFF, 0b10, 0b1100]),
    st.integers(0, 2**64 - 1),
)
def test_each_edge_of_a_seed_is_as_likely_as_its_weight(
    ops: list[Op], weights: dict[int, float], mask: int, seed: int
) -> None:
    graph, model = modelled(ops)
    exact: Counter[int] = Counter()
    for user, weight in weights.items():
        for tweet, kind, _ in model.neighbors(user, "user"):
            if mask >> kind & 1 and weight:
                exact[tweet] += weight  # type: ignore[assignment]
    total = sum(exact.values())
    samples = 4000
    found = ask(graph, weights, samples=samples, edge_types=mask, seed=seed)
    assert found.drawn == (samples if exact else 0)
    assert int(found.counts.sum()) == found.drawn
    assert set(found.tweet_ids.tolist()) <= set(exact)
    shares = dict(zip(found.tweet_ids.tolist(), found.scores.tolist(), strict=True))
    for tweet, mass in exact.items():
        share = mass / total
        error = math.sqrt(share * (1 - share) / samples) + 1 / samples
        assert abs(shares.get(tweet, 0.0) - share) < 6 * error
    assert found.degrees.tolist() == [len(model.neighbors(t, "tweet")) for t in found.tweet_ids.tolist()]
    order = list(zip((-found.counts).tolist(), found.tweet_ids.tolist(), strict=True))
    assert order == sorted(order)


@pytest.mark.parametrize("mask", [0xFFFF, 0b10])
def test_small_degrees_are_not_rounded(mask: int) -> None:
    # Degrees 1, 3, 1: a table of whole average weights gives each person a third.
    ops = [Op(1, 10, 1, 1), Op(2, 11, 1, 1), Op(2, 12, 1, 2), Op(2, 13, 1, 3), Op(3, 14, 1, 1)]
    graph = small_graph_of([*ops, *(Op(u, 20, 2, 4) for u in (1, 2, 3) if mask == 0b10)])
    samples = 200_000
    z = []
    for seed in range(5):
        found = ask(graph, {1: 1.0, 2: 1.0, 3: 1.0}, samples=samples, edge_types=mask, seed=seed)
        assert sorted(found.tweet_ids.tolist()) == [10, 11, 12, 13, 14]
        z += ((found.scores - 0.2) / math.sqrt(0.16 / samples)).tolist()
    assert np.abs(z).max() < 4.5
    assert 0.6 < np.std(z) < 1.4


def test_repeats_add_up_and_exclusions_keep_the_denominator() -> None:
    graph = small_graph_of([Op(1, 10, 1, 1), Op(2, 11, 1, 1)])
    request = RandomNeighborsRequest(
        user_ids=[1, 2, 1], weights=np.array([1.0, 1.0, 2.0]), samples=10_000, excluded_tweet_ids=[11, 99]
    )
    found = random_neighbors(graph, request, SCRATCH)
    assert found.tweet_ids.tolist() == [10]
    assert found.scores.tolist() == pytest.approx([0.75], abs=0.03)


@pytest.mark.parametrize("weight", [1e308, 5e-324])
def test_only_ratios_of_weights_matter(weight: float) -> None:
    graph = small_graph_of([Op(1, 10, 1, 1), Op(1, 11, 1, 1), Op(2, 12, 1, 1)])
    assert rows(ask(graph, {1: weight, 2: weight})) == rows(ask(graph, {1: 1.0, 2: 1.0}))
    assert ask(graph, {1: 0.0, 2: 0.0}).drawn == 0


def rows(found: RandomNeighbors) -> list[tuple[int, int]]:
    return list(zip(found.tweet_ids.tolist(), found.counts.tolist(), strict=True))


def test_the_seed_decides_and_nothing_else() -> None:
    graph = small_graph_of([Op(u, t, 1, 1) for u in range(1, 9) for t in range(u, u + 12)])
    weights = dict.fromkeys(range(1, 9), 1.0)
    first = ask(graph, weights, seed=1, edge_types=0b10)
    ask(graph, weights, samples=50_000, seed=9)
    again = ask(graph, weights, seed=1, edge_types=0b10)
    assert [c.tobytes() for c in first[:4]] == [c.tobytes() for c in again[:4]]
    assert first.counts.tolist() != ask(graph, weights, seed=2, edge_types=0b10).counts.tolist()


@pytest.mark.parametrize(
    ("weights", "options", "code"),
    [
        ({}, {}, "bad_seeds"),
        ({1: -1.0}, {}, "bad_seeds"),
        ({1: math.nan}, {}, "bad_seeds"),
        ({1: math.inf}, {}, "bad_seeds"),
        ({1: 1.0}, {"samples": 0}, "bad_similarity_option"),
        ({1: 1.0}, {"samples": ENTRIES_MAX + 1}, "bad_similarity_option"),
        ({1: 1.0}, {"samples": ENTRIES_MAX}, "too_much_work"),
        (dict.fromkeys(range(1, 1001), 1.0), {"edge_types": 2}, "too_much_work"),
        ({1: 1.0}, {"results_max": 2501}, "bad_similarity_option"),
        ({1: 1.0}, {"seed": -1}, "bad_similarity_option"),
        ({-1: 1.0}, {}, "bad_similarity_option"),
    ],
)
def test_bad_requests_have_a_name(weights: dict[int, float], options: dict[str, object], code: str) -> None:
    with pytest.raises(RequestError) as caught:
        ask(small_graph_of([]), weights, **options)
    assert caught.value.code == code


def test_unequal_seeds_and_weights_have_a_name() -> None:
    request = RandomNeighborsRequest(user_ids=[1, 2], weights=np.ones(1))
    with pytest.raises(RequestError) as caught:
        random_neighbors(small_graph_of([]), request, SCRATCH)
    assert caught.value.code == "bad_seeds"


def test_one_signature() -> None:
    room.warm()
    assert len(room.draw_neighbors.signatures) == 1
