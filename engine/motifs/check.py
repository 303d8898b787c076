"""The invariants of the room ``motifs``, in plain Python (slow)."""

import numpy as np

from engine.errors import InvariantError
from engine.kernels.id_map import SIZE, lookup
from engine.motifs import arrays


def _require(truth: object, message: str) -> None:
    if not truth:
        raise InvariantError(f"motifs: {message}")


def check(m: arrays.Motifs) -> None:
    """Verify the arrays against each other.

    Raises:
        InvariantError: the first thing found that must not be.
    """
    for name, rings in (("follows", m.follows), ("engagements", m.engagements)):
        _check_rings(name, rings)
    _require(not m.follows.author.any(), "a person has an author")


def _check_rings(name: str, rings: arrays.Rings) -> None:
    keys = rings.targets.keys
    _require(np.count_nonzero(keys) == rings.targets.header[SIZE], f"{name}: another number of rings than counted")
    for ring, key in enumerate(keys.tolist()):
        actors = rings.actor[ring][rings.actor[ring] != 0].tolist()
        if key == 0:
            columns = (rings.author, rings.actor, rings.time_ms, rings.acts, rings.links)
            _require(not any(column[ring].any() for column in columns), f"{name}: ring {ring} is unused but not zero")
            continue
        _require(lookup(rings.targets, key) == ring, f"{name}: ring {ring} cannot be found by its target")
        _require(actors, f"{name}: ring {ring} has no actor")
        _require(rings.actor[ring, : len(actors)].tolist() == actors, f"{name}: ring {ring} has a gap")
        _require(len(set(actors)) == len(actors), f"{name}: ring {ring} has an actor twice")
        _require((rings.acts[ring, : len(actors)] & 3).all(), f"{name}: ring {ring} has an actor without an act")
    order: list[int] = []
    at, newer = int(rings.ends[arrays.NEWEST]), 0
    while at and len(order) <= len(keys):
        order.append(at - 1)
        _require(rings.links[at - 1, 0] == newer, f"{name}: the order is not the same in both directions")
        newer, at = at, int(rings.links[at - 1, 1])
    _require(sorted(order) == np.flatnonzero(keys).tolist(), f"{name}: the order has not each ring once")
    _require(int(rings.ends[arrays.OLDEST]) == (order[-1] + 1 if order else 0), f"{name}: another ring is the oldest")
