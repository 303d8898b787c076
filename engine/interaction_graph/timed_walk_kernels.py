"""Kernels that score given tweets at eight half-lives: walks whose visits are weighed by age, and sums over edges.

One walk serves all half-lives: a visit over an edge adds 2^(-age / half-life) at each of them. Only the given tweets
get a score, so visits to others are not kept: a hash table of the request maps a tweet to its row.
"""

from typing import Any

import numpy as np

from engine.interaction_graph.arrays import NODE_MASK
from engine.interaction_graph.count_kernels import find_slot
from engine.kernels.eight import add_products, divide, keep_greatest
from engine.kernels.id_map import find_in
from engine.kernels.jit import inlined, kernel
from engine.kernels.prefetch import prefetch
from engine.kernels.ring_slices import degree, slot_of, time_of
from engine.kernels.rng import bounded, draw64, mix64, stream

#: Half-lives that are scored at once.
WIDTH = 8
#: Bounds of ``company``: engagements of the viewer, people per engagement's tweet, people in all.
OWN_NEWEST = 8
COMPANY_NEWEST = 64
COMPANY_MAX = OWN_NEWEST * COMPANY_NEWEST
#: Entries in a cache line, and of a list how many are prefetched.
_PER_LINE, _PREFETCHED = 8, 64
_SEED_STEP = np.uint64(0x9E3779B97F4A7C15)


@inlined
def _shift_for(slots: Any) -> Any:
    shift = np.uint64(64)
    while np.int64(1) << np.int64(np.uint64(64) - shift) < slots:
        shift -= np.uint64(1)
    return shift


