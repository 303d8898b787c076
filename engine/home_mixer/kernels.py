"""Kernels of the home mixer: light rank, features, the score's parts, author diversity and selection.

m is the number of kept candidates, ``rows`` int32 (m,) their rows among all n; the feature matrix is float32 (m, F).
"""

from typing import Any

import numpy as np

from engine.exact_math import exp2
from engine.kernels.jit import inlined, quick
from engine.pipeline.kernels import TABLE_MIN, before, place_of, slots_for

#: How often chosen answers without a chosen root are replaced.
ROOT_ROUNDS = 3
#: Smallest positive normal float64: a divisor where there is nothing to divide.
_TINY = 2.2250738585072014e-308


@quick
def first_rank(ranks: Any, rows: Any, out: Any) -> None:
    """Minus the best rank that any source gave each kept row, into ``out`` float64 (n,); ``ranks`` int32 (s, n)."""
    for i in range(rows.shape[0]):
        # −1, no rank, is the greatest unsigned number.
        best = np.uint32(0xFFFFFFFF)
        for s in range(ranks.shape[0]):
            best = min(best, np.uint32(ranks[s, rows[i]]))
        out[rows[i]] = -np.float64(best)


@quick
def bond_features(rows: Any, relation: Any, flags: Any, bits: Any, out: Any, at: Any) -> None:
    """Three columns of ``out`` from ``at`` on: 1 where ``relation`` (uint8, (n,)) has the first or the second of
    ``bits``, and where ``flags`` (uint16, (n,)) has the third; else 0."""
    for i in range(rows.shape[0]):
        bonds = np.int64(relation[rows[i]])
        out[i, at] = np.float32(bonds & bits[0] != 0)
        out[i, at + 1] = np.float32(bonds & bits[1] != 0)
        out[i, at + 2] = np.float32(np.int64(flags[rows[i]]) & bits[2] != 0)


@inlined
def _greatest(features: Any, column: Any) -> Any:
    greatest = 0.0
    for i in range(features.shape[0]):
        greatest = max(greatest, np.float64(features[i, column]))
    return greatest if greatest > 0.0 else _TINY


@quick
def blend_parts(features: Any, columns: Any, weights: Any, parts: Any, factors: Any) -> None:
    """The plain score's parts float64 (8, m) and factors (2, m); docs/feeds.md has the formula.

    ``columns``: int64, of age in hours, the three families, the two seeded walks, related, people who proved, in
    network, author not interested, and interests. ``weights``: float64: recency, its half-life in hours, time-aware,
    seeded walk, related, social proof, people who make it whole, the two factors, interests.
    """
    m = features.shape[0]
    together = 0.0
    for i in range(m):
        total = 0.0
        for family in range(1, 4):
            total += np.float64(features[i, columns[family]])
        together = max(together, total)
    together = together if together > 0.0 else _TINY
    seeded = max(_greatest(features, columns[4]), _greatest(features, columns[5]))
    related = _greatest(features, columns[6])
    for i in range(m):
        parts[0, i] = weights[0] * exp2(-np.float64(features[i, columns[0]]) / weights[1])
        for family in range(1, 4):
            parts[family, i] = weights[2] * np.float64(features[i, columns[family]]) / together
        walked = max(np.float64(features[i, columns[4]]), np.float64(features[i, columns[5]]))
        parts[4, i] = weights[3] * (walked / seeded)
        parts[5, i] = weights[4] * (np.float64(features[i, columns[6]]) / related)
        parts[6, i] = weights[5] * min(np.float64(features[i, columns[7]]) / weights[6], 1.0)
        parts[7, i] = weights[9] * np.float64(features[i, columns[10]])
        factors[0, i] = 1.0 if features[i, columns[8]] > 0.0 else weights[7]
        factors[1, i] = weights[8] if features[i, columns[9]] > 0.0 else 1.0


