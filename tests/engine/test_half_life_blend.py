"""The blend's components against sums over plain lists of edges."""

import numpy as np
import pytest

from engine.errors import RequestError
from engine.half_life_blend import (
    FAMILIES,
    HALF_LIVES_MS,
    BlendRequest,
    BlendScratch,
    components,
    popularity,
    recent_company,
    walk_scores,
)
from engine.interaction_graph.state import InteractionGraph, InteractionGraphConfig
from engine.interaction_graph.timed_walk_kernels import COMPANY_NEWEST, OWN_NEWEST

HOUR_MS = 3_600_000
NOW_MS = 1000 * HOUR_MS
H = len(HALF_LIVES_MS)
Edge = tuple[int, int, int]


def made(seed: int, *, edges: int = 400, users: int = 25, tweets: int = 30) -> tuple[InteractionGraph, list[Edge]]:
    """A graph, and its edges (user, tweet, time) oldest first."""
    rng = np.random.default_rng(seed)
    times = np.sort(NOW_MS - (10 ** rng.uniform(0, 5.5, edges)).astype(np.int64) * 1000)
    who, what = rng.integers(1, users, edges), rng.integers(1, tweets, edges)
    graph = InteractionGraph(
        InteractionGraphConfig(
            users_max=users, tweets_max=tweets, edges_max=edges, arena_slots_per_edge=16, window_ms=2000 * HOUR_MS
        )
    )
    graph.ingest(who.astype(np.uint64), what.astype(np.uint64), np.full(edges, 2, np.uint8), times)
    assert not graph.counters()["arena_full"]
    return graph, list(zip(who.tolist(), what.tolist(), times.tolist(), strict=True))


def power(time_ms: int, half_life_ms: float) -> float:
    return 2.0 ** (-(NOW_MS - time_ms) / half_life_ms)


def test_popularity_is_the_sum_over_the_edges():
    graph, edges = made(1)
    ids = np.arange(1, 40, dtype=np.uint64)
    expected = [[sum(power(t, h) for _, i, t in edges if i == tweet) for h in HALF_LIVES_MS] for tweet in range(1, 40)]
    np.testing.assert_allclose(popularity(graph, ids, NOW_MS, BlendScratch()), expected, rtol=1e-9)


def test_popularity_does_not_grow_before_an_edge_happened():
    graph, edges = made(2)
    early = min(t for _, _, t in edges)
    found = popularity(graph, np.arange(1, 30, dtype=np.uint64), early, BlendScratch())
    assert found.max() <= len(edges)
    assert np.all(found == found[:, :1])


def test_recent_company_is_who_the_newest_lists_name():
    graph, edges = made(3, edges=3000)
    for viewer in range(1, 8):
        weights: dict[int, float] = {}
        for tweet in [i for u, i, _ in edges if u == viewer][::-1][:OWN_NEWEST]:
            people = [u for u, i, _ in edges if i == tweet][::-1][:COMPANY_NEWEST]
            for user in people:
                weights[user] = weights.get(user, 0.0) + 1 / len(people)
        weights.pop(viewer, None)
        users, found = recent_company(graph, viewer, BlendScratch())
        assert dict(zip(users.tolist(), found.tolist(), strict=True)) == pytest.approx(weights)
        assert len(users) == len(weights)
    assert [len(part) for part in recent_company(graph, 999, BlendScratch())] == [0, 0]


def exact(edges: list[Edge], start: dict[int, float], half_life_ms: float) -> np.ndarray:
    """Shares by tweet of one step from the people of ``start``, the step's edge weighted by age."""
    mass = np.zeros(40)
    for user, weight in start.items():
        own = [(i, t) for u, i, t in edges if u == user]
        for tweet, time_ms in own:
            mass[tweet] += weight / len(own) * power(time_ms, half_life_ms)
    return mass / mass.sum()


def test_walks_approach_their_exact_shares():
    """Longest half-lives: on the tweets that are not the viewer's own both walks agree with the sums."""
    graph, edges = made(4)
    viewer = 3
    own = [i for u, i, _ in edges if u == viewer]
    after_two: dict[int, float] = {}
    for tweet in own:
        people = [u for u, i, _ in edges if i == tweet]
        for user in people:
            after_two[user] = after_two.get(user, 0.0) + 1 / len(own) / len(people)
    users, weights = recent_company(graph, viewer, BlendScratch())
    company = dict(zip(users.tolist(), weights.tolist(), strict=True))
    ids = np.array(sorted(set(range(1, 30)) - set(own)), np.uint64)
    found = walk_scores(graph, ids, BlendRequest(viewer, NOW_MS, walks=200_000, seed=5), BlendScratch())
    for column, start in ((0, after_two), (H, company)):
        for h in (2, 5, 7):
            expected = exact(edges, start, HALF_LIVES_MS[h])[ids.astype(int)]
            shares = found[:, column + h] / found[:, column + h].sum()
            np.testing.assert_allclose(shares, expected / expected.sum(), atol=0.01)


