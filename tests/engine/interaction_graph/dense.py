"""Dense random operations: most of a small window's people and tweets are connected, and the window moves."""

import numpy as np
import pytest
from hypothesis import strategies as st

from engine.interaction_graph.state import InteractionGraph

from .model import DELETE, Model, Op, small_graph_of

SECONDS = 90
#: A window that is too short and too small for all operations, and lists that let go of their oldest. The arena has
#: room for all lists: the model knows no other.
SMALL = {"window_ms": 60_000, "late_ms_max": 50_000, "edges_max": 90, "user_degree_max": 12, "tweet_degree_max": 15}
SLOTS = {"arena_slots_per_edge": 16}


def draw_ops(seed: int, people: int, tweets: list[int], count: int) -> list[Op]:
    """Mostly favorites, a few undos and deletes, about in order of time."""
    rng = np.random.default_rng(seed)
    seconds = np.sort(rng.integers(1, SECONDS, count)) + rng.integers(-8, 1, count)
    # Some people and tweets are more active than others.
    users = 1 + (people * rng.random(count) ** 1.5).astype(int)
    which = (len(tweets) * rng.random(count) ** 1.5).astype(int)
    codes = rng.choice([1, 2, 3, 4, 8, 15, DELETE], count, p=[0.5, 0.22, 0.1, 0.1, 0.05, 0.02, 0.01])
    return [
        Op(int(u), tweets[t], int(code), max(1, int(second)))
        for u, t, code, second in zip(users, which, codes, seconds, strict=True)
    ]


def ops_of(people: int, tweets: list[int]) -> st.SearchStrategy[list[Op]]:
    """Lists of operations."""
    return st.builds(
        draw_ops, st.integers(0, 2**32), st.just(people), st.just(tweets), st.sampled_from([0, 5, 40, 90, 150, 200])
    )


def modelled(ops: list[Op], **config: int) -> tuple[InteractionGraph, Model]:
    """A graph and the model of its window, after the operations."""
    graph = small_graph_of(ops, **(SMALL | SLOTS | config))
    model = Model(graph.config)
    for op in ops:
        model.apply(op)
    return graph, model


def assert_ranked(found: list[tuple[int, float, int]], everything: list[tuple[int, float, int]], limit: int) -> None:
    """``found`` (tweet, score, count) is the best of ``everything``, best first, equal scores by id.

    Scores that are equal but for rounding (2 / ln 4 and 3 / ln 8) may come in either order.
    """
    assert len(found) == min(limit, len(everything))
    assert [(-score, tweet) for tweet, score, _ in found] == sorted((-score, tweet) for tweet, score, _ in found)
    best = sorted((score for _, score, _ in everything), reverse=True)[:limit]
    assert [score for _, score, _ in found] == pytest.approx(best, rel=1e-12)
    wanted = {tweet: (score, count) for tweet, score, count in everything}
    assert len({tweet for tweet, _, _ in found}) == len(found)
    for tweet, score, count in found:
        assert (score, count) == (pytest.approx(wanted[tweet][0], rel=1e-12), wanted[tweet][1])
