"""Decision trees as arrays, evaluated in a fixed order: the same float64 sums on every machine.

A node is at its feature's threshold: a row whose value is at most the threshold goes left, a greater one right, and one
without a value (NaN) where ``missing_left`` says. These are the rules of scikit-learn's histogram trees.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.exact_math import exp
from engine.kernels.jit import kernel


class Trees(NamedTuple):
    """A forest of k trees with n nodes in all.

    ``roots``: int32 (k + 1), where each tree's nodes begin, its root first; n at the end. ``threshold``: float64 (n).
    ``value``: float64 (n), of leaves. ``left``, ``right``: int32 (n), the next node; of a leaf the node itself, else a
    later node of the same tree. ``feature``: uint8 (n). ``missing_left``: uint8 (n), 0 or 1.
    """

    roots: NDArray[np.int32]
    threshold: NDArray[np.float64]
    value: NDArray[np.float64]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    feature: NDArray[np.uint8]
    missing_left: NDArray[np.uint8]


@kernel
def probabilities(trees: Any, first: Any, last: Any, base: Any, rows: Any, which: Any, out: Any) -> None:
    """The logistic function of ``base`` (float64) plus the values of the trees from ``first`` to before ``last``, added
    in order, of those of ``rows`` (float64, (m, features)) where ``which`` (bool, m) is true: float64 (m), else 0."""
    left, right, threshold = trees.left, trees.right, trees.threshold
    for i in range(rows.shape[0]):
        out[i] = 0.0
        if not which[i]:
            continue
        total = base
        for tree in range(first, last):
            node = np.int64(trees.roots[tree])
            while left[node] != node:
                x = rows[i, trees.feature[node]]
                goes_left = x <= threshold[node] or (trees.missing_left[node] != 0 and x != x)
                node = np.int64(left[node]) if goes_left else np.int64(right[node])
            total += trees.value[node]
        out[i] = 1.0 / (1.0 + exp(-total))


#: What ``fault`` finds.
SOUND, BROKEN, NOT_FINITE = np.int64(0), np.int64(1), np.int64(2)


@kernel
def fault(trees: Any, features: Any, depth_max: Any, depths: Any) -> Any:
    """What is wrong with trees: ``BROKEN`` links, features that rows do not have, more than ``depth_max`` steps from a
    root; ``NOT_FINITE`` values, or thresholds that are no numbers; else ``SOUND``.

    ``depths``: int32 (nodes,), scratch. O(nodes).
    """
    nodes = trees.value.shape[0]
    if trees.roots[0] != 0 or trees.roots[trees.roots.shape[0] - 1] != nodes:
        return BROKEN
    for tree in range(trees.roots.shape[0] - 1):
        start, end = np.int64(trees.roots[tree]), np.int64(trees.roots[tree + 1])
        if not 0 <= start < end <= nodes:
            return BROKEN
        for node in range(start, end):
            depths[node] = 0
        for node in range(start, end):
            left, right = np.int64(trees.left[node]), np.int64(trees.right[node])
            if trees.feature[node] >= features or trees.missing_left[node] > 1 or depths[node] > depth_max:
                return BROKEN
            if left == node and right == node:
                continue
            if not (node < left < end and node < right < end):
                return BROKEN
            depths[left] = max(depths[left], depths[node] + 1)
            depths[right] = max(depths[right], depths[node] + 1)
    for node in range(nodes):
        # A threshold may be infinite: then only rows without a value go right.
        if trees.threshold[node] != trees.threshold[node] or not abs(trees.value[node]) < np.inf:
            return NOT_FINITE
    return SOUND


def warm() -> None:
    """Compile the kernels on one leaf."""
    node, flag = np.zeros(1, np.int32), np.zeros(1, np.uint8)
    leaf = Trees(np.array([0, 1], np.int32), np.zeros(1), np.ones(1), node, node, flag, flag)
    fault(leaf, np.int64(1), np.int64(1), np.zeros(1, np.int32))
    probabilities(leaf, 0, 1, 0.0, np.zeros((1, 1)), np.ones(1, np.bool_), np.zeros(1))
