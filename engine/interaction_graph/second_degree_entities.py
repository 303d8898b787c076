"""Top second degree by count for the hashtags and URLs of tweets that the seeds engaged with.

Tweets are counted as for ``second_degree``; each tweet adds its score to every hashtag (or URL) that it carries. The
proof of an entity names who engaged with its tweets, how, and with which tweets. After GraphJet's
TopSecondDegreeByCount for metadata; its fixed rule of least proof (authors and retweeters) is here one of many.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.interaction_graph import entity_kernels
from engine.interaction_graph.count_kernels import (
    EDGES_READ,
    EVERYBODY,
    ROWS,
    SEEDS,
    Sizes,
    ranking_in,
    ranking_size,
    tally_size,
)
from engine.interaction_graph.entity_graph import EntityGraph, EntityGraphConfig, EntityType
from engine.interaction_graph.salsa import SalsaScratch
from engine.interaction_graph.second_degree import (
    CountBudgetError,
    CountOptionError,
    Ids,
    SecondDegreeRequest,
    count_terms,
    needs_of,
    ranked,
    sizes_of,
    validate,
)
from engine.interaction_graph.state import InteractionGraph, InteractionGraphConfig

#: A request's budget: pairs of an engagement that counts and an entity that its tweet carries.
PAIRS_MAX = 1_000_000
TWEETS_PER_PROOF_MAX = 100
#: Tweets in an answer: results times proofs per result times tweets per proof.
PROOF_TWEETS_MAX = 2_000_000


class EntitiesResult(NamedTuple):
    """Hashtags or URLs, greatest score first, then by hash (n rows).

    ``hashes``: 64-bit, of the names. ``users``: distinct seeds (int32). ``tweets``: how many of the counted tweets
    carry the entity (int32). Proofs of row i: the first ``proof_counts[i]`` of ``proof_user_ids[i]`` and
    ``proof_types[i]`` (n, k), the heaviest seeds first, and of ``proof_tweet_ids[i]`` (n, k, t), 0 = none, the newest
    engagements first. Numbers of ``seeds`` with edges, ``edges_read``, ``tweets_counted``, and their ``entities``.
    """

    hashes: Ids
    scores: NDArray[np.float64]
    users: NDArray[np.int32]
    proof_counts: NDArray[np.int32]
    proof_user_ids: Ids
    proof_types: NDArray[np.uint8]
    proof_tweet_ids: Ids
    tweets: NDArray[np.int32]
    seeds: int
    edges_read: int
    tweets_counted: int
    entities: int


def second_degree_entities(
    graph: InteractionGraph,
    entities: EntityGraph,
    request: SecondDegreeRequest,
    entity_type: EntityType,
    tweets_per_proof_max: int,
    scratch: tuple[SalsaScratch, SalsaScratch],
) -> EntitiesResult:
    """Count and rank in two kernel calls without the GIL; ``scratch`` (two) belongs to the calling thread.

    The request's exclusions and its bounds of age and degree apply to tweets and engagements; its minima of users
    (``users_min`` and the like) apply to the entity, and authors are proofs like everybody. O(seeds ·
    edges_per_seed_max), within ``second_degree.EDGES_MAX``, plus the pairs of engagements and entities, within
    ``PAIRS_MAX``.

    Raises:
        RequestError: named by its ``code``: bad_seeds, bad_count_option, too_many_seeds.
    """
    validate(request)
    k, p, t = request.results_max, request.proofs_max, tweets_per_proof_max
    if not 0 <= t <= TWEETS_PER_PROOF_MAX or k * p * t > PROOF_TWEETS_MAX:
        raise CountOptionError(
            f"tweets_per_proof_max is 0 … {TWEETS_PER_PROOF_MAX}, at most {PROOF_TWEETS_MAX} over all proofs"
        )
    first, second = scratch
    sizes = sizes_of(graph, request)
    seeds, weights, *terms = count_terms(graph, request)
    first.reserve(tally_size(sizes) + sizes.rows + sizes.proofs + len(seeds), 0)
    g, e = graph.read_arrays, entities.read_arrays
    kind = np.int64(entity_type)
    pairs = int(entity_kernels.plan_entities(g, e, first.ints, sizes, seeds, weights, *terms, kind))
    if pairs > PAIRS_MAX:
        raise CountBudgetError(f"{pairs} pairs of an engagement and an entity of its tweet are over {PAIRS_MAX}")
    rows = max(1, min(pairs, entities.config.users_max))
    more = Sizes(1 << max(4, (2 * rows - 1).bit_length()), rows, max(1, pairs), k, p)
    second.reserve(tally_size(more) + ranking_size(more) + 2 * (more.rows + more.proofs), more.rows)
    tweet_ids = np.zeros((k, p, t), np.uint64)
    entity_kernels.rank_entities(
        g, e, first.ints, sizes, second.ints, second.floats, more, seeds, weights,
        needs_of(request, EVERYBODY), kind, tweet_ids,
    )  # fmt: skip
    return _collect(first, second, more, seeds, tweet_ids)


def _collect(first: SalsaScratch, second: SalsaScratch, sizes: Sizes, seeds: Ids, tweet_ids: Ids) -> EntitiesResult:
    """Copy the results out of the buffers."""
    found = ranked(second, sizes, seeds)
    n = len(found[0])
    best = ranking_in(second.ints, second.floats, sizes).best[:n]
    tweets = entity_kernels.extras_in(second.ints, sizes)[0][best].astype(np.int32)
    known, read, counted = first.ints[[SEEDS, EDGES_READ, ROWS]].tolist()
    return EntitiesResult(
        *found,
        proof_tweet_ids=tweet_ids[:n],
        tweets=tweets,
        seeds=known,
        edges_read=read,
        tweets_counted=counted,
        entities=int(second.ints[ROWS]),
    )


def warm() -> None:
    """Compile the count on the real types."""
    graph = InteractionGraph(InteractionGraphConfig(users_max=2, tweets_max=2, edges_max=2))
    entities = EntityGraph(EntityGraphConfig(entities_max=2, tweets_max=2, edges_max=2))
    request = SecondDegreeRequest(seed_user_ids=np.ones(1, np.uint64), seed_weights=np.ones(1))
    second_degree_entities(graph, entities, request, EntityType.URL, 1, (SalsaScratch(), SalsaScratch()))
