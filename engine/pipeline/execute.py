"""One ``execute()``: every stage of every product, in one place.

Query hydrators, sources and hydrators run inside ``reading`` (one state version); filters, scorers and the
selector after it. Sources and plain hydrators fail open and are named in ``degraded``; safety hydrators and
filters fail closed.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from engine.errors import SafetyError
from engine.feed import Dropped, Entry, Explain, Factor, Feed, Request, Why
from engine.pipeline.candidates import Candidates
from engine.pipeline.components import (
    Filter,
    Hydrator,
    Query,
    QueryHydrator,
    Scorer,
    Scores,
    Selector,
    Source,
)
from engine.pipeline.scratch import Scratch


class Presenter(Protocol):
    """Turns chosen candidates into entries, and knows how the product pages."""

    def begin(self, query: Query) -> None:
        """Read the cursor into the query, before anything runs.

        Raises:
            BadCursorError: a cursor that is not of this viewer and product.
        """

    def entry(
        self, query: Query, candidates: Candidates, i: int, position: int, score: float, why: Why | None
    ) -> Entry:
        """The entry of candidate ``i``."""

    def social_proof(self, candidates: Candidates, i: int) -> dict[str, tuple[int, ...]]:
        """Followees who engaged with candidate ``i``, by kind."""

    def cursor(self, query: Query, entries: Sequence[Entry], left: int) -> str | None:
        """Where the next page starts; ``left`` candidates were not shown for want of room."""


class Pipeline(NamedTuple):
    """A product: its components in the order in which they run."""

    query_hydrators: tuple[QueryHydrator, ...]
    sources: tuple[Source, ...]
    hydrators: tuple[Hydrator, ...]
    filters: tuple[Filter, ...]
    scorers: tuple[Scorer, ...]
    selector: Selector
    presenter: Presenter
    config_hash: str
    model_version: str


class Watcher(Protocol):
    """What the process around the engine wants to know of an execution: time and counts, never decisions."""

    def clock_ns(self) -> int:
        """A monotonic clock."""

    def expired(self) -> bool:
        """Whether the request's time for sources is spent; further ones are skipped, and named."""

    def count(self, stage: str, component: str, result: str, n: int) -> None:
        """``n`` candidates met this ``result`` (found, dropped, failed, skipped) in a component."""

    def failed(self, component: str, error: Exception) -> None:
        """A component raised."""


class Unwatched:
    """A watcher for replays and tests: no time passes, nothing is counted."""

    def clock_ns(self) -> int:
        return 0

    def expired(self) -> bool:
        return False

    def count(self, stage: str, component: str, result: str, n: int) -> None:
        pass

    def failed(self, component: str, error: Exception) -> None:
        pass


class _Stages:
    """Time by stage, in ms."""

    def __init__(self, clock_ns: Callable[[], int]) -> None:
        self._clock_ns = clock_ns
        self._start = self._last = clock_ns()
        self.ms: dict[str, float] = {}

    def done(self, stage: str) -> None:
        now = self._clock_ns()
        self.ms[stage] = round((now - self._last) / 1e6, 3)
        self._last = now

    def total(self) -> dict[str, float]:
        self.ms["total"] = round((self._last - self._start) / 1e6, 3)
        return self.ms


def execute(
    pipeline: Pipeline,
    request: Request,
    *,
    scratch: Scratch,
    reading: AbstractContextManager[int],
    watcher: Watcher,
) -> Feed:
    """Answer one request. ``reading`` holds the read lock and gives the state version.

    Raises:
        RequestError: a bad request or cursor.
        SafetyError: a safety hydrator or a filter failed.
    """
    stages = _Stages(watcher.clock_ns)
    query = Query(request, scratch)
    pipeline.presenter.begin(query)
    degraded: list[str] = []
    with reading as version:
        stages.done("wait")
        for hydrator in pipeline.query_hydrators:
            hydrator.hydrate(query)
        candidates = _fetch(pipeline.sources, query, watcher, degraded)
        stages.done("sources")
        _hydrate(pipeline.hydrators, query, candidates, watcher, degraded)
        stages.done("hydrate")
    kept, dropped = _filter(pipeline.filters, query, candidates, watcher)
    stages.done("filter")
    scores = Scores({}, {})
    for scorer in pipeline.scorers:
        scorer.score(query, kept, scores)
    total = scores.total(len(kept))
    stages.done("score")
    chosen = pipeline.selector.select(query, kept, total)
    if request.explain is Explain.ALL:
        dropped += _not_chosen(pipeline.selector.name, kept, chosen)
    entries = _entries(pipeline, query, kept, chosen, total, scores)
    cursor = pipeline.presenter.cursor(query, entries, len(kept) - len(entries))
    stages.done("select")
    return Feed(
        request_id=request.request_id,
        viewer_id=request.viewer_id,
        product=request.product,
        version=version,
        seed=request.seed,
        time_ms=request.time_ms,
        config_hash=pipeline.config_hash,
        model_version=pipeline.model_version,
        models=query.models,
        entries=entries,
        dropped=tuple(dropped) if request.explain is Explain.ALL else (),
        degraded=tuple(degraded),
        gap_records=query.facts.get("gap_records", 0),
        cursor=cursor,
        timings_ms=stages.total(),
    )


