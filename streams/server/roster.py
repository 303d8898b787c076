"""All subscriptions at one moment, by row, and which of them something concerns."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.feed import Product
from streams.reading.concerns import Audience, Concerned
from streams.server.subscription import Subscription


class Means(NamedTuple):
    """What a concern means for n subscriptions. ``people``: int64 (n), how many people of the audience it matters to as
    well, ``NOBODY`` where it does not matter. ``leaves``: bool (n), where what is shown may have to leave or change, or
    the viewer may see other tweets now."""

    people: NDArray[np.int64]
    leaves: NDArray[np.bool_]


class Roster:
    """n subscriptions, the audience of their viewers, and what they show. Immutable but for what they show."""

    def __init__(self, subscriptions: tuple[Subscription, ...]) -> None:
        self.subscriptions = subscriptions
        viewers, self._place = np.unique([s.viewer_id for s in subscriptions], return_inverse=True)
        self.audience = Audience(np.ascontiguousarray(viewers, np.uint64))
        self._for_you = np.array([s.product is Product.FOR_YOU for s in subscriptions], np.bool_)

    def shown(self) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """All tweets that are shown now: uint64 (m), and the row of the subscription of each: int64 (m)."""
        shown = [s.shown_ids for s in self.subscriptions]
        return np.concatenate(shown), np.repeat(np.arange(len(shown)), [len(ids) for ids in shown])

    def everybody(self) -> Means:
        """What a concern of everybody means."""
        n = len(self.subscriptions)
        return Means(np.full(n, n, np.int64), np.zeros(n, np.bool_))

    def means(self, found: Concerned, rows: NDArray[np.int64]) -> Means:
        """What a concern means, by what the engine found; ``rows``: of each tweet that was asked about."""
        people = found.fewest[self._place].astype(np.int64)
        for_you = found.fewest_for_you[self._place]
        people[self._for_you] = np.minimum(people, for_you)[self._for_you]
        leaves = np.zeros(len(people), np.bool_)
        leaves[rows[found.touched]] = True
        people[leaves] = np.minimum(people[leaves], np.count_nonzero(leaves))
        bound = found.bound[self._place]
        people[bound] = 1
        return Means(people, leaves | bound)
