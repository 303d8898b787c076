"""Queries by counting what the seeds themselves did: tweets, users, hashtags and URLs of the second degree.

Without seeds the newest ``followees_max`` followees of the query user are the seeds, with weight 1 each.
"""

from collections.abc import Callable
from typing import Any, ClassVar, Final, TypeVar

import msgspec
import numpy as np

from engine.interaction_graph.entity_graph import EntityType
from engine.interaction_graph.second_degree import SecondDegreeRequest, SecondDegreeResult, second_degree
from engine.interaction_graph.second_degree_entities import EntitiesResult, second_degree_entities
from engine.interaction_graph.second_degree_users import UsersRequest, UsersResult, second_degree_users
from engine.pipeline.scratch import Scratch
from engine.social_graph.state import SocialGraph
from engine.state import EngineState
from streams.graph_api.answers import (
    TYPE_NAMES,
    USER_TYPE_NAMES,
    Names,
    UnknownUserError,
    age_time_ms,
    id_strings,
    type_names,
    users_by_type,
    weights_by_id,
)
from streams.reading.graph_queries import Answer

#: Of those whom the query user follows, so many are left out of users.
FOLLOWED_MAX: Final = 100_000
_UNKNOWN: Final = "no seed has an edge in the window"

Request = TypeVar("Request", SecondDegreeRequest, UsersRequest)


def _with_seeds(request: Request, user_id: int, followees_max: int, social_graph: SocialGraph) -> Request:
    """The request, with seeds where it has none."""
    if len(request.seed_user_ids) or not user_id:
        return request
    people = social_graph.followees(user_id, followees_max)
    return msgspec.structs.replace(request, seed_user_ids=people, seed_weights=np.ones(len(people)))


def _shared_terms(asked: SecondDegreeRequest | UsersRequest, user_id: int, names: Names) -> dict[str, Any]:
    """The terms that counts of anything have."""
    return {
        "user": str(user_id),
        "seeds": weights_by_id(asked.seed_user_ids, asked.seed_weights),
        "types": type_names(asked.edge_types, names),
        "edges_per_seed": asked.edges_per_seed_max,
        "users_min": asked.users_min,
        "users_min_by_type": {names[code]: users for code, users in asked.users_min_by_type.items()},
        "users_exact": asked.users_exact,
        "time_ms": asked.time_ms,
        "degree_min": asked.degree_min,
        "proofs": asked.proofs_max,
        "limit": asked.results_max,
    }


def _tweet_terms(asked: SecondDegreeRequest) -> dict[str, Any]:
    """The terms of counts over tweets."""
    return _shared_terms(asked, asked.query_user_id, TYPE_NAMES) | {
        "unions": ["|".join(type_names(union)) for union in asked.type_unions],
        "tweet_age_s": asked.tweet_age_ms_max / 1000.0,
        "engagement_age_s": asked.engagement_age_ms_max / 1000.0,
        "exclude": id_strings(asked.exclude_tweet_ids),
        "exclude_authors": id_strings(asked.exclude_author_ids),
        "authors": id_strings(asked.author_ids),
    }


class SecondDegreeQuery(msgspec.Struct, frozen=True):
    """Tweets: ``engine.interaction_graph.second_degree``."""

    name: ClassVar[str] = "second-degree"
    request: SecondDegreeRequest
    followees_max: int

    def look(self, state: EngineState, scratch: Scratch) -> Callable[[], Answer]:
        graph = state.interaction_graph
        asked = msgspec.structs.replace(self.request, time_ms=age_time_ms(self.request.time_ms, graph))
        asked = _with_seeds(asked, asked.query_user_id, self.followees_max, state.social_graph)
        found = second_degree(graph, asked, scratch.walks)
        if not found.seeds:
            raise UnknownUserError(_UNKNOWN)

        def shape() -> Answer:
            stats = {"seeds": found.seeds, "edges_read": found.edges_read, "tweets": found.tweets}
            return Answer({"of": "tweets", **_tweet_terms(asked)}, self._results(asked, found), stats)

        return shape

    @staticmethod
    def _results(asked: SecondDegreeRequest, found: SecondDegreeResult) -> list[dict[str, Any]]:
        rows = []
        for i, tweet in enumerate(found.tweet_ids.tolist()):
            row = {"tweet_id": str(tweet), "score": float(found.scores[i]), "users": int(found.users[i])}
            if asked.proofs_max:
                n = found.proof_counts[i]
                row["proof"] = users_by_type(found.proof_user_ids[i, :n], found.proof_types[i, :n])
            rows.append(row)
        return rows


