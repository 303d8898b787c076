"""Reading kernels of the room signals: flags of candidates, and copies of a viewer's lists."""

from typing import Any

import numpy as np

from engine.batch import Kind
from engine.kernels.id_map import find
from engine.kernels.jit import inlined, kernel, quick
from engine.kernels.rng import mix64
from engine.signals.arrays import (
    ACT_WORDS,
    ACTS_PER_BLOCK,
    ENGAGEMENTS,
    KIND_BITS,
    KIND_MASK,
    LOOK_WORDS,
    LOOKS_FROM,
    LOOKS_PER_BLOCK,
    NEGATIVES,
    SEEN,
    SERVED,
    first_block,
    settle,
    span,
)

ZERO = np.uint64(0)
KIND_NOT_INTERESTED = int(Kind.NOT_INTERESTED)

#: Bits of ``flags``; ``state.ViewerFlag`` names them.
BIT_SEEN, BIT_SERVED, BIT_ENGAGED, BIT_REJECTED, BIT_AUTHOR_NOT_INTERESTED, BIT_AUTHOR_REJECTED = (
    np.uint16(1 << bit) for bit in range(6)
)


@inlined
def _home(node_id: Any, table: Any) -> Any:
    return np.int64(mix64(node_id) & np.uint64(table.shape[0] - 1))


@inlined
def _row_of(node_id: Any, ids: Any, table: Any) -> Any:
    """The first row with this id, -1 when there is none."""
    at = _home(node_id, table)
    while table[at] > 0:
        row = np.int64(table[at]) - 1
        if ids[row] == node_id:
            return row
        at = (at + 1) & (table.shape[0] - 1)
    return np.int64(-1)


@kernel
def _enter(ids: Any, table: Any, first: Any) -> None:
    """Fill ``table`` (row + 1, 0 = empty) with the ids' rows, and ``first`` with each id's first row; skip id 0."""
    for at in range(table.shape[0]):
        table[at] = 0
    for row in range(ids.shape[0]):
        first[row] = row
        if ids[row] == ZERO:
            continue
        at = _home(ids[row], table)
        while table[at] > 0:
            other = table[at] - 1
            if ids[other] == ids[row]:
                first[row] = other
                break
            at = (at + 1) & (table.shape[0] - 1)
        if first[row] == row:
            table[at] = row + 1


@kernel
def _mark(s: Any, v: Any, which: Any, since_ms: Any, bit: Any, ids: Any, table: Any, out: Any) -> None:
    """Set ``bit`` at the first row of every tweet whose entry in the viewer's list is not older than ``since_ms``."""
    per = np.int64(ACTS_PER_BLOCK if which < LOOKS_FROM else LOOKS_PER_BLOCK)
    words = np.int64(ACT_WORDS if which < LOOKS_FROM else LOOK_WORDS)
    count, _, place = span(s, v, which)
    block = first_block(s, v, which)
    for _ in range(count):
        block, place = settle(s, block, place, per)
        entry = s.blocks[block - 1, 1 + place * words :]
        place += 1
        if entry[1] >> KIND_BITS >= since_ms:
            row = _row_of(np.uint64(entry[0]), ids, table)
            if row >= 0:
                out[row] |= bit


@kernel
def _mark_authors(s: Any, v: Any, since_ms: Any, ids: Any, table: Any, out: Any) -> None:
    """Set the author bits at the first row of every author that the viewer rejected since ``since_ms``."""
    count, _, place = span(s, v, NEGATIVES)
    block = first_block(s, v, NEGATIVES)
    for _ in range(count):
        block, place = settle(s, block, place, ACTS_PER_BLOCK)
        entry = s.blocks[block - 1, 1 + place * ACT_WORDS :]
        place += 1
        if entry[1] >> KIND_BITS >= since_ms:
            row = _row_of(np.uint64(entry[2]), ids, table)
            if row >= 0:
                mild = entry[1] & KIND_MASK == KIND_NOT_INTERESTED
                out[row] |= BIT_AUTHOR_NOT_INTERESTED if mild else BIT_AUTHOR_REJECTED


@kernel
def flags(s: Any, v: Any, tweet_ids: Any, author_ids: Any, since_ms: Any, table: Any, first: Any, out: Any) -> None:
    """Write the flags of viewer index ``v`` for each (tweet, author). O(n + the viewer's entries) expected.

    ``tweet_ids``, ``author_ids`` uint64 (n); ``since_ms`` int64 (3): oldest times that count for seen, served and
    authors; ``out`` uint16 (2, n), zeroed: row 0 receives the flags, row 1 is scratch. Scratch: ``table`` int32 (power
    of two ≥ 2n), ``first`` int32 (n).
    """
    ever = np.int64(-1 << 62)
    marks, author_marks = out[0], out[1]
    _enter(tweet_ids, table, first)
    _mark(s, v, np.int64(SEEN), since_ms[0], BIT_SEEN, tweet_ids, table, marks)
    _mark(s, v, np.int64(SERVED), since_ms[1], BIT_SERVED, tweet_ids, table, marks)
    _mark(s, v, np.int64(ENGAGEMENTS), ever, BIT_ENGAGED, tweet_ids, table, marks)
    _mark(s, v, np.int64(NEGATIVES), ever, BIT_REJECTED, tweet_ids, table, marks)
    for row in range(tweet_ids.shape[0]):
        marks[row] = marks[first[row]]
    if first_block(s, v, NEGATIVES):
        _enter(author_ids, table, first)
        _mark_authors(s, v, since_ms[2], author_ids, table, author_marks)
        for row in range(author_ids.shape[0]):
            marks[row] |= author_marks[first[row]]


