"""The light ranker: a cheap score of every candidate that the filters left."""

import numpy as np
from numpy.typing import NDArray

from engine.home_mixer import kernels
from engine.pipeline.candidates import Candidates
from engine.pipeline.components import Query


class FirstRank:
    """Light ranker: a candidate is as good as the best place that a source gave it."""

    name = "first_rank"

    def score(self, query: Query, candidates: Candidates, out: NDArray[np.float64]) -> None:
        """See ``LightRanker``."""
        kernels.first_rank(candidates.source_rank, candidates.rows, out)
