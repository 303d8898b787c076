"""Candidate sources of the products (docs/feeds.md): followees' tweets, walks, what is popular now."""

from abc import ABC, abstractmethod
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from engine.batch import Kind
from engine.feed import Product
from engine.home_mixer import newest_kernels, tagged_kernels
from engine.home_mixer.cold_start import Tier
from engine.home_mixer.config import FollowingConfig, ForYouConfig, LikedByConfig, RelatedConfig, WalkConfig
from engine.interaction_graph.entity_graph import EntityGraph
from engine.interaction_graph.related import RelatedTweets, RelatedTweetsRequest
from engine.interaction_graph.salsa import SalsaRequest, SalsaScratch, Walks
from engine.interaction_graph.second_degree import EDGES_MAX, SecondDegree, SecondDegreeRequest
from engine.interaction_graph.similarity_kernels import CountScratch
from engine.interaction_graph.state import EdgeType, InteractionGraph
from engine.pipeline.components import Query
from engine.pipeline.kernels import table_size
from engine.pipeline.scratch import Buffers
from engine.signals.state import Signals
from engine.social_graph.state import SocialGraph
from engine.tweet_store.state import TweetStore
from engine.visibility.judge import Visibility

Ids = NDArray[np.uint64]
Found = tuple[Ids, NDArray[np.float64]]

#: The walk sources that start from other people than the viewer.
SEEDED_WALKS = ("walk_followees", "walk_popular")


#: For You asks for this many tweets of followees whatever their age, where fewer are young enough.
_OF_ANY_AGE = 10


class Followees:
    """In-network retrieval: the newest tweets of followees, of a longer time for light users; raw score = creation
    time.

    Where fewer than ``_OF_ANY_AGE`` are young enough for For You, the newest of any age are candidates too: the filter
    drops them by name, so a feed that is short or empty says why.
    """

    name = "followees"

    def __init__(self, tweet_store: TweetStore, config: ForYouConfig | FollowingConfig) -> None:
        self.tweet_store = tweet_store
        self.per_author_max = config.per_author_max
        self.ages_ms_max = (config.heavy_age_ms_max, config.age_ms_max) if isinstance(config, ForYouConfig) else None
        self.total_max = config.in_network_max if isinstance(config, ForYouConfig) else config.tweets_max

    def enabled(self, query: Query, found: int) -> bool:
        return len(query.followees) > 0 and not query.request.only

    def fetch(self, query: Query) -> Found:
        since_ms = 0
        if self.ages_ms_max is not None:
            since_ms = query.request.time_ms - self.ages_ms_max[query.facts["is_light"]]
        ids, created_ms = self._newest(query, since_ms, self.total_max)
        if len(ids) < _OF_ANY_AGE and since_ms > 0:
            ids, created_ms = self._newest(query, 0, min(_OF_ANY_AGE, self.total_max))
        return ids, created_ms

    def _newest(self, query: Query, since_ms: int, total_max: int) -> Found:
        ids, created_ms, _ = self.tweet_store.recent_of_authors(
            query.followees, since_ms, self.per_author_max, total_max
        )
        return ids, created_ms


#: Only what people do in public is told to their followers: never bookmarks, clicks or watching.
PUBLIC_ACTS = sum(1 << t for t in (EdgeType.FAVORITE, EdgeType.RETWEET, EdgeType.REPLY, EdgeType.QUOTE))


