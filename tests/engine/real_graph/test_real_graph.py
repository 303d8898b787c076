"""real_graph against a daily sweep over the raw acts, and its bounds, shares and undos against plain rules."""

import random

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine.batch import EVENT_COLUMNS, RESOLVED_COLUMNS, Change, Kind, make_batch
from engine.errors import InvariantError
from engine.real_graph import arrays
from engine.real_graph.arrays import FEATURES, MS_PER_DAY, Feature, Status
from engine.real_graph.read_kernels import WEIGHTS
from engine.real_graph.state import RealGraph, RealGraphConfig, real_graph_bytes
from engine.room import restore
from engine.rooms import small_rooms
from engine.state import EngineState
from tests.oracles.real_graph import swept

DAY_0 = 20_000
SMALL = RealGraphConfig(people_max=8, pairs_max=64, features_max=96, pairs_per_person_max=8)
WIDE = RealGraphConfig(people_max=64, pairs_max=4096, features_max=4096)
PEOPLE = np.arange(1, 13, dtype=np.uint64)
A, B = 1, 2


def ms(day, part=0.5):
    return int((DAY_0 + day + part) * MS_PER_DAY)


def engage(rows):
    """Resolved rows: (kind, viewer, author, time, change, replaced time, seconds)."""
    kind, viewer, author, time_ms, change, replaced_ms, value = zip(*rows, strict=True)
    tweets = np.arange(1000, 1000 + len(rows))
    return make_batch(
        kind=kind, user_id=viewer, subject_id=tweets, original_id=tweets, original_author_id=author,
        timestamp_ms=time_ms, change=change, replaced_ms=replaced_ms, value=value,
    )  # fmt: skip


def row(kind, viewer, author, time_ms, change=Change.BEGINS, replaced_ms=-1, value=0.0):
    return kind, viewer, author, time_ms, change, replaced_ms, value


def relate(kind, user, other, time_ms, change=Change.BEGINS):
    return make_batch(kind=[kind], user_id=[user], subject_id=[other], timestamp_ms=[time_ms], change=[change])


def statistics(room, feature, day, viewer=A, author=B):
    return room.statistics(viewer, np.array([author], np.uint64), ms(day))[0][0, feature]


def assert_swept(room, feature, acts, day):
    expected = swept([(DAY_0 + d, amount) for d, amount in acts], DAY_0 + day)
    np.testing.assert_allclose(statistics(room, feature, day), expected, rtol=2e-4, atol=2e-4)


GAPS = st.one_of(st.integers(0, 3), st.integers(0, 75), st.integers(0, 900))


@example([(0, 1), (60, 1)], 0)
@example([(0, 1), (59, 1), (59, 1), (59, 2), (1200, 1)], 60)
@given(st.lists(st.tuples(GAPS, st.integers(1, 5)), min_size=1, max_size=30), GAPS)
def test_what_is_rolled_up_on_touch_is_what_a_daily_sweep_gives(steps, later):
    """Acts in order of time, with gaps after which a feature is dropped, and dwell seconds beside counts."""
    room, day, acts, looks = RealGraph(WIDE), 0, [], []
    for gap, count in steps:
        day += gap
        rows = [row(Kind.FAVORITE, A, B, ms(day, 0.1 * k)) for k in range(count)]
        rows.append(row(Kind.DWELL, A, B, ms(day), value=1.5 * count))
        room.apply(engage(rows))
        acts += [(day, 1.0)] * count
        looks.append((day, 1.5 * count))
    room.check()
    for at in {day, day + later}:
        assert_swept(room, Feature.FAVORITE, acts, at)
        assert_swept(room, Feature.DWELL_S, looks, at)
    assert room.counters()["late"] == 0


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 1)), min_size=1, max_size=20, unique=True),
    st.lists(st.tuples(st.integers(0, 19), st.integers(0, 30), st.booleans()), max_size=12),
    st.randoms(),
)
def test_acts_in_any_order_taken_back_and_renewed_leave_the_sweep_of_what_holds(acts, changes, chance):
    """At most two acts a day, so that closed days are exact, too. An act is on one of two tweets of its day."""
    chance.shuffle(acts)
    held = [day for day, _ in acts]
    rows = [row(Kind.RETWEET, A, B, ms(day)) for day in held]
    for which, day, ends in changes:
        if which >= len(held):
            continue
        before = held[which]
        if before is None:
            continue
        if ends:
            rows.append(row(Kind.UNRETWEET, A, B, ms(day), Change.ENDS, ms(before)))
            held[which] = None
        elif held.count(day) < 2:
            rows.append(row(Kind.RETWEET, A, B, ms(day), Change.RENEWED, ms(before)))
            held[which] = day
    room = RealGraph(WIDE)
    room.apply(engage(rows))
    room.check()
    left = [(day, 1.0) for day in held if day is not None]
    if not left:
        assert room.usage()["pairs"][0] == room.usage()["features"][0] == 0
    for at in (31, 40):
        assert_swept(room, Feature.RETWEET, left, at)


