"""The plain score blend: parts in 0..1 by their weights, then factors.

Time-aware and related scores are scaled by the request's own greatest, so scores rank one feed and are not
comparable between feeds.
"""

import numpy as np
from numpy.typing import NDArray

from engine.home_mixer.config import BlendConfig
from engine.home_mixer.hydrators import FAMILY_COLUMNS
from engine.home_mixer.sources import SEEDED_WALKS, RelatedToFavorites
from engine.pipeline.candidates import Candidates
from engine.pipeline.components import Query, Scores
from engine.signals.state import ViewerFlag


def _scaled(values: NDArray[np.float64]) -> NDArray[np.float64]:
    top = float(values.max(initial=0.0))
    return values / top if top > 0 else np.zeros(len(values))


class Blend:
    """Recency, the time-aware blend, related tweets and social proof; then out-of-network and feedback factors."""

    name = "blend"

    def __init__(self, config: BlendConfig) -> None:
        self.config = config

    def score(self, query: Query, candidates: Candidates, scores: Scores) -> None:
        config, columns = self.config, candidates.columns
        age_ms = np.maximum(query.request.time_ms - columns["created_ms"], 0).astype(np.float64)
        proof = np.minimum(columns["proof_people"].astype(np.float64) / config.social_proof_full, 1.0)
        time_aware = np.column_stack([columns[family] for family in FAMILY_COLUMNS])
        greatest = max(float(time_aware.sum(axis=1).max(initial=0.0)), np.finfo(np.float64).tiny)
        scores.parts["recency"] = config.recency * np.exp2(-age_ms / config.recency_half_life_ms)
        # Scaled together, so that what was learnt about their proportion stays.
        for i, family in enumerate(FAMILY_COLUMNS):
            scores.parts[family] = config.time_aware * time_aware[:, i] / greatest
        # Who has few engagements of their own has no walk of their own: what others' walks found counts then.
        seeded = np.maximum(*(candidates.brought_by(name) for name in SEEDED_WALKS))
        scores.parts["seeded_walk"] = config.seeded_walk * _scaled(seeded)
        scores.parts["related"] = config.related * _scaled(candidates.brought_by(RelatedToFavorites.name))
        scores.parts["social_proof"] = config.social_proof * proof
        scores.factors["out_of_network"] = np.where(columns["in_network"], 1.0, config.out_of_network_factor)
        disliked = (columns["viewer_flags"] & np.uint16(ViewerFlag.AUTHOR_NOT_INTERESTED)) != 0
        scores.factors["author_not_interested"] = np.where(disliked, config.author_not_interested_factor, 1.0)


class AuthorDiversity:
    """An author's i-th best tweet counts (1 − floor)·decay^i + floor (docs/feeds.md)."""

    name = "author_diversity"

    def __init__(self, config: BlendConfig) -> None:
        self.decay = config.author_diversity_decay
        self.floor = config.author_diversity_floor

    def score(self, query: Query, candidates: Candidates, scores: Scores) -> None:
        author = candidates.columns["author_id"]
        order = best_first(scores.total(len(candidates)), candidates.tweet_id)
        by_author = order[np.argsort(author[order], kind="stable")]
        sorted_author = author[by_author]
        starts = (
            np.flatnonzero(np.r_[True, sorted_author[1:] != sorted_author[:-1]]) if len(author) else np.empty(0, int)
        )
        sizes = np.diff(np.r_[starts, len(author)])
        i = np.empty(len(author), np.int64)
        i[by_author] = np.arange(len(author)) - np.repeat(starts, sizes)
        factor = (1.0 - self.floor) * self.decay**i + self.floor
        # Unknown authors (id 0) are not one author.
        scores.factors[self.name] = np.where(author == 0, 1.0, factor)


class Chronological:
    """Newest first: the score is the creation time."""

    name = "chronological"

    def score(self, query: Query, candidates: Candidates, scores: Scores) -> None:
        scores.parts["created_ms"] = candidates.columns["created_ms"].astype(np.float64)


def best_first(total: NDArray[np.float64], tweet_id: NDArray[np.uint64]) -> NDArray[np.intp]:
    """Indices by score descending; ties by id, newest (greatest) first: an order that never depends on arrival."""
    return np.lexsort((~tweet_id, -total))
