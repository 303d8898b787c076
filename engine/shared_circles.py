"""What a person's circle shares with those of candidates: the lists of people that the 15 pairs are counted over.

A reading room over the social graph, the graphs of engagements and of users, and ties (docs/social_graph.md#circles).
Callers hold the read side of the state lock.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.interaction_graph.arrays import EdgeType
from engine.interaction_graph.user_graph import UserEdgeType
from engine.rooms import Rooms
from engine.social_graph.circles import NEIGHBORS_MAX, Intersections, Lists, intersections
from engine.social_graph.state import Relation
from engine.tie_strength import TieStrength

Ids = NDArray[np.uint64]
#: Of so many people the strongest ties are chosen: the newest followees, followers, and people who mention somebody.
CHOSEN_FROM: Final = 10_000
#: So many of a candidate's newest tweets are looked at, and so many of the newest acts on each.
TWEETS_MAX, ACTS_MAX = 50, 1000


class Shared(NamedTuple):
    """``pairs``: what the circles share. ``names``: uint64 (n, names), which of the person's followees follow each
    candidate, the strongest ties first, 0 where there are fewer; ``followed_by``: int32 (n), how many of them do."""

    pairs: Intersections
    names: Ids
    followed_by: NDArray[np.int32]


class SharedCircles:
    """Counts shared people over the rooms of a state."""

    def __init__(self, rooms: Rooms) -> None:
        self._ties = TieStrength(rooms)
        self._social_graph = rooms.social_graph
        self._graph, self._user_graph, self._tweet_store = rooms.interaction_graph, rooms.user_graph, rooms.tweet_store

    def left(self, user_id: int, time_ms: int) -> list[Ids]:
        """The person's lists by ``circles.LEFT``: followees, whose tweets the person favorited, mutual follows; of each
        the strongest ties."""
        followees = self._ties.followees(user_id, time_ms, CHOSEN_FROM).ids
        mutual = self._social_graph.relation(user_id, followees) & np.uint8(Relation.FOLLOWED_BY) != 0
        tweets, types, _ = self._graph.neighbors_of_user(user_id, CHOSEN_FROM)
        slots = self._tweet_store.lookup(tweets[types == EdgeType.FAVORITE])
        authors = np.unique(self._tweet_store.columns(slots[slots >= 0]).author_id)
        authors = authors[(authors != 0) & (authors != user_id)]
        strength = self._ties.strength(user_id, authors, time_ms)
        return [followees[:NEIGHBORS_MAX], _strongest(authors, strength), followees[mutual][:NEIGHBORS_MAX]]

    def right(self, candidate_id: int, time_ms: int) -> list[Ids]:
        """A candidate's lists by ``circles.RIGHT``: who follows, favorites, retweets and mentions the candidate, and
        mutual follows; of each those who are tied to the candidate most strongly."""
        followers = self._social_graph.followers(candidate_id, CHOSEN_FROM)
        mutual = self._social_graph.relation(candidate_id, followers) & np.uint8(Relation.FOLLOWS) != 0
        favorited, retweeted = self._engaged(candidate_id)
        people, types, _ = self._user_graph.neighbors_of_tweet(candidate_id, CHOSEN_FROM)
        mentioned = np.unique(people[types == UserEdgeType.MENTION])
        lists = (followers, favorited, retweeted, mentioned, followers[mutual])
        return [self._toward(candidate_id, people, time_ms) for people in lists]

    def shared(self, user_id: int, left: list[Ids], candidate_ids: Ids, time_ms: int, names: int) -> Shared:
        """What a person's lists share with those of candidates (uint64, n); ``names`` of ``left[0]`` are named."""
        right = [people for candidate in candidate_ids.tolist() for people in self.right(candidate, time_ms)]
        named, count = self._social_graph.followed_by(left[0], np.array(candidate_ids, np.uint64), max(1, names))
        return Shared(intersections(_lists(left), _lists(right)), named[:, :names], count)

    def _engaged(self, author_id: int) -> tuple[Ids, Ids]:
        """Who favorited, and who retweeted, the author's newest tweets in the window."""
        author = np.array([author_id], np.uint64)
        tweets, _, _ = self._tweet_store.recent_of_authors(author, 0, TWEETS_MAX, TWEETS_MAX)
        acts = [self._graph.neighbors_of_tweet(tweet, ACTS_MAX)[:2] for tweet in tweets.tolist()]
        people = np.concatenate([ids for ids, _ in acts]) if acts else np.empty(0, np.uint64)
        types = np.concatenate([types for _, types in acts]) if acts else np.empty(0, np.uint8)
        others = people != author_id
        favorited, retweeted = (np.unique(people[others & (types == t)]) for t in (EdgeType.FAVORITE, EdgeType.RETWEET))
        return favorited, retweeted

    def _toward(self, candidate_id: int, people: Ids, time_ms: int) -> Ids:
        if len(people) <= NEIGHBORS_MAX:
            return people
        others = np.full(len(people), candidate_id, np.uint64)
        return _strongest(people, self._ties.strength_between(people, others, time_ms))


def _strongest(people: Ids, strength: NDArray[np.float32]) -> Ids:
    """Those with the strongest ties; among equals, those who come first."""
    return people[np.argsort(-strength, kind="stable")[:NEIGHBORS_MAX]]


def _lists(lists: list[Ids]) -> Lists:
    return Lists(np.concatenate(lists), np.cumsum([len(people) for people in lists], dtype=np.int64))
