"""Adjacency lists as ring slices in one arena: append, drop the oldest, insert by time, all in place.

A node's list is a ring of 2^c slots (c ≥ 2) in an arena that all nodes share. Its record is one int64:

    slot of the oldest entry (32 bits, below 2^31) | c (5 bits) | count (27 bits)          0 = no slice

Slices are aligned to their size, so the low c bits of the oldest entry's slot are the ring's head, and a random
neighbor costs two loads: the record, then the slot. The arena is a buddy allocator: a freed slice joins its free buddy
at once, so long lists can use the memory of former small ones; a list that shrinks gives back its upper half. Free
slices are linked through their first two slots; ``marks`` says where they begin.

An entry is an int64 whose upper 32 bits (unsigned) are its time; lists are in order of time, equal times in order of
arrival. Readers must hold the read side of the state lock: a freed slice may be in use again at once.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.kernels.jit import inlined, kernel

#: log2 of the smallest slice (4 entries, half a cache line), and the number of size classes.
CLASS_MIN = 2
CLASSES = 32
#: Fields of ``SliceArena.header`` after the heads of the free lists (slot + 1, 0 = empty).
FREE_SLOTS = 32
ARENA_SLOTS_MAX = 1 << 31

_COUNT_MASK = (1 << 27) - 1
_TIME_MASK = 0xFFFFFFFF

#: Results of ``push``.
STORED, STORED_DROPPING_OLDEST, NOT_STORED, STORED_ARENA_FULL, NOT_STORED_ARENA_FULL = 0, 1, 2, 3, 4


class SliceArena(NamedTuple):
    """The memory of all lists, and the allocator's complete state.

    ``entries``: (slots,) int64. ``header``: (33,) heads of the free lists by class, then free slots.
    ``marks``: (slots / 4,) class + 1 where a free slice begins, else 0.
    """

    entries: NDArray[np.int64]
    header: NDArray[np.int64]
    marks: NDArray[np.uint8]


def arena_bytes(slots: int) -> int:
    """Bytes of all arrays of an arena (``slots`` a multiple of 4)."""
    return 8 * slots + slots // 4 + 8 * (CLASSES + 1)


def make_arena(slots: int) -> SliceArena:
    """An empty arena.

    Raises:
        ValueError: ``slots`` not a multiple of 4 in 4 … 2^31.
    """
    if slots % 4 or not 4 <= slots <= ARENA_SLOTS_MAX:
        raise ValueError(f"slots {slots} is not a multiple of 4 in 4 … {ARENA_SLOTS_MAX}")
    # Slices are aligned to their size within the array; aligning the array keeps a small one in one cache line.
    raw = np.zeros(slots + 8, np.int64)
    first = (-raw.ctypes.data % 64) // 8
    arena = SliceArena(raw[first : first + slots], np.zeros(CLASSES + 1, np.int64), np.zeros(slots // 4, np.uint8))
    start = 0
    while start < slots:
        size = min(start & -start if start else 1 << 30, 1 << ((slots - start).bit_length() - 1))
        _push_free(arena, np.int64(start), np.int64(size.bit_length() - 1))
        start += size
    return arena


def slots_in_use(arena: SliceArena) -> int:
    """The first slot after which all slots are free. Only links of free slices are written there: two slots each."""
    end = int(arena.entries.shape[0])
    while end:
        # A slice is aligned to its size, so a free one that ends here is at most as large as the lowest bit of ``end``.
        classes = range(CLASS_MIN, (end & -end).bit_length())
        size = next((1 << c for c in classes if arena.marks[(end - (1 << c)) >> CLASS_MIN] == c + 1), 0)
        if size == 0:
            break
        end -= size
    return end


@kernel
def _push_free(arena: Any, start: Any, c: Any) -> None:
    """Link a free slice at the head of its class's list."""
    entries = arena.entries
    header = arena.header
    head = header[c]
    entries[start] = head
    entries[start + 1] = 0
    if head:
        entries[head] = start + 1  # the second slot of the old head (at head - 1): its back link
    header[c] = start + 1
    header[FREE_SLOTS] += 1 << c
    arena.marks[start >> CLASS_MIN] = c + 1


