"""Choosing and ordering the entries, and the last look at what was chosen."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engine.home_mixer import kernels
from engine.pipeline.candidates import Candidates
from engine.pipeline.components import Query, Scores
from engine.social_graph.state import Relation


class BestSpaced:
    """Best first, ties to the newest id, with no two tweets of an author within ``gap`` positions while others are
    left."""

    name = "not_selected"

    def __init__(self, gap: int) -> None:
        self.gap = gap

    def select(self, query: Query, candidates: Candidates, scores: Scores) -> NDArray[np.int32]:
        """See ``Selector``."""
        rows = candidates.rows
        m = len(rows)
        chosen = np.empty(min(query.request.limit, m), np.int32)
        cut = (np.empty(m, np.int32), np.empty(m, np.int32))
        ids, authors = candidates.tweet_id[rows], candidates.columns["author_id"][rows]
        kernels.choose_spaced(scores.total, ids, authors, self.gap, cut, chosen)
        return chosen


class StillSafe:
    """Verifier: nothing hides what was chosen, and no block or mute is between the viewer and any author of it, of its
    original, or of what they quote and answer.

    Plain Python over the few that were chosen, so that a fault in a kernel does not let the same fault pass twice.
    """

    name = "unsafe"
    _FORBIDDEN = int(Relation.BLOCKS | Relation.BLOCKED_BY | Relation.MUTES | Relation.MUTED_BY)

    def safe(self, query: Query, candidates: Candidates, rows: Sequence[int]) -> list[bool]:
        """See ``Verifier``."""
        columns, dropped_by = candidates.columns, candidates.dropped_by
        slot, hidden, relation = columns["slot"], columns["hidden"], columns["related_relation"]
        return [
            int(slot[row]) >= 0
            and not int(hidden[row])
            and dropped_by[row] == 0
            and not int(relation[row]) & self._FORBIDDEN
            for row in rows
        ]