@settings(max_examples=50)
@given(st.lists(st.integers(1, 58), min_size=8, max_size=40), st.data())
def test_an_act_of_hundreds_of_days_ago_is_taken_back_exactly_while_all_days_are_alike(gaps, data):
    """One act on every active day; then some of them are taken back, however old they are."""
    days = np.cumsum(gaps).tolist()
    room, newest = RealGraph(WIDE), days[-1]
    room.apply(engage([row(Kind.FAVORITE, A, B, ms(day)) for day in days]))
    # The first day and the newest stay, and no gap becomes longer than the sweep allows.
    inner = [day for a, day, b in zip(days, days[1:], days[2:], strict=False) if b - a < 59]
    undone = sorted(data.draw(st.lists(st.sampled_from(inner), max_size=6, unique=True))) if inner else []
    undone = [day for before, day in zip([-99, *undone], undone, strict=False) if day - before > 59]
    for day in undone:
        room.apply(engage([row(Kind.UNFAVORITE, A, B, ms(newest), Change.ENDS, ms(day))]))
        room.check()
    assert_swept(room, Feature.FAVORITE, [(day, 1.0) for day in days if day not in undone], newest)


def test_older_closed_days_with_many_acts_keep_their_sum_and_mean():
    room = RealGraph(WIDE)
    acts = [(day, 5) for day in (0, 3, 50, 51, 52)]
    room.apply(engage([row(Kind.FAVORITE, A, B, ms(day, 0.01 * k)) for day, n in acts for k in range(n)]))
    room.apply(engage([row(Kind.UNFAVORITE, A, B, ms(60), Change.ENDS, ms(0, 0.01 * k)) for k in range(3)]))
    expected = swept([(DAY_0, 2), *((DAY_0 + day, n) for day, n in acts[1:])], DAY_0 + 60)
    found = statistics(room, Feature.FAVORITE, 60)
    assert found[[0, 1, 3]] == pytest.approx([expected.ewma, expected.mean, expected.non_zero_days], rel=1e-5)
    room.check()


def test_each_kind_has_its_feature_and_an_act_through_a_retweet_counts_for_the_retweeter_too():
    state = EngineState(small_rooms(1 << 6))
    create = {"kind": [Kind.CREATE] * 2, "id": [1, 2], "user_id": [B, 3], "author_id": [B, 3], "subject_id": [50, 60]}
    state.apply(make_batch(**create, timestamp_ms=[ms(0)] * 2, payload=[0, 1], tweet_retweeted_id=[0, 50]))
    kinds = [Kind.FAVORITE, Kind.RETWEET, Kind.REPLY, Kind.QUOTE, Kind.SHARE, Kind.CLICK, Kind.PROFILE_CLICK]
    kinds += [Kind.DWELL, Kind.IMPRESSION, Kind.UNFAVORITE]
    n = len(kinds)
    state.apply(
        make_batch(
            kind=kinds, id=range(10, 10 + n), user_id=[A] * n, subject_id=[60] * n, value=[30.0] * n,
            timestamp_ms=[ms(0, 0.5 + 0.01 * k) for k in range(n)],
        )
    )  # fmt: skip
    state.apply(
        make_batch(
            kind=[Kind.MENTION, Kind.MEDIA_TAG], id=[1, 1], user_id=[B, B], author_id=[A, A], subject_id=[70, 70],
            timestamp_ms=[ms(0)] * 2,
        )
    )  # fmt: skip
    found = state.real_graph.statistics(A, np.array([B, 3], np.uint64), ms(0))[0][:, :, 0]
    toward = {Feature(k).name for k in np.flatnonzero(found[0])}
    assert toward == {
        "RETWEET", "REPLY", "QUOTE", "MENTION", "PHOTO_TAG", "SHARE", "TWEET_CLICK", "PROFILE_VIEW", "INSPECTED",
        "DWELL_S",
    }  # fmt: skip
    through = {Feature(k).name for k in np.flatnonzero(found[1])}
    assert through == {"THROUGH_RETWEET", "THROUGH_REPLY", "THROUGH_QUOTE", "THROUGH_CLICK"}
    assert found[0, Feature.DWELL_S] == 30.0
    # What A did toward B says nothing about B toward A.
    assert not state.real_graph.statistics(B, np.array([A], np.uint64), ms(0))[0].any()
    state.check()


