"""Choosing and ordering the entries."""

import numpy as np
from numpy.typing import NDArray

from engine.home_mixer.scorers import best_first
from engine.pipeline.candidates import Candidates
from engine.pipeline.components import Query


class BestSpaced:
    """Best first, with no two tweets of an author within ``gap`` positions while others are left."""

    name = "not_selected"

    def __init__(self, gap: int) -> None:
        self.gap = gap

    def select(self, query: Query, candidates: Candidates, total: NDArray[np.float64]) -> NDArray[np.intp]:
        order = best_first(total, candidates.tweet_id)
        if not self.gap:
            return order[: query.request.limit]
        waiting = order.tolist()
        authors = candidates.columns["author_id"]
        chosen: list[int] = []
        while waiting and len(chosen) < query.request.limit:
            recent = {int(authors[i]) for i in chosen[-self.gap :]}
            # When everybody left is a recent author, the best one goes in all the same.
            pick = next((n for n, i in enumerate(waiting) if int(authors[i]) not in recent), 0)
            chosen.append(waiting.pop(pick))
        return np.array(chosen, np.intp)
