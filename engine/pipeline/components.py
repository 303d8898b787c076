"""The kinds of component. A component's ``name`` is its metric label and its name in explanations.

Query hydrators, sources, hydrators, filters, light rankers, enrichers and the reader of contents read state, while the
read lock is held. Scorers, the selector, verifiers and side effects see only what was gathered (docs/architecture.md,
invariant 2).
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from engine.feed import Entry, Feed, Request, Why, viewer_hour
from engine.pipeline import kernels
from engine.pipeline.candidates import Candidates
from engine.pipeline.features import Feature
from engine.pipeline.scratch import Scratch


class Content(Struct, frozen=True):
    """What an entry shows of its tweet. ``counts``: totals by kind of engagement."""

    text: str
    counts: dict[str, int]


class Query:
    """A request on its way through a pipeline, with what query hydrators learnt about the viewer.

    Attributes:
        request: as asked.
        ranked_ms: the time for which candidates are ranked: the end of the viewer's hour. Within the hour no order
            changes only because time passes.
        scratch: the reader thread's own buffers.
        followees: uint64, strongest tie first; ``nameable``: those of them who may be named to the viewer.
        tie_weights: float64, of ``nameable``: 1 for no tie to nearly 2.97 for the strongest.
        excluded: uint64, tweets that the request excludes, and their originals.
        interests: uint64, hashes of the hashtags and topics that the viewer wants to read about; ``languages``: uint16,
            codes of the viewer's languages, the first first.
        muted_retweeters: uint64, people whose retweets the viewer mutes.
        facts: further facts about the viewer by name.
        tier, tier_reason: how much is known of the viewer, and why it is that tier; empty where nobody asked.
        late_rooms: rooms that do not know the whole history, and since which event time they know.
        models: versions in force of the models that came through the log, by name.
        offset: entries shown on earlier pages; ``shown``: their originals where the cursor carries them (uint64).
        first: (created_ms, tweet_id) of the first page's first entry, where the cursor says so.
        before: only what is older than this (created_ms, tweet_id), where the cursor says so.
        contents: what entries show of the selected tweets, by tweet.
    """

    __slots__ = (
        "before",
        "contents",
        "excluded",
        "facts",
        "first",
        "followees",
        "interests",
        "languages",
        "late_rooms",
        "models",
        "muted_retweeters",
        "nameable",
        "offset",
        "ranked_ms",
        "request",
        "scratch",
        "shown",
        "tie_weights",
        "tier",
        "tier_reason",
    )

    def __init__(self, request: Request, scratch: Scratch) -> None:
        self.request = request
        self.ranked_ms = viewer_hour(request.viewer_id, request.time_ms)[1]
        self.scratch = scratch
        self.followees: NDArray[np.uint64] = np.empty(0, np.uint64)
        self.nameable: NDArray[np.uint64] = self.followees
        self.tie_weights: NDArray[np.float64] = np.empty(0)
        self.excluded: NDArray[np.uint64] = self.followees
        self.interests: NDArray[np.uint64] = self.followees
        self.languages: NDArray[np.uint16] = np.empty(0, np.uint16)
        self.muted_retweeters: NDArray[np.uint64] = self.followees
        self.facts: dict[str, int] = {}
        self.tier = self.tier_reason = ""
        self.late_rooms: dict[str, int] = {}
        self.models: dict[str, str] = {}
        self.offset = 0
        self.shown: NDArray[np.uint64] = np.empty(0, np.uint64)
        self.first: tuple[int, int] | None = None
        self.before: tuple[int, int] | None = None
        self.contents: Mapping[int, Content] = {}


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
        """Tweet ids and raw scores, best first; C-contiguous and writable."""


class Hydrator(Protocol):
    """Adds the columns that filters and the light ranker need to all candidates. With ``safety``, its failure fails the
    request; else it is left out."""

    name: str
    safety: bool

    def hydrate(self, query: Query, candidates: Candidates) -> Mapping[str, NDArray[Any]]:
        """Columns with one row a candidate."""

    def defaults(self, count: int) -> Mapping[str, NDArray[Any]]:
        """The columns to go on with when ``hydrate`` failed (never asked of a safety hydrator)."""


class BitTest(NamedTuple):
    """Drops the candidates whose ``column`` (uint16) has any of ``bits``."""

    column: str
    bits: int


class Filter(Protocol):
    """Drops candidates. A filter's failure always fails the request: what was not checked is not shown.

    ``test``: all that the filter does, if that is one test of bits; else None. Neighbors that test the same column are
    run in one pass, instead of by ``drop``. ``always``: it applies to every request, so it need not be asked.
    """

    name: str
    test: BitTest | None
    always: bool

    def enabled(self, query: Query) -> bool:
        """Whether this filter applies to the request."""

    def drop(self, query: Query, candidates: Candidates, code: int) -> None:
        """Write ``code`` into ``candidates.dropped_by`` of each row that this filter drops and nothing has dropped."""


class LightRanker(Protocol):
    """Scores all kept candidates cheaply, so that each source can be narrowed to its best. Fails open."""

    name: str

    def score(self, query: Query, candidates: Candidates, out: NDArray[np.float64]) -> None:
        """Write each kept row's score into ``out`` (n,), indexed by row; greater is better, none is NaN."""


