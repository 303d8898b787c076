"""Each source against brute force over dictionaries of sets, and walks against dense matrices."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.batch import Kind, make_batch
from engine.pipeline.scratch import Buffers
from engine.who_to_follow import sources
from engine.who_to_follow.config import CircleConfig
from engine.who_to_follow.walks import circle_of, salsa
from tests.engine.who_to_follow.conftest import CONFIG, T0, query_of, state_of
from tests.oracles import who_to_follow as oracle

VIEWER = 1
PEOPLE = st.integers(1, 12)
FOLLOWS = st.lists(st.tuples(PEOPLE, PEOPLE).filter(lambda pair: pair[0] != pair[1]), max_size=70, unique=True)
ACTS = st.lists(st.tuples(PEOPLE, PEOPLE).filter(lambda pair: pair[0] != pair[1]), max_size=12)


def fetched(source, state, query):
    """What a source finds, by person; its order is that of the scores, then of the ids."""
    made = source(sources.Context(state, CONFIG.who_to_follow))
    if not made.enabled(query, 0):
        return {}
    ids, scores = made.fetch(query)
    pairs = list(zip(ids.tolist(), scores.tolist(), strict=True))
    assert pairs == sorted(pairs, key=lambda pair: (-pair[1], pair[0]))
    return dict(pairs)


@settings(max_examples=60, deadline=None)
@given(FOLLOWS, ACTS)
def test_every_source_finds_what_brute_force_finds(follows, acts):
    state, graph = state_of(follows, acts), oracle.Graph(follows)
    query = query_of(state, VIEWER)
    weight = {}
    for who in {who for who, _ in follows}:
        others = np.arange(1, 13).astype(np.uint64)
        strengths = state.real_graph.strength(who, others, query.ranked_ms)
        weight |= {(who, int(o)): 1 + 1.97 * float(s) for o, s in zip(others, strengths, strict=True)}
    seeds = query.nameable.tolist()
    weight |= {(VIEWER, seed): w for seed, w in zip(seeds, query.tie_weights.tolist(), strict=True)}
    assert sorted(seeds) == sorted(graph.follows[VIEWER])
    assert fetched(sources.TwoHop, state, query) == pytest.approx(oracle.two_hop(graph, VIEWER, weight))
    assert fetched(sources.Triangles, state, query) == pytest.approx(oracle.triangles(graph, VIEWER) if seeds else {})
    assert fetched(sources.Mutual, state, query) == oracle.mutual(graph, VIEWER)
    assert fetched(sources.Similar, state, query) == pytest.approx(oracle.similar(graph, VIEWER, seeds[:10]))
    counts = graph.strangers(VIEWER, oracle.Counter(c for s in graph.follows[VIEWER] for c in graph.follows[s]))
    assert fetched(sources.RecentFollows, state, query) == {c: n for c, n in counts.items() if n >= 2}


@settings(max_examples=60, deadline=None)
@given(FOLLOWS, ACTS, st.sampled_from([1e-9, 1e-3, 0.05]))
def test_the_circle_is_personalized_page_rank_within_what_is_left_and_salsa_is_exact(follows, acts, residual_min):
    state, graph = state_of(follows, acts), oracle.Graph(follows)
    query, buffers = query_of(state, VIEWER), Buffers()
    config = CircleConfig(residual_min=residual_min)
    social, weights = state.social_graph, query.tie_weights
    circle = circle_of(social, VIEWER, query.nameable, weights, config, buffers)
    if not graph.follows[VIEWER]:
        assert not len(circle.people)
        return
    exact = oracle.page_rank(
        graph, VIEWER, dict(zip(query.nameable.tolist(), weights.tolist(), strict=True)), config.reset
    )
    assert residual_min > 1e-9 or circle.left < 1e-6
    for person, rank in zip(circle.people.tolist(), circle.ranks.tolist(), strict=True):
        assert -1e-9 <= exact[person] - rank <= circle.left + 1e-9
    assert VIEWER not in circle.people.tolist()
    sums = salsa(social, circle, sources.left_out(query), config, buffers)
    found = {p: s for p, s in zip(sums.people.tolist(), sums.sums.tolist(), strict=True) if s > 0}
    ranks = dict(zip(circle.people.tolist(), circle.ranks.tolist(), strict=True))
    dense = oracle.salsa(graph, VIEWER, ranks, config.reset, config.rounds)
    assert found == pytest.approx(dense)


def test_spreading_is_bounded_and_says_what_it_left():
    follows = [(1, other) for other in range(2, 60)] + [(a, b) for a in range(2, 60) for b in range(100, 140)]
    state = state_of(follows)
    query, buffers = query_of(state, VIEWER), Buffers()
    config = CircleConfig(follows_max=200, follows_each_max=10)
    circle = circle_of(state.social_graph, VIEWER, query.nameable, query.tie_weights, config, buffers)
    assert 0.1 < circle.left < 1
    assert float(circle.ranks.sum()) + circle.left <= 1.0 + 1e-9


def test_who_liked_looked_and_has_contacts():
    state = state_of([(1, 2)], [(1, 3), (1, 3), (1, 4), (1, 2), (5, 6)])
    for n, whose in enumerate([7, 7, 7, 8, 8]):  # looks at profiles, each from another tweet
        tweet = 70 + n
        state.apply(make_batch(kind=[Kind.CREATE, Kind.PROFILE_CLICK], id=[900 + n, 950 + n], user_id=[whose, 1],
                               subject_id=[tweet] * 2, author_id=[whose] * 2, timestamp_ms=[T0, T0 + 1]))  # fmt: skip
    state.apply(make_batch(kind=[Kind.CONTACT], id=[2000], user_id=[1], subject_id=[9], timestamp_ms=[T0]))
    query = query_of(state, VIEWER)
    assert fetched(sources.Engaged, state, query) == {3: 2.0, 7: 3.0, 4: 1.0}
    assert fetched(sources.Contacts, state, query) == {9: 2.0}
    assert fetched(sources.Contacts, state, query_of(state, 9)) == {1: 1.0}


def test_who_knows_nobody_gets_whom_many_follow_where_the_viewer_is():
    en, de, us, at = 5 | 14 << 5, 4 | 5 << 5, 21 | 19 << 5, 1 | 20 << 5
    state = state_of([])

    def profile(who, language, country):
        state.apply(make_batch(kind=[Kind.USER], id=[who], user_id=[who], timestamp_ms=[T0],
                               context_id=[language << 16 | country << 32]))  # fmt: skip

    for who in range(100, 110):
        profile(who, de if who < 105 else en, at if who < 103 else us)
    follows = [(who, 7) for who in range(100, 105)] + [(who, 8) for who in range(105, 110)]
    follows += [(who, 9) for who in range(100, 110)]
    for n, (who, whom) in enumerate(follows):
        state.apply(make_batch(kind=[Kind.FOLLOW], id=[5000 + n], user_id=[who], subject_id=[whom],
                               timestamp_ms=[T0 + n]))  # fmt: skip
    profile(1, de, at)
    profile(2, en, 0)
    for viewer, first, then in ((1, 7, [9, 7, 8]), (2, 8, [9, 8, 7]), (3, None, [9, 7, 8])):
        query = query_of(state, viewer)
        made = sources.PopularInLocale(sources.Context(state, CONFIG.who_to_follow))
        assert made.enabled(query, 0) == (first is not None)
        if first:
            assert made.fetch(query)[0].tolist()[:1] == [first]
        popular = sources.PopularPeople(sources.Context(state, CONFIG.who_to_follow)).fetch(query)[0].tolist()
        assert set(popular) == set(then)


def test_a_server_where_nobody_follows_has_the_authors_of_what_is_popular():
    state = state_of([], [(5, 6), (7, 6), (5, 8)])
    found = sources.PopularPeople(sources.Context(state, CONFIG.who_to_follow)).fetch(query_of(state, 1))[0]
    assert set(found.tolist()) == {6, 8}
