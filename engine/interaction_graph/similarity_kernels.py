"""Counting shared neighbors over two hops: from tweets, or people, to people to tweets.

One kernel serves similarity and related tweets; they differ in where they start, which people count, and the score.
Lists longer than a limit are sampled: one random offset, then equal steps through the list. So every edge is read with
the same probability (limit / degree) and at most once, old or new. A list within the limit is read whole.

A person's list is first turned into tweets, then counted in a hash table sized for this request; meanwhile the next
people's lists are prefetched.
"""

from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.batch import SNOWFLAKE_EPOCH_MS
from engine.exact_math import log
from engine.interaction_graph.arrays import NODE_BITS, NODE_MASK
from engine.kernels.id_map import find_in
from engine.kernels.jit import inlined, kernel
from engine.kernels.prefetch import prefetch
from engine.kernels.ring_slices import degree, slot_of, time_of
from engine.kernels.rng import draw64, stream, uniform01
from engine.kernels.top_k import top_k

#: Fields of the statistics, at the start of ``ints``.
QUERY_DEGREE, SEEDS, PEOPLE, ENTRIES, REACHED, ENOUGH_SHARED, RESULTS = 0, 1, 2, 3, 4, 5, 6
STATS = 8
TABLE_MIN = 16
_AHEAD = 6
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_S22 = np.uint64(22)
#: First stream of draws for people's lists; the streams for tweets' lists begin at 0.
_PEOPLE_STREAMS = np.uint64(1 << 32)
_LN2 = 0.6931471805599453


class Measure(IntEnum):
    """How shared neighbors become a score; the formulas are in docs/similar_tweets.md."""

    COSINE = 0
    JACCARD = 1
    OVERLAP = 2
    INVERSE_DEGREE = 3
    ADAMIC_ADAR = 4
    LOG_DEGREE = 5


class AgeOf(IntEnum):
    """Where a tweet's age is counted from: its snowflake id, or its oldest or newest edge in the window."""

    SNOWFLAKE = 0
    FIRST_EDGE = 1
    LAST_EDGE = 2


_COSINE, _JACCARD, _INVERSE_DEGREE, _ADAMIC_ADAR, _LOG_DEGREE = 0, 1, 3, 4, 5
_FIRST_EDGE, _LAST_EDGE = 1, 2


class Options(NamedTuple):
    """A request's parameters for the kernel: integers (-1 in a ``_max`` = no limit); ``score_above`` float."""

    measure: int
    edge_types: int
    neighbors_max: int
    samples_max: int
    neighbor_degree_min: int
    neighbor_degree_max: int
    query_degree_min: int
    cooccurrence_min: int
    degree_min: int
    degree_max: int
    age_of: int
    age_ms_max: int
    now_ms: int
    score_above: float


class Layout(NamedTuple):
    """Sizes that divide the buffers: people and tweets that can be reached, entries of a list, hash slots, results.

    In order, ``ints`` holds: statistics; per person: index, weight, last seed; a list; per tweet: index, mark (last
    person in the upper half, count in the lower), candidate row, candidate id; the hash table; result rows (int32).
    ``floats``: per tweet the weighted count and a candidate's score.
    """

    people: int
    tweets: int
    entries: int
    table: int
    results: int

    @property
    def tweets_at(self) -> int:
        """Where the columns by tweet begin in ``ints``."""
        return STATS + 3 * self.people + self.entries

    @property
    def results_at(self) -> int:
        """Where the results begin in ``ints``."""
        return self.tweets_at + 4 * self.tweets + self.table

    @property
    def ints(self) -> int:
        """Length of the buffer ``ints``."""
        return self.results_at + self.results

    @property
    def floats(self) -> int:
        """Length of the buffer ``floats``."""
        return 2 * self.tweets


def layout_of(people: int, samples_max: int, neighbors_max: int, tweets_max: int, results: int) -> Layout:
    """The sizes for at most ``people`` with ``samples_max`` entries each; all arguments are positive."""
    tweets = min(people * samples_max, tweets_max)
    table = max(TABLE_MIN, 1 << (2 * max(people, tweets) - 1).bit_length())
    return Layout(people, tweets, max(samples_max, neighbors_max), table, results)


class CountScratch:
    """The buffers of one reader thread; they grow to the largest request so far (bounded by the requests' budget).

    Pages that no request has touched use no memory: the operating system provides them on first use.
    """

    def __init__(self) -> None:
        self.ints: NDArray[np.int64] = np.empty(1 << 12, np.int64)
        self.floats: NDArray[np.float64] = np.empty(1 << 10)

    def fit(self, ints: int, floats: int) -> None:
        """Make the buffers at least ``ints`` and ``floats`` long."""
        if len(self.ints) < ints:
            self.ints = np.empty(1 << (ints - 1).bit_length(), np.int64)
        if len(self.floats) < floats:
            self.floats = np.empty(1 << (floats - 1).bit_length())


