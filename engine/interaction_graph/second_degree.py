"""Top second degree by count: the tweets that the seeds themselves engaged with, by the sum of the seeds' weights.

"Liked by people you follow": seeds are the viewer's weighted followees. A seed counts once per type of edge that it
has to a tweet, and only its newest edges are read. The definition of GraphJet's TopSecondDegreeByCount, made exact:
repeated edges never count twice, and undone edges are not in the graph.
"""

from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.errors import RequestError
from engine.interaction_graph import count_kernels
from engine.interaction_graph.arrays import ALL_TYPES
from engine.interaction_graph.count_kernels import (
    BUT_AUTHORS,
    CHAIN,
    EDGES_READ,
    RESULTS,
    ROW,
    ROWS,
    SCORE,
    SEEDS,
    TYPES,
    Ranking,
    Sizes,
    Tally,
    ranking_in,
    ranking_size,
    tally_in,
    tally_size,
)
from engine.interaction_graph.salsa import PROOFS_MAX, RESULTS_MAX, SalsaScratch, SeedsError
from engine.interaction_graph.state import InteractionGraph, InteractionGraphConfig

Ids = NDArray[np.uint64]
NO_IDS: Ids = np.empty(0, np.uint64)

#: A request's budget: edges read, of seeds and of listed authors together.
EDGES_MAX = 4_000_000
EDGES_PER_SEED_MAX = 10_000


class CountOptionError(RequestError):
    """A parameter of the count is out of its range."""

    code = "bad_count_option"


class CountBudgetError(RequestError):
    """More seeds or authors than the budget of edges allows."""

    code = "too_many_seeds"


class SecondDegreeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A count's parameters. Seeds are distinct; seeds that the graph does not know are ignored.

    ``edge_types``: bit mask of the types that count. ``users_min``: a tweet needs this many users of one type, or of
    one of ``type_unions`` (bit masks); ``users_min_by_type`` overrides the minimum of single types (0 = that type alone
    never suffices). A tweet's author does not count among the users of another type. ``users_exact``: if > 0, the exact
    number of distinct users.

    Left out: ``exclude_tweet_ids``; tweets of ``exclude_author_ids``; tweets of others than ``author_ids``, if given;
    tweets to which ``query_user_id`` has an edge (0 = nobody); tweets with fewer than ``degree_min`` edges; tweets
    created (by their snowflake id) more than ``tweet_age_ms_max`` before ``time_ms``; and engagements older than
    ``engagement_age_ms_max`` (0 = any age; ``time_ms`` 0 = the newest event). An author's tweets are found by edges of
    type TWEET among the author's newest ``edges_per_seed_max``.
    """

    seed_user_ids: Ids
    seed_weights: NDArray[np.float64]
    query_user_id: int = 0
    edge_types: int = ALL_TYPES
    results_max: int = 100
    edges_per_seed_max: int = 500
    proofs_max: int = 10
    users_min: int = 1
    users_min_by_type: dict[int, int] = {}
    type_unions: tuple[int, ...] = ()
    users_exact: int = 0
    time_ms: int = 0
    tweet_age_ms_max: int = 0
    engagement_age_ms_max: int = 0
    degree_min: int = 0
    exclude_tweet_ids: Ids = msgspec.field(default_factory=lambda: NO_IDS)
    exclude_author_ids: Ids = msgspec.field(default_factory=lambda: NO_IDS)
    author_ids: Ids = msgspec.field(default_factory=lambda: NO_IDS)


class SecondDegreeResult(NamedTuple):
    """Tweets, greatest score first, then by id (n rows).

    ``users``: distinct seeds (int32). Proofs of row i: the first ``proof_counts[i]`` of ``proof_user_ids[i]`` and
    ``proof_types[i]`` (n, k), the heaviest seeds first. ``seeds`` with edges, ``edges_read``, ``tweets`` counted.
    """

    tweet_ids: Ids
    scores: NDArray[np.float64]
    users: NDArray[np.int32]
    proof_counts: NDArray[np.int32]
    proof_user_ids: Ids
    proof_types: NDArray[np.uint8]
    seeds: int
    edges_read: int
    tweets: int


def validate(request: SecondDegreeRequest) -> None:
    """Check a request.

    Raises:
        RequestError: named by its ``code``: bad_seeds, bad_count_option, too_many_seeds.
    """
    weights = request.seed_weights
    seeds = len(request.seed_user_ids)
    if not seeds or seeds != len(weights) or len(np.unique(request.seed_user_ids)) != seeds:
        raise SeedsError(f"{seeds} seeds and {len(weights)} weights: seeds are distinct, with one weight each")
    if not (weights.min() >= 0.0 and weights.max() < np.inf):
        raise SeedsError("weights are finite and not negative")
    if not 1 <= request.edges_per_seed_max <= EDGES_PER_SEED_MAX:
        raise CountOptionError(f"edges_per_seed_max is 1 … {EDGES_PER_SEED_MAX}")
    if not 1 <= request.results_max <= RESULTS_MAX or not 0 <= request.proofs_max <= PROOFS_MAX:
        raise CountOptionError(f"results_max is 1 … {RESULTS_MAX}, proofs_max 0 … {PROOFS_MAX}")
    least = (request.users_min, request.users_exact, request.degree_min, *request.users_min_by_type.values())
    ages = (request.time_ms, request.tweet_age_ms_max, request.engagement_age_ms_max)
    if min(*least, *ages) < 0 or not all(0 <= t < TYPES for t in request.users_min_by_type):
        raise CountOptionError("minima and ages are not negative, types are 0 … 15")
    lists = seeds + len(request.exclude_author_ids) + len(request.author_ids)
    if lists * request.edges_per_seed_max + len(request.exclude_tweet_ids) > EDGES_MAX:
        raise CountBudgetError(
            f"{lists} seeds and authors with {request.edges_per_seed_max} edges each are over {EDGES_MAX} edges"
        )


def needs_of(request: SecondDegreeRequest, who: int = BUT_AUTHORS) -> tuple[Any, ...]:
    """The proof that a result needs (the last argument of ``count_kernels.rank_best``)."""
    least, exact = max(1, request.users_min), request.users_exact
    wanted = [t for t in range(TYPES) if request.edge_types >> t & 1]
    by_type = {t: request.users_min_by_type.get(t, least) for t in wanted}
    minimum = np.array([by_type.get(t, 0) for t in range(TYPES)], np.int64)
    plain = exact == 0 and all(users == 1 for users in by_type.values())
    unions = np.array([u & request.edge_types for u in request.type_unions], np.int64)
    return minimum, unions, least, exact, who, plain


def sizes_of(graph: InteractionGraph, request: SecondDegreeRequest, seeds: int = 0) -> Sizes:
    """Buffers that are long enough for a checked request, or for the same with so many seeds."""
    cap = request.edges_per_seed_max
    edges = (seeds or len(request.seed_user_ids)) * min(cap, graph.config.user_degree_max)
    authors = len(request.exclude_author_ids) + len(request.author_ids)
    marks = len(request.exclude_tweet_ids) + authors * cap + graph.config.user_degree_max
    slots = 1 << max(4, (2 * min(edges + marks, graph.config.tweets_max) - 1).bit_length())
    return Sizes(slots, min(edges, graph.config.tweets_max), edges, request.results_max, request.proofs_max)


def count_terms(graph: InteractionGraph, request: SecondDegreeRequest) -> tuple[Any, ...]:
    """Seeds, weights, lists, rules and limits of a request, as ``count_kernels.count`` takes them."""
    now_ms = request.time_ms or graph.watermark_ms
    engaged_s = _oldest_s(now_ms, request.engagement_age_ms_max)
    created_ms = max(0, now_ms - request.tweet_age_ms_max) if request.tweet_age_ms_max else 0
    lists = (request.exclude_tweet_ids, request.exclude_author_ids, request.author_ids)
    return (
        np.array(request.seed_user_ids, np.uint64),
        np.array(request.seed_weights, np.float64),
        (np.uint64(request.query_user_id), *(np.array(ids, np.uint64) for ids in lists)),
        (request.edge_types & ALL_TYPES, request.edges_per_seed_max, engaged_s),
        (created_ms, 0, request.degree_min),
    )


def _oldest_s(now_ms: int, age_ms_max: int) -> int:
    """The first second (rounded up) of engagements that are not too old; 0: of any age."""
    return max(0, -(-(now_ms - age_ms_max) // 1000)) if age_ms_max else 0


class SecondDegree:
    """A count whose terms are checked and prepared once, for many requests that differ in seeds, person and time.

    ``terms``: a request, of which the seeds do not matter; it excludes nothing and names no authors.
    """

    def __init__(self, graph: InteractionGraph, terms: SecondDegreeRequest) -> None:
        validate(terms)
        self._graph = graph
        self._terms = terms
        self._needs = needs_of(terms)

    def best(
        self, seeds: Ids, weights: NDArray[np.float64], query_user_id: int, time_ms: int, scratch: SalsaScratch
    ) -> tuple[Ids, NDArray[np.float64]]:
        """The results' ids and scores, for seeds (uint64, distinct, at least one) and their weights (finite, not
        negative).

        ``time_ms``: 0 is the newest event's.
        """
        terms, n, now_ms = self._terms, len(seeds), time_ms or self._graph.watermark_ms
        sizes = sizes_of(self._graph, terms, n)
        scratch.reserve(tally_size(sizes) + ranking_size(sizes) + n, sizes.rows)
        rules = (terms.edge_types, terms.edges_per_seed_max, _oldest_s(now_ms, terms.engagement_age_ms_max))
        lists = (np.uint64(query_user_id), NO_IDS, NO_IDS, NO_IDS)
        out = (np.empty(terms.results_max, np.uint64), np.empty(terms.results_max))
        count = count_kernels.best_second_degree(
            self._graph.read_arrays,
            (scratch.ints, scratch.floats),
            sizes,
            seeds,
            weights,
            (lists, rules, (0, 0, terms.degree_min), self._needs),
            out,
        )
        return out[0][:count], out[1][:count]


def second_degree(graph: InteractionGraph, request: SecondDegreeRequest, scratch: SalsaScratch) -> SecondDegreeResult:
    """Count and rank in one kernel call without the GIL; ``scratch`` belongs to the calling thread.

    O(seeds · edges_per_seed_max), within ``EDGES_MAX``.

    Raises:
        RequestError: named by its ``code``: bad_seeds, bad_count_option, too_many_seeds.
    """
    validate(request)
    return count_and_rank(graph, request, scratch, needs_of(request))


def count_and_rank(
    graph: InteractionGraph, request: SecondDegreeRequest, scratch: SalsaScratch, needs: tuple[Any, ...]
) -> SecondDegreeResult:
    """``second_degree`` of a checked request; ``needs``: the proof that a result needs (``needs_of``)."""
    sizes = sizes_of(graph, request)
    seeds, weights, *terms = count_terms(graph, request)
    scratch.reserve(tally_size(sizes) + ranking_size(sizes) + len(seeds), sizes.rows)
    count_kernels.second_degree(graph.read_arrays, scratch.ints, scratch.floats, sizes, seeds, weights, *terms, needs)
    return SecondDegreeResult(*ranked(scratch, sizes, seeds), *scratch.ints[[SEEDS, EDGES_READ, ROWS]].tolist())


#: The columns of a result that ``ranked`` returns.
Ranked = tuple[Ids, NDArray[np.float64], NDArray[np.int32], NDArray[np.int32], NDArray[np.uint64], NDArray[np.uint8]]


def ranked(scratch: SalsaScratch, sizes: Sizes, seeds: Ids) -> Ranked:
    """Copies of the n results: ids, scores, users, numbers of proofs, and (n, p) the proofs' user ids and types."""
    tally, ranking = tally_in(scratch.ints, sizes), ranking_in(scratch.ints, scratch.floats, sizes)
    n, p = int(tally.stats[RESULTS]), sizes.per_result
    rows = ROW * ranking.best[:n].astype(np.int64)
    counts = ranking.proof_counts[:n].astype(np.int32)
    if not p:
        empty = (np.empty((n, 0), np.uint64), np.empty((n, 0), np.uint8))
        return *_scored(tally, ranking, rows, n), counts, *empty
    there = np.arange(p) < counts[:, None]
    proofs = tally.proofs[np.where(there, ranking.links[: n * p].reshape(n, p) - 1, 0)]
    return (
        *_scored(tally, ranking, rows, n),
        counts,
        np.where(there, seeds[proofs >> 36], np.uint64(0)),
        np.where(there, (proofs >> 32) & 15, 0).astype(np.uint8),
    )


def _scored(
    tally: Tally, ranking: Ranking, rows: NDArray[np.int64], n: int
) -> tuple[Ids, NDArray[np.float64], NDArray[np.int32]]:
    """Copies of the results' ids, scores and users; ``rows``: where each result's row of the tally begins."""
    return (
        ranking.ids[:n].view(np.uint64).copy(),
        tally.rows.view(np.float64)[rows + SCORE],
        (tally.rows[rows + CHAIN] >> 32).astype(np.int32),
    )


def warm() -> None:
    """Compile the count on the real types."""
    graph = InteractionGraph(InteractionGraphConfig(users_max=2, tweets_max=2, edges_max=2))
    request = SecondDegreeRequest(seed_user_ids=np.ones(1, np.uint64), seed_weights=np.ones(1))
    second_degree(graph, request, SalsaScratch())
    SecondDegree(graph, request).best(np.ones(1, np.uint64), np.ones(1), 1, 1, SalsaScratch())
