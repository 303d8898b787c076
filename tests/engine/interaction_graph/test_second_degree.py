"""Top second degree by count against a brute force with every option, and against the reference dump."""

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.batch import snowflake_id, snowflake_time_ms
from engine.errors import RequestError
from engine.interaction_graph.salsa import SalsaScratch
from engine.interaction_graph.second_degree import SecondDegree, SecondDegreeRequest, SecondDegreeResult, second_degree
from engine.interaction_graph.state import InteractionGraph

from .conftest import graphjet
from .model import Op, small_graph_of

SCRATCH = SalsaScratch()
TWEET = 4
START_MS = 1_600_000_000_000
START = START_MS // 1000
#: Tweets created 10 s apart.
TWEETS = [snowflake_id(START_MS + i * 10_000, i) for i in range(10)]


def ids(values: list[int]) -> np.ndarray:
    return np.array(values, np.uint64)


def brute(graph: InteractionGraph, r: SecondDegreeRequest) -> list[tuple[int, float, int, list[tuple[int, int]]]]:
    """The definition, over neighbor lists."""
    now_ms = r.time_ms or graph.watermark_ms
    weights = dict(zip(r.seed_user_ids.tolist(), r.seed_weights.tolist(), strict=True))
    proofs: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for seed in weights:
        tweets, types, times = graph.neighbors_of_user(seed, r.edges_per_seed_max)
        for tweet, kind, time in zip(tweets.tolist(), types.tolist(), times.tolist(), strict=True):
            too_old = r.engagement_age_ms_max and time < now_ms - r.engagement_age_ms_max
            if not too_old and r.edge_types >> kind & 1 and (seed, kind) not in proofs[tweet]:
                proofs[tweet].append((seed, kind))

    def by(authors: np.ndarray) -> set[int]:
        found = [graph.neighbors_of_user(a, r.edges_per_seed_max) for a in authors.tolist()]
        return {
            t for tweets, types, _ in found for t, k in zip(tweets.tolist(), types.tolist(), strict=True) if k == TWEET
        }

    left_out = set(r.exclude_tweet_ids.tolist()) | by(r.exclude_author_ids)
    left_out |= set(graph.neighbors_of_user(r.query_user_id, 10**6)[0].tolist())
    out = []
    for tweet, proof in proofs.items():
        author = next((s for s, k in proof if k == TWEET), None)
        users = {k: {s for s, k2 in proof if k2 == k and (k == TWEET or s != author)} for k in range(16)}
        enough = any(
            len(users[k]) >= need > 0
            for k in range(16)
            if r.edge_types >> k & 1
            for need in [r.users_min_by_type.get(k, max(1, r.users_min))]
        ) or any(len({s for s, k in proof if union >> k & 1}) >= max(1, r.users_min) for union in r.type_unions)
        distinct = len({s for s, _ in proof})
        created = snowflake_time_ms(tweet)
        if (
            not proof
            or not enough
            or tweet in left_out
            or (len(r.author_ids) and tweet not in by(r.author_ids))
            or (r.users_exact and distinct != r.users_exact)
            or graph.tweet_degree(tweet) < r.degree_min
            or (r.tweet_age_ms_max and created < now_ms - r.tweet_age_ms_max)
        ):
            continue
        score = 0.0
        for seed in weights:
            for s, _ in proof:
                score += weights[s] if s == seed else 0.0
        listed = sorted(proof, key=lambda p: (-weights[p[0]], p[0], p[1]))[: r.proofs_max]
        out.append((tweet, score, distinct, listed))
    return sorted(out, key=lambda row: (-row[1], row[0]))[: r.results_max]


def rows(result: SecondDegreeResult) -> list[tuple[int, float, int, list[tuple[int, int]]]]:
    return [
        (
            int(result.tweet_ids[i]),
            float(result.scores[i]),
            int(result.users[i]),
            list(zip(result.proof_user_ids[i, :n].tolist(), result.proof_types[i, :n].tolist(), strict=True)),
        )
        for i, n in enumerate(result.proof_counts.tolist())
    ]


