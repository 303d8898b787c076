"""SALSA against the closed form of its expectation, on the reference list and on small made graphs."""

from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine.errors import RequestError
from engine.interaction_graph.salsa import SalsaRequest, SalsaResult, SalsaScratch, Walks, salsa
from engine.interaction_graph.state import InteractionGraph, InteractionGraphConfig
from engine.interaction_graph.subgraph_salsa import SubgraphRequest, salsa_on_subgraph

from .conftest import graphjet
from .model import Op, make_graph, run, small_graph_of

SCRATCH = SalsaScratch()


class Expectation:
    """Exact expected scores: y = (1 - a) x P_LR, visits += y, x' = y P_RL + a |x| e_query."""

    def __init__(self, edges: NDArray[np.int64]) -> None:
        self.users, self.u = np.unique(edges[:, 0], return_inverse=True)
        self.tweets, self.t = np.unique(edges[:, 1], return_inverse=True)
        self.user_degrees = np.bincount(self.u)
        self.tweet_degrees = np.bincount(self.t)

    def scores(
        self, query: int, seeds: Sequence[int], weights: Sequence[float], walks: int, length: int, reset: float
    ) -> dict[int, float]:
        x = np.zeros(len(self.users))
        known = [(s, w) for s, w in zip(seeds, weights, strict=True) if s in self.users]
        total = sum(w for _, w in known)
        if query not in seeds and query in self.users:
            known.append((query, total * 0.9 / 0.1 if total else 1.0))
            total += known[-1][1]
        for seed, weight in known:
            x[np.searchsorted(self.users, seed)] += np.ceil(weight / total * walks)
        visits = np.zeros(len(self.tweets))
        for _ in range((length + 1) // 2):
            y = np.bincount(self.t, ((1 - reset) * x / self.user_degrees)[self.u], len(self.tweets))
            visits += y
            resets = reset * x.sum()
            x = np.bincount(self.u, (y / self.tweet_degrees)[self.t], len(self.users))
            if query in self.users:
                x[np.searchsorted(self.users, query)] += resets
        return dict(zip(self.tweets.tolist(), (visits / visits.sum()).tolist(), strict=True))


def ask(graph: InteractionGraph, query: int, seeds: Sequence[int], weights: Sequence[float], **options: float):
    return salsa(
        graph,
        SalsaRequest(
            query_user_id=query,
            seed_user_ids=np.array(seeds, np.uint64),
            seed_weights=np.array(weights, float),
            **options,  # type: ignore[arg-type]
        ),
        SCRATCH,
    )


def distance(result: SalsaResult, expected: dict[int, float]) -> float:
    """Total variation; a result that lists fewer tweets than were reached counts the missing as not visited."""
    found = dict(zip(result.tweet_ids.tolist(), result.scores.tolist(), strict=True))
    return 0.5 * sum(abs(found.get(t, 0.0) - p) for t, p in expected.items())


def sampling_error(expected: dict[int, float], visits: int) -> float:
    """Expected total variation of so many independent visits (normal approximation, spec of E|N|)."""
    return float(sum(np.sqrt(2 * p * (1 - p) / np.pi / visits) for p in expected.values())) / 2


@pytest.fixture(scope="module")
def expectation(small_edges: NDArray[np.int64]) -> Expectation:
    return Expectation(small_edges)


@pytest.mark.parametrize("weighted", [False, True])
def test_a_power_law_list_agrees_with_the_closed_form(
    small_graph: InteractionGraph, expectation: Expectation, weighted: bool
) -> None:
    users = small_graph.top_users(400)[0].tolist()
    query = users[150]
    seeds = users[200:300] if weighted else [query]
    weights = [1 / np.sqrt(i + 1) for i in range(len(seeds))]
    walks = 200_000
    exact = expectation.scores(query, seeds, weights, walks, 5, 0.3)
    counts: dict[int, int] = {}
    total = 0
    for seed in range(4):
        result = ask(graph := small_graph, query, seeds, weights, walks=walks, seed=seed, results_max=2500)
        assert graph is small_graph
        total += result.stats.visits
        for tweet, visits in zip(result.tweet_ids.tolist(), result.visits.tolist(), strict=True):
            counts[tweet] = counts.get(tweet, 0) + visits
    # Over the tweets that each run lists: z-scores of the counts are standard normal.
    top = sorted(exact, key=exact.__getitem__, reverse=True)[:300]
    z = np.array([(counts[t] - total * exact[t]) / np.sqrt(total * exact[t] * (1 - exact[t])) for t in top])
    assert abs(z.mean()) < 0.3
    assert 0.8 < z.std() < 1.2


def test_distance_shrinks_with_the_root_of_walks(small_graph: InteractionGraph, expectation: Expectation) -> None:
    # Length 1 from a user of few tweets: every tweet reached is listed.
    users, degrees = small_graph.top_users(400)
    query = int(users[-1])
    assert degrees[-1] < 100
    for walks in (1_000, 16_000, 256_000):
        exact = expectation.scores(query, [query], [1.0], walks, 1, 0.0)
        found = [
            distance(
                ask(small_graph, query, [query], [1.0], walks=walks, length=1, reset=0.0, results_max=2500, seed=s),
                exact,
            )
            for s in range(8)
        ]
        error = sampling_error(exact, walks)
        assert 0.75 * error < np.mean(found) < 1.25 * error, walks


@pytest.mark.parametrize("kind", ["single", "seedset"])
def test_reference_dump_of_graphjet(small_graph: InteractionGraph, kind: str) -> None:
    z = []
    for case in graphjet("salsa_top20.json")[kind]:
        seeds = case.get("seeds", [case["query"]])
        weights = [1 / np.sqrt(i + 1) for i in range(len(seeds))]
        runs = [
            ask(small_graph, case["query"], seeds, weights, walks=200_000, results_max=2500, seed=s) for s in range(2)
        ]
        for tweet, mean, error in case["top"]:
            found = [float(r.scores[r.tweet_ids == tweet][0]) for r in runs]
            visits = sum(r.stats.visits for r in runs)
            z.append((np.mean(found) - mean) / np.hypot(error, np.sqrt(mean * (1 - mean) / visits)))
    assert abs(np.mean(z)) < 0.35
    assert 0.75 < np.std(z) < 1.3


EDGES = st.lists(st.tuples(st.integers(1, 6), st.integers(1, 8)), min_size=1, max_size=40)


@settings(deadline=None, max_examples=60)
@given(
    EDGES,
    st.integers(1, 7),
    st.lists(st.tuples(st.integers(1, 7), st.floats(0.1, 5)), max_size=4, unique_by=lambda s: s[0]),
    st.sampled_from([1, 3, 5, 7]),
    st.sampled_from([0.0, 0.3, 0.8]),
    st.integers(0, 2**64 - 1),
)
def test_small_graphs_agree_with_the_closed_form(
    pairs: list[tuple[int, int]], query: int, seeds: list[tuple[int, float]], length: int, reset: float, seed: int
) -> None:
    edges = np.array(pairs)
    walks = 20_000
    seed_ids, weights = [s for s, _ in seeds], [w for _, w in seeds]
    result = ask(make_graph(edges), query, seed_ids, weights, walks=walks, length=length, reset=reset, seed=seed)
    known = ({query} | set(seed_ids)) & set(edges[:, 0].tolist())
    if not known:
        assert result.stats.walkers == len(result.tweet_ids) == 0
        return
    exact = Expectation(edges).scores(query, seed_ids, weights, walks, length, reset)
    assert set(result.tweet_ids.tolist()) <= {t for t, p in exact.items() if p > 0}
    # Visits of one walker are not independent, hence the slack; a bias of one part in fifty would show.
    assert distance(result, exact) < 4 * sampling_error(exact, max(1, result.stats.visits)) + 0.002
    assert result.scores.sum() == pytest.approx(1.0 if result.stats.visits else 0.0)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(1, 5), st.integers(1, 6), st.integers(0, 3)), min_size=1, max_size=40),
    st.integers(1, 15),
    st.integers(0, 2**64 - 1),
)
def test_edge_types_restrict_the_walk(triples: list[tuple[int, int, int]], mask: int, seed: int) -> None:
    graph = small_graph_of([Op(u, t, c, 5) for u, t, c in triples])
    wanted = np.array([(u, t) for u, t, c in triples if mask >> c & 1])
    result = ask(graph, 1, [1], [1.0], walks=20_000, edge_types=mask, seed=seed, length=3)
    if not len(wanted) or 1 not in wanted[:, 0]:
        assert len(result.tweet_ids) == 0
        return
    exact = Expectation(wanted).scores(1, [1], [1.0], 20_000, 3, 0.3)
    assert distance(result, exact) < 4 * sampling_error(exact, result.stats.visits) + 0.002


