"""Ranks people by where they come from, lets wait who was suggested before, and looks at the chosen once more."""

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.pipeline.candidates import Candidates
from engine.pipeline.components import Query, Scores
from engine.social_graph.state import Relation
from engine.who_to_follow.config import FatigueConfig, SourceWeights
from engine.who_to_follow.hydrators import Away

#: By this rank a source's person is worth half of its best.
HALF_AT = 10.0


class BySources:
    """Scorer: of each source that brought a person, its weight · 10 / (10 + rank)."""

    name = "by_sources"

    def __init__(self, weights: SourceWeights) -> None:
        self.weights = msgspec.structs.asdict(weights)

    def score(self, query: Query, candidates: Candidates, scores: Scores) -> None:
        """See ``Scorer``."""
        ranks = candidates.source_rank[:, candidates.rows]
        weights = np.array([self.weights[name] for name in candidates.sources]).reshape(-1, 1)
        values = np.where(ranks >= 0, weights * HALF_AT / (HALF_AT + np.maximum(ranks, 0)), 0.0)
        scores.add(candidates.sources, np.ascontiguousarray(values))


class Rested:
    """Selector: best first (ties: the smaller id); but each time that somebody was suggested before moves the person
    down by so many places."""

    name = "not_selected"

    def __init__(self, config: FatigueConfig) -> None:
        self.config = config

    def select(self, query: Query, candidates: Candidates, scores: Scores) -> NDArray[np.int32]:
        """See ``Selector``."""
        rows = candidates.rows
        order = np.lexsort((candidates.tweet_id[rows], -scores.total))
        places = np.arange(len(rows)) + self.config.places_each * candidates.columns["shown"][rows[order]]
        return order[np.argsort(places, kind="stable")][: query.request.limit].astype(np.int32)


class StillAway:
    """Verifier: nothing keeps the chosen people away from the viewer. Plain Python, so that a fault in a kernel does
    not let the same fault pass twice."""

    name = "unsafe"
    _FORBIDDEN = int(~Relation.FOLLOWED_BY) & 0xFF
    _AWAY = int(Away.OWN | Away.FOLLOWED | Away.DISMISSED | Away.REPORTED)

    def safe(self, query: Query, candidates: Candidates, rows: NDArray[np.int32]) -> list[bool]:
        """See ``Verifier``."""
        columns, viewer = candidates.columns, query.request.viewer_id
        seen = [columns[name].take(rows).tolist() for name in ("hidden", "relation", "away")]
        people, dropped_by = candidates.tweet_id.take(rows).tolist(), candidates.dropped_by.take(rows).tolist()
        return [
            person != viewer and not (hidden or relation & self._FORBIDDEN or away & self._AWAY or dropped)
            for person, hidden, relation, away, dropped in zip(people, *seen, dropped_by, strict=True)
        ]
