"""The control flow of ``execute()`` over made-up components: what fails open, what fails closed, what is told."""

from contextlib import contextmanager

import msgspec
import numpy as np
import pytest

from engine.errors import RequestError, SafetyError
from engine.feed import Entry, Explain, Request
from engine.pipeline.components import Content
from engine.pipeline.execute import Pipeline, Unwatched, execute
from engine.pipeline.features import Feature, FeatureKind
from engine.pipeline.late_stages import Contents, Scoring, Selection, Verification
from engine.pipeline.scratch import Scratch
from engine.pipeline.stages import Enrichment, Filtering, Hydration, Narrowing, QueryHydration, Sourcing

SCRATCH = Scratch()
REQUEST = Request(viewer_id=1, request_id=2, time_ms=3, seed=4, explain=Explain.ALL)


class FakeSource:
    def __init__(self, name, ids, error=None, enabled=True):
        self.name, self.ids, self.error, self.on = name, ids, error, enabled

    def enabled(self, query, found):
        return self.on

    def fetch(self, query):
        if self.error:
            raise self.error
        return np.array(self.ids, np.uint64), np.arange(len(self.ids), 0, -1, dtype=np.float64)


class FakeHydrator:
    def __init__(self, name, safety, error=None):
        self.name, self.safety, self.error = name, safety, error

    def hydrate(self, query, candidates):
        if self.error:
            raise self.error
        return {self.name: np.ones(len(candidates))}

    def defaults(self, count):
        return {self.name: np.zeros(count)}


class FakeFilter:
    always = False
    test = None

    def __init__(self, name, bad=(), error=None, enabled=True):
        self.name, self.bad, self.error, self.on = name, bad, error, enabled

    def enabled(self, query):
        return self.on

    def drop(self, query, candidates, code):
        if self.error:
            raise self.error
        candidates.drop_kept(np.isin(candidates.tweet_id, np.array(self.bad, np.uint64)), code)


class FakeRanker:
    name = "by_id"

    def __init__(self, error=None):
        self.error = error

    def score(self, query, candidates, out):
        out[:] = candidates.tweet_id
        if self.error:
            raise self.error


class FakeEnricher:
    def __init__(self, name, safety, error=None):
        self.name, self.safety, self.error = name, safety, error
        self.features = (Feature(f"{name}_id", FeatureKind.NUMBER, ""), Feature(f"{name}_two", FeatureKind.NUMBER, ""))

    def enrich(self, query, candidates, matrix, at):
        matrix[:, at] = candidates.tweet_id[candidates.rows]
        if self.error:
            raise self.error
        matrix[:, at + 1] = 2
        return {self.name: np.ones(len(candidates.rows))}

    def defaults(self, count):
        return {self.name: np.zeros(count)}


class FakeVerifier:
    def __init__(self, name, bad=(), error=None):
        self.name, self.bad, self.error = name, bad, error

    def safe(self, query, candidates, rows):
        if self.error:
            raise self.error
        return [int(candidates.tweet_id[row]) not in self.bad for row in rows]


class Versions:
    """A query hydrator."""

    name = "versions"

    def __init__(self, held):
        self.held = held

    def hydrate(self, query):
        assert self.held, "model versions are read under the lock"
        query.models = {"ranker": "7"}


class FakeEffect:
    name = "effect"

    def __init__(self, error=None):
        self.error, self.seen = error, []

    def happen(self, query, candidates, rows, feed, watcher):
        self.seen.append(([int(candidates.tweet_id[row]) for row in rows], feed))
        if self.error:
            raise self.error


class FakeReader:
    name = "texts"

    def __init__(self, held, error=None):
        self.held, self.error = held, error

    def read(self, candidates, rows):
        assert self.held, "contents are read under the lock"
        if self.error:
            raise self.error
        return {tweet_id: Content(f"text {tweet_id}", {}) for tweet_id in candidates.tweet_id[rows].tolist()}


