"""Whose tweets a viewer's feed looks at: the strongest ties, and together with them the newest follows."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.in_network.kernels import order_by_ties
from engine.social_graph.state import SocialGraph

Ids = NDArray[np.uint64]
#: Strengths of a viewer's ties to people at a time (viewer, people, time in ms): float32 (n), greater is stronger.
Strengths = Callable[[int, Ids, int], NDArray[np.float32]]

#: Of so many followees, the newest, ties are compared; older ones are left out.
COMPARED_MAX = 1 << 16
#: Where not all followees fit, every so many-th place is for the newest follows, however weak these ties are yet.
NEWEST_SHARE = 5


class Followees(NamedTuple):
    """``ids``: uint64 (n), strongest tie first, of equal ones the newest follow (in the order of the log).

    ``strength``: float32 (n), of the ties. ``relation``: uint8 (n), ``Relation`` bits without ``FOLLOWED_BY``.
    ``left_out``: how many others the viewer follows.
    """

    ids: Ids
    strength: NDArray[np.float32]
    relation: NDArray[np.uint8]
    left_out: int


def followees_of(
    social_graph: SocialGraph, strengths: Strengths, viewer_id: int, time_ms: int, followees_max: int
) -> Followees:
    """At most ``followees_max`` of the people whom a viewer follows.

    Where there are more, a fifth of the places goes to the newest follows, the others to the strongest ties.
    """
    count = social_graph.followee_count(viewer_id)
    ids, relation = social_graph.followees_with_relation(viewer_id, min(count, max(followees_max, COMPARED_MAX)))
    strength = strengths(viewer_id, ids, time_ms)
    order = np.empty(len(ids), np.int32)
    chosen = order[: int(order_by_ties(strength, followees_max, NEWEST_SHARE, order, np.empty_like(order)))]
    return Followees(ids[chosen], strength[chosen], relation[chosen], count - len(chosen))
