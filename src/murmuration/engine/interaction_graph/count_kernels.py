"""Counting kernels: what the seeds' own edges point to, added up by tweet, with who and how.

A seed's list is read newest first. A small hash table of the request gives each tweet a row (one half of a cache
line): which seed touched it last and with which types, its chain of proofs, its number of users, its index. So a
repeated edge costs a look, and what a tweet was engaged with is kept without sorting anything.
"""

from typing import Any

import numpy as np

from murmuration.engine.interaction_graph.arrays import NODE_BITS, NODE_MASK, EdgeType
from murmuration.engine.interaction_graph.walk_kernels import threshold
from murmuration.engine.kernels.id_map import find_in
from murmuration.engine.kernels.jit import inlined, kernel
from murmuration.engine.kernels.prefetch import prefetch
from murmuration.engine.kernels.ring_slices import degree, slot_of, time_of
from murmuration.engine.kernels.top_k import top_k

#: Fields of the statistics, at the start of ``ints``.
SEEDS, EDGES_READ, TWEETS, RESULTS = 0, 1, 2, 3
STATS = 8
BINS = 256
TYPES = 16
#: A row's fields: last seed and its types; newest proof + 1 (32 bits) | distinct users; tweet index; score (float64).
_STAMP, _PROOFS, _NODE, _SCORE = 0, 1, 2, 3
ROW = 4
_USER = 1 << 32
#: Table values that are no rank: never a result; may be a result but was not met yet.
_BLOCKED, _ALLOWED = 0xFFFFFFFF, 0xFFFFFFFE
_VALUE = 0xFFFFFFFF
#: A proof: seed's number (28 bits) | type (4) | the proof before it + 1 (32).
_AHEAD = 8
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_TWEET = int(EdgeType.TWEET)
_SNOWFLAKE_EPOCH_MS = 1_288_834_974_657


@inlined
def _find_slot(table: Any, mask: Any, shift: Any, node: Any) -> Any:
    """The table slot that holds a node, or the empty one where it goes (a used slot holds node + 1 and a value)."""
    at = np.int64((np.uint64(node) * _GOLDEN) >> shift)
    while table[at] != 0 and table[at] >> 32 != node + 1:
        at = np.int64((at + 1) & mask)
    return at


@inlined
def _mark(table: Any, mask: Any, shift: Any, node: Any, value: Any) -> None:
    """Give a node a value; blocked stays blocked."""
    at = _find_slot(table, mask, shift, node)
    if table[at] == 0 or value == _BLOCKED:
        table[at] = ((node + 1) << 32) | value


@kernel
def _mark_lists(g: Any, table: Any, mask: Any, shift: Any, lists: Any, edges_max: Any) -> None:
    """Mark what must not be a result, and, if authors are given, what alone may be: before any seed is read."""
    query, blocked_tweets, blocked_authors, allowed_authors = lists
    for i in range(allowed_authors.shape[0] + blocked_authors.shape[0]):
        allowed = i < allowed_authors.shape[0]
        author_id = allowed_authors[i] if allowed else blocked_authors[i - allowed_authors.shape[0]]
        author = np.int64(find_in(g.user_slots, author_id))
        if author < 0:
            continue
        record = g.user_records[author]
        count = degree(record)
        for j in range(count - 1, max(np.int64(0), count - edges_max) - 1, -1):
            entry = g.entries[slot_of(record, j)]
            if (entry >> NODE_BITS) & 15 == _TWEET:
                _mark(table, mask, shift, entry & NODE_MASK, _ALLOWED if allowed else _BLOCKED)
    for i in range(blocked_tweets.shape[0]):
        node = np.int64(find_in(g.tweet_slots, blocked_tweets[i]))
        if node >= 0:
            _mark(table, mask, shift, node, _BLOCKED)
    if query >= 0:
        record = g.user_records[query]
        for j in range(degree(record)):
            _mark(table, mask, shift, g.entries[slot_of(record, j)] & NODE_MASK, _BLOCKED)