class ById:
    name = "by_id"

    def score(self, query, candidates, scores):
        m = len(candidates.rows)
        parts = candidates.tweet_id[candidates.rows].astype(np.float64)[None]
        scores.add(("id",), parts, ("half",), np.full((1, m), 0.5))


class Best:
    name = "best"

    def select(self, query, candidates, scores):
        return np.argsort(-scores.total)[: query.request.limit].astype(np.int32)


class Plain:
    def begin(self, query):
        if query.request.cursor == "bad":
            raise RequestError("no")

    def entries(self, query, candidates, places, scores, whys):
        ids = candidates.tweet_id[candidates.rows[places]].tolist()
        return tuple(
            Entry(
                tweet_id=tweet_id, author_id=9, created_ms=0, text=query.contents[tweet_id].text, position=position,
                score=score, in_network=False, counts={}, why=why,
            )
            for position, (tweet_id, score, why) in enumerate(zip(ids, scores, whys, strict=True))
        )  # fmt: skip

    def social_proof(self, candidates, i):
        return {}

    def cursor(self, query, candidates, rows, entries, left):
        return str(left) if left else None


class Watch(Unwatched):
    def __init__(self, expire_after=10**9):
        self.counts, self.failures, self.asked, self.expire_after = {}, [], 0, expire_after
        self.wall, self.cpu = 0, 0

    def clock_ns(self):
        self.wall += 3_000_000
        return self.wall

    def cpu_ns(self):
        self.cpu += 1_000_000
        return self.cpu

    def expired(self):
        self.asked += 1
        return self.asked > self.expire_after

    def count(self, stage, component, result, n):
        self.counts[stage, component, result] = n

    def failed(self, component, error):
        self.failures.append(component)


def run(
    sources=(),
    hydrators=(),
    filters=(),
    request=REQUEST,
    watcher=None,
    *,
    ranker=None,
    caps=None,
    total_max=100,
    enrichers=(),
    verifiers=(),
    effects=(),
    unreadable=None,
):
    held = []

    @contextmanager
    def reading():
        held.append(True)
        yield 77
        held.pop()

    pipeline = Pipeline(
        under_lock=(
            QueryHydration(Versions(held)),
            Sourcing(*sources),
            Hydration(*hydrators),
            Filtering(*filters),
            Narrowing(
                ranker or FakeRanker(), dict.fromkeys("ab", 100) | {"good": 100, "bad": 100} | (caps or {}), total_max
            ),
            Enrichment("test", 1, *enrichers),
            Scoring("score", ById()),
            Selection(Best()),
            Contents(FakeReader(held, unreadable)),
        ),
        after_lock=(Verification(*verifiers),),
        presenter=Plain(),
        side_effects=tuple(effects),
        config_hash="hash",
        model_version="model",
    )
    return execute(pipeline, request, scratch=SCRATCH, reading=reading(), watcher=watcher or Unwatched())


def untimed(feed):
    return msgspec.structs.replace(feed, timings_ms={}, cpu_ms={})


def test_every_candidate_is_served_or_dropped_by_one_name():
    feed = run(
        [FakeSource("a", [1, 2, 3]), FakeSource("b", [3, 4, 5])],
        filters=[FakeFilter("odd", [1]), FakeFilter("off", [2], enabled=False), FakeFilter("also_odd", [1, 5])],
        request=Request(viewer_id=1, request_id=2, time_ms=3, seed=4, explain=Explain.ALL, limit=2),
    )
    assert [(e.tweet_id, e.text) for e in feed.entries] == [(4, "text 4"), (3, "text 3")]
    assert {d.tweet_id: (d.filter, d.sources) for d in feed.dropped} == {
        1: ("odd", ("a",)), 5: ("also_odd", ("b",)), 2: ("best", ("a",)),
    }  # fmt: skip
    assert feed.version == 77
    assert feed.cursor == "1"
    why = feed.entries[1].why
    assert [(s.name, s.rank) for s in why.sources] == [("a", 2), ("b", 0)]
    assert why.filters_passed == ("odd", "also_odd")
    assert feed.entries[1].score == sum(why.scores.values()) * np.prod([f.factor for f in why.factors])


