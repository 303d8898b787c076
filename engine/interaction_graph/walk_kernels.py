"""Random walks: all walkers advance together, with one loop per kind of memory access.

A single walker waits for two cache misses per step. The misses of thousands of walkers are independent: one loop turns
nodes into slots, the next turns slots into neighbors, the next counts, and the CPU keeps many misses in flight. Visits
are counted in a hash table of the request, small enough to stay in cache.

Beside the graph, a request uses only two buffers of the reader, ``ints`` and ``floats``; ``Layout`` divides them. Draws
are a function of the request's seed, the step and the walker: same request, same bytes.
"""

from typing import Any, NamedTuple

import numpy as np

from engine.interaction_graph.arrays import ALL_TYPES, NODE_BITS, NODE_MASK
from engine.interaction_graph.walk_proof_kernels import prove
from engine.kernels.id_map import find_in
from engine.kernels.jit import inlined, kernel
from engine.kernels.prefetch import prefetch
from engine.kernels.ring_slices import degree, slot_of
from engine.kernels.rng import bounded, draw64, stream
from engine.kernels.top_k import top_k

#: Fields of the statistics, at the start of ``ints``.
WALKERS, SEEDS, VISITS, REACHED, STEPS, RESULTS, BAD_WEIGHTS, BUDGET = 0, 1, 2, 3, 4, 5, 6, 7
STATS = 8
#: Bins of the histogram that bounds the results' scores from below.
BINS = 256
#: Half-lives that one walk can be scored at: four float64 make half a cache line.
LANES = 4
#: A step draws this many edges in search of a wanted type; then it counts the list's edges of that type.
_TRIES = 8
#: A request counts at most this many entries: that takes about as long as the longest walk without counting.
ENTRIES_MAX = 1 << 25
_LOW32 = np.uint64(0xFFFFFFFF)


class Layout(NamedTuple):
    """Sizes that divide the buffers: walkers, right nodes that can be reached, hash slots (power of two), results,
    proofs per result, half-lives.

    In order, ``ints`` holds: statistics; per walker: user, mover's user, slot, entry, rank; per right node: index,
    visits, id, place among the results, candidate row; bins of a histogram; the hash table; per result: id, rank,
    visits, number of proofs; per proof: user id, type, degree. ``floats``: per right node a score, a candidate's
    score, and a spare; per result a score; LANES factors; per right node LANES weights.
    """

    walkers: int
    reached: int
    table: int
    results: int
    proofs: int
    half_lives: int

    @property
    def results_at(self) -> int:
        """Where the results begin in ``ints``."""
        return STATS + 5 * self.walkers + 5 * self.reached + 1 + BINS + self.table

    @property
    def ints(self) -> int:
        """Length of the buffer ``ints``."""
        return self.results_at + 4 * self.results + 3 * self.results * self.proofs

    @property
    def floats(self) -> int:
        """Length of the buffer ``floats``."""
        return (3 + (LANES if self.half_lives else 0)) * self.reached + self.results + LANES


#: A sum of weights below this is treated as 0: its inverse might not be finite.
TOTAL_MIN = 1e-280


@inlined
def place_walkers(
    g: Any, query: Any, seeds: Any, weights: Any, walks: Any, fraction: Any, users: Any, stats: Any
) -> None:
    """Put walkers on the seeds in proportion to their weights, rounded up, and on the query user by ``fraction``.

    Seeds without edges are left out before weights are added up. If a weight is negative or not finite, no walker is
    placed and ``BAD_WEIGHTS`` is set.
    """
    total = 0.0
    query_is_seed = False
    for i in range(seeds.shape[0]):
        if not 0.0 <= weights[i] < np.inf:
            stats[BAD_WEIGHTS] = 1
            return
        user = np.int64(find_in(g.user_slots, seeds[i]))
        if user >= 0 and degree(g.user_records[user]) > 0:
            total += weights[i]
            query_is_seed = query_is_seed or user == query
    own = 0.0
    if query >= 0 and not query_is_seed and degree(g.user_records[query]) > 0:
        own = total * fraction / (1.0 - fraction) if total > 0.0 else 1.0
        total += own
    n = 0
    if total > 0.0:
        for i in range(seeds.shape[0] + 1):
            if i < seeds.shape[0]:
                user = np.int64(find_in(g.user_slots, seeds[i]))
                weight = weights[i]
            else:
                user = query
                weight = own
            if user < 0 or weight <= 0.0 or degree(g.user_records[user]) == 0:
                continue
            stats[SEEDS] += 1
            for _ in range(np.int64(np.ceil(weight / total * walks))):
                if n < users.shape[0]:
                    users[n] = user
                    n += 1
    stats[WALKERS] = n