@inlined
def _admit(g: Any, node: Any, limits: Any) -> Any:
    """Whether a tweet met for the first time may be a result: enough edges, created in the wanted time."""
    after_ms, before_ms, degree_min = limits
    if degree_min > 1 and degree(g.tweet_records[node]) < degree_min:
        return False
    if after_ms > 0 or before_ms > 0:
        created_ms = np.int64(g.tweet_keys[node] >> np.uint64(22)) + _SNOWFLAKE_EPOCH_MS
        if created_ms < after_ms or (before_ms > 0 and created_ms >= before_ms):
            return False
    return True


@inlined
def _read_seed(g: Any, cut: Any, place: Any, seed: Any, user: Any, weight: Any, rules: Any, limits: Any) -> Any:
    """Add up one seed's newest edges; returns (tweets with a row, proofs, edges read)."""
    table, rows, scores, proofs = cut
    mask, shift, n, proved = place
    types, edges_max, since, closed = rules
    record = g.user_records[user]
    count = degree(record)
    last = max(np.int64(0), count - edges_max)
    read = np.int64(0)
    for j in range(count - 1, last - 1, -1):
        if j - 2 * _AHEAD >= last:
            ahead = g.entries[slot_of(record, j - 2 * _AHEAD)] & NODE_MASK
            prefetch(table, np.int64((np.uint64(ahead) * _GOLDEN) >> shift))
            near = g.entries[slot_of(record, j - _AHEAD)] & NODE_MASK
            prefetch(rows, ROW * (table[np.int64((np.uint64(near) * _GOLDEN) >> shift)] & _VALUE))
        entry = g.entries[slot_of(record, j)]
        if time_of(entry) < since:
            break
        read += 1
        kind = (entry >> NODE_BITS) & 15
        if not (types >> kind) & 1:
            continue
        node = entry & NODE_MASK
        at = _find_slot(table, mask, shift, node)
        rank = table[at] & _VALUE
        if table[at] == 0 or rank == _ALLOWED:
            if (closed and rank != _ALLOWED) or not _admit(g, node, limits):
                table[at] = ((node + 1) << 32) | _BLOCKED
                continue
            rank = n
            n += 1
            table[at] = ((node + 1) << 32) | rank
            rows[ROW * rank + _STAMP] = 0
            rows[ROW * rank + _PROOFS] = 0
            rows[ROW * rank + _NODE] = node
            scores[ROW * rank + _SCORE] = 0.0
        elif rank == _BLOCKED:
            continue
        row = ROW * rank
        stamp = rows[row + _STAMP]
        if stamp >> TYPES != seed + 1:
            stamp = (seed + 1) << TYPES
            rows[row + _PROOFS] += _USER
        bit = np.int64(1) << kind
        if stamp & bit:
            rows[row + _STAMP] = stamp
            continue
        rows[row + _STAMP] = stamp | bit
        scores[row + _SCORE] += weight
        held = rows[row + _PROOFS]
        proofs[proved] = (seed << 36) | (kind << 32) | (held & _VALUE)
        proved += 1
        rows[row + _PROOFS] = (held & ~_VALUE) | proved
    return n, proved, read


