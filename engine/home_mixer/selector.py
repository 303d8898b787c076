"""Choosing and ordering the entries, and the last look at what was chosen."""

import numpy as np
from numpy.typing import NDArray

from engine.home_mixer import kernels
from engine.pipeline.candidates import Candidates
from engine.pipeline.components import Query, Scores
from engine.pipeline.kernels import table_size
from engine.pipeline.scratch import Buffers
from engine.social_graph.state import Relation


class BestSpaced:
    """Best first, ties to the newest id, with no two tweets of an author within ``gap`` positions while others are
    left."""

    name = "not_selected"

    def __init__(self, gap: int) -> None:
        self.gap = gap

    def select(self, query: Query, candidates: Candidates, scores: Scores) -> NDArray[np.int32]:
        """See ``Selector``."""
        m = len(candidates.rows)
        ids, authors = candidates.of_kept("tweet_id"), candidates.of_kept("author_id")
        places, spare = np.arange(m, dtype=np.int32), (np.empty(m, np.int32), np.empty(m, np.int32))
        chosen = np.empty(min(query.request.limit, m), np.int32)
        kernels.choose_spaced(scores.total, ids, authors, places, self.gap, spare, chosen)
        return chosen


def stands_alone(candidates: Candidates) -> bool:
    """Whether any kept candidate can be chosen without another one: all but answers to strangers can."""
    rows, answers = candidates.rows, candidates.columns["answers_stranger"]
    if len(rows) and not answers[rows[0]]:
        return True  # as a rule
    return bool((answers[rows] == 0).any())


class WithRoots(BestSpaced):
    """As ``BestSpaced``; but an answer to a stranger is chosen only if the root of its conversation is chosen too, or
    was on an earlier page: without the root, nobody could tell what the answer is about."""

    #: The reason of answers whose root is no candidate.
    reason = "reply_without_root"

    def select(self, query: Query, candidates: Candidates, scores: Scores) -> NDArray[np.int32]:
        """See ``Selector``."""
        rows, columns, shown = candidates.rows, candidates.columns, query.shown
        m, size = len(rows), len(rows) + len(shown)
        buffers = query.scratch.of(Buffers)
        cut = (
            buffers.at_least("with_roots.ids", np.uint64, size, rows=5),
            buffers.at_least("with_roots.places", np.int32, size, rows=3),
            buffers.at_least("with_roots.marks", np.bool_, size, rows=2),
            buffers.at_least("with_roots.table", np.int32, table_size(size)),
        )
        names = ("author_id", "root_id", "original_id")
        about = (columns["answers_stranger"], candidates.tweet_id, *(columns[name] for name in names))
        lost = buffers.at_least("with_roots.lost", np.int32, m)
        chosen = np.empty(min(query.request.limit, m), np.int32)
        count, gone = kernels.choose_with_roots(scores.total, about, rows, shown, self.gap, cut, lost, chosen)
        code = candidates.code(self.reason)
        if gone:
            candidates.drop_kept(lost[:gone], code)
        return chosen[:count]


class StillSafe:
    """Verifier: nothing hides what was chosen, and no block or mute is between the viewer and any author of it, of its
    original, or of what they quote and answer.

    Plain Python over the few that were chosen, so that a fault in a kernel does not let the same fault pass twice.
    """

    name = "unsafe"
    _FORBIDDEN = int(Relation.BLOCKS | Relation.BLOCKED_BY | Relation.MUTES | Relation.MUTED_BY)

    def safe(self, query: Query, candidates: Candidates, rows: NDArray[np.int32]) -> list[bool]:
        """See ``Verifier``."""
        columns, dropped_by = candidates.columns, candidates.dropped_by
        seen = [columns[name].take(rows).tolist() for name in ("slot", "hidden", "related_relation")]
        return [
            slot >= 0 and not hidden and dropped == 0 and not relation & self._FORBIDDEN
            for slot, hidden, relation, dropped in zip(*seen, dropped_by.take(rows).tolist(), strict=True)
        ]
