"""Checks the invariants of locale_follows, in plain Python (slow)."""

import numpy as np

from engine.errors import InvariantError
from engine.kernels.rng import mix64
from engine.locale_follows import arrays as a


def _require(truth: object, message: str) -> None:
    if not truth:
        raise InvariantError(f"locale_follows: {message}")


def check(s: a.Follows) -> None:
    """Verify the arrays against each other.

    Raises:
        InvariantError: names the first invariant that does not hold.
    """
    held = s.people != 0
    _require((s.counts[held] > 0).all() and (s.counts >= 0).all(), "a count is not positive")
    _require(not s.counts[~held].any() and not s.times_ms[~held].any(), "a free place is not clear")
    used = np.flatnonzero(s.locales.keys)
    for table in range(len(s.totals)):
        start, places = int(a.first_place(s, np.int64(table))), int(a.places_of(s, np.int64(table)))
        people = s.people[start : start + places]
        at = np.flatnonzero(people)
        _require(len(set(people[at].tolist())) == len(at), f"table {table} has a person twice")
        homes = [int(mix64(person)) & (places // a.BUCKET - 1) for person in people[at]]
        _require((at // a.BUCKET == homes).all(), f"table {table} has a person in another bucket")
        if table and table - 1 not in used:
            _require(not len(at) and s.totals[table] == 0, f"table {table} is of no locale")
