"""Top second degree by count of users, hashtags and URLs, against brute forces with every option."""

from collections import defaultdict
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.batch import Kind, make_batch, snowflake_id
from engine.errors import RequestError
from engine.interaction_graph.entity_graph import EntityGraph, EntityGraphConfig, EntityType
from engine.interaction_graph.salsa import SalsaScratch
from engine.interaction_graph.second_degree import SecondDegreeRequest
from engine.interaction_graph.second_degree_entities import EntitiesResult, second_degree_entities
from engine.interaction_graph.second_degree_users import UsersRequest, UsersResult, second_degree_users
from engine.interaction_graph.state import InteractionGraph
from engine.interaction_graph.user_graph import UserEdgeType, UserGraph, UserGraphConfig

from .model import Op, small_graph_of
from .test_second_degree import OPS, REQUESTS, START, START_MS, TWEETS, brute, ids

SCRATCH = (SalsaScratch(), SalsaScratch())
HASHTAG, URL = EntityType.HASHTAG, EntityType.URL

Proof = tuple[int, int, list[int]]


# Users

USER_KINDS = {Kind.FOLLOW: UserEdgeType.FOLLOW, Kind.MENTION: UserEdgeType.MENTION}
USER_ROWS = st.lists(
    st.tuples(
        st.sampled_from([Kind.FOLLOW, Kind.FOLLOW, Kind.MENTION, Kind.MEDIA_TAG, Kind.UNFOLLOW, Kind.BLOCK]),
        st.integers(1, 9),
        st.integers(1, 9),
        st.integers(START, START + 200),
    ),
    max_size=70,
)
SEEDS = st.lists(
    # Powers of two add up exactly in any order, so that scores can be compared for equality.
    st.tuples(st.integers(1, 11), st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.0])),
    min_size=1,
    max_size=9,
    unique_by=lambda s: s[0],
)
USERS_REQUESTS = st.builds(
    lambda seeds, excluded, **rest: UsersRequest(
        seed_user_ids=ids([s for s, _ in seeds]),
        seed_weights=np.array([w for _, w in seeds], float),
        exclude_user_ids=ids(excluded),
        **rest,
    ),
    SEEDS,
    st.one_of(st.just([]), st.lists(st.integers(1, 12), unique=True, max_size=4)),
    edge_types=st.sampled_from([0xFFFF, 0b1, 0b110, 0b11]),
    results_max=st.sampled_from([1, 3, 100]),
    edges_per_seed_max=st.sampled_from([1, 4, 500]),
    proofs_max=st.sampled_from([0, 1, 3, 20]),
    users_min=st.sampled_from([0, 1, 1, 2, 3]),
    users_min_by_type=st.sampled_from([{}, {}, {0: 1}, {0: 2}, {0: 1, 1: 1}, {2: 0}]),
    users_exact=st.sampled_from([0, 0, 0, 1, 2]),
    time_ms=st.sampled_from([0, START_MS + 250_000]),
    edge_age_ms_max=st.sampled_from([0, 0, 30_000, 100_500]),
    degree_min=st.sampled_from([0, 0, 2, 3]),
)


def user_graph_of(rows: list[tuple[Kind, int, int, int]], **config: int) -> UserGraph:
    graph = UserGraph(UserGraphConfig(**{"users_max": 16, "edges_max": 128} | config))  # type: ignore[arg-type]
    named = [kind in (Kind.MENTION, Kind.MEDIA_TAG) for kind, *_ in rows]
    graph.apply(
        make_batch(
            kind=[kind for kind, *_ in rows],
            user_id=[target if n else source for n, (_, source, target, _) in zip(named, rows, strict=True)],
            subject_id=[900 if n else target for n, (_, _, target, _) in zip(named, rows, strict=True)],
            author_id=[source if n else 0 for n, (_, source, _, _) in zip(named, rows, strict=True)],
            timestamp_ms=[second * 1000 for *_, second in rows],
        )
    )
    return graph


