"""Similar tweets against a brute force over a model of the window; samples against their expectation."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.batch import SNOWFLAKE_EPOCH_MS
from engine.errors import RequestError
from engine.interaction_graph import similarity, similarity_kernels
from engine.interaction_graph.similarity import (
    ENTRIES_MAX,
    AgeOf,
    CountScratch,
    Measure,
    SharedTweets,
    SimilarityRequest,
    similar_tweets,
)
from engine.interaction_graph.state import InteractionGraph

from .dense import SECONDS, assert_ranked, draw_ops, modelled, ops_of
from .model import DELETE, Model, Op, small_graph_of

SCRATCH = CountScratch()


def tweet_id(number: int) -> int:
    """A snowflake that is ``number`` seconds younger than the first."""
    return ((number * 1000) << 22) | number


IDS = [tweet_id(number) for number in range(1, 15)]
TWEETS = st.sampled_from(IDS)
OPS = ops_of(16, IDS)


def brute(model: Model, r: SimilarityRequest) -> list[tuple[int, float, int, int]]:
    """(tweet, score, co-occurrence, degree) by the definition."""

    def linked(node: int, side: str) -> set[int]:
        return {n for n, kind, _ in model.neighbors(node, side) if r.edge_types >> kind & 1}

    def degree(node: int, side: str) -> int:
        return len(model.neighbors(node, side))

    seeds = {t for t in {r.tweet_id, *r.more_tweet_ids} if t and degree(t, "tweet")}
    query = degree(r.tweet_id, "tweet")
    if query < r.query_degree_min:
        return []
    weights = Counter(user for t in seeds for user in linked(t, "tweet"))
    raw: Counter[int] = Counter()
    shared: dict[int, float] = {}
    for user, weight in weights.items():
        d = degree(user, "user")
        if d < r.neighbor_degree_min or (r.neighbor_degree_max is not None and d > r.neighbor_degree_max):
            continue
        each = {
            Measure.INVERSE_DEGREE: 1 / d if d else 0,
            Measure.ADAMIC_ADAR: math.log(2) / math.log(d) if d > 1 else 0,
        }
        for t in linked(user, "user"):
            raw[t] += weight
            shared[t] = shared.get(t, 0.0) + weight * each.get(r.measure, 1.0)
    found = []
    for t in raw.keys() - {r.tweet_id, *r.more_tweet_ids} - set(r.excluded_tweet_ids):
        d = degree(t, "tweet")
        if d == 0:
            continue
        edges = [second * 1000 for _, _, second in model.neighbors(t, "tweet")]
        born = {AgeOf.SNOWFLAKE: (t >> 22) + SNOWFLAKE_EPOCH_MS, AgeOf.FIRST_EDGE: edges[-1], AgeOf.LAST_EDGE: edges[0]}
        young = r.age_ms_max is None or r.time_ms - born[r.age_of] <= r.age_ms_max
        if raw[t] < r.cooccurrence_min or not r.degree_min <= d <= (r.degree_max or 10**9) or not young:
            continue
        union = len(seeds) * d + sum(degree(s, "tweet") for s in seeds) - raw[t]
        factor = {
            Measure.COSINE: 1 / math.sqrt(d),
            Measure.JACCARD: 1 / union if union > 0 else 0,
            Measure.ADAMIC_ADAR: 1 / (math.sqrt(d) * math.sqrt(abs(d - query) + 1)),
        }
        found.append((t, shared[t] * factor.get(r.measure, 1.0), raw[t], d))
    return found


def rows(found: SharedTweets) -> list[tuple[int, float, int, int]]:
    columns = (found.tweet_ids, found.scores, found.cooccurrences, found.degrees)
    return list(zip(*(column.tolist() for column in columns), strict=True))


MEASURES = [m for m in Measure if m is not Measure.LOG_DEGREE]
REQUESTS = st.builds(
    SimilarityRequest,
    tweet_id=TWEETS,
    more_tweet_ids=st.lists(TWEETS, max_size=3),
    measure=st.sampled_from(MEASURES),
    edge_types=st.sampled_from([0xFFFF, 0xFFFF, 0b10, 0b1100]),
    neighbor_degree_min=st.integers(0, 3),
    neighbor_degree_max=st.none() | st.integers(3, 12),
    query_degree_min=st.sampled_from([1, 1, 2, 5]),
    cooccurrence_min=st.sampled_from([1, 1, 2, 3]),
    degree_min=st.integers(0, 6),
    degree_max=st.none() | st.integers(4, 15),
    excluded_tweet_ids=st.lists(TWEETS, max_size=2),
    results_max=st.sampled_from([3, 100]),
)


@settings(deadline=None, max_examples=250)
@given(OPS, REQUESTS)
def test_is_the_brute_force(ops: list[Op], request: SimilarityRequest) -> None:
    graph, model = modelled(ops)
    found = rows(similar_tweets(graph, request, SCRATCH))
    expected = brute(model, request)
    assert_ranked([row[:3] for row in found], [row[:3] for row in expected], request.results_max)
    degrees = {row[0]: row[3] for row in expected}
    assert [row[3] for row in found] == [degrees[row[0]] for row in found]


@settings(deadline=None, max_examples=100)
@given(OPS, TWEETS, st.sampled_from(list(AgeOf)), st.integers(0, 40))
def test_age_by_id_or_by_edges(ops: list[Op], tweet: int, age_of: AgeOf, age_s: int) -> None:
    graph, model = modelled(ops)
    now_ms = SNOWFLAKE_EPOCH_MS + 10_000 if age_of is AgeOf.SNOWFLAKE else SECONDS * 1000
    request = SimilarityRequest(
        tweet_id=tweet, measure=Measure.OVERLAP, age_of=age_of, age_ms_max=age_s * 1000, time_ms=now_ms
    )
    assert sorted(rows(similar_tweets(graph, request, SCRATCH))) == sorted(brute(model, request))


def test_the_cases_are_not_empty() -> None:
    found = 0
    for seed in range(60):
        graph, _ = modelled(draw_ops(seed, 16, IDS, 150))
        found += len(similar_tweets(graph, SimilarityRequest(tweet_id=IDS[seed % 14]), SCRATCH).tweet_ids) > 3
    assert found > 40


def test_ages_count_from_the_newest_event_unless_told() -> None:
    graph = small_graph_of([Op(1, 10, 1, 100), Op(1, 11, 1, 50), Op(1, 12, 1, 110)])
    for age_s, wanted in ((60, [11, 12]), (59, [12])):
        request = SimilarityRequest(tweet_id=10, age_of=AgeOf.FIRST_EDGE, age_ms_max=age_s * 1000)
        assert similar_tweets(graph, request, SCRATCH).tweet_ids.tolist() == wanted


def test_jaccard_is_a_share_even_with_parallel_edges_and_several_seeds() -> None:
    ops = [Op(u, t, kind, 1) for u in range(1, 6) for t in (10, 11, 12) for kind in (1, 2, 3)]
    found = similar_tweets(
        small_graph_of(ops),
        SimilarityRequest(tweet_id=10, more_tweet_ids=[11], measure=Measure.JACCARD),
        SCRATCH,
    )
    assert found.tweet_ids.tolist() == [12]
    assert found.cooccurrences.tolist() == [10]
    # 2 · 5 people in common; 15 edges each of the two seeds and twice of the result.
    assert found.scores.tolist() == pytest.approx([10 / (2 * 15 + 30 - 10)])


def test_deleted_and_unknown_tweets_have_nothing() -> None:
    graph = small_graph_of([Op(1, 10, 1, 1), Op(1, 11, 1, 1), Op(1, 10, DELETE, 2)])
    for tweet in (10, 999, 2**64 - 1):
        found = similar_tweets(graph, SimilarityRequest(tweet_id=tweet, more_tweet_ids=[11]), SCRATCH)
        assert len(found.tweet_ids) == 0
    found = similar_tweets(graph, SimilarityRequest(tweet_id=11), SCRATCH)
    assert found.tweet_ids.tolist() == []
    assert found.stats == (1, 1, 1, 2, 1, 0)


def test_a_deleted_tweet_left_in_a_list_is_no_result() -> None:
    # Two of three edges fell out of the tweet's list, so the delete cannot find them in the people's.
    ops = [Op(u, 10, 1, u) for u in (1, 2, 3)] + [Op(u, 11, 1, 5) for u in (1,)] + [Op(9, 10, DELETE, 6)]
    graph = small_graph_of(ops, tweet_degree_max=1)
    assert graph.neighbors_of_user(1, 9)[0].tolist() == [11, 10]
    assert similar_tweets(graph, SimilarityRequest(tweet_id=11, degree_min=0), SCRATCH).tweet_ids.tolist() == []


def sampled_graph() -> InteractionGraph:
    """Tweet 1 has 40 people; person u also has u % 7 + 3 tweets of 30, each once."""
    rng = np.random.default_rng(5)
    ops = [Op(u, 1, 1, u) for u in range(1, 41)]
    for u in range(1, 41):
        ops += [Op(u, int(t) + 2, 1, int(rng.integers(1, 100))) for t in rng.permutation(30)[: u % 7 + 3]]
    return small_graph_of(ops)


def test_each_edge_of_a_long_list_is_as_likely() -> None:
    # Each person leads to a tweet of their own, so the results tell who was drawn.
    graph = small_graph_of([Op(u, t, 1, u) for u in range(1, 24) for t in (1, 100 + u)])
    times, limit = 3000, 9
    drawn: Counter[int] = Counter()
    for seed in range(times):
        found = similar_tweets(graph, SimilarityRequest(tweet_id=1, neighbors_max=limit, seed=seed), SCRATCH)
        assert found.stats.people == limit
        assert len(set(found.tweet_ids.tolist())) == limit
        drawn.update(found.tweet_ids.tolist())
    share = limit / 23
    error = math.sqrt(share * (1 - share) / times)
    assert set(drawn) == {100 + u for u in range(1, 24)}
    assert all(abs(count / times - share) < 5 * error for count in drawn.values())


def test_samples_have_the_exact_expectation() -> None:
    graph = sampled_graph()
    everybody = {u: graph.neighbors_of_user(u, 99)[0].tolist() for u in range(1, 41)}
    limits = {"neighbors_max": 25, "samples_max": 6, "measure": Measure.OVERLAP}
    expected: Counter[int] = Counter()
    for tweets in everybody.values():
        for t in tweets:
            expected[t] += 25 / 40 * min(1.0, 6 / len(tweets))  # type: ignore[assignment]
    counts = np.zeros((1500, 40))
    for seed in range(len(counts)):
        found = similar_tweets(graph, SimilarityRequest(tweet_id=1, seed=seed, **limits), SCRATCH)
        assert found.stats.entries_read <= 25 + 25 * 6
        counts[seed, found.tweet_ids.astype(np.int64)] = found.scores
    errors = counts.std(axis=0) / math.sqrt(len(counts))
    for t in range(2, 32):
        assert abs(counts[:, t].mean() - expected[t]) < 5 * errors[t]


def test_the_seed_decides_and_nothing_else() -> None:
    graph = sampled_graph()

    def ask(seed: int, more: list[int], scratch: CountScratch) -> list[bytes]:
        request = SimilarityRequest(tweet_id=1, more_tweet_ids=more, neighbors_max=20, samples_max=5, seed=seed)
        return [column.tobytes() for column in similar_tweets(graph, request, scratch)[:4]]

    dirty = CountScratch()
    dirty.fit(1 << 16, 1 << 16)
    dirty.ints[:] = -7
    dirty.floats[:] = np.nan
    assert ask(3, [4, 5], SCRATCH) == ask(3, [5, 4, 5, 1], dirty)
    assert ask(3, [4, 5], SCRATCH) != ask(4, [4, 5], SCRATCH)


def test_limits_at_the_degree_are_exact() -> None:
    graph = sampled_graph()
    whole = similar_tweets(graph, SimilarityRequest(tweet_id=1), SCRATCH)
    for seed in (1, 2):
        request = SimilarityRequest(tweet_id=1, neighbors_max=40, samples_max=10, seed=seed)
        assert rows(similar_tweets(graph, request, SCRATCH)) == rows(whole)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"tweet_id": 0}, "bad_similarity_option"),
        ({"tweet_id": -1}, "bad_similarity_option"),
        ({"tweet_id": 1 << 64}, "bad_similarity_option"),
        ({"more_tweet_ids": [-5]}, "bad_similarity_option"),
        ({"excluded_tweet_ids": ["x"]}, "bad_similarity_option"),
        ({"measure": Measure.LOG_DEGREE}, "bad_similarity_option"),
        ({"measure": 6}, "bad_similarity_option"),
        ({"age_of": 3}, "bad_similarity_option"),
        ({"excluded_tweet_ids": range(1, 100_002)}, "too_much_work"),
        ({"neighbors_max": 0}, "bad_similarity_option"),
        ({"samples_max": 0}, "bad_similarity_option"),
        ({"neighbor_degree_min": -1}, "bad_similarity_option"),
        ({"neighbor_degree_max": -1}, "bad_similarity_option"),
        ({"query_degree_min": 0}, "bad_similarity_option"),
        ({"cooccurrence_min": 0}, "bad_similarity_option"),
        ({"degree_max": -1}, "bad_similarity_option"),
        ({"age_ms_max": -1}, "bad_similarity_option"),
        ({"time_ms": -1}, "bad_similarity_option"),
        ({"results_max": 0}, "bad_similarity_option"),
        ({"results_max": 2501}, "bad_similarity_option"),
        ({"seed": 1 << 64}, "bad_similarity_option"),
        ({"neighbors_max": 2000, "samples_max": 1000}, "too_much_work"),
        ({"more_tweet_ids": range(2, 100), "neighbors_max": 200, "samples_max": 200}, "too_much_work"),
        ({"neighbors_max": ENTRIES_MAX}, "too_much_work"),
    ],
)
def test_bad_requests_have_a_name(options: dict[str, object], code: str) -> None:
    with pytest.raises(RequestError) as caught:
        similar_tweets(small_graph_of([]), SimilarityRequest(**{"tweet_id": 1} | options), SCRATCH)  # type: ignore[arg-type]
    assert caught.value.code == code


def test_the_largest_request_fits() -> None:
    ops = [Op(u, t, 1, 1) for u in range(1, 40) for t in range(1, 40)]
    graph = small_graph_of(ops)
    request = SimilarityRequest(tweet_id=1, neighbors_max=1990, samples_max=1000, results_max=2500)
    assert similar_tweets(graph, request, CountScratch()).cooccurrences.tolist() == [39] * 38


def test_one_signature() -> None:
    similarity.warm()
    assert len(similarity_kernels.count_shared.signatures) == 1
