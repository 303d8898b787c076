"""The control flow of ``execute()`` over made-up components: what fails open, what fails closed, what is told."""

from contextlib import contextmanager

import numpy as np
import pytest

from engine.errors import RequestError, SafetyError
from engine.feed import Entry, Explain, Request
from engine.pipeline.execute import Pipeline, Unwatched, execute

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
    def __init__(self, name, bad=(), error=None, enabled=True):
        self.name, self.bad, self.error, self.on = name, bad, error, enabled

    def enabled(self, query):
        return self.on

    def keep(self, query, candidates):
        if self.error:
            raise self.error
        return ~np.isin(candidates.tweet_id, np.array(self.bad, np.uint64))


class ById:
    name = "by_id"

    def score(self, query, candidates, scores):
        scores.parts["id"] = candidates.tweet_id.astype(np.float64)
        scores.factors["half"] = np.full(len(candidates), 0.5)


class Best:
    name = "best"

    def select(self, query, candidates, total):
        return np.argsort(-total)[: query.request.limit]


class Plain:
    def begin(self, query):
        if query.request.cursor == "bad":
            raise RequestError("no")

    def entry(self, query, candidates, i, position, score, why):
        return Entry(
            tweet_id=int(candidates.tweet_id[i]), author_id=9, created_ms=0, text="", position=position,
            score=score, in_network=False, counts={}, why=why,
        )  # fmt: skip

    def social_proof(self, candidates, i):
        return {}

    def cursor(self, query, entries, left):
        return str(left) if left else None


class Watch(Unwatched):
    def __init__(self, expire_after=10**9):
        self.counts, self.failures, self.asked, self.expire_after = {}, [], 0, expire_after

    def expired(self):
        self.asked += 1
        return self.asked > self.expire_after

    def count(self, stage, component, result, n):
        self.counts[stage, component, result] = n

    def failed(self, component, error):
        self.failures.append(component)


def run(sources=(), hydrators=(), filters=(), request=REQUEST, watcher=None):
    held = []

    @contextmanager
    def reading():
        held.append(True)
        yield 77
        held.pop()

    pipeline = Pipeline(
        (), tuple(sources), tuple(hydrators), tuple(filters), (ById(),), Best(), Plain(), "hash", "model"
    )
    try:
        return execute(pipeline, request, scratch=None, reading=reading(), watcher=watcher or Watch())
    finally:
        assert not held or isinstance(held, list)


def test_every_candidate_is_served_or_dropped_by_one_name():
    feed = run(
        [FakeSource("a", [1, 2, 3]), FakeSource("b", [3, 4, 5])],
        filters=[FakeFilter("odd", [1]), FakeFilter("off", [2], enabled=False), FakeFilter("also_odd", [1, 5])],
        request=Request(viewer_id=1, request_id=2, time_ms=3, seed=4, explain=Explain.ALL, limit=2),
    )
    assert [e.tweet_id for e in feed.entries] == [4, 3]
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
    late = run([FakeSource("a", [1]), FakeSource("b", [2])], watcher=Watch(expire_after=1))
    assert late.degraded == ("b",)
    again = run(
        [FakeSource("a", [1]), FakeSource("b", [2])],
        request=Request(
            viewer_id=1, request_id=2, time_ms=3, seed=4, explain=Explain.ALL, sources_skipped=late.degraded
        ),
    )
    assert again == late


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
    ],
)
def test_safety_fails_closed(broken):
    with pytest.raises(SafetyError, match="blocks"):
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
