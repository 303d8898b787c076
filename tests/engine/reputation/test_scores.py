"""Mass, adjustment and scale at every boundary of their rules, and the model's bytes."""

import math

import numpy as np
import pytest

from engine.errors import InvariantError
from engine.profiles.state import Known
from engine.reputation.accounts import Accounts, known_accounts, prior_of
from engine.reputation.model import Reputations, decode, encode
from engine.reputation.score import ACCOUNTS_REFERENCE, GOODWILL, scores_of

SHIFT = 5.21


def accounts(n, **facts):
    known = known_accounts(Known(np.zeros(n, np.uint64), np.zeros(n, np.int64)), 0)
    return known._replace(**{name: np.full(n, value, getattr(known, name).dtype) for name, value in facts.items()})


def share(one, *, followings=0, followers=0):
    """The mass of an account, measured beside a verified one (100) without followings."""
    both = Accounts(*(np.concatenate(pair) for pair in zip(one, accounts(1, verified=True), strict=True)))
    starts = np.array([0, followers, followers])
    prior = prior_of(both, np.array([followings, 0], np.int32), starts)
    assert prior.sum() == pytest.approx(1.0)
    return prior[0] / prior[1] * 100


@pytest.mark.parametrize(
    ("facts", "mass"),
    [
        ({}, 55.0),
        ({"suspended": True, "verified": True}, 0.0),
        ({"verified": True, "restricted": True}, 100.0),
        ({"has_device": False}, 5.0),
        ({"age_days": 30.0}, 55.0),
        ({"age_days": 30.5}, 55.0),
        ({"age_days": 15.0}, 55.0 * math.log(2.0)),
        ({"age_days": 25.0}, 55.0 * math.log(1.0 + 25 / 15)),
        ({"age_days": 26.0}, 55.0),
        ({"age_days": 0.0}, 1.0),
        ({"age_days": -3.0}, 1.0),
        ({"age_days": 0.1, "has_device": False}, 1.0),
        ({"age_days": 0.0, "restricted": True}, 0.1),
        ({"restricted": True}, 5.5),
    ],
)
def test_mass_of_facts(facts, mass):
    assert share(accounts(1, **facts)) == pytest.approx(mass, rel=1e-12)


@pytest.mark.parametrize(
    ("followings", "followers", "divisor"),
    [
        (500, 0, 1.0),
        (501, 1000, 1.0),
        (501, 501, math.exp(5 * 0.4)),
        # 600 / 1000 is the limit itself.
        (599, 999, 1.0),
        (600, 999, math.exp(5 * 0.001)),
        (501, 0, math.exp(700)),
    ],
)
def test_following_many_and_followed_by_few_lowers_the_mass(followings, followers, divisor):
    assert share(accounts(1), followings=followings, followers=followers) == pytest.approx(55.0 / divisor, rel=1e-9)


def test_a_ratio_beyond_all_numbers_leaves_no_mass_and_no_infinity():
    assert 0.0 <= share(accounts(1), followings=2_000_000_000) < 1e-290


def test_nobody_with_mass_shares_equally():
    assert prior_of(accounts(4, suspended=True), np.zeros(4, np.int32), np.zeros(5, np.int64)).tolist() == [0.25] * 4
    assert prior_of(accounts(0), np.zeros(0, np.int32), np.zeros(1, np.int64)).size == 0


def score(rank, *, followings=0, followers=0):
    """The score where the network has one account, unshifted again."""
    starts = np.array([0, followers])
    return int(scores_of(np.array([rank]), np.array([followings], np.int32), starts)[0])


def expected(rank):
    return int(min(max(np.rint(130 + SHIFT * math.log(rank) + SHIFT * math.log(1 / ACCOUNTS_REFERENCE)), 0), 100))


@pytest.mark.parametrize("rank", [1.0, 0.5, 1e-3, 1e-4, 2e-3])
def test_score_of_a_rank(rank):
    assert score(rank) == expected(rank)


