"""Enrichers: the features of the candidates that are left, and what an entry shows of them.

A group of features is one class: names, kinds and meanings beside the code that fills the columns. A product's matrix
is its groups side by side (products.py); docs/feeds.md lists them, and a test compares.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.batch import TweetFlag
from engine.blend_learner import BlendLearner
from engine.engagement_aggregates.arrays import Label, PairLabel
from engine.engagement_aggregates.state import EngagementAggregates
from engine.feed import Explain
from engine.half_life_blend import FAMILIES, HALF_LIVES_MS, BlendRequest, BlendScratch
from engine.home_mixer import feature_kernels, hydrate_kernels, kernels
from engine.home_mixer.hydrators import Columns, Safety
from engine.home_mixer.sources import PUBLIC_ACTS
from engine.interaction_graph.state import InteractionGraph
from engine.pipeline.candidates import Candidates
from engine.pipeline.components import Query
from engine.pipeline.features import Feature, FeatureKind
from engine.pipeline.kernels import source_features, table_size
from engine.pipeline.scratch import Buffers
from engine.signals.state import ViewerFlag
from engine.social_graph.state import Relation, SocialGraph
from engine.tweet_store.state import Counter, TweetStore

Matrix = NDArray[np.float32]
FLAG, COUNT, NUMBER, SHARE = FeatureKind.FLAG, FeatureKind.COUNT, FeatureKind.NUMBER, FeatureKind.SHARE

#: Raised when a feature comes to mean something else under the same name.
FEATURES_VERSION = 5
#: Features of ``TimeAware``, which are names of score parts too.
FAMILY_COLUMNS = tuple(family.replace(" ", "_") for family in FAMILIES)


class TweetContent(Safety):
    """Age and form of the tweet; the counters of its original, for which acts on a retweet count."""

    name = "tweet_content"
    features: tuple[Feature, ...] = (
        Feature("age_h", NUMBER, "hours from the tweet's creation to the end of the viewer's hour, at least 0"),
        *(
            Feature(f"is_{flag.name.lower()}", FLAG, f"the tweet is a {flag.name.lower()}")
            for flag in list(TweetFlag)[:3]
        ),
        *(
            Feature(f"has_{flag.name.lower()}", FLAG, f"the tweet has a {flag.name.lower()}")
            for flag in list(TweetFlag)[3:]
        ),
        *(
            Feature(f"total_{c.name.lower()}", COUNT, f"counter {c.name.lower()} of the tweet, a retweet's original")
            for c in Counter
        ),
    )

    def __init__(self, tweet_store: TweetStore) -> None:
        self.tweet_store = tweet_store

    def enrich(self, query: Query, candidates: Candidates, matrix: Matrix, at: int) -> Columns:
        """See ``Enricher``."""
        names = ("slot", "original_slot", "created_ms")
        columns = tuple(candidates.columns[name] for name in names)
        hydrate_kernels.tweet_features(self.tweet_store.tweets, columns, candidates.rows, query.ranked_ms, matrix, at)
        return {}


class Plain:
    """An enricher that fails open and adds no columns."""

    safety = False

    def defaults(self, count: int) -> Columns:
        """See ``Enricher``."""
        return {}


class Relationship(Plain):
    """What the author is to the viewer."""

    name = "relationship"
    features: tuple[Feature, ...] = (
        Feature("in_network", FLAG, "the viewer follows the author"),
        Feature("followed_by", FLAG, "the author follows the viewer"),
        Feature(
            "author_not_interested",
            FLAG,
            "the viewer was not interested in a tweet of the author in the last 14 days",
        ),
    )

    _BITS = (Relation.FOLLOWS.value, Relation.FOLLOWED_BY.value, ViewerFlag.AUTHOR_NOT_INTERESTED.value)

    def enrich(self, query: Query, candidates: Candidates, matrix: Matrix, at: int) -> Columns:
        """See ``Enricher``."""
        rows, columns = candidates.rows, candidates.columns
        kernels.bond_features(rows, columns["relation"], columns["viewer_flags"], self._BITS, matrix, at)
        return {}


class SourceRanks(Plain):
    """What each source made of the candidate."""

    name = "source_ranks"

    def __init__(self, sources: tuple[str, ...]) -> None:
        self._pair = {name: pair for pair, name in enumerate(sources)}
        self.features = tuple(
            feature
            for name in sources
            for feature in (
                Feature(f"{name}_score", NUMBER, f"raw score of the source {name}, 0 where it did not bring the tweet"),
                Feature(f"{name}_place", SHARE, f"1 / (1 + rank) in the source {name}, 0 where it did not bring it"),
            )
        )

    def enrich(self, query: Query, candidates: Candidates, matrix: Matrix, at: int) -> Columns:
        """See ``Enricher``."""
        where = np.array([self._pair[name] for name in candidates.sources], np.int64)
        ranks, pairs = candidates.source_rank, len(self._pair)
        source_features(candidates.source_score, ranks, candidates.rows, where, pairs, matrix, at)
        return {}


class TimeAware(Plain):
    """Each family's time-aware score (walks, popularity) of a candidate's original, blended over its half-lives by the
    weights learnt so far.

    What is left when it fails is recency, related tweets and social proof.
    """

    name = "time_aware"
    features: tuple[Feature, ...] = tuple(
        Feature(column, SHARE, f"{family}, over its half-lives by the weights learnt so far")
        for column, family in zip(FAMILY_COLUMNS, FAMILIES, strict=True)
    )

    def __init__(self, graph: InteractionGraph, learner: BlendLearner, walks: int) -> None:
        self.graph = graph
        self.learner = learner
        self.walks = walks

    def enrich(self, query: Query, candidates: Candidates, matrix: Matrix, at: int) -> Columns:
        """See ``Enricher``."""
        request, scratch = query.request, query.scratch.of(BlendScratch)
        rows, buffers = candidates.rows, query.scratch.of(Buffers)
        asked = BlendRequest(request.viewer_id, query.ranked_ms, self.walks, request.seed, groups=1)
        terms = scratch.terms(self.graph, asked, len(rows))
        ids = buffers.at_least("time_aware.ids", np.uint64, len(rows))
        parts = buffers.take("time_aware", np.float64, len(rows), len(FAMILIES) * len(HALF_LIVES_MS))
        originals, learnt = candidates.columns["original_id"], self.learner.weights
        feature_kernels.time_aware(*terms, (originals, rows, ids), parts, learnt, matrix, at)
        return {}


class Engagement(Plain):
    """How much people engage with the author, a retweet's original one, and what the viewer did with that author."""

    name = "engagement"
    features: tuple[Feature, ...] = (
        Feature("author_favorites", NUMBER, "favorites of the author's tweets, decayed by the long half-life"),
        Feature("viewer_author_favorites", NUMBER, "the viewer's favorites of the author's tweets, decayed alike"),
        Feature("viewer_author_negatives", NUMBER, "the viewer's negative acts about the author, decayed alike"),
    )

    _LABELS = np.array([Label.FAVORITE, PairLabel.FAVORITE, PairLabel.NEGATIVE], np.int64)

    def __init__(self, aggregates: EngagementAggregates) -> None:
        self.aggregates = aggregates

    def enrich(self, query: Query, candidates: Candidates, matrix: Matrix, at: int) -> Columns:
        """See ``Enricher``."""
        request, authors = query.request, candidates.columns["original_author_id"]
        rows, labels = candidates.rows, self._LABELS
        self.aggregates.features(request.viewer_id, authors, rows, request.time_ms, labels, matrix, at)
        return {}


