"""Counting kernels: score the tweets that the seeds have edges to, and keep who engaged with each tweet, and how.

A seed's list is read newest first. A small hash table, one per request, gives each tweet a row (half a cache line):
the last seed that engaged with the tweet and by which types, the tweet's chain of proofs, its number of users, its
index. So a repeated edge costs one look-up, and a tweet's proofs are kept without sorting.

The right side may also be users, or the hashtags and URLs of tweets (entity_kernels.py fills the same rows).
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.interaction_graph.arrays import NODE_BITS, NODE_MASK, EdgeType
from engine.interaction_graph.walk_kernels import threshold
from engine.kernels.id_map import find_in
from engine.kernels.jit import inlined, kernel
from engine.kernels.prefetch import prefetch
from engine.kernels.ring_slices import degree, slot_of, time_of
from engine.kernels.top_k import top_k

#: Fields of the statistics, at the start of ``ints``.
SEEDS, EDGES_READ, ROWS, PROOFS, RESULTS = 0, 1, 2, 3, 4
STATS = 8
BINS = 256
TYPES = 16
#: A row's fields: last seed and its types; newest proof + 1 (32 bits) | distinct users; tweet index; score (float64).
STAMP, CHAIN, NODE, SCORE = 0, 1, 2, 3
ROW = 4
USER = 1 << 32
#: Table values that are no rank. Blocked: the node is never a result. Allowed: it may be, but no seed has reached it.
_BLOCKED, _ALLOWED = 0xFFFFFFFF, 0xFFFFFFFE
VALUE = 0xFFFFFFFF
#: Whose engagements are proofs. BUT_AUTHORS: everybody's, but of a tweet's author only type TWEET. EVERYBODY: all.
#: EVERY_TYPE: all, and a result must meet the minimum of every type that has one, instead of any one of them.
BUT_AUTHORS, EVERYBODY, EVERY_TYPE = 0, 1, 2
_AHEAD = 8
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_TWEET = int(EdgeType.TWEET)
_SNOWFLAKE_EPOCH_MS = 1_288_834_974_657


class Tally(NamedTuple):
    """The buffers of a count, all int64; they belong to a reader thread.

    ``stats`` (8,). ``table``: hash slots (a power of two), node + 1 in the upper half, row in the lower. ``rows``:
    (``ROW`` · n,). ``proofs``: (m,) seed's number (28 bits) | type (4) | previous proof of the row + 1 (32); in a row's
    chain the proofs of one seed follow each other.
    """

    stats: NDArray[np.int64]
    table: NDArray[np.int64]
    rows: NDArray[np.int64]
    proofs: NDArray[np.int64]


class Ranking(NamedTuple):
    """The buffers of the best rows, int64 but for ``best`` (int32) and ``kept`` (float64); they belong to a thread.

    By result: ``ids``, ``best`` (their rows), ``proof_counts`` (k,), ``links`` (k · p,): proofs + 1, the heaviest seeds
    first. Scratch: ``bins``; and ``order``, ``candidates`` and ``kept`` (one entry per row).
    """

    ids: NDArray[np.int64]
    best: NDArray[np.int32]
    proof_counts: NDArray[np.int64]
    links: NDArray[np.int64]
    bins: NDArray[np.int64]
    order: NDArray[np.int64]
    candidates: NDArray[np.int64]
    kept: NDArray[np.float64]


class Sizes(NamedTuple):
    """Lengths: hash slots (a power of two), rows, proofs, results, proofs per result."""

    slots: int
    rows: int
    proofs: int
    results: int
    per_result: int


def tally_size(sizes: Any) -> Any:
    """Length of the buffer's first part, the tally."""
    return STATS + sizes.slots + ROW * sizes.rows + sizes.proofs


def ranking_size(sizes: Any) -> Any:
    """Length of the buffer's second part, the ranking."""
    return sizes.results * (3 + sizes.per_result) + BINS + 2 * sizes.rows


def tally_in(ints: Any, sizes: Any) -> Tally:
    """The tally at the start of a buffer."""
    rows = STATS + sizes.slots
    proofs = rows + ROW * sizes.rows
    return Tally(ints[:STATS], ints[STATS:rows], ints[rows:proofs], ints[proofs : proofs + sizes.proofs])