def test_statuses_do_not_decay_an_unfollow_fades_and_negative_ones_leave_no_strength():
    room = RealGraph(WIDE)
    for other, kind, change in [
        (2, Kind.BLOCK, Change.BEGINS), (3, Kind.MUTE, Change.BEGINS), (4, Kind.REPORT_USER, Change.BEGINS),
        (5, Kind.UNFOLLOW, Change.ENDS), (6, Kind.CONTACT, Change.NOTHING), (7, Kind.BLOCK, Change.NOTHING),
    ]:  # fmt: skip
        room.apply(engage([row(Kind.FAVORITE, A, other, ms(0))]))
        room.apply(relate(kind, A, other, ms(0), change))
    others = PEOPLE[1:7]
    flags = [Status.BLOCKED, Status.MUTED, Status.REPORTED, Status.UNFOLLOWED, Status.CONTACT, 0]
    assert room.statistics(A, others, ms(89))[1].tolist() == flags
    assert room.statistics(A, others, ms(400))[1].tolist() == [*flags[:3], 0, *flags[4:]]
    assert (room.strength(A, others, ms(0)) > 0).tolist() == [False] * 4 + [True] * 2
    room.apply(relate(Kind.MUTE, A, 2, ms(1)))
    ids, kinds = room.negatives(A, ms(89))
    assert ids.tolist() == [2, 3, 4, 5]
    assert kinds[0] == Status.BLOCKED | Status.MUTED
    assert room.negatives(A, ms(400), limit=2)[0].tolist() == [2, 3]
    for kind, other in ((Kind.UNBLOCK, 2), (Kind.UNMUTE, 2), (Kind.UNMUTE, 3)):
        room.apply(relate(kind, A, other, ms(2), Change.ENDS))
    room.apply(relate(Kind.FOLLOW, A, 5, ms(3)))
    assert room.negatives(A, ms(10))[0].tolist() == [4]
    room.check()


def test_more_and_newer_acts_are_a_stronger_tie():
    room = RealGraph(WIDE)
    acts = {2: [0], 3: [20], 4: [19, 20], 5: [15, 16, 17, 18, 19, 20]}
    room.apply(engage([row(Kind.FAVORITE, A, other, ms(day)) for other, days in acts.items() for day in days]))
    room.apply(engage([row(Kind.REPLY, A, 6, ms(20)), row(Kind.DWELL, A, 7, ms(20), value=20.0)]))
    found = room.strength(A, PEOPLE[:8], ms(20))
    assert 0 == found[0] < found[1] < found[2] < found[3] < found[4] < 1
    assert found[5] > found[2]
    assert found[7] == 0
    # A pair with nothing but looks is no tie.
    assert found[6] == 0
    best = room.strongest(A, ms(20), 3)
    assert best.user_ids.tolist() == [5, 4, 6]
    assert best.scores.tolist() == found[[4, 3, 5]].tolist()
    sources = np.full(8, A, np.uint64)
    assert room.strength_between(sources, PEOPLE[:8], ms(20)).tolist() == found.tolist()
    assert not room.strength(A, PEOPLE, ms(100)).any()
    assert not room.strength(99, PEOPLE, ms(20)).any()


def test_ten_thousand_others_of_one_person_push_out_nobody_elses_pairs():
    room = RealGraph(RealGraphConfig(people_max=16, pairs_max=1024, features_max=2048, pairs_per_person_max=64))
    room.apply(engage([row(Kind.FAVORITE, v, o, ms(0)) for v in (2, 3) for o in range(100, 150)]))
    room.apply(engage([row(Kind.FAVORITE, 9, 50, ms(day)) for day in (0, 1, 2)]))
    before = [room.statistics(v, np.arange(100, 150, dtype=np.uint64), ms(2))[0].tobytes() for v in (2, 3)]
    room.apply(engage([row(Kind.REPLY, 9, 1000 + k, ms(2)) for k in range(10_000)]))
    room.check()
    after = [room.statistics(v, np.arange(100, 150, dtype=np.uint64), ms(2))[0].tobytes() for v in (2, 3)]
    assert before == after
    assert room.counters()["people_evicted"] == 0
    # The strongest tie stays, whatever comes.
    assert room.strength(9, np.array([50], np.uint64), ms(2))[0] > 0
    assert len(room.strongest(9, ms(2), 1000).user_ids) <= 64
    assert room.counters()["pairs_evicted"] > 9_900


ACTS = st.tuples(
    st.sampled_from([Kind.FAVORITE, Kind.REPLY, Kind.CLICK, Kind.DWELL, Kind.SHARE]),
    st.integers(1, 12), st.integers(1, 12), st.integers(0, 90),
)  # fmt: skip


