"""PageRank over follows by power iteration: every account passes its rank on to the accounts that it follows.

Formula: X's ``WeightedPageRank.scala`` (docs/reputation.md). All sums are added in one stated order, so the same
follows give the same bytes on every machine.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.kernels.jit import kernel
from engine.reputation.follows import Follows


class PageRank(NamedTuple):
    """``rank``: float64 (n), sum 1. ``change``: sum of absolute changes in the last of ``iterations`` rounds."""

    rank: NDArray[np.float64]
    iterations: int
    change: float


@kernel
def _spread(followers: Any, weights: Any, followings: Any, inverse: Any) -> Any:
    """Write 1 over the sum of each account's outgoing weights into ``inverse`` (float64, n); 0 if it follows nobody.

    ``weights``: float32 (m), of the edges in ``followers``; empty when all weigh 1.
    """
    for i in range(inverse.shape[0]):
        inverse[i] = np.float64(followings[i])
    if weights.shape[0]:
        inverse[:] = 0.0
        for at in range(followers.shape[0]):
            inverse[followers[at]] += np.float64(weights[at])
    for i in range(inverse.shape[0]):
        if inverse[i] > 0.0:
            inverse[i] = 1.0 / inverse[i]


@kernel
def _gather(starts: Any, followers: Any, weights: Any, outflow: Any, inflow: Any) -> Any:
    """Write the rank that each account receives from its followers into ``inflow`` (float64, n); returns the sum."""
    total = 0.0
    for i in range(inflow.shape[0]):
        got = 0.0
        if weights.shape[0]:
            for at in range(starts[i], starts[i + 1]):
                got += outflow[followers[at]] * np.float64(weights[at])
        else:
            for at in range(starts[i], starts[i + 1]):
                got += outflow[followers[at]]
        inflow[i] = got
        total += got
    return total


@kernel
def _iterate(
    starts: Any,
    followers: Any,
    weights: Any,
    prior: Any,
    inverse: Any,
    rank: Any,
    outflow: Any,
    inflow: Any,
    jump: Any,
    iterations_max: Any,
    change_max: Any,
) -> Any:
    """Run iterations on ``rank`` in place; returns how many, and the last one's change. ``outflow`` and ``inflow``
    (float64, n) are scratch.

    The rank of accounts that follow nobody is distributed equally over all accounts, not by the prior.
    """
    n = rank.shape[0]
    iterations, change = 0, np.inf
    while iterations < iterations_max and change > change_max:
        for i in range(n):
            outflow[i] = rank[i] * inverse[i]
        dangling = (1.0 - _gather(starts, followers, weights, outflow, inflow)) / n
        change = 0.0
        for i in range(n):
            new = jump * prior[i] + (1.0 - jump) * (inflow[i] + dangling)
            change += abs(new - rank[i])
            rank[i] = new
        iterations += 1
    return iterations, change


def page_rank(
    follows: Follows,
    prior: NDArray[np.float64],
    start: NDArray[np.float64],
    *,
    jump: float,
    iterations_max: int,
    change_max: float,
    weights: NDArray[np.float32] | None = None,
) -> PageRank:
    """Rank of every account.

    ``prior`` and ``start``: float64 (n), each of sum 1. ``jump``: the probability that the reader jumps by the prior
    instead of going along a follow. ``weights``: float32 (m), positive, one per entry of ``follows.followers``; None:
    all weigh the same. Stops after ``iterations_max``, or when the ranks changed by at most ``change_max`` in sum.
    """
    rank = start.copy()
    if not rank.size:
        return PageRank(rank, 0, 0.0)
    if weights is None:
        weights = np.empty(0, np.float32)
    inverse, outflow, inflow = (np.empty(rank.size) for _ in range(3))
    _spread(follows.followers, weights, follows.followings, inverse)
    iterations, change = _iterate(
        follows.starts,
        follows.followers,
        weights,
        prior,
        inverse,
        rank,
        outflow,
        inflow,
        float(jump),
        iterations_max,
        float(change_max),
    )
    return PageRank(rank, int(iterations), float(change))
