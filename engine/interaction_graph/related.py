"""Tweets related to a tweet, to an author through their followers, or to a set of people.

The counting of Twitter's user-tweet graph service (the open-sourced recommendation algorithm, 2023) with its constants
as defaults: all tweets two hops away are counted exactly, scores are divided by ln(degree) so that popular tweets do
not dominate, and very active people are left out. docs/similar_tweets.md has the formulas.
"""

from typing import Annotated, Literal

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from engine.interaction_graph.arrays import EdgeType
from engine.interaction_graph.related_kernels import count_shared_each, table_of
from engine.interaction_graph.salsa import RESULTS_MAX
from engine.interaction_graph.similarity import (
    AgeOf,
    CountScratch,
    IdList,
    Ids,
    Measure,
    SharedTweets,
    SimilarityOptionError,
    SimilarityRequest,
    WorkBudgetError,
    bound,
    distinct,
    ids_of,
    layout_for,
    options_of,
    shared_tweets,
)
from engine.interaction_graph.state import EdgeKind, InteractionGraph, InteractionGraphConfig

_NO_IDS: Ids = np.empty(0, np.uint64)
_AGES = {"snowflake": AgeOf.SNOWFLAKE, "first_edge": AgeOf.FIRST_EDGE, "last_edge": AgeOf.LAST_EDGE}
_TYPE_NAMES = {"create": "tweet", "mention": "is_mentioned", "media_tag": "is_media_tagged"}

Count = Annotated[int, Meta(ge=1, lt=1 << 31)]


class RelatedTweetsConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Limits of related tweets; except for ``age_of``, the defaults are Twitter's in production.

    ``edge_kinds``: the engagements that count. ``query_degree_min``: a query tweet with fewer edges has no results.
    ``sampled_users_max``: how many people of the query tweet are read. ``followers_max``: how many of an author's given
    followers are read, the first ones. ``users_max``: how many people a request may give. People with more than
    ``user_degree_max`` edges are left out, and followers with fewer than ``follower_degree_min``. A result has at least
    ``degree_min`` edges, is shared by at least ``*cooccurrence_min`` people, scores above ``*score_above``, and is no
    older than ``age_ms_max`` (48 h). ``age_of``: where a tweet's age is counted from; ids need not carry a time, an
    edge always does.
    """

    edge_kinds: tuple[EdgeKind, ...] = ("favorite", "retweet")
    query_degree_min: Count = 10
    sampled_users_max: Annotated[int, Meta(ge=1, le=2000)] = 100
    followers_max: Annotated[int, Meta(ge=1, le=10_000)] = 500
    users_max: Annotated[int, Meta(ge=1, le=10_000)] = 1000
    user_degree_max: Annotated[int, Meta(ge=1, le=1000)] = 99
    follower_degree_min: Count = 2
    degree_min: Count = 51
    tweet_cooccurrence_min: Count = 3
    author_cooccurrence_min: Count = 4
    users_cooccurrence_min: Count = 3
    tweet_score_above: Annotated[float, Meta(ge=0)] = 0.5
    author_score_above: Annotated[float, Meta(ge=0)] = 0.0
    users_score_above: Annotated[float, Meta(ge=0)] = 0.0
    age_ms_max: Annotated[int, Meta(ge=0, lt=1 << 53)] = 48 * 3_600_000
    age_of: Literal["snowflake", "first_edge", "last_edge"] = "first_edge"
    results_max: Annotated[int, Meta(ge=1, le=RESULTS_MAX)] = 200

    @property
    def edge_types(self) -> int:
        """``edge_kinds`` as a bit mask by ``EdgeType``."""
        return sum({1 << EdgeType[_TYPE_NAMES.get(kind, kind).upper()] for kind in self.edge_kinds})


class RelatedTweetsRequest(Struct, frozen=True, kw_only=True):
    """A request's parameters beside its starting point: tweets that must not be results, the time (0 = newest event),
    the number of results (0 = as configured), the seed of the draws (64 bits)."""

    excluded_tweet_ids: IdList = ()
    time_ms: int = 0
    results_max: int = 0
    seed: int = 0


def _plain(
    config: RelatedTweetsConfig, request: RelatedTweetsRequest, tweet_id: int, degree_min: int, cooccurrence_min: int
) -> SimilarityRequest:
    return SimilarityRequest(
        tweet_id=tweet_id,
        measure=Measure.LOG_DEGREE,
        edge_types=config.edge_types,
        neighbors_max=config.sampled_users_max,
        # People with more edges are left out, so every list that counts is read whole.
        samples_max=config.user_degree_max,
        neighbor_degree_min=degree_min,
        neighbor_degree_max=config.user_degree_max,
        query_degree_min=config.query_degree_min,
        cooccurrence_min=cooccurrence_min,
        degree_min=config.degree_min,
        age_of=_AGES[config.age_of],
        age_ms_max=config.age_ms_max,
        time_ms=request.time_ms,
        excluded_tweet_ids=request.excluded_tweet_ids,
        results_max=request.results_max or config.results_max,
        seed=request.seed,
    )


def related_to_tweet(
    graph: InteractionGraph,
    tweet_id: int,
    request: RelatedTweetsRequest,
    config: RelatedTweetsConfig,
    scratch: CountScratch,
) -> SharedTweets:
    """Tweets that a sample of the tweet's people also engaged with: score d / ln d / people · c / ln(degree), with d
    the tweet's degree and c the shared people. The tweet itself is left out.

    Raises:
        RequestError: named by its ``code``: bad_similarity_option, too_much_work.
    """
    if tweet_id == 0:
        raise SimilarityOptionError("tweet_id is not 0")
    plain = _plain(config, request, tweet_id, 1, config.tweet_cooccurrence_min)
    return shared_tweets(graph, plain, scratch, ids_of([]), config.tweet_score_above)


class RelatedTweets:
    """``related_to_tweet`` of several tweets in one call, scores added up by tweet.

    What the configuration decides is made once: it takes longer to make than a few lists to count.
    """

    def __init__(self, graph: InteractionGraph, config: RelatedTweetsConfig) -> None:
        """Check the limits.

        Raises:
            RequestError: named by its ``code``: bad_similarity_option, too_much_work.
        """
        plain = _plain(config, RelatedTweetsRequest(), 1, 1, config.tweet_cooccurrence_min)
        self._graph = graph
        self._each = config.results_max
        self._layout = layout_for(graph.config.tweets_max, plain, config.sampled_users_max, config.results_max)
        self._room = (self._layout.ints, self._layout.floats)
        self._options = options_of(plain, 0, config.tweet_score_above)

    def of(
        self, tweet_ids: Ids, request: RelatedTweetsRequest, scratch: CountScratch
    ) -> tuple[Ids, NDArray[np.float64]]:
        """The tweets related to ``tweet_ids`` (uint64, distinct, none 0): ids (uint64) and sums (float64), the greatest
        first, then by id; at most ``results_max`` of the request.

        Raises:
            RequestError: named by its ``code``: bad_similarity_option, too_much_work.
        """
        graph = self._graph
        time_ms = bound("time_ms", request.time_ms, 0, 1 << 53) or graph.watermark_ms
        kept = bound("results_max", request.results_max or self._each, 1, RESULTS_MAX)
        rows = max(1, len(tweet_ids) * self._each)
        table, (ints, floats) = table_of(rows), self._room
        scratch.fit(ints + table + rows + kept, floats + rows)
        excluded = ids_of(request.excluded_tweet_ids) if len(request.excluded_tweet_ids) else _NO_IDS
        ids, sums = np.empty(kept, np.uint64), np.empty(kept)
        size = count_shared_each(
            graph.read_arrays,
            scratch.ints,
            scratch.floats,
            tuple(self._layout),
            (table, rows),
            tweet_ids,
            excluded,
            np.uint64(request.seed),
            self._options._replace(now_ms=time_ms),
            ids,
            sums,
        )
        return ids[:size], sums[:size]


def related_to_author(
    graph: InteractionGraph,
    follower_user_ids: IdList,
    request: RelatedTweetsRequest,
    config: RelatedTweetsConfig,
    scratch: CountScratch,
) -> SharedTweets:
    """Tweets that an author's followers engaged with: score 1000 / people · c / ln(degree). ``follower_user_ids``:
    newest follower first; only the first ``followers_max`` are read, before degrees are checked.

    Raises:
        RequestError: named by its ``code``: bad_similarity_option, too_much_work.
    """
    followers = distinct(ids_of(follower_user_ids[: config.followers_max]))
    plain = _plain(config, request, 0, config.follower_degree_min, config.author_cooccurrence_min)
    return shared_tweets(graph, plain, scratch, followers, config.author_score_above)


def related_to_users(
    graph: InteractionGraph,
    user_ids: IdList,
    request: RelatedTweetsRequest,
    config: RelatedTweetsConfig,
    scratch: CountScratch,
) -> SharedTweets:
    """Tweets that these people engaged with: score 1000 / people · c / ln(degree); people without edges also count.

    Raises:
        RequestError: named by its ``code``: bad_similarity_option, too_much_work.
    """
    if len(user_ids) > config.users_max:
        raise WorkBudgetError(f"{len(user_ids)} people are more than {config.users_max}")
    plain = _plain(config, request, 0, 0, config.users_cooccurrence_min)
    return shared_tweets(graph, plain, scratch, distinct(ids_of(user_ids)), config.users_score_above)


def warm() -> None:
    """Compile the count on the real types (the kernel that similarity uses, too)."""
    graph = InteractionGraph(InteractionGraphConfig(users_max=2, tweets_max=2, edges_max=2))
    request, config, scratch = RelatedTweetsRequest(), RelatedTweetsConfig(), CountScratch()
    related_to_users(graph, np.ones(1, np.uint64), request, config, scratch)
    RelatedTweets(graph, config).of(np.ones(1, np.uint64), request, scratch)
