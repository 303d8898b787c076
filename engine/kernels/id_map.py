"""Maps external ids (uint64) to dense indices (int32): one open-addressing table, linear probing, fixed capacity.

Keys and values lie side by side, so a look-up usually touches one cache line (the load is at most one half). Deletion
shifts the following entries back instead of leaving marks, so the table never slows down with age. Freed indices are
reused last in, first out: the same operations always give the same indices.

Id 0 means "none" everywhere and is never stored. Writers need the write side of the state lock; look-ups only read.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.kernels.jit import inlined, kernel
from engine.kernels.prefetch import prefetch
from engine.kernels.rng import mix64

#: Fields of ``IdMap.header``.
SIZE, FREE, HIGH, CAPACITY = 0, 1, 2, 3

_ZERO = np.uint64(0)
_ONE = np.uint64(1)


class IdMap(NamedTuple):
    """The arrays of a map: its complete state.

    ``slots``: (2·table,) key and index alternating, key 0 = empty, table a power of two ≥ 2·capacity.
    ``keys``: (capacity,) index → id, 0 = unused. ``free``: (capacity,) stack of freed indices.
    ``header``: (4,) size, freed indices on the stack, indices ever used, capacity.
    """

    slots: NDArray[np.uint64]
    keys: NDArray[np.uint64]
    free: NDArray[np.int32]
    header: NDArray[np.int64]


def table_size(capacity: int) -> int:
    """Slots of the table for a capacity: the power of two at or above twice the capacity."""
    return 1 << max(1, (2 * capacity - 1).bit_length())


def id_map_bytes(capacity: int) -> int:
    """Bytes of all arrays: 16 per slot, 12 per index, and 32."""
    return 16 * table_size(capacity) + 12 * capacity + 32


def make_id_map(capacity: int) -> IdMap:
    """An empty map for at most ``capacity`` ids.

    Raises:
        ValueError: capacity not in 1 … 2**30.
    """
    if not 1 <= capacity <= 1 << 30:
        raise ValueError(f"capacity {capacity} is not in 1 … {1 << 30}")
    header = np.zeros(4, np.int64)
    header[CAPACITY] = capacity
    return IdMap(
        np.zeros(2 * table_size(capacity), np.uint64),
        np.zeros(capacity, np.uint64),
        np.zeros(capacity, np.int32),
        header,
    )


def lookup(m: IdMap, node_id: int) -> int:
    """``find`` for a Python integer: the index; -1 when the id is absent or not a 64-bit id."""
    return int(find(m, np.uint64(node_id))) if 0 < node_id < 1 << 64 else -1


@inlined
def find_in(slots: Any, node_id: Any) -> Any:
    """``find`` in a map's ``slots``, for readers that do not carry the rest of the map."""
    if node_id == _ZERO:
        return np.int32(-1)
    mask = np.uint64(slots.shape[0] // 2 - 1)
    at = mix64(node_id) & mask
    while True:
        key = slots[at << _ONE]
        if key == node_id:
            return np.int32(slots[(at << _ONE) | _ONE])
        if key == _ZERO:
            return np.int32(-1)
        at = (at + _ONE) & mask


@inlined
def prefetch_slot(m: Any, node_id: Any) -> Any:
    """Prefetch the slot where a search for the id starts."""
    slots = m.slots
    prefetch(slots, np.int64((mix64(node_id) & np.uint64(slots.shape[0] // 2 - 1)) << _ONE))


@inlined
def find(m: Any, node_id: Any) -> Any:
    """The id's index (int32), -1 when absent. ``node_id`` is uint64. Expected 1.5 probes."""
    return find_in(m.slots, node_id)


@inlined
def find_or_add(m: Any, node_id: Any) -> Any:
    """The id's index (int32), assigned now if the id is new; -1 when the map is full or the id is 0."""
    if node_id == _ZERO:
        return np.int32(-1)
    slots = m.slots
    header = m.header
    mask = np.uint64(slots.shape[0] // 2 - 1)
    at = mix64(node_id) & mask
    while True:
        key = slots[at << _ONE]
        if key == node_id:
            return np.int32(slots[(at << _ONE) | _ONE])
        if key == _ZERO:
            break
        at = (at + _ONE) & mask
    if header[1] > 0:
        header[1] -= 1
        index = np.int64(m.free[header[1]])
    elif header[2] < header[3]:
        index = header[2]
        header[2] += 1
    else:
        return np.int32(-1)
    header[0] += 1
    m.keys[index] = node_id
    slots[at << _ONE] = node_id
    slots[(at << _ONE) | _ONE] = np.uint64(index)
    return np.int32(index)


@inlined
def enter_at(m: Any, node_id: Any, index: Any) -> None:
    """Give a new id an unused index that the caller chooses. A map is filled either so or by ``find_or_add``."""
    slots = m.slots
    mask = np.uint64(slots.shape[0] // 2 - 1)
    at = mix64(node_id) & mask
    while slots[at << _ONE] != _ZERO:
        at = (at + _ONE) & mask
    m.header[0] += 1
    m.keys[index] = node_id
    slots[at << _ONE] = node_id
    slots[(at << _ONE) | _ONE] = np.uint64(index)


@kernel
def remove(m: Any, node_id: Any) -> Any:
    """Remove the id; returns its former index (int32), -1 when absent. That index is the next to be assigned.

    Backward-shift deletion (Knuth, TAOCP 3, 6.4 algorithm R): every later entry of the run moves toward its home slot
    where it can.
    """
    if node_id == _ZERO:
        return np.int32(-1)
    slots = m.slots
    mask = np.uint64(slots.shape[0] // 2 - 1)
    hole = mix64(node_id) & mask
    while slots[hole << _ONE] != node_id:
        if slots[hole << _ONE] == _ZERO:
            return np.int32(-1)
        hole = (hole + _ONE) & mask
    index = np.int32(slots[(hole << _ONE) | _ONE])
    at = hole
    while True:
        at = (at + _ONE) & mask
        key = slots[at << _ONE]
        if key == _ZERO:
            break
        home = mix64(key) & mask
        # The entry may fill the hole unless its home lies (cyclically) after the hole.
        if ((at - home) & mask) >= ((at - hole) & mask):
            slots[hole << _ONE] = key
            slots[(hole << _ONE) | _ONE] = slots[(at << _ONE) | _ONE]
            hole = at
    slots[hole << _ONE] = _ZERO
    slots[(hole << _ONE) | _ONE] = _ZERO
    m.keys[index] = _ZERO
    m.free[m.header[1]] = index
    m.header[1] += 1
    m.header[0] -= 1
    return index


@kernel
def remove_from(m: Any, node_id: Any) -> Any:
    """``remove`` from a map that ``enter_at`` fills: the index is the caller's again; returns it (-1 when absent)."""
    index = remove(m, node_id)
    m.header[1] = 0
    return index


@kernel
def rename(m: Any, node_id: Any, new_id: Any) -> None:
    """Give the index of ``node_id``, which the map has, to ``new_id``, which it has not."""
    remove(m, node_id)
    # The index that was freed last is assigned next.
    find_or_add(m, new_id)


@kernel
def find_many(m: Any, ids: Any, out: Any) -> Any:
    """Look up ``ids`` (uint64, (n,)) into ``out`` (int32, (n,)), -1 where absent; returns how many are known."""
    known = 0
    for i in range(ids.shape[0]):
        index = find(m, ids[i])
        out[i] = index
        if index >= 0:
            known += 1
    return known


def warm() -> None:
    """Compile every kernel of this module on the real types."""
    m = make_id_map(2)
    find_or_add(m, np.uint64(5))
    find(m, np.uint64(5))
    find_many(m, np.zeros(1, np.uint64), np.zeros(1, np.int32))
    rename(m, np.uint64(5), np.uint64(6))
    remove(m, np.uint64(6))
    enter_at(m, np.uint64(5), 1)
    remove_from(m, np.uint64(5))
