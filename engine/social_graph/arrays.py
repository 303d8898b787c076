"""The social graph's arrays: slices, edges and lists, and the operations that keep them consistent.

Lists: a user's followees (direction 0) and followers (direction 1) are slices of one int32 arena, oldest first.
An entry is the neighbor's index; a removed entry becomes a mark ``-1 - sequence`` until the slice is next compacted.
``sequence`` numbers the entries ever appended to that list; the edge stores it, and it increases along the list. So a
binary search finds an edge's place in a list of millions (each probed entry's edge tells its sequence), and follow,
unfollow and re-follow cost O(log degree).

Edges: one open-addressing table, (source, target) → flags of what is in force, 8 bytes per slot, linear probing;
deletion shifts the following entries back. The time of a follow stands beside its slot; the times of blocks, of mutes
and of what was undone are in ``acts`` (engine/social_graph/acts.py).
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.kernels.id_map import IdMap, remove
from engine.kernels.jit import inlined, kernel
from engine.kernels.prefetch import prefetch
from engine.kernels.rng import mix64

#: Flags of an edge, in the low bits of its table slot.
#: (Typed, because a bare constant would make numba compile a kernel once for every value.)
FOLLOW, BLOCK, MUTE = np.int64(1), np.int64(2), np.int64(4)

#: Columns of ``Graph.users``: five per list, from ``FOLLOWEES_AT`` and from ``FOLLOWERS_AT`` on; then how many edges
#: and acts name the user; how many blocks and mutes of the user are in force; how many undone acts of the user are
#: known, and the rows (+ 1) of the first and the last of them that came.
START, CLASS, ENTRIES, LIVE, SEQUENCE = range(5)
FOLLOWEES_AT, FOLLOWERS_AT = np.int64(0), np.int64(5)
INCIDENT, BLOCKING, MUTING, UNDONE, UNDONE_FIRST, UNDONE_LAST = range(10, 16)
USER_COLUMNS = 16

#: Indices of ``Graph.header``: gauges, then counters.
(
    EDGES,
    FOLLOWS_NOW,
    ARENA_TOP,
    ARENA_USED,
    RESTRICTIONS,
    ACTS_TOP,
    ACTS_FREE,
    UNDONE_NOW,
    UNDONE_OLDEST,
    UNDONE_NEWEST,
    UNKEPT_ALL,
    ACTS_SEEN,
    FOLLOWS,
    UNFOLLOWS,
    BLOCKS,
    MUTES,
    LIFTED,
    REPEATED,
    ABSENT,
    LATE,
    CUT_BY_BLOCK,
    REFUSED_SELF,
    REFUSED_BLOCKED,
    REFUSED_FOLLOWS,
    REFUSED_BLOCKS,
    REFUSED_MUTES,
    DROPPED_USERS,
    DROPPED_EDGES,
    DROPPED_LISTS,
    DROPPED_RESTRICTIONS,
    FORGOTTEN,
    UNKEPT,
    WITHOUT_USER,
) = range(33)
HEADER_SIZE = 33

#: Indices of ``Graph.limits``.
(
    FOLLOW_USERS,
    FOLLOW_EDGES,
    ALL_USERS,
    ALL_EDGES,
    RESTRICTIONS_MAX,
    UNDONE_MAX,
    FOLLOWS_EACH,
    BLOCKS_EACH,
    MUTES_EACH,
    UNDONE_EACH,
) = range(10)

#: Smallest slice (entries) and number of slice sizes: 4, 8, 16, … 4·2**27.
SLICE_MIN = 4
CLASSES = 28
SEQUENCE_MAX = (1 << 31) - 2

#: Bits of a user index in a packed pair.
INDEX_BITS = np.uint64(28)
FLAG_BITS = np.uint64(3)
FLAG_MASK = np.uint64(7)
ZERO = np.uint64(0)


class Acts(NamedTuple):
    """When people last blocked, muted or undid something: a pool of rows, and a table that finds them.

    ``keys``: uint64 (rows), ``pair << 3 | flag``, 0 unused. ``moments``: int64 (rows, 3), see ``ON``. ``links``: int32
    (rows, 4), see ``OLDER``. ``table``: int32 (power of two), row + 1, 0 empty.
    """

    keys: NDArray[np.uint64]
    moments: NDArray[np.int64]
    links: NDArray[np.int32]
    table: NDArray[np.int32]


class Unkept(NamedTuple):
    """People of whom a block or a mute found no room: what they asked not to see is not fully known.

    ``ids``: person to index. By index: ``others``: uint64 (k, 4), whom they blocked or muted, with ``flags``: uint8
    (k, 4), 0 unused, and ``moments``: int64 (k, 4); ``more``: uint8 (k), the flags of further ones that did not fit.
    """

    ids: IdMap
    others: NDArray[np.uint64]
    flags: NDArray[np.uint8]
    moments: NDArray[np.int64]
    more: NDArray[np.uint8]


class Graph(NamedTuple):
    """All arrays of the room.

    ``ids``: user ids to indices. ``users``: int32 (users, 16), a user's two lists and counts; zero when unused.
    ``edges``: uint64 (table), ``pair << 3 | flags``, 0 empty. ``sequences``: int32 (table, 2), an edge's sequence in
    its source's and its target's list. ``follow_moment``: int64 (table), of the newest follow of this edge; 0 without
    one. ``arena``: int32 list entries. ``free``: int64 (28) by slice size, start + 1 of the first free slice (0 none),
    whose first entry names the next. ``acts``: times of blocks and mutes, and of what was undone. ``unkept``: people
    whose blocks or mutes found no room. ``erasing``: uint64, whose follows are still to be ended, and ``erasing_acts``:
    whose acts are still to be looked for (engine/kernels/erasing.py). ``header``: int64 scalars. ``limits``: int64
    (10), not state: the bounds, by the indices above.
    """

    ids: IdMap
    users: NDArray[np.int32]
    edges: NDArray[np.uint64]
    sequences: NDArray[np.int32]
    follow_moment: NDArray[np.int64]
    arena: NDArray[np.int32]
    free: NDArray[np.int64]
    acts: Acts
    unkept: Unkept
    erasing: NDArray[np.uint64]
    erasing_acts: NDArray[np.uint64]
    header: NDArray[np.int64]
    limits: NDArray[np.int64]


# --- slices -----------------------------------------------------------------------------------------------------


@kernel
def _take_slice(g: Any, size_class: Any) -> Any:
    """A slice of ``4 << size_class`` entries: a freed slice, else unused arena, else part of a larger freed slice; -1
    when there is none."""
    size = SLICE_MIN << size_class
    start = -1
    if g.free[size_class] > 0:
        start = g.free[size_class] - 1
        g.free[size_class] = g.arena[start]
    elif g.header[ARENA_TOP] + size <= g.arena.shape[0]:
        start = g.header[ARENA_TOP]
        g.header[ARENA_TOP] += size
    else:
        larger = size_class + 1
        while larger < CLASSES and g.free[larger] == 0:
            larger += 1
        if larger == CLASSES:
            return -1
        start = g.free[larger] - 1
        g.free[larger] = g.arena[start]
        while larger > size_class:
            larger -= 1
            _put_slice(g, start + (SLICE_MIN << larger), larger)
    g.header[ARENA_USED] += size
    return start


@kernel
def _put_slice(g: Any, start: Any, size_class: Any) -> Any:
    """Add a slice to its free list (does not change ``ARENA_USED``)."""
    g.arena[start] = g.free[size_class]
    g.free[size_class] = start + 1


# --- edges ------------------------------------------------------------------------------------------------------


@inlined
def pack(source: Any, target: Any) -> Any:
    return (np.uint64(source) << INDEX_BITS) | np.uint64(target)


@inlined
def home(g: Any, pair: Any) -> Any:
    return np.int64(mix64(pair) & np.uint64(g.edges.shape[0] - 1))


@inlined
def prefetch_id(g: Any, user_id: Any) -> Any:
    """Prefetch the id map's slot where a search for the id starts."""
    slots = g.ids.slots
    prefetch(slots, np.int64((mix64(user_id) & np.uint64(slots.shape[0] // 2 - 1)) << np.uint64(1)))


@inlined
def prefetch_edge(g: Any, source: Any, target: Any) -> Any:
    """Prefetch the table slot where a search for the edge starts."""
    prefetch(g.edges, home(g, pack(source, target)))


@inlined
def find_edge(g: Any, source: Any, target: Any) -> Any:
    """Table slot of an edge, -1 when there is none."""
    pair = pack(source, target)
    mask = g.edges.shape[0] - 1
    at = home(g, pair)
    while g.edges[at] != ZERO:
        if g.edges[at] >> FLAG_BITS == pair:
            return at
        at = (at + 1) & mask
    return -1


@inlined
def edge_flags(g: Any, source: Any, target: Any) -> Any:
    """Flags of an edge, 0 when there is none."""
    at = find_edge(g, source, target)
    return np.int64(g.edges[at] & FLAG_MASK) if at >= 0 else 0


@inlined
def add_flag(g: Any, source: Any, target: Any, flag: Any) -> Any:
    """Set a flag, and enter the edge if it is new; the table must have room. Returns the slot."""
    pair = pack(source, target)
    mask = g.edges.shape[0] - 1
    at = home(g, pair)
    while g.edges[at] != ZERO:
        if g.edges[at] >> FLAG_BITS == pair:
            g.edges[at] |= np.uint64(flag)
            return at
        at = (at + 1) & mask
    g.edges[at] = (pair << FLAG_BITS) | np.uint64(flag)
    g.header[EDGES] += 1
    g.users[source, INCIDENT] += 1
    g.users[target, INCIDENT] += 1
    return at


@kernel
def clear_flag(g: Any, source: Any, target: Any, flag: Any) -> Any:
    """Clear a flag of an edge that has it; removes an edge without flags, and users without edges."""
    hole = find_edge(g, source, target)
    g.edges[hole] &= ~np.uint64(flag)
    if g.edges[hole] & FLAG_MASK != ZERO:
        return
    mask = g.edges.shape[0] - 1
    at = hole
    while True:
        at = (at + 1) & mask
        if g.edges[at] == ZERO:
            break
        wanted = home(g, g.edges[at] >> FLAG_BITS)
        if ((at - wanted) & mask) >= ((at - hole) & mask):
            g.edges[hole] = g.edges[at]
            g.sequences[hole, 0] = g.sequences[at, 0]
            g.sequences[hole, 1] = g.sequences[at, 1]
            g.follow_moment[hole] = g.follow_moment[at]
            hole = at
    g.edges[hole] = ZERO
    g.sequences[hole, 0] = 0
    g.sequences[hole, 1] = 0
    g.follow_moment[hole] = 0
    g.header[EDGES] -= 1
    g.users[source, INCIDENT] -= 1
    g.users[target, INCIDENT] -= 1
    release(g, source)
    release(g, target)


@kernel
def release(g: Any, user: Any) -> Any:
    """Forget a user that no edge and no act names; another user can then get the index."""
    if g.users[user, INCIDENT] > 0:
        return
    trim(g, user, FOLLOWEES_AT)
    trim(g, user, FOLLOWERS_AT)
    remove(g.ids, g.ids.keys[user])


# --- lists ------------------------------------------------------------------------------------------------------


@kernel
def trim(g: Any, user: Any, at: Any) -> Any:
    """Free the slice of a list without live entries."""
    record = g.users[user]
    if record[at + CLASS] > 0 and record[at + LIVE] == 0:
        size_class = np.int64(record[at + CLASS]) - 1
        _put_slice(g, np.int64(record[at + START]), size_class)
        g.header[ARENA_USED] -= SLICE_MIN << size_class
        for column in range(5):
            record[at + column] = 0


@kernel
def _compact(g: Any, user: Any, at: Any, start: Any) -> Any:
    """Move the live entries, in order, to the slice at ``start`` (the list's present slice or another)."""
    record = g.users[user]
    source = np.int64(record[at + START])
    count = 0
    for i in range(record[at + ENTRIES]):
        entry = g.arena[source + i]
        if entry >= 0:
            g.arena[start + count] = entry
            count += 1
    record[at + ENTRIES] = count


@kernel
def _resize(g: Any, user: Any, at: Any, size_class: Any) -> Any:
    """Move a list into a slice of another size; False, with nothing changed, when the arena has no such slice."""
    start = _take_slice(g, size_class)
    if start < 0:
        return False
    record = g.users[user]
    if record[at + CLASS] > 0:
        old_start, old_class = np.int64(record[at + START]), np.int64(record[at + CLASS]) - 1
        _compact(g, user, at, start)
        _put_slice(g, old_start, old_class)
        g.header[ARENA_USED] -= SLICE_MIN << old_class
    record[at + START] = start
    record[at + CLASS] = size_class + 1
    return True


@inlined
def make_room(g: Any, user: Any, at: Any) -> Any:
    """Make sure that one more entry fits; False when the arena is full."""
    size_class, sequence = g.users[user, at + CLASS], g.users[user, at + SEQUENCE]
    if size_class > 0 and g.users[user, at + ENTRIES] < SLICE_MIN << (size_class - 1) and sequence < SEQUENCE_MAX:
        return True
    return _enlarge(g, user, at)


@kernel
def _enlarge(g: Any, user: Any, at: Any) -> Any:
    """``make_room`` for a full list: the list grows; if at least a quarter are marks, they are removed instead."""
    record = g.users[user]
    if record[at + SEQUENCE] >= SEQUENCE_MAX:
        return False
    if record[at + CLASS] == 0:
        return _resize(g, user, at, np.int64(0))
    entries, live = np.int64(record[at + ENTRIES]), np.int64(record[at + LIVE])
    size_class = np.int64(record[at + CLASS]) - 1
    if 4 * (entries - live) < entries:
        if size_class + 1 < CLASSES and _resize(g, user, at, size_class + 1):
            return True
        if entries == live:
            return False
    _compact(g, user, at, np.int64(record[at + START]))
    return True


@inlined
def append(g: Any, user: Any, at: Any, neighbor: Any) -> Any:
    """Append to a list that has room; returns the entry's sequence."""
    record = g.users[user]
    g.arena[record[at + START] + record[at + ENTRIES]] = neighbor
    sequence = np.int64(record[at + SEQUENCE])
    record[at + ENTRIES] += 1
    record[at + LIVE] += 1
    record[at + SEQUENCE] += 1
    return sequence


@kernel
def _sequence_of(g: Any, user: Any, at: Any, entry: Any) -> Any:
    """Sequence of a list entry: from its mark, or from its edge."""
    if entry < 0:
        return -1 - entry
    if at == FOLLOWEES_AT:
        return np.int64(g.sequences[find_edge(g, user, entry), 0])
    return np.int64(g.sequences[find_edge(g, entry, user), 1])


@kernel
def detach(g: Any, user: Any, at: Any, sequence: Any) -> Any:
    """Remove the entry of this sequence from a list. O(log entries) probes, amortized O(1) moves."""
    record = g.users[user]
    start, entries = np.int64(record[at + START]), np.int64(record[at + ENTRIES])
    # Without gaps after it the entry is exactly here; gaps can only move it further toward the end.
    low = max(0, entries - (np.int64(record[at + SEQUENCE]) - sequence))
    high = min(entries - 1, sequence)
    middle = low
    while low < high:
        found = _sequence_of(g, user, at, np.int64(g.arena[start + middle]))
        if found == sequence:
            low = high = middle
        elif found < sequence:
            low = middle + 1
        else:
            high = middle - 1
        middle = (low + high) >> 1
    g.arena[start + low] = -1 - sequence
    record[at + LIVE] -= 1
    while entries > 0 and g.arena[start + entries - 1] < 0:
        entries -= 1
    record[at + ENTRIES] = entries
    live, size_class = np.int64(record[at + LIVE]), np.int64(record[at + CLASS]) - 1
    if live == 0:
        trim(g, user, at)
    elif size_class > 0 and 4 * live <= SLICE_MIN << size_class:
        _compact(g, user, at, start)
        half = SLICE_MIN << (size_class - 1)
        _put_slice(g, start + half, size_class - 1)
        g.header[ARENA_USED] -= half
        record[at + CLASS] = size_class
    elif entries > 2 * live:
        _compact(g, user, at, start)
