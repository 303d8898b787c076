"""Hydrators: what the rooms know of the candidates, gathered at one state version."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.blend_learner import BlendLearner
from engine.half_life_blend import FAMILIES, HALF_LIVES_MS, BlendRequest, components
from engine.home_mixer.sources import PUBLIC_ACTS
from engine.interaction_graph.queries import social_proof
from engine.interaction_graph.state import InteractionGraph
from engine.models.state import Models
from engine.pipeline.candidates import Candidates
from engine.pipeline.components import Query
from engine.signals.state import Signals
from engine.social_graph.state import Relation, SocialGraph
from engine.state import EngineState
from engine.tweet_store.state import TweetStore

Columns = dict[str, NDArray[Any]]
#: Columns of ``TimeAware``, which are names of score parts too.
FAMILY_COLUMNS = tuple(family.replace(" ", "_") for family in FAMILIES)


class _Safety:
    """A hydrator whose columns decide what may be shown."""

    safety = True

    def defaults(self, count: int) -> Columns:
        raise AssertionError("a safety hydrator has no defaults")


class LogGap:
    """Tells the query how many of the log's records were lost before this state could apply them."""

    name = "log_gap"

    def __init__(self, state: EngineState) -> None:
        self._state = state

    def hydrate(self, query: Query) -> None:
        """See ``QueryHydrator``."""
        query.facts["gap_records"] = self._state.gap_records


class ModelVersions:
    """Tells the query which versions of the models that came through the log are in force."""

    name = "model_versions"

    def __init__(self, models: Models) -> None:
        self._models = models

    def hydrate(self, query: Query) -> None:
        """See ``QueryHydrator``."""
        query.models = self._models.versions()


class Tweets(_Safety):
    """Content and counters of each candidate, and the author of the tweet that a retweet carries."""

    name = "tweets"

    def __init__(self, tweet_store: TweetStore) -> None:
        self.tweet_store = tweet_store

    def hydrate(self, query: Query, candidates: Candidates) -> Columns:
        store = self.tweet_store
        slots = store.lookup(candidates.tweet_id)
        tweets = store.columns(slots)
        retweet = tweets.retweeted_id != 0
        originals = store.columns(store.lookup(np.where(retweet, tweets.retweeted_id, candidates.tweet_id)))
        query.text, text_start, text_bytes = store.texts(slots)
        return {
            "servable": tweets.servable,
            "author_id": tweets.author_id,
            "created_ms": tweets.created_ms,
            "original_id": np.where(retweet, tweets.retweeted_id, candidates.tweet_id),
            "original_author_id": np.where(retweet, originals.author_id, tweets.author_id),
            "text_start": text_start,
            "text_bytes": text_bytes,
            "totals": tweets.totals,
        }


class Relations(_Safety):
    """Follow, block and mute between viewer and author, and between viewer and a retweet's original author."""

    name = "relations"

    def __init__(self, social_graph: SocialGraph) -> None:
        self.social_graph = social_graph

    def hydrate(self, query: Query, candidates: Candidates) -> Columns:
        viewer = query.request.viewer_id
        relation = self.social_graph.relation(viewer, _ids(candidates, "author_id"))
        return {
            "relation": relation,
            "original_relation": self.social_graph.relation(viewer, _ids(candidates, "original_author_id")),
            "in_network": (relation & np.uint8(Relation.FOLLOWS)) != 0,
        }


class ViewerFlags(_Safety):
    """What the viewer did with each candidate and its author: seen, served, engaged, rejected."""

    name = "viewer_flags"

    def __init__(self, signals: Signals) -> None:
        self.signals = signals

    def hydrate(self, query: Query, candidates: Candidates) -> Columns:
        flags = self.signals.flags(
            query.request.viewer_id, candidates.tweet_id, _ids(candidates, "original_author_id"), query.request.time_ms
        )
        return {"viewer_flags": flags}


class TimeAware:
    """Each family's time-aware score (walks, popularity), blended over its half-lives by the weights learnt so far.

    Fails open: what is left then is recency, related tweets and social proof.
    """

    name = "time_aware"
    safety = False

    def __init__(self, graph: InteractionGraph, learner: BlendLearner, walks: int) -> None:
        self.graph = graph
        self.learner = learner
        self.walks = walks

    def hydrate(self, query: Query, candidates: Candidates) -> Columns:
        request = query.request
        order = np.argsort(candidates.tweet_id)
        parts = components(
            self.graph,
            candidates.tweet_id[order],
            BlendRequest(request.viewer_id, request.time_ms, self.walks, request.seed),
            query.scratch.blend,
        )
        weighted = (parts * self.learner.weights).reshape(len(order), len(FAMILIES), len(HALF_LIVES_MS)).sum(axis=2)
        columns = np.empty_like(weighted)
        columns[order] = weighted
        return {family: columns[:, i] for i, family in enumerate(FAMILY_COLUMNS)}

    def defaults(self, count: int) -> Columns:
        return {family: np.zeros(count) for family in FAMILY_COLUMNS}


class SocialProof:
    """Which followees publicly engaged with each candidate; fails open (the feed goes on without its faces)."""

    name = "social_proof"
    safety = False

    def __init__(self, graph: InteractionGraph, per_tweet_max: int) -> None:
        self.graph = graph
        self.per_tweet_max = per_tweet_max

    def hydrate(self, query: Query, candidates: Candidates) -> Columns:
        proof = social_proof(self.graph, candidates.tweet_id, query.followees, self.per_tweet_max, PUBLIC_ACTS)
        return {"proof_people": _distinct(proof.user_ids), "proof_users": proof.user_ids, "proof_types": proof.types}

    def defaults(self, count: int) -> Columns:
        return {
            "proof_people": np.zeros(count, np.int64),
            "proof_users": np.zeros((count, self.per_tweet_max), np.uint64),
            "proof_types": np.zeros((count, self.per_tweet_max), np.uint8),
        }


def _distinct(ids: NDArray[np.uint64]) -> NDArray[np.int64]:
    """How many different ids each row has, 0 left out: somebody who liked and retweeted is one person."""
    rows = np.sort(ids, axis=1)
    first = np.ones(rows.shape, bool)
    first[:, 1:] = rows[:, 1:] != rows[:, :-1]
    counts: NDArray[np.int64] = np.count_nonzero(first & (rows != 0), axis=1)
    return counts


def _ids(candidates: Candidates, column: str) -> NDArray[np.uint64]:
    return candidates.columns[column].astype(np.uint64, copy=False)