@kernel
def enter(g: Any, tweet_ids: Any, nodes: Any, table: Any) -> None:
    """Look tweets (uint64, n) up: fill ``nodes`` (int64, n; -1 unknown) and a hash ``table`` (int64, a power of two of
    at least 2n slots; a slot holds node + 1 in the upper half, the tweet's row in the lower)."""
    table[:] = 0
    shift = _shift_for(table.shape[0])
    mask = np.uint64(g.tweet_slots.shape[0] // 2 - 1)
    for i in range(tweet_ids.shape[0]):
        prefetch(g.tweet_slots, np.int64((mix64(tweet_ids[i]) & mask) << np.uint64(1)))
    for i in range(tweet_ids.shape[0]):
        nodes[i] = np.int64(find_in(g.tweet_slots, tweet_ids[i]))
        if nodes[i] >= 0:
            prefetch(g.tweet_records, nodes[i])
            table[find_slot(table, table.shape[0] - 1, shift, nodes[i])] = ((nodes[i] + 1) << 32) | i


@kernel
def company(g: Any, viewer_id: Any, people: Any, weights: Any, table: Any) -> Any:
    """List the people who lately engaged with the tweets that the viewer lately engaged with; returns how many.

    Each of the viewer's newest ``OWN_NEWEST`` engagements spreads a weight of 1 evenly over the newest
    ``COMPANY_NEWEST`` people of its tweet; the viewer is left out. ``people`` (int64, nodes) and ``weights`` (float64)
    have room for ``COMPANY_MAX``; ``table``: int64, a power of two of at least twice as many slots.
    """
    viewer = np.int64(find_in(g.user_slots, viewer_id))
    if viewer < 0:
        return 0
    table[:] = 0
    mask, shift = table.shape[0] - 1, _shift_for(table.shape[0])
    own = g.user_records[viewer]
    found = np.int64(0)
    for i in range(min(degree(own), OWN_NEWEST)):
        tweet = g.entries[slot_of(own, degree(own) - 1 - i)] & NODE_MASK
        record = g.tweet_records[tweet]
        size = min(degree(record), np.int64(COMPANY_NEWEST))
        for j in range(size):
            user = g.entries[slot_of(record, degree(record) - 1 - j)] & NODE_MASK
            if user == viewer:
                continue
            at = find_slot(table, mask, shift, user)
            if table[at] == 0:
                table[at] = ((user + 1) << 32) | found
                people[found] = user
                weights[found] = 0.0
                found += 1
            weights[table[at] & 0xFFFFFFFF] += 1.0 / np.float64(size)
    return found


@inlined
def _part(i: Any, size: Any, offset: Any, picks: Any) -> Any:
    """The i-th of ``picks`` places spread evenly over a list of ``size`` entries, from a random offset in [0, size)."""
    if picks == 1:
        return offset
    if picks == size:
        return i
    return np.int64((np.uint64(i) * np.uint64(size) + np.uint64(offset)) // np.uint64(picks))


@inlined
def _rows_of(entry: Any, now: Any, ages: Any) -> Any:
    """Where the two rows of the table begin whose product is 2^(-age / half-life) of an edge's age."""
    tables, lows, bits = ages
    age = max(np.int64(0), now - time_of(entry))
    return WIDTH * (age & (lows - 1)), WIDTH * min(lows + (age >> bits), np.int64(tables.shape[0] - 1))


@inlined
def _count_visits(found: Any, shares: Any, visits: Any, timed: Any, asked: Any, out: Any, family: Any) -> None:
    """Add each visit's share, at each half-life by the age of its edge, to the family's columns of its tweet's row of
    ``out``, if the tweet was asked for, and to the family's row of ``totals``, if there is one."""
    now, ages, factors, totals = timed
    tables, shift, slots = ages[0], _shift_for(asked.shape[0]), asked.shape[0] - 1
    zero = np.int64(0)
    for m in range(visits):
        low, high = _rows_of(found[m], now, ages)
        held = asked[find_slot(asked, slots, shift, found[m] & NODE_MASK)]
        if held != 0:
            at = (held & 0xFFFFFFFF) * out.shape[1] + family * WIDTH
            add_products(out, at, tables, low, tables, high, factors, zero, shares[m])
        if totals.shape[0] > 0:
            add_products(totals, family * WIDTH, tables, low, tables, high, factors, zero, shares[m])


@inlined
def _walk_from_viewer(g: Any, viewer: Any, walks: Any, seed: Any, cut: Any, timed: Any, asked: Any, out: Any) -> None:
    """Three edges from the viewer: to tweets of theirs, to others who engaged with these, to what those engaged with.

    The walkers are spread evenly over the lists that they reach, from a random offset in each list, instead of drawing
    an edge each: what is expected is the same, the error is smaller. A list that gets at least as many walkers as it
    has entries is read whole.
    """
    slots, found, shares, more = cut
    own = g.user_records[viewer]
    edges = min(degree(own), walks)
    each = walks // max(edges, np.int64(1))
    start = stream(seed, np.uint64(0))
    offset = bounded(draw64(start, np.uint64(0)), degree(own)) if edges > 0 else np.int64(0)
    share = 1.0 / np.float64(max(edges, np.int64(1)))
    for e in range(edges):
        found[e] = g.entries[slot_of(own, _part(e, degree(own), offset, edges))]
        shares[e] = share
        prefetch(g.tweet_records, found[e] & NODE_MASK)
    _count_visits(found, shares, edges, timed, asked, out, np.int64(0))
    people = np.int64(0)
    for e in range(edges):
        record = g.tweet_records[found[e] & NODE_MASK]
        size = degree(record)
        if size > 0:
            picks = min(each, size)
            offset = bounded(draw64(start, np.uint64(e + 1)), size)
            for j in range(picks):
                slots[people] = slot_of(record, _part(j, size, offset, picks))
                shares[people] = share / np.float64(picks)
                more[people] = each // picks
                people += 1
    for p in range(people):
        found[p] = g.entries[slots[p]] & NODE_MASK
        prefetch(g.user_records, found[p])
    # Shares and entries of the visits are written behind those of the people, who are still read.
    start = stream(seed, np.uint64(1))
    visits = people
    for p in range(people):
        record = g.user_records[found[p]]
        size = degree(record)
        if size > 0:
            picks = min(more[p], size)
            offset = bounded(draw64(start, np.uint64(p)), size)
            for j in range(picks):
                slots[visits] = slot_of(record, _part(j, size, offset, picks))
                shares[visits] = shares[p] / np.float64(picks)
                visits += 1
    for v in range(people, visits):
        found[v] = g.entries[slots[v]]
    _count_visits(found[people:], shares[people:], visits - people, timed, asked, out, np.int64(0))


@inlined
def _walk_from_company(g: Any, company: Any, walks: Any, seed: Any, cut: Any, timed: Any, asked: Any, out: Any) -> None:
    """One edge from each of some people, by their weights; walkers are spread as in ``_walk_from_viewer``."""
    people, weights, count = company
    slots, found, shares, _ = cut
    total = 0.0
    for p in range(count):
        prefetch(g.user_records, people[p])
        total += weights[p]
    start = stream(seed, np.uint64(0))
    visits = np.int64(0)
    for p in range(count):
        record = g.user_records[people[p]]
        size = degree(record)
        if size > 0:
            share = weights[p] / total
            picks = min(np.int64(np.ceil(share * np.float64(walks))), size)
            offset = bounded(draw64(start, np.uint64(p)), size)
            for j in range(picks):
                slots[visits] = slot_of(record, _part(j, size, offset, picks))
                shares[visits] = share / np.float64(picks)
                visits += 1
    for v in range(visits):
        found[v] = g.entries[slots[v]]
    _count_visits(found, shares, visits, timed, asked, out, np.int64(1))


@kernel
def walk(
    g: Any, viewer_id: Any, start: Any, options: Any, ints: Any, floats: Any, ages: Any, asked: Any, totals: Any,
    out: Any,
) -> None:  # fmt: skip
    """Add each given tweet's visits in both walks at each half-life to ``out`` float64 (n, ≥ 2 · WIDTH): the walk from
    the viewer, then the one from company; and the visits of all tweets to ``totals`` float64 (2, WIDTH), unless (0, …).

    ``start``: people (int64) and weights (float64) of ``company``, and how many. ``options``: walks, groups of
    half-lives (each has walks of its own), seed, time in s. ``ages``: (tables float64 (rows, WIDTH), rows of the low
    part of an age, bits of the low part). ``asked``: the table of ``enter``. ``ints``: int64 (3 · r,) and ``floats``:
    float64 (WIDTH + r,) are scratch, r at least ``walk_room``.
    """
    walks, groups, seed, now = options
    room = floats.shape[0] - WIDTH
    cut = (ints[:room], ints[room : 2 * room], floats[WIDTH:], ints[2 * room :])
    factors = floats[:WIDTH]
    viewer = np.int64(find_in(g.user_slots, viewer_id))
    for group in range(groups):
        for h in range(WIDTH):
            factors[h] = 1.0 if h * groups // WIDTH == group else 0.0
        timed = (now, ages, factors, totals)
        if viewer >= 0:
            _walk_from_viewer(g, viewer, walks, seed + np.uint64(group) * _SEED_STEP, cut, timed, asked, out)
        own_seed = seed + np.uint64(groups + group) * _SEED_STEP
        _walk_from_company(g, start, walks, own_seed, cut, timed, asked, out)


def walk_room(walks: int) -> int:
    """Numbers per buffer of ``walk``: the people reached and what they are led to, or the company's visits."""
    return 2 * walks + COMPANY_MAX


@kernel
def score(
    g: Any, tweet_ids: Any, viewer_id: Any, options: Any, start: Any, ints: Any, floats: Any, ages: Any, entered: Any,
    totals: Any, out: Any,
) -> None:  # fmt: skip
    """All families' components of tweets into ``out`` float64 (n, 3 · WIDTH), each column's greatest 1: ``enter``,
    ``company``, ``walk``, ``add_edges`` and ``scale_family`` in one call.

    ``start``: people, weights and table of ``company``; ``entered``: nodes and table of ``enter``; ``ages``: for sums,
    and for walks.
    """
    for i in range(out.shape[0]):
        for k in range(out.shape[1]):
            out[i, k] = 0.0
    people, weights, table = start
    nodes, asked = entered
    enter(g, tweet_ids, nodes, asked)
    count = np.int64(company(g, viewer_id, people, weights, table))
    walk(g, viewer_id, (people, weights, count), options, ints, floats, ages[1], asked, totals, out)
    factors = floats[:WIDTH]
    factors[:] = 1.0
    add_edges(g, nodes, options[3], ages[0], factors, out, np.int64(2))
    for family in range(3):
        scale_family(out, np.int64(family), factors)


@kernel
def add_edges(g: Any, nodes: Any, now: Any, ages: Any, factors: Any, out: Any, family: Any) -> None:
    """Add 2^(-age / half-life) over each tweet's edges to the family's columns of ``out``: ``nodes`` int64 (n,), -1 =
    unknown; ``now`` and ``ages`` as in ``walk``; ``factors``: float64 (WIDTH,), by half-life. O(edges)."""
    tables, zero = ages[0], np.int64(0)
    for i in range(nodes.shape[0]):
        if nodes[i] >= 0:
            record = g.tweet_records[nodes[i]]
            for j in range(0, min(degree(record), _PREFETCHED), _PER_LINE):
                prefetch(g.entries, slot_of(record, j))
    for i in range(nodes.shape[0]):
        if nodes[i] < 0:
            continue
        record, at = g.tweet_records[nodes[i]], i * out.shape[1] + family * WIDTH
        for j in range(degree(record)):
            low, high = _rows_of(g.entries[slot_of(record, j)], now, ages)
            add_products(out, at, tables, low, tables, high, factors, zero, 1.0)


@kernel
def scale_family(out: Any, family: Any, greatest: Any) -> None:
    """Scale the family's columns of ``out``, float64 (n, k), not negative, to a maximum of 1; a column of zeros stays.
    ``greatest``: float64 (WIDTH,), scratch."""
    greatest[:] = 0.0
    zero = np.int64(0)
    for i in range(out.shape[0]):
        keep_greatest(greatest, zero, out, i * out.shape[1] + family * WIDTH)
    for h in range(WIDTH):
        greatest[h] = greatest[h] if greatest[h] > 0.0 else 1.0
    for i in range(out.shape[0]):
        divide(out, i * out.shape[1] + family * WIDTH, greatest, zero)
