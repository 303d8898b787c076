"""Measures of a ranked list, given the one item that the user picked."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

#: Length of the list for hit, nDCG and coverage.
CUT = 20


def rank_of(scores: NDArray[np.float64], row: int) -> float:
    """The row's rank among all rows by score, counted from 1; among equal scores the mean of their ranks."""
    return float(np.count_nonzero(scores > scores[row])) + (float(np.count_nonzero(scores == scores[row])) + 1.0) / 2.0


class Quality(NamedTuple):
    """hit: the share of picks ranked within ``CUT``; mrr: mean of 1 / rank; ndcg: mean of 1 / log2(1 + rank) within
    ``CUT``, which is nDCG with a single relevant item."""

    hit: float
    mrr: float
    ndcg: float


def quality(ranks: NDArray[np.float64]) -> Quality:
    """The measures of n picks from their ranks (float64 (n,), ≥ 1); zeros if n is 0."""
    if not len(ranks):
        return Quality(0.0, 0.0, 0.0)
    hits = ranks <= CUT
    gains = np.where(hits, 1.0 / np.log2(1.0 + ranks), 0.0)
    return Quality(float(hits.mean()), float((1.0 / ranks).mean()), float(gains.mean()))
