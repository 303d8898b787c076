"""The social proof of a walk: the users from whom its last step to tweets started."""

from typing import Any

import numpy as np

from engine.interaction_graph.arrays import NODE_BITS
from engine.kernels.jit import inlined
from engine.kernels.ring_slices import degree


@inlined
def prove(g: Any, cut: Any, moved: Any, query: Any, types: Any, proofs: Any, sizes: Any, lists: Any) -> None:
    """List the users from whom the last left step reached each result: distinct (user, type), the most active first.

    Order: user's degree descending, then user id ascending, then type. The query user is never a proof.
    """
    movers, found, ranks, places = cut
    people, kinds, degrees = lists
    keys = g.user_keys.view(np.int64)
    for m in range(moved):
        place = places[ranks[m]]
        kind = (found[m] >> NODE_BITS) & 15
        if place < 0 or movers[m] == query or not (types >> kind) & 1:
            continue
        person = keys[movers[m]]
        weight = degree(g.user_records[movers[m]])
        first = place * proofs
        size = sizes[place]
        at = size
        known = False
        for i in range(size):
            j = first + i
            if people[j] == person and kinds[j] == kind:
                known = True
                break
            if at == size and (
                weight > degrees[j]
                or (
                    weight == degrees[j]
                    and (np.uint64(person) < np.uint64(people[j]) or (person == people[j] and kind < kinds[j]))
                )
            ):
                at = i
        if known or at == proofs:
            continue
        if size < proofs:
            sizes[place] += 1
        else:
            size -= 1
        for i in range(size, at, -1):
            people[first + i] = people[first + i - 1]
            kinds[first + i] = kinds[first + i - 1]
            degrees[first + i] = degrees[first + i - 1]
        people[first + at] = person
        kinds[first + at] = kind
        degrees[first + at] = weight
