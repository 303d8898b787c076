"""PageRank against a dense linear solve, and what its result may depend on."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.batch import Kind, make_batch
from engine.profiles.bits import ProfileBit, ProfileState
from engine.profiles.state import ProfileRoom, ProfilesConfig
from engine.reputation.accounts import known_accounts, prior_of
from engine.reputation.compute import compute
from engine.reputation.follows import follows_of, without
from engine.reputation.model import decode
from engine.reputation.page_rank import page_rank
from engine.social_graph.state import SocialGraph, SocialGraphConfig

JUMP = 0.1
TERMS = {"jump": JUMP, "iterations_max": 20, "change_max": 0.001}
EXACT = {"jump": JUMP, "iterations_max": 5000, "change_max": 1e-13}

#: Profiles of nobody.
NOBODY = ProfileRoom(ProfilesConfig(users_max=1))

edges = st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12)), max_size=60).map(
    lambda pairs: [(a, b) for a, b in dict.fromkeys(pairs) if a != b]
)


def room_of(pairs, *, unfollowed=(), users_max=1024, edges_max=20_000):
    room = SocialGraph(SocialGraphConfig(users_max=users_max, edges_max=edges_max, list_entries_max=10 * edges_max))
    rows = [(Kind.FOLLOW, *pair) for pair in pairs] + [(Kind.UNFOLLOW, *pair) for pair in unfollowed]
    room.apply(
        make_batch(kind=[row[0] for row in rows], user_id=[row[1] for row in rows], subject_id=[row[2] for row in rows])
    )
    room.check()
    return room


def dense(ids, pairs, prior, weights=None):
    """The fixed point of ``rank = jump · prior + (1 - jump) · (passed + dangling)``, solved as linear equations."""
    at = {int(user): i for i, user in enumerate(ids)}
    n = len(ids)
    passes = np.zeros((n, n))
    for number, (follower, followee) in enumerate(pairs):
        passes[at[followee], at[follower]] = 1.0 if weights is None else weights[number]
    out = passes.sum(axis=0)
    passes[:, out > 0] /= out[out > 0]
    passes[:, out == 0] = 1.0 / n
    return np.linalg.solve(np.eye(n) - (1 - JUMP) * passes, JUMP * prior)


def drawn(seed, people, count):
    rng = np.random.default_rng(seed)
    who, whom = (people * rng.random((2, count)) ** [[1.0], [3.0]]).astype(int) + 1
    return [(int(a), int(b)) for a, b in dict.fromkeys(zip(who.tolist(), whom.tolist(), strict=True)) if a != b]


def ranked(pairs, terms=EXACT, start=None):
    follows = follows_of(room_of(pairs).graph)
    prior = prior_of(known_accounts(NOBODY.known(follows.ids), 0), follows.followings, follows.starts)
    return follows, prior, page_rank(follows, prior, prior if start is None else start, **terms)


@settings(deadline=None)
@given(pairs=edges)
def test_follows_are_those_of_the_room(pairs):
    cut = pairs[::3]
    follows = follows_of(room_of(pairs, unfollowed=cut).graph)
    left = sorted(set(pairs) - set(cut), key=lambda pair: (pair[1], pair[0]))
    assert follows.ids.tolist() == sorted({user for pair in left for user in pair})
    found = [
        (int(follows.ids[follower]), int(user))
        for i, user in enumerate(follows.ids)
        for follower in follows.followers[follows.starts[i] : follows.starts[i + 1]]
    ]
    assert found == left
    assert follows.followings.tolist() == [sum(a == user for a, _ in left) for user in follows.ids.tolist()]


@settings(deadline=None)
@given(pairs=edges, removed=st.sets(st.integers(1, 12)))
def test_removed_accounts_leave_the_follows_of_the_others(pairs, removed):
    follows = follows_of(room_of(pairs).graph)
    gone = np.isin(follows.ids, np.array(sorted(removed), np.uint64))
    kept = without(follows, gone)
    at = {int(user): i for i, user in enumerate(kept.ids)}
    left = sorted((at[b], at[a]) for a, b in pairs if a in at and b in at)
    assert kept.ids.tolist() == follows.ids[~gone].tolist()
    assert list(zip(np.repeat(np.arange(len(at)), np.diff(kept.starts)), kept.followers, strict=True)) == left
    assert kept.followings.tolist() == [sum(a == i for _, a in left) for i in range(len(at))]


@settings(deadline=None)
@given(pairs=edges.filter(bool))
def test_rank_is_the_solution_of_the_linear_system(pairs):
    follows, prior, found = ranked(pairs)
    np.testing.assert_allclose(found.rank, dense(follows.ids, pairs, prior), rtol=0, atol=1e-12)
    assert found.rank.sum() == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_rank_of_500_people_is_the_solution(seed):
    pairs = drawn(seed, 500, 4000)
    follows, prior, found = ranked(pairs)
    solution = dense(follows.ids, pairs, prior)
    np.testing.assert_allclose(found.rank, solution, rtol=1e-9)
    # With the usual terms it stops early: a last change of c leaves an error of at most c · (1 - jump) / jump.
    rough = ranked(pairs, TERMS)[2]
    assert rough.iterations <= 20
    assert rough.change <= 0.001
    assert abs(rough.rank - solution).sum() <= rough.change * (1 - JUMP) / JUMP + 1e-12


def test_two_islands_and_people_who_follow_nobody():
    pairs = [(1, 2), (2, 1), (3, 4), (5, 4)]
    follows, prior, found = ranked(pairs)
    np.testing.assert_allclose(found.rank, dense(follows.ids, pairs, prior), atol=1e-12)
    assert found.rank[3] > found.rank[2]


def test_weighted_rank_is_the_solution():
    pairs = drawn(9, 100, 600)
    follows = follows_of(room_of(pairs).graph)
    prior = prior_of(known_accounts(NOBODY.known(follows.ids), 0), follows.followings, follows.starts)
    pairs = [
        (int(follows.ids[follower]), int(user))
        for i, user in enumerate(follows.ids)
        for follower in follows.followers[follows.starts[i] : follows.starts[i + 1]]
    ]
    weights = np.random.default_rng(1).uniform(1, 9, len(pairs)).astype(np.float32)
    found = page_rank(follows, prior, prior, weights=weights, **EXACT)
    np.testing.assert_allclose(found.rank, dense(follows.ids, pairs, prior, weights), rtol=1e-9)
    ones = page_rank(follows, prior, prior, weights=np.ones(len(pairs), np.float32), **EXACT)
    np.testing.assert_allclose(ones.rank, page_rank(follows, prior, prior, **EXACT).rank, rtol=1e-12)


def test_a_warm_start_comes_to_the_same_rank_in_fewer_rounds():
    pairs = drawn(4, 400, 4000)
    before = decode(np.frombuffer(compute(room_of(pairs).graph, NOBODY, None, clock_ms=0, **TERMS).payload, np.uint8))
    pairs = pairs[40:] + drawn(5, 420, 40)
    follows, prior, cold = ranked(pairs, TERMS)
    warm = ranked(pairs, TERMS, before.ranks_of(follows.ids, prior))[2]
    assert warm.iterations < cold.iterations
    assert abs(warm.rank - cold.rank).sum() <= (warm.change + cold.change) * (1 - JUMP) / JUMP
    exact = ranked(pairs, EXACT)[2], ranked(pairs, EXACT, before.ranks_of(follows.ids, prior))[2]
    np.testing.assert_allclose(exact[0].rank, exact[1].rank, atol=1e-12)


@settings(deadline=None)
@given(pairs=edges, order=st.randoms(use_true_random=False))
def test_same_follows_give_same_bytes_in_whatever_order_they_came(pairs, order):
    shuffled = [*pairs, (90, 91), (91, 90)]
    order.shuffle(shuffled)
    one = compute(room_of(pairs).graph, NOBODY, None, clock_ms=0, **TERMS)
    other = compute(room_of(shuffled, unfollowed=[(90, 91), (91, 90)]).graph, NOBODY, None, clock_ms=0, **TERMS)
    assert one == other


def test_nobody_follows_anybody():
    computed = compute(room_of([]).graph, NOBODY, None, clock_ms=0, **TERMS)
    model = decode(np.frombuffer(computed.payload, np.uint8))
    assert model.ids.size == 0
    assert model.reputation(np.array([1, 2], np.uint64)).tolist() == [17, 17]


def test_profiles_decide_who_has_mass():
    profiles = ProfileRoom(ProfilesConfig(users_max=8))
    day_ms = 86_400_000
    bits = {
        2: ProfileBit.VERIFIED,
        3: ProfileState.SUSPENDED << ProfileBit.STATE_SHIFT,
        4: ProfileState.DEACTIVATED << ProfileBit.STATE_SHIFT,
        5: 0,
    }
    profiles.apply(
        make_batch(
            kind=[Kind.USER] * 4, user_id=list(bits), context_id=list(bits.values()), timestamp_ms=[1] * 4,
            author_id=[0, 0, 0, 99 * day_ms],
        )
    )  # fmt: skip
    accounts = known_accounts(profiles.known(np.arange(1, 6, dtype=np.uint64)), 100 * day_ms)
    assert accounts.verified.tolist() == [False, True, False, False, False]
    assert accounts.suspended.tolist() == [False, False, True, False, False]
    assert accounts.age_days.tolist() == [np.inf, np.inf, np.inf, np.inf, 1.0]
    pairs = [(1, 2), (2, 3), (3, 4), (4, 5), (1, 5)]
    computed = compute(room_of(pairs).graph, profiles, None, clock_ms=100 * day_ms, **TERMS)
    model = decode(np.frombuffer(computed.payload, np.uint8))
    assert model.ids.tolist() == [1, 2, 3, 5], "the deactivated are left out"
    unknown = decode(np.frombuffer(compute(room_of(pairs).graph, NOBODY, None, clock_ms=0, **TERMS).payload, np.uint8))
    assert model.ranks[1] > unknown.ranks[1], "the verified have more mass"