@kernel
def _unlink_free(arena: Any, start: Any, c: Any) -> None:
    """Take a free slice out of its class's list."""
    entries = arena.entries
    header = arena.header
    after = entries[start]
    before = entries[start + 1]
    if after:
        entries[after] = before
    if before:
        entries[before - 1] = after
    else:
        header[c] = after
    header[FREE_SLOTS] -= 1 << c
    arena.marks[start >> CLASS_MIN] = 0


@kernel
def allocate(arena: Any, c: Any) -> Any:
    """The first slot of a free slice of 2^c slots, -1 when there is none. Splits the smallest slice that fits."""
    header = arena.header
    found = c
    while header[found] == 0:
        found += 1
        if found == CLASSES:
            return np.int64(-1)
    start = header[found] - 1
    _unlink_free(arena, start, found)
    while found > c:
        found -= 1
        _push_free(arena, start + (np.int64(1) << found), found)
    return start


@kernel
def release(arena: Any, start: Any, c: Any) -> None:
    """Free a slice; it joins its buddy, and the result joins its own buddy, while the buddy is free."""
    slots = arena.entries.shape[0]
    while True:
        buddy = start ^ (np.int64(1) << c)
        if buddy + (np.int64(1) << c) > slots or arena.marks[buddy >> CLASS_MIN] != c + 1:
            break
        _unlink_free(arena, buddy, c)
        start = min(start, buddy)
        c += 1
    _push_free(arena, start, c)


@inlined
def pack(slot: Any, c: Any, count: Any) -> Any:
    """A node's record."""
    return (slot << 32) | (c << 27) | count


@inlined
def degree(record: Any) -> Any:
    """How many entries the list has."""
    return record & _COUNT_MASK


@inlined
def slot_of(record: Any, i: Any) -> Any:
    """The arena slot of the i-th entry, 0 = oldest."""
    slot = record >> 32
    mask = (np.int64(1) << ((record >> 27) & 31)) - 1
    return (slot & ~mask) | ((slot + i) & mask)


@inlined
def time_of(entry: Any) -> Any:
    """An entry's time (its upper 32 bits, unsigned, as int64)."""
    return (entry >> 32) & _TIME_MASK


@kernel
def upper_bound(arena: Any, record: Any, time: Any) -> Any:
    """How many entries have a time ≤ ``time``: the position for a new entry of this time. O(log degree)."""
    low = np.int64(0)
    high = degree(record)
    while low < high:
        middle = (low + high) >> 1
        if time_of(arena.entries[slot_of(record, middle)]) <= time:
            low = middle + 1
        else:
            high = middle
    return low


@inlined
def _insert(arena: Any, record: Any, at: Any, entry: Any) -> Any:
    """Insert an entry at position ``at`` of a list with room, moving the shorter side; returns the new record."""
    entries = arena.entries
    count = degree(record)
    c = (record >> 27) & 31
    if at * 2 < count:
        head = slot_of(record, (np.int64(1) << c) - 1)
        record = pack(head, c, count + 1)
        for i in range(at):
            entries[slot_of(record, i)] = entries[slot_of(record, i + 1)]
    else:
        record += 1
        for i in range(count, at, -1):
            entries[slot_of(record, i)] = entries[slot_of(record, i - 1)]
    entries[slot_of(record, at)] = entry
    return record


@kernel
def _grow(arena: Any, record: Any) -> Any:
    """Move a full list to a slice of twice the size; returns the new record, or 0 when the arena has none."""
    entries = arena.entries
    c = (record >> 27) & 31
    count = degree(record)
    start = allocate(arena, c + 1)
    if start < 0:
        return np.int64(0)
    for i in range(count):
        entries[start + i] = entries[slot_of(record, i)]
    slot = record >> 32
    release(arena, (slot >> c) << c, c)
    return pack(start, c + 1, count)