OPS = st.lists(
    st.builds(
        Op,
        st.integers(1, 9),
        st.sampled_from(TWEETS),
        st.sampled_from([1, 1, 1, 2, 3, 4, 7, 8]),
        st.integers(START, START + 200),
    ),
    max_size=70,
)
SOME_IDS = st.one_of(st.just([]), st.lists(st.sampled_from([*TWEETS, 5]), unique=True, max_size=4))
SOME_USERS = st.one_of(st.just([]), st.lists(st.integers(1, 11), unique=True, max_size=4))
MASKS = st.sampled_from([0xFFFF, 0b10, 0b10010, 0b1100, 0b10011110])
REQUESTS = st.builds(
    lambda seeds, excluded, authors, alone, **rest: SecondDegreeRequest(
        # Powers of two add up exactly in any order, so that scores can be compared for equality.
        seed_user_ids=ids([s for s, _ in seeds]),
        seed_weights=np.array([w for _, w in seeds], float),
        exclude_tweet_ids=ids(excluded),
        exclude_author_ids=ids(authors),
        author_ids=ids(alone),
        **rest,
    ),
    st.lists(
        st.tuples(st.integers(1, 11), st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.0])),
        min_size=1,
        max_size=9,
        unique_by=lambda s: s[0],
    ),
    SOME_IDS,
    SOME_USERS,
    st.one_of(st.just([]), SOME_USERS),
    query_user_id=st.sampled_from([0, 0, 1, 2, 77]),
    edge_types=MASKS,
    results_max=st.sampled_from([1, 3, 100]),
    edges_per_seed_max=st.sampled_from([1, 4, 500]),
    proofs_max=st.sampled_from([0, 1, 3, 20]),
    users_min=st.sampled_from([0, 1, 1, 2, 3]),
    users_min_by_type=st.sampled_from([{}, {}, {1: 2}, {1: 0, 2: 1}, {4: 5, 3: 1}]),
    type_unions=st.sampled_from([(), (), (0b110,), (0b1100, 0b10010)]),
    users_exact=st.sampled_from([0, 0, 0, 1, 2]),
    time_ms=st.sampled_from([0, START_MS + 250_000]),
    tweet_age_ms_max=st.sampled_from([0, 0, 120_000, 180_000]),
    engagement_age_ms_max=st.sampled_from([0, 0, 30_000, 100_500]),
    degree_min=st.sampled_from([0, 0, 1, 3]),
)


@settings(deadline=None, max_examples=400)
@given(OPS, REQUESTS)
def test_is_the_brute_force(ops: list[Op], request: SecondDegreeRequest) -> None:
    graph = small_graph_of(ops)
    result = second_degree(graph, request, SCRATCH)
    assert rows(result) == brute(graph, request)


def test_an_author_is_no_proof_of_their_own_tweet() -> None:
    wrote, liked = 4, 1
    ops = [Op(1, TWEETS[0], wrote, START), Op(1, TWEETS[0], liked, START), Op(2, TWEETS[0], liked, START)]
    options = {"seed_user_ids": ids([1, 2, 3]), "seed_weights": np.ones(3), "users_min": 2}
    request = SecondDegreeRequest(**options)  # type: ignore[arg-type]
    assert rows(second_degree(small_graph_of(ops), request, SCRATCH)) == []
    third = [*ops, Op(3, TWEETS[0], liked, START)]
    assert len(rows(second_degree(small_graph_of(third), request, SCRATCH))) == 1
    # Where authorship does not count as proof, nobody is known as the author.
    likes = SecondDegreeRequest(**options, edge_types=1 << liked)  # type: ignore[arg-type]
    assert len(rows(second_degree(small_graph_of(ops), likes, SCRATCH))) == 1


