"""Queries by counting shared people, and by random edges: similar tweets, related tweets, random neighbours."""

from collections.abc import Callable
from typing import Any, ClassVar

import msgspec
import numpy as np

from engine.interaction_graph.random_neighbors import RandomNeighborsRequest, random_neighbors
from engine.interaction_graph.related import (
    RelatedTweetsConfig,
    RelatedTweetsRequest,
    related_to_author,
    related_to_tweet,
    related_to_users,
)
from engine.interaction_graph.similarity import SharedTweets, SimilarityRequest, similar_tweets
from engine.interaction_graph.state import InteractionGraph
from engine.pipeline.scratch import Scratch
from engine.state import EngineState
from streams.graph_api.answers import (
    UnknownTweetError,
    UnknownUserError,
    age_time_ms,
    id_array,
    id_strings,
    type_names,
    weights_by_id,
)
from streams.reading.graph_queries import Answer


def _require_tweet(graph: InteractionGraph, tweet_id: int) -> None:
    if tweet_id and not graph.tweet_degree(tweet_id):
        raise UnknownTweetError(f"{tweet_id} has no edge in the window")


def _shared_rows(found: SharedTweets) -> list[dict[str, Any]]:
    columns = zip(
        found.tweet_ids.tolist(),
        found.scores.tolist(),
        found.cooccurrences.tolist(),
        found.degrees.tolist(),
        strict=True,
    )
    return [
        {"tweet_id": str(tweet), "score": score, "cooccurrences": cooccurrences, "degree": degree}
        for tweet, score, cooccurrences, degree in columns
    ]


class SimilarQuery(msgspec.Struct, frozen=True):
    """Similarity: ``engine.interaction_graph.similarity``."""

    name: ClassVar[str] = "similar"
    request: SimilarityRequest

    def look(self, state: EngineState, scratch: Scratch) -> Callable[[], Answer]:
        graph = state.interaction_graph
        asked = msgspec.structs.replace(self.request, time_ms=age_time_ms(self.request.time_ms, graph))
        found = similar_tweets(graph, asked, scratch.counts)
        _require_tweet(graph, asked.tweet_id)
        return lambda: Answer(self._terms(asked), _shared_rows(found), found.stats._asdict())

    @staticmethod
    def _terms(asked: SimilarityRequest) -> dict[str, Any]:
        return {
            "tweet": str(asked.tweet_id),
            "more": id_strings(id_array(asked.more_tweet_ids)),
            "measure": asked.measure.name.lower(),
            "types": type_names(asked.edge_types),
            "neighbours_max": asked.neighbors_max,
            "samples_max": asked.samples_max,
            "neighbour_degree_min": asked.neighbor_degree_min,
            "neighbour_degree_max": asked.neighbor_degree_max,
            "query_degree_min": asked.query_degree_min,
            "cooccurrence_min": asked.cooccurrence_min,
            "degree_min": asked.degree_min,
            "degree_max": asked.degree_max,
            "age_of": asked.age_of.name.lower(),
            "age_s": None if asked.age_ms_max is None else asked.age_ms_max / 1000.0,
            "time_ms": asked.time_ms,
            "exclude": id_strings(id_array(asked.excluded_tweet_ids)),
            "limit": asked.results_max,
            "seed": str(asked.seed),
        }


class RelatedQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Related tweets: ``engine.interaction_graph.related``. One of ``tweet_id``, ``author_id`` (whose newest followers
    are looked at) and ``user_ids`` is given."""

    name: ClassVar[str] = "related"
    request: RelatedTweetsRequest
    config: RelatedTweetsConfig
    tweet_id: int = 0
    author_id: int = 0
    user_ids: tuple[int, ...] = ()

    def look(self, state: EngineState, scratch: Scratch) -> Callable[[], Answer]:
        graph, config = state.interaction_graph, self.config
        asked = msgspec.structs.replace(self.request, time_ms=age_time_ms(self.request.time_ms, graph))
        if self.tweet_id:
            found = related_to_tweet(graph, self.tweet_id, asked, config, scratch.counts)
            _require_tweet(graph, self.tweet_id)
        elif self.author_id:
            followers = state.social_graph.followers(self.author_id, config.followers_max)
            if not len(followers):
                raise UnknownUserError(f"nobody follows {self.author_id}")
            found = related_to_author(graph, followers, asked, config, scratch.counts)
        else:
            found = related_to_users(graph, self.user_ids, asked, config, scratch.counts)
            if not len(found.tweet_ids) and not any(map(graph.user_degree, self.user_ids)):
                raise UnknownUserError("none of the users has an edge in the window")
        return lambda: Answer(self._terms(asked), _shared_rows(found), found.stats._asdict())

    def _terms(self, asked: RelatedTweetsRequest) -> dict[str, Any]:
        kind = "tweet" if self.tweet_id else "author" if self.author_id else "users"
        config = msgspec.to_builtins(self.config)
        return {
            kind: id_strings(id_array(self.user_ids)) if self.user_ids else str(self.tweet_id or self.author_id),
            "types": type_names(self.config.edge_types),
            "query_degree_min": config["query_degree_min"],
            "sampled_users_max": config["sampled_users_max"],
            "user_degree_max": config["user_degree_max"],
            "degree_min": config["degree_min"],
            "cooccurrence_min": config[f"{kind}_cooccurrence_min"],
            "score_above": config[f"{kind}_score_above"],
            "age_of": config["age_of"],
            "age_s": config["age_ms_max"] / 1000.0,
            "time_ms": asked.time_ms,
            "exclude": id_strings(id_array(asked.excluded_tweet_ids)),
            "limit": asked.results_max,
            "seed": str(asked.seed),
        }


class RandomNeighboursQuery(msgspec.Struct, frozen=True):
    """Random edges of weighted people: ``engine.interaction_graph.random_neighbors``."""

    name: ClassVar[str] = "neighbours"
    request: RandomNeighborsRequest

    def look(self, state: EngineState, scratch: Scratch) -> Callable[[], Answer]:
        found = random_neighbors(state.interaction_graph, self.request, scratch.counts)
        if not found.seeds:
            raise UnknownUserError("no seed has weight and an edge of these types in the window")

        def shape() -> Answer:
            columns = (found.tweet_ids, found.scores, found.counts, found.degrees)
            results = [
                {"tweet_id": str(tweet), "score": score, "count": count, "degree": degree}
                for tweet, score, count, degree in zip(*(column.tolist() for column in columns), strict=True)
            ]
            return Answer(self._terms(), results, {"seeds": found.seeds, "drawn": found.drawn})

        return shape

    def _terms(self) -> dict[str, Any]:
        asked = self.request
        return {
            "seeds": weights_by_id(np.array(asked.user_ids, np.uint64), asked.weights),
            "samples": asked.samples,
            "types": type_names(asked.edge_types),
            "exclude": id_strings(id_array(asked.excluded_tweet_ids)),
            "limit": asked.results_max,
            "seed": str(asked.seed),
        }