@kernel
def acted_on(s: Any, user_id: Any, out: Any) -> Any:
    """Write the tweets of a viewer's engagements, then of the negatives, then of the impressions, each in the order of
    the log, into ``out`` (uint64, the most entries of the three lists); returns how many."""
    v = np.int64(find(s.ids, user_id))
    if v < 0:
        return 0
    count = 0
    for which in (ENGAGEMENTS, NEGATIVES, SEEN):
        per = np.int64(ACTS_PER_BLOCK if which < LOOKS_FROM else LOOKS_PER_BLOCK)
        words = np.int64(ACT_WORDS if which < LOOKS_FROM else LOOK_WORDS)
        held, _, place = span(s, v, which)
        block = first_block(s, v, which)
        for _ in range(held):
            block, place = settle(s, block, place, per)
            out[count] = np.uint64(s.blocks[block - 1, 1 + place * words])
            place += 1
            count += 1
    return count


@quick
def count_since(s: Any, user_id: Any, which: Any, since_ms: Any) -> Any:
    """How many acts in a viewer's list of acts are not older than ``since_ms``."""
    v = np.int64(find(s.ids, user_id))
    if v < 0:
        return np.int64(0)
    held, _, place = span(s, v, which)
    block, count = first_block(s, v, which), np.int64(0)
    for _ in range(held):
        block, place = settle(s, block, place, ACTS_PER_BLOCK)
        count += s.blocks[block - 1, 1 + place * ACT_WORDS + 1] >> KIND_BITS >= since_ms
        place += 1
    return count


@kernel
def newest_tweets(s: Any, user_id: Any, which: Any, kinds: Any, counts: Any, cut: Any, out: Any) -> Any:
    """Write the tweets of a viewer's newest acts of some kinds in a list of acts, each tweet once, newest act first,
    into ``out`` (uint64); returns how many. Among equal times, the later act in the log comes first.

    ``kinds``: bit mask. ``counts``: how many of the newest acts, of whatever kind, are looked at (at least 1), and how
    many tweets are wanted. ``cut``: scratch (tweets uint64, kinds uint8, times int64, authors uint64, each as long as
    the list can be; order int32 of the acts that are looked at).
    """
    v = np.int64(find(s.ids, user_id))
    if v < 0:
        return 0
    acts_max, wanted = counts
    tweets, of_kinds, times, authors, order = cut
    n = span(s, v, which)[0]
    entries(s, v, which, tweets[:n], of_kinds[:n], times[:n], authors[:n])
    held = np.int64(0)
    for i in range(n - 1, -1, -1):
        # The log is nearly in order of time, so an act hardly ever passes another.
        at = held
        while at > 0 and times[order[at - 1]] < times[i]:
            at -= 1
        if at < acts_max:
            held = min(held + 1, acts_max)
            for j in range(held - 1, at, -1):
                order[j] = order[j - 1]
            order[at] = i
    found = np.int64(0)
    for k in range(held):
        tweet, known = tweets[order[k]], (kinds >> np.int64(of_kinds[order[k]])) & 1 == 0
        for j in range(found):
            known = known or out[j] == tweet
        if not known and found < wanted:
            out[found] = tweet
            found += 1
    return found


@kernel
def entries(s: Any, v: Any, which: Any, tweet_ids: Any, kinds: Any, times_ms: Any, author_ids: Any) -> None:
    """Copy a viewer's list of acts, in the order of the log, into arrays of the list's length.

    ``tweet_ids`` and ``author_ids`` uint64, ``kinds`` uint8, ``times_ms`` int64.
    """
    _, _, place = span(s, v, which)
    block = first_block(s, v, which)
    for i in range(tweet_ids.shape[0]):
        block, place = settle(s, block, place, ACTS_PER_BLOCK)
        entry = s.blocks[block - 1, 1 + place * ACT_WORDS :]
        place += 1
        tweet_ids[i] = np.uint64(entry[0])
        kinds[i] = entry[1] & KIND_MASK
        times_ms[i] = entry[1] >> KIND_BITS
        author_ids[i] = np.uint64(entry[2])
