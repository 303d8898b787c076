"""Kernels that count hashtags or URLs: each proof of a counted tweet is a proof of every entity that the tweet carries.

First ``plan_entities`` returns the number of pairs, so that the caller can reserve buffers. Then ``rank_entities``
fills a second tally with one row per entity, and chooses. A seed adds its weight once per tweet and type, and is a
proof once per type. Each proof has a chain of its tweets, the seed's newest engagement first.
"""

from typing import Any

import numpy as np

from engine.interaction_graph.arrays import NODE_BITS, NODE_MASK
from engine.interaction_graph.count_kernels import (
    CHAIN,
    NODE,
    PROOFS,
    RESULTS,
    ROW,
    ROWS,
    SCORE,
    STAMP,
    STATS,
    TYPES,
    USER,
    VALUE,
    count,
    find_slot,
    rank_best,
    ranking_of,
    slots_for,
    tally_of,
)
from engine.kernels.id_map import find_in
from engine.kernels.jit import inlined, kernel
from engine.kernels.prefetch import prefetch
from engine.kernels.ring_slices import degree, slot_of
from engine.kernels.rng import mix64

_AHEAD = 16
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@inlined
def _prefetch_tweet(g: Any, e: Any, rows: Any, r: Any) -> None:
    slots = e.tweet_slots
    tweet_id = g.tweet_keys[rows[ROW * r + NODE]]
    prefetch(slots, np.int64((mix64(tweet_id) & np.uint64(slots.shape[0] // 2 - 1)) << np.uint64(1)))


@kernel
def plan_entities(
    g: Any, e: Any, ints: Any, sizes: Any, seeds: Any, weights: Any, lists: Any, rules: Any, limits: Any, kind: Any
) -> Any:
    """Count tweets and find their entities; returns the number of pairs of a proof and an entity of type ``kind``.

    ``g``: the interaction graph, ``e``: the entity graph. ``ints`` holds the tally; per row the record of the tweet's
    list in ``e`` (0 = no entities); per proof its row; one place per seed. The other arguments are those of
    ``count_kernels.count``.
    """
    tally = tally_of(ints, sizes)
    spans, owners, users = spaces_of(ints, sizes)
    count(g, tally, users, seeds, weights, lists, rules, limits)
    rows, proofs = tally.rows, tally.proofs
    n = tally.stats[ROWS]
    pairs = np.int64(0)
    for r in range(min(n, _AHEAD)):
        _prefetch_tweet(g, e, rows, r)
    for r in range(n):
        if r + _AHEAD < n:
            _prefetch_tweet(g, e, rows, r + _AHEAD)
        node = np.int64(find_in(e.tweet_slots, g.tweet_keys[rows[ROW * r + NODE]]))
        record = e.tweet_records[node] if node >= 0 else np.int64(0)
        carried = np.int64(0)
        for j in range(degree(record)):
            carried += (e.entries[slot_of(record, j)] >> NODE_BITS) & 15 == kind
        spans[r] = record if carried > 0 else 0
        link = rows[ROW * r + CHAIN] & VALUE
        while link > 0:
            owners[link - 1] = r
            pairs += carried
            link = proofs[link - 1] & VALUE
    return pairs


def spaces_in(ints: Any, sizes: Any) -> Any:
    """The buffer after the tally of tweets: spans (one per row), owners (one per proof), and the rest."""
    at = STATS + sizes.slots + ROW * sizes.rows + sizes.proofs
    owners = at + sizes.rows
    return ints[at:owners], ints[owners : owners + sizes.proofs], ints[owners + sizes.proofs :]


def extras_in(ints: Any, sizes: Any) -> Any:
    """The end of the entities' buffer: tweets, and last proof, by row; newest link by proof; links."""
    links = ints.shape[0] - sizes.proofs
    heads = links - sizes.proofs
    last = heads - sizes.rows
    return ints[last - sizes.rows : last], ints[last:heads], ints[heads:links], ints[links:]


spaces_of, extras_of = inlined(spaces_in), inlined(extras_in)


@inlined
def _row_of(tally: Any, extras: Any, place: Any, node: Any) -> Any:
    """An entity's row, created if it is new; returns (row, number of rows)."""
    mask, shift, n = place
    table, rows = tally.table, tally.rows
    at = find_slot(table, mask, shift, node)
    if table[at] != 0:
        return table[at] & VALUE, n
    table[at] = ((node + 1) << 32) | n
    rows[ROW * n + STAMP] = 0
    rows[ROW * n + CHAIN] = 0
    rows[ROW * n + NODE] = node
    rows.view(np.float64)[ROW * n + SCORE] = 0.0
    extras[0][n] = 0
    extras[1][n] = -1
    return n, n + 1


@inlined
def _proof_of(tally: Any, extras: Any, row: Any, seed: Any, kind: Any, proved: Any) -> Any:
    """The proof of an entity by a seed and type, created if it is new; returns (its number, number of proofs)."""
    rows, proofs = tally.rows, tally.proofs
    stamp = rows[row + STAMP]
    if stamp >> TYPES != seed + 1:
        stamp = (seed + 1) << TYPES
        rows[row + CHAIN] += USER
    bit = np.int64(1) << kind
    rows[row + STAMP] = stamp | bit
    link = rows[row + CHAIN] & VALUE
    if stamp & bit:
        # This seed's proofs are the first in the chain.
        while (proofs[link - 1] >> 32) & 15 != kind:
            link = proofs[link - 1] & VALUE
        return link - 1, proved
    proofs[proved] = (seed << 36) | (kind << 32) | link
    extras[2][proved] = 0
    rows[row + CHAIN] = (rows[row + CHAIN] & ~VALUE) | (proved + 1)
    return proved, proved + 1


@inlined
def _expand(e: Any, counted: Any, spaces: Any, tally: Any, extras: Any, weights: Any, kind: Any) -> None:
    """Add up by entity. Proofs are read last to first: chains grow at the front, so they end up newest first."""
    spans, owners, _ = spaces
    tweets, last, heads, links = extras
    scores = tally.rows.view(np.float64)
    slots, shift = slots_for(np.int64(tally.rows.shape[0] // ROW), tally.table.shape[0])
    tally.table[:slots] = 0
    n, proved, linked = np.int64(0), np.int64(0), np.int64(0)
    for p in range(counted.stats[PROOFS] - 1, -1, -1):
        proof = counted.proofs[p]
        record = spans[owners[p]]
        for j in range(degree(record)):
            entry = e.entries[slot_of(record, j)]
            if (entry >> NODE_BITS) & 15 != kind:
                continue
            rank, n = _row_of(tally, extras, (slots - 1, shift, n), entry & NODE_MASK)
            if last[rank] == p:
                continue  # the tweet carries it twice
            last[rank] = p
            # Only a tweet's first proof has no previous proof, so each tweet counts once.
            tweets[rank] += proof & VALUE == 0
            scores[ROW * rank + SCORE] += weights[proof >> 36]
            at, proved = _proof_of(tally, extras, ROW * rank, proof >> 36, (proof >> 32) & 15, proved)
            links[linked] = (owners[p] << 32) | heads[at]
            linked += 1
            heads[at] = linked
    tally.stats[ROWS] = n
    tally.stats[PROOFS] = proved


@kernel
def rank_entities(
    g: Any,
    e: Any,
    ints: Any,
    sizes: Any,
    more_ints: Any,
    floats: Any,
    more_sizes: Any,
    seeds: Any,
    weights: Any,
    needs: Any,
    kind: Any,
    tweet_ids: Any,
) -> None:
    """Choose the best entities after ``plan_entities`` has filled ``ints``; tally and ranking go into ``more_ints``.

    ``tweet_ids``: uint64 (k, p, t), zeroed; receives the tweets of the proofs.
    """
    counted, spaces = tally_of(ints, sizes), spaces_of(ints, sizes)
    tally, ranking = tally_of(more_ints, more_sizes), ranking_of(more_ints, floats, more_sizes)
    extras = extras_of(more_ints, more_sizes)
    _expand(e, counted, spaces, tally, extras, weights, kind)
    rank_best(e.user_keys, tally, ranking, more_sizes.per_result, seeds, weights, needs)
    heads, links = extras[2], extras[3]
    for k in range(tally.stats[RESULTS]):
        for i in range(ranking.proof_counts[k]):
            link = heads[ranking.links[k * more_sizes.per_result + i] - 1]
            t = 0
            while link > 0 and t < tweet_ids.shape[2]:
                tweet_ids[k, i, t] = g.tweet_keys[counted.rows[ROW * (links[link - 1] >> 32) + NODE]]
                link = links[link - 1] & VALUE
                t += 1
