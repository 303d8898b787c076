"""How strongly people are tied to each other, for feeds and queries.

A reading room over real_graph, the social graph and the tweet store (docs/real_graph.md). Callers hold the read side of
the state lock.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.in_network.followees import Followees, followees_of
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

    def strength(self, viewer_id: int, other_ids: Ids, time_ms: int) -> NDArray[np.float32]:
        """How likely the viewer does something toward each of the others (uint64, n) tomorrow: float32 (n) in [0, 1).

        0 where nothing is known, and after a block, mute, report or recent unfollow.
        """
        return self._real_graph.strength(viewer_id, other_ids, time_ms)

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
        pairs = self._real_graph.strongest(viewer_id, time_ms, self._real_graph.pairs_each)
        viewer = np.full(len(pairs.user_ids), viewer_id, np.uint64)
        strangers = self._social_graph.followed_ms(viewer, pairs.user_ids) < 0
        ids, strength = pairs.user_ids[strangers], pairs.scores[strangers]
        chosen = ids[:most]
        return Ties(chosen, strength[:most], self.tweets(chosen, time_ms), len(ids) - len(chosen))

    def tweets(self, author_ids: Ids, time_ms: int) -> NDArray[np.int32]:
        """How many tweets each author (uint64, n) wrote in the last three days, at most 50: int32 (n)."""
        return self._tweet_store.recent_counts(author_ids, time_ms - WRITING_MS, WRITING_MAX)
