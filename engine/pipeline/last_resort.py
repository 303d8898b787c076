"""The stage that keeps a feed from being empty while there is a tweet that the viewer may see."""

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from engine.pipeline.candidates import Candidates
from engine.pipeline.components import Query
from engine.pipeline.scratch import Buffers
from engine.pipeline.stages import Filtering, Hydration, Work


class Search(Protocol):
    """Goes through all tweets, part by part."""

    name: str

    def more(self, query: Query, passed: int, most: int) -> tuple[NDArray[np.uint64], NDArray[np.float64], int]:
        """The next tweets (at most ``most``), best first, their raw scores, and how many were passed by now; none when
        there are no more. ``passed``: how many were passed before."""


class LastResort:
    """Where no candidate of the first page is left: candidates of a search, part by part, until one may be shown.

    A part goes through the same hydrators and filters as the candidates before it. ``enough`` says whether the kept
    candidates make a feed. At most ``judged_max`` tweets are judged, in parts of ``part``. Fails open: the feed is then
    empty, and ``last_resort`` is named as degraded.
    """

    name = "last_resort"

    def __init__(
        self,
        search: Search,
        hydration: Hydration,
        filtering: Filtering,
        enough: Callable[[Candidates], bool],
        *,
        part: int,
        judged_max: int,
    ) -> None:
        self.search = search
        self.hydration = hydration
        self.filtering = filtering
        self.enough = enough
        self.part = part
        self.judged_max = judged_max

    def run(self, work: Work) -> None:
        """See ``Stage``."""
        query, watcher = work.query, work.watcher
        if query.request.cursor is not None or self.enough(work.candidates) or work.skips("source", self.name):
            return
        if watcher.expired():
            work.degraded.append(self.name)
            watcher.count("source", self.name, "skipped", 1)
            return
        judged = passed = 0
        while judged < self.judged_max and not self.enough(work.candidates):
            try:
                ids, scores, passed = self.search.more(query, passed, min(self.part, self.judged_max - judged))
            except Exception as error:
                work.failed("source", self.name, error)
                return
            if not len(ids):
                return
            judged += len(ids)
            watcher.count("source", self.name, "found", len(ids))
            found = [*work.found, (self.search.name, ids, scores)]
            work.candidates = Candidates.merge(found, query.scratch.of(Buffers))
            self.hydration.run(work)
            self.filtering.run(work)
