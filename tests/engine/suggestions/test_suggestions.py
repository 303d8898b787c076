"""The room of suggestions against a plain model: who was dismissed, and how often who was suggested."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.batch import Kind, make_batch
from engine.suggestions.arrays import ENTRIES_EACH, IN_USE, SHOWN_AGAIN_MS
from engine.suggestions.check import check
from engine.suggestions.state import Suggestions, SuggestionsConfig, suggestions_bytes

T0 = 1_760_000_000_000
HOUR, DAY = 3_600_000, 86_400_000
CONFIG = SuggestionsConfig(people_max=16, entries_max=64, entries_per_person_max=16)
GONE = 77
rows_of = st.lists(
    st.tuples(
        st.sampled_from([Kind.DISMISS, Kind.UNDISMISS, Kind.SUGGESTED, Kind.SUGGESTED]),
        st.integers(1, 4), st.sampled_from([GONE, 11, 12, 13]), st.integers(-156, 156),
    ), max_size=60,
)  # fmt: skip


def batch_of(rows):
    return make_batch(
        kind=[kind for kind, *_ in rows], user_id=[who for _, who, *_ in rows],
        subject_id=[whom for _, _, whom, _ in rows], timestamp_ms=[T0 + hour * HOUR for *_, hour in rows],
    )  # fmt: skip


def model_of(rows, now_ms):
    """Whom each viewer dismissed, and how often who was suggested, both as far as that counts at a time."""
    said, shown = {}, {}
    for kind, who, whom, hour in rows:
        ms, key = T0 + hour * HOUR, (who, whom)
        if kind != Kind.SUGGESTED:
            if ms >= said.get(key, (0, False))[0]:
                said[key] = (ms, kind == Kind.DISMISS)
            continue
        count, newest = shown.get(key, (0, 0))
        if count and ms - newest > CONFIG.shown_age_ms_max:
            count = 0
        if not count or abs(ms - newest) >= SHOWN_AGAIN_MS:
            shown[key] = (count + 1, max(ms, newest))
    return (
        {key for key, (ms, stands) in said.items() if stands and now_ms - ms <= CONFIG.dismissed_age_ms_max},
        {key: count for key, (count, ms) in shown.items() if now_ms - ms <= CONFIG.shown_age_ms_max},
    )


def told(room, now_ms):
    dismissed, shown = set(), {}
    for viewer in range(1, 5):
        found = room.of(viewer, now_ms)
        assert (np.diff(found.people.astype(np.int64)) > 0).all()
        for person, is_dismissed, count in zip(*map(np.ndarray.tolist, found), strict=True):
            if is_dismissed:
                dismissed.add((viewer, person))
            if count:
                shown[viewer, person] = count
    return dismissed, shown


@settings(max_examples=60, deadline=None)
@given(rows_of, st.integers(1, 9), st.sampled_from([0, 10, 30, 300]))
def test_the_later_act_holds_and_suggestions_are_counted_whatever_the_cuts(rows, piece, days):
    room, whole = Suggestions(CONFIG), Suggestions(CONFIG)
    for start in range(0, len(rows), piece):
        room.apply(batch_of(rows[start : start + piece]))
        room.check()
    whole.apply(batch_of(rows))
    assert all(np.array_equal(array, whole.arrays()[name]) for name, array in room.arrays().items())
    # What does not count any more at the newest time may be freed, so older times are not asked for.
    now_ms = max([T0 + hour * HOUR for *_, hour in rows], default=T0) + days * DAY
    assert told(room, now_ms) == model_of(rows, now_ms)
    room.apply(make_batch(kind=[Kind.ERASE, Kind.ERASE], user_id=[GONE, 2], timestamp_ms=[now_ms, now_ms]))
    room.check()
    others = [row for row in rows if row[1] != 2 and row[2] != GONE]
    assert told(room, now_ms) == model_of(others, now_ms)
    assert not any((array == GONE).any() for array in room.arrays().values())


def test_a_dismissal_holds_for_180_days_to_the_millisecond_and_a_suggestion_for_14():
    room = Suggestions(CONFIG)
    room.apply(batch_of([(Kind.DISMISS, 1, 11, 0), (Kind.SUGGESTED, 1, 12, 0)]))
    for days, dismissed, shown in ((14, [True, False], [0, 1]), (180, [True, False], [0, 0])):
        assert room.of(1, T0 + days * DAY).dismissed.tolist() == dismissed
        assert room.of(1, T0 + days * DAY).shown.tolist() == shown
    assert room.of(1, T0 + 14 * DAY + 1).shown.tolist() == [0, 0]
    assert room.of(1, T0 + 180 * DAY + 1).dismissed.tolist() == [False, False]


def test_who_dismisses_too_many_loses_own_entries_only_the_shown_first_and_nobody_uses_up_the_room():
    room = Suggestions(SuggestionsConfig(people_max=64, entries_max=64, entries_per_person_max=999))
    each = room.entries_each
    assert each == 16
    room.apply(batch_of([(Kind.DISMISS, 2, 11, 0), (Kind.SUGGESTED, 2, 12, 0)]))
    room.apply(batch_of([(Kind.SUGGESTED, 1, 1000 + i, i) for i in range(5)]))
    room.apply(batch_of([(Kind.DISMISS, 1, 100 + i, i) for i in range(each)]))
    room.check()
    own = room.of(1, T0)
    assert own.people.tolist() == list(range(100, 100 + each))
    assert own.dismissed.all()
    room.apply(batch_of([(Kind.SUGGESTED, 1, 5, 30)]))  # a suggestion pushes out no dismissal
    assert room.of(1, T0).people.tolist() == own.people.tolist()
    room.apply(batch_of([(Kind.DISMISS, 1, 99, 40)]))
    assert room.of(1, T0).people.tolist() == [99, *range(101, 100 + each)]
    assert room.of(2, T0).people.tolist() == [11, 12]
    assert room.counters()["over_share"] == 7


def test_a_full_room_refuses_dismissals_by_name_until_others_have_lapsed():
    room = Suggestions(SuggestionsConfig(people_max=64, entries_max=8))
    assert room.apply(batch_of([(Kind.SUGGESTED, who, 50, 0) for who in range(1, 9)])) is None
    effects = room.apply(batch_of([(Kind.SUGGESTED, 20, 50, 1), (Kind.DISMISS, 20, 51, 1)]))
    assert effects is not None
    assert effects.row.tolist() == [1]
    assert effects.text_of(0).startswith("suggestions_full\n")
    assert room.apply(batch_of([(Kind.DISMISS, 20, 51, 15 * 24)])) is None
    assert room.of(20, T0 + 15 * DAY).dismissed.tolist() == [True]
    room.check()


def test_people_who_dismiss_themselves_or_nobody_are_passed_over():
    room = Suggestions(CONFIG)
    room.apply(make_batch(kind=[Kind.DISMISS, Kind.DISMISS, Kind.DISMISS], user_id=[1, 0, 2], subject_id=[1, 3, 0]))
    assert room.counters()["without_person"] == 3
    assert room.usage()["entries"] == (0, 64)


def test_a_larger_room_takes_over_everything_and_goes_on():
    rows = [(Kind.DISMISS, 1 + i % 4, 100 + i, i) for i in range(20)]
    small, large = Suggestions(CONFIG), Suggestions(SuggestionsConfig(people_max=99, entries_max=999))
    small.apply(batch_of(rows))
    assert large.grow_from(small)
    assert not small.grow_from(large)
    more = [(Kind.SUGGESTED, 1 + i % 4, 200 + i, i) for i in range(8)]
    for room in (small, large):
        room.apply(batch_of(more))
        room.check()
    assert told(small, T0) == told(large, T0)
    assert sum(array.nbytes for array in large.arrays().values()) == suggestions_bytes(large.config)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda s: s.entries.__setitem__((0, 0), 0), "a person twice"),
        (lambda s: s.header.__setitem__(IN_USE, 9), "in use"),
        (lambda s: s.viewers.__setitem__((0, 1), 9), "counted 9"),
        (lambda s: s.limits.__setitem__(ENTRIES_EACH, 1), "entries"),
    ],
)
def test_check_finds_damage(damage, message):
    room = Suggestions(CONFIG)
    room.apply(batch_of([(Kind.DISMISS, 1, 11, 0), (Kind.DISMISS, 1, 12, 0)]))
    check(room._suggested)
    damage(room._suggested)
    with pytest.raises(Exception, match=message):
        room.check()
