"""Lessons: drawn fairly among people, about the state before the piece, at most so many per piece."""

from collections import Counter

import msgspec
import numpy as np
import pytest

from engine.batch import Kind, make_batch
from engine.lessons import LessonsConfig
from engine.rooms import RoomsConfig, small_rooms
from engine.state import EngineState

MINUTE = 60_000
T0 = 1_760_000_040_000 // MINUTE * MINUTE


def rooms(**lessons) -> RoomsConfig:
    return msgspec.structs.replace(small_rooms(1 << 8), lessons=LessonsConfig(walks=100, **lessons))


def acts(users, tweets, times_ms, first_id, kind=Kind.FAVORITE):
    n = len(users)
    return make_batch(
        kind=[kind] * n, id=np.arange(first_id, first_id + n), user_id=users, subject_id=tweets, timestamp_ms=times_ms
    )


def known(state, users=20):
    """Everybody engages with three of twenty tweets, one of which all have in common; no lesson comes of it."""
    people = np.repeat(np.arange(1, users + 1), 3)
    tweets = 1000 + (people * 7 + np.tile([0, 1, 2], users)) % 20
    tweets[::3] = 1000
    state.apply(acts(people, tweets, np.full(len(people), T0 - MINUTE), 1, Kind.SHARE))
    return state


class Watched:
    """Records which rows of which batches are looked at."""

    def __init__(self, state, monkeypatch):
        self.people = []
        monkeypatch.setattr(
            state.lessons, "_teach", lambda batch, lesson, learnt: self.people.append(int(batch.user_id[lesson.row]))
        )


def test_observing_changes_nothing_and_looks_at_the_state_before_the_piece():
    state = known(EngineState(rooms()))
    before = state.digest()
    batch = acts([1, 99], [1010, 1011], [T0, T0], 1000)
    observed = state.observe(batch)
    assert state.digest() == before
    assert observed.findings[0].looked_at == 1
    one, other = known(EngineState(rooms())), known(EngineState(rooms()))
    one.apply(batch, observed)
    other.apply(batch)
    assert one.digest() == other.digest()


def test_the_learner_learns_when_the_interval_is_over():
    state = known(EngineState(rooms()))
    unlearnt = state.blend_learner.weights
    state.apply(acts([1], [1012], [T0], 1000))
    assert state.lessons.counters()["looked_at"] == 1
    assert np.array_equal(state.blend_learner.weights, unlearnt)
    state.apply(acts([2], [1013], [T0 + MINUTE], 1001))
    assert sum(state.blend_learner.counters().values()) == 1


@pytest.mark.parametrize("most", [1, 3])
def test_a_piece_that_spans_many_intervals_is_bounded(most):
    state = known(EngineState(rooms(piece_lessons_max=most)))
    users = np.arange(200) % 20 + 1
    state.apply(acts(users, 1000 + np.arange(200) % 20, T0 + MINUTE * np.arange(200), 1000))
    counters = state.lessons.counters()
    assert counters["looked_at"] == most
    assert counters["passed_over"] > 100
    assert sum(state.blend_learner.counters().values()) <= most


def test_who_acts_often_or_first_teaches_no_more_than_others(monkeypatch):
    state = known(EngineState(rooms()))
    watched, winners, looked_at = Watched(state, monkeypatch), Counter(), 0
    for minute in range(300):
        start = T0 + minute * MINUTE
        # Person 1 acts 50 times, before everybody else; three pieces an interval.
        people = np.concatenate([np.ones(50, int), np.arange(2, 21)])
        for part in np.array_split(np.arange(len(people)), 3):
            batch = acts(people[part], 1000 + part % 20, start + part, 10_000 + 100 * minute + part[0])
            state.apply(batch)
        looked_at += len(watched.people)
        # The last who was looked at has the least hash; where there is none, nobody was below the bound.
        winners[watched.people[-1] if watched.people else None] += 1
        watched.people.clear()
    assert looked_at < 450
    assert winners[None] < 120  # 75 are expected
    assert len(winners) == 21
    assert winners[1] < 36  # 12 are expected


def test_where_few_people_act_every_interval_teaches(monkeypatch):
    state = known(EngineState(rooms()))
    watched = Watched(state, monkeypatch)
    for minute in range(50):
        state.apply(acts([minute % 20 + 1], [1000], [T0 + minute * MINUTE], 10_000 + minute))
    assert len(watched.people) >= 49  # the bound is a hair below the greatest hash


def test_an_act_from_the_future_shuts_nobody_out(monkeypatch):
    state = known(EngineState(rooms()))
    watched = Watched(state, monkeypatch)
    state.apply(acts([1], [1010], [T0 + 5 * MINUTE], 1000))
    people = np.arange(2, 21)
    state.apply(acts(people, 1000 + people % 20, np.full(19, T0 + 1), 2000))
    state.apply(acts(people, 1001 + people % 20, np.full(19, T0 + 2), 3000))
    assert watched.people[0] == 1
    assert len(set(watched.people)) > 1
    # But nobody teaches about what was long ago.
    watched.people.clear()
    state.apply(acts(people, 1002 + people % 20, np.full(19, T0 - 20 * MINUTE), 4000))
    assert not watched.people


def test_duplicates_teach_nothing(monkeypatch):
    state = known(EngineState(rooms()))
    watched = Watched(state, monkeypatch)
    batch = acts([1], [1010], [T0], 1000)
    state.apply(batch)
    assert watched.people == [1]
    again = acts([1], [1010], [T0 + MINUTE], 1000)
    assert not state.apply(again).keep.any()
    both = acts([3, 3], [1010, 1010], [T0 + MINUTE] * 2, 1001)
    both.id[:] = 1001
    assert state.apply(both).keep.tolist() == [True, False]
    assert watched.people in ([1], [1, 3])


def test_one_person_fills_a_small_share_of_the_candidates_of_all():
    state = EngineState(rooms(recent_max=128))
    state.apply(acts(np.arange(1, 101), 5000 + np.arange(100), np.full(100, T0), 1))
    before = set(state.lessons.arrays()["recent"].ravel().tolist()) - {0}
    state.apply(acts(np.full(500, 200), 9000 + np.arange(500), np.full(500, T0), 1000))
    after = set(state.lessons.arrays()["recent"].ravel().tolist()) - {0}
    assert len([tweet for tweet in after if tweet >= 9000]) == 8
    assert len(before - after) <= 8
    # Repeated acts and those on one's own tweets are not remembered again.
    state.apply(acts(np.full(50, 1), np.full(50, 5000), np.arange(T0, T0 + 50), 2000))
    assert set(state.lessons.arrays()["recent"].ravel().tolist()) - {0} == after
    state.check()


def test_nobody_teaches_by_their_own_tweets():
    state = known(EngineState(rooms()))
    create = {"kind": [Kind.CREATE], "user_id": [1], "author_id": [1], "subject_id": [1012], "timestamp_ms": [T0]}
    state.apply(make_batch(id=[999], **create))
    state.apply(acts([1], [1012], [T0 + 1], 1000))
    state.apply(acts([2], [1013], [T0 + MINUTE], 1001))
    assert state.lessons.counters()["looked_at"] > 0
    assert sum(state.blend_learner.counters().values()) == 0
