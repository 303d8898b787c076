"""The stages that read state, under the read lock: from the viewer to the features of the candidates that are left.

A stage is a list of components of one kind and the rule by which they run and fail. Sources, the light ranker and
plain hydrators and enrichers fail open and are named in ``degraded``; safety ones and filters fail closed.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from engine.errors import SafetyError
from engine.pipeline import kernels
from engine.pipeline.candidates import Candidates, Found
from engine.pipeline.components import (
    Enricher,
    Filter,
    Hydrator,
    LightRanker,
    Query,
    QueryHydrator,
    Scores,
    Source,
    Watcher,
)
from engine.pipeline.features import FeatureSchema, make_schema
from engine.pipeline.scratch import Buffers


class Work:
    """A request between stages.

    Attributes:
        query, watcher: of the request.
        candidates: from the sources on; ``found``: what each source found.
        passed: names of the filters that applied to the request, in order.
        scores: of the kept candidates, from their enrichment on.
        chosen: int32, places of the selected among the kept candidates, in feed order; from the selection on.
        left: how many candidates were not chosen for want of room.
        degraded: names of components that failed or were skipped.
    """

    __slots__ = ("candidates", "chosen", "degraded", "found", "left", "passed", "query", "scores", "watcher")

    def __init__(self, query: Query, watcher: Watcher) -> None:
        self.query = query
        self.watcher = watcher
        self.candidates: Candidates
        self.found: list[Found] = []
        self.passed: tuple[str, ...] = ()
        self.scores: Scores
        self.chosen: NDArray[np.int32]
        self.left = 0
        self.degraded: list[str] = []

    def skips(self, stage: str, name: str) -> bool:
        """Whether the request asks to go without this component; it is then named as degraded."""
        if name not in self.query.request.sources_skipped:
            return False
        self.degraded.append(name)
        self.watcher.count(stage, name, "skipped", 1)
        return True

    def failed(self, stage: str, name: str, error: Exception) -> None:
        """Go on without a component that raised."""
        self.degraded.append(name)
        self.watcher.failed(name, error)
        self.watcher.count(stage, name, "failed", 1)

    def unsafe(self, name: str, error: Exception) -> SafetyError:
        """The error that ends a request whose safety could not be checked."""
        self.watcher.failed(name, error)
        return SafetyError(f"{name} failed, so nothing can be shown safely")


class Stage(Protocol):
    """A step of a pipeline. ``name`` is the label of its time."""

    name: str

    def run(self, work: Work) -> None:
        """Take the request one step further.

        Raises:
            SafetyError: something that safety rests on failed.
        """


class QueryHydration:
    """What there is to know about the viewer."""

    name = "query"

    def __init__(self, *hydrators: QueryHydrator) -> None:
        self.hydrators = hydrators

    def run(self, work: Work) -> None:
        """See ``Stage``."""
        for hydrator in self.hydrators:
            hydrator.hydrate(work.query)


class Sourcing:
    """Candidates of all sources, in order of precedence."""

    name = "sources"

    def __init__(self, *sources: Source) -> None:
        self.sources = sources

    def run(self, work: Work) -> None:
        """See ``Stage``."""
        query, watcher = work.query, work.watcher
        found, count, skipped = work.found, 0, query.request.sources_skipped
        for source in self.sources:
            if skipped and work.skips("source", source.name):
                continue
            if watcher.expired():
                work.degraded.append(source.name)
                watcher.count("source", source.name, "skipped", 1)
                continue
            try:
                if not source.enabled(query, count):
                    continue
                ids, scores = source.fetch(query)
            except Exception as error:
                work.failed("source", source.name, error)
                continue
            watcher.count("source", source.name, "found", len(ids))
            count += len(ids)
            found.append((source.name, ids, scores))
        work.candidates = Candidates.merge(found, query.scratch.of(Buffers))


class Hydration:
    """The columns that filters and the light ranker look at, of every candidate."""

    name = "hydrate"

    def __init__(self, *hydrators: Hydrator) -> None:
        self.hydrators = hydrators

    def run(self, work: Work) -> None:
        """See ``Stage``."""
        candidates = work.candidates
        for hydrator in self.hydrators:
            if not hydrator.safety and work.skips("hydrator", hydrator.name):
                candidates.add(hydrator.defaults(len(candidates)))
                continue
            try:
                candidates.add(hydrator.hydrate(work.query, candidates))
            except Exception as error:
                if hydrator.safety:
                    raise work.unsafe(hydrator.name, error) from error
                work.failed("hydrator", hydrator.name, error)
                candidates.add(hydrator.defaults(len(candidates)))


class Filtering:
    """Drops candidates; the first filter that drops one is its reason."""

    name = "filter"

    def __init__(self, *filters: Filter) -> None:
        self.filters = filters
        self._asked = tuple(rule for rule in filters if not rule.always)
        #: By which of the filters apply that do not always do.
        self._plans: dict[tuple[bool, ...], _Plan] = {}

    def run(self, work: Work) -> None:
        """See ``Stage``."""
        query, candidates = work.query, work.candidates
        applies = tuple([rule.enabled(query) for rule in self._asked])
        plan = self._plans.get(applies)
        if plan is None:
            left_out = {rule for rule, on in zip(self._asked, applies, strict=True) if not on}
            plan = self._plans[applies] = _plan([rule for rule in self.filters if rule not in left_out])
        code = candidates.codes(plan.names)
        for rules, drop in plan.groups:
            try:
                drop(query, candidates, code)
            except Exception as error:
                names = ", ".join(rule.name for rule in rules)
                raise work.unsafe(f"filter {names}", error) from error
            code += len(rules)
        work.passed = plan.names
        counts = candidates.settle()
        for reason in counts[1:].nonzero()[0].tolist():
            work.watcher.count("filter", plan.names[reason], "dropped", int(counts[1 + reason]))


class _Plan(NamedTuple):
    """The filters that apply to a request: their names in order, and groups of them that drop in one pass."""

    names: tuple[str, ...]
    groups: tuple[tuple[tuple[Filter, ...], Callable[[Query, Candidates, int], None]], ...]


def _plan(filters: Sequence[Filter]) -> _Plan:
    """Neighbors that test bits of one column are in one group, every other filter is alone."""
    groups: list[list[Filter]] = []
    for rule in filters:
        before = groups[-1][0].test if groups else None
        if before is not None and rule.test is not None and rule.test.column == before.column:
            groups[-1].append(rule)
        else:
            groups.append([rule])
    return _Plan(tuple(rule.name for rule in filters), tuple((tuple(group), _drop_of(group)) for group in groups))


def _drop_of(group: Sequence[Filter]) -> Callable[[Query, Candidates, int], None]:
    """A function that drops what the filters of one group drop."""
    if len(group) == 1:
        return group[0].drop
    tests = [rule.test for rule in group if rule.test is not None]
    column, bits = tests[0].column, np.array([test.bits for test in tests], np.uint16)

    def drop(query: Query, candidates: Candidates, code: int) -> None:
        kernels.drop_by_bits(candidates.columns[column], bits, candidates.dropped_by, code)

    return drop


class Narrowing:
    """Keeps each source's best by the light rank, so that what follows costs a bounded time.

    ``caps``: the most candidates of each source, by its name; ``total_max``: of all together. A candidate stays if any
    of the sources that brought it keeps it. When the light ranker fails, the order of arrival decides.
    """

    name = "narrow"
    #: The reason of a candidate that is not among its sources' best.
    reason = "narrowed"

    def __init__(self, ranker: LightRanker, caps: Mapping[str, int], total_max: int) -> None:
        self.ranker = ranker
        self.caps = dict(caps)
        self.total_max = total_max

    def run(self, work: Work) -> None:
        """See ``Stage``."""
        query, candidates = work.query, work.candidates
        n, m = len(candidates), len(candidates.rows)
        skipped = work.skips("light_ranker", self.ranker.name)
        limits = [self.caps[name] for name in candidates.sources]
        if m <= self.total_max and all(count <= cap for count, cap in zip(candidates.found, limits, strict=True)):
            candidates.code(self.reason)
            return  # every candidate stays, whatever its rank
        scores = np.empty(n)
        if skipped:
            scores[:] = np.arange(0, -n, -1)
        else:
            try:
                self.ranker.score(query, candidates, scores)
            except Exception as error:
                work.failed("light_ranker", self.ranker.name, error)
                scores[:] = np.arange(0, -n, -1)
        caps = np.array(limits, np.int64)
        cut = (np.empty(m, np.int32), np.empty(m, np.int32), np.empty(len(caps), np.int64))
        code = candidates.code(self.reason)
        ids, ranks = candidates.tweet_id, candidates.source_rank
        kernels.narrow(scores, ids, ranks, candidates.rows, caps, self.total_max, cut, candidates.dropped_by, code)
        dropped = int(candidates.settle()[code])
        if dropped:
            work.watcher.count("light_ranker", self.ranker.name, "dropped", dropped)


class Enrichment:
    """Features and what entries show, of the candidates that are left: one matrix in the reader's scratch."""

    name = "features"

    def __init__(self, schema_name: str, version: int, *enrichers: Enricher) -> None:
        self.enrichers = enrichers
        self.schema: FeatureSchema = make_schema(schema_name, version, (e.features for e in enrichers))

    def run(self, work: Work) -> None:
        """See ``Stage``."""
        query, candidates = work.query, work.candidates
        m = len(candidates.rows)
        matrix = query.scratch.of(Buffers).take("features", np.float32, m, len(self.schema.features))
        at = 0
        for enricher in self.enrichers:
            width = len(enricher.features)
            if not enricher.safety and work.skips("enricher", enricher.name):
                matrix[:, at : at + width] = 0.0
                candidates.add_kept(enricher.defaults(m))
            else:
                try:
                    candidates.add_kept(enricher.enrich(query, candidates, matrix, at))
                except Exception as error:
                    if enricher.safety:
                        raise work.unsafe(enricher.name, error) from error
                    work.failed("enricher", enricher.name, error)
                    matrix[:, at : at + width] = 0.0
                    candidates.add_kept(enricher.defaults(m))
            at += width
        candidates.features = matrix
        work.scores = Scores(m)