class LikedByFollowees:
    """Out-of-network retrieval: what followees publicly engaged with; raw score = how many acts of how many people.

    A followee weighs as much as the viewer's tie with the followee (``Query.tie_weights``).
    """

    name = "liked_by_followees"

    def __init__(self, graph: InteractionGraph, config: LikedByConfig) -> None:
        self.graph = graph
        self.config = config
        # A request's budget of edges holds for every viewer, so it is kept here and not looked at again.
        self._seeds_max = min(config.seeds_max, EDGES_MAX // config.edges_per_seed_max)
        terms = SecondDegreeRequest(
            seed_user_ids=np.zeros(1, np.uint64),
            seed_weights=np.ones(1),
            edge_types=PUBLIC_ACTS,
            results_max=config.candidates_max,
            edges_per_seed_max=config.edges_per_seed_max,
            proofs_max=0,
            users_min=config.people_min,
            engagement_age_ms_max=config.engagement_age_ms_max,
        )
        self._count = SecondDegree(graph, terms)

    def enabled(self, query: Query, found: int) -> bool:
        return len(query.nameable) > 0

    def fetch(self, query: Query) -> Found:
        request, seeds = query.request, query.nameable[: self._seeds_max]
        weights = query.tie_weights[: self._seeds_max]
        return self._count.best(seeds, weights, request.viewer_id, request.time_ms, query.scratch.of(SalsaScratch))


#: What a viewer's favorites are, for related tweets.
_LIKED = (Kind.FAVORITE, Kind.RETWEET)


class RelatedToFavorites:
    """Out-of-network retrieval: tweets related to what the viewer just favorited; raw score = the sum of theirs."""

    name = "related_to_favorites"

    def __init__(self, graph: InteractionGraph, signals: Signals, config: RelatedConfig) -> None:
        self.graph = graph
        self.signals = signals
        self.config = config

    @cached_property
    def _related(self) -> RelatedTweets:
        return RelatedTweets(self.graph, self.config.counting)

    def enabled(self, query: Query, found: int) -> bool:
        return query.facts["own_edges"] > 0

    def fetch(self, query: Query) -> Found:
        asked, most = query.request, self.config.favorites_max
        favorites = self.signals.recently_engaged(asked.viewer_id, _LIKED, 4 * most, most)
        request = RelatedTweetsRequest(time_ms=asked.time_ms, seed=asked.seed, results_max=self.config.candidates_max)
        return self._related.of(favorites, request, query.scratch.of(CountScratch))


class Walk(ABC):
    """SALSA over the interaction graph (docs/interaction_graph.md); raw score = share of the walk's visits."""

    def __init__(self, name: str, graph: InteractionGraph, config: WalkConfig) -> None:
        self.name = name
        self.graph = graph
        self.config = config
        one = np.ones(1)
        self._walks = Walks(
            graph,
            SalsaRequest(
                query_user_id=0,
                seed_user_ids=one.astype(np.uint64),
                seed_weights=one,
                walks=config.walks,
                length=config.length,
                reset=config.reset,
                query_weight_fraction=config.query_weight_fraction,
                results_max=config.results_max,
            ),
        )

    @abstractmethod
    def enabled(self, query: Query, found: int) -> bool:
        """Whether the viewer is one whose walk starts here."""

    @abstractmethod
    def seeds(self, query: Query) -> Ids:
        """User ids to start from."""

    def weights(self, query: Query, seeds: Ids) -> NDArray[np.float64]:
        """What the seeds weigh: all the same."""
        return np.ones(len(seeds))

    def fetch(self, query: Query) -> Found:
        users, request = self.seeds(query), query.request
        if not len(users):
            return np.empty(0, np.uint64), np.empty(0)
        weights = self.weights(query, users)
        return self._walks.best(request.viewer_id, users, weights, request.seed, query.scratch.of(SalsaScratch))


class OwnWalk(Walk):
    """Walks from the viewer: the tweets they engaged with, who else did, and what those people engaged with."""

    def __init__(self, graph: InteractionGraph, config: WalkConfig) -> None:
        super().__init__("walk_own", graph, config)

    def enabled(self, query: Query, found: int) -> bool:
        return query.facts["own_edges"] >= self.config.own_edges_min

    def seeds(self, query: Query) -> Ids:
        return np.array([query.request.viewer_id], np.uint64)


class FolloweesWalk(Walk):
    """For a viewer with few engagements: walks from followees, who weigh as much as the viewer's ties with them."""

    def __init__(self, graph: InteractionGraph, config: WalkConfig) -> None:
        super().__init__("walk_followees", graph, config)

    def enabled(self, query: Query, found: int) -> bool:
        return query.facts["own_edges"] < self.config.own_edges_min and len(query.nameable) > 0

    def seeds(self, query: Query) -> Ids:
        return query.nameable[: self.config.followee_seeds_max]

    def weights(self, query: Query, seeds: Ids) -> NDArray[np.float64]:
        return query.tie_weights[: len(seeds)]


class Interests:
    """Tweets with a hashtag of what the viewer said they want to read about: those of most interests first, then the
    newest. Raw score: what an interest counts for."""

    name = "interests"

    def __init__(self, entity_graph: EntityGraph, tweet_store: TweetStore, config: ForYouConfig) -> None:
        self.entity_graph = entity_graph
        self.tweet_store = tweet_store
        self.config = config

    def enabled(self, query: Query, found: int) -> bool:
        return len(query.interests) > 0 and query.tier != Tier.ACTIVE

    def fetch(self, query: Query) -> Found:
        cold_start, buffers = self.config.cold_start, query.scratch.of(Buffers)
        most = cold_start.per_interest_max
        room = len(query.interests) * most
        ids, created_ms = np.empty(room, np.uint64), np.empty(room)
        cut = (
            buffers.take("interests.authors", np.uint64, most),
            buffers.take("interests.counts", np.int64, most),
            buffers.take("interests.table", np.int32, table_size(most)),
        )
        graph, tweets = self.entity_graph.read_arrays, self.tweet_store.tweets
        since_ms = np.int64(query.request.time_ms - self.config.age_ms_max)
        count = int(tagged_kernels.tagged(graph, tweets, query.interests, since_ms, cut, ids, created_ms))
        found, first, times = np.unique(ids[:count], return_index=True, return_counts=True)
        best = np.lexsort((found, created_ms[first], times))[::-1][: cold_start.interests_max]
        worth = 1.0 if query.tier == Tier.INTERESTS_OR_LANGUAGE else cold_start.interest_beside
        return found[best], np.full(len(best), worth)


def _is_enough(query: Query, found: int, config: ForYouConfig) -> bool:
    """Whether interests or languages brought enough for a viewer of whom nothing else is known."""
    return query.tier == Tier.INTERESTS_OR_LANGUAGE and found >= config.cold_start.interests_enough


class PopularWalk(Walk):
    """For a viewer with neither engagements nor followees: walks from who just engaged with what is popular."""

    def __init__(
        self, graph: InteractionGraph, config: ForYouConfig, popular: "Popular", visibility: Visibility
    ) -> None:
        super().__init__("walk_popular", graph, config.walk)
        self.popular = popular
        self.visibility = visibility

    def enabled(self, query: Query, found: int) -> bool:
        few = query.facts["own_edges"] < self.config.own_edges_min and len(query.nameable) == 0
        return few and not _is_enough(query, found, self.popular.config)

    def seeds(self, query: Query) -> Ids:
        tweets, _ = self.popular.top(query, self.config.popular_tweets)
        people = [self.graph.neighbors_of_tweet(int(t), self.config.people_per_popular_tweet)[0] for t in tweets]
        users = np.unique(np.concatenate(people)) if people else np.empty(0, np.uint64)
        named: Ids = users[self.visibility.may_name(query.request.viewer_id, users)]
        return named


class Popular:
    """What is popular now: engagement weight decayed with the short half-life; fills up thin feeds."""

    name = "popular"

    def __init__(self, tweet_store: TweetStore, config: ForYouConfig) -> None:
        self.tweet_store = tweet_store
        self.config = config

    def enabled(self, query: Query, found: int) -> bool:
        return found < self.config.popular_below and not _is_enough(query, found, self.config)

    def fetch(self, query: Query) -> Found:
        return self.top(query, self.config.popular_max)

    def top(self, query: Query, count: int) -> Found:
        """The most popular tweets young enough to be shown, with their decayed weight."""
        since_ms = query.request.time_ms - self.config.age_ms_max
        return self.tweet_store.popular(query.ranked_ms, 0, count, since_ms)


class PopularInLanguage:
    """For a viewer of whom only interests or languages are known: what is popular now in these languages."""

    name = "popular_in_language"

    def __init__(self, tweet_store: TweetStore, config: ForYouConfig) -> None:
        self.tweet_store = tweet_store
        self.config = config

    def enabled(self, query: Query, found: int) -> bool:
        return query.tier == Tier.INTERESTS_OR_LANGUAGE and len(query.languages) > 0

    def fetch(self, query: Query) -> Found:
        most, since_ms = self.config.popular_max, query.request.time_ms - self.config.age_ms_max
        found = [
            self.tweet_store.popular(query.ranked_ms, 0, most, since_ms, language)
            for language in query.languages.tolist()
        ]
        if len(found) == 1:
            return found[0]
        ids, scores = (np.concatenate(columns) for columns in zip(*found, strict=True))
        best = np.lexsort((ids, -scores))[:most]
        return ids[best], scores[best]


class Newest:
    """What arrived last, whoever wrote it: the last resort's search; raw score = creation time."""

    name = "newest"

    def __init__(self, tweet_store: TweetStore, social_graph: SocialGraph, config: ForYouConfig) -> None:
        self.tweet_store = tweet_store
        self.social_graph = social_graph
        self.config = config

    def more(self, query: Query, passed: int, most: int) -> tuple[Ids, NDArray[np.float64], int]:
        """See ``Search``."""
        ids, created_ms = np.empty(most, np.uint64), np.empty(most)
        count, passed = newest_kernels.newest(
            self.tweet_store.tweets, self.social_graph.graph, np.uint64(query.request.viewer_id),
            np.int64(query.request.time_ms - self.config.age_ms_max), np.int64(passed), ids, created_ms,
        )  # fmt: skip
        best = np.lexsort((ids[:count], created_ms[:count]))[::-1]
        return ids[best], created_ms[best], int(passed)


class OwnTweets:
    """Following shows the viewer's own tweets among the followees'."""

    name = "own_tweets"

    def __init__(self, tweet_store: TweetStore, config: FollowingConfig) -> None:
        self.tweet_store = tweet_store
        self.config = config

    def enabled(self, query: Query, found: int) -> bool:
        return query.request.product is Product.FOLLOWING and not query.request.only

    def fetch(self, query: Query) -> Found:
        viewer = np.array([query.request.viewer_id], np.uint64)
        ids, created_ms, _ = self.tweet_store.recent_of_authors(
            viewer, 0, self.config.per_author_max, self.config.tweets_max
        )
        return ids, created_ms


class NamedTweets:
    """The tweets that a request of Following names, as far as they are by a followee or the viewer; raw score =
    creation time."""

    name = "named"

    def __init__(self, tweet_store: TweetStore) -> None:
        self.tweet_store = tweet_store

    def enabled(self, query: Query, found: int) -> bool:
        return len(query.request.only) > 0

    def fetch(self, query: Query) -> Found:
        ids = np.unique(np.array(query.request.only, np.uint64))
        slots = self.tweet_store.lookup(ids)
        ids, columns = ids[slots >= 0], self.tweet_store.columns(slots[slots >= 0])
        shown = np.isin(columns.author_id, query.followees) | (columns.author_id == query.request.viewer_id)
        return ids[shown], columns.created_ms[shown].astype(np.float64)