def test_rare_types_are_found_by_counting() -> None:
    graph = small_graph_of([Op(1, t, 1, 5) for t in range(1, 900)] + [Op(1, 1000, 2, 6), Op(1, 1001, 2, 6)])
    result = ask(graph, 1, [1], [1.0], walks=10_000, edge_types=1 << 2, length=1, reset=0.0)
    assert sorted(result.tweet_ids.tolist()) == [1000, 1001]
    assert abs(result.scores[0] - 0.5) < 0.03


def test_a_search_for_rare_types_has_a_budget() -> None:
    """User 1 and the tweets have one wanted edge among a thousand: nearly every step counts a list."""
    ops = [Op(1, t, 1, 5) for t in range(100, 1100)] + [Op(u, 100, 1, 5) for u in range(2, 1000)]
    graph = small_graph_of([*ops, Op(1, 100, 2, 6)], edges_max=4096)
    found = ask(graph, 1, [1], [1.0], walks=1000, length=5, reset=0.0, edge_types=1 << 2)
    assert found.tweet_ids.tolist() == [100]
    assert found.stats.steps == 5000
    # 5,000 steps of a thousand entries are 5 M; thirty times as many are over the budget of 34 M.
    with pytest.raises(RequestError) as caught:
        ask(graph, 1, [1], [1.0], walks=30_000, length=5, reset=0.0, edge_types=1 << 2)
    assert caught.value.code == "too_many_walks"