@inlined
def _draw_slot(record: Any, bits: Any) -> Any:
    """A uniformly drawn slot of a list that is not empty."""
    return slot_of(record, bounded(bits, degree(record)))


@kernel
def draw_typed(entries: Any, record: Any, types: Any, bits: Any, budget: Any) -> Any:
    """A slot drawn uniformly among the list's entries of wanted types (bit mask), -1 if there is none.

    A few draws from the whole list; if none has a wanted type, all entries are counted and one of the wanted is drawn.
    Both ways are uniform over the wanted entries. ``budget``: int64 (1,), entries that may still be counted; when it is
    used up, the result is -1 and the budget stays negative.
    """
    if budget[0] < 0:
        return np.int64(-1)
    count = degree(record)
    for i in range(_TRIES):
        slot = slot_of(record, bounded(draw64(bits, np.uint64(i)), count))
        if (types >> ((entries[slot] >> NODE_BITS) & 15)) & 1:
            return slot
    budget[0] -= count
    if budget[0] < 0:
        return np.int64(-1)
    wanted = np.int64(0)
    for i in range(count):
        wanted += (types >> ((entries[slot_of(record, i)] >> NODE_BITS) & 15)) & 1
    if wanted == 0:
        return np.int64(-1)
    left = bounded(draw64(bits, np.uint64(_TRIES)), wanted)
    for i in range(count):
        slot = slot_of(record, i)
        if (types >> ((entries[slot] >> NODE_BITS) & 15)) & 1:
            if left == 0:
                return slot
            left -= 1
    return np.int64(-1)


@inlined
def count_visit(table: Any, shift: Any, nodes: Any, visits: Any, reached: Any, node: Any) -> Any:
    """Count a visit; returns the right node's rank in the order of first visits (``reached`` if the node is new).

    A used slot of ``table`` holds node + 1 (upper half) and rank.
    """
    mask = table.shape[0] - 1
    at = np.int64((np.uint64(node) * np.uint64(0x9E3779B97F4A7C15)) >> shift)
    while True:
        held = table[at]
        if held >> 32 == node + 1:
            rank = held & 0xFFFFFFFF
            visits[rank] += 1
            return rank
        if held == 0:
            table[at] = ((node + 1) << 32) | reached
            nodes[reached] = node
            visits[reached] = 1
            return reached
        at = np.int64((at + 1) & mask)


@inlined
def step_left(g: Any, cut: Any, n: Any, query: Any, types: Any, coin: Any, start: Any) -> Any:
    """One step from users to tweets. Each walker first draws whether it resets: it then waits at the query user until
    the next left step.

    Fills ``movers`` (users of the walkers that move), ``slots`` and ``found`` (their entries), and puts the waiting
    walkers at the front of ``users``; returns how many move and how many wait.
    """
    users, movers, slots, found, budget = cut
    entries = g.entries
    moved = np.int64(0)
    waiting = np.int64(0)
    for w in range(n):
        bits = draw64(start, np.uint64(w))
        user = users[w]
        record = g.user_records[user]
        # Always write, and keep the value by advancing the count: a branch on a random draw is often mispredicted.
        resets = (bits & _LOW32) < coin
        movers[moved] = user
        slots[moved] = _draw_slot(record, bits)
        moved += np.int64((not resets) & (degree(record) > 0))
        users[waiting] = query
        waiting += np.int64(resets & (query >= 0))
    for m in range(moved):
        found[m] = entries[slots[m]]
        prefetch(g.tweet_records, found[m] & NODE_MASK)
    if types != ALL_TYPES:
        kept = np.int64(0)
        for m in range(moved):
            if not (types >> ((found[m] >> NODE_BITS) & 15)) & 1:
                again = draw64(start, np.uint64(n + m))
                slot = draw_typed(entries, g.user_records[movers[m]], types, again, budget)
                if slot < 0:
                    continue
                found[m] = entries[slot]
            movers[kept] = movers[m]
            found[kept] = found[m]
            kept += 1
        moved = kept
    return moved, waiting


