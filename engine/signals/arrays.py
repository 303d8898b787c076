"""The arrays of the room signals: viewers, their lists as chains of blocks, and the order of their activity.

A viewer has five lists, each in the order of the log, oldest first. A list is a chain of blocks of 128 bytes (two
cache lines) from a pool that all viewers share. A block holds 5 acts (tweet, time and kind, author) or 7 looks (tweet,
time and kind). All blocks have one size, so memory does not fragment: any list can use any free block, a list frees its
oldest block when all the block's entries have left, and the chains of an evicted viewer join the free chain in O(1).

A linked list through all viewers is the exact order of their last activity: when viewers or blocks run out, the viewer
idle for longest is evicted.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.kernels import recency
from engine.kernels.erasing import is_waiting, make_queue, waits
from engine.kernels.id_map import IdMap, find_or_add, make_id_map, remove
from engine.kernels.jit import inlined, kernel

#: The lists. The first three hold acts, the others looks.
ENGAGEMENTS, IMPLICIT, NEGATIVES, SEEN, SERVED = range(5)
LISTS = 5
LOOKS_FROM = 3
ACTS_PER_BLOCK, ACT_WORDS = 5, 3
LOOKS_PER_BLOCK, LOOK_WORDS = 7, 2

#: Columns of ``Store.viewers``: three per list, then the number of engagements ever.
FIRST, LAST, SPAN, LIST_COLUMNS = 0, 1, 2, 3
ACTIVITY = 15
VIEWER_COLUMNS = 16
ACTIVITY_MAX = (1 << 31) - 1

#: ``SPAN``: count << 6 | used places of the last block << 3 | place of the oldest entry in the first block.
COUNT_SHIFT, TAIL_SHIFT, PLACE_MASK = 6, 3, 7
LIST_ENTRIES_MAX = 1 << 20

#: Words of a block: its successor + 1 (0 none), then the entries.
BLOCK_WORDS = 16
KIND_BITS = 8
KIND_MASK = (1 << KIND_BITS) - 1

#: Indices of ``Store.header``: gauges (viewers and blocks as index + 1), counters, then stored entries by list.
(
    NEWEST,
    OLDEST,
    FREE_BLOCK,
    BLOCKS_HIGH,
    BLOCKS_USED,
    TAKEN_BACK,
    NOTHING_TO_TAKE_BACK,
    SHORT_DWELLS,
    WITHOUT_USER,
    WITHOUT_SUBJECT,
    EVICTED_USERS_FULL,
    EVICTED_BLOCKS_FULL,
    EVICTED_ENTRIES,
    DROPPED_LIST_FULL,
    REPEATED,
    STORED,
) = range(16)
HEADER_SIZE = 24

NEWER, OLDER = 0, 1


class Store(NamedTuple):
    """All arrays of the room.

    ``ids``: viewer ids to indices. ``viewers``: int32 (users, 16), one cache line each, zero when unused. ``order``:
    int32 (users, 2), index + 1 of the viewers whose last activity comes next after and next before this viewer's.
    ``blocks``: int64 (blocks, 16). ``erasing``: uint64, who is still to be looked for as an author in others' acts
    (engine/kernels/erasing.py). ``header``: int64 scalars. ``entries_max``: int64 (5), not state: the most entries of
    each list.
    """

    ids: IdMap
    viewers: NDArray[np.int32]
    order: NDArray[np.int32]
    blocks: NDArray[np.int64]
    erasing: NDArray[np.uint64]
    header: NDArray[np.int64]
    entries_max: NDArray[np.int64]


def per_block(which: int) -> int:
    """How many entries a block of this list holds."""
    return ACTS_PER_BLOCK if which < LOOKS_FROM else LOOKS_PER_BLOCK


def blocks_of_one_viewer(entries_max: NDArray[np.int64]) -> int:
    """The most blocks of a viewer with five full lists (the oldest entry may be the last in its block)."""
    return sum(-(-(int(n) + per_block(k) - 1) // per_block(k)) for k, n in enumerate(entries_max))


def _aligned(shape: tuple[int, int], dtype: type[np.int32 | np.int64]) -> NDArray[Any]:
    """Zeros that begin at a cache line, so that a row of 64 or 128 bytes is exactly one or two lines."""
    size = shape[0] * shape[1]
    item = np.dtype(dtype).itemsize
    raw = np.zeros(size + 64 // item, dtype)
    start = (-raw.ctypes.data % 64) // item
    return raw[start : start + size].reshape(shape)


def make_store(users_max: int, blocks_max: int, entries_max: NDArray[np.int64]) -> Store:
    """An empty store."""
    return Store(
        ids=make_id_map(users_max),
        viewers=_aligned((users_max, VIEWER_COLUMNS), np.int32),
        order=np.zeros((users_max, 2), np.int32),
        blocks=_aligned((blocks_max, BLOCK_WORDS), np.int64),
        erasing=make_queue(),
        header=np.zeros(HEADER_SIZE, np.int64),
        entries_max=entries_max,
    )


# --- order of activity ------------------------------------------------------------------------------------------


@inlined
def touch(s: Any, v: Any) -> None:
    """Make the viewer the most recently active one."""
    recency.touch(s.order, NEWER, s.header, NEWEST, v)


# --- lists ------------------------------------------------------------------------------------------------------


@inlined
def first_block(s: Any, v: Any, which: Any) -> Any:
    """The first block of a viewer's list + 1 (int64), 0 when it has none."""
    return np.int64(s.viewers[v, which * LIST_COLUMNS + FIRST])


