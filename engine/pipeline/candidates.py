"""Candidates as columns: what sources found, what hydrators added to it, and why rows were dropped.

Fifteen hundred Python objects a request would cost more than everything that is computed about them, so a request's
candidates are one table of arrays; objects are made only for the entries that are served. A row is never moved: a
filter writes its code into ``dropped_by``, and ``rows`` lists the rows that are kept.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.feed import Dropped, SourceHit
from engine.pipeline import kernels
from engine.pipeline.scratch import Buffers

_NO_IDS = np.empty(0, np.uint64)
_NO_FEATURES = np.empty((0, 0), np.float32)

#: What a source found: its name, tweet ids (uint64) and raw scores (float64), best first.
Found = tuple[str, NDArray[np.uint64], NDArray[np.float64]]


class Candidates:
    """n candidates, each tweet once, with the sources that brought it, hydrated columns and verdicts.

    Attributes:
        tweet_id: uint64 (n,), in the order in which sources first brought them.
        sources: names of the sources, in the order in which they ran (s); ``found``: how many tweets each gave.
        source_score: float64 (s, n), NaN where a source did not bring the candidate.
        source_rank: int32 (s, n), 0 for a source's best, −1 where it did not bring the candidate.
        columns: further arrays of length n by name, added by hydrators.
        dropped_by: int16 (n,), 0 where kept, else the number of a reason in ``reasons``, counted from 1.
        reasons: names of what may drop a row, in the order in which they were asked.
        rows: int32 (m,), the kept rows, ascending.
        kept_columns: further arrays of length m by name, aligned with ``rows``, added by enrichers.
        features: float32 (m, F), aligned with ``rows``; the pipeline's schema names its columns.
    """

    __slots__ = (
        "_of_kept",
        "columns",
        "dropped_by",
        "features",
        "found",
        "kept_columns",
        "reasons",
        "rows",
        "source_rank",
        "source_score",
        "sources",
        "tweet_id",
    )

    def __init__(
        self,
        tweet_id: NDArray[np.uint64],
        sources: tuple[str, ...],
        source_score: NDArray[np.float64],
        source_rank: NDArray[np.int32],
        found: tuple[int, ...],
    ) -> None:
        self.tweet_id = tweet_id
        self.sources = sources
        self.source_score = source_score
        self.source_rank = source_rank
        self.found = found
        self.columns: dict[str, NDArray[Any]] = {}
        self.dropped_by = np.zeros(len(tweet_id), np.int16)
        self.reasons: list[str] = []
        self.rows = np.arange(len(tweet_id), dtype=np.int32)
        self.kept_columns: dict[str, NDArray[Any]] = {}
        self._of_kept: dict[str, NDArray[Any]] = {}
        self.features: NDArray[np.float32] = _NO_FEATURES

    def __len__(self) -> int:
        return int(self.tweet_id.shape[0])

    @classmethod
    def merge(cls, found: Sequence[Found], buffers: Buffers) -> "Candidates":
        """One table from what each source found; its arrays are ``buffers``' own.

        A tweet that several sources brought is one candidate that remembers all of them; its place is that
        of the first source (the order of sources is their precedence).
        """
        if not found:
            return cls(_NO_IDS, (), np.empty((0, 0)), np.empty((0, 0), np.int32), ())
        names, ids, scores = zip(*found, strict=True)
        counts = tuple(map(len, ids))
        total = sum(len(own) for own in ids)
        tweet_id = buffers.take("candidates.tweet_id", np.uint64, total)
        score = buffers.at_least("candidates.source_score", np.float64, len(found) * total)
        rank = buffers.at_least("candidates.source_rank", np.int32, len(found) * total)
        cut = (
            buffers.at_least("candidates.table", np.int32, kernels.table_size(total)),
            buffers.at_least("candidates.rows", np.int32, total),
        )
        own = (np.concatenate(ids), np.concatenate(scores), np.array(counts, np.int64))
        n = int(kernels.merge_sources(*own, cut, tweet_id, score, rank))
        # Rows stand side by side, whatever n is: a part of a wider array would be of another type for kernels.
        score, rank = (array[: len(found) * n].reshape(len(found), n) for array in (score, rank))
        return cls(tweet_id[:n], names, score, rank, counts)

    def add(self, columns: Mapping[str, NDArray[Any]]) -> None:
        """Add hydrated columns; each must have one row a candidate and a new name."""
        n = len(self)
        for name, column in columns.items():
            assert len(column) == n, f"column {name}: {len(column)} rows for {n} candidates"
            assert name not in self.columns, f"column {name} is already there"
            self.columns[name] = column

    def of_kept(self, name: str) -> NDArray[Any]:
        """``tweet_id`` or a hydrated column of the kept rows only (m); made once after each ``settle``."""
        found = self._of_kept.get(name)
        if found is None:
            column = self.tweet_id if name == "tweet_id" else self.columns[name]
            found = self._of_kept[name] = column.take(self.rows)
        return found

    def add_kept(self, columns: Mapping[str, NDArray[Any]]) -> None:
        """Add columns of the kept rows; each must have one row a kept candidate and a new name."""
        for name, column in columns.items():
            assert len(column) == len(self.rows), f"column {name}: {len(column)} rows for {len(self.rows)} kept"
            assert name not in self.kept_columns, f"column {name} is already there"
            self.kept_columns[name] = column

    def code(self, reason: str) -> int:
        """The number that stands for a reason in ``dropped_by``: a new one at each call."""
        self.reasons.append(reason)
        return len(self.reasons)

    def codes(self, reasons: Sequence[str]) -> int:
        """``code`` of several reasons: the number of the first; the others' follow it."""
        self.reasons += reasons
        return len(self.reasons) - len(reasons) + 1

    def settle(self) -> NDArray[np.int64]:
        """Make ``rows`` the rows that nothing has dropped; returns how many rows each code dropped (0: kept).

        For the time before enrichment: afterwards ``rows`` stays, since other arrays are aligned with it.
        """
        assert not self.kept_columns, "enriched rows are dropped one by one, by drop_kept"
        rows, counts = np.empty(len(self) + 1, np.int32), np.zeros(len(self.reasons) + 1, np.int64)
        self.rows = rows[: int(kernels.settle(self.dropped_by, rows, counts))]
        self._of_kept = {}
        return counts

    def drop_kept(self, places: NDArray[Any], code: int) -> None:
        """Drop kept rows, given by their places in ``rows`` (indices or a mask), that nothing has dropped so far."""
        rows = self.rows[places]
        self.dropped_by[rows[self.dropped_by[rows] == 0]] = code

    def drop_others(self, places: NDArray[np.int32], code: int) -> int:
        """Drop all kept rows but those at these places, as ``drop_kept``; returns how many were dropped."""
        return int(kernels.drop_others(self.rows, places, self.dropped_by, code))

    def hits(self, row: int) -> tuple[SourceHit, ...]:
        """The sources that brought a row, with their score and rank."""
        return tuple(
            SourceHit(name, float(self.source_score[s, row]), int(self.source_rank[s, row]))
            for s, name in enumerate(self.sources)
            if self.source_rank[s, row] >= 0
        )

    def dropped(self) -> Iterator[Dropped]:
        """Every row that was dropped with its reason: by reason in the order in which they were asked, then by row."""
        rows = np.flatnonzero(self.dropped_by)
        for row in rows[np.argsort(self.dropped_by[rows], kind="stable")].tolist():
            brought = tuple(name for s, name in enumerate(self.sources) if self.source_rank[s, row] >= 0)
            yield Dropped(int(self.tweet_id[row]), self.reasons[self.dropped_by[row] - 1], brought)
