"""Candidates as columns: what sources found, and what hydrators added to it.

Fifteen hundred Python objects a request would cost more than everything that is computed about them, so a
request's candidates are one table of arrays; objects are made only for the entries that are served.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.feed import SourceHit


class Candidates:
    """n candidates, each tweet once, with the sources that brought it and hydrated columns.

    Attributes:
        tweet_id: uint64 (n,), in the order in which sources first brought them.
        sources: names of the sources, in the order in which they ran (s).
        source_score: float64 (s, n), NaN where a source did not bring the candidate.
        source_rank: int32 (s, n), 0 for a source's best, −1 where it did not bring the candidate.
        columns: further arrays of length n by name, added by hydrators.
    """

    __slots__ = ("columns", "source_rank", "source_score", "sources", "tweet_id")

    def __init__(
        self,
        tweet_id: NDArray[np.uint64],
        sources: tuple[str, ...],
        source_score: NDArray[np.float64],
        source_rank: NDArray[np.int32],
        columns: dict[str, NDArray[Any]],
    ) -> None:
        self.tweet_id = tweet_id
        self.sources = sources
        self.source_score = source_score
        self.source_rank = source_rank
        self.columns = columns

    def __len__(self) -> int:
        return int(self.tweet_id.shape[0])

    @classmethod
    def merge(cls, found: Sequence[tuple[str, NDArray[np.uint64], NDArray[np.float64]]]) -> "Candidates":
        """One table from what each source found (name, tweet ids, scores; best first).

        A tweet that several sources brought is one candidate that remembers all of them; its place is that
        of the first source (the order of sources is their precedence).
        """
        names = tuple(name for name, _, _ in found)
        if not found:
            empty = np.empty((0, 0))
            return cls(np.empty(0, np.uint64), names, empty, empty.astype(np.int32), {})
        joined = np.concatenate([ids for _, ids, _ in found]).astype(np.uint64, copy=False)
        unique, first, inverse = np.unique(joined, return_index=True, return_inverse=True)
        by_arrival = np.argsort(first, kind="stable")
        place = np.empty_like(by_arrival)
        place[by_arrival] = np.arange(len(by_arrival))
        score = np.full((len(found), len(unique)), np.nan)
        rank = np.full((len(found), len(unique)), -1, np.int32)
        start = 0
        for row, (_, ids, scores) in enumerate(found):
            at = place[inverse[start : start + len(ids)]]
            # Written from worst to best, so that a tweet a source names twice keeps its better rank.
            score[row, at[::-1]] = scores[::-1]
            rank[row, at[::-1]] = np.arange(len(ids), dtype=np.int32)[::-1]
            start += len(ids)
        return cls(unique[by_arrival], names, score, rank, {})

    def take(self, where: NDArray[np.bool_] | NDArray[np.intp]) -> "Candidates":
        """The candidates at a mask or at indices, with all their columns."""
        return Candidates(
            self.tweet_id[where],
            self.sources,
            self.source_score[:, where],
            self.source_rank[:, where],
            {name: column[where] for name, column in self.columns.items()},
        )

    def add(self, columns: Mapping[str, NDArray[Any]]) -> None:
        """Add hydrated columns; each must have one row a candidate and a new name."""
        for name, column in columns.items():
            assert len(column) == len(self), f"column {name}: {len(column)} rows for {len(self)} candidates"
            assert name not in self.columns, f"column {name} is already there"
            self.columns[name] = column

    def hits(self, i: int) -> tuple[SourceHit, ...]:
        """The sources that brought candidate ``i``, with their score and rank."""
        return tuple(
            SourceHit(name, float(self.source_score[s, i]), int(self.source_rank[s, i]))
            for s, name in enumerate(self.sources)
            if self.source_rank[s, i] >= 0
        )

    def brought_by(self, name: str) -> NDArray[np.float64]:
        """A source's scores, 0 where it did not bring the candidate (all 0 when it did not run)."""
        if name not in self.sources:
            return np.zeros(len(self))
        scores: NDArray[np.float64] = np.nan_to_num(self.source_score[self.sources.index(name)], nan=0.0)
        return scores