def brute_users(graph: UserGraph, r: UsersRequest) -> list[tuple[int, float, int, list[tuple[int, int]]]]:
    now_ms = r.time_ms or graph.watermark_ms
    weights = dict(zip(r.seed_user_ids.tolist(), r.seed_weights.tolist(), strict=True))
    proofs: dict[int, set[tuple[int, int]]] = defaultdict(set)
    for seed in weights:
        columns = (column.tolist() for column in graph.neighbors_of_user(seed, r.edges_per_seed_max))
        for user, kind, time_ms in zip(*columns, strict=True):
            if r.edge_types >> kind & 1 and not (r.edge_age_ms_max and time_ms < now_ms - r.edge_age_ms_max):
                proofs[user].add((seed, kind))
    found = []
    for user, proof in proofs.items():
        distinct = len({seed for seed, _ in proof})
        by_type = {kind: len({s for s, k in proof if k == kind}) for kind in range(16)}
        if (
            user in r.exclude_user_ids.tolist()
            or distinct < r.users_min
            or (r.users_exact and distinct != r.users_exact)
            or any(by_type[kind] < least for kind, least in r.users_min_by_type.items())
            or graph.tweet_degree(user) < r.degree_min
        ):
            continue
        listed = sorted(proof, key=lambda p: (-weights[p[0]], p[0], p[1]))[: r.proofs_max]
        found.append((user, sum(weights[s] for s, _ in proof), distinct, listed))
    return sorted(found, key=lambda row: (-row[1], row[0]))[: r.results_max]


def user_rows(result: UsersResult) -> list[tuple[int, float, int, list[tuple[int, int]]]]:
    return [
        (
            int(result.user_ids[i]),
            float(result.scores[i]),
            int(result.users[i]),
            list(zip(result.proof_user_ids[i, :n].tolist(), result.proof_types[i, :n].tolist(), strict=True)),
        )
        for i, n in enumerate(result.proof_counts.tolist())
    ]


@settings(max_examples=300)
@given(USER_ROWS, USERS_REQUESTS, st.sampled_from([3, 1024]), st.sampled_from([20, 128]))
def test_users_are_the_brute_force(
    rows: list[tuple[Kind, int, int, int]], request: UsersRequest, degree_max: int, edges_max: int
) -> None:
    graph = user_graph_of(rows, degree_max=degree_max, edges_max=edges_max)
    assert user_rows(second_degree_users(graph, request, SCRATCH[0])) == brute_users(graph, request)


def test_every_type_that_needs_users_must_have_them() -> None:
    rows = [(Kind.FOLLOW, 1, 5, START), (Kind.FOLLOW, 2, 5, START), (Kind.FOLLOW, 1, 6, START)]
    rows += [(Kind.MENTION, 3, 6, START)]
    graph = user_graph_of(rows)
    request = UsersRequest(seed_user_ids=ids([1, 2, 3]), seed_weights=np.ones(3))
    for least, expected in (({}, [5, 6]), ({0: 2}, [5]), ({0: 1, 1: 1}, [6]), ({2: 1}, [])):
        asked = msgspec.structs.replace(request, users_min_by_type=least)
        assert second_degree_users(graph, asked, SCRATCH[0]).user_ids.tolist() == expected


# Hashtags and URLs

ENTITIES = st.lists(st.tuples(st.sampled_from(TWEETS), st.sampled_from([HASHTAG, URL]), st.integers(1, 5)), max_size=40)


def entity_graph_of(carried: list[tuple[int, EntityType, int]], deleted: tuple[int, ...] = (), **config: int) -> Any:
    graph = EntityGraph(
        EntityGraphConfig(**{"entities_max": 16, "tweets_max": 16, "edges_max": 64} | config)  # type: ignore[arg-type]
    )
    graph.apply(
        make_batch(
            kind=[Kind.URL if kind is URL else Kind.HASHTAG for _, kind, _ in carried] + [Kind.DELETE] * len(deleted),
            subject_id=[tweet for tweet, _, _ in carried] + list(deleted),
            context_id=[entity for _, _, entity in carried] + [0] * len(deleted),
            timestamp_ms=[START_MS + i for i in range(len(carried) + len(deleted))],
        )
    )
    return graph


