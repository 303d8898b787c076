"""Sources of who to follow: where people come from whom a viewer may want to follow (docs/who_to_follow.md)."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.batch import Kind
from engine.interaction_graph.salsa import SalsaScratch
from engine.interaction_graph.second_degree_users import UsersRequest, second_degree_users
from engine.interaction_graph.user_graph import UserEdgeType
from engine.pipeline.components import Query
from engine.pipeline.scratch import Buffers
from engine.real_graph.state import tie_weights
from engine.rooms import Rooms
from engine.social_graph.state import Relation
from engine.who_to_follow import kernels
from engine.who_to_follow.config import WhoToFollowConfig
from engine.who_to_follow.walks import NOBODY, Found, Ids, best, circle_of, neighbors_of, salsa, sum_by_person

#: Acts with which somebody shows interest in an author.
_LIKED = np.array([Kind.FAVORITE, Kind.RETWEET, Kind.REPLY, Kind.QUOTE, Kind.SHARE, Kind.BOOKMARK], np.uint8)


class Context(NamedTuple):
    """What every source needs."""

    rooms: Rooms
    config: WhoToFollowConfig


class PeopleSource:
    """A source over the rooms of a state. ``enabled`` where the viewer follows somebody who may be named."""

    name: str

    def __init__(self, context: Context) -> None:
        self.rooms, self.config = context
        self.most = self.config.candidates_each_max

    def enabled(self, query: Query, found: int) -> bool:
        """See ``Source``."""
        return len(query.nameable) > 0

    def _summed(self, query: Query, ids: Ids, weights: NDArray[np.float64]) -> Found:
        """The people with the greatest sums of weights, without followees and the viewer."""
        if not len(ids):
            return NOBODY
        sums = sum_by_person(ids, weights, left_out(query), query.scratch.of(Buffers))
        return best(sums.people, sums.sums, self.most)


def left_out(query: Query) -> Ids:
    """Whom no source needs to bring: the viewer's followees, and the viewer."""
    viewer = np.array([query.request.viewer_id], np.uint64)
    return np.concatenate([viewer, query.followees[query.followees != viewer]])


class TwoHop(PeopleSource):
    """Whom the strongest ties follow: Σ weight of the viewer's tie · weight of that person's tie."""

    name = "two_hop"

    def fetch(self, query: Query) -> Found:
        """See ``Source``."""
        own, buffers = self.config.two_hop, query.scratch.of(Buffers)
        seeds, weights = query.nameable[: own.ties_max], query.tie_weights[: own.ties_max]
        place, ids = neighbors_of(self.rooms.social_graph, seeds, own.follows_each_max, buffers=buffers)
        strength = self.rooms.real_graph.strength_between(seeds[place], ids, query.ranked_ms)
        return self._summed(query, ids, weights[place] * tie_weights(strength))


class RecentFollows(PeopleSource):
    """Whom at least two of the people followed lately whom the viewer followed last: how many of them."""

    name = "recent_follows"

    def fetch(self, query: Query) -> Found:
        """See ``Source``."""
        own, asked = self.config.recent_follows, query.request
        newest = self.rooms.social_graph.followees(asked.viewer_id, own.seeds_max)
        seeds = newest[np.isin(newest, query.nameable)]
        if not len(seeds):
            return NOBODY
        request = UsersRequest(
            seed_user_ids=seeds,
            seed_weights=np.ones(len(seeds)),
            edge_types=1 << UserEdgeType.FOLLOW,
            results_max=own.results_max,
            proofs_max=0,
            users_min=own.people_min,
            time_ms=query.ranked_ms,
            edge_age_ms_max=own.follow_age_ms_max,
            exclude_user_ids=left_out(query),
        )
        result = second_degree_users(self.rooms.user_graph, request, query.scratch.of(SalsaScratch))
        return result.user_ids, result.scores


class CircleOfTrust(PeopleSource):
    """Whom the viewer's circle of trust follows: scores of SALSA's authorities."""

    name = "circle"

    def fetch(self, query: Query) -> Found:
        """See ``Source``."""
        graph, own, buffers = self.rooms.social_graph, self.config.circle, query.scratch.of(Buffers)
        viewer = query.request.viewer_id
        circle = circle_of(graph, viewer, query.nameable, query.tie_weights, own, buffers)
        sums = salsa(graph, circle, left_out(query), own, buffers)
        return best(sums.people, sums.sums, self.most)


