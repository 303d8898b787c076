"""Choosing and ordering the entries, and the last look at what was chosen."""

from collections.abc import Sequence
from typing import NamedTuple

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
        rows = candidates.rows
        return self.best(_Ranked.of(candidates, scores), np.arange(len(rows), dtype=np.int32), query.request.limit)

    def best(self, ranked: "_Ranked", places: NDArray[np.int32], limit: int) -> NDArray[np.int32]:
        """The best of these places of kept candidates, at most ``limit``, in feed order."""
        p = len(places)
        chosen = np.empty(min(limit, p), np.int32)
        kernels.choose_spaced(*ranked, places, self.gap, (np.empty(p, np.int32), np.empty(p, np.int32)), chosen)
        return chosen


class _Ranked(NamedTuple):
    """What decides the order of the kept candidates: score (float64), tweet and author (uint64)."""

    total: NDArray[np.float64]
    ids: NDArray[np.uint64]
    authors: NDArray[np.uint64]

    @classmethod
    def of(cls, candidates: Candidates, scores: Scores) -> "_Ranked":
        rows = candidates.rows
        return cls(scores.total, candidates.tweet_id[rows], candidates.columns["author_id"][rows])


class WithRoots(BestSpaced):
    """As ``BestSpaced``; but an answer to a stranger is chosen only if the root of its conversation is chosen too, or
    was on an earlier page: without the root, nobody could tell what the answer is about."""

    #: The reason of answers whose root is no candidate.
    reason = "reply_without_root"
    #: How often chosen answers without a chosen root are replaced; after that, no answer to a stranger is chosen.
    _ROUNDS = 3

    def select(self, query: Query, candidates: Candidates, scores: Scores) -> NDArray[np.int32]:
        """See ``Selector``."""
        rows, limit = candidates.rows, query.request.limit
        places = np.arange(len(rows), dtype=np.int32)
        answers = candidates.columns["answers_stranger"][rows] != 0
        ranked = _Ranked.of(candidates, scores)
        if not answers.any():
            return self.best(ranked, places, limit)
        root, original = candidates.columns["root_id"][rows], candidates.columns["original_id"][rows]
        shown, held_max = np.array(query.shown, np.uint64), len(rows) + len(query.shown)
        buffers = query.scratch.of(Buffers)
        held = buffers.take("with_roots.held", np.uint64, held_max)
        table = buffers.take("with_roots.table", np.int32, table_size(held_max))

        def rootless(some: NDArray[np.int32]) -> NDArray[np.int32]:
            out = np.empty(len(some), np.int32)
            return out[: int(kernels.rootless(answers, root, original, some, shown, held, table, out))]

        lost = rootless(places)
        candidates.drop_kept(lost, candidates.code(self.reason))
        left = np.ones(len(rows), bool)
        left[lost] = False
        for _ in range(self._ROUNDS):
            chosen = self.best(ranked, places[left], limit)
            early = rootless(chosen)
            if not len(early):
                return chosen
            left[early] = False
        return self.best(ranked, places[left & ~answers], limit)


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
