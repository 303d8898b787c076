"""SALSA on the subgraph of the seeds' own edges, by propagation instead of walkers.

For viewers whose seeds are known to be good (the people they follow), the walk can stay among the seeds. Their edges
are copied to a small graph; a seed with more edges than its share of walks gives a sample. On that graph the walk's
expectation is computed instead of drawn. This is GraphJet's subgraph variant with the semantics of a walk: reset mass
is taken out of the mass that is propagated, no weight is rounded, and each step's mass is propagated once. With P the
row-normalized counts of the copied edges,

    y = (1 - reset) · x · P_LR,   visits += y,   x' = y · P_RL + reset · |x| · e_query,   score = visits / Σ visits.
"""

from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.interaction_graph.arrays import ALL_TYPES
from engine.interaction_graph.salsa import (
    RESULTS_MAX,
    STEPS_MAX,
    SalsaScratch,
    SeedsError,
    WalkCountError,
    WalkLengthError,
    WalkOptionError,
)
from engine.interaction_graph.state import InteractionGraph, InteractionGraphConfig
from engine.interaction_graph.subgraph_kernels import STATS, subgraph_salsa
from engine.interaction_graph.walk_kernels import BINS, ENTRIES_MAX


class SubgraphRequest(msgspec.Struct, frozen=True, kw_only=True):
    """As ``SalsaRequest``; ``walks`` bounds the edges of the subgraph: a seed gives at most its share of the walks.
    Seeds are distinct; seeds that the graph does not know are ignored."""

    query_user_id: int
    seed_user_ids: NDArray[np.uint64]
    seed_weights: NDArray[np.float64]
    walks: int = 10_000
    length: int = 5
    reset: float = 0.3
    query_weight_fraction: float = 0.9
    edge_types: int = ALL_TYPES
    results_max: int = 100
    seed: int = 0


class SubgraphResult(NamedTuple):
    """Tweets, greatest score first, then by id (n rows), with ``degrees`` in the subgraph (int32); the number of seeds
    with edges, and of edges and tweets of the subgraph."""

    tweet_ids: NDArray[np.uint64]
    scores: NDArray[np.float64]
    degrees: NDArray[np.int32]
    seeds: int
    edges: int
    tweets: int


def salsa_on_subgraph(graph: InteractionGraph, request: SubgraphRequest, scratch: SalsaScratch) -> SubgraphResult:
    """Copy edges, propagate and rank in one kernel call without the GIL; unknown users give an empty result.

    O((walks + seeds) · length), within ``STEPS_MAX``; ``scratch`` belongs to the calling thread.

    Raises:
        RequestError: named by its ``code``: bad_walk_length, too_many_walks, bad_seeds, bad_walk_option.
    """
    count, k = len(request.seed_user_ids), request.results_max
    if not (request.length % 2 == 1 and 1 <= request.length <= 99):
        raise WalkLengthError(f"length {request.length} is not an odd number in 1 … 99")
    edges = request.walks + count + 1
    if request.walks < 1 or edges * request.length > STEPS_MAX:
        raise WalkCountError(f"{edges} edges and {request.length} steps are not within 1 … {STEPS_MAX}")
    if not 0.0 <= request.reset < 1.0 or not 0.0 <= request.query_weight_fraction < 1.0 or not 1 <= k <= RESULTS_MAX:
        raise WalkOptionError(f"reset and query_weight_fraction are in 0 … 1, results_max in 1 … {RESULTS_MAX}")
    if count != len(request.seed_weights) or not (count or request.query_user_id):
        raise SeedsError(f"{count} seeds, {len(request.seed_weights)} weights, query user {request.query_user_id}")
    tweets = min(edges, graph.config.tweets_max)
    slots = 1 << (2 * tweets - 1).bit_length()
    seats = count + 1
    scratch.reserve(STATS + 3 * k + BINS + 2 * seats + 4 * tweets + edges + slots, k + 2 * seats + 2 * tweets)
    ints, floats = scratch.ints, scratch.floats
    subgraph_salsa(
        graph.read_arrays,
        ints,
        floats,
        (edges, tweets, slots, k),
        np.array(request.seed_user_ids, np.uint64),
        np.array(request.seed_weights, np.float64),
        (
            np.uint64(request.query_user_id),
            request.edge_types & ALL_TYPES,
            request.walks,
            request.length,
            np.uint64(request.seed),
        ),
        (float(request.reset), float(request.query_weight_fraction)),
    )
    seeds, frozen, met, n, bad_weights, budget = ints[:6].tolist()
    if bad_weights:
        raise SeedsError("weights are finite and not negative")
    if budget < 0:
        raise WalkCountError(f"edge_types are so rare that these walks would count more than {ENTRIES_MAX} entries")
    return SubgraphResult(
        ints[STATS : STATS + n].view(np.uint64).copy(),
        floats[:n].copy(),
        ints[STATS + 2 * k : STATS + 2 * k + n].astype(np.int32),
        seeds,
        frozen,
        met,
    )


def warm() -> None:
    """Compile the kernel on the real types."""
    graph = InteractionGraph(InteractionGraphConfig(users_max=2, tweets_max=2, edges_max=2))
    request = SubgraphRequest(query_user_id=1, seed_user_ids=np.ones(1, np.uint64), seed_weights=np.ones(1))
    salsa_on_subgraph(graph, request, SalsaScratch())