class Triangles(PeopleSource):
    """Who follows the viewer, and is followed by a followee: 1 / (followers + followees), so the less known first."""

    name = "triangles"

    def fetch(self, query: Query) -> Found:
        """See ``Source``."""
        graph = self.rooms.social_graph
        followers = graph.followers(query.request.viewer_id, self.config.followers_max)
        others = followers[~np.isin(followers, query.followees)]
        if not len(others):
            return NOBODY
        _, counts = graph.followed_by(query.nameable, others, 1)
        others = others[counts > 0]
        followers_of, followees_of = degrees_of(self.rooms, others)
        return best(others, 1.0 / np.maximum(followers_of + followees_of, 1), self.most)


class Mutual(PeopleSource):
    """Friends of friends: with how many of the viewer's mutual follows somebody follows mutually."""

    name = "mutual"

    def fetch(self, query: Query) -> Found:
        """See ``Source``."""
        graph, own = self.rooms.social_graph, self.config.mutual
        relation = graph.relation(query.request.viewer_id, query.nameable)
        friends = query.nameable[relation & np.uint8(Relation.FOLLOWED_BY) != 0][: own.friends_max]
        buffers = query.scratch.of(Buffers)
        _, ids = neighbors_of(graph, friends, own.follows_each_max, buffers=buffers, mutual=True)
        return self._summed(query, ids, np.ones(len(ids)))


class Similar(PeopleSource):
    """Who has the same followers as the strongest ties: the sum of the cosines of the sets of followers."""

    name = "similar"

    def fetch(self, query: Query) -> Found:
        """See ``Source``."""
        own, seeds = self.config.similar, query.nameable[: self.config.similar.seeds_max]
        pairs = [similar_to(self.rooms, int(seed), own.similar_each_max, self.config, query) for seed in seeds]
        return self._summed(query, np.concatenate([ids for ids, _ in pairs]), np.concatenate([c for _, c in pairs]))


def similar_to(rooms: Rooms, seed: int, most: int, config: WhoToFollowConfig, query: Query) -> Found:
    """Who has the same followers as the seed, by cosine: |F(a) ∩ F(b)| / √(|F(a)| · |F(b)|), of the seed's newest
    followers, and exact where these are all of them and all their follows count."""
    own, buffers, graph = config.similar, query.scratch.of(Buffers), rooms.social_graph
    _, fans = neighbors_of(graph, np.array([seed], np.uint64), own.followers_each_max, buffers=buffers, followers=True)
    _, ids = neighbors_of(graph, fans, own.follows_each_max, buffers=buffers)
    if not len(ids):
        return NOBODY
    shared = sum_by_person(ids, np.ones(len(ids)), np.array([seed], np.uint64), buffers)
    followers_of, _ = degrees_of(rooms, shared.people)
    whole = graph.follower_count(seed)
    cosine = shared.sums / len(fans) * np.sqrt(whole / np.maximum(followers_of, 1))
    return best(shared.people, np.minimum(cosine, 1.0), most)


