"""A side effect of products: how much each source brings of what is shown."""

import numpy as np
from numpy.typing import NDArray

from engine.feed import Feed
from engine.pipeline.candidates import Candidates
from engine.pipeline.components import Query, Watcher
from engine.pipeline.kernels import count_brought


class ServedSources:
    """Side effect: counts how many entries each source brought, so that its share of what is shown can be seen."""

    name = "served_sources"

    def happen(
        self, query: Query, candidates: Candidates, rows: NDArray[np.int32], feed: Feed, watcher: Watcher
    ) -> None:
        """See ``SideEffect``."""
        brought = np.empty(len(candidates.sources), np.int64)
        count_brought(candidates.source_rank, rows, brought)
        for name, count in zip(candidates.sources, brought.tolist(), strict=True):
            if count:
                watcher.count("source", name, "served", count)