@inlined
def shift_for(slots: Any) -> Any:
    """The shift that turns a 64-bit hash into a slot of a table; ``slots`` is a power of two of at least 2."""
    shift = np.uint64(63)
    while np.int64(1) << np.int64(np.uint64(64) - shift) < slots:
        shift -= np.uint64(1)
    return shift


@inlined
def slots_for(keys: Any, slots: Any) -> Any:
    """How many of ``slots`` (both powers of two) to use for ``keys`` at a load of at most one half."""
    size = np.int64(TABLE_MIN)
    while size < 2 * keys and size < slots:
        size *= 2
    return size


@inlined
def rank_of(table: Any, shift: Any, node: Any, new: Any) -> Any:
    """The node's rank; if the node is not in the table, enter it with rank ``new`` (-1: do not enter) and return that.

    A slot holds node + 1 in the upper half, rank in the lower.
    """
    mask = table.shape[0] - 1
    at = np.int64((np.uint64(node) * _GOLDEN) >> shift)
    while True:
        held = table[at]
        if held >> 32 == node + 1:
            return held & 0xFFFFFFFF
        if held == 0:
            if new >= 0:
                table[at] = ((node + 1) << 32) | new
            return new
        at = np.int64((at + 1) & mask)


@inlined
def gather(entries: Any, record: Any, limit: Any, types: Any, seed: Any, number: Any, found: Any) -> Any:
    """Write the neighbors at the list's edges of wanted types (bit mask), oldest first; returns how many.

    Of a list with more than ``limit`` edges, ``limit`` are read: each edge with the same probability, none twice.
    """
    count = degree(record)
    step = np.int64(1) << 32
    at = np.int64(0)
    if count > limit:
        # A share of 2^-32 of the list's end is lost to rounding.
        step = (count << 32) // limit
        at = np.int64(uniform01(draw64(stream(seed, number), np.uint64(0))) * np.float64(step))
        count = np.int64(limit)
    n = np.int64(0)
    for _ in range(count):
        entry = entries[slot_of(record, at >> 32)]
        at += step
        found[n] = entry & NODE_MASK
        n += (types >> ((entry >> NODE_BITS) & 15)) & 1
    return n


@inlined
def _people_of_tweets(g: Any, cut: Any, tweet_ids: Any, o: Any, seed: Any, stats: Any) -> Any:
    """List who engaged with the tweets, each person once with the number of these tweets; returns how many people."""
    people, weights, lasts, found, whole = cut
    total = np.int64(0)
    for s in range(tweet_ids.shape[0]):
        tweet = np.int64(find_in(g.tweet_slots, tweet_ids[s]))
        if tweet >= 0:
            total += min(degree(g.tweet_records[tweet]), np.int64(o.neighbors_max))
    table = whole[: slots_for(total, whole.shape[0])]
    table[:] = 0
    shift = shift_for(table.shape[0])
    stats[ENTRIES] += total
    n = np.int64(0)
    for s in range(tweet_ids.shape[0]):
        tweet = np.int64(find_in(g.tweet_slots, tweet_ids[s]))
        if tweet < 0 or degree(g.tweet_records[tweet]) == 0:
            continue
        stats[SEEDS] += 1
        record = g.tweet_records[tweet]
        size = gather(g.entries, record, o.neighbors_max, o.edge_types, seed, np.uint64(s), found)
        for i in range(size):
            prefetch(g.user_records, found[i])
            rank = rank_of(table, shift, found[i], n)
            if rank == n:
                people[n] = found[i]
                weights[n] = 0
                lasts[n] = -1
                n += 1
            weights[rank] += np.int64(lasts[rank] != s)
            lasts[rank] = s
    return n


@inlined
def _people_given(g: Any, user_ids: Any, o: Any, people: Any, weights: Any, stats: Any) -> Any:
    """List the given people (distinct) that have edges; returns how many. Others count as people of degree 0."""
    n = np.int64(0)
    for i in range(user_ids.shape[0]):
        user = np.int64(find_in(g.user_slots, user_ids[i]))
        if user >= 0 and degree(g.user_records[user]) > 0:
            stats[SEEDS] += 1
            people[n] = user
            weights[n] = 1
            n += 1
        else:
            stats[PEOPLE] += np.int64(o.neighbor_degree_min <= 0)
    return n