class Enricher(Protocol):
    """Learns about the candidates that are still kept: their features, and what an entry shows of them.

    With ``safety``, its failure fails the request; else its features are 0 and its columns ``defaults``.
    """

    name: str
    safety: bool
    features: tuple[Feature, ...]

    def enrich(
        self, query: Query, candidates: Candidates, matrix: NDArray[np.float32], at: int
    ) -> Mapping[str, NDArray[Any]]:
        """Fill the columns ``at`` … of ``matrix`` (m, F) with ``features``; returns columns of the kept rows (m)."""

    def defaults(self, count: int) -> Mapping[str, NDArray[Any]]:
        """The columns to go on with when ``enrich`` failed (never asked of a safety enricher)."""


class Scores:
    """Scores of the m kept candidates: the sum of weighted parts, times the product of factors.

    Attributes:
        base, multiplier, total: float64 (m,): sum of the parts, product of the factors, and the product of both.
        parts, factors: (names, float64 (k, m)) in the order in which scorers added them.
    """

    __slots__ = ("base", "factors", "multiplier", "parts", "total")

    def __init__(self, count: int) -> None:
        self.base, self.multiplier, self.total = np.zeros(count), np.ones(count), np.zeros(count)
        self.parts: list[tuple[tuple[str, ...], NDArray[np.float64]]] = []
        self.factors: list[tuple[tuple[str, ...], NDArray[np.float64]]] = []

    def add(
        self,
        parts: tuple[str, ...] = (),
        part_values: NDArray[np.float64] | None = None,
        factors: tuple[str, ...] = (),
        factor_values: NDArray[np.float64] | None = None,
    ) -> None:
        """Take in parts and factors by name: values float64 (len(names), m), C-contiguous."""
        count = len(self.total)
        part_values = np.empty((0, count)) if part_values is None else part_values
        factor_values = np.empty((0, count)) if factor_values is None else factor_values
        assert part_values.shape == (len(parts), count)
        assert factor_values.shape == (len(factors), count)
        if parts:
            self.parts.append((parts, part_values))
        if factors:
            self.factors.append((factors, factor_values))
        kernels.combine(part_values, factor_values, self.base, self.multiplier, self.total)


class Scorer(Protocol):
    """Adds parts or factors to the scores; runs in order, and sees what earlier scorers added."""

    name: str

    def score(self, query: Query, candidates: Candidates, scores: Scores) -> None:
        """Add to ``scores``."""


class Selector(Protocol):
    """Chooses and orders the entries. ``name`` is the reason of the candidates that it leaves."""

    name: str

    def select(self, query: Query, candidates: Candidates, scores: Scores) -> NDArray[np.int32]:
        """Places (in ``candidates.rows``) of the chosen candidates, in feed order; at most ``request.limit``."""


class ContentReader(Protocol):
    """Reads what entries show of the selected tweets. Its failure fails the request."""

    name: str

    def read(self, candidates: Candidates, rows: NDArray[np.int32]) -> Mapping[int, Content]:
        """The contents of these rows, by tweet."""


class Verifier(Protocol):
    """Looks once more at what was selected, by other means than the filters. Its failure fails the request.

    ``name`` is the reason of the entries that it takes out.
    """

    name: str

    def safe(self, query: Query, candidates: Candidates, rows: NDArray[np.int32]) -> list[bool]:
        """Whether each of these rows may be shown."""


class Presenter(Protocol):
    """Turns chosen candidates into entries, and knows how the product pages."""

    def begin(self, query: Query) -> None:
        """Read the cursor into the query, before anything runs.

        Raises:
            BadCursorError: a cursor that is not of this viewer and product.
        """

    def entries(
        self,
        query: Query,
        candidates: Candidates,
        places: NDArray[np.int32],
        scores: Sequence[float],
        whys: Sequence[Why | None],
    ) -> tuple[Entry, ...]:
        """The entries of kept candidates, in the order of ``places``."""

    def social_proof(self, candidates: Candidates, place: int) -> dict[str, tuple[int, ...]]:
        """Followees who engaged with a kept candidate, by kind."""

    def cursor(
        self, query: Query, candidates: Candidates, rows: NDArray[np.int32], entries: Sequence[Entry], left: int
    ) -> str | None:
        """Where the page after these entries starts, which are these ``rows`` of the candidates; ``left`` candidates
        were not shown for want of room."""


class Watcher(Protocol):
    """What the process around the engine wants to know of an execution: time and counts, never decisions."""

    def clock_ns(self) -> int:
        """A monotonic clock."""

    def cpu_ns(self) -> int:
        """CPU time of the calling thread: unlike ``clock_ns`` it stands still while the thread waits."""

    def expired(self) -> bool:
        """Whether the request's time for sources is spent; further ones are skipped, and named."""

    def count(self, stage: str, component: str, result: str, n: int) -> None:
        """``n`` candidates met this ``result`` (found, dropped, failed, skipped, served) in a component."""

    def failed(self, component: str, error: Exception) -> None:
        """A component raised."""


class Unwatched:
    """A watcher for replays and tests: no time passes, nothing is counted."""

    def clock_ns(self) -> int:
        return 0

    def cpu_ns(self) -> int:
        return 0

    def expired(self) -> bool:
        return False

    def count(self, stage: str, component: str, result: str, n: int) -> None:
        pass

    def failed(self, component: str, error: Exception) -> None:
        pass


class SideEffect(Protocol):
    """Happens after the feed is made, and cannot change it. Fails open; the engine being pure, it acts through the
    watcher."""

    name: str

    def happen(
        self, query: Query, candidates: Candidates, rows: NDArray[np.int32], feed: Feed, watcher: Watcher
    ) -> None:
        """Take note of a feed whose entries are these ``rows``."""
