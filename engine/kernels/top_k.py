"""Exact top-k with a total order: greater score first, among equal scores the smaller id first.

A bounded heap with the worst kept element at the root; one comparison refuses most rows.
"""

from typing import Any

import numpy as np

from engine.kernels.jit import kernel


@kernel
def _worse(scores: Any, ids: Any, a: Any, b: Any) -> Any:
    """Whether row a comes after row b."""
    if scores[a] != scores[b]:
        return scores[a] < scores[b]
    return ids[a] > ids[b]


@kernel
def _sift_down(scores: Any, ids: Any, heap: Any, at: Any, size: Any) -> None:
    row = heap[at]
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        if child + 1 < size and _worse(scores, ids, heap[child + 1], heap[child]):
            child += 1
        if not _worse(scores, ids, heap[child], row):
            break
        heap[at] = heap[child]
        at = child
    heap[at] = row


@kernel
def top_k(scores: Any, ids: Any, n: Any, k: Any, out: Any) -> Any:
    """Write the k best of the first n rows, best first, into ``out``; returns how many (min(n, k)).

    ``scores`` float64 (≥ n,) without NaN, ``ids`` uint64 (≥ n,) distinct, ``out`` int32 (≥ min(n, k),).
    O(n + m log k) with m the number of rows that enter the heap.
    """
    size = min(n, k)
    if size <= 0:
        return 0
    for i in range(size):
        out[i] = i
    for at in range(size // 2 - 1, -1, -1):
        _sift_down(scores, ids, out, at, size)
    for i in range(size, n):
        if _worse(scores, ids, out[0], i):
            out[0] = i
            _sift_down(scores, ids, out, 0, size)
    for end in range(size - 1, 0, -1):
        worst = out[0]
        out[0] = out[end]
        _sift_down(scores, ids, out, 0, end)
        out[end] = worst
    return size


def warm() -> None:
    """Compile every kernel of this module on the real types."""
    top_k(np.ones(2), np.arange(2, dtype=np.uint64), np.int64(2), np.int64(1), np.zeros(1, np.int32))