@quick
def author_diversity(total: Any, ids: Any, authors: Any, decay: Any, floor: Any, cut: Any, out: Any) -> None:
    """(1 − floor) · decay^i + floor for an author's i-th best candidate into ``out`` float64 (m,); 1 for author 0.

    ``total`` float64, ``ids`` and ``authors`` uint64, all (m,). ``cut``: scratch (worse int32 (m,), places int32 (m,),
    table int32). Each author's candidates are a list, best first. O(m · the most candidates of one author), which is
    far less than sorting all of them: hardly any author has more than a few.
    """
    worse, places, slots = cut
    table = slots[: slots_for(out.shape[0])]
    for at in range(table.shape[0]):
        table[at] = 0
    people = 0
    for i in range(out.shape[0]):
        out[i] = 1.0
        if authors[i] == 0:
            continue
        at = place_of(authors, table, authors[i])
        best = np.int64(table[at]) - 1
        if best < 0:
            places[people] = at
            people += 1
        if best < 0 or before(total, ids, i, best):
            worse[i] = best
            table[at] = i + 1
        else:
            while worse[best] >= 0 and not before(total, ids, i, worse[best]):
                best = np.int64(worse[best])
            worse[i] = worse[best]
            worse[best] = i
    for person in range(people):
        row = np.int64(table[places[person]]) - 1
        power = 1.0
        while row >= 0:
            out[row] = (1.0 - floor) * power + floor
            power *= decay
            row = np.int64(worse[row])


@inlined
def _sink(scores: Any, ids: Any, heap: Any, at: Any, size: Any) -> None:
    row = heap[at]
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        if child + 1 < size and before(scores, ids, heap[child + 1], heap[child]):
            child += 1
        if not before(scores, ids, heap[child], row):
            break
        heap[at] = heap[child]
        at = child
    heap[at] = row


@inlined
def _is_recent(author: Any, chosen: Any, count: Any, authors: Any, gap: Any) -> Any:
    """Whether the author wrote any of the last ``gap`` chosen."""
    recent = False
    for back in range(max(0, count - gap), count):
        recent = recent or authors[chosen[back]] == author
    return recent


