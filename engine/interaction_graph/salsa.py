"""SALSA: random walks between users and tweets from weighted seed users; tweets ranked by how often they are visited.

The walk of GraphJet ("GraphJet: Real-Time Content Recommendations at Twitter", PVLDB 9(13), 2016) with exact
degree-proportional sampling: each step draws one of the node's edges uniformly, parallel edges included. Before each
left step (users to tweets) a walker resets to the query user with probability ``reset`` and waits there until the
next left step. In expectation, with x the walkers by user and P the row-normalized counts of edges,

    y = (1 - reset) · x · P_LR,   visits += y,   x' = y · P_RL + reset · |x| · e_query,   score = visits / Σ visits.

Time-aware walks: recent engagements say more than old ones. With half-lives, a visit over an edge counts
2^(-age / half-life) instead of 1, with the age of the edge. The draw stays uniform, so the expectation is the weighted
sum over the edges, and one walk serves all half-lives at once. Draws in proportion to the weight would need one walk
per half-life, and a pass over each list.
"""

from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine import exact_math
from engine.errors import RequestError
from engine.interaction_graph import walk_kernels
from engine.interaction_graph.arrays import ALL_TYPES
from engine.interaction_graph.state import InteractionGraph, InteractionGraphConfig
from engine.interaction_graph.walk_kernels import ENTRIES_MAX, LANES, STATS, Layout

RESULTS_MAX = 2500
_NO_TIMES = np.empty((0, 0))
_NO_PROOF_IDS = np.empty((0, 0), np.uint64)
_NO_PROOF_TYPES = np.empty((0, 0), np.uint8)
PROOFS_MAX = 100
#: A request's budget: walkers times length. ``ENTRIES_MAX`` bounds the entries counted in search of rare types.
STEPS_MAX = 2_000_000
#: Ages stop growing when the request's time is later than the newest event by more than this.
AGE_SLACK_S = 86_400


class WalkLengthError(RequestError):
    """A walk's length is not an odd number in 1 … 99."""

    code = "bad_walk_length"


class WalkCountError(RequestError):
    """No walks, or more than the budget of steps allows, or (if wanted types are rare) of counted entries."""

    code = "too_many_walks"


class SeedsError(RequestError):
    """Neither a query user nor seeds, or weights that do not fit the seeds or are negative or not finite."""

    code = "bad_seeds"


class WalkOptionError(RequestError):
    """Another parameter of the walk is out of its range."""

    code = "bad_walk_option"


class SalsaRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A walk's parameters. Seeds that the graph does not know are ignored.

    Resets go to ``query_user_id`` (0 = none). If that user has edges and is no seed, it becomes a seed with the share
    ``query_weight_fraction`` of all weight. ``edge_types`` and ``social_proof_types`` are bit masks by ``EdgeType``.
    ``seed`` (64 bits) drives the draws.

    ``half_lives_ms`` (at most 4) make the walk time-aware, with ages counted from ``time_ms`` (0 = the newest event).
    The score is then the sum over the half-lives of ``blend`` (equal parts by default) times the tweet's share of all
    weight at that half-life.
    """

    query_user_id: int
    seed_user_ids: NDArray[np.uint64]
    seed_weights: NDArray[np.float64]
    walks: int = 1000
    length: int = 5
    reset: float = 0.3
    query_weight_fraction: float = 0.9
    edge_types: int = ALL_TYPES
    results_max: int = 100
    seed: int = 0
    social_proofs_max: int = 0
    social_proof_types: int = ALL_TYPES
    half_lives_ms: tuple[float, ...] = ()
    blend: tuple[float, ...] = ()
    time_ms: int = 0


class SalsaStats(NamedTuple):
    """Walkers placed, seeds with walkers, visits counted, tweets reached, steps made (both directions)."""

    walkers: int
    seed_nodes: int
    visits: int
    tweets_reached: int
    steps: int


class SalsaResult(NamedTuple):
    """The tweets of best score, best first, then by id (n rows).

    ``scores``: share of all visits (time-aware: see ``SalsaRequest``). ``visits``: int32. ``timed_scores``: (n,
    half-lives) share of all weight at each half-life. Social proof of row i: the first ``proof_counts[i]`` of
    ``proof_user_ids[i]`` and ``proof_types[i]`` (n, k): the users from whom the last left step started, the most active
    first. Without half-lives or proofs in the request, those arrays are empty: (0, 0).
    """

    tweet_ids: NDArray[np.uint64]
    scores: NDArray[np.float64]
    visits: NDArray[np.int32]
    timed_scores: NDArray[np.float64]
    proof_counts: NDArray[np.int32]
    proof_user_ids: NDArray[np.uint64]
    proof_types: NDArray[np.uint8]
    stats: SalsaStats


#: The table, the number of rows of its low part, and the log2 of that number.
Ages = tuple[NDArray[np.float64], int, int]


class SalsaScratch:
    """The buffers of one reader thread; they grow to the largest request so far (bounded by the step budget)."""

    def __init__(self) -> None:
        self.ints = np.zeros(1 << 16, np.int64)
        self.floats = np.zeros(1 << 12)
        self._ages: Ages = (np.zeros(2 * LANES), 1, 0)
        self._ages_of: tuple[tuple[float, ...], int] = ((), 0)

    def ages(self, half_lives_ms: tuple[float, ...], span_s: int) -> Ages:
        """The table of 2^(-age / half-life) for ages up to ``span_s``: rows for the low part of an age in seconds, then
        rows for the high part. It is kept until a request has other half-lives."""
        key = (half_lives_ms, span_s)
        if half_lives_ms and key != self._ages_of:
            # Beyond 64 half-lives every weight is practically 0.
            span_s = int(min(span_s, 64 * max(half_lives_ms) / 1000)) + 1
            bits = (span_s.bit_length() + 1) // 2
            lows = 1 << bits
            seconds = np.concatenate([np.arange(lows), np.arange((span_s >> bits) + 2) << bits])
            tables = np.zeros((len(seconds), LANES))
            for h, half_life_ms in enumerate(half_lives_ms):
                tables[:, h] = exact_math.exp2_of(-seconds * 1000.0 / half_life_ms)
            self._ages = (tables.ravel(), lows, bits)
            self._ages_of = key
        return self._ages

    def reserve(self, ints: int, floats: int) -> None:
        """Make the buffers at least ``ints`` and ``floats`` long."""
        if len(self.ints) < ints:
            self.ints = np.zeros(1 << (ints - 1).bit_length(), np.int64)
        if len(self.floats) < floats:
            self.floats = np.zeros(1 << (floats - 1).bit_length())


def _validate(request: SalsaRequest) -> None:
    if not (request.length % 2 == 1 and 1 <= request.length <= 99):
        raise WalkLengthError(f"length {request.length} is not an odd number in 1 … 99")
    walkers = request.walks + len(request.seed_user_ids) + 1
    if request.walks < 1 or walkers * request.length > STEPS_MAX:
        raise WalkCountError(
            f"{request.walks} walks from {len(request.seed_user_ids)} seeds of length {request.length}"
            f" are not within 1 … {STEPS_MAX} steps"
        )
    if not 0.0 <= request.reset < 1.0 or not 0.0 <= request.query_weight_fraction < 1.0:
        raise WalkOptionError("reset and query_weight_fraction are at least 0 and less than 1")
    if not 1 <= request.results_max <= RESULTS_MAX or not 0 <= request.social_proofs_max <= PROOFS_MAX:
        raise WalkOptionError(f"results_max is 1 … {RESULTS_MAX}, social_proofs_max 0 … {PROOFS_MAX}")
    if len(request.seed_user_ids) != len(request.seed_weights):
        raise SeedsError(f"{len(request.seed_user_ids)} seeds but {len(request.seed_weights)} weights")
    if not len(request.seed_user_ids) and request.query_user_id == 0:
        raise SeedsError("neither a query user nor seeds")
    if request.half_lives_ms or request.blend:
        _validate_times(request)


def _validate_times(request: SalsaRequest) -> None:
    count = len(request.half_lives_ms)
    if count > LANES or not all(1.0 <= h < np.inf for h in request.half_lives_ms):
        raise WalkOptionError(f"half_lives_ms are at most {LANES} finite numbers, each at least 1")
    if request.blend and (
        len(request.blend) != count
        or not all(0.0 <= b < np.inf for b in request.blend)
        or not 0.0 < exact_math.total(np.array(request.blend, np.float64)) < np.inf
    ):
        raise WalkOptionError("blend has a part for each half-life, none negative, not all 0")


def _layout(request: SalsaRequest, tweets_max: int, seeds: int = 0) -> Layout:
    """The sizes for a request, or for the same with so many seeds."""
    walkers = request.walks + (seeds or len(request.seed_user_ids)) + 1
    reached = min(walkers * (request.length + 1) // 2, tweets_max)
    table = 1 << (2 * reached - 1).bit_length()
    half_lives = len(request.half_lives_ms)
    return Layout(walkers, reached, table, request.results_max, request.social_proofs_max, half_lives)


def _blend(request: SalsaRequest) -> tuple[float, ...]:
    """The parts of the half-lives, summing to 1, padded to LANES."""
    count = len(request.half_lives_ms)
    if not count:
        return (0.0,) * LANES
    parts = request.blend or (1.0,) * count
    total = exact_math.total(np.array(parts, np.float64)) or 1.0
    return tuple(part / total for part in parts) + (0.0,) * (LANES - count)


def salsa(graph: InteractionGraph, request: SalsaRequest, scratch: SalsaScratch) -> SalsaResult:
    """Walk, count and rank in one kernel call without the GIL; unknown users give an empty result.

    ``scratch`` belongs to the calling thread. O(walks · length), within ``STEPS_MAX``; if wanted types are rare, at
    most ``ENTRIES_MAX`` entries are counted.

    Raises:
        RequestError: named by its ``code``: bad_walk_length, too_many_walks, bad_seeds, bad_walk_option.
    """
    _validate(request)
    layout = _layout(request, graph.config.tweets_max)
    scratch.reserve(layout.ints, layout.floats)
    now_ms = request.time_ms or graph.watermark_ms
    tables, lows, bits = scratch.ages(request.half_lives_ms, graph.config.window_ms // 1000 + AGE_SLACK_S)
    walk_kernels.salsa(
        graph.read_arrays,
        scratch.ints,
        scratch.floats,
        tuple(layout),
        np.array(request.seed_user_ids, np.uint64),
        np.array(request.seed_weights, np.float64),
        (
            np.uint64(request.query_user_id),
            np.uint64(request.seed),
            np.uint64(request.walks),
            np.uint64(request.length),
            np.uint64(request.edge_types & ALL_TYPES),
            np.uint64(request.social_proof_types & ALL_TYPES),
        ),
        (float(request.reset), float(request.query_weight_fraction)),
        (now_ms // 1000, tables, lows, bits, _blend(request)),
    )
    return _collect(scratch, layout)


class Walks:
    """Walks whose terms are checked and prepared once, for many requests that differ in person, seeds and draws.

    ``terms``: a request, of which person, seeds and draws do not matter. Its walk is not time-aware, follows edges of
    all types, and proves nothing.
    """

    def __init__(self, graph: InteractionGraph, terms: SalsaRequest) -> None:
        _validate(terms)
        self._graph = graph
        self._terms = terms
        self._shares = (float(terms.reset), float(terms.query_weight_fraction))
        self._lengths = (np.uint64(terms.walks), np.uint64(terms.length), np.uint64(ALL_TYPES), np.uint64(ALL_TYPES))
        self._untimed = (0, *SalsaScratch().ages((), 0), _blend(terms))

    def best(
        self,
        query_user_id: int,
        seeds: NDArray[np.uint64],
        weights: NDArray[np.float64],
        seed: int,
        scratch: SalsaScratch,
    ) -> tuple[NDArray[np.uint64], NDArray[np.float64]]:
        """The results' ids and scores, for seeds (uint64) and their weights (float64, finite and not negative).

        Raises:
            WalkCountError: too many seeds.
        """
        terms = self._terms
        layout = _layout(terms, self._graph.config.tweets_max, len(seeds))
        if layout.walkers * terms.length > STEPS_MAX:
            raise WalkCountError(f"{len(seeds)} seeds: the walks are not within 1 … {STEPS_MAX} steps")
        scratch.reserve(layout.ints, layout.floats)
        out = (np.empty(terms.results_max, np.uint64), np.empty(terms.results_max))
        count = walk_kernels.best_of_walk(
            self._graph.read_arrays,
            (scratch.ints, scratch.floats),
            tuple(layout),
            (seeds, weights),
            (np.uint64(query_user_id), np.uint64(seed), *self._lengths),
            self._shares,
            self._untimed,
            out,
        )
        return out[0][:count], out[1][:count]


def _collect(scratch: SalsaScratch, layout: Layout) -> SalsaResult:
    """Copy the results out of the buffers."""
    ints, floats = scratch.ints, scratch.floats
    walkers, seeds, total, reached, steps, n, bad_weights, budget = ints[:STATS].tolist()
    if bad_weights:
        raise SeedsError("weights are finite and not negative")
    if budget < 0:
        raise WalkCountError(f"edge_types are so rare that these walks would count more than {ENTRIES_MAX} entries")
    at, k, p = layout.results_at, layout.results, layout.proofs
    scores_at = 3 * layout.reached
    timed = _NO_TIMES
    if layout.half_lives:
        rows = ints[at + k : at + 2 * k].view(np.int32)[:n]
        totals = floats[scores_at + k : scores_at + k + LANES]
        weights = floats[scores_at + k + LANES :][: LANES * reached].reshape(reached, LANES)
        timed = (weights[rows] * totals)[:, : layout.half_lives]
    proof_ids, proof_types = _NO_PROOF_IDS, _NO_PROOF_TYPES
    if p:
        proofs = at + 4 * k
        proof_ids = ints[proofs : proofs + n * p].view(np.uint64).reshape(n, p).copy()
        proof_types = ints[proofs + k * p : proofs + k * p + n * p].astype(np.uint8).reshape(n, p)
    return SalsaResult(
        ints[at : at + n].view(np.uint64).copy(),
        floats[scores_at : scores_at + n].copy(),
        ints[at + 2 * k : at + 2 * k + n].astype(np.int32),
        timed,
        ints[at + 3 * k : at + 3 * k + n].astype(np.int32),
        proof_ids,
        proof_types,
        SalsaStats(walkers, seeds, total, reached, steps),
    )


def warm() -> None:
    """Compile the walk on the real types."""
    graph = InteractionGraph(InteractionGraphConfig(users_max=2, tweets_max=2, edges_max=2))
    request = SalsaRequest(query_user_id=1, seed_user_ids=np.ones(1, np.uint64), seed_weights=np.ones(1))
    salsa(graph, request, SalsaScratch())
    Walks(graph, request).best(1, np.ones(1, np.uint64), np.ones(1), 1, SalsaScratch())
