"""Kernels that choose whose tweets a viewer's feed looks at."""

from typing import Any

import numpy as np

from engine.kernels.jit import inlined, kernel


@inlined
def _sort(order: Any, spare: Any, low: Any, high: Any, strength: Any) -> None:
    """Sort the places ``low`` … ``high`` of ``order`` by strength, greatest first; equal ones keep their order: a
    bottom-up merge sort that leaves alone what is in order already. ``spare``: as long as ``order``."""
    width = np.int64(1)
    while width < high - low:
        for begin in range(low, high, 2 * width):
            middle, end = min(begin + width, high), min(begin + 2 * width, high)
            if middle == end or strength[order[middle - 1]] >= strength[order[middle]]:
                continue
            left, right = begin, middle
            for at in range(begin, end):
                if left < middle and (right == end or strength[order[left]] >= strength[order[right]]):
                    spare[at] = order[left]
                    left += 1
                else:
                    spare[at] = order[right]
                    right += 1
            for at in range(begin, end):
                order[at] = spare[at]
        width *= 2


@kernel
def order_by_ties(strength: Any, most: Any, newest_share: Any, order: Any, spare: Any) -> Any:
    """Write the places of at most ``most`` followees into ``order`` (int32, n), strongest tie first, of equal ones the
    newest follow; returns how many.

    ``strength`` float32 (n,): of followees, newest follow first. Where there are more than ``most``, one place in
    ``newest_share`` is for the newest follows, the others are for the strongest ties. ``spare``: int32 (n,), scratch.
    """
    n = np.int64(strength.shape[0])
    for i in range(n):
        order[i] = i
    if n > most:
        newest = np.int64(most // newest_share)
        _sort(order, spare, newest, n, strength)
        # By place again, so that among equal ties the newest follow comes first.
        for i in range(n):
            spare[i] = 0
        for i in range(most):
            spare[order[i]] = 1
        kept = np.int64(0)
        for i in range(n):
            if spare[i] == 1:
                order[kept] = i
                kept += 1
        n = kept
    _sort(order, spare, np.int64(0), n, strength)
    return n


def warm() -> None:
    """Compile the kernel on the real types."""
    order_by_ties(np.zeros(2, np.float32), 1, 5, np.zeros(2, np.int32), np.zeros(2, np.int32))