def ranking_in(ints: Any, floats: Any, sizes: Any) -> Ranking:
    """The ranking, which follows the tally in ``ints``; ``floats`` has one entry per row."""
    n, k = sizes.rows, sizes.results
    at = STATS + sizes.slots + ROW * n + sizes.proofs
    links = at + 3 * k
    bins = links + k * sizes.per_result
    order = bins + BINS
    return Ranking(
        ints[at : at + k],
        ints[at + k : at + 2 * k].view(np.int32),
        ints[at + 2 * k : links],
        ints[links:bins],
        ints[bins:order],
        ints[order : order + n],
        ints[order + n : order + 2 * n],
        floats,
    )


#: ``tally_in`` and ``ranking_in`` for kernels.
tally_of, ranking_of = inlined(tally_in), inlined(ranking_in)


@inlined
def find_slot(table: Any, mask: Any, shift: Any, node: Any) -> Any:
    """The table slot that holds a node, or the empty slot where it belongs (a used slot holds node + 1 and a value)."""
    at = np.int64((np.uint64(node) * _GOLDEN) >> shift)
    while table[at] != 0 and table[at] >> 32 != node + 1:
        at = np.int64((at + 1) & mask)
    return at


@inlined
def _mark(table: Any, mask: Any, shift: Any, node: Any, value: Any) -> None:
    """Give a node a value; a blocked node stays blocked."""
    at = find_slot(table, mask, shift, node)
    if table[at] == 0 or value == _BLOCKED:
        table[at] = ((node + 1) << 32) | value


@kernel
def _mark_lists(g: Any, table: Any, mask: Any, shift: Any, lists: Any, edges_max: Any) -> None:
    """Before any seed is read: mark tweets that must not be results, and those of the allowed authors, if given."""
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
    """Whether a tweet that was just reached may be a result: it has enough edges and the wanted creation time."""
    after_ms, before_ms, degree_min = limits
    if degree_min > 1 and degree(g.tweet_records[node]) < degree_min:
        return False
    if after_ms > 0 or before_ms > 0:
        created_ms = np.int64(g.tweet_keys[node] >> np.uint64(22)) + _SNOWFLAKE_EPOCH_MS
        if created_ms < after_ms or (before_ms > 0 and created_ms >= before_ms):
            return False
    return True


@inlined
def _read_seed(g: Any, tally: Any, place: Any, seed: Any, user: Any, weight: Any, rules: Any, limits: Any) -> Any:
    """Add up one seed's newest edges; returns (rows, proofs, edges read)."""
    scores = tally.rows.view(np.float64)
    table, rows, proofs = tally.table, tally.rows, tally.proofs
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
            prefetch(rows, ROW * (table[np.int64((np.uint64(near) * _GOLDEN) >> shift)] & VALUE))
        entry = g.entries[slot_of(record, j)]
        if time_of(entry) < since:
            break
        read += 1
        kind = (entry >> NODE_BITS) & 15
        if not (types >> kind) & 1:
            continue
        node = entry & NODE_MASK
        at = find_slot(table, mask, shift, node)
        rank = table[at] & VALUE
        if table[at] == 0 or rank == _ALLOWED:
            if (closed and rank != _ALLOWED) or not _admit(g, node, limits):
                table[at] = ((node + 1) << 32) | _BLOCKED
                continue
            rank = n
            n += 1
            table[at] = ((node + 1) << 32) | rank
            rows[ROW * rank + STAMP] = 0
            rows[ROW * rank + CHAIN] = 0
            rows[ROW * rank + NODE] = node
            scores[ROW * rank + SCORE] = 0.0
        elif rank == _BLOCKED:
            continue
        row = ROW * rank
        stamp = rows[row + STAMP]
        if stamp >> TYPES != seed + 1:
            stamp = (seed + 1) << TYPES
            rows[row + CHAIN] += USER
        bit = np.int64(1) << kind
        if stamp & bit:
            rows[row + STAMP] = stamp
            continue
        rows[row + STAMP] = stamp | bit
        scores[row + SCORE] += weight
        held = rows[row + CHAIN]
        proofs[proved] = (seed << 36) | (kind << 32) | (held & VALUE)
        proved += 1
        rows[row + CHAIN] = (held & ~VALUE) | proved
    return n, proved, read


