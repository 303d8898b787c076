"""Tweets similar to a tweet: tweets that the same people engaged with (docs/similar_tweets.md has the formulas).

After GraphJet's intersection similarity ("GraphJet: Real-Time Content Recommendations at Twitter", PVLDB 9(13), 2016),
with three differences: the query and the further seeds are never results, the query's least degree is respected, and
lists over a limit are sampled without repeats.
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.errors import RequestError
from engine.interaction_graph.arrays import ALL_TYPES
from engine.interaction_graph.salsa import RESULTS_MAX
from engine.interaction_graph.similarity_kernels import (
    ENOUGH_SHARED,
    ENTRIES,
    PEOPLE,
    QUERY_DEGREE,
    REACHED,
    RESULTS,
    SEEDS,
    AgeOf,
    CountScratch,
    Layout,
    Measure,
    Options,
    count_shared,
    layout_of,
)
from engine.interaction_graph.state import InteractionGraph, InteractionGraphConfig

__all__ = ["ENTRIES_MAX", "AgeOf", "CountScratch", "Measure", "SharedTweets", "SimilarityRequest", "similar_tweets"]

#: A request's budget of adjacency entries; the request's limits bound its entries before anything is read.
ENTRIES_MAX = 2_000_000
#: The most ids in one list of a request.
IDS_MAX = 100_000
_NONE_MAX = -1

Ids = NDArray[np.uint64]
IdList = Sequence[int] | Ids


class SimilarityOptionError(RequestError):
    """A parameter of a similarity, related-tweets or random-neighbors request is out of its range."""

    code = "bad_similarity_option"


class WorkBudgetError(RequestError):
    """The request's limits allow more work than a request may take."""

    code = "too_much_work"


class SharedStats(NamedTuple):
    """Edges of the query tweet; seeds found in the graph; people counted (after the degree limits); entries read;
    tweets that these people engaged with; how many of these tweets are shared by enough people."""

    query_degree: int
    seeds: int
    people: int
    entries_read: int
    tweets_reached: int
    tweets_shared: int


class SharedTweets(NamedTuple):
    """The tweets of best score, best first, then by id (n rows): ``scores`` float64, ``cooccurrences`` int64 (shared
    people, each counted once per seed that they engaged with), ``degrees`` int64 (edges, including parallel ones)."""

    tweet_ids: Ids
    scores: NDArray[np.float64]
    cooccurrences: NDArray[np.int64]
    degrees: NDArray[np.int64]
    stats: SharedStats


class SimilarityRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The query tweet, the measure, and the limits of results.

    ``more_tweet_ids``: further seeds. ``edge_types``: bit mask by ``EdgeType``, for both hops; degrees count all
    types. ``neighbors_max``, ``samples_max``: how many edges of a seed, and of a person, are read at most; longer lists
    are sampled by ``seed`` (64 bits). People of a degree outside ``neighbor_degree_min`` … ``neighbor_degree_max`` are
    left out. A query tweet with fewer edges than ``query_degree_min`` has no results. A result is shared by at least
    ``cooccurrence_min`` people, has ``degree_min`` … ``degree_max`` edges, and is no older than ``age_ms_max`` at
    ``time_ms`` (0 = newest event).
    """

    tweet_id: int
    more_tweet_ids: IdList = ()
    measure: Measure = Measure.COSINE
    edge_types: int = ALL_TYPES
    neighbors_max: int = 200
    samples_max: int = 200
    neighbor_degree_min: int = 1
    neighbor_degree_max: int | None = None
    query_degree_min: int = 1
    cooccurrence_min: int = 1
    degree_min: int = 1
    degree_max: int | None = None
    age_of: AgeOf = AgeOf.SNOWFLAKE
    age_ms_max: int | None = None
    time_ms: int = 0
    excluded_tweet_ids: IdList = ()
    results_max: int = 100
    seed: int = 0


def ids_of(values: IdList) -> Ids:
    """Ids as a writable array, (n,) uint64.

    Raises:
        SimilarityOptionError: a value is no unsigned 64-bit integer.
        WorkBudgetError: more than ``IDS_MAX`` values.
    """
    if len(values) > IDS_MAX:
        raise WorkBudgetError(f"{len(values)} ids are more than {IDS_MAX}")
    try:
        return np.array(values, np.uint64).reshape(-1)
    except (OverflowError, TypeError, ValueError) as error:
        raise SimilarityOptionError("ids are unsigned 64-bit integers") from error


def distinct(ids: Ids) -> Ids:
    """Each id once, 0 left out, in order of first occurrence."""
    _, first = np.unique(ids, return_index=True)
    first = np.sort(first)
    found: Ids = ids[first[ids[first] != 0]]
    return found


def bound(name: str, value: int, least: int, most: int) -> int:
    """The value, if it is in its range.

    Raises:
        SimilarityOptionError: it is not.
    """
    if not least <= value <= most:
        raise SimilarityOptionError(f"{name} {value} is not in {least} … {most}")
    return value


def _limit(name: str, value: int | None) -> int:
    return _NONE_MAX if value is None else bound(name, value, 0, (1 << 62) - 1)


def options_of(request: SimilarityRequest, watermark_ms: int, score_above: float) -> Options:
    """The kernel's parameters, checked.

    Raises:
        SimilarityOptionError: a parameter is out of its range.
    """
    most = (1 << 31) - 1
    return Options(
        bound("measure", int(request.measure), 0, max(Measure)),
        request.edge_types & ALL_TYPES,
        bound("neighbors_max", request.neighbors_max, 1, ENTRIES_MAX),
        bound("samples_max", request.samples_max, 1, ENTRIES_MAX),
        bound("neighbor_degree_min", request.neighbor_degree_min, 0, most),
        _limit("neighbor_degree_max", request.neighbor_degree_max),
        bound("query_degree_min", request.query_degree_min, 1, most),
        bound("cooccurrence_min", request.cooccurrence_min, 1, most),
        bound("degree_min", request.degree_min, 0, most),
        _limit("degree_max", request.degree_max),
        bound("age_of", int(request.age_of), 0, max(AgeOf)),
        _limit("age_ms_max", request.age_ms_max),
        bound("time_ms", request.time_ms, 0, 1 << 53) or watermark_ms,
        score_above,
    )


def layout_for(tweets_max: int, request: SimilarityRequest, people: int, results: int) -> Layout:
    """Buffers for a request that starts from at most ``people``, in a graph of at most ``tweets_max``.

    Raises:
        WorkBudgetError: the request could read more than ``ENTRIES_MAX`` entries.
    """
    if (people + 1) * (request.samples_max + 1) > ENTRIES_MAX:
        raise WorkBudgetError(
            f"{people} people with {request.samples_max} entries each are more than {ENTRIES_MAX} entries"
        )
    limits = (request.samples_max, request.neighbors_max)
    return layout_of(max(1, people), *limits, tweets_max, results)


def shared_tweets(
    graph: InteractionGraph,
    request: SimilarityRequest,
    scratch: CountScratch,
    user_ids: Ids,
    score_above: float,
) -> SharedTweets:
    """Count from the request's tweets, or from ``user_ids`` (distinct) if its ``tweet_id`` is 0. Results score above
    ``score_above``.

    Raises:
        RequestError: named by its ``code``: bad_similarity_option, too_much_work.
    """
    options = options_of(request, graph.watermark_ms, score_above)
    bound("results_max", request.results_max, 1, RESULTS_MAX)
    bound("seed", request.seed, 0, (1 << 64) - 1)
    seeds = ids_of([request.tweet_id] if request.tweet_id else [])
    if len(request.more_tweet_ids) and request.tweet_id:
        seeds = distinct(np.concatenate([seeds, np.sort(ids_of(request.more_tweet_ids))]))
    people = len(seeds) * request.neighbors_max if request.tweet_id else len(user_ids)
    layout = layout_for(graph.config.tweets_max, request, people, request.results_max)
    scratch.fit(layout.ints, layout.floats)
    count_shared(
        graph.read_arrays,
        scratch.ints,
        scratch.floats,
        tuple(layout),
        seeds,
        user_ids,
        ids_of(request.excluded_tweet_ids),
        np.uint64(request.seed),
        options,
    )
    return _collect(graph, scratch, layout)


def _collect(graph: InteractionGraph, scratch: CountScratch, layout: Layout) -> SharedTweets:
    """Copy the results out of the buffers."""
    ints, floats = scratch.ints, scratch.floats
    n = int(ints[RESULTS])
    best = ints[layout.results_at : layout.results_at + layout.results].view(np.int32)[:n]
    at, size = layout.tweets_at, layout.tweets
    rows = ints[at + 2 * size : at + 3 * size][best]
    records = graph.read_arrays.tweet_records[ints[at : at + size][rows]]
    return SharedTweets(
        ints[at + 3 * size : at + 4 * size][best].view(np.uint64),
        floats[size : 2 * size][best],
        ints[at + size : at + 2 * size][rows] & 0xFFFFFFFF,
        records & ((1 << 27) - 1),
        SharedStats(*(int(ints[field]) for field in (QUERY_DEGREE, SEEDS, PEOPLE, ENTRIES, REACHED, ENOUGH_SHARED))),
    )


def similar_tweets(graph: InteractionGraph, request: SimilarityRequest, scratch: CountScratch) -> SharedTweets:
    """The tweets most similar to ``request.tweet_id``; none if the graph does not know that tweet.

    ``scratch`` belongs to the calling thread. O(entries read + tweets reached), within ``ENTRIES_MAX``.

    Raises:
        RequestError: named by its ``code``: bad_similarity_option, too_much_work.
    """
    if request.tweet_id == 0:
        raise SimilarityOptionError("tweet_id is not 0")
    if request.measure is Measure.LOG_DEGREE:
        raise SimilarityOptionError("log_degree is the score of related tweets")
    return shared_tweets(graph, request, scratch, ids_of([]), -1.0)


def warm() -> None:
    """Compile the count on the real types."""
    graph = InteractionGraph(InteractionGraphConfig(users_max=2, tweets_max=2, edges_max=2))
    similar_tweets(graph, SimilarityRequest(tweet_id=1), CountScratch())