def degrees_of(rooms: Rooms, people: Ids) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many people follow each of these (uint64, n), and how many each follows: int64 (n)."""
    out = np.empty(len(people), np.int64), np.empty(len(people), np.int64)
    kernels.degrees(rooms.social_graph.graph, people, *out)
    return out


class Engaged(PeopleSource):
    """Authors of what the viewer engaged with lately, and whose profile the viewer looks at again and again: acts."""

    name = "engaged"

    def enabled(self, query: Query, found: int) -> bool:
        """See ``Source``."""
        return True

    def fetch(self, query: Query) -> Found:
        """See ``Source``."""
        own, viewer = self.config.engagement, query.request.viewer_id
        acts = self.rooms.signals.recent_engagements(viewer, own.acts_max)
        liked = acts.author_ids[np.isin(acts.kinds, _LIKED)]
        looks = self.rooms.signals.recent_implicit(viewer, own.acts_max)
        visited, visits = np.unique(looks.author_ids[looks.kinds == Kind.PROFILE_CLICK], return_counts=True)
        again = visits >= own.profile_visits_min
        ids = np.concatenate([liked, visited[again]])
        weights = np.concatenate([np.ones(len(liked)), visits[again].astype(np.float64)])
        known = ids != 0
        return self._summed(query, ids[known], weights[known])


class Ties(PeopleSource):
    """To whom the viewer is tied without following: the strength of the tie."""

    name = "ties"

    def enabled(self, query: Query, found: int) -> bool:
        """See ``Source``."""
        return True

    def fetch(self, query: Query) -> Found:
        """See ``Source``."""
        own = self.config.engagement
        ties = self.rooms.real_graph.strongest(
            query.request.viewer_id, query.ranked_ms, len(query.followees) + self.most
        )
        fits = (ties.scores >= own.tie_min) & ~np.isin(ties.user_ids, left_out(query))
        return ties.user_ids[fits][: self.most], ties.scores[fits][: self.most].astype(np.float64)


class Contacts(PeopleSource):
    """Who is in the viewer's address book (2), and in whose the viewer is (1)."""

    name = "contacts"

    def enabled(self, query: Query, found: int) -> bool:
        """See ``Source``."""
        return True

    def fetch(self, query: Query) -> Found:
        """See ``Source``."""
        viewer, links, most = query.request.viewer_id, self.rooms.links, len(query.followees) + self.most
        own, others = links.contacts_of(viewer, most), links.in_address_books_of(viewer, most)
        weights = np.concatenate([np.full(len(own), 2.0), np.ones(len(others))])
        return self._summed(query, np.concatenate([own, others]), weights)


class PopularInLocale(PeopleSource):
    """Whom people of the viewer's language and country follow lately more than others do: PPMI · follows; then of the
    language alone, then of the country."""

    name = "popular_in_locale"

    def enabled(self, query: Query, found: int) -> bool:
        """See ``Source``."""
        return query.facts["language"] > 0 or query.facts["country"] > 0

    def fetch(self, query: Query) -> Found:
        """See ``Source``."""
        language, country = query.facts["language"], query.facts["country"]
        least, found = self.config.popular.follows_min, []
        for locale in dict.fromkeys([(language, country), (language, 0), (0, country)]):
            if locale != (0, 0):
                popular = self.rooms.locale_follows.popular(*locale, query.request.time_ms, least=least)
                peculiar = popular.ppmi > 0
                found.append((popular.people[peculiar], (popular.ppmi * popular.counts)[peculiar]))
        return first_of_each(found, left_out(query), self.most)


class PopularPeople(PeopleSource):
    """Whom many follow lately, where the viewer is, then everywhere; then authors of what is popular."""

    name = "popular"

    def enabled(self, query: Query, found: int) -> bool:
        """See ``Source``."""
        return found < self.config.popular.below

    def fetch(self, query: Query) -> Found:
        """See ``Source``."""
        own, time_ms, without = self.config.popular, query.request.time_ms, left_out(query)
        found, language = [], query.facts["language"]
        for locale in dict.fromkeys([(language, query.facts["country"]), (0, 0)]):
            popular = self.rooms.locale_follows.popular(*locale, time_ms, least=own.follows_min)
            order = np.lexsort((popular.people, -popular.counts))
            found.append((popular.people[order], popular.counts[order]))
        people, scores = first_of_each(found, without, self.most)
        if len(people) < self.most:
            since_ms = time_ms - own.tweet_age_ms_max
            found += [self._authors(query.ranked_ms, since_ms, tongue) for tongue in dict.fromkeys([language, 0])]
            people, scores = first_of_each(found, without, self.most)
        return people, scores

    def _authors(self, ranked_ms: int, since_ms: int, language: int) -> Found:
        """Authors of the most popular tweets, with the popularity of their best."""
        store = self.rooms.tweet_store
        terms = (ranked_ms, 0, self.config.popular.tweets_max, since_ms)
        tweets, scores = store.popular(*terms, language) if language else store.popular(*terms)
        authors = store.columns(store.lookup(tweets)).author_id
        return authors[authors != 0], scores[authors != 0]


def first_of_each(found: list[Found], without: Ids, most: int) -> Found:
    """What was found one after the other, each person once, at the first place."""
    ids = np.concatenate([people for people, _ in found])
    scores = np.concatenate([scores for _, scores in found])
    _, first = np.unique(ids, return_index=True)
    rows = np.sort(first)
    rows = rows[~np.isin(ids[rows], without)][:most]
    return ids[rows], scores[rows]