@inlined
def step_right(g: Any, cut: Any, moved: Any, waiting: Any, types: Any, start: Any) -> Any:
    """One step from tweets back to users, stored after the waiting walkers; returns how many walkers there are."""
    users, _, slots, found, budget = cut
    entries = g.entries
    n = 0
    for m in range(moved):
        record = g.tweet_records[found[m] & NODE_MASK]
        if degree(record) > 0:
            bits = draw64(start, np.uint64(m))
            slots[n] = _draw_slot(record, bits)
            if types != ALL_TYPES and not (types >> ((entries[slots[n]] >> NODE_BITS) & 15)) & 1:
                slots[n] = draw_typed(entries, record, types, bits, budget)
                if slots[n] < 0:
                    continue
            n += 1
    for m in range(n):
        users[waiting + m] = entries[slots[m]] & NODE_MASK
        prefetch(g.user_records, users[waiting + m])
    return waiting + n


@inlined
def threshold(scores: Any, reached: Any, results: Any, bins: Any) -> Any:
    """A lower bound for the scores of the best ``results`` nodes, by a histogram. ``bins``: scratch."""
    greatest = 0.0
    for r in range(reached):
        greatest = max(greatest, scores[r])
    if greatest <= 0.0:
        return 0.0
    bins[:] = 0
    top = bins.shape[0] - 1
    scale = top / greatest
    for r in range(reached):
        bins[np.int64(scores[r] * scale)] += 1
    least = top
    total = bins[top]
    while total < results and least > 0:
        least -= 1
        total += bins[least]
    # A little less than the bin's edge, so that rounding cannot lose the nodes on it.
    return (least - 1e-6) / scale


@inlined
def _thin_ties(kept: Any, keys: Any, rows: Any, n: Any, results: Any, bins: Any, spare: Any) -> Any:
    """Leave out candidates of the lowest score whose ids are too large to be results; returns how many are left.

    If most candidates were visited equally often, ids decide, and a histogram of ids is cheaper than a heap.
    """
    lowest = np.inf
    for i in range(n):
        lowest = min(lowest, kept[i])
    ties = np.int64(0)
    greatest = np.uint64(0)
    for i in range(n):
        if kept[i] == lowest:
            ties += 1
            greatest = max(greatest, keys[i])
    wanted = results - (n - ties)
    if ties <= 2 * wanted:
        return n
    ties = np.int64(0)
    for i in range(n):
        if kept[i] == lowest:
            spare[ties] = np.float64(greatest - keys[i])
            ties += 1
    least = threshold(spare, ties, wanted, bins)
    m = np.int64(0)
    for i in range(n):
        if kept[i] > lowest or np.float64(greatest - keys[i]) >= least:
            kept[m] = kept[i]
            keys[m] = keys[i]
            rows[m] = rows[i]
            m += 1
    return m


@inlined
def _select(g: Any, cut: Any, stats: Any, results: Any) -> None:
    """Write the right nodes with the best scores, then by id, into the results' ids, rows, visits and scores.

    Most nodes are visited once or twice; nodes that cannot be results are left out before ids are read.
    """
    nodes, visits, scores, order, places, rows, bins, ids, best, counts, kept, spare, out = cut
    reached = stats[REACHED]
    least = threshold(scores, reached, results, bins)
    keys = order.view(np.uint64)
    n = np.int64(0)
    for r in range(reached):
        places[r] = -1
        rows[n] = r
        n += np.int64(scores[r] >= least)
    for i in range(n):
        keys[i] = g.tweet_keys[nodes[rows[i]]]
        kept[i] = scores[rows[i]]
    n = _thin_ties(kept, keys, rows, n, results, bins, spare)
    size = np.int64(top_k(kept, keys, n, results, best))
    stats[RESULTS] = size
    for k in range(size):
        candidate = np.int64(best[k])
        ids[k] = order[candidate]
        places[rows[candidate]] = k
        counts[k] = visits[rows[candidate]]
        out[k] = scores[rows[candidate]]
        best[k] = np.int32(rows[candidate])