@kernel
def _proven(rows: Any, proofs: Any, rank: Any, minimum: Any, unions: Any, union_min: Any, exact: Any) -> Any:
    """Whether a tweet has enough proof: enough users of one type, or of one union of types.

    The author's own (first of type TWEET) does not count among the users of another type. ``minimum`` (16,): users
    needed by type, 0 = the type alone never suffices. ``exact`` > 0: exactly so many distinct users in all.
    """
    if exact > 0 and rows[ROW * rank + _PROOFS] >> 32 != exact:
        return False
    author = np.int64(-1)
    link = rows[ROW * rank + _PROOFS] & _VALUE
    while link > 0:
        proof = proofs[link - 1]
        if (proof >> 32) & 15 == _TWEET:
            author = proof >> 36
        link = proof & _VALUE
    for kind in range(TYPES):
        if minimum[kind] == 0:
            continue
        count = np.int64(0)
        link = rows[ROW * rank + _PROOFS] & _VALUE
        while link > 0:
            proof = proofs[link - 1]
            if (proof >> 32) & 15 == kind and (kind == _TWEET or proof >> 36 != author):
                count += 1
            link = proof & _VALUE
        if count >= minimum[kind]:
            return True
    for i in range(unions.shape[0]):
        # A seed's proofs lie together in the chain, so distinct users are changes of the seed.
        count = np.int64(0)
        before = np.int64(-1)
        link = rows[ROW * rank + _PROOFS] & _VALUE
        while link > 0:
            proof = proofs[link - 1]
            if (unions[i] >> ((proof >> 32) & 15)) & 1 and proof >> 36 != before:
                before = proof >> 36
                count += 1
            link = proof & _VALUE
        if count >= union_min:
            return True
    return False


@inlined
def _list_proofs(
    chain: Any, proofs: Any, seeds: Any, weights: Any, at: Any, limit: Any, people: Any, kinds: Any
) -> Any:
    """A result's proofs, the heaviest seeds first, then by user id and type; returns how many there are."""
    size = np.int64(0)
    link = chain
    while link > 0:
        proof = proofs[link - 1]
        link = proof & _VALUE
        seed = proof >> 36
        kind = (proof >> 32) & 15
        i = size
        while i > 0:
            other = people[at + i - 1]
            if weights[other] > weights[seed] or (
                weights[other] == weights[seed]
                and (seeds[other] < seeds[seed] or (other == seed and kinds[at + i - 1] < kind))
            ):
                break
            i -= 1
        if i == limit:
            continue
        size = min(size + 1, limit)
        for j in range(size - 1, i, -1):
            people[at + j] = people[at + j - 1]
            kinds[at + j] = kinds[at + j - 1]
        people[at + i] = seed
        kinds[at + i] = kind
    return size


@inlined
def _choose(g: Any, cut: Any, n: Any, results: Any, options: Any, picked: Any) -> Any:
    """The best tweets with enough proof, best first, then by id: their rows into ``best``, ids into ``ids``."""
    rows, scores, proofs = cut
    minimum, unions, union_min, exact, plain = options
    bins, order, kept, candidates, best, ids = picked
    eligible = np.int64(0)
    if plain:
        eligible = n
        for r in range(n):
            candidates[r] = r
            kept[r] = scores[ROW * r + _SCORE]
    else:
        for r in range(n):
            if _proven(rows, proofs, r, minimum, unions, union_min, exact):
                candidates[eligible] = r
                kept[eligible] = scores[ROW * r + _SCORE]
                eligible += 1
    least = threshold(kept, eligible, results, bins)
    keys = order.view(np.uint64)
    m = np.int64(0)
    for i in range(eligible):
        if kept[i] >= least:
            kept[m] = kept[i]
            candidates[m] = candidates[i]
            m += 1
    for i in range(m):
        keys[i] = g.tweet_keys[rows[ROW * candidates[i] + _NODE]]
    size = np.int64(top_k(kept, keys, m, results, best))
    for k in range(size):
        ids[k] = order[best[k]]
        best[k] = np.int32(candidates[best[k]])
    return size


@inlined
def _table_size(g: Any, users: Any, seeds: Any, query: Any, lists: Any, edges_max: Any, slots_max: Any) -> Any:
    """Look the seeds up; returns (hash slots, shift of the hash): only as much of the table is used, and cleared, as
    these seeds and lists can fill."""
    _, blocked_tweets, blocked_authors, allowed_authors = lists
    total = blocked_tweets.shape[0] + (blocked_authors.shape[0] + allowed_authors.shape[0]) * edges_max
    if query >= 0:
        total += degree(g.user_records[query])
    for i in range(seeds.shape[0]):
        users[i] = np.int64(find_in(g.user_slots, seeds[i]))
        if users[i] >= 0:
            total += min(degree(g.user_records[users[i]]), edges_max)
    shift = np.uint64(60)
    slots = np.int64(16)
    while slots < 2 * total and slots < slots_max:
        slots *= 2
        shift -= np.uint64(1)
    return slots, shift