@inlined
def _keep_people(g: Any, people: Any, weights: Any, n: Any, o: Any, stats: Any) -> Any:
    """Drop people with too few or too many edges; returns how many stay and how many entries will be read."""
    kept = np.int64(0)
    total = np.int64(0)
    for i in range(n):
        count = degree(g.user_records[people[i]])
        people[kept] = people[i]
        weights[kept] = weights[i]
        if count >= o.neighbor_degree_min and (o.neighbor_degree_max < 0 or count <= o.neighbor_degree_max):
            total += min(count, np.int64(o.samples_max))
            kept += 1
    stats[PEOPLE] += kept
    stats[ENTRIES] += total
    return kept, total


@inlined
def _contribution(measure: Any, count: Any) -> Any:
    """The contribution of a shared person with ``count`` edges; an infinite one counts as 0."""
    if measure == _INVERSE_DEGREE:
        return 1.0 / np.float64(count) if count > 0 else 0.0
    if measure == _ADAMIC_ADAR:
        return _LN2 / log(np.float64(count)) if count > 1 else 0.0
    return 1.0


@inlined
def _count(g: Any, cut: Any, kept: Any, counted: Any, o: Any, seed: Any) -> Any:
    """Add up the people's contributions by tweet; returns how many tweets were reached."""
    people, weights, found = cut
    table, shift, tweets, marks, sums = counted
    entries = g.entries
    reached = np.int64(0)
    for p in range(kept):
        if p + _AHEAD < kept:
            prefetch(entries, slot_of(g.user_records[people[p + _AHEAD]], np.int64(0)))
        record = g.user_records[people[p]]
        weight = weights[p]
        part = np.float64(weight) * _contribution(o.measure, degree(record))
        n = gather(entries, record, o.samples_max, o.edge_types, seed, _PEOPLE_STREAMS + np.uint64(p), found)
        for i in range(n):
            prefetch(table, np.int64((np.uint64(found[i]) * _GOLDEN) >> shift))
        for i in range(n):
            rank = rank_of(table, shift, found[i], reached)
            if rank == reached:
                tweets[reached] = found[i]
                marks[reached] = 0
                sums[reached] = 0.0
                reached += 1
            if marks[rank] >> 32 != p + 1:
                marks[rank] = ((p + 1) << 32) | ((marks[rank] & 0xFFFFFFFF) + weight)
                sums[rank] += part
    return reached


@inlined
def _leave_out(g: Any, table: Any, shift: Any, marks: Any, tweet_ids: Any) -> None:
    """Keep these tweets out of the results: count them as shared by nobody."""
    for i in range(tweet_ids.shape[0]):
        tweet = np.int64(find_in(g.tweet_slots, tweet_ids[i]))
        if tweet >= 0:
            rank = rank_of(table, shift, tweet, np.int64(-1))
            if rank >= 0:
                marks[rank] = 0


@inlined
def _score(measure: Any, shared: Any, count: Any, query: Any, seeds: Any, all_seeds: Any) -> Any:
    """The score without constant factors; an infinite factor counts as 0. ``query``: the query's degree, ``seeds``: the
    number of seeds, ``all_seeds``: the sum of their degrees."""
    size = np.float64(count)
    if measure == _COSINE:
        return shared / np.sqrt(size)
    if measure == _JACCARD:
        union = size * np.float64(seeds) + np.float64(all_seeds) - shared
        return shared / union if union > 0.0 else 0.0
    if measure == _ADAMIC_ADAR:
        return shared / (np.sqrt(size) * np.sqrt(abs(size - np.float64(query)) + 1.0))
    if measure == _LOG_DEGREE:
        return shared / log(size) if count > 1 else 0.0
    return shared


@inlined
def _too_old(g: Any, record: Any, tweet_id: Any, o: Any) -> Any:
    if o.age_ms_max < 0:
        return False
    born = np.int64(tweet_id >> _S22) + SNOWFLAKE_EPOCH_MS
    if o.age_of == _FIRST_EDGE:
        born = time_of(g.entries[slot_of(record, np.int64(0))]) * 1000
    elif o.age_of == _LAST_EDGE:
        born = time_of(g.entries[slot_of(record, degree(record) - 1)]) * 1000
    return o.now_ms - born > o.age_ms_max