def test_a_search_on_the_subgraph_has_the_same_budget() -> None:
    """Seeds of a thousand edges each, of which one is wanted; a draw counts a thousand entries."""
    seeds = np.arange(1, 81, dtype=np.uint64)
    users, tweets = np.repeat(seeds, 1000), np.tile(np.arange(100, 1100, dtype=np.uint64), 80)
    types = np.where(tweets == 100, 2, 1).astype(np.uint8)
    graph = InteractionGraph(InteractionGraphConfig(users_max=80, tweets_max=1000, edges_max=len(users)))
    graph.ingest(users, tweets, types, np.full(len(users), 5000))
    request = SubgraphRequest(
        query_user_id=0, seed_user_ids=seeds, seed_weights=np.ones(80), length=1, edge_types=1 << 2, walks=80 * 900
    )
    with pytest.raises(RequestError) as caught:
        salsa_on_subgraph(graph, request, SCRATCH)
    assert caught.value.code == "too_many_walks"
    fewer = msgspec.structs.replace(request, walks=80 * 100)
    assert salsa_on_subgraph(graph, fewer, SCRATCH).tweet_ids.tolist() == [100]
    # Lists within a seed's share are read, not drawn from.
    whole = msgspec.structs.replace(request, walks=80 * 1000)
    assert salsa_on_subgraph(graph, whole, SCRATCH).edges == 80