@settings(max_examples=60)
@given(st.lists(ACTS, max_size=120), st.integers(1, 120), st.lists(st.integers(1, 12), max_size=3))
def test_small_rooms_stay_sound_and_the_cuts_of_pieces_do_not_matter(acts, cut, erased):
    rows = [row(kind, v, a, ms(day), value=9.0) for kind, v, a, day in acts]
    rows += [row(Kind.ERASE, person, 0, ms(90)) for person in erased]
    rows += rows[: len(acts) // 2]
    if not rows:
        return
    batch = engage(rows)
    whole, parts = RealGraph(SMALL), RealGraph(SMALL)
    whole.apply(batch)
    for start, stop in ((0, cut), (cut, len(rows))):
        columns = EVENT_COLUMNS | RESOLVED_COLUMNS
        parts.apply(batch._replace(**{name: getattr(batch, name)[start:stop] for name in columns}))
        parts.check()
    for name, array in whole.arrays().items():
        assert array.tobytes() == parts.arrays()[name].tobytes(), name
    for person in PEOPLE.tolist():
        assert len(whole.strongest(person, ms(90), 99).user_ids) <= 8


def test_an_erased_person_is_gone_from_both_sides():
    room = RealGraph(WIDE)
    room.apply(engage([row(Kind.FAVORITE, v, a, ms(0)) for v in range(1, 9) for a in range(1, 9)]))
    room.apply(engage([row(Kind.ERASE, 3, 0, ms(1))]))
    room.check()
    assert not (room.arrays()["destinations"] == 3).any()
    assert not room.strength(3, PEOPLE, ms(1)).any()
    assert room.usage()["pairs"][0] == 7 * 6
    assert room.usage()["people"][0] == 7


def test_what_counts_no_more_is_forgotten_by_and_by():
    room = RealGraph(WIDE)
    room.apply(engage([row(Kind.FAVORITE, 1, a, ms(0)) for a in range(2, 12)]))
    room.apply(engage([row(Kind.FAVORITE, 20, 21, ms(100, 0.001 * k)) for k in range(20)]))
    assert room.usage() == {"people": (1, 64), "pairs": (1, 4096), "features": (1, 4096)}
    assert room.counters()["pairs_lapsed"] == 10
    room.check()


def test_a_restored_room_goes_on_alike_and_a_larger_one_holds_the_same():
    chance = random.Random(3)
    kinds = [Kind.FAVORITE, Kind.REPLY, Kind.DWELL, Kind.CLICK]

    def some(first_day):
        return engage(
            [
                row(chance.choice(kinds), chance.randint(1, 12), chance.randint(1, 12), ms(first_day + k / 40), value=5)
                for k in range(900)
            ]
        )

    first, second = some(0), some(20)
    room, again, large = RealGraph(SMALL), RealGraph(SMALL), RealGraph(WIDE)
    room.apply(first)
    restore(again, {name: array.copy() for name, array in room.arrays().items()})
    assert large.grow_from(room)
    assert not room.grow_from(large)
    large.check()
    for person in PEOPLE.tolist():
        for mine, other in zip(
            room.statistics(person, PEOPLE, ms(23)), large.statistics(person, PEOPLE, ms(23)), strict=True
        ):
            assert mine.tobytes() == other.tobytes()
    for some_room in (room, again, large):
        some_room.apply(second)
        some_room.check()
    for name, array in room.arrays().items():
        assert array.tobytes() == again.arrays()[name].tobytes(), name


def test_memory_is_what_the_formula_says_and_a_pair_takes_at_most_160_bytes():
    for config in (SMALL, WIDE):
        assert RealGraph(config).bytes_max == real_graph_bytes(config)
    config = RealGraphConfig()
    assert real_graph_bytes(config) / config.pairs_max <= 160


DAMAGE = {
    "table": lambda t: t.table.fill(0),
    "count": lambda t: t.header.__setitem__(arrays.PAIRS, 9),
    "itself": lambda t: t.destinations.__setitem__(0, A),
    "sum": lambda t: t.feature_sums.__setitem__((0, 0), -1.0),
    "days": lambda t: t.feature_days.__setitem__((0, arrays.DAY_1), 65000),
    "kind": lambda t: t.feature_days.__setitem__((1, arrays.CODE), int(Feature.FAVORITE)),
    "order": lambda t: t.header.__setitem__(arrays.OLDEST, 0),
    "free": lambda t: t.header.__setitem__(arrays.FEATURES_HIGH, 9),
    "chain": lambda t: t.people.__setitem__((0, arrays.FIRST_PAIR), 0),
    "marks": lambda t: t.feature_marks.__setitem__(0, 3),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_damage_is_noticed(how):
    room = RealGraph(SMALL)
    room.apply(engage([row(Kind.FAVORITE, A, B, ms(0)), row(Kind.REPLY, A, B, ms(0))]))
    room.check()
    DAMAGE[how](room._ties)
    with pytest.raises(InvariantError):
        room.check()


def test_there_is_a_weight_for_every_feature():
    assert WEIGHTS.shape == (FEATURES,)
    assert (WEIGHTS > 0).all()