class SecondDegreeUsersQuery(msgspec.Struct, frozen=True):
    """Users: ``engine.interaction_graph.second_degree_users``. The query user, and whom they follow, are left out."""

    name: ClassVar[str] = "second-degree"
    request: UsersRequest
    followees_max: int
    query_user_id: int = 0

    def look(self, state: EngineState, scratch: Scratch) -> Callable[[], Answer]:
        graph, user_id = state.user_graph, self.query_user_id
        asked = msgspec.structs.replace(self.request, time_ms=age_time_ms(self.request.time_ms, graph))
        asked = _with_seeds(asked, user_id, self.followees_max, state.social_graph)
        left_out = asked.exclude_user_ids
        if user_id:
            followed = state.social_graph.followees(user_id, FOLLOWED_MAX)
            left_out = np.concatenate([left_out, followed, np.array([user_id], np.uint64)])
        found = second_degree_users(graph, msgspec.structs.replace(asked, exclude_user_ids=left_out), scratch.walks)
        if not found.seeds:
            raise UnknownUserError(_UNKNOWN)

        def shape() -> Answer:
            stats = {"seeds": found.seeds, "edges_read": found.edges_read, "users": found.counted}
            return Answer(self._terms(asked), self._results(asked, found), stats)

        return shape

    def _terms(self, asked: UsersRequest) -> dict[str, Any]:
        return {
            "of": "users",
            **_shared_terms(asked, self.query_user_id, USER_TYPE_NAMES),
            "engagement_age_s": asked.edge_age_ms_max / 1000.0,
            "exclude": id_strings(asked.exclude_user_ids),
        }

    @staticmethod
    def _results(asked: UsersRequest, found: UsersResult) -> list[dict[str, Any]]:
        rows = []
        for i, user in enumerate(found.user_ids.tolist()):
            row = {"user_id": str(user), "score": float(found.scores[i]), "users": int(found.users[i])}
            if asked.proofs_max:
                n = found.proof_counts[i]
                row["proof"] = users_by_type(found.proof_user_ids[i, :n], found.proof_types[i, :n], USER_TYPE_NAMES)
            rows.append(row)
        return rows


class SecondDegreeEntitiesQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Hashtags or URLs: ``engine.interaction_graph.second_degree_entities``."""

    name: ClassVar[str] = "second-degree"
    request: SecondDegreeRequest
    followees_max: int
    entity_type: EntityType
    tweets_per_proof_max: int

    def look(self, state: EngineState, scratch: Scratch) -> Callable[[], Answer]:
        graph = state.interaction_graph
        asked = msgspec.structs.replace(self.request, time_ms=age_time_ms(self.request.time_ms, graph))
        asked = _with_seeds(asked, asked.query_user_id, self.followees_max, state.social_graph)
        buffers = (scratch.walks, scratch.entities)
        found = second_degree_entities(
            graph, state.entity_graph, asked, self.entity_type, self.tweets_per_proof_max, buffers
        )
        if not found.seeds:
            raise UnknownUserError(_UNKNOWN)
        names = state.entity_names.names_of(found.hashes)

        def shape() -> Answer:
            stats = {
                "seeds": found.seeds,
                "edges_read": found.edges_read,
                "tweets": found.tweets_counted,
                "entities": found.entities,
            }
            return Answer(self._terms(asked), self._results(asked, found, names), stats)

        return shape

    def _terms(self, asked: SecondDegreeRequest) -> dict[str, Any]:
        of = f"{self.entity_type.name.lower()}s"
        return {"of": of, **_tweet_terms(asked), "proof_tweets": self.tweets_per_proof_max}

    def _results(
        self, asked: SecondDegreeRequest, found: EntitiesResult, names: list[str | None]
    ) -> list[dict[str, Any]]:
        rows = []
        for i, (name, name_hash) in enumerate(zip(names, found.hashes.tolist(), strict=True)):
            row: dict[str, Any] = {
                self.entity_type.name.lower(): name,
                "hash": str(name_hash),
                "score": float(found.scores[i]),
                "users": int(found.users[i]),
                "tweets": int(found.tweets[i]),
            }
            if asked.proofs_max:
                row["proof"] = self._proof(found, i)
            rows.append(row)
        return rows

    @staticmethod
    def _proof(found: EntitiesResult, i: int) -> dict[str, list[dict[str, Any]]]:
        """One result's proofs: users and their tweets by edge type."""
        proof: dict[str, list[dict[str, Any]]] = {}
        columns = (found.proof_user_ids[i].tolist(), found.proof_types[i].tolist(), found.proof_tweet_ids[i].tolist())
        for user, code, tweets in list(zip(*columns, strict=True))[: found.proof_counts[i]]:
            ids = [str(tweet) for tweet in tweets if tweet]
            proof.setdefault(TYPE_NAMES[code], []).append({"user_id": str(user), "tweet_ids": ids})
        return proof