def brute_entities(
    graph: InteractionGraph, entities: EntityGraph, r: SecondDegreeRequest, kind: EntityType, tweets_max: int
) -> list[tuple[int, float, int, int, list[Proof]]]:
    """Tweets by the brute force of tweets, with no least proof; then what they carry."""
    # What authors may prove is a rule of tweets: a union of all types lets every tweet through.
    free = msgspec.structs.replace(
        r, users_min=1, users_min_by_type={}, type_unions=(0xFFFF,), users_exact=0, results_max=2500, proofs_max=10**6
    )
    weights = dict(zip(r.seed_user_ids.tolist(), r.seed_weights.tolist(), strict=True))
    scores: dict[int, float] = defaultdict(float)
    carrying: dict[int, set[int]] = defaultdict(set)
    proofs: dict[int, dict[tuple[int, int], set[int]]] = defaultdict(lambda: defaultdict(set))
    for tweet, score, _, proof in brute(graph, free):
        hashes, types, _ = entities.neighbors_of_tweet(tweet, 999)
        for entity in {e for e, k in zip(hashes.tolist(), types.tolist(), strict=True) if k == kind}:
            scores[entity] += score
            carrying[entity].add(tweet)
            for pair in proof:
                proofs[entity][pair].add(tweet)
    found = []
    for entity, by_pair in proofs.items():
        users = {k: {s for s, k2 in by_pair if k2 == k} for k in range(16)}
        distinct = len({s for s, _ in by_pair})
        enough = any(
            len(users[k]) >= need > 0
            for k in range(16)
            if r.edge_types >> k & 1
            for need in [r.users_min_by_type.get(k, max(1, r.users_min))]
        ) or any(len({s for s, k in by_pair if u >> k & 1}) >= max(1, r.users_min) for u in r.type_unions)
        if not enough or (r.users_exact and distinct != r.users_exact):
            continue
        pairs = sorted(by_pair, key=lambda p: (-weights[p[0]], p[0], p[1]))[: r.proofs_max]
        # A seed's tweets by its newest engagement of that type with them: that is, as they first come in its list.
        listed = [(s, k, sorted(by_pair[s, k], key=lambda t: first_at(graph, s, k, t))) for s, k in pairs]
        shown = [(s, k, tweets[:tweets_max]) for s, k, tweets in listed]
        found.append((entity, scores[entity], distinct, len(carrying[entity]), shown))
    return sorted(found, key=lambda row: (-row[1], row[0]))[: r.results_max]


def first_at(graph: InteractionGraph, seed: int, kind: int, tweet: int) -> int:
    tweets, types, _ = graph.neighbors_of_user(seed, 10**6)
    return next(i for i, pair in enumerate(zip(tweets.tolist(), types.tolist(), strict=True)) if pair == (tweet, kind))


def entity_rows(result: EntitiesResult) -> list[tuple[int, float, int, int, list[Proof]]]:
    return [
        (
            int(result.hashes[i]),
            float(result.scores[i]),
            int(result.users[i]),
            int(result.tweets[i]),
            [
                (
                    int(result.proof_user_ids[i, j]),
                    int(result.proof_types[i, j]),
                    [t for t in result.proof_tweet_ids[i, j].tolist() if t],
                )
                for j in range(n)
            ],
        )
        for i, n in enumerate(result.proof_counts.tolist())
    ]


@settings(max_examples=300)
@given(
    OPS,
    ENTITIES,
    st.lists(st.sampled_from(TWEETS), max_size=2),
    REQUESTS,
    st.sampled_from([HASHTAG, URL]),
    st.sampled_from([0, 1, 2, 50]),
    st.sampled_from([12, 64]),
)
def test_entities_are_the_brute_force(
    ops: list[Op],
    carried: list[tuple[int, EntityType, int]],
    deleted: list[int],
    request: SecondDegreeRequest,
    kind: EntityType,
    tweets_max: int,
    edges_max: int,
) -> None:
    graph = small_graph_of(ops)
    entities = entity_graph_of(carried, tuple(deleted), edges_max=edges_max)
    result = second_degree_entities(graph, entities, request, kind, tweets_max, SCRATCH)
    assert entity_rows(result) == brute_entities(graph, entities, request, kind, tweets_max)