@inlined
def last_block(s: Any, v: Any, which: Any) -> Any:
    """The last block of a viewer's list + 1 (int64), 0 when it has none."""
    return np.int64(s.viewers[v, which * LIST_COLUMNS + LAST])


@inlined
def span(s: Any, v: Any, which: Any) -> Any:
    """A list's length, used places of its last block, and place of its oldest entry in the first block (int64 each)."""
    packed = np.int64(s.viewers[v, which * LIST_COLUMNS + SPAN])
    return packed >> COUNT_SHIFT, (packed >> TAIL_SHIFT) & PLACE_MASK, packed & PLACE_MASK


@inlined
def _set_span(s: Any, v: Any, which: Any, count: Any, tail: Any, head: Any) -> None:
    s.viewers[v, which * LIST_COLUMNS + SPAN] = (count << COUNT_SHIFT) | (tail << TAIL_SHIFT) | head


@inlined
def settle(s: Any, block: Any, place: Any, per: Any) -> Any:
    """The block (index + 1) and place of an entry; a place past the end of ``block`` is the next block's first."""
    if place == per:
        return s.blocks[block - 1, 0], np.int64(0)
    return block, place


@inlined
def _blocks_for(head: Any, count: Any, per: Any) -> Any:
    """Number of blocks of a list that has any: an empty list keeps its first block."""
    return max(np.int64(1), (head + count + per - 1) // per)


# --- blocks -----------------------------------------------------------------------------------------------------


@inlined
def _free_chain(s: Any, first: Any, last: Any, count: Any) -> None:
    """Free a chain of ``count`` blocks (``first`` and ``last`` as index + 1)."""
    s.blocks[last - 1, 0] = s.header[FREE_BLOCK]
    s.header[FREE_BLOCK] = first
    s.header[BLOCKS_USED] -= count


@inlined
def evict_oldest(s: Any) -> None:
    """Forget the viewer idle for longest (at least one must exist), with all entries."""
    forget(s, np.int64(s.header[OLDEST]) - 1)


@kernel
def forget(s: Any, v: Any) -> None:
    """Forget a viewer, with all entries."""
    for which in range(LISTS):
        first = first_block(s, v, which)
        if first:
            per = ACTS_PER_BLOCK if which < LOOKS_FROM else LOOKS_PER_BLOCK
            count, _, head = span(s, v, which)
            _free_chain(s, first, last_block(s, v, which), _blocks_for(head, count, per))
            s.header[EVICTED_ENTRIES] += count
    for column in range(VIEWER_COLUMNS):
        s.viewers[v, column] = 0
    recency.unlink(s.order, NEWER, s.header, NEWEST, v)
    s.order[v, NEWER] = 0
    s.order[v, OLDER] = 0
    remove(s.ids, s.ids.keys[v])


@inlined
def _take_block(s: Any) -> Any:
    """A block with no successor (index + 1); if none is free, the viewer idle for longest is evicted.

    That always frees a block: every viewer has one, the acting viewer is the newest in the order, and the pool is large
    enough for one viewer with full lists, so another viewer exists.
    """
    if s.header[FREE_BLOCK] == 0:
        if s.header[BLOCKS_HIGH] < s.blocks.shape[0]:
            s.header[BLOCKS_HIGH] += 1
            s.header[BLOCKS_USED] += 1
            return s.header[BLOCKS_HIGH]
        evict_oldest(s)
        s.header[EVICTED_BLOCKS_FULL] += 1
    block = s.header[FREE_BLOCK]
    s.header[FREE_BLOCK] = s.blocks[block - 1, 0]
    s.header[BLOCKS_USED] += 1
    # Nothing of the block's former list may stay behind its new entries: it would not be found as an author any more.
    for word in range(BLOCK_WORDS):
        s.blocks[block - 1, word] = 0
    return block


# --- entries -----------------------------------------------------------------------------------------------------


@inlined
def add_viewer(s: Any, viewer_id: Any) -> Any:
    """Add a viewer; returns the index. When the room is full, the viewer idle for longest is evicted."""
    if s.ids.header[0] == s.viewers.shape[0]:
        evict_oldest(s)
        s.header[EVICTED_USERS_FULL] += 1
    v = np.int64(find_or_add(s.ids, viewer_id))
    recency.link_newest(s.order, NEWER, s.header, NEWEST, v)
    return v


@inlined
def push(s: Any, v: Any, which: Any, tweet: Any, stamp: Any, author: Any) -> None:
    """Append an entry to a viewer's list; a full list drops its oldest entry. The viewer is the newest in the order.

    ``tweet`` and ``author`` are ids as int64, ``stamp`` time_ms << 8 | kind. O(1).
    """
    per = np.int64(ACTS_PER_BLOCK if which < LOOKS_FROM else LOOKS_PER_BLOCK)
    count, tail, head = span(s, v, which)
    if count == s.entries_max[which]:
        s.header[DROPPED_LIST_FULL] += 1
        count -= 1
        head += 1
        if count == 0:
            head = 0
            tail = 0
        elif head == per:
            first = first_block(s, v, which)
            s.viewers[v, which * LIST_COLUMNS + FIRST] = s.blocks[first - 1, 0]
            _free_chain(s, first, first, 1)
            head = 0
    last = last_block(s, v, which)
    if last == 0 or tail == per:
        block = _take_block(s)
        if last == 0:
            s.viewers[v, which * LIST_COLUMNS + FIRST] = block
        else:
            s.blocks[last - 1, 0] = block
        s.viewers[v, which * LIST_COLUMNS + LAST] = block
        last = block
        tail = 0
    words = ACT_WORDS if which < LOOKS_FROM else LOOK_WORDS
    entry = s.blocks[last - 1, 1 + tail * words :]
    entry[0] = tweet
    entry[1] = stamp
    if which < LOOKS_FROM:
        entry[2] = author
    _set_span(s, v, which, count + 1, tail + 1, head)
    s.header[STORED + which] += 1


@kernel
def renew(s: Any, v: Any, which: Any, tweet: Any, author: Any, stamp: Any) -> Any:
    """Bring an act of a viewer's list to a later time; returns whether the list has it. O(acts of the list).

    ``tweet`` 0: a report of the person ``author``.
    """
    count, _, place = span(s, v, which)
    block = first_block(s, v, which)
    for _ in range(count):
        block, place = settle(s, block, place, ACTS_PER_BLOCK)
        entry = s.blocks[block - 1, 1 + place * ACT_WORDS :]
        place += 1
        if entry[0] == tweet and (entry[1] ^ stamp) & KIND_MASK == 0 and (tweet != 0 or entry[2] == author):
            entry[1] = stamp
            return True
    return False


@kernel
def take_back(s: Any, v: Any, which: Any, tweet: Any, kind: Any, until_ms: Any) -> Any:
    """Remove from a viewer's list of acts every act of this kind on this tweet that is not later than ``until_ms``;
    returns how many. O(length of the list).

    Later entries move up and keep their order; blocks that become empty are freed, except the first.
    """
    count, _, head = span(s, v, which)
    if count == 0:
        return 0
    blocks = s.blocks
    from_block = first_block(s, v, which)
    from_place = head
    to_block, to_place, kept = from_block, from_place, np.int64(0)
    for _ in range(count):
        from_block, from_place = settle(s, from_block, from_place, ACTS_PER_BLOCK)
        source = 1 + from_place * ACT_WORDS
        from_place += 1
        stamp = blocks[from_block - 1, source + 1]
        if blocks[from_block - 1, source] == tweet and stamp & KIND_MASK == kind and stamp >> KIND_BITS <= until_ms:
            continue
        to_block, to_place = settle(s, to_block, to_place, ACTS_PER_BLOCK)
        target = 1 + to_place * ACT_WORDS
        for word in range(ACT_WORDS):
            blocks[to_block - 1, target + word] = blocks[from_block - 1, source + word]
        if is_waiting(s.erasing) and waits(s.erasing, np.uint64(blocks[to_block - 1, target + 2])):
            # The sweep may have passed the block already.
            blocks[to_block - 1, target + 2] = 0
        to_place += 1
        kept += 1
    before, after = _blocks_for(head, count, ACTS_PER_BLOCK), _blocks_for(head, kept, ACTS_PER_BLOCK)
    if after < before:
        _free_chain(s, blocks[to_block - 1, 0], last_block(s, v, which), before - after)
        blocks[to_block - 1, 0] = 0
        s.viewers[v, which * LIST_COLUMNS + LAST] = to_block
    _set_span(s, v, which, kept, to_place, head)
    return count - kept
