"""Related tweets against their formulas over a model of the window."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.batch import snowflake_id
from engine.errors import RequestError
from engine.interaction_graph import related
from engine.interaction_graph.related import (
    RelatedTweets,
    RelatedTweetsConfig,
    RelatedTweetsRequest,
    related_to_author,
    related_to_tweet,
    related_to_users,
)
from engine.interaction_graph.similarity import CountScratch, SharedTweets
from engine.interaction_graph.similarity_kernels import count_shared

from .dense import assert_ranked, modelled, ops_of
from .model import Model, Op, small_graph_of

SCRATCH = CountScratch()
#: The production rules, scaled to a graph of a dozen people.
CONFIG = RelatedTweetsConfig(
    query_degree_min=3,
    user_degree_max=9,
    degree_min=3,
    tweet_cooccurrence_min=2,
    author_cooccurrence_min=3,
    users_cooccurrence_min=2,
    age_ms_max=50_000,
    age_of="first_edge",
)
TWEETS = list(range(1, 15))
OPS = ops_of(16, TWEETS)
PEOPLE = st.lists(st.integers(1, 20), min_size=3, max_size=30)


def brute(model: Model, people: set[int], scale: float, shared_min: int, above: float) -> list[tuple[int, float, int]]:
    counts = Counter(t for u in people for t in {t for t, kind, _ in model.neighbors(u, "user") if kind in (1, 2)})
    found = []
    for t, count in counts.items():
        edges = model.neighbors(t, "tweet")
        young = edges and (model.watermark - edges[-1][2]) * 1000 <= CONFIG.age_ms_max
        if count >= shared_min and len(edges) >= CONFIG.degree_min and young:
            score = scale * count / math.log(len(edges))
            if score > above:
                found.append((t, score, count))
    return found


def agree(found: SharedTweets, expected: list[tuple[int, float, int]]) -> None:
    columns = (found.tweet_ids, found.scores, found.cooccurrences)
    assert_ranked(list(zip(*(column.tolist() for column in columns), strict=True)), expected, 200)


@settings(deadline=None, max_examples=150)
@given(OPS, st.sampled_from(TWEETS), PEOPLE, st.lists(st.sampled_from(TWEETS), max_size=2))
def test_are_the_brute_force(ops: list[Op], tweet: int, given_people: list[int], excluded: list[int]) -> None:
    graph, model = modelled(ops)
    request = RelatedTweetsRequest(excluded_tweet_ids=excluded)

    def degree(user: int) -> int:
        return len(model.neighbors(user, "user"))

    edges = model.neighbors(tweet, "tweet")
    expected = []
    if len(edges) >= 3:
        people = {u for u, kind, _ in edges if kind in (1, 2) and degree(u) <= 9}
        scale = len(edges) / math.log(len(edges)) / max(1, len(people))
        expected = [row for row in brute(model, people, scale, 2, 0.5) if row[0] not in (tweet, *excluded)]
    agree(related_to_tweet(graph, tweet, request, CONFIG, SCRATCH), expected)

    followers = {u for u in given_people if 2 <= degree(u) <= 9}
    expected = brute(model, followers, 1000 / max(1, len(followers)), 3, 0.0)
    found = related_to_author(graph, given_people, request, CONFIG, SCRATCH)
    agree(found, [row for row in expected if row[0] not in excluded])
    assert found.stats.people == len(followers)

    users = {u for u in given_people if degree(u) <= 9}
    expected = brute(model, users, 1000 / max(1, len(users)), 2, 0.0)
    found = related_to_users(graph, given_people, request, CONFIG, SCRATCH)
    agree(found, [row for row in expected if row[0] not in excluded])


@settings(deadline=None, max_examples=100)
@given(
    OPS,
    st.lists(st.sampled_from(TWEETS), max_size=5, unique=True),
    st.lists(st.sampled_from(TWEETS), max_size=2),
    st.integers(0, 6),
)
def test_several_tweets_are_the_sum_of_each(ops: list[Op], tweets: list[int], excluded: list[int], most: int) -> None:
    graph, _ = modelled(ops)
    config = RelatedTweetsConfig(query_degree_min=1, degree_min=1, tweet_cooccurrence_min=1, age_of="last_edge")
    request = RelatedTweetsRequest(excluded_tweet_ids=excluded, results_max=most, seed=3)
    sums: dict[int, float] = {}
    for tweet in tweets:
        each = RelatedTweetsRequest(excluded_tweet_ids=excluded, seed=3)
        found = related_to_tweet(graph, tweet, each, config, CountScratch())
        for other, score in zip(found.tweet_ids.tolist(), found.scores.tolist(), strict=True):
            sums[other] = sums.get(other, 0.0) + score
    expected = sorted(sums.items(), key=lambda pair: (-pair[1], pair[0]))[: most or config.results_max]
    ids, scores = RelatedTweets(graph, config).of(np.array(tweets, np.uint64), request, SCRATCH)
    assert list(zip(ids.tolist(), scores.tolist(), strict=True)) == expected


#: Production reads a tweet's age off its id; here ids need not carry their time.
PRODUCTION = RelatedTweetsConfig(age_of="snowflake")


def test_the_defaults_are_those_of_production() -> None:
    """60 people like the query and tweet 60 each: popular enough, shared by three and young enough, or left out."""
    now_ms = 1_700_000_000_000
    query, good, unpopular, old, rare = (
        snowflake_id(now_ms - age, i) for i, age in enumerate((0, 0, 0, 49 * 3_600_000, 0))
    )
    second = now_ms // 1000
    ops = []
    for u in range(1, 61):
        ops += [Op(u, t, 1, second) for t in (query, good, old)]
    ops += [Op(u, unpopular, 1, second) for u in range(1, 51)]
    ops += [Op(u, rare, 1, second) for u in (1, 2)] + [Op(u, rare, 1, second) for u in range(100, 160)]
    # Person 60 has more than 99 edges and does not count.
    ops += [Op(60, 10_000 + i, 2, second) for i in range(120)]
    graph = small_graph_of(ops)
    found = related_to_tweet(graph, query, RelatedTweetsRequest(), PRODUCTION, SCRATCH)
    assert found.tweet_ids.tolist() == [good]
    assert found.stats.people == 59
    assert found.scores.tolist() == pytest.approx([60 / math.log(60) / 59 * 59 / math.log(60)])
    assert related_to_tweet(graph, rare, RelatedTweetsRequest(), PRODUCTION, SCRATCH).stats.people == 62
    assert len(related_to_tweet(graph, 10_001, RelatedTweetsRequest(), PRODUCTION, SCRATCH).tweet_ids) == 0

    followers = [*range(1, 60), 100, 777]
    found = related_to_author(graph, followers, RelatedTweetsRequest(), PRODUCTION, SCRATCH)
    assert found.tweet_ids.tolist() == sorted([query, good])
    # Person 100 has one edge, 777 none: neither counts.
    assert found.scores.tolist() == pytest.approx([1000 / 59 * 59 / math.log(60)] * 2)
    found = related_to_users(graph, followers, RelatedTweetsRequest(), PRODUCTION, SCRATCH)
    # Here both do, and three share the rare tweet.
    assert found.tweet_ids.tolist() == [*sorted([query, good]), rare]
    assert found.scores.tolist() == pytest.approx([1000 / 61 * 59 / math.log(60)] * 2 + [1000 / 61 * 3 / math.log(62)])


def test_only_the_first_followers_are_taken() -> None:
    graph, _ = modelled([Op(u, t, 1, 5) for u in range(1, 12) for t in (1, 2, 3)])
    config = RelatedTweetsConfig(followers_max=5, degree_min=1, author_cooccurrence_min=1, age_of="last_edge")
    found = related_to_author(graph, list(range(1, 12)), RelatedTweetsRequest(), config, SCRATCH)
    assert found.stats.people == 5
    assert found.cooccurrences.tolist() == [5, 5, 5]


def test_a_sample_of_the_people_has_the_expectation_of_all() -> None:
    ops = [Op(u, 1, 1, 5) for u in range(1, 201)] + [Op(u, 2, 1, 5) for u in range(1, 101)]
    graph = small_graph_of(ops)
    config = RelatedTweetsConfig(sampled_users_max=50, degree_min=1, age_of="first_edge")
    runs = [related_to_tweet(graph, 1, RelatedTweetsRequest(seed=s), config, SCRATCH) for s in range(50)]
    assert {run.stats.people for run in runs} == {50}
    # People 1 to 100 are the older half of the list; equal steps take 25 of them, give or take the one at the border.
    assert all(abs(int(run.cooccurrences[0]) - 25) <= 1 for run in runs)
    assert np.mean([run.scores[0] for run in runs]) == pytest.approx(200 / math.log(200) / 2 / math.log(100), rel=0.02)


@pytest.mark.parametrize(
    ("users", "options", "code"),
    [
        (range(1, 1002), {}, "too_much_work"),
        ([-1], {}, "bad_similarity_option"),
        ([1], {"results_max": -1}, "bad_similarity_option"),
        ([1], {"seed": -1}, "bad_similarity_option"),
        ([1], {"time_ms": -1}, "bad_similarity_option"),
    ],
)
def test_bad_requests_have_a_name(users: list[int], options: dict[str, int], code: str) -> None:
    with pytest.raises(RequestError) as caught:
        related_to_users(small_graph_of([]), users, RelatedTweetsRequest(**options), RelatedTweetsConfig(), SCRATCH)
    assert caught.value.code == code
    with pytest.raises(RequestError) as caught:
        related_to_tweet(small_graph_of([]), 0, RelatedTweetsRequest(), RelatedTweetsConfig(), SCRATCH)
    assert caught.value.code == "bad_similarity_option"


def test_nobody_has_nothing() -> None:
    graph = small_graph_of([Op(1, 2, 1, 3)])
    for found in (
        related_to_users(graph, [], RelatedTweetsRequest(), RelatedTweetsConfig(), SCRATCH),
        related_to_author(graph, [0, 0, 7], RelatedTweetsRequest(), RelatedTweetsConfig(), SCRATCH),
    ):
        assert len(found.tweet_ids) == 0


def test_edge_kinds_name_their_types() -> None:
    assert RelatedTweetsConfig().edge_types == 0b110
    assert RelatedTweetsConfig(edge_kinds=("create", "mention", "media_tag", "quote")).edge_types == 0b11110000


def test_one_signature() -> None:
    related.warm()
    assert len(count_shared.signatures) == 1


def test_a_score_of_nothing_is_not_above_nothing() -> None:
    # ln 1 = 0: an infinite factor counts as 0, so a tweet of one edge scores 0.
    graph = small_graph_of([Op(1, 10, 1, 1), Op(1, 11, 1, 1), Op(2, 11, 1, 1)])
    config = RelatedTweetsConfig(degree_min=1, users_cooccurrence_min=1)
    found = related_to_users(graph, [1, 2], RelatedTweetsRequest(), config, SCRATCH)
    assert found.tweet_ids.tolist() == [11]
    assert found.scores.tolist() == pytest.approx([1000 / 2 * 2 / math.log(2)])
