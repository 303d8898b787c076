"""Places of a room in the order of their last update, as a doubly linked list around row 0.

``order``: int32 (n + 1, 2). Row p + 1 is place p; row 0 holds the list's ends: its AFTER is the place that was updated
longest ago, its BEFORE the newest. (``recency`` is such an order where the links share rows with other columns.)
"""

from typing import Any

import numpy as np

from engine.kernels.jit import inlined

#: Columns: the neighbors updated before and after, as row numbers.
BEFORE, AFTER = 0, 1


@inlined
def link_place(order: Any, place: Any) -> Any:
    """Put a place, which is not in the list, at its newest end."""
    node, newest = place + 1, np.int64(order[0, BEFORE])
    order[node, BEFORE] = newest
    order[node, AFTER] = 0
    order[newest, AFTER] = node
    order[0, BEFORE] = node


@inlined
def unlink_place(order: Any, place: Any) -> Any:
    """Take a place out of the list."""
    node = place + 1
    before, after = np.int64(order[node, BEFORE]), np.int64(order[node, AFTER])
    order[before, AFTER] = after
    order[after, BEFORE] = before
    order[node, BEFORE] = 0
    order[node, AFTER] = 0