@inlined
def _weigh(found: Any, ranks: Any, moved: Any, now: Any, ages: Any, weights: Any) -> None:
    """Add to each visited node's row of ``weights`` the visit's weight at each half-life: 2^(-age / half-life).

    ``ages``: (tables, rows of the low part, bits of the low part). A weight is the product of two table rows, one per
    part of the age, so a visit costs two loads instead of four exponentials.
    """
    tables, lows, bits = ages
    last = tables.shape[0] // LANES - 1
    for m in range(moved):
        age = max(np.int64(0), now - ((found[m] >> 32) & 0xFFFFFFFF))
        low = LANES * (age & (lows - 1))
        high = LANES * min(lows + (age >> bits), last)
        row = LANES * ranks[m]
        for h in range(LANES):
            weights[row + h] += tables[low + h] * tables[high + h]


@inlined
def _blend(weights: Any, reached: Any, blend: Any, totals: Any, scores: Any) -> None:
    """Each node's score: its share of each half-life's weight, times that half-life's part in the blend."""
    totals[:] = 0.0
    for r in range(reached):
        for h in range(LANES):
            totals[h] += weights[LANES * r + h]
    for h in range(LANES):
        totals[h] = 1.0 / totals[h] if totals[h] > TOTAL_MIN else 0.0
    for r in range(reached):
        score = 0.0
        for h in range(LANES):
            score += weights[LANES * r + h] * totals[h] * blend[h]
        scores[r] = score


@inlined
def _walk(g: Any, cut: Any, counted: Any, timed: Any, stats: Any, options: Any) -> Any:
    """Walk all steps, count visits, and weigh them if there are half-lives; returns the number of last movers."""
    users, movers, slots, found, ranks = cut
    table, nodes, visits = counted
    now, ages, weights, lanes = timed
    query, seed, length, types, coin = options
    shift = np.uint64(64)
    while np.int64(1) << np.int64(np.uint64(64) - shift) < table.shape[0]:
        shift -= np.uint64(1)
    paths = (users, movers, slots, found, stats[BUDGET : BUDGET + 1])
    n = stats[WALKERS]
    moved = np.int64(0)
    reached = np.int64(0)
    steps = (length + 1) // 2
    for step in range(steps):
        moved, waiting = step_left(g, paths, n, query, types, coin, stream(seed, np.uint64(2 * step)))
        before = reached
        for m in range(moved):
            rank = count_visit(table, shift, nodes, visits, reached, found[m] & NODE_MASK)
            ranks[m] = rank
            reached += rank == reached
        if lanes > 0:
            weights[LANES * before : LANES * reached] = 0.0
            _weigh(found, ranks, moved, now, ages, weights)
        stats[VISITS] += moved
        stats[STEPS] += moved
        if step + 1 < steps:
            n = step_right(g, paths, moved, waiting, types, stream(seed, np.uint64(2 * step + 1)))
            stats[STEPS] += n - waiting
    stats[REACHED] = reached
    return moved