def _fetch(sources: Sequence[Source], query: Query, watcher: Watcher, degraded: list[str]) -> Candidates:
    found: list[tuple[str, NDArray[np.uint64], NDArray[np.float64]]] = []
    count = 0
    for source in sources:
        if source.name in query.request.sources_skipped or watcher.expired():
            degraded.append(source.name)
            watcher.count("source", source.name, "skipped", 1)
            continue
        try:
            if not source.enabled(query, count):
                continue
            ids, scores = source.fetch(query)
        except Exception as error:
            degraded.append(source.name)
            watcher.failed(source.name, error)
            watcher.count("source", source.name, "failed", 1)
            continue
        watcher.count("source", source.name, "found", len(ids))
        count += len(ids)
        found.append((source.name, ids, scores))
    return Candidates.merge(found)


def _hydrate(
    hydrators: Sequence[Hydrator], query: Query, candidates: Candidates, watcher: Watcher, degraded: list[str]
) -> None:
    for hydrator in hydrators:
        if hydrator.name in query.request.sources_skipped and not hydrator.safety:
            degraded.append(hydrator.name)
            watcher.count("hydrator", hydrator.name, "skipped", 1)
            candidates.add(hydrator.defaults(len(candidates)))
            continue
        try:
            candidates.add(hydrator.hydrate(query, candidates))
        except Exception as error:
            watcher.failed(hydrator.name, error)
            if hydrator.safety:
                raise SafetyError(f"{hydrator.name} failed, so nothing can be shown safely") from error
            degraded.append(hydrator.name)
            watcher.count("hydrator", hydrator.name, "failed", 1)
            candidates.add(hydrator.defaults(len(candidates)))


def _filter(
    filters: Sequence[Filter], query: Query, candidates: Candidates, watcher: Watcher
) -> tuple[Candidates, list[Dropped]]:
    """Apply the filters in order; each sees only what earlier ones kept, so a drop has exactly one name."""
    dropped: list[Dropped] = []
    explain = query.request.explain is Explain.ALL
    for rule in filters:
        if not rule.enabled(query):
            continue
        try:
            keep = rule.keep(query, candidates)
        except Exception as error:
            watcher.failed(rule.name, error)
            raise SafetyError(f"filter {rule.name} failed, so nothing can be shown safely") from error
        out = np.flatnonzero(~keep)
        if not len(out):
            continue
        watcher.count("filter", rule.name, "dropped", len(out))
        if explain:
            dropped += [_dropped(candidates, int(i), rule.name) for i in out]
        candidates = candidates.take(keep)
    return candidates, dropped


def _dropped(candidates: Candidates, i: int, by: str) -> Dropped:
    return Dropped(int(candidates.tweet_id[i]), by, tuple(hit.name for hit in candidates.hits(i)))


def _not_chosen(name: str, candidates: Candidates, chosen: NDArray[np.intp]) -> list[Dropped]:
    left = np.setdiff1d(np.arange(len(candidates)), chosen)
    return [_dropped(candidates, int(i), name) for i in left]


def _entries(
    pipeline: Pipeline,
    query: Query,
    candidates: Candidates,
    chosen: NDArray[np.intp],
    total: NDArray[np.float64],
    scores: Scores,
) -> tuple[Entry, ...]:
    passed = tuple(rule.name for rule in pipeline.filters if rule.enabled(query))
    entries = []
    for position, i in enumerate(chosen.tolist()):
        why = None
        if query.request.explain is not Explain.NONE:
            why = Why(
                sources=candidates.hits(i),
                social_proof=pipeline.presenter.social_proof(candidates, i),
                scores={name: float(part[i]) for name, part in scores.parts.items()},
                factors=tuple(
                    Factor(name, float(factor[i])) for name, factor in scores.factors.items() if factor[i] != 1.0
                ),
                filters_passed=passed,
            )
        entries.append(pipeline.presenter.entry(query, candidates, i, position, float(total[i]), why))
    return tuple(entries)
