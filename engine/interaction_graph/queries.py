"""Social proof: which of some given people engaged with each of some given tweets."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.errors import RequestError
from engine.interaction_graph.arrays import ALL_TYPES
from engine.interaction_graph.proof_kernels import prove
from engine.interaction_graph.state import InteractionGraph, InteractionGraphConfig

#: A request's budget: tweets times proofs per tweet.
PROOF_CELLS_MAX = 1_000_000


class ProofLimitError(RequestError):
    """The request wants more proofs than a request may have."""

    code = "too_many_proofs"


class SocialProof(NamedTuple):
    """Who engaged, by tweet: in row i the first ``counts[i]`` (int32) of ``user_ids[i]``, ``types[i]``, ``times_ms[i]``
    (n, k) are valid, newest engagement first, distinct by user and type."""

    counts: NDArray[np.int32]
    user_ids: NDArray[np.uint64]
    types: NDArray[np.uint8]
    times_ms: NDArray[np.int64]


def social_proof(
    graph: InteractionGraph,
    tweet_ids: NDArray[np.uint64],
    user_ids: NDArray[np.uint64],
    per_tweet_max: int,
    edge_types: int = ALL_TYPES,
) -> SocialProof:
    """Which of these people engaged with each of these tweets: up to ``per_tweet_max`` (user, type), newest first.

    Tweets are distinct; ``edge_types`` is a bit mask by ``EdgeType``. The side with fewer entries is read; where both
    lists hold an edge, either side gives the same answer. O(entries of that side).

    Raises:
        ProofLimitError: tweets times ``per_tweet_max`` is over ``PROOF_CELLS_MAX``, or ``per_tweet_max`` is below 1.
    """
    n = len(tweet_ids)
    if per_tweet_max < 1 or n * per_tweet_max > PROOF_CELLS_MAX:
        raise ProofLimitError(f"{n} tweets with {per_tweet_max} proofs each are not in 1 … {PROOF_CELLS_MAX} proofs")
    proof = SocialProof(
        np.zeros(n, np.int32),
        np.zeros((n, per_tweet_max), np.uint64),
        np.zeros((n, per_tweet_max), np.uint8),
        np.empty((n, per_tweet_max), np.int64),
    )
    if n and len(user_ids):
        table = np.zeros(2 << (2 * max(n, len(user_ids)) - 1).bit_length(), np.int64)
        prove(
            graph.read_arrays,
            np.array(tweet_ids, np.uint64),
            np.array(user_ids, np.uint64),
            np.int64(edge_types & ALL_TYPES),
            table,
            np.empty(n + len(user_ids), np.int64),
            tuple(proof),
        )
    return proof


def warm() -> None:
    """Compile the look-up on the real types."""
    graph = InteractionGraph(InteractionGraphConfig(users_max=2, tweets_max=2, edges_max=2))
    social_proof(graph, np.ones(1, np.uint64), np.ones(1, np.uint64), 1)
