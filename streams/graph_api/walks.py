"""The queries of the interaction graph that a server answers: what each looks up, and how its results read in JSON."""

from collections.abc import Callable
from typing import Any, ClassVar

import msgspec
import numpy as np

from engine.interaction_graph.arrays import ALL_TYPES
from engine.interaction_graph.queries import social_proof
from engine.interaction_graph.salsa import SalsaRequest, SalsaResult, salsa
from engine.interaction_graph.subgraph_salsa import SubgraphRequest, salsa_on_subgraph
from engine.pipeline.scratch import Scratch
from engine.state import EngineState
from streams.graph_api.answers import (
    TYPE_NAMES,
    UnknownTweetError,
    UnknownUserError,
    age_time_ms,
    id_array,
    id_strings,
    type_names,
    users_by_type,
    weights_by_id,
)
from streams.reading.graph_queries import Answer


class SalsaQuery(msgspec.Struct, frozen=True):
    """Walks: ``engine.interaction_graph.salsa``."""

    name: ClassVar[str] = "salsa"
    request: SalsaRequest

    def look(self, state: EngineState, scratch: Scratch) -> Callable[[], Answer]:
        graph = state.interaction_graph
        asked = msgspec.structs.replace(self.request, time_ms=age_time_ms(self.request.time_ms, graph))
        found = salsa(graph, asked, scratch.walks)
        if not found.stats.seed_nodes:
            raise UnknownUserError("neither the user nor any seed has an edge in the window")
        return lambda: Answer(self._terms(asked), self._results(asked, found), found.stats._asdict())

    @staticmethod
    def _terms(asked: SalsaRequest) -> dict[str, Any]:
        return {
            "user": str(asked.query_user_id),
            "seeds": weights_by_id(asked.seed_user_ids, asked.seed_weights),
            "walks": asked.walks,
            "length": asked.length,
            "reset": asked.reset,
            "query_weight": asked.query_weight_fraction,
            "types": type_names(asked.edge_types),
            "half_life_s": [half_life_ms / 1000.0 for half_life_ms in asked.half_lives_ms],
            "blend": list(asked.blend),
            "time_ms": asked.time_ms,
            "proofs": asked.social_proofs_max,
            "proof_types": type_names(asked.social_proof_types),
            "limit": asked.results_max,
            "seed": str(asked.seed),
        }

    @staticmethod
    def _results(asked: SalsaRequest, found: SalsaResult) -> list[dict[str, Any]]:
        rows = []
        for i, tweet in enumerate(found.tweet_ids.tolist()):
            row: dict[str, Any] = {
                "tweet_id": str(tweet),
                "score": float(found.scores[i]),
                "visits": int(found.visits[i]),
            }
            if asked.half_lives_ms:
                row["timed_scores"] = found.timed_scores[i].tolist()
            if asked.social_proofs_max:
                n = found.proof_counts[i]
                row["proof"] = users_by_type(found.proof_user_ids[i, :n], found.proof_types[i, :n])
            rows.append(row)
        return rows


class SubgraphQuery(msgspec.Struct, frozen=True):
    """Propagation among the seeds' own edges: ``engine.interaction_graph.subgraph_salsa``."""

    name: ClassVar[str] = "salsa"
    request: SubgraphRequest

    def look(self, state: EngineState, scratch: Scratch) -> Callable[[], Answer]:
        found = salsa_on_subgraph(state.interaction_graph, self.request, scratch.walks)
        if not found.seeds:
            raise UnknownUserError("neither the user nor any seed has an edge in the window")

        def shape() -> Answer:
            results = [
                {"tweet_id": str(tweet), "score": score, "subgraph_degree": degree}
                for tweet, score, degree in zip(
                    found.tweet_ids.tolist(), found.scores.tolist(), found.degrees.tolist(), strict=True
                )
            ]
            return Answer(self._terms(), results, {"seeds": found.seeds, "edges": found.edges, "tweets": found.tweets})

        return shape

    def _terms(self) -> dict[str, Any]:
        asked = self.request
        return {
            "subgraph": True,
            "user": str(asked.query_user_id),
            "seeds": weights_by_id(asked.seed_user_ids, asked.seed_weights),
            "walks": asked.walks,
            "length": asked.length,
            "reset": asked.reset,
            "query_weight": asked.query_weight_fraction,
            "types": type_names(asked.edge_types),
            "limit": asked.results_max,
            "seed": str(asked.seed),
        }


class ProofQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Who engaged with given tweets: ``engine.interaction_graph.queries.social_proof``.

    People are ``user_ids``, or the newest ``followees_max`` followees of ``user_id`` (0 = nobody's).
    """

    name: ClassVar[str] = "proof"
    tweet_ids: tuple[int, ...]
    user_ids: tuple[int, ...] = ()
    user_id: int = 0
    followees_max: int = 1000
    proofs_max: int = 10
    edge_types: int = ALL_TYPES

    def look(self, state: EngineState, scratch: Scratch) -> Callable[[], Answer]:
        people = id_array(self.user_ids)
        if self.user_id:
            people = state.social_graph.followees(self.user_id, self.followees_max)
        tweets = id_array(self.tweet_ids)
        proof = social_proof(state.interaction_graph, tweets, people, self.proofs_max, self.edge_types)

        def row(i: int) -> dict[str, Any]:
            by_type: dict[str, list[dict[str, Any]]] = {}
            found = zip(proof.user_ids[i].tolist(), proof.types[i].tolist(), proof.times_ms[i].tolist(), strict=True)
            for user, code, time_ms in list(found)[: proof.counts[i]]:
                by_type.setdefault(TYPE_NAMES[code], []).append({"user_id": str(user), "time_ms": time_ms})
            return {"tweet_id": str(self.tweet_ids[i]), "proof": by_type}

        def shape() -> Answer:
            results = [row(i) for i in range(len(self.tweet_ids))]
            return Answer(self._terms(), results, {"users": len(people), "proofs": int(proof.counts.sum())})

        return shape

    def _terms(self) -> dict[str, Any]:
        return {
            "tweets": id_strings(id_array(self.tweet_ids)),
            "users": id_strings(id_array(self.user_ids)),
            "user": str(self.user_id),
            "types": type_names(self.edge_types),
            "proofs": self.proofs_max,
        }


class NeighboursQuery(msgspec.Struct, frozen=True, kw_only=True):
    """A user's or a tweet's edges of wanted types, newest first; one of the two ids is 0."""

    name: ClassVar[str] = "neighbours"
    user_id: int = 0
    tweet_id: int = 0
    edge_types: int = ALL_TYPES
    limit: int = 20

    def look(self, state: EngineState, scratch: Scratch) -> Callable[[], Answer]:
        graph = state.interaction_graph
        if self.user_id:
            degree = graph.user_degree(self.user_id)
            ids, types, times_ms = graph.neighbors_of_user(self.user_id, degree)
        else:
            degree = graph.tweet_degree(self.tweet_id)
            ids, types, times_ms = graph.neighbors_of_tweet(self.tweet_id, degree)
        if not degree:
            error = UnknownUserError if self.user_id else UnknownTweetError
            raise error(f"{self.user_id or self.tweet_id} has no edge in the window")

        def shape() -> Answer:
            wanted = np.flatnonzero((self.edge_types >> types.astype(np.int64)) & 1)
            rows = wanted[: self.limit]
            other = "tweet_id" if self.user_id else "user_id"
            results = [
                {other: str(node), "type": TYPE_NAMES[code], "time_ms": time_ms}
                for node, code, time_ms in zip(
                    ids[rows].tolist(), types[rows].tolist(), times_ms[rows].tolist(), strict=True
                )
            ]
            return Answer(self._terms(), results, {"degree": degree, "degree_of_types": len(wanted)})

        return shape

    def _terms(self) -> dict[str, Any]:
        asked = {"user": self.user_id} if self.user_id else {"tweet": self.tweet_id}
        return {
            **{side: str(node) for side, node in asked.items()},
            "types": type_names(self.edge_types),
            "limit": self.limit,
        }
