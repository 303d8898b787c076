"""The product: nobody who must not be shown is ever shown, the same request gives the same bytes, fatigue, reasons."""

from contextlib import nullcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.batch import Kind, make_batch
from engine.errors import BadCursorError, SafetyError
from engine.feed import Explain, Product, Request
from engine.home_mixer.products import build_products
from engine.pipeline.execute import Unwatched, execute
from engine.pipeline.scratch import Scratch
from engine.profiles.bits import ProfileBit, ProfileState
from engine.rooms import small_rooms
from engine.state import EngineState
from engine.who_to_follow.hydrators import Between, Standing
from streams.events.feed_fields import feed_digest
from tests.engine.who_to_follow.conftest import CONFIG, T0, state_of

HOUR, DAY = 3_600_000, 86_400_000
PERSON = st.integers(1, 9)
PAIR = st.tuples(PERSON, PERSON).filter(lambda pair: pair[0] != pair[1])
BETWEEN = [
    Kind.BLOCK, Kind.UNBLOCK, Kind.MUTE, Kind.UNMUTE, Kind.DISMISS, Kind.UNDISMISS, Kind.UNFOLLOW, Kind.REPORT_USER,
]  # fmt: skip
STATES = {
    "suspended": ProfileState.SUSPENDED << ProfileBit.STATE_SHIFT,
    "deactivated": ProfileState.DEACTIVATED << ProfileBit.STATE_SHIFT,
    "protected": ProfileBit.PROTECTED,
    "opted out": ProfileBit.NOT_RECOMMENDED,
    "active": 0,
}
EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just(Kind.FOLLOW), PAIR),
        st.tuples(st.just(Kind.FOLLOW), PAIR),
        st.tuples(st.sampled_from(BETWEEN), PAIR),
        st.tuples(st.just(Kind.FAVORITE), PAIR),
        st.tuples(st.sampled_from(sorted(STATES)), PERSON),
        st.tuples(st.just(Kind.ERASE), PERSON),
    ),
    max_size=60,
)


def ask(state, viewer, time_ms=T0 + HOUR, **terms):
    request = Request(
        viewer_id=viewer, request_id=1, time_ms=time_ms, seed=1, product=Product.WHO_TO_FOLLOW, **{"limit": 50} | terms
    )
    pipeline = build_products(state, CONFIG, "config")[Product.WHO_TO_FOLLOW]
    return execute(pipeline, request, scratch=Scratch(), reading=nullcontext(state.version), watcher=Unwatched())


def people_of(feed):
    return [entry.tweet_id for entry in feed.entries]


class Model:
    """Who must not be shown to whom, after events in the order of their times."""

    def __init__(self):
        self.pairs, self.states = {kind: set() for kind in Kind}, {}

    def tell(self, kind, about):
        if isinstance(kind, str):
            self.states[about] = kind
        elif kind == Kind.ERASE:
            for held in self.pairs.values():
                held -= {pair for pair in held if about in pair}
            self.states[about] = "erased"
        else:
            undone = {Kind.UNBLOCK: Kind.BLOCK, Kind.UNMUTE: Kind.MUTE, Kind.UNDISMISS: Kind.DISMISS,
                      Kind.UNFOLLOW: Kind.FOLLOW}.get(kind)  # fmt: skip
            if undone:
                self.pairs[undone].discard(about)
            elif kind != Kind.FOLLOW or not self._between(Kind.BLOCK, *about):
                self.pairs[kind].add(about)
            if kind == Kind.BLOCK:
                self.pairs[Kind.FOLLOW] -= {about, about[::-1]}

    def _between(self, kind, one, other):
        return {(one, other), (other, one)} & self.pairs[kind]

    def forbidden(self, viewer, person):
        """Why a person must not be shown to a viewer; "" where nothing forbids it."""
        if person == viewer:
            return "the viewer"
        for kind in (Kind.BLOCK, Kind.MUTE, Kind.REPORT_USER):
            if self._between(kind, viewer, person):
                return kind.name
        for kind in (Kind.DISMISS, Kind.FOLLOW):
            if (viewer, person) in self.pairs[kind]:
                return kind.name
        state = self.states.get(person, "active")
        return "" if state == "active" else state


@settings(max_examples=80, deadline=None)
@given(EVENTS, st.integers(1, 20))
def test_nobody_who_must_not_be_shown_is_ever_shown_and_all_others_are(events, piece):
    state, model, columns = EngineState(small_rooms(1 << 8)), Model(), []
    for n, (kind, about) in enumerate(events):
        who, whom = about if isinstance(about, tuple) else (about, 0)
        code, bits = (Kind.USER, STATES[kind]) if isinstance(kind, str) else (kind, 0)
        tweet = 1000 + n if kind == Kind.FAVORITE else whom
        author = whom if kind == Kind.FAVORITE else 0
        columns.append((code, 0 if kind == Kind.ERASE else 1 + n, who, tweet, author, T0 + n, bits))
        model.tell(kind, about)
    names = ("kind", "id", "user_id", "subject_id", "author_id", "timestamp_ms", "context_id")
    for start in range(0, len(columns), piece):
        part = list(zip(*columns[start : start + piece], strict=True))
        state.apply(make_batch(**dict(zip(names, part, strict=True))))
    for viewer in range(1, 10):
        feed = ask(state, viewer, explain=Explain.ALL)
        shown = people_of(feed)
        assert {p: why for p in shown if (why := model.forbidden(viewer, p))} == {}
        assert len(set(shown)) == len(shown)
        for reason in (reason for entry in feed.entries for reason in entry.reasons):
            for person in reason.people:
                assert (viewer, person) in model.pairs[Kind.FOLLOW]
                assert model.states.get(person, "active") in ("active", "protected", "opted out")
                assert not model._between(Kind.BLOCK, viewer, person)
        assert all(entry.reasons for entry in feed.entries)
        allowed = {"unfollowed", "rejected", "not_selected"}
        for dropped in feed.dropped:
            assert model.forbidden(viewer, dropped.tweet_id) or dropped.filter in allowed, dropped
        assert feed_digest(feed) == feed_digest(ask(state, viewer, explain=Explain.ALL))