def test_same_request_same_bytes_and_other_seed_other_walk(small_graph: InteractionGraph) -> None:
    query = int(small_graph.top_users(50)[0][-1])
    first = ask(small_graph, query, [query], [1.0], seed=7, social_proofs_max=3)
    ask(small_graph, query, [query], [1.0], seed=8, walks=5000, length=9)
    again = ask(small_graph, query, [query], [1.0], seed=7, social_proofs_max=3)
    for a, b in zip(first, again, strict=True):
        assert np.array_equal(a, b)
    assert not np.array_equal(first.visits, ask(small_graph, query, [query], [1.0], seed=8).visits)


def test_prepared_walks_give_the_same_results(small_graph: InteractionGraph) -> None:
    users = small_graph.top_users(50)[0]
    walks = Walks(
        small_graph, SalsaRequest(query_user_id=0, seed_user_ids=users[:1], seed_weights=np.ones(1), walks=80)
    )
    for seeds in (users[-1:], users[3:40]):
        weights = np.linspace(1.0, 2.97, len(seeds))
        asked = ask(small_graph, int(users[-1]), seeds, weights, seed=9, walks=80)
        ids, scores = walks.best(int(users[-1]), seeds, weights, 9, SCRATCH)
        assert (ids.tolist(), scores.tolist()) == (asked.tweet_ids.tolist(), asked.scores.tolist())
    with pytest.raises(RequestError):
        walks.best(1, np.ones(500_000, np.uint64), np.ones(500_000), 9, SCRATCH)


def test_order_is_by_visits_then_id(small_graph: InteractionGraph) -> None:
    query = int(small_graph.top_users(50)[0][-1])
    every = ask(small_graph, query, [query], [1.0], results_max=2500)
    keys = list(zip((-every.visits).tolist(), every.tweet_ids.tolist(), strict=True))
    assert keys == sorted(keys)
    few = ask(small_graph, query, [query], [1.0], results_max=10)
    assert few.tweet_ids.tolist() == every.tweet_ids[:10].tolist()
    assert every.stats.tweets_reached == len(every.tweet_ids)
    assert every.visits.sum() == every.stats.visits


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.integers(1, 400), st.integers(1, 120), st.sampled_from([40, 63, 64]))
def test_ties_are_cut_at_the_right_id(seed: int, walks: int, results: int, bits: int) -> None:
    rng = np.random.default_rng(seed)
    # Far apart, or neighbors at the end of the range, where a float would not tell them apart.
    far = rng.integers(1, 1 << min(bits, 63), 900, np.uint64)
    tweets = np.unique(far if bits < 64 else ~np.arange(900, dtype=np.uint64))
    graph = small_graph_of([Op(1, int(t), 1, 5) for t in rng.permutation(tweets)])
    every = ask(graph, 1, [1], [1.0], walks=walks, length=1, results_max=2500, seed=seed)
    few = ask(graph, 1, [1], [1.0], walks=walks, length=1, results_max=results, seed=seed)
    order = sorted(zip((-every.visits).tolist(), every.tweet_ids.tolist(), strict=True))
    assert list(zip((-few.visits).tolist(), few.tweet_ids.tolist(), strict=True)) == order[:results]


def test_social_proof_is_who_the_last_left_step_came_from() -> None:
    graph = InteractionGraph(InteractionGraphConfig())
    # 2 and 3 are more active than 4; only they and the query user 1 reach tweet 50.
    ops = [Op(1, 50, 1, 1), Op(2, 50, 1, 2), Op(2, 50, 2, 3), Op(3, 50, 7, 4), Op(4, 60, 1, 5)]
    ops += [Op(3, 60 + i, 1, 6) for i in range(4)]
    run(graph, ops)
    result = ask(graph, 1, [1], [1.0], walks=5000, length=3, social_proofs_max=8)
    row = result.tweet_ids.tolist().index(50)
    n = int(result.proof_counts[row])
    proof = list(zip(result.proof_user_ids[row, :n].tolist(), result.proof_types[row, :n].tolist(), strict=True))
    assert proof == [(3, 7), (2, 1), (2, 2)]
    masked = ask(graph, 1, [1], [1.0], walks=5000, length=3, social_proofs_max=8, social_proof_types=1 << 2)
    row = masked.tweet_ids.tolist().index(50)
    assert masked.proof_user_ids[row, : masked.proof_counts[row]].tolist() == [2]
    cut = ask(graph, 1, [1], [1.0], walks=5000, length=3, social_proofs_max=1)
    assert cut.proof_user_ids[cut.tweet_ids.tolist().index(50)].tolist() == [3]


