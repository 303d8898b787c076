"""From rank to a score of 0 to 100 that people can read.

Formulas: X's ``Reputation.scala`` (docs/reputation.md).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.exact_math import exp, log
from engine.kernels.jit import inlined, kernel
from engine.reputation.accounts import EXPONENT_MAX, RATIO_MAX, ratio_of

#: The rank of an account with more followings than this is divided, by at most ``DIVISOR_MAX``.
FOLLOWINGS_MAX = 2500
DIVISOR_MAX = 50.0
RATIO_SLOPE = 3.0
#: Ranks below this score 0.
RANK_MIN = 1e-20
SCORE_BASE, SCORE_SLOPE, SCORE_MAX = 130.0, 5.21, 100.0
#: The score of an account without a reputation.
GOODWILL = 17
#: Accounts of the network that ``SCORE_BASE`` and ``SCORE_SLOPE`` were fitted to. X's source does not state it; with
#: this number an account of usual prior that nobody follows scores 16, close to ``GOODWILL``.
ACCOUNTS_REFERENCE = 300_000_000.0


@inlined
def divisor_of(followings: Any, followers: Any) -> Any:
    """The divisor of an account's rank, 1 to 50; above 1 only for accounts that follow very many."""
    if followings <= FOLLOWINGS_MAX:
        return 1.0
    exponent = RATIO_SLOPE * (ratio_of(followings, followers) - RATIO_MAX) * log(log(np.float64(followings)))
    return min(max(exp(min(exponent, EXPONENT_MAX)), 1.0), DIVISOR_MAX)


@inlined
def score_of(rank: Any, shift: Any) -> Any:
    """Score of a rank; halves round to even. ``shift`` is ``shift_of`` the number of accounts."""
    if rank < RANK_MIN:
        return 0.0
    return min(max(np.rint(SCORE_BASE + SCORE_SLOPE * log(rank) + shift), 0.0), SCORE_MAX)


@inlined
def shift_of(accounts: Any) -> Any:
    """The term that makes scores independent of the network's size N: the mean rank, 1/N, has one score for all N."""
    return SCORE_SLOPE * log(accounts / ACCOUNTS_REFERENCE)


@kernel
def _scores(rank: Any, followings: Any, starts: Any, out: Any) -> Any:
    """Write every account's score into ``out`` (uint8, n)."""
    n = rank.shape[0]
    shift = shift_of(np.float64(n))
    for i in range(n):
        out[i] = np.uint8(score_of(rank[i] / divisor_of(followings[i], starts[i + 1] - starts[i]), shift))


def scores_of(rank: NDArray[np.float64], followings: NDArray[np.int32], starts: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Scores, uint8 (n), 0 to 100. ``rank``: float64 (n); ``followings`` and ``starts`` as in ``Follows``."""
    out = np.empty(rank.size, np.uint8)
    if rank.size:
        _scores(rank, followings, starts, out)
    return out