@kernel
def _proven(rows: Any, proofs: Any, rank: Any, needs: Any) -> Any:
    """Whether a row has enough proof: enough users of one type, or of one union of types. With ``EVERY_TYPE``: enough
    users in all, and enough of every type that has a minimum.

    With ``BUT_AUTHORS`` the tweet's author (the seed with a proof of type TWEET) does not count for other types.
    ``needs``: ``minimum`` (16,): users by type, 0 = the type alone never suffices; ``unions``; the minimum of users of
    a union, or in all; ``exact``: if > 0, the exact number of distinct users; whose engagements are proofs (see
    ``BUT_AUTHORS``); whether one proof of any type is enough.
    """
    minimum, unions, union_min, exact, who, _ = needs
    users = rows[ROW * rank + CHAIN] >> 32
    if (exact > 0 and users != exact) or (who == EVERY_TYPE and users < union_min):
        return False
    author = np.int64(-1)
    link = rows[ROW * rank + CHAIN] & VALUE
    while who == BUT_AUTHORS and link > 0:
        proof = proofs[link - 1]
        if (proof >> 32) & 15 == _TWEET:
            author = proof >> 36
        link = proof & VALUE
    for kind in range(TYPES):
        if minimum[kind] == 0:
            continue
        count = np.int64(0)
        link = rows[ROW * rank + CHAIN] & VALUE
        while link > 0:
            proof = proofs[link - 1]
            if (proof >> 32) & 15 == kind and (kind == _TWEET or proof >> 36 != author):
                count += 1
            link = proof & VALUE
        if count >= minimum[kind] and who != EVERY_TYPE:
            return True
        if count < minimum[kind] and who == EVERY_TYPE:
            return False
    for i in range(unions.shape[0]):
        # A seed's proofs follow each other in the chain, so each change of the seed is another user.
        count = np.int64(0)
        before = np.int64(-1)
        link = rows[ROW * rank + CHAIN] & VALUE
        while link > 0:
            proof = proofs[link - 1]
            if (unions[i] >> ((proof >> 32) & 15)) & 1 and proof >> 36 != before:
                before = proof >> 36
                count += 1
            link = proof & VALUE
        if count >= union_min:
            return True
    return bool(who == EVERY_TYPE)


@inlined
def _list_proofs(chain: Any, proofs: Any, seeds: Any, weights: Any, at: Any, limit: Any, links: Any) -> Any:
    """List a result's proofs: the heaviest seeds first, then by user id and type; returns how many were listed."""
    size = np.int64(0)
    link = chain
    while link > 0:
        proof = proofs[link - 1]
        seed = proof >> 36
        i = size
        while i > 0:
            before = proofs[links[at + i - 1] - 1]
            other = before >> 36
            if weights[other] > weights[seed] or (
                weights[other] == weights[seed]
                and (seeds[other] < seeds[seed] or (other == seed and (before >> 32) & 15 < (proof >> 32) & 15))
            ):
                break
            i -= 1
        if i < limit:
            size = min(size + 1, limit)
            for j in range(size - 1, i, -1):
                links[at + j] = links[at + j - 1]
            links[at + i] = link
        link = proof & VALUE
    return size


@inlined
def _choose(keys: Any, tally: Any, ranking: Any, needs: Any) -> Any:
    """Write the best rows with enough proof into ``best`` and their ids into ``ids``: greatest score, then by id."""
    rows, scores = tally.rows, tally.rows.view(np.float64)
    kept, candidates, results = ranking.kept, ranking.candidates, ranking.ids.shape[0]
    n = tally.stats[ROWS]
    eligible = np.int64(0)
    if needs[5]:
        eligible = n
        for r in range(n):
            candidates[r] = r
            kept[r] = scores[ROW * r + SCORE]
    else:
        for r in range(n):
            if _proven(rows, tally.proofs, r, needs):
                candidates[eligible] = r
                kept[eligible] = scores[ROW * r + SCORE]
                eligible += 1
    least = threshold(kept, eligible, results, ranking.bins)
    order = ranking.order.view(np.uint64)
    m = np.int64(0)
    for i in range(eligible):
        if kept[i] >= least:
            kept[m] = kept[i]
            candidates[m] = candidates[i]
            m += 1
    for i in range(m):
        order[i] = keys[rows[ROW * candidates[i] + NODE]]
    size = np.int64(top_k(kept, order, m, results, ranking.best))
    for k in range(size):
        ranking.ids[k] = ranking.order[ranking.best[k]]
        ranking.best[k] = np.int32(candidates[ranking.best[k]])
    return size


@inlined
def rank_best(keys: Any, tally: Any, ranking: Any, per_result: Any, seeds: Any, weights: Any, needs: Any) -> None:
    """Choose the best rows and list their proofs. ``keys``: uint64, the ids of nodes."""
    size = _choose(keys, tally, ranking, needs)
    tally.stats[RESULTS] = size
    for k in range(size):
        chain = tally.rows[ROW * ranking.best[k] + CHAIN] & VALUE
        ranking.proof_counts[k] = _list_proofs(
            chain, tally.proofs, seeds, weights, k * per_result, per_result, ranking.links
        )


