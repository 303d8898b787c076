"""One ``execute()``: every stage of every product, in one place.

A pipeline is a list of stages. Those ``under_lock`` read state inside ``reading`` (one state version), those
``after_lock`` only what was gathered; then the presenter makes the entries.
"""

from contextlib import AbstractContextManager
from typing import NamedTuple

from engine.feed import Entry, Explain, Factor, Feed, Request, Why
from engine.pipeline.components import Presenter, Query, SideEffect, Unwatched, Watcher
from engine.pipeline.scratch import Scratch
from engine.pipeline.stages import Stage, Work

__all__ = ["Pipeline", "Unwatched", "execute"]


class Pipeline(NamedTuple):
    """A product: its stages in the order in which they run."""

    under_lock: tuple[Stage, ...]
    after_lock: tuple[Stage, ...]
    presenter: Presenter
    side_effects: tuple[SideEffect, ...]
    config_hash: str
    model_version: str


class _Clock:
    """Time by stage in ms: by the clock on the wall (whole µs), and of the thread's own CPU. The first stage is
    ``wait``, the time until the read lock was there; a wait for the interpreter's lock later on is wall time only."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self._begun = self._wall, self._cpu = watcher.clock_ns(), watcher.cpu_ns()
        self.wall_ms: dict[str, float] = {}
        self.cpu_ms: dict[str, float] = {}

    def done(self, stage: str) -> None:
        wall, cpu = self._watcher.clock_ns(), self._watcher.cpu_ns()
        self.wall_ms[stage] = (wall - self._wall) // 1000 / 1000
        self.cpu_ms[stage] = (cpu - self._cpu) / 1e6
        self._wall, self._cpu = wall, cpu

    def stop(self) -> None:
        self.wall_ms["total"] = (self._wall - self._begun[0]) // 1000 / 1000
        self.cpu_ms["total"] = (self._cpu - self._begun[1]) / 1e6


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
        SafetyError: something that safety rests on failed.
    """
    clock = _Clock(watcher)
    query = Query(request, scratch)
    pipeline.presenter.begin(query)
    work = Work(query, watcher)
    with reading as version:
        clock.done("wait")
        for stage in pipeline.under_lock:
            stage.run(work)
            clock.done(stage.name)
    for stage in pipeline.after_lock:
        stage.run(work)
        clock.done(stage.name)
    entries = _entries(pipeline.presenter, work)
    cursor = pipeline.presenter.cursor(query, work.candidates, work.candidates.rows[work.chosen], entries, work.left)
    dropped = tuple(work.candidates.dropped()) if request.explain is Explain.ALL else ()
    clock.done("present")
    clock.stop()
    feed = Feed(
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
        dropped=dropped,
        degraded=tuple(work.degraded),
        gap_records=query.facts.get("gap_records", 0),
        late_rooms=query.late_rooms,
        tier=query.tier,
        tier_reason=query.tier_reason,
        followees_left_out=query.facts.get("followees_left_out", 0),
        cursor=cursor,
        timings_ms=clock.wall_ms,
        cpu_ms=clock.cpu_ms,
    )
    _side_effects(pipeline.side_effects, work, feed)
    return feed


def _entries(presenter: Presenter, work: Work) -> tuple[Entry, ...]:
    explain = work.query.request.explain is not Explain.NONE
    places = work.chosen.tolist()
    whys = [_why(presenter, work, place) if explain else None for place in places]
    scores = work.scores.total[work.chosen].tolist()
    return presenter.entries(work.query, work.candidates, work.chosen, scores, whys)


def _why(presenter: Presenter, work: Work, place: int) -> Why:
    candidates, scores = work.candidates, work.scores
    return Why(
        sources=candidates.hits(int(candidates.rows[place])),
        social_proof=presenter.social_proof(candidates, place),
        scores={
            name: float(value)
            for names, rows in scores.parts
            for name, value in zip(names, rows[:, place], strict=True)
        },
        factors=tuple(
            Factor(name, float(value))
            for names, rows in scores.factors
            for name, value in zip(names, rows[:, place], strict=True)
            if value != 1.0
        ),
        filters_passed=work.passed,
    )


def _side_effects(side_effects: tuple[SideEffect, ...], work: Work, feed: Feed) -> None:
    """A side effect that fails is reported, and costs nothing else."""
    rows = work.candidates.rows[work.chosen]
    for effect in side_effects:
        try:
            effect.happen(work.query, work.candidates, rows, feed, work.watcher)
        except Exception as error:
            work.watcher.failed(effect.name, error)