def test_few_walkers_err_around_the_exact_shares():
    """Walkers are spread evenly from random offsets: no list's end or middle may be preferred."""
    graph, edges = made(4, edges=900)
    viewer, ids = 3, np.arange(1, 30, dtype=np.uint64)
    users, weights = recent_company(graph, viewer, BlendScratch())
    company = dict(zip(users.tolist(), weights.tolist(), strict=True))
    scratch, runs = BlendScratch(), 3000
    found = sum(
        walk_scores(graph, ids, BlendRequest(viewer, NOW_MS, walks=7, seed=seed), scratch) for seed in range(runs)
    )
    own = [i for u, i, _ in edges if u == viewer]
    people: dict[int, float] = {}
    for tweet in own:
        those = [u for u, i, _ in edges if i == tweet]
        for user in those:
            people[user] = people.get(user, 0.0) + 1 / len(own) / len(those)
    longest = HALF_LIVES_MS[-1]
    first = exact(edges, {viewer: 1.0}, longest)[1:30]
    three = (first + exact(edges, people, longest)[1:30]) / 2
    np.testing.assert_allclose(found[:, H - 1] / runs, three, atol=0.003)
    np.testing.assert_allclose(found[:, 2 * H - 1] / runs, exact(edges, company, longest)[1:30], atol=0.003)


def test_components_are_scaled_to_one_and_repeat():
    graph, _ = made(5)
    ids = np.arange(1, 40, dtype=np.uint64)
    request = BlendRequest(3, NOW_MS, walks=500, seed=9)
    scratch = BlendScratch()
    found = components(graph, ids, request, scratch)
    assert found.shape == (39, len(FAMILIES) * H)
    assert found.min() >= 0.0
    assert found.max(axis=0).tolist() == [1.0] * (len(FAMILIES) * H)
    components(graph, ids[:7], BlendRequest(4, NOW_MS + HOUR_MS, walks=900), scratch)
    assert components(graph, ids, request, scratch).tobytes() == found.tobytes()
    assert components(graph, ids, request, BlendScratch()).tobytes() == found.tobytes()
    assert components(graph, ids, request._replace(seed=10), scratch).tobytes() != found.tobytes()


def test_an_unknown_viewer_has_popularity_alone():
    graph, _ = made(6)
    found = components(graph, np.arange(1, 20, dtype=np.uint64), BlendRequest(77, NOW_MS, walks=100), BlendScratch())
    assert not found[:, : 2 * H].any()
    assert found[:, 2 * H :].max() == 1.0
    assert components(graph, np.empty(0, np.uint64), BlendRequest(3, NOW_MS), BlendScratch()).shape == (0, 3 * H)


def test_everything_long_past_gives_no_infinite_score():
    """Ages of thousands of the shortest half-lives: scores stay numbers."""
    graph, _ = made(7)
    later = BlendRequest(3, NOW_MS + 1900 * HOUR_MS, walks=100)
    found = components(graph, np.arange(1, 30, dtype=np.uint64), later, BlendScratch())
    assert np.isfinite(found).all()
    # Where everything is old, walks still tell tweets apart, at the short half-lives too.
    assert (found[:, : 2 * H].max(axis=0) == 1.0).all()


def test_too_many_walks_are_refused():
    graph, _ = made(8)
    with pytest.raises(RequestError):
        components(graph, np.ones(1, np.uint64), BlendRequest(3, NOW_MS, walks=10**7), BlendScratch())


def test_whatever_is_asked_of_a_tweet_its_share_is_of_all_that_was_reached():
    """Another set of tweets asked for, in another order: the same shares; unknown tweets have none."""
    graph, _ = made(9)
    request = BlendRequest(3, NOW_MS, walks=300, seed=2)
    every = walk_scores(graph, np.arange(1, 40, dtype=np.uint64), request, BlendScratch())
    some = np.array([39, 7, 2, 25, 11], np.uint64)
    assert walk_scores(graph, some, request, BlendScratch()).tobytes() == every[some.astype(int) - 1].tobytes()
    assert not every[29:].any()


def test_each_group_of_half_lives_has_a_walk_of_its_own():
    graph, _ = made(10)
    ids = np.arange(1, 40, dtype=np.uint64)
    scores = {
        groups: walk_scores(graph, ids, BlendRequest(3, NOW_MS, walks=60, seed=2, groups=groups), BlendScratch())
        for groups in (1, 2, 8)
    }
    # The first group's draws are the same, whatever the number of groups; the others' are not.
    assert (scores[1][:, :4] == scores[2][:, :4]).all()
    assert (scores[1][:, :1] == scores[8][:, :1]).all()
    assert (scores[1][:, 4:8] != scores[2][:, 4:8]).any()
    for found in scores.values():
        np.testing.assert_allclose(found.sum(axis=0), 1.0)
    with pytest.raises(RequestError):
        walk_scores(graph, ids, BlendRequest(3, NOW_MS, groups=3), BlendScratch())
