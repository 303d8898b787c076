"""How well scores tell examples apart."""

import numpy as np
from numpy.typing import NDArray


def auc(scores: NDArray[np.floating], truth: NDArray[np.bool_]) -> float:
    """The area under the ROC curve: how often an example that is true has a greater score than one that is not; equal
    scores count half. NaN unless there are both."""
    true = int(np.count_nonzero(truth))
    false = len(truth) - true
    if not true or not false:
        return float("nan")
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    # Of equal scores the mean of their ranks, counted from 1.
    ranks = np.cumsum(counts) - (counts - 1) / 2.0
    return float((ranks[place][truth].sum() - true * (true + 1) / 2.0) / (true * false))