@kernel
def salsa(
    g: Any, ints: Any, floats: Any, sizes: Any, seeds: Any, weights: Any, numbers: Any, shares: Any, timed: Any
) -> None:
    """A whole SALSA request: walk, count, select, prove.

    ``g``: ReadArrays. ``ints``, ``floats``: the reader's buffers. ``sizes``: the sizes of Layout. ``seeds`` uint64,
    ``weights`` float64. ``numbers``: uint64 (query id, seed of the draws, walks, length, type mask, proof type mask).
    ``shares``: (reset probability, query weight fraction). ``timed``: (now in s, table of ages, its low rows, bits of
    these, blend of half-lives (LANES,)). Results are left in the buffers.
    """
    walkers, reachable, slots_count, results, proofs, lanes = sizes
    query_id, seed, walks, length, types, proof_types = numbers
    reset, fraction = shares
    now, tables, lows, bits, blend = timed
    stats = ints[:STATS]
    stats[:] = 0
    stats[BUDGET] = ENTRIES_MAX
    at = STATS
    users = ints[at : at + walkers]
    movers = ints[at + walkers : at + 2 * walkers]
    slots = ints[at + 2 * walkers : at + 3 * walkers]
    found = ints[at + 3 * walkers : at + 4 * walkers]
    ranks = ints[at + 4 * walkers : at + 5 * walkers]
    at += 5 * walkers
    nodes = ints[at : at + reachable]
    visits = ints[at + reachable : at + 2 * reachable]
    order = ints[at + 2 * reachable : at + 3 * reachable]
    places = ints[at + 3 * reachable : at + 4 * reachable]
    rows = ints[at + 4 * reachable : at + 5 * reachable + 1]
    at += 5 * reachable + 1
    bins = ints[at : at + BINS]
    table = ints[at + BINS : at + BINS + slots_count]
    table[:] = 0
    at += BINS + slots_count
    ids = ints[at : at + results]
    best = ints[at + results : at + 2 * results].view(np.int32)
    counts = ints[at + 2 * results : at + 3 * results]
    proof_sizes = ints[at + 3 * results : at + 4 * results]
    proof_sizes[:] = 0
    at += 4 * results
    scores = floats[:reachable]
    kept, spare = floats[reachable : 2 * reachable], floats[2 * reachable : 3 * reachable]
    out = floats[3 * reachable : 3 * reachable + results]
    totals = floats[3 * reachable + results : 3 * reachable + results + LANES]
    lane_weights = floats[3 * reachable + results + LANES :]

    query = np.int64(find_in(g.user_slots, query_id))
    place_walkers(g, query, seeds, weights, np.float64(walks), fraction, users, stats)
    cut = (users, movers, slots, found, ranks)
    options = (query, seed, np.int64(length), np.int64(types), np.uint64(reset * 4294967296.0))
    times = (now, (tables, lows, bits), lane_weights, lanes)
    moved = _walk(g, cut, (table, nodes, visits), times, stats, options)
    if lanes > 0:
        _blend(lane_weights, stats[REACHED], blend, totals, scores)
    else:
        share = 1.0 / max(1.0, np.float64(stats[VISITS]))
        for r in range(stats[REACHED]):
            scores[r] = np.float64(visits[r]) * share
    picked = (nodes, visits, scores, order, places, rows, bins, ids, best, counts, kept, spare, out)
    _select(g, picked, stats, results)
    if proofs > 0:
        each = results * proofs
        ints[at : at + 3 * each] = 0
        lists = (ints[at : at + each], ints[at + each : at + 2 * each], ints[at + 2 * each : at + 3 * each])
        prove(g, (movers, found, ranks, places), moved, query, np.int64(proof_types), proofs, proof_sizes, lists)


@kernel
def best_of_walk(g: Any, buffers: Any, sizes: Any, start: Any, numbers: Any, shares: Any, timed: Any, out: Any) -> Any:
    """``salsa`` for callers that want no more than the results' ids (uint64) and scores (float64), which go into
    ``out``; returns how many there are. ``buffers``: ints and floats; ``start``: seeds and weights, which are not
    checked; edges of all types are followed."""
    ints, floats = buffers
    seeds, weights = start
    ids, scores = out
    salsa(g, ints, floats, sizes, seeds, weights, numbers, shares, timed)
    walkers, reached, table, _, _, _ = sizes
    at = STATS + 5 * walkers + 5 * reached + 1 + BINS + table
    for k in range(ints[RESULTS]):
        ids[k], scores[k] = np.uint64(ints[at + k]), floats[3 * reached + k]
    return ints[RESULTS]