@pytest.mark.parametrize("proof_min", [1, 2])
def test_reference_dump_of_graphjet(small_graph: InteractionGraph, proof_min: int) -> None:
    for case in graphjet("top_second_degree_top20.json")["queries"]:
        seeds = case["seeds"]
        result = second_degree(
            small_graph,
            SecondDegreeRequest(
                seed_user_ids=ids(seeds),
                seed_weights=1 / np.sqrt(np.arange(1, len(seeds) + 1)),
                results_max=2500,
                users_min=proof_min,
                proofs_max=100,
            ),
            SCRATCH,
        )
        found = {t: (s, u) for t, s, u, _ in rows(result)}
        expected = case[f"top_minproof{proof_min}"]
        for tweet, score, users in expected:
            assert found[tweet] == (pytest.approx(score, rel=1e-9), users)
        # Ties aside, these are the best: nothing else beats the last of them.
        floor = min(score for _, score, _ in expected)
        better = {t for t, (s, _) in found.items() if s > floor * (1 + 1e-9)}
        assert better <= {t for t, _, _ in expected}


def test_same_bytes_again_after_another_request(small_graph: InteractionGraph) -> None:
    users = small_graph.top_users(300)[0]
    first = SecondDegreeRequest(seed_user_ids=users[:100], seed_weights=np.ones(100))
    other = SecondDegreeRequest(seed_user_ids=users[100:300], seed_weights=np.ones(200), results_max=2500)
    before = second_degree(small_graph, first, SCRATCH)
    second_degree(small_graph, other, SCRATCH)
    for a, b in zip(before, second_degree(small_graph, first, SCRATCH), strict=True):
        assert np.array_equal(a, b)


def test_a_prepared_count_gives_the_same_results(small_graph: InteractionGraph) -> None:
    users = small_graph.top_users(300)[0]
    time_ms, weights = small_graph.watermark_ms, np.linspace(1.0, 2.97, 100)
    for options in ({}, {"engagement_age_ms_max": 60_000, "users_min": 2, "proofs_max": 0}):
        asked = SecondDegreeRequest(
            seed_user_ids=users[:100], seed_weights=weights, query_user_id=7, time_ms=time_ms, **options
        )
        whole = second_degree(small_graph, asked, SCRATCH)
        count = SecondDegree(
            small_graph, SecondDegreeRequest(seed_user_ids=users[:1], seed_weights=np.ones(1), **options)
        )
        for time in (time_ms, 0):
            ids, scores = count.best(users[:100], weights, 7, time, SCRATCH)
            assert (ids.tolist(), scores.tolist()) == (whole.tweet_ids.tolist(), whole.scores.tolist())


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"seed_user_ids": ids([]), "seed_weights": np.empty(0)}, "bad_seeds"),
        ({"seed_user_ids": ids([1, 1]), "seed_weights": np.ones(2)}, "bad_seeds"),
        ({"seed_weights": np.ones(2)}, "bad_seeds"),
        ({"seed_weights": np.array([-1.0])}, "bad_seeds"),
        ({"seed_weights": np.array([np.nan])}, "bad_seeds"),
        ({"results_max": 0}, "bad_count_option"),
        ({"results_max": 2501}, "bad_count_option"),
        ({"proofs_max": -1}, "bad_count_option"),
        ({"edges_per_seed_max": 0}, "bad_count_option"),
        ({"users_min": -1}, "bad_count_option"),
        ({"users_min_by_type": {16: 1}}, "bad_count_option"),
        ({"tweet_age_ms_max": -1}, "bad_count_option"),
        ({"author_ids": np.arange(1, 500, dtype=np.uint64), "edges_per_seed_max": 10_000}, "too_many_seeds"),
    ],
)
def test_bad_requests_have_names(options: dict[str, object], code: str) -> None:
    given_ = {"seed_user_ids": ids([1]), "seed_weights": np.ones(1)} | options
    with pytest.raises(RequestError) as caught:
        second_degree(small_graph_of([]), SecondDegreeRequest(**given_), SCRATCH)  # type: ignore[arg-type]
    assert caught.value.code == code