def test_a_seed_counts_once_a_tweet_and_type_and_is_one_user() -> None:
    liked, retweeted = 1, 2
    ops = [Op(1, TWEETS[0], liked, START), Op(1, TWEETS[0], liked, START + 1), Op(1, TWEETS[1], liked, START + 2)]
    ops += [Op(1, TWEETS[1], retweeted, START + 3), Op(2, TWEETS[1], liked, START + 4)]
    carried = [(TWEETS[0], HASHTAG, 7), (TWEETS[1], HASHTAG, 7), (TWEETS[1], HASHTAG, 7), (TWEETS[1], URL, 7)]
    request = SecondDegreeRequest(seed_user_ids=ids([1, 2]), seed_weights=np.array([1.0, 0.5]))
    graph, entities = small_graph_of(ops), entity_graph_of(carried)
    expected = [
        (7, 3.5, 2, 2, [(1, liked, [TWEETS[1], TWEETS[0]]), (1, retweeted, [TWEETS[1]]), (2, liked, [TWEETS[1]])])
    ]
    assert entity_rows(second_degree_entities(graph, entities, request, HASHTAG, 9, SCRATCH)) == expected
    undone = small_graph_of([*ops, Op(2, TWEETS[1], 8, START + 9)])
    found = entity_rows(second_degree_entities(undone, entities, request, HASHTAG, 9, SCRATCH))
    assert found == [(7, 3.0, 1, 2, expected[0][4][:2])]
    result = second_degree_entities(graph, entities, request, URL, 9, SCRATCH)
    assert (result.seeds, result.edges_read, result.tweets_counted, result.entities) == (2, 5, 2, 1)


def test_many_entities_are_the_brute_force_too() -> None:
    rng = np.random.default_rng(4)
    tweets = [snowflake_id(START_MS, i) for i in range(400)]
    pairs = zip(rng.integers(1, 60, 3000).tolist(), rng.integers(0, 400, 3000).tolist(), strict=True)
    graph = small_graph_of([Op(user, tweets[t], 1 + t % 2, START + i) for i, (user, t) in enumerate(pairs)])
    carried = [(tweets[t], HASHTAG, int(e)) for t in range(400) for e in rng.integers(1, 300, 3)]
    entities = entity_graph_of(carried, entities_max=512, tweets_max=512, edges_max=2048)
    scratch = (SalsaScratch(), SalsaScratch())
    for seeds in (40, 3):
        request = SecondDegreeRequest(
            seed_user_ids=ids(list(range(1, seeds + 1))), seed_weights=np.ones(seeds), results_max=500, proofs_max=7
        )
        result = second_degree_entities(graph, entities, request, HASHTAG, 2, scratch)
        assert result.entities == len(result.hashes)
        assert entity_rows(result) == brute_entities(graph, entities, request, HASHTAG, 2)
    assert len(scratch[0].ints) < 1 << 20


@pytest.mark.parametrize(("tweets_max", "results_max", "proofs_max"), [(-1, 5, 5), (101, 5, 5), (100, 2500, 100)])
def test_tweets_of_proofs_are_bounded(tweets_max: int, results_max: int, proofs_max: int) -> None:
    request = SecondDegreeRequest(
        seed_user_ids=ids([1]), seed_weights=np.ones(1), results_max=results_max, proofs_max=proofs_max
    )
    with pytest.raises(RequestError) as caught:
        second_degree_entities(small_graph_of([]), entity_graph_of([]), request, URL, tweets_max, SCRATCH)
    assert caught.value.code == "bad_count_option"


def test_pairs_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.interaction_graph.second_degree_entities.PAIRS_MAX", 3)
    request = SecondDegreeRequest(seed_user_ids=ids([1, 2]), seed_weights=np.ones(2))
    graph = small_graph_of([Op(user, TWEETS[0], 1, START) for user in (1, 2)])
    for entities, code in ((1, None), (2, "too_many_seeds")):
        room = entity_graph_of([(TWEETS[0], URL, e + 1) for e in range(entities)])
        if code is None:
            assert len(second_degree_entities(graph, room, request, URL, 1, SCRATCH).hashes) == 1
            continue
        with pytest.raises(RequestError) as caught:
            second_degree_entities(graph, room, request, URL, 1, SCRATCH)
        assert caught.value.code == code


def test_bad_seeds_of_users_have_names() -> None:
    with pytest.raises(RequestError) as caught:
        second_degree_users(user_graph_of([]), UsersRequest(seed_user_ids=ids([]), seed_weights=np.ones(0)), SCRATCH[0])
    assert caught.value.code == "bad_seeds"
