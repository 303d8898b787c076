"""The kinds of component. A component's ``name`` is its metric label and its name in explanations.

Sources and hydrators read state and run while the read lock is held; filters, scorers and the selector see
only what was gathered, and run after it was released (docs/architecture.md, invariant 2).
"""

from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from engine.feed import Request
from engine.pipeline.candidates import Candidates
from engine.pipeline.scratch import Scratch


class Query:
    """A request on its way through a pipeline, with what query hydrators learnt about the viewer.

    Attributes:
        request: as asked.
        scratch: the reader thread's own buffers.
        followees: uint64, newest first.
        facts: further facts about the viewer by name.
        models: versions in force of the models that came through the log, by name.
        offset: entries shown on earlier pages; ``shown``: their tweet ids where the cursor carries them (uint64).
        before: only what is older than this (created_ms, tweet_id), where the cursor says so.
        text: uint8, the candidates' texts end to end; columns ``text_start`` and ``text_bytes`` point into it.
    """

    __slots__ = ("before", "facts", "followees", "models", "offset", "request", "scratch", "shown", "text")

    def __init__(self, request: Request, scratch: Scratch) -> None:
        self.request = request
        self.scratch = scratch
        self.followees: NDArray[np.uint64] = np.empty(0, np.uint64)
        self.facts: dict[str, int] = {}
        self.models: dict[str, str] = {}
        self.offset = 0
        self.shown: NDArray[np.uint64] = np.empty(0, np.uint64)
        self.before: tuple[int, int] | None = None
        self.text: NDArray[np.uint8] = np.empty(0, np.uint8)


class QueryHydrator(Protocol):
    """Learns about the viewer before candidates are fetched; must not fail."""

    name: str

    def hydrate(self, query: Query) -> None:
        """Add facts to the query."""


class Source(Protocol):
    """Finds candidates. Fails open: an exception costs the request this source's candidates, no more."""

    name: str

    def enabled(self, query: Query, found: int) -> bool:
        """Whether to run, given the viewer and how many candidates earlier sources found."""

    def fetch(self, query: Query) -> tuple[NDArray[np.uint64], NDArray[np.float64]]:
        """Tweet ids and raw scores, best first."""


class Hydrator(Protocol):
    """Adds columns to the candidates. With ``safety``, its failure fails the request; else it is left out."""

    name: str
    safety: bool

    def hydrate(self, query: Query, candidates: Candidates) -> dict[str, NDArray[Any]]:
        """Columns with one row a candidate."""

    def defaults(self, count: int) -> dict[str, NDArray[Any]]:
        """The columns to go on with when ``hydrate`` failed (never asked of a safety hydrator)."""


class Filter(Protocol):
    """Drops candidates. A filter's failure always fails the request: what was not checked is not shown."""

    name: str

    def enabled(self, query: Query) -> bool:
        """Whether this filter applies to the request."""

    def keep(self, query: Query, candidates: Candidates) -> NDArray[np.bool_]:
        """True for the candidates that stay."""


class Scores(NamedTuple):
    """Weighted parts whose sum is the base score, and factors that multiply it; all float64 (n,)."""

    parts: dict[str, NDArray[np.float64]]
    factors: dict[str, NDArray[np.float64]]

    def total(self, count: int) -> NDArray[np.float64]:
        """Sum of parts times product of factors."""
        total = np.zeros(count)
        for part in self.parts.values():
            total = total + part
        for factor in self.factors.values():
            total = total * factor
        return total


class Scorer(Protocol):
    """Adds parts or factors to the scores; runs in order, and sees what earlier scorers added."""

    name: str

    def score(self, query: Query, candidates: Candidates, scores: Scores) -> None:
        """Add to ``scores``."""


class Selector(Protocol):
    """Chooses and orders the entries."""

    name: str

    def select(self, query: Query, candidates: Candidates, total: NDArray[np.float64]) -> NDArray[np.intp]:
        """Indices of the chosen candidates, in feed order; at most ``request.limit``."""
