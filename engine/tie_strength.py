"""How strongly people are tied to each other, for feeds and queries.

A reading room over real_graph, the social graph and the tweet store (docs/real_graph.md). Callers hold the read side of
the state lock.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.in_network.followees import Followees, followees_of
from engine.kernels.trees import probabilities
from engine.models.specs import REAL_GRAPH
from engine.models.tie_trees import TieTrees, decode
from engine.real_graph.arrays import MS_PER_DAY
from engine.rooms import Rooms

Ids = NDArray[np.uint64]

#: For how long, and of how many tweets at most, somebody's writing counts.
WRITING_MS, WRITING_MAX = 3 * MS_PER_DAY, 50
#: Of so many people without a tie, the first, it is asked how much they wrote.
WRITING_PEOPLE_MAX = 1 << 12
#: What a tweet counts for in ``rank``: less than any tie, and nothing beside 1 in what a tie weighs.
_PER_TWEET = np.float32(1e-30)


class Ties(NamedTuple):
    """People in order. ``strength``: float32 (n) in [0, 1), 0 for those who only fill up; ``tweets``: int32 (n), how
    many each lately wrote; ``left_out``: how many more there are."""

    user_ids: Ids
    strength: NDArray[np.float32]
    tweets: NDArray[np.int32]
    left_out: int


class TieStrength:
    """Reads ties from the rooms of a state."""

    def __init__(self, rooms: Rooms) -> None:
        self._social_graph = rooms.social_graph
        self._real_graph = rooms.real_graph
        self._tweet_store = rooms.tweet_store
        self._models = rooms.models
        #: The version whose trees were looked up last, and its trees.
        self._known: tuple[int, TieTrees | None] = (0, None)

    @property
    def version(self) -> int:
        """The version of the model in force; 0: none yet, ties have the default score."""
        return self._models.version(REAL_GRAPH.name)

    def strength(self, viewer_id: int, other_ids: Ids, time_ms: int) -> NDArray[np.float32]:
        """How likely the viewer does anything toward each of the others (uint64, n) tomorrow: float32 (n) in [0, 1].

        By the model in force, else by the default score. 0 where nothing is known, and after a block, mute, report or
        recent unfollow.
        """
        if self._trees() is None:
            return self._real_graph.strength(viewer_id, other_ids, time_ms)
        return self._scores(np.full(len(other_ids), viewer_id, np.uint64), other_ids, time_ms, explicit=False)

    def strength_between(
        self, source_ids: Ids, other_ids: Ids, time_ms: int, *, explicit: bool = False
    ) -> NDArray[np.float32]:
        """``strength`` of each source toward the other at its place (both uint64, n).

        ``explicit``: how likely it does something explicit, as a like or an answer is and a click is not. The default
        score does not tell these apart.
        """
        if self._trees() is None:
            return self._real_graph.strength_between(source_ids, other_ids, time_ms)
        return self._scores(source_ids, other_ids, time_ms, explicit=explicit)

    def columns(self, source_ids: Ids, other_ids: Ids, time_ms: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """The model's columns of pairs (uint64, n): float64 (n, 8), and which pairs are ties (bool, n)."""
        sources, others = np.array(source_ids, np.uint64), np.array(other_ids, np.uint64)
        followed_ms = self._social_graph.followed_ms(sources, others)
        return self._real_graph.columns(sources, others, followed_ms, self.tweets(others, time_ms), time_ms)

    def _scores(self, source_ids: Ids, other_ids: Ids, time_ms: int, *, explicit: bool) -> NDArray[np.float32]:
        model = self._trees()
        assert model is not None
        rows, tied = self.columns(source_ids, other_ids, time_ms)
        return scores(model, rows, tied, explicit=explicit).astype(np.float32)

    def _trees(self) -> TieTrees | None:
        version = self.version
        known = self._known
        if known[0] != version:
            # Several readers may do this at the same time: they find the same.
            payload = self._models.payload(REAL_GRAPH.name)
            known = self._known = (version, decode(payload) if version else None)
        return known[1]

    def rank(self, viewer_id: int, other_ids: Ids, time_ms: int) -> NDArray[np.float32]:
        """``strength``, by which people can be ordered also if the viewer is tied to none of them: those without a tie
        have 1e-30 for each tweet that they lately wrote."""
        rank = self.strength(viewer_id, other_ids, time_ms)
        without = np.flatnonzero(rank == 0)[:WRITING_PEOPLE_MAX]
        if len(without):
            rank[without] = self.tweets(other_ids[without], time_ms) * _PER_TWEET
        return rank

    def followees(self, viewer_id: int, time_ms: int, most: int) -> Followees:
        """At most so many of the people whom a viewer follows, in the order of their ``rank``
        (engine/in_network/followees.py)."""
        return followees_of(self._social_graph, self.rank, viewer_id, time_ms, most)

    def in_network(self, viewer_id: int, time_ms: int, most: int) -> Ties:
        """``followees``, their strength, and how many tweets they lately wrote."""
        found = self.followees(viewer_id, time_ms, most)
        strength = self.strength(viewer_id, found.ids, time_ms)
        return Ties(found.ids, strength, self.tweets(found.ids, time_ms), found.left_out)

    def out_of_network(self, viewer_id: int, time_ms: int, most: int) -> Ties:
        """To whom a viewer is tied without following them, strongest first; among equals, the smaller id first."""
        known = self._real_graph.strongest(viewer_id, time_ms, self._real_graph.pairs_each).user_ids
        viewer = np.full(len(known), viewer_id, np.uint64)
        ids = known[self._social_graph.followed_ms(viewer, known) < 0]
        strength = self.strength(viewer_id, ids, time_ms)
        order = np.lexsort((ids, -strength))[:most]
        return Ties(ids[order], strength[order], self.tweets(ids[order], time_ms), len(ids) - len(order))

    def tweets(self, author_ids: Ids, time_ms: int) -> NDArray[np.int32]:
        """How many tweets each author (uint64, n) wrote in the last three days, at most 50: int32 (n)."""
        return self._tweet_store.recent_counts(author_ids, time_ms - WRITING_MS, WRITING_MAX)


def scores(
    model: TieTrees, rows: NDArray[np.float64], tied: NDArray[np.bool_], *, explicit: bool
) -> NDArray[np.float64]:
    """The model's probabilities (float64, n) of pairs by their columns (float64, (n, 8)); 0 for those not ``tied``."""
    out, trees = np.empty(len(rows)), len(model.trees.roots) - 1
    first, last = (model.any_trees, trees) if explicit else (0, model.any_trees)
    probabilities(model.trees, first, last, float(model.bases[int(explicit)]), rows, tied, out)
    return out