ACTS = {
    "block": (Kind.BLOCK, Kind.UNBLOCK), "mute": (Kind.MUTE, Kind.UNMUTE), "dismiss": (Kind.DISMISS, Kind.UNDISMISS),
    "follow": (Kind.FOLLOW, None), "report": (Kind.REPORT_USER, None),
}  # fmt: skip
#: 1 follows 2 and 3, who follow 10 to 14.
GROUND = [(1, 2), (1, 3)] + [(b, c) for b in (2, 3) for c in range(10, 15)]


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("way", [(1, 10), (10, 1)])
def test_an_act_takes_effect_in_the_very_next_answer_and_so_does_its_undoing(act, way):
    if way == (10, 1) and act in ("dismiss", "follow"):
        return
    state, (kind, undo) = state_of(GROUND), ACTS[act]
    assert 10 in people_of(ask(state, 1))
    for n, (code, is_shown) in enumerate([(kind, False), (undo, True)]):
        if code is not None:
            state.apply(make_batch(kind=[code], id=[7000 + n], user_id=way[:1], subject_id=way[1:],
                                   timestamp_ms=[T0 + 1000 + n]))  # fmt: skip
            assert (10 in people_of(ask(state, 1))) == is_shown


def shown_times(state, person, times):
    for n in range(times):
        state.apply(make_batch(kind=[Kind.SUGGESTED], id=[8000 + n], user_id=[1], subject_id=[person],
                               timestamp_ms=[T0 + HOUR * n]))  # fmt: skip


def test_who_was_suggested_before_moves_down_five_places_each_time_and_leaves_after_ten():
    state = state_of([(1, 2), (1, 3), *((b, c) for b in (2, 3) for c in range(10, 30))])
    first = people_of(ask(state, 1))
    assert len(first) == 20
    shown_times(state, first[0], 2)
    again = people_of(ask(state, 1, time_ms=T0 + 2 * HOUR))
    assert again.index(first[0]) in (9, 10)
    shown_times(state, first[1], 10)
    later = ask(state, 1, time_ms=T0 + 10 * HOUR, explain=Explain.ALL)
    assert {d.tweet_id: d.filter for d in later.dropped}[first[1]] == "fatigued"
    assert first[1] in people_of(ask(state, 1, time_ms=T0 + 10 * HOUR + 14 * DAY))


def test_an_entry_says_who_of_the_followees_follows_the_person_and_where_the_person_comes_from():
    state = state_of([*GROUND, (4, 10), (10, 1), (1, 5), (5, 10), (1, 6), (6, 10)])
    entry = next(e for e in ask(state, 1, explain=Explain.ENTRIES).entries if e.tweet_id == 10)
    followed, follows_you, *others = entry.reasons
    assert (followed.name, len(followed.people), followed.count) == ("followed_by", 3, 4)
    assert set(followed.people) <= {2, 3, 5, 6}
    assert followed.text.endswith("and 1 other whom you follow")
    assert follows_you.text == "follows you"
    names = [source.name for source in entry.why.sources]
    assert {reason.name for reason in others} == set(names)
    assert {"two_hop", "recent_follows", "triangles", "circle"} <= set(names)
    assert entry.score == pytest.approx(sum(entry.why.scores.values()))
    assert entry.counts == {"followers": 5, "followees": 1}


def test_what_the_request_excludes_is_left_out_by_name_and_there_is_no_second_page():
    state = state_of(GROUND)
    feed = ask(state, 1, exclude=(10, 11), explain=Explain.ALL, limit=2)
    assert people_of(feed) == [12, 13]
    dropped = {d.tweet_id: d.filter for d in feed.dropped}
    assert {dropped[10], dropped[11], dropped[14]} == {"excluded", "not_selected"}
    assert feed.cursor is None
    with pytest.raises(BadCursorError):
        ask(state, 1, cursor="x")


@pytest.mark.parametrize("hydrator", [Standing, Between])
def test_what_safety_rests_on_fails_closed(hydrator, monkeypatch):
    state = state_of(GROUND)

    def fail(*_):
        raise RuntimeError

    monkeypatch.setattr(hydrator, "hydrate", fail)
    with pytest.raises(SafetyError):
        ask(state, 1)


def test_a_source_that_fails_is_named_and_costs_no_more_than_its_people(monkeypatch):
    state = state_of(GROUND)

    def fail(*_):
        raise RuntimeError

    monkeypatch.setattr(type(state.real_graph), "strength_between", fail)
    feed = ask(state, 1)
    assert feed.degraded == ("two_hop",)
    assert set(people_of(feed)) == set(range(10, 15))


def test_a_viewer_of_whom_nothing_is_known_gets_popular_people():
    state = state_of([(who, whom) for who in range(20, 25) for whom in (50, 51)] + [(20, 60)])
    assert set(people_of(ask(state, 999))) == {50, 51}
    assert np.all([e.reasons[0].name == "popular" for e in ask(state, 999).entries])