@inlined
def _table_size(g: Any, users: Any, seeds: Any, query: Any, lists: Any, edges_max: Any, slots_max: Any) -> Any:
    """Look the seeds up; returns (hash slots, shift of the hash). The slots suffice for these seeds and lists; the rest
    of the table is neither used nor cleared."""
    _, blocked_tweets, blocked_authors, allowed_authors = lists
    total = blocked_tweets.shape[0] + (blocked_authors.shape[0] + allowed_authors.shape[0]) * edges_max
    if query >= 0:
        total += degree(g.user_records[query])
    for i in range(seeds.shape[0]):
        users[i] = np.int64(find_in(g.user_slots, seeds[i]))
        if users[i] >= 0:
            total += min(degree(g.user_records[users[i]]), edges_max)
    return slots_for(total, slots_max)


@inlined
def slots_for(entries: Any, slots_max: Any) -> Any:
    """Hash slots for ``entries`` at a load of at most one half, and the shift of the hash."""
    shift = np.uint64(60)
    slots = np.int64(16)
    while slots < 2 * entries and slots < slots_max:
        slots *= 2
        shift -= np.uint64(1)
    return slots, shift


@kernel
def count(g: Any, tally: Any, users: Any, seeds: Any, weights: Any, lists: Any, rules: Any, limits: Any) -> None:
    """Read the seeds' newest edges and add up the seeds' weights by tweet.

    ``users``: int64 (n,) scratch. ``seeds`` uint64, distinct, and ``weights`` float64 (n,). ``lists``: (query user
    whose tweets are left out, or 0; blocked tweet ids; blocked author ids; allowed author ids, empty = all).
    ``rules``: (type mask, edges per seed, least second). ``limits``: (created at or after, created before, in ms, 0 =
    any; least degree). The buffers of ``tally`` are as long as ``Sizes`` says; they need not be cleared.
    """
    stats = tally.stats
    stats[:] = 0
    query_id, blocked_tweets, blocked_authors, allowed_authors = lists
    types, edges_max, since = rules
    closed = allowed_authors.shape[0] > 0
    query = np.int64(find_in(g.user_slots, query_id))
    slots, shift = _table_size(g, users, seeds, query, lists, edges_max, tally.table.shape[0])
    tally.table[:slots] = 0
    mask = slots - 1
    _mark_lists(g, tally.table, mask, shift, (query, blocked_tweets, blocked_authors, allowed_authors), edges_max)
    n, proved = np.int64(0), np.int64(0)
    for i in range(seeds.shape[0]):
        if i + 1 < seeds.shape[0] and users[i + 1] >= 0:
            record = g.user_records[users[i + 1]]
            for j in range(0, min(degree(record), 8 * _AHEAD), 8):
                prefetch(g.entries, slot_of(record, degree(record) - 1 - j))
        if users[i] >= 0:
            place = (mask, shift, n, proved)
            rule = (types, edges_max, since, closed)
            n, proved, read = _read_seed(g, tally, place, i, users[i], weights[i], rule, limits)
            stats[SEEDS] += read > 0
            stats[EDGES_READ] += read
    stats[ROWS] = n
    stats[PROOFS] = proved


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
    """A whole request: count, choose, list proofs. ``ints`` holds tally, ranking, and at its end one place per seed.

    The other arguments are those of ``count`` and ``_proven``.
    """
    tally = tally_of(ints, sizes)
    ranking = ranking_of(ints, floats, sizes)
    count(g, tally, ints[ints.shape[0] - seeds.shape[0] :], seeds, weights, lists, rules, limits)
    rank_best(g.tweet_keys, tally, ranking, sizes.per_result, seeds, weights, needs)


@kernel
def best_second_degree(g: Any, buffers: Any, sizes: Any, seeds: Any, weights: Any, terms: Any, out: Any) -> Any:
    """``second_degree`` for callers that want no more than the results' ids (uint64) and scores (float64), which go
    into ``out``; returns how many there are. ``buffers``: ints and floats; ``terms``: lists, rules, limits, needs."""
    ints, floats = buffers
    ids, scores = out
    second_degree(g, ints, floats, sizes, seeds, weights, *terms)
    tally, ranking = tally_of(ints, sizes), ranking_of(ints, floats, sizes)
    of_rows = tally.rows.view(np.float64)
    for k in range(tally.stats[RESULTS]):
        ids[k] = np.uint64(ranking.ids[k])
        scores[k] = of_rows[ROW * np.int64(ranking.best[k]) + SCORE]
    return tally.stats[RESULTS]