def test_walkers_are_shared_out_by_weight_and_rounded_up() -> None:
    graph = small_graph_of([Op(u, 50, 1, 1) for u in (1, 2, 3, 9)])
    assert ask(graph, 1, [1, 2, 3], [1.0, 1.0, 1.0], walks=100).stats.walkers == 3 * 34
    # The query user, no seed, gets nine tenths of all weight; user 4 is unknown and gets none.
    assert ask(graph, 9, [1, 2, 4], [3.0, 1.0, 5.0], walks=1001).stats.walkers == 76 + 26 + 901
    assert ask(graph, 9, [], [], walks=7).stats.walkers == 7
    assert ask(graph, 1, [1, 2], [1.0, 0.0], walks=10).stats.seed_nodes == 1


def test_unknown_users_find_nothing(small_graph: InteractionGraph) -> None:
    result = ask(small_graph, 3, [4, 5], [1.0, 2.0])
    assert len(result.tweet_ids) == 0
    assert result.stats.walkers == 0


def test_deleted_tweets_end_walks_without_harm() -> None:
    graph = InteractionGraph(InteractionGraphConfig(tweet_degree_max=1))
    run(graph, [Op(1, 50, 1, 1), Op(2, 50, 1, 2), Op(3, 9, 16, 3), Op(3, 50, 16, 3)])
    # The tweet's cap had let go of user 1's edge, so the user still points to a tweet that has no list.
    result = ask(graph, 1, [1], [1.0], walks=100, reset=0.0)
    assert result.stats.steps == 100
    assert result.tweet_ids.tolist() == [50]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"length": 4}, "bad_walk_length"),
        ({"length": 0}, "bad_walk_length"),
        ({"length": 101}, "bad_walk_length"),
        ({"walks": 0}, "too_many_walks"),
        ({"walks": 10**9}, "too_many_walks"),
        ({"reset": 1.0}, "bad_walk_option"),
        ({"reset": float("nan")}, "bad_walk_option"),
        ({"query_weight_fraction": 1.0}, "bad_walk_option"),
        ({"results_max": 0}, "bad_walk_option"),
        ({"results_max": 2501}, "bad_walk_option"),
        ({"social_proofs_max": 101}, "bad_walk_option"),
        ({"seed_weights": np.array([-1.0])}, "bad_seeds"),
        ({"seed_weights": np.array([np.nan])}, "bad_seeds"),
        ({"seed_weights": np.array([np.inf])}, "bad_seeds"),
        ({"seed_weights": np.ones(2)}, "bad_seeds"),
        ({"query_user_id": 0, "seed_user_ids": np.empty(0, np.uint64), "seed_weights": np.empty(0)}, "bad_seeds"),
    ],
)
def test_bad_requests_have_names(options: dict[str, object], code: str) -> None:
    given_ = {"query_user_id": 1, "seed_user_ids": np.ones(1, np.uint64), "seed_weights": np.ones(1)} | options
    with pytest.raises(RequestError) as caught:
        salsa(InteractionGraph(InteractionGraphConfig()), SalsaRequest(**given_), SCRATCH)  # type: ignore[arg-type]
    assert caught.value.code == code


def test_one_signature_a_kernel(small_graph: InteractionGraph) -> None:
    from engine.interaction_graph import read_kernels, walk_kernels, write_kernels

    ask(small_graph, 1, [1], [1.0])
    small_graph.neighbors_of_user(1, 5)
    for kernel in (write_kernels.ingest, read_kernels.newest, walk_kernels.salsa):
        assert len(kernel.signatures) == 1