@inlined
def _select(g: Any, cut: Any, reached: Any, all_seeds: Any, scale: Any, o: Any, stats: Any, results: Any) -> None:
    """Write the rows of the tweets of best score, then by id, into ``best``; candidate scores into ``kept``."""
    tweets, marks, rows, ids, sums, kept, best = cut
    keys = ids.view(np.uint64)
    n = np.int64(0)
    for r in range(reached):
        if marks[r] & 0xFFFFFFFF >= o.cooccurrence_min:
            rows[n] = r
            n += 1
            prefetch(g.tweet_records, tweets[r])
            prefetch(g.tweet_keys, tweets[r])
    stats[ENOUGH_SHARED] = n
    candidates = np.int64(0)
    for i in range(n):
        row = rows[i]
        record = g.tweet_records[tweets[row]]
        tweet_id = g.tweet_keys[tweets[row]]
        count = degree(record)
        # A deleted tweet can still appear in users' lists. Its own list is empty, so its degree and age are unknown.
        if count == 0 or count < o.degree_min or (o.degree_max >= 0 and count > o.degree_max):
            continue
        score = scale * _score(o.measure, sums[row], count, stats[QUERY_DEGREE], stats[SEEDS], all_seeds)
        if score <= o.score_above or _too_old(g, record, tweet_id, o):
            continue
        rows[candidates] = row
        keys[candidates] = tweet_id
        kept[candidates] = score
        candidates += 1
    stats[RESULTS] = top_k(kept, keys, candidates, results, best)


@inlined
def _scale(o: Any, query: Any, people: Any) -> Any:
    """The constant of related tweets: degree / ln(degree) of the query tweet, or 1000, over the number of people."""
    if o.measure != _LOG_DEGREE:
        return 1.0
    if people == 0 or query == 1:
        return 0.0
    size = np.float64(query)
    return (size / log(size) if query > 0 else 1000.0) / np.float64(people)


@kernel
def count_shared(
    g: Any, ints: Any, floats: Any, sizes: Any, tweet_ids: Any, user_ids: Any, excluded: Any, seed: Any, o: Any
) -> None:
    """A whole request: find the people, count what they share, score, select.

    ``g``: ReadArrays. ``ints``, ``floats``: the reader's buffers, divided by ``sizes`` (Layout); they hold the results.
    ``tweet_ids`` uint64, distinct, the query first; empty if the count starts from ``user_ids`` (uint64, distinct).
    ``excluded`` uint64: tweets that must not be results. ``seed`` uint64 of the draws, ``o``: Options.
    """
    people_max, tweets_max, list_max, slots, results = sizes
    stats = ints[:STATS]
    stats[:] = 0
    people = ints[STATS : STATS + people_max]
    weights = ints[STATS + people_max : STATS + 2 * people_max]
    lasts = ints[STATS + 2 * people_max : STATS + 3 * people_max]
    at = STATS + 3 * people_max
    found = ints[at : at + list_max]
    at += list_max
    tweets = ints[at : at + tweets_max]
    marks = ints[at + tweets_max : at + 2 * tweets_max]
    rows = ints[at + 2 * tweets_max : at + 3 * tweets_max]
    ids = ints[at + 3 * tweets_max : at + 4 * tweets_max]
    at += 4 * tweets_max
    whole = ints[at : at + slots]
    best = ints[at + slots : at + slots + results].view(np.int32)
    sums = floats[:tweets_max]
    kept = floats[tweets_max : 2 * tweets_max]

    all_seeds = np.int64(0)
    for i in range(tweet_ids.shape[0]):
        tweet = np.int64(find_in(g.tweet_slots, tweet_ids[i]))
        if tweet >= 0:
            all_seeds += degree(g.tweet_records[tweet])
        if i == 0:
            stats[QUERY_DEGREE] = all_seeds
    if tweet_ids.shape[0] > 0:
        if stats[QUERY_DEGREE] < o.query_degree_min:
            return
        n = _people_of_tweets(g, (people, weights, lasts, found, whole), tweet_ids, o, seed, stats)
    else:
        n = _people_given(g, user_ids, o, people, weights, stats)
    n, total = _keep_people(g, people, weights, n, o, stats)
    table = whole[: slots_for(min(total, tweets_max), slots)]
    table[:] = 0
    shift = shift_for(table.shape[0])
    reached = _count(g, (people, weights, found), n, (table, shift, tweets, marks, sums), o, seed)
    stats[REACHED] = reached
    _leave_out(g, table, shift, marks, tweet_ids)
    _leave_out(g, table, shift, marks, excluded)
    scale = _scale(o, stats[QUERY_DEGREE], stats[PEOPLE])
    _select(g, (tweets, marks, rows, ids, sums, kept, best), reached, all_seeds, scale, o, stats, results)