@kernel
def second_degree(
    g: Any,
    ints: Any,
    floats: Any,
    sizes: Any,
    seeds: Any,
    weights: Any,
    lists: Any,
    rules: Any,
    limits: Any,
    needs: Any,
) -> None:
    """A whole request: mark, count, choose, list proofs.

    ``sizes``: (hash slots (power of two) at most, rows, proofs, results, proofs a result). ``seeds`` uint64 and
    ``weights`` float64 (n,), distinct. ``lists``: (query id to leave out what they engaged with, or 0; tweet ids never
    to give; authors never; authors alone). ``rules``: (type mask, edges a seed, least second). ``limits``: creation
    from and before in ms (0 = any), least degree. ``needs``: (users by type (16,), unions, users of a union, exact
    users, whether any proof will do). Left in the buffers: statistics, then ids, rows and numbers of proofs, then
    seeds and types of the proofs.
    """
    slots_max, rows_max, proofs_max, results, per_result = sizes
    stats = ints[:STATS]
    stats[:] = 0
    ids = ints[STATS : STATS + results]
    best = ints[STATS + results : STATS + 2 * results].view(np.int32)
    found = ints[STATS + 2 * results : STATS + 3 * results]
    at = STATS + 3 * results
    each = results * per_result
    people, kinds = ints[at : at + each], ints[at + each : at + 2 * each]
    at += 2 * each
    bins = ints[at : at + BINS]
    users = ints[at + BINS : at + BINS + seeds.shape[0]]
    at += BINS + seeds.shape[0]
    rows = ints[at : at + ROW * rows_max]
    at += ROW * rows_max
    proofs = ints[at : at + proofs_max]
    at += proofs_max
    order, candidates = ints[at : at + rows_max], ints[at + rows_max : at + 2 * rows_max]
    at += 2 * rows_max
    query_id, blocked_tweets, blocked_authors, allowed_authors = lists
    types, edges_max, since = rules
    closed = allowed_authors.shape[0] > 0
    query = np.int64(find_in(g.user_slots, query_id))
    slots, shift = _table_size(g, users, seeds, query, lists, edges_max, slots_max)
    table = ints[at : at + slots]
    table[:] = 0
    mask = slots - 1
    _mark_lists(g, table, mask, shift, (query, blocked_tweets, blocked_authors, allowed_authors), edges_max)

    scores = rows.view(np.float64)
    n, proved = np.int64(0), np.int64(0)
    cut = (table, rows, scores, proofs)
    for i in range(seeds.shape[0]):
        if i + 1 < seeds.shape[0] and users[i + 1] >= 0:
            record = g.user_records[users[i + 1]]
            for j in range(0, min(degree(record), 8 * _AHEAD), 8):
                prefetch(g.entries, slot_of(record, degree(record) - 1 - j))
        if users[i] >= 0:
            place = (mask, shift, n, proved)
            rule = (types, edges_max, since, closed)
            n, proved, read = _read_seed(g, cut, place, i, users[i], weights[i], rule, limits)
            stats[SEEDS] += read > 0
            stats[EDGES_READ] += read
    stats[TWEETS] = n
    picked = (bins, order, floats, candidates, best, ids)
    stats[RESULTS] = _choose(g, (rows, scores, proofs), n, results, needs, picked)
    for k in range(stats[RESULTS]):
        chain = rows[ROW * best[k] + _PROOFS] & _VALUE
        found[k] = _list_proofs(chain, proofs, seeds, weights, k * per_result, per_result, people, kinds)