def test_score_is_bounded():
    assert score(9.99e-21) == 0
    assert score(1e-20) == 0
    starts = np.zeros(2, np.int64)
    many = np.array([1e30])
    assert scores_of(many, np.zeros(1, np.int32), starts).tolist() == [100]


def test_ranks_below_the_least_score_nothing_whatever_the_shift():
    # In a network as large as the formula's own the formula itself gives 0 long before.
    assert 130 + SHIFT * math.log(1e-20) < 0


def test_a_mean_rank_scores_the_same_in_every_network():
    for n in (1, 7, 1000, 100_000):
        scores = scores_of(np.full(n, 1 / n), np.zeros(n, np.int32), np.zeros(n + 1, np.int64))
        assert set(scores.tolist()) == {28}


def test_nobodys_follower_scores_beside_the_goodwill():
    # The prior alone: jump / N.
    assert abs(score(0.1) - GOODWILL) <= 1


@pytest.mark.parametrize(
    ("followings", "followers", "divisor"),
    [
        (2500, 0, 1.0),
        (2501, 2501, math.exp(3 * 0.4 * math.log(math.log(2501)))),
        (2501, 2_000_000, 1.0),
        # The divisor reaches its limit where the ratio is 0.6 + ln 50 / (3 ln ln 2501) = 1.234.
        (2501, 2100, math.exp(3 * (2502 / 2101 - 0.6) * math.log(math.log(2501)))),
        (2501, 1900, 50.0),
        (2501, 0, 50.0),
        (2_000_000_000, 0, 50.0),
    ],
)
def test_following_very_many_divides_the_rank(followings, followers, divisor):
    for rank in (1.0, 0.5, 0.1, 0.02):
        assert score(rank, followings=followings, followers=followers) == expected(rank / divisor)


def model():
    return Reputations(
        np.array([5, 9, 2**64 - 1], np.uint64),
        np.array([0.5, 0.25, 0.25], np.float32),
        np.array([90, 40, 0], np.uint8),
    )


def test_bytes_say_what_was_encoded():
    read = decode(np.frombuffer(encode(model()), np.uint8))
    for got, meant in zip(read, model(), strict=True):
        assert got.dtype == meant.dtype
        assert got.tolist() == meant.tolist()
    asked = np.array([9, 1, 2**64 - 1, 6, 5], np.uint64)
    assert read.reputation(asked).tolist() == [40, 17, 0, 17, 90]
    assert [read.position(user) for user in (5, 9, 10, 2**64 - 1)] == [0, 1, -1, 2]


def test_known_ranks_start_where_they_were():
    known = model().ranks_of(np.array([4, 5, 9], np.uint64), np.full(3, 0.25))
    assert known.tolist() == [0.25, 0.5, 0.25]
    assert model().ranks_of(np.array([4], np.uint64), np.array([1.0])).tolist() == [1.0]


def test_nonsense_in_a_model_is_not_believed():
    wrong = model()._replace(
        ranks=np.array([np.nan, -1.0, np.inf], np.float32), scores=np.array([101, 255, 100], np.uint8)
    )
    read = decode(np.frombuffer(encode(wrong), np.uint8))
    assert read.reputation(wrong.ids).tolist() == [100, 100, 100]
    assert [read.rank_at(position) for position in range(3)] == [0.0, 0.0, 0.0]
    prior = np.array([0.5, 0.25, 0.25])
    assert read.ranks_of(wrong.ids, prior).tolist() == prior.tolist()
    disorder = decode(np.frombuffer(encode(model()._replace(ids=model().ids[::-1].copy())), np.uint8))
    disorder.reputation(wrong.ids)
    assert np.isfinite(disorder.ranks_of(wrong.ids, prior)).all()


def test_other_bytes_are_refused():
    payload = encode(model())
    for wrong in (payload[:-1], payload + b"\0", b"", payload[:7]):
        with pytest.raises(InvariantError, match="reputation model"):
            decode(np.frombuffer(wrong, np.uint8))
