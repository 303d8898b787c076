"""Walks and look-ups over a window with types, late events, undos, deletes, evictions and caps, by its model's lists.

A capped list and its edges' other ends differ there, so both sides' lists are walked as they are.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.interaction_graph.queries import social_proof
from engine.interaction_graph.salsa import SalsaRequest, SalsaScratch, salsa
from engine.interaction_graph.subgraph_salsa import SubgraphRequest, salsa_on_subgraph

from .dense import SECONDS, modelled, ops_of
from .model import Edge, Model, Op

SCRATCH = SalsaScratch()
OPS = ops_of(10, list(range(101, 113)))
SEEDS = st.dictionaries(st.integers(1, 11), st.sampled_from([0.5, 1.0, 3.0]), max_size=4)
MASKS = st.sampled_from([0xFFFF, 0b10, 0b10110])
#: At which the walks are scored, in seconds; the window is a minute.
HALF_LIVES_S = (5.0, 30.0, 1e9)
WALKS = 20_000


def wanted(held: list[Edge], mask: int) -> list[Edge]:
    return [edge for edge in held if mask >> edge.code & 1]


def started(model: Model, query: int, seeds: dict[int, float]) -> dict[int, float]:
    """Mass by user: seeds with any edge, and the query user (as nine tenths, unless a seed)."""
    mass = {user: weight for user, weight in seeds.items() if model.users.get(user)}
    if query not in mass and model.users.get(query):
        mass[query] = 9.0 * sum(mass.values()) or 1.0
    return mass


def walked(
    model: Model, start: dict[int, float], query: int, length: int, reset: float, mask: int
) -> tuple[dict[int, float], np.ndarray]:
    """Expected visits by tweet, and the same with each edge's power of age, (half-lives, tweet id)."""
    known = any(edge.user == query for edge in model.log)
    visits: dict[int, float] = {}
    timed = np.zeros((len(HALF_LIVES_S), 200))
    here = dict(start)
    for _ in range((length + 1) // 2):
        there: dict[int, float] = {}
        for user, weight in here.items():
            edges = wanted(model.users.get(user, []), mask)
            for edge in edges:
                along = (1 - reset) * weight / len(edges)
                there[edge.tweet] = there.get(edge.tweet, 0.0) + along
                visits[edge.tweet] = visits.get(edge.tweet, 0.0) + along
                timed[:, edge.tweet] += along * 2.0 ** (-(SECONDS - edge.second) / np.array(HALF_LIVES_S))
        waiting = reset * sum(here.values()) if known else 0.0
        here = {query: waiting}
        for tweet, weight in there.items():
            edges = wanted(model.tweets.get(tweet, []), mask)
            for edge in edges:
                here[edge.user] = here.get(edge.user, 0.0) + weight / len(edges)
    return visits, timed


@settings(deadline=None, max_examples=60)
@given(
    OPS, st.integers(1, 11), SEEDS, st.sampled_from([1, 3, 5]), st.sampled_from([0.0, 0.3]), MASKS, st.integers(0, 99)
)
def test_walks_have_the_expectation_over_the_lists(
    ops: list[Op], query: int, seeds: dict[int, float], length: int, reset: float, mask: int, seed: int
) -> None:
    graph, model = modelled(ops)
    request = SalsaRequest(
        query_user_id=query,
        seed_user_ids=np.array(list(seeds), np.uint64),
        seed_weights=np.array(list(seeds.values()), float),
        walks=WALKS,
        length=length,
        reset=reset,
        edge_types=mask,
        seed=seed,
        half_lives_ms=tuple(1000.0 * half_life for half_life in HALF_LIVES_S),
        time_ms=SECONDS * 1000,
    )
    found = salsa(graph, request, SCRATCH)
    assert found.stats.steps <= found.stats.walkers * length
    visits, timed = walked(model, started(model, query, seeds), query, length, reset, mask)
    assert set(found.tweet_ids.tolist()) <= visits.keys()
    if not visits:
        assert found.stats.visits == 0
        return
    total = sum(visits.values())
    shares = {tweet: n / found.stats.visits for tweet, n in zip(found.tweet_ids.tolist(), found.visits, strict=True)}
    for tweet, mass in visits.items():
        share = mass / total
        # Visits of one walker are not independent; walkers are rounded up to whole ones.
        error = np.sqrt(share * (1 - share) / found.stats.visits) + 1e-3
        assert shares.get(tweet, 0.0) == pytest.approx(share, abs=6 * error)
    exact = timed / np.maximum(timed.sum(axis=1, keepdims=True), 1e-300)
    for i, tweet in enumerate(found.tweet_ids.tolist()):
        assert found.timed_scores[i] == pytest.approx(exact[:, tweet], abs=0.05)


@settings(deadline=None, max_examples=60)
@given(OPS, st.integers(1, 11), SEEDS, st.sampled_from([1, 3, 5]), st.sampled_from([0.0, 0.3]), MASKS)
def test_the_subgraph_is_the_seeds_lists(
    ops: list[Op], query: int, seeds: dict[int, float], length: int, reset: float, mask: int
) -> None:
    graph, model = modelled(ops)
    request = SubgraphRequest(
        query_user_id=query,
        seed_user_ids=np.array(list(seeds), np.uint64),
        seed_weights=np.array(list(seeds.values()), float),
        length=length,
        reset=reset,
        edge_types=mask,
    )
    found = salsa_on_subgraph(graph, request, SCRATCH)
    start = started(model, query, seeds)
    # The same walk, on a window that has these people's lists alone, and they by tweet.
    frozen = Model(graph.config)
    frozen.users = {user: wanted(model.users[user], mask) for user in start}
    frozen.log = [edge for held in frozen.users.values() for edge in held] + [Edge(u, 0, 0, 0) for u in start]
    for held in frozen.users.values():
        for edge in held:
            frozen.tweets.setdefault(edge.tweet, []).append(edge)
    visits, _ = walked(frozen, start, query, length, reset, mask)
    total = sum(visits.values())
    assert dict(zip(found.tweet_ids.tolist(), found.scores.tolist(), strict=True)) == pytest.approx(
        {tweet: mass / total for tweet, mass in visits.items()}
    )


@settings(deadline=None, max_examples=60)
@given(
    OPS,
    st.lists(st.integers(101, 113), unique=True, min_size=1),
    st.lists(st.integers(1, 11), unique=True, min_size=1),
    st.integers(1, 6),
    MASKS,
)
def test_social_proof_is_in_the_shorter_lists(
    ops: list[Op], tweets: list[int], users: list[int], limit: int, mask: int
) -> None:
    graph, model = modelled(ops)
    of_tweets = [edge for tweet in tweets for edge in model.tweets.get(tweet, [])]
    of_users = [edge for user in users for edge in model.users.get(user, [])]
    held = wanted(of_tweets if len(of_tweets) <= len(of_users) else of_users, mask)
    proof = social_proof(graph, np.array(tweets, np.uint64), np.array(users, np.uint64), limit, mask)
    for row, tweet in enumerate(tweets):
        newest: dict[tuple[int, int], int] = {}
        for edge in held:
            if edge.tweet == tweet and edge.user in users:
                newest[edge.user, edge.code] = max(edge.second, newest.get((edge.user, edge.code), 0))
        expected = sorted((-second, user, code) for (user, code), second in newest.items())[:limit]
        n = proof.counts[row]
        columns = (-(proof.times_ms[row, :n] // 1000), proof.user_ids[row, :n], proof.types[row, :n])
        assert list(zip(*(column.tolist() for column in columns), strict=True)) == expected