def test_a_failing_source_costs_only_its_candidates():
    watch = Watch()
    feed = run([FakeSource("bad", [], error=ValueError("x")), FakeSource("good", [1])], watcher=watch)
    assert [e.tweet_id for e in feed.entries] == [1]
    assert feed.degraded == ("bad",)
    assert watch.counts["source", "bad", "failed"] == 1
    assert watch.failures == ["bad"]


def test_sources_past_the_deadline_are_skipped_and_the_feed_can_be_asked_again():
    late = untimed(run([FakeSource("a", [1]), FakeSource("b", [2])], watcher=Watch(expire_after=1)))
    assert late.degraded == ("b",)
    again = run(
        [FakeSource("a", [1]), FakeSource("b", [2])],
        request=Request(
            viewer_id=1, request_id=2, time_ms=3, seed=4, explain=Explain.ALL, sources_skipped=late.degraded
        ),
    )
    assert untimed(again) == late


def test_a_plain_hydrator_fails_open_with_its_defaults():
    feed = run([FakeSource("a", [1])], hydrators=[FakeHydrator("faces", False, ValueError("x"))])
    assert feed.degraded == ("faces",)
    assert len(feed.entries) == 1


def test_a_plain_hydrator_that_failed_is_skipped_when_asked_again_and_safety_never_is():
    again = Request(viewer_id=1, request_id=2, time_ms=3, seed=4, explain=Explain.ALL, sources_skipped=("faces",))
    failed = run([FakeSource("a", [1])], hydrators=[FakeHydrator("faces", False, ValueError("x"))])
    assert run([FakeSource("a", [1])], hydrators=[FakeHydrator("faces", False)], request=again) == failed
    assert run([FakeSource("a", [1])], hydrators=[FakeHydrator("faces", True)], request=again).degraded == ()


@pytest.mark.parametrize(
    "broken",
    [
        {"hydrators": [FakeHydrator("blocks", True, ValueError("x"))]},
        {"filters": [FakeFilter("blocks", error=ValueError("x"))]},
        {"enrichers": [FakeEnricher("blocks", True, ValueError("x"))]},
        {"verifiers": [FakeVerifier("blocks", error=ValueError("x"))]},
        {"unreadable": ValueError("x")},
    ],
)
def test_safety_fails_closed(broken):
    with pytest.raises(SafetyError, match=r"blocks|texts"):
        run([FakeSource("a", [1])], **broken)


def test_a_bad_request_is_refused_before_anything_runs():
    with pytest.raises(RequestError):
        run([FakeSource("a", [1])], request=Request(viewer_id=1, request_id=2, time_ms=3, seed=4, cursor="bad"))


def test_explaining_changes_nothing_but_the_explanation():
    sources = [FakeSource("a", [1, 2, 3])]
    feeds = [
        run(
            sources,
            filters=[FakeFilter("f", [2])],
            request=Request(viewer_id=1, request_id=2, time_ms=3, seed=4, explain=e),
        )
        for e in Explain
    ]
    assert len({tuple((e.tweet_id, e.score, e.position) for e in feed.entries) for feed in feeds}) == 1
    assert [bool(feed.dropped) for feed in feeds] == [False, False, True]
    assert [feed.entries[0].why is not None for feed in feeds] == [False, True, True]


def test_no_candidates_is_an_empty_feed():
    feed = run([])
    assert feed.entries == ()
    assert feed.cursor is None


def test_what_the_last_look_refuses_is_taken_out_with_its_reason():
    watch = Watch()
    feed = run([FakeSource("a", [1, 2, 3])], verifiers=[FakeVerifier("unsafe", [2])], watcher=watch)
    assert [e.tweet_id for e in feed.entries] == [3, 1]
    assert [e.position for e in feed.entries] == [0, 1]
    assert {d.tweet_id: d.filter for d in feed.dropped} == {2: "unsafe"}
    assert watch.counts["verifier", "unsafe", "dropped"] == 1


