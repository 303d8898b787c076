"""Kernels over candidate columns: merging sources, dropping rows, ordering, narrowing.

In all of them ``dropped_by`` is int16 (n,): 0 for a row that is kept, else the code of the reason that dropped it. A
reason is written only where there is none, so the first one stands. Ids are uint64, rows int32.
"""

from typing import Any

import numpy as np

from engine.kernels.jit import inlined, quick
from engine.kernels.rng import mix64

#: Slots of the smallest hash table.
TABLE_MIN = 16


def table_size(count: int) -> int:
    """Slots of a hash table for ``count`` keys: the power of two at or above twice as many."""
    return max(TABLE_MIN, 1 << (2 * count - 1).bit_length())


@inlined
def slots_for(count: Any) -> Any:
    """``table_size``, for kernels."""
    size = np.int64(TABLE_MIN)
    while size < 2 * count:
        size *= 2
    return size


@inlined
def place_of(keys: Any, table: Any, key: Any) -> Any:
    """The slot of ``table`` (int32, row + 1, 0 = empty) that holds the row of ``keys`` with this key, or the empty slot
    where it would go."""
    mask = table.shape[0] - 1
    at = np.int64(mix64(key) & np.uint64(mask))
    while table[at] > 0 and keys[table[at] - 1] != key:
        at = (at + 1) & mask
    return at


@quick
def merge_sources(ids: Any, scores: Any, counts: Any, cut: Any, tweet_id: Any, score: Any, rank: Any) -> Any:
    """Make one table of what s sources found; returns how many candidates n there are.

    ``ids`` (k,) and ``scores`` float64 (k,): what the first source found, best first, then what the second did, and so
    on; ``counts`` int64 (s,): how many each. ``tweet_id`` (k,): the candidates, n of them. ``score`` float64 and
    ``rank`` int32 (s · k,): the first s · n are those by source and candidate, row by row. ``cut``: scratch: a table
    int32 of at least ``table_size(k)``, rows int32 (k,). Of a tweet that a source names twice the better rank stays.
    O(k + n · s).
    """
    slots, rows = cut
    table = slots[: slots_for(ids.shape[0])]
    for at in range(table.shape[0]):
        table[at] = 0
    n = np.int64(0)
    for i in range(ids.shape[0]):
        at = place_of(tweet_id, table, ids[i])
        if table[at] == 0:
            tweet_id[n] = ids[i]
            n += 1
            table[at] = n
        rows[i] = table[at] - 1
    for at in range(counts.shape[0] * n):
        score[at] = np.nan
        rank[at] = -1
    first = np.int64(0)
    for source in range(counts.shape[0]):
        for i in range(counts[source]):
            at = source * n + rows[first + i]
            if rank[at] < 0:
                score[at] = scores[first + i]
                rank[at] = i
        first += counts[source]
    return n


@quick
def drop_by_bits(column: Any, bits: Any, dropped_by: Any, code: Any) -> None:
    """Drop the rows in which ``column`` (uint16, (n,)) has any bit of one of ``bits`` (uint16, (k,)); the code is
    ``code`` for the first of these, one more for the next, and so on."""
    for row in range(column.shape[0]):
        if column[row] != 0 and dropped_by[row] == 0:
            for i in range(bits.shape[0]):
                if column[row] & bits[i] != 0:
                    dropped_by[row] = code + i
                    break


@quick
def drop_either_equal(column: Any, other: Any, value: Any, dropped_by: Any, code: Any) -> None:
    """Drop the rows in which ``column`` or ``other`` (ids, (n,)) has this value."""
    for row in range(column.shape[0]):
        if dropped_by[row] == 0 and (column[row] == value or other[row] == value):
            dropped_by[row] = code


@quick
def drop_less(column: Any, least: Any, dropped_by: Any, code: Any) -> None:
    """Drop the rows in which ``column`` (int64, (n,)) is less than ``least``."""
    for row in range(column.shape[0]):
        if dropped_by[row] == 0 and column[row] < least:
            dropped_by[row] = code


@quick
def drop_not_before(times: Any, ids: Any, time: Any, last_id: Any, dropped_by: Any, code: Any) -> None:
    """Drop the rows whose (time, id) is not less than the given one: ``times`` int64 (n,)."""
    for row in range(ids.shape[0]):
        before = times[row] < time or (times[row] == time and ids[row] < last_id)
        if dropped_by[row] == 0 and not before:
            dropped_by[row] = code


@quick
def drop_listed(ids: Any, listed: Any, table: Any, dropped_by: Any, code: Any) -> None:
    """Drop the rows whose id is in ``listed`` (k,). ``table``: int32 scratch of ``table_size(k)``. O(n + k)."""
    for at in range(table.shape[0]):
        table[at] = 0
    for i in range(listed.shape[0]):
        table[place_of(listed, table, listed[i])] = i + 1
    for row in range(ids.shape[0]):
        if dropped_by[row] == 0 and table[place_of(listed, table, ids[row])] > 0:
            dropped_by[row] = code


