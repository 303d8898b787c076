"""Facts about accounts, and the prior that follows from them: how likely the random reader jumps to each account.

Formulas: X's ``UserMass.scala`` (docs/reputation.md).
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.exact_math import exp, log
from engine.kernels.jit import inlined, kernel
from engine.profiles.bits import ProfileBit, ProfileState
from engine.profiles.state import Known

VERIFIED_MASS = 100.0
MASS_BASE, MASS_WITH_DEVICE = 0.05, 0.5
MASS_MIN = 0.01
RESTRICTED_FACTOR = 0.1
#: Accounts older than this have their full mass.
YOUNG_DAYS_MAX = 30.0
AGE_SCALE_DAYS = 15.0
#: More followings than this, at more than ``RATIO_MAX`` followings per follower, lower the mass.
FOLLOWINGS_MAX = 500
RATIO_MAX = 0.6
RATIO_SLOPE = 5.0
#: e to this power is near the largest float64: it keeps the penalty of a very great ratio finite.
EXPONENT_MAX = 700.0
_DAY_MS = 86_400_000.0


class Accounts(NamedTuple):
    """Facts about n accounts, in the order of their ids.

    ``suspended``, ``deactivated``, ``verified``, ``restricted``, ``has_device``: bool (n). ``age_days``: float64 (n).
    """

    suspended: NDArray[np.bool_]
    deactivated: NDArray[np.bool_]
    verified: NDArray[np.bool_]
    restricted: NDArray[np.bool_]
    has_device: NDArray[np.bool_]
    age_days: NDArray[np.float64]

    def take(self, which: NDArray[np.bool_]) -> "Accounts":
        """The accounts of a mask, bool (n)."""
        return Accounts(
            self.suspended[which],
            self.deactivated[which],
            self.verified[which],
            self.restricted[which],
            self.has_device[which],
            self.age_days[which],
        )


def known_accounts(known: Known, clock_ms: int) -> Accounts:
    """Facts about accounts, from what profiles say of them; ages are as of ``clock_ms``.

    Unknown facts have neutral values: not suspended, not deactivated, not verified, and of full age. No profile says
    whether an account is restricted or has a device: none is, and all have one.
    """
    state = known.bits >> np.uint64(ProfileBit.STATE_SHIFT) & np.uint64(3)
    size = known.bits.size
    age_days = np.where(known.created_ms > 0, (clock_ms - known.created_ms) / _DAY_MS, np.inf)
    return Accounts(
        suspended=state == ProfileState.SUSPENDED,
        deactivated=(state == ProfileState.DEACTIVATED) | (state == ProfileState.ERASED),
        verified=(known.bits & np.uint64(ProfileBit.VERIFIED)) != 0,
        restricted=np.zeros(size, np.bool_),
        has_device=np.ones(size, np.bool_),
        age_days=age_days,
    )


@inlined
def mass_of(suspended: Any, verified: Any, restricted: Any, has_device: Any, age_days: Any) -> Any:
    """Mass of one account, 0 to 100, before the penalty for many followings."""
    if suspended:
        return 0.0
    if verified:
        return VERIFIED_MASS
    mass = MASS_BASE + (MASS_WITH_DEVICE if has_device else 0.0)
    if age_days <= YOUNG_DAYS_MAX:
        mass *= min(1.0, log(1.0 + max(age_days, 0.0) / AGE_SCALE_DAYS))
    mass = max(mass, MASS_MIN)
    if restricted:
        mass *= RESTRICTED_FACTOR
    return min(max(mass, 0.0), 1.0) * 100.0


@inlined
def ratio_of(followings: Any, followers: Any) -> Any:
    """Followings per follower, each number increased by one."""
    return (1.0 + followings) / (1.0 + followers)


@kernel
def _masses(accounts: Any, followings: Any, starts: Any, out: Any) -> Any:
    """Write every account's mass into ``out`` (float64, n); returns the sum, added in order."""
    total = 0.0
    for i in range(out.shape[0]):
        mass = mass_of(
            accounts.suspended[i],
            accounts.verified[i],
            accounts.restricted[i],
            accounts.has_device[i],
            accounts.age_days[i],
        )
        ratio = ratio_of(followings[i], starts[i + 1] - starts[i])
        if followings[i] > FOLLOWINGS_MAX and ratio > RATIO_MAX:
            mass /= exp(min(RATIO_SLOPE * (ratio - RATIO_MAX), EXPONENT_MAX))
        out[i] = mass
        total += mass
    return total


def prior_of(accounts: Accounts, followings: NDArray[np.int32], starts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Every account's share of the mass: float64 (n), sum 1; equal shares if no account has mass.

    ``followings`` and ``starts`` as in ``Follows``.
    """
    mass = np.empty(followings.size)
    total = _masses(accounts, followings, starts, mass)
    if total <= 0.0:
        return np.full(followings.size, 1.0 / max(1, followings.size))
    mass /= total
    return mass