class FollowedBy(Plain):
    """Which followees follow the author whom the viewer does not follow (of a retweet the original's), strongest ties
    first: only where the feed explains its entries. Fails open."""

    name = "followed_by"
    features: tuple[Feature, ...] = ()

    def __init__(self, social_graph: SocialGraph, per_tweet_max: int) -> None:
        self.social_graph = social_graph
        self.per_tweet_max = per_tweet_max

    def enrich(self, query: Query, candidates: Candidates, matrix: Matrix, at: int) -> Columns:
        """See ``Enricher``."""
        if query.request.explain is Explain.NONE:
            return {}
        rows, columns = candidates.rows, candidates.columns
        strangers = columns["relation"][rows] & np.uint8(Relation.FOLLOWS) == 0
        authors = np.where(strangers, columns["original_author_id"][rows], np.uint64(0))
        named, _ = self.social_graph.followed_by(query.nameable, authors, self.per_tweet_max)
        return {"followed_by": named}

    def defaults(self, count: int) -> Columns:
        """See ``Enricher``."""
        return {"followed_by": np.zeros((count, self.per_tweet_max), np.uint64)}


class SocialProof:
    """Which followees publicly engaged with each candidate's original; fails open (the feed goes on without faces)."""

    name = "social_proof"
    safety = False
    features: tuple[Feature, ...] = (
        Feature("proof_people", COUNT, "followees who publicly engaged with the tweet, of the newest acts kept"),
        Feature("proof_acts", COUNT, "their public acts on it, of the newest kept"),
        Feature("proof_weight", NUMBER, "what these followees weigh together, each 1 + 1.97 · strength of the tie"),
    )

    def __init__(self, graph: InteractionGraph, per_tweet_max: int) -> None:
        self.graph = graph
        self.per_tweet_max = per_tweet_max

    def enrich(self, query: Query, candidates: Candidates, matrix: Matrix, at: int) -> Columns:
        """See ``Enricher``."""
        buffers, rows, k = query.scratch.of(Buffers), candidates.rows, self.per_tweet_max
        order = np.argsort(query.nameable, kind="stable")
        people, weights = query.nameable[order], query.tie_weights[order]
        m, n = len(rows), len(rows) + len(people)
        explains = query.request.explain is not Explain.NONE
        users = np.zeros((m, k), np.uint64) if explains else buffers.take("proof.users", np.uint64, m, k)
        types = np.zeros((m, k), np.uint8) if explains else buffers.take("proof.types", np.uint8, m, k)
        feature_kernels.social_proof(
            self.graph.read_arrays,
            (candidates.columns["original_id"], rows, people, weights),
            np.int64(PUBLIC_ACTS),
            (
                buffers.at_least("proof.ids", np.uint64, m),
                buffers.at_least("proof.table", np.int64, 2 * table_size(n)),
                buffers.at_least("proof.nodes", np.int64, n),
            ),
            (buffers.at_least("proof.counts", np.int32, m), users, types, buffers.take("proof.times", np.int64, m, k)),
            matrix,
            at,
        )
        # Who they are is read only where the feed explains its entries.
        return {"proof_users": users, "proof_types": types} if explains else {}

    def defaults(self, count: int) -> dict[str, NDArray[Any]]:
        """See ``Enricher``."""
        return {
            "proof_users": np.zeros((count, self.per_tweet_max), np.uint64),
            "proof_types": np.zeros((count, self.per_tweet_max), np.uint8),
        }