@quick
def drop_repeated(ids: Any, original_ids: Any, table: Any, dropped_by: Any, code: Any) -> None:
    """Drop all but one of the kept rows that stand for one original: the original itself stays if it is among them,
    else the first. ``table``: int32 scratch of ``table_size(n)``. O(n)."""
    for at in range(table.shape[0]):
        table[at] = 0
    for row in range(ids.shape[0]):
        if dropped_by[row] == 0 and ids[row] == original_ids[row]:
            at = place_of(original_ids, table, ids[row])
            if table[at] == 0:
                table[at] = row + 1
    for row in range(ids.shape[0]):
        if dropped_by[row] == 0:
            at = place_of(original_ids, table, original_ids[row])
            if table[at] == 0:
                table[at] = row + 1
            elif table[at] != row + 1:
                dropped_by[row] = code


@quick
def drop_repeated_of_page(
    original_ids: Any, times: Any, ids: Any, first: Any, first_id: Any, table: Any, dropped_by: Any, code: Any
) -> None:
    """Drop all but one of the kept rows that stand for one original: the original stays if it is among them, else
    the newest by (time, id): ``times`` int64 (n,).

    Rows newer than ``first`` (ms) and ``first_id`` neither stay for others nor are dropped. ``table``: int32 scratch of
    ``table_size(n)``. O(n).
    """
    for at in range(table.shape[0]):
        table[at] = 0
    for row in range(ids.shape[0]):
        newer = times[row] > first or (times[row] == first and ids[row] > first_id)
        if dropped_by[row] == 0 and not newer:
            at = place_of(original_ids, table, original_ids[row])
            best = table[at] - 1
            better = best < 0 or times[row] > times[best] or (times[row] == times[best] and ids[row] > ids[best])
            if ids[row] == original_ids[row] or (better and (best < 0 or ids[best] != original_ids[best])):
                table[at] = row + 1
    for row in range(ids.shape[0]):
        newer = times[row] > first or (times[row] == first and ids[row] > first_id)
        if dropped_by[row] == 0 and not newer and table[place_of(original_ids, table, original_ids[row])] != row + 1:
            dropped_by[row] = code


@quick
def settle(dropped_by: Any, rows: Any, counts: Any) -> Any:
    """Write the kept rows, ascending, into ``rows`` (≥ n,) and how many rows each code dropped into ``counts`` (int64,
    zeroed, longer than the greatest code); returns how many are kept."""
    kept = 0
    for row in range(dropped_by.shape[0]):
        rows[kept] = row
        kept += dropped_by[row] == 0
        counts[dropped_by[row]] += 1
    return kept


@quick
def drop_others(rows: Any, places: Any, dropped_by: Any, code: Any) -> Any:
    """Drop the ``rows`` (int32, m) that nothing has dropped, but those at ``places`` (int32, k, distinct); returns how
    many."""
    held = np.int64(0)
    for i in range(places.shape[0]):
        row = rows[places[i]]
        if dropped_by[row] == 0:
            dropped_by[row] = -1
            held += 1
    dropped = np.int64(0)
    for i in range(rows.shape[0]):
        if dropped_by[rows[i]] == 0:
            dropped_by[rows[i]] = code
            dropped += 1
    for i in range(places.shape[0]):
        row = rows[places[i]]
        if dropped_by[row] == -1:
            dropped_by[row] = 0
    return dropped


@quick
def count_brought(ranks: Any, rows: Any, out: Any) -> None:
    """How many of ``rows`` (int32, k) each source brought, into ``out`` (int64, s); ``ranks`` int32 (s, n), −1 where a
    source did not bring a row."""
    for source in range(ranks.shape[0]):
        out[source] = 0
        for i in range(rows.shape[0]):
            out[source] += ranks[source, rows[i]] >= 0


@inlined
def before(scores: Any, ids: Any, a: Any, b: Any) -> Any:
    """Whether row a comes before row b: the greater score, among equals the greater (newer) id."""
    return scores[a] > scores[b] or (scores[a] == scores[b] and ids[a] > ids[b])


@quick
def sort_best_first(scores: Any, ids: Any, order: Any, spare: Any) -> None:
    """Sort the rows in ``order`` by ``before``: a bottom-up merge sort. ``spare``: as long as ``order``.

    ``scores`` float64 without NaN and distinct ``ids``, both indexed by row. O(n log n).
    """
    n = order.shape[0]
    width = 1
    while width < n:
        for low in range(0, n, 2 * width):
            middle = min(low + width, n)
            high = min(low + 2 * width, n)
            left = low
            right = middle
            for at in range(low, high):
                if left < middle and (right >= high or not before(scores, ids, order[right], order[left])):
                    spare[at] = order[left]
                    left += 1
                else:
                    spare[at] = order[right]
                    right += 1
        for at in range(n):
            order[at] = spare[at]
        width *= 2


