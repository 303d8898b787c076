"""The invariants of interests (slow: tests and the debug flag)."""

import numpy as np

from engine.errors import InvariantError
from engine.interests.arrays import LANGUAGES, TAGS, Interests
from engine.kernels.id_map import SIZE
from engine.kernels.ordered_places import AFTER, BEFORE


def check(s: Interests) -> None:
    """Verify people, places, lists and their order against each other.

    Raises:
        InvariantError: state that must not exist.
    """
    people = int(s.ids.header[SIZE])
    used = np.flatnonzero(s.ids.keys)
    if len(used) != people:
        raise InvariantError(f"interests: {len(used)} places are used by {people} people")
    node, seen = int(s.order[0, AFTER]), list[int]()
    while node:
        if len(seen) > people or s.order[s.order[node, AFTER], BEFORE] != node:
            raise InvariantError(f"interests: the order is broken at place {node - 1}")
        seen.append(node - 1)
        node = int(s.order[node, AFTER])
    if sorted(seen) != used.tolist():
        raise InvariantError("interests: the order does not have everybody once")
    for name, held, column in (("tags", s.tags, TAGS), ("languages", s.languages, LANGUAGES)):
        places = np.arange(held.shape[1]) < s.sizes[:, column, None]
        if ((held != 0) != places).any():
            raise InvariantError(f"interests: {name} where there are none, or none where there are some")
    free = s.ids.keys == 0
    if s.sizes[free].any() or s.times_ms[free].any():
        raise InvariantError("interests: a free place says something")