@inlined
def ensure_slice(records: Any, n: Any, arena: Any) -> Any:
    """Give node n a slice if it has none; False when the arena is full."""
    if records[n] != 0:
        return True
    start = allocate(arena, np.int64(CLASS_MIN))
    if start < 0:
        return False
    records[n] = pack(start, np.int64(CLASS_MIN), np.int64(0))
    return True


@inlined
def push(records: Any, n: Any, arena: Any, entry: Any, degree_max: Any) -> Any:
    """Add an entry to node n's list (which has a slice) in its place by time.

    A list at ``degree_max``, or a list that cannot grow because the arena is full, keeps its newest entries: the oldest
    entry leaves, or the new entry is not stored if it is older than all others. Returns ``STORED`` or another of these
    results. O(1) for the newest entry, else O(degree / 2) moves.
    """
    record = records[n]
    count = degree(record)
    time = time_of(entry)
    done = STORED
    at = count
    if count > 0 and time < time_of(arena.entries[slot_of(record, count - 1)]):
        at = upper_bound(arena, record, time)
    capped = count >= degree_max
    if capped or count == np.int64(1) << ((record >> 27) & 31):
        grown = np.int64(0)
        if not capped:
            grown = _grow(arena, record)
        if grown != 0:
            record = grown
        else:
            if at == 0:
                return NOT_STORED if capped else NOT_STORED_ARENA_FULL
            record = pack(slot_of(record, 1), (record >> 27) & 31, count - 1)
            at -= 1
            done = STORED_DROPPING_OLDEST if capped else STORED_ARENA_FULL
    records[n] = _insert(arena, record, at, entry)
    return done


@inlined
def _settle(records: Any, n: Any, arena: Any, record: Any) -> None:
    """Store a record after its list became shorter; free an empty slice, or half of a slice at most a quarter full."""
    c = (record >> 27) & 31
    count = degree(record)
    slot = record >> 32
    if count == 0:
        release(arena, (slot >> c) << c, c)
        records[n] = 0
        return
    if c > CLASS_MIN and count * 4 <= np.int64(1) << c:
        # Entries of the upper half move down by half the size. Their positions modulo the half stay distinct.
        entries = arena.entries
        half = np.int64(1) << (c - 1)
        start = (slot >> c) << c
        for i in range(count):
            at = slot_of(record, i)
            if at & half:
                entries[at ^ half] = entries[at]
        record = pack(slot & ~half, c - 1, count)
        release(arena, start + half, c - 1)
    records[n] = record


@inlined
def pop_oldest(records: Any, n: Any, arena: Any) -> None:
    """Remove node n's oldest entry (the list must not be empty)."""
    record = records[n]
    _settle(records, n, arena, pack(slot_of(record, 1), (record >> 27) & 31, degree(record) - 1))


@kernel
def remove_at(records: Any, n: Any, arena: Any, at: Any) -> None:
    """Remove node n's entry at position ``at``, moving the shorter side."""
    entries = arena.entries
    record = records[n]
    count = degree(record)
    if at * 2 < count:
        for i in range(at, 0, -1):
            entries[slot_of(record, i)] = entries[slot_of(record, i - 1)]
        record = pack(slot_of(record, 1), (record >> 27) & 31, count - 1)
    else:
        for i in range(at, count - 1):
            entries[slot_of(record, i)] = entries[slot_of(record, i + 1)]
        record -= 1
    _settle(records, n, arena, record)


@kernel
def clear(records: Any, n: Any, arena: Any) -> None:
    """Remove all entries of node n."""
    record = records[n]
    if record != 0:
        c = (record >> 27) & 31
        release(arena, ((record >> 32) >> c) << c, c)
        records[n] = 0


def warm() -> None:
    """Compile every kernel of this module on the real types."""
    arena = make_arena(64)
    records = np.zeros(2, np.int64)
    n = np.int64(1)
    ensure_slice(records, n, arena)
    for time in (5, 4, 6):
        push(records, n, arena, np.int64(time << 32), np.int64(8))
    upper_bound(arena, np.int64(records[1]), np.int64(5))
    remove_at(records, n, arena, np.int64(1))
    pop_oldest(records, n, arena)
    clear(records, n, arena)