@quick
def narrow(
    scores: Any, ids: Any, ranks: Any, rows: Any, caps: Any, total_max: Any, cut: Any, dropped_by: Any, code: Any
) -> None:
    """Drop the kept rows that are neither among the ``caps[s]`` best of a source s that brought them, nor among the
    ``total_max`` best of all that are.

    ``scores`` float64 (n,), ``ids`` (n,), ``ranks`` int32 (s, n) with −1 where a source did not bring the row, ``rows``
    (m,) the kept ones, ``caps`` int64 (s,). ``cut``: scratch (order int32 (m,), spare int32 (m,), taken int64 (s,)).
    O(m · (s + log m)), O(m · s) where nothing is over a cap.
    """
    order, spare, taken = cut
    taken[:] = 0
    for i in range(rows.shape[0]):
        order[i] = rows[i]
        for s in range(caps.shape[0]):
            taken[s] += ranks[s, rows[i]] >= 0
    over = rows.shape[0] > total_max
    for s in range(caps.shape[0]):
        over = over or taken[s] > caps[s]
        taken[s] = 0
    if not over:
        return
    sort_best_first(scores, ids, order, spare)
    total = 0
    for i in range(order.shape[0]):
        row = order[i]
        stays = False
        for s in range(caps.shape[0]):
            if ranks[s, row] >= 0:
                stays = stays or taken[s] < caps[s]
                taken[s] += 1
        if stays and total < total_max:
            total += 1
        else:
            dropped_by[row] = code


@quick
def combine(parts: Any, factors: Any, base: Any, multiplier: Any, total: Any) -> None:
    """Add rows of ``parts`` float64 (p, m) to ``base``, multiply ``multiplier`` by rows of ``factors`` (f, m), both in
    order; ``total`` is their product (all float64, (m,))."""
    for i in range(total.shape[0]):
        for p in range(parts.shape[0]):
            base[i] += parts[p, i]
        for f in range(factors.shape[0]):
            multiplier[i] *= factors[f, i]
        total[i] = base[i] * multiplier[i]


@quick
def source_features(scores: Any, ranks: Any, rows: Any, where: Any, pairs: Any, out: Any, at: Any) -> None:
    """Score and 1 / (1 + rank) of each source into columns ``at`` … of ``out`` float32 (m, F), 0 where it did not bring
    the row. ``where``: int64 (s,), which of the ``pairs`` of columns source s fills; the others get 0."""
    for i in range(rows.shape[0]):
        for column in range(at, at + 2 * pairs):
            out[i, column] = np.float32(0.0)
        for s in range(where.shape[0]):
            rank = ranks[s, rows[i]]
            column = at + 2 * where[s]
            out[i, column] = np.float32(scores[s, rows[i]]) if rank >= 0 else np.float32(0.0)
            out[i, column + 1] = np.float32(1.0 / (1.0 + rank)) if rank >= 0 else np.float32(0.0)


def warm() -> None:
    """Compile every kernel on the real types."""
    ids, scores = np.arange(1, 3, dtype=np.uint64), np.ones(2)
    table, order = np.zeros(TABLE_MIN, np.int32), np.arange(2, dtype=np.int32)
    score, rank, dropped = np.empty((1, 2)), np.empty((1, 2), np.int32), np.zeros(2, np.int16)
    merge_sources(ids, scores, np.array([2]), (table, order.copy()), ids.copy(), score.ravel(), rank.ravel())
    drop_by_bits(np.zeros(2, np.uint16), np.ones(1, np.uint16), dropped, 1)
    drop_either_equal(ids, ids.copy(), np.uint64(9), dropped, 1)
    drop_less(np.ones(2, np.int64), 0, dropped, 1)
    drop_not_before(np.zeros(2, np.int64), ids, 1, np.uint64(1), dropped, 1)
    drop_listed(ids, ids[:0].copy(), table, dropped, 1)
    drop_repeated(ids, ids.copy(), table, dropped, 1)
    drop_repeated_of_page(ids, np.zeros(2, np.int64), ids, 1, np.uint64(1), table, dropped, 1)
    settle(dropped, order.copy(), np.zeros(2, np.int64))
    drop_others(order, order.copy(), dropped, 1)
    narrow(
        scores,
        ids,
        rank,
        order,
        np.ones(1, np.int64),
        1,
        (order.copy(), order.copy(), np.zeros(1, np.int64)),
        dropped,
        1,
    )
    count_brought(rank, order, np.zeros(1, np.int64))
    combine(np.ones((1, 2)), np.ones((1, 2)), scores, scores.copy(), scores.copy())
    source_features(score, rank, order, np.zeros(1, np.int64), 1, np.empty((2, 2), np.float32), 0)