def test_a_verifier_that_judges_too_few_fails_closed():
    verifier = FakeVerifier("unsafe")
    verifier.safe = lambda query, candidates, rows: [True]
    with pytest.raises(SafetyError, match="unsafe"):
        run([FakeSource("a", [1, 2, 3])], verifiers=[verifier])


def test_each_source_is_narrowed_to_its_best():
    feed = run(
        [FakeSource("a", [1, 2, 3, 4]), FakeSource("b", [4, 5, 6])],
        filters=[FakeFilter("f", [6])],
        caps={"a": 2, "b": 1},
    )
    assert [e.tweet_id for e in feed.entries] == [5, 4, 3]
    assert {d.tweet_id: d.filter for d in feed.dropped} == {6: "f", 1: "narrowed", 2: "narrowed"}
    assert [e.tweet_id for e in run([FakeSource("a", [1, 2, 3])], total_max=1).entries] == [3]


def test_the_light_ranker_is_not_asked_where_every_candidate_stays():
    failing, sources = FakeRanker(ValueError("x")), [FakeSource("a", [1, 2]), FakeSource("b", [3])]
    feed = run(sources, ranker=failing, caps={"a": 2, "b": 1}, total_max=3)
    assert [e.tweet_id for e in feed.entries] == [3, 2, 1]
    assert feed.degraded == ()
    assert run(sources, ranker=failing, caps={"a": 1, "b": 1}, total_max=3).degraded == ("by_id",)


def test_without_the_light_ranker_the_order_of_arrival_decides():
    watch = Watch()
    failing = FakeRanker(ValueError("x"))
    feed = run([FakeSource("a", [5, 1, 3])], ranker=failing, total_max=2, watcher=watch)
    assert [e.tweet_id for e in feed.entries] == [5, 1]
    assert feed.degraded == ("by_id",)
    assert watch.failures == ["by_id"]
    again = msgspec.structs.replace(REQUEST, sources_skipped=("by_id",))
    assert untimed(run([FakeSource("a", [5, 1, 3])], total_max=2, request=again)) == untimed(feed)


@pytest.mark.parametrize("error", [None, ValueError("x")])
def test_features_stand_side_by_side_and_are_0_where_an_enricher_failed(error):
    seen = []

    class Look(FakeVerifier):
        def safe(self, query, candidates, rows):
            seen.append((candidates.features.tolist(), candidates.kept_columns["middle"].tolist()))
            return [True] * len(rows)

    enrichers = [FakeEnricher("first", True), FakeEnricher("middle", False, error), FakeEnricher("last", True)]
    feed = run([FakeSource("a", [8, 9])], filters=[FakeFilter("f", [8])], enrichers=enrichers, verifiers=[Look("look")])
    assert seen == [([[9, 2, 0, 0, 9, 2] if error else [9, 2, 9, 2, 9, 2]], [0.0 if error else 1.0])]
    assert feed.degraded == (("middle",) if error else ())


def test_a_side_effect_sees_the_feed_and_cannot_end_the_request():
    watch, effect = Watch(), FakeEffect(ValueError("x"))
    feed = run([FakeSource("a", [1, 2])], effects=[effect], watcher=watch)
    assert effect.seen == [([2, 1], feed)]
    assert watch.failures == ["effect"]
    assert feed.degraded == ()


def test_models_are_named_and_every_stage_is_timed_by_both_clocks():
    feed = run([FakeSource("a", [1])], watcher=Watch())
    assert feed.models == {"ranker": "7"}
    stages = [
        "wait",
        "query",
        "sources",
        "hydrate",
        "filter",
        "narrow",
        "features",
        "score",
        "select",
        "contents",
        "verify",
        "present",
    ]
    assert list(feed.timings_ms) == [*stages, "total"] == list(feed.cpu_ms)
    assert feed.timings_ms == dict.fromkeys(stages, 3.0) | {"total": 3.0 * len(stages)}
    assert feed.cpu_ms == dict.fromkeys(stages, 1.0) | {"total": 1.0 * len(stages)}
