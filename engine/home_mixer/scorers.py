"""The plain score: parts in 0..1 by their weights, then factors; and the heuristics on top of it.

Time-aware and related scores are scaled by the request's own greatest, so scores rank one feed and are not
comparable between feeds.
"""

import numpy as np

from engine.home_mixer import kernels
from engine.home_mixer.config import BlendConfig
from engine.home_mixer.features import FAMILY_COLUMNS
from engine.home_mixer.hydrate_kernels import MS_PER_HOUR
from engine.home_mixer.sources import SEEDED_WALKS, Interests, RelatedToFavorites
from engine.pipeline.candidates import Candidates
from engine.pipeline.components import Query, Scores
from engine.pipeline.features import FeatureSchema
from engine.pipeline.kernels import table_size
from engine.pipeline.scratch import Buffers

PARTS = ("recency", *FAMILY_COLUMNS, "seeded_walk", "related", "social_proof", "interest")
FACTORS = ("out_of_network", "author_not_interested")
_FEATURES = (
    "age_h",
    *FAMILY_COLUMNS,
    *(f"{name}_score" for name in (*SEEDED_WALKS, RelatedToFavorites.name)),
    "proof_weight",
    "in_network",
    "author_not_interested",
    f"{Interests.name}_score",
)


class Blend:
    """Recency, the time-aware blend, related tweets and social proof; then out-of-network and feedback factors."""

    name = "blend"

    def __init__(self, config: BlendConfig, schema: FeatureSchema) -> None:
        self._columns = np.array([schema.column(name) for name in _FEATURES], np.int64)
        self._weights = np.array(
            [
                config.recency,
                config.recency_half_life_ms / MS_PER_HOUR,
                config.time_aware,
                config.seeded_walk,
                config.related,
                config.social_proof,
                config.social_proof_full,
                config.out_of_network_factor,
                config.author_not_interested_factor,
                config.interest,
            ],
            np.float64,
        )

    def score(self, query: Query, candidates: Candidates, scores: Scores) -> None:
        """See ``Scorer``."""
        m = len(candidates.rows)
        parts, factors = np.empty((len(PARTS), m)), np.empty((len(FACTORS), m))
        kernels.blend_parts(candidates.features, self._columns, self._weights, parts, factors)
        scores.add(PARTS, parts, FACTORS, factors)


class AuthorDiversity:
    """An author's i-th best tweet counts (1 − floor)·decay^i + floor (docs/feeds.md)."""

    name = "author_diversity"

    def __init__(self, config: BlendConfig) -> None:
        self.decay = config.author_diversity_decay
        self.floor = config.author_diversity_floor

    def score(self, query: Query, candidates: Candidates, scores: Scores) -> None:
        """See ``Scorer``."""
        m, buffers = len(candidates.rows), query.scratch.of(Buffers)
        cut = (
            buffers.at_least("author_diversity.worse", np.int32, m),
            buffers.at_least("author_diversity.places", np.int32, m),
            buffers.at_least("author_diversity.table", np.int32, table_size(m)),
        )
        out = np.empty((1, m))
        ids, authors = candidates.of_kept("tweet_id"), candidates.of_kept("author_id")
        kernels.author_diversity(scores.total, ids, authors, self.decay, self.floor, cut, out[0])
        scores.add(factors=(self.name,), factor_values=out)


class Chronological:
    """Newest first: the score is the creation time."""

    name = "chronological"

    def score(self, query: Query, candidates: Candidates, scores: Scores) -> None:
        """See ``Scorer``."""
        scores.add(("created_ms",), candidates.of_kept("created_ms").astype(np.float64)[None])
