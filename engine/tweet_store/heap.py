"""A bounded heap that keeps the best k of the rows offered to it: exact top-k over a stream, in O(k) memory.

Order: greater key first, among equal keys the smaller tie first. The worst kept row is at the root.
"""

from typing import Any

from engine.kernels.jit import inlined, kernel


@inlined
def _worse(keys: Any, ties: Any, a: Any, b: Any) -> Any:
    return keys[a] < keys[b] or (keys[a] == keys[b] and ties[a] > ties[b])


@inlined
def _swap(keys: Any, ties: Any, slots: Any, a: Any, b: Any) -> Any:
    keys[a], keys[b] = keys[b], keys[a]
    ties[a], ties[b] = ties[b], ties[a]
    slots[a], slots[b] = slots[b], slots[a]


@kernel
def _sink(keys: Any, ties: Any, slots: Any, size: Any) -> Any:
    """Restore the heap after its root was replaced."""
    at = 0
    while True:
        child = 2 * at + 1
        if child >= size:
            return
        if child + 1 < size and _worse(keys, ties, child + 1, child):
            child += 1
        if not _worse(keys, ties, child, at):
            return
        _swap(keys, ties, slots, at, child)
        at = child


@kernel
def offer(keys: Any, ties: Any, slots: Any, size: Any, key: Any, tie: Any, slot: Any) -> Any:
    """Offer a row to a heap of ``size`` (int64) rows; returns the new size.

    ``keys`` float64 (k) without NaN, ``ties`` uint64 (k), ``slots`` int32 (k), k ≥ 1.
    """
    if size < keys.shape[0]:
        keys[size], ties[size], slots[size] = key, tie, slot
        at = size
        while at > 0 and _worse(keys, ties, at, (at - 1) // 2):
            _swap(keys, ties, slots, at, (at - 1) // 2)
            at = (at - 1) // 2
        return size + 1
    if key > keys[0] or (key == keys[0] and tie < ties[0]):
        keys[0], ties[0], slots[0] = key, tie, slot
        _sink(keys, ties, slots, size)
    return size


@kernel
def sort(keys: Any, ties: Any, slots: Any, size: Any) -> Any:
    """Turn the heap into a sorted list, best first."""
    for end in range(size - 1, 0, -1):
        _swap(keys, ties, slots, 0, end)
        _sink(keys, ties, slots, end)
