"""All subscriptions at one moment, by row, and which of them something concerns."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.feed import Product
from streams.reading.concerns import Audience, Concerned
from streams.server.subscription import Subscription


class Means(NamedTuple):
    """What a concern means for n subscriptions. ``people``: int64 (n), how many people of the audience it matters to as
    well, ``NOBODY`` where no whole feed is to be computed for it. ``leaves``: bool (n), where what is shown may have to
    leave or change, or the viewer may see other tweets now. ``named``: by row, the tweets that may be new, other or
    gone where single entries are pushed."""

    people: NDArray[np.int64]
    leaves: NDArray[np.bool_]
    named: dict[int, list[int]]


class Roster:
    """n subscriptions, the audience of their viewers, and what they show. Immutable but for what they show."""

    def __init__(self, subscriptions: tuple[Subscription, ...]) -> None:
        self.subscriptions = subscriptions
        viewers, self._place = np.unique([s.viewer_id for s in subscriptions], return_inverse=True)
        self._for_you = np.array([s.terms.product is Product.FOR_YOU for s in subscriptions], np.bool_)
        self._entries = np.array([s.terms.entries for s in subscriptions], np.bool_)
        self.audience = Audience(
            np.ascontiguousarray(viewers, np.uint64), reads_entries=bool(np.count_nonzero(self._entries))
        )

    def shown(self) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """All tweets that are shown now: uint64 (m), and the row of the subscription of each: int64 (m)."""
        shown = [s.shown_ids for s in self.subscriptions]
        return np.concatenate(shown), np.repeat(np.arange(len(shown)), [len(ids) for ids in shown])

    def everybody(self) -> Means:
        """What a concern of everybody means."""
        n = len(self.subscriptions)
        return Means(np.full(n, n, np.int64), np.zeros(n, np.bool_), {})

    def means(self, found: Concerned, shown: NDArray[np.uint64], rows: NDArray[np.int64]) -> Means:
        """What a concern means, by what the engine found of the ``shown`` tweets, which are those of the ``rows``."""
        people = found.fewest[self._place].astype(np.int64)
        whole = ~self._entries if found.readers is not None else np.ones(len(people), np.bool_)
        people[whole] = np.minimum(people, found.fewest_written[self._place])[whole]
        people[self._for_you] = np.minimum(people, found.fewest_for_you[self._place])[self._for_you]
        leaves = np.zeros(len(people), np.bool_)
        leaves[rows[found.touched]] = True
        leaves &= ~self._entries
        people[leaves] = np.minimum(people[leaves], np.count_nonzero(leaves))
        bound = found.bound[self._place]
        people[bound] = 1
        return Means(people, leaves | bound, self._named(found, shown, rows))

    def _named(self, found: Concerned, shown: NDArray[np.uint64], rows: NDArray[np.int64]) -> dict[int, list[int]]:
        """See ``Means.named``."""
        named: dict[int, list[int]] = {}
        for tweet, places in (found.readers or {}).items():
            reads = np.zeros(len(found.fewest), np.bool_)
            reads[places] = True
            for row in np.flatnonzero(reads[self._place] & self._entries).tolist():
                named.setdefault(row, []).append(tweet)
        touched = found.touched & self._entries[rows]
        for row, tweet in zip(rows[touched].tolist(), shown[touched].tolist(), strict=True):
            named.setdefault(row, []).append(tweet)
        return named