@quick
def choose_spaced(total: Any, ids: Any, authors: Any, places: Any, gap: Any, cut: Any, chosen: Any) -> Any:
    """Fill ``chosen`` (int32, (k,)) with the best of ``places`` (int32, (p,)), no two of an author within ``gap``
    positions while others are left; returns how many were there. Ties: the greater id.

    ``total`` float64, ``ids`` and ``authors`` uint64, all by place. ``cut``: scratch (heap int32 (p,), waiting int32
    (p,)).
    Candidates that come too early wait, best first: each is better than all that are still in the heap.
    O(m + (k + waiting) log m + k · waiting).
    """
    heap, waiting = cut
    size = heap.shape[0]
    for i in range(size):
        heap[i] = places[i]
    for at in range(size // 2 - 1, -1, -1):
        _sink(total, ids, heap, np.int64(at), size)
    waits = 0
    count = 0
    while count < chosen.shape[0] and size + waits > 0:
        pick = -1
        for w in range(waits):
            if not _is_recent(authors[waiting[w]], chosen, count, authors, gap):
                pick = w
                break
        while pick < 0 and size > 0:
            best = heap[0]
            size -= 1
            heap[0] = heap[size]
            if size > 0:
                _sink(total, ids, heap, np.int64(0), size)
            waiting[waits] = best
            waits += 1
            if not _is_recent(authors[best], chosen, count, authors, gap):
                pick = waits - 1
        # When everybody left is a recent author, the best one goes in all the same.
        pick = max(pick, 0)
        chosen[count] = waiting[pick]
        count += 1
        waits -= 1
        for w in range(pick, waits):
            waiting[w] = waiting[w + 1]
    return count


@quick
def rootless(answers: Any, roots: Any, originals: Any, places: Any, shown: Any, held: Any, table: Any, out: Any) -> Any:
    """List the answers among some candidates whose root is neither among these nor was shown; returns how many.

    ``answers`` bool, ``roots`` and ``originals`` uint64, all (m,); ``places`` int32 (k,), which of them; ``shown``
    uint64. ``out``: int32 (k,). Scratch: ``held`` uint64 (≥ k + shown,), ``table`` int32 of ``table_size`` of that.
    O(k + shown).
    """
    for at in range(table.shape[0]):
        table[at] = 0
    count = 0
    for i in range(places.shape[0] + shown.shape[0]):
        k = places.shape[0]
        held[count] = originals[places[i]] if i < k else shown[i - k]
        at = place_of(held, table, held[count])
        if table[at] == 0:
            count += 1
            table[at] = count
    lost = 0
    for i in range(places.shape[0]):
        if answers[places[i]] and table[place_of(held, table, roots[places[i]])] == 0:
            out[lost] = places[i]
            lost += 1
    return lost


@quick
def choose_with_roots(
    total: Any, columns: Any, rows: Any, shown: Any, gap: Any, cut: Any, lost: Any, chosen: Any
) -> Any:
    """``choose_spaced`` among all m kept candidates, but an answer to a stranger only if the root of its conversation
    is chosen too, or was ``shown`` (uint64); returns how many were chosen, and how many answers are ``lost`` (int32, m)
    because their root is no candidate.

    ``columns``: whether a candidate is such an answer (uint16), then tweet, author, root and original (uint64), by row.
    Chosen answers without a chosen root are replaced in at most ``ROOT_ROUNDS`` rounds; after that, no answer is
    chosen. ``cut``: scratch for m + shown: ids uint64 (5, …), places int32 (3, …), marks bool (2, …), table int32.
    """
    is_answer, tweet_ids, author_ids, root_ids, original_ids = columns
    many_ids, many_places, marks, slots = cut
    table = slots[: slots_for(rows.shape[0] + shown.shape[0])]
    ids, authors, roots, originals, held = many_ids[0], many_ids[1], many_ids[2], many_ids[3], many_ids[4]
    places, heap, waiting, answers, left = many_places[0], many_places[1], many_places[2], marks[0], marks[1]
    m = rows.shape[0]
    for i in range(m):
        row = rows[i]
        ids[i], authors[i] = tweet_ids[row], author_ids[row]
        roots[i], originals[i] = root_ids[row], original_ids[row]
        answers[i], left[i] = is_answer[row] != 0, True
        places[i] = i
    gone = np.int64(rootless(answers, roots, originals, places[:m], shown, held, table, lost))
    for i in range(gone):
        left[lost[i]] = False
    count = np.int64(0)
    for turn in range(ROOT_ROUNDS + 1):
        among = np.int64(0)
        for i in range(m):
            if left[i] and (turn < ROOT_ROUNDS or not answers[i]):
                places[among] = i
                among += 1
        spare = (heap[:among], waiting[:among])
        best = chosen[: min(chosen.shape[0], among)]
        count = np.int64(choose_spaced(total, ids, authors, places[:among], gap, spare, best))
        early = np.int64(rootless(answers, roots, originals, chosen[:count], shown, held, table, heap))
        if early == 0:
            break
        for i in range(early):
            left[heap[i]] = False
    return count, gone


def warm() -> None:
    """Compile every kernel on the real types."""
    rows, ids, total = np.arange(2, dtype=np.int32), np.arange(1, 3, dtype=np.uint64), np.ones(2)
    matrix = np.ones((2, 20), np.float32)
    first_rank(np.zeros((1, 2), np.int32), rows, total.copy())
    bond_features(rows, np.ones(2, np.uint8), np.ones(2, np.uint16), (1, 2, 1), matrix, 0)
    blend_parts(matrix, np.arange(11), np.ones(10), np.empty((8, 2)), np.empty((2, 2)))
    cut = (rows.copy(), rows.copy(), np.zeros(TABLE_MIN, np.int32))
    author_diversity(total, ids, ids.copy(), 0.5, 0.25, cut, total.copy())
    choose_spaced(total, ids, ids.copy(), rows, 2, (rows.copy(), rows.copy()), rows.copy())
    spare = (np.zeros((5, 2), np.uint64), np.zeros((3, 2), np.int32), np.zeros((2, 2), np.bool_))
    columns = (np.zeros(2, np.uint16), ids, ids.copy(), ids.copy(), ids.copy())
    table = np.zeros(TABLE_MIN, np.int32)
    choose_with_roots(total, columns, rows, ids[:0].copy(), 2, (*spare, table), rows.copy(), rows.copy())
