"""The invariants of the profiles, in plain Python (slow)."""

import numpy as np

from engine.errors import InvariantError
from engine.kernels.id_map import SIZE, lookup
from engine.kernels.ordered_places import AFTER, BEFORE
from engine.profiles import arrays


def _require(truth: object, message: str) -> None:
    if not truth:
        raise InvariantError(f"profiles: {message}")


def check(p: arrays.Profiles) -> None:
    """Verify people, places and the list of ordinary profiles against each other.

    Raises:
        InvariantError: the first thing found that must not be.
    """
    known = np.flatnonzero(p.ids.keys)
    _require(len(known) == p.ids.header[SIZE], f"{len(known)} people have a place, {p.ids.header[SIZE]} are counted")
    for place in known.tolist():
        _require(lookup(p.ids, int(p.ids.keys[place])) == place, f"place {place} cannot be found by its id")
    unused = p.ids.keys == 0
    _require(not p.bits[unused].any() and not p.times_ms[unused].any(), "an unused place is not zero")
    ordinary = set(known[(p.bits[known] & arrays.SAFETY_BITS) == 0].tolist())
    _require(len(ordinary) == p.header[arrays.ORDINARY], f"{len(ordinary)} ordinary profiles are not counted right")
    before, node = 0, int(p.order[0, AFTER])
    while node:
        _require(node - 1 in ordinary, f"place {node - 1} is in the list of ordinary profiles twice or wrongly")
        _require(p.order[node, BEFORE] == before, f"place {node - 1} does not know the one before it")
        ordinary.remove(node - 1)
        before, node = node, int(p.order[node, AFTER])
    _require(not ordinary and p.order[0, BEFORE] == before, "the list of ordinary profiles is cut")
