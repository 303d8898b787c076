"""The tweets at random edges of given people: draws with replacement, each edge as likely as its person's weight.

A person is drawn in proportion to weight times number of wanted edges, then one of these edges is drawn. So a tweet's
expected share of the draws is Σ weight over the wanted edges to it / Σ weight over all wanted edges. People are drawn
by a search in the cumulative sums: exact, unlike a table of rounded weights.
"""

from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.interaction_graph.arrays import ALL_TYPES
from engine.interaction_graph.random_neighbor_kernels import DRAWN, FOUND, RESULTS, draw_neighbors
from engine.interaction_graph.salsa import RESULTS_MAX, SeedsError
from engine.interaction_graph.similarity import (
    ENTRIES_MAX,
    CountScratch,
    IdList,
    Ids,
    WorkBudgetError,
    bound,
    ids_of,
)
from engine.interaction_graph.similarity_kernels import (
    STATS,
    TABLE_MIN,
)
from engine.interaction_graph.state import InteractionGraph, InteractionGraphConfig


class RandomNeighborsRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Whose edges to draw, and how many draws. ``user_ids`` (the weights of a repeated id add up) with ``weights``
    float64, finite, none negative; ``edge_types``: bit mask by ``EdgeType``; ``seed``: 64 bits."""

    user_ids: IdList
    weights: NDArray[np.float64]
    samples: int = 1000
    edge_types: int = ALL_TYPES
    excluded_tweet_ids: IdList = ()
    results_max: int = 100
    seed: int = 0


class RandomNeighbors(NamedTuple):
    """The tweets drawn most often, most first, then by id (n rows): ``scores`` share of the requested draws, ``counts``
    int64 draws, ``degrees`` int64 edges of the tweet. ``seeds``: people with weight and wanted edges, ``drawn``: draws
    made (0 if there are no such people)."""

    tweet_ids: Ids
    scores: NDArray[np.float64]
    counts: NDArray[np.int64]
    degrees: NDArray[np.int64]
    seeds: int
    drawn: int


def _weights_of(request: RandomNeighborsRequest, users: Ids) -> NDArray[np.float64]:
    weights = np.array(request.weights, np.float64).reshape(-1)
    if not len(users) or len(users) != len(weights):
        raise SeedsError(f"{len(users)} seeds with {len(weights)} weights")
    if not (weights.min() >= 0.0 and weights.max() < np.inf):
        raise SeedsError("weights are finite and not negative")
    # Only ratios matter; scaled weights keep the sum of weight times degree from overflowing.
    greatest = float(weights.max())
    return weights / greatest if greatest > 0.0 else weights


def random_neighbors(
    graph: InteractionGraph, request: RandomNeighborsRequest, scratch: CountScratch
) -> RandomNeighbors:
    """Draw edges of the people with replacement and rank the tweets by how often they are drawn.

    ``scratch`` belongs to the calling thread. O(samples · log people), plus two passes over the people's lists if
    ``edge_types`` is not all types; within ``ENTRIES_MAX``.

    Raises:
        RequestError: named by its ``code``: bad_seeds, bad_similarity_option, too_much_work.
    """
    users = ids_of(request.user_ids)
    weights = _weights_of(request, users)
    samples = bound("samples", request.samples, 1, ENTRIES_MAX)
    results = bound("results_max", request.results_max, 1, RESULTS_MAX)
    bound("seed", request.seed, 0, (1 << 64) - 1)
    types = request.edge_types & ALL_TYPES
    longest = graph.config.user_degree_max
    passes = 2 * longest if types != ALL_TYPES else 1
    if samples + len(users) * passes > ENTRIES_MAX:
        raise WorkBudgetError(f"{samples} draws from {len(users)} people may read more than {ENTRIES_MAX} entries")
    slots = max(TABLE_MIN, 1 << (2 * samples - 1).bit_length())
    size = len(users)
    before = STATS + 2 * size + longest
    scratch.fit(before + 4 * samples + slots + results, size + samples)
    draw_neighbors(
        graph.read_arrays,
        scratch.ints,
        scratch.floats,
        (samples, longest, slots, results),
        users,
        weights,
        ids_of(request.excluded_tweet_ids),
        np.uint64(request.seed),
        types,
    )
    ints = scratch.ints
    n = int(ints[RESULTS])
    best = ints[before + 4 * samples + slots :][:results].view(np.int32)[:n]
    tweets, counts, ids = (ints[before + k * samples : before + (k + 1) * samples] for k in (1, 2, 3))
    return RandomNeighbors(
        ids[best].view(np.uint64),
        counts[best] / samples,
        counts[best],
        graph.read_arrays.tweet_records[tweets[best]] & ((1 << 27) - 1),
        int(ints[FOUND]),
        int(ints[DRAWN]),
    )


def warm() -> None:
    """Compile the draws on the real types."""
    graph = InteractionGraph(InteractionGraphConfig(users_max=2, tweets_max=2, edges_max=2))
    random_neighbors(graph, RandomNeighborsRequest(user_ids=[1], weights=np.ones(1)), CountScratch())
