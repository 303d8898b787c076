"""The engagement aggregates against closed forms over the raw acts, and their bounds against a model."""

import random
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.batch import EVENT_COLUMNS, RESOLVED_COLUMNS, UNDOES, Change, Kind, make_batch
from engine.engagement_aggregates import arrays
from engine.engagement_aggregates.arrays import Label, PairLabel
from engine.engagement_aggregates.state import (
    EngagementAggregates,
    EngagementAggregatesConfig,
    engagement_aggregates_bytes,
)
from engine.errors import ConfigError, InvariantError
from engine.room import restore
from engine.rooms import small_rooms
from engine.social_graph.state import SocialGraph, SocialGraphConfig
from engine.state import EngineState
from tests.oracles.engagement_aggregates import LABELED, Act, Model

T0 = 1_760_000_000_000
MINUTE, HOUR = 60_000, 3_600_000
HALF_LIVES_MS = (30 * MINUTE, 24 * HOUR)
AUTHORS = np.arange(1, 9, dtype=np.uint64)
SMALL = EngagementAggregatesConfig(authors_max=3, viewers_max=3, pairs_per_viewer=2)
WIDE = EngagementAggregatesConfig(authors_max=16, viewers_max=16, pairs_per_viewer=16)


def make_room(config=WIDE):
    graph = SocialGraph(SocialGraphConfig(users_max=64, edges_max=256, list_entries_max=1 << 11))
    return EngagementAggregates(config, graph), graph


def batch_of(acts, value=60.0):
    """Rows as the room sees them: resolved."""
    relationship = np.array([act.kind >= Kind.FOLLOW for act in acts], bool)
    author = np.array([act.author for act in acts], np.uint64)
    tweet = np.arange(1000, 1000 + len(acts), dtype=np.uint64)
    begins = [Change.RENEWED if act.replaced_ms >= 0 else Change.BEGINS for act in acts]
    return make_batch(
        kind=[act.kind for act in acts],
        change=[Change.ENDS if act.kind in UNDOES else change for act, change in zip(acts, begins, strict=True)],
        replaced_ms=[act.replaced_ms for act in acts],
        user_id=[act.viewer for act in acts],
        subject_id=np.where(relationship, author, tweet),
        original_id=np.where(relationship, 0, tweet),
        original_author_id=np.where(relationship, 0, author),
        timestamp_ms=[act.time_ms for act in acts],
        value=[value] * len(acts),
    )


def creates(authors, time_ms=T0):
    return [Act(Kind.CREATE, int(author), int(author), time_ms) for author in authors]


def is_impression(act):
    return act.kind == Kind.IMPRESSION


def part_of(batch, start, stop):
    names = EVENT_COLUMNS | RESOLVED_COLUMNS
    return batch._replace(**{name: getattr(batch, name)[start:stop] for name in names})


def assert_like(room, model, time_ms, viewers=range(1, 9), atol=1e-37):
    """Every count at ``time_ms`` is its closed form, to 1e-6 of it."""
    expected = np.zeros((len(AUTHORS), len(Label), 2))
    for i, author in enumerate(AUTHORS.tolist()):
        if author in model.authors:
            expected[i] = [[model.authors[author].at(k, time_ms, h) for h in HALF_LIVES_MS] for k in Label]
    np.testing.assert_allclose(room.of_authors(AUTHORS, time_ms), expected, rtol=1e-6, atol=atol)
    for viewer in viewers:
        expected = np.zeros((len(AUTHORS), len(PairLabel), 2))
        for pair in model.viewers.get(viewer, []):
            expected[pair.author - 1] = [[pair.vector.at(k, time_ms, h) for h in HALF_LIVES_MS] for k in PairLabel]
        np.testing.assert_allclose(room.of_pairs(viewer, AUTHORS, time_ms), expected, rtol=1e-6, atol=atol)
        assert_features_like(room, viewer, time_ms)


def assert_features_like(room, viewer, time_ms):
    """Features of some rows are exactly what ``of_authors`` and ``of_pairs`` give, and nothing else is written."""
    rows = np.arange(len(AUTHORS) - 1, -1, -2, dtype=np.int32)
    labels = np.array([Label.IMPRESSION, PairLabel.REPLY, PairLabel.NEGATIVE], np.int64)
    matrix = np.full((len(rows), 5), -7.0, np.float32)
    room.features(viewer, AUTHORS, rows, time_ms, labels, matrix, 1)
    pairs = room.of_pairs(viewer, AUTHORS, time_ms)[rows]
    assert np.array_equal(matrix[:, 1], room.of_authors(AUTHORS, time_ms)[rows, Label.IMPRESSION, 1])
    assert np.array_equal(matrix[:, 2:4], pairs[:, [PairLabel.REPLY, PairLabel.NEGATIVE], 1])
    assert (matrix[:, [0, 4]] == -7.0).all()


PEOPLE = st.integers(1, 6)
KINDS = st.sampled_from(sorted(LABELED - {Kind.FOLLOW, Kind.BLOCK, Kind.MUTE}))
#: Within minutes, within a day, and late or early by days.
TIMES = st.one_of(st.integers(0, 20 * MINUTE), st.integers(0, 24 * HOUR), st.integers(-72 * HOUR, 72 * HOUR))
ACTS = st.builds(lambda k, v, a, t: Act(k, v, a, T0 + t), KINDS, st.integers(0, 5), st.integers(0, 5), TIMES)


@given(st.lists(ACTS, max_size=40), st.sets(st.tuples(st.integers(1, 5), st.integers(1, 5)), max_size=6), st.randoms())
def test_counts_are_the_closed_form_in_any_order(acts, follows, chance):
    room, graph = make_room()
    model = Model(16, 16, 16)
    follows = sorted((a, b) for a, b in follows if a != b)
    graph.apply(batch_of([Act(Kind.FOLLOW, a, b, T0) for a, b in follows]))
    model.relations = {pair: {"follow"} for pair in follows}
    # Impressions last: they count for pairs that are there.
    acts.sort(key=is_impression)
    model.piece(range(1, 6), acts)
    chance.shuffle(acts)
    acts.sort(key=is_impression)
    room.apply(batch_of(creates(range(1, 6)) + acts))
    room.check()
    newest = max([T0, *(act.time_ms for act in acts)])
    for later in (0, 7 * MINUTE, 30 * HOUR):
        assert_like(room, model, newest + later)


UNDO_OF = {kind: undo for undo, kind in UNDOES.items()}


@given(st.lists(ACTS, min_size=1, max_size=30), st.lists(st.integers(0, 29), max_size=30), st.randoms())
def test_what_is_taken_back_or_renewed_leaves_the_closed_form_of_what_holds(acts, again, chance):
    room, _ = make_room()
    model = Model(16, 16, 16)
    acts = [act for act in acts if act.kind != Kind.IMPRESSION] + creates([1])
    rows = list(acts)
    for i in {i % len(acts) for i in again}:
        undo = UNDO_OF.get(acts[i].kind)
        kind = undo if undo and chance.random() < 0.7 else acts[i].kind
        rows.append(acts[i]._replace(kind=kind, time_ms=acts[i].time_ms + HOUR, replaced_ms=acts[i].time_ms))
    rows = [row for row in rows if row.kind != Kind.CREATE]
    model.piece(range(1, 6), rows)
    room.apply(batch_of(creates(range(1, 6)) + rows))
    room.check()
    newest = max([T0, *(row.time_ms for row in rows)])
    # Rounding of what was taken back stays.
    assert_like(room, model, newest, atol=1e-5)


def test_an_undo_takes_nothing_from_others_where_the_act_was_forgotten():
    room, _ = make_room(SMALL)
    like = Act(Kind.FAVORITE, 2, 1, T0)
    room.apply(batch_of([*creates([1]), like]))
    for author in (7, 8, 9, 7, 8, 9):
        room.apply(batch_of(creates([author], T0 + HOUR)))
    room.apply(batch_of([*creates([1], T0 + 2 * HOUR), Act(Kind.FAVORITE, 3, 1, T0 + 2 * HOUR)]))
    room.apply(batch_of([Act(Kind.UNFAVORITE, 2, 1, T0 + 3 * HOUR, T0)]))
    assert room.of_authors(AUTHORS[:1], T0 + 2 * HOUR)[0, Label.FAVORITE].tolist() == [1, 1]


@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(1, 6), max_size=3),
            st.lists(
                st.builds(Act, KINDS, st.integers(1, 6), st.integers(1, 6), st.integers(T0, T0 + HOUR), st.just(-1))
            ),
        ),
        max_size=8,
    )
)
@settings(max_examples=200)
def test_small_capacities_keep_what_the_rules_say(pieces):
    room, _ = make_room(SMALL)
    model = Model(SMALL.authors_max, SMALL.viewers_max, SMALL.pairs_per_viewer)
    for entering, acts in pieces:
        room.apply(batch_of(creates(entering) + acts))
        model.piece(entering, acts)
        room.check()
        assert room._aggregates.authors.keys.tolist() == model.author_clock.keys
        assert room._aggregates.viewers.keys.tolist() == model.viewer_clock.keys
        assert room.usage()["pairs"][0] == sum(map(len, model.viewers.values()))
        assert_like(room, model, T0 + HOUR)


@given(st.lists(ACTS, max_size=40), st.lists(st.integers(1, 40), max_size=4))
def test_the_state_is_the_same_wherever_pieces_are_cut_while_nothing_that_is_read_changes(acts, cuts):
    batch = batch_of(acts)
    (whole, _), (cut, _) = make_room(SMALL), make_room(SMALL)
    for room in (whole, cut):
        room.apply(batch_of(creates(range(1, 4))))
    whole.apply(batch)
    for start, stop in pairwise([0, *sorted(at for at in cuts if at < len(acts)), len(acts)]):
        cut.apply(part_of(batch, start, stop))
    for name, array in whole.arrays().items():
        assert array.tobytes() == cut.arrays()[name].tobytes(), name


def relation_rows(*kinds):
    """Rows of viewer 2 towards author 1, a second apart."""
    return [Act(kind, 2, 1, T0 + 1000 * i) for i, kind in enumerate(kinds)]


@pytest.mark.parametrize(
    ("kind", "undo", "label"),
    [
        (Kind.FOLLOW, Kind.UNFOLLOW, Label.FOLLOW),
        (Kind.BLOCK, Kind.UNBLOCK, Label.BLOCK),
        (Kind.MUTE, Kind.UNMUTE, Label.MUTE),
    ],
)
def test_a_relation_counts_while_it_holds_and_once(kind, undo, label):
    state = EngineState(small_rooms(1 << 6))
    rows = [(kind, 0), (kind, 1), (undo, 2), (kind, 3), (undo, 4), (kind, 5), (undo, 6)]
    create = {"kind": [Kind.CREATE], "user_id": [1], "author_id": [1], "subject_id": [100], "timestamp_ms": [T0]}
    state.apply(make_batch(**create))
    for count in (6, 1):
        part, rows = rows[:count], rows[count:]
        state.apply(
            make_batch(
                kind=[k for k, _ in part], user_id=[2] * count, subject_id=[1] * count,
                timestamp_ms=[T0 + ms for _, ms in part],
            )
        )  # fmt: skip
        found = state.engagement_aggregates.of_authors(AUTHORS[:1], T0)[0, label, 0]
        assert found == pytest.approx(1.0 if rows else 0.0, abs=1e-5)


def test_acts_of_followers_are_told_apart_by_the_end_of_the_piece():
    room, graph = make_room()
    batch = batch_of([*creates([1]), *relation_rows(Kind.FAVORITE, Kind.IMPRESSION, Kind.FOLLOW)])
    graph.apply(batch)
    room.apply(batch)
    other = batch_of([Act(Kind.FAVORITE, 3, 1, T0)])
    graph.apply(other)
    room.apply(other)
    found = room.of_authors(AUTHORS[:1], T0)[0, :, 0]
    assert found[[Label.FAVORITE, Label.FROM_FOLLOWER, Label.FOLLOW]] == pytest.approx([2, 1, 1], rel=1e-3)


def test_what_does_not_count_is_named():
    room, _ = make_room()
    room.apply(batch_of(creates([1])))
    room.apply(batch_of([Act(Kind.DWELL, 2, 1, T0)], value=1.9))
    acts = [
        Act(Kind.FAVORITE, 1, 1, T0),
        Act(Kind.FAVORITE, 0, 1, T0),
        Act(Kind.FAVORITE, 2, 0, T0),
        Act(Kind.UNFAVORITE, 2, 1, T0),
        Act(Kind.MUTE, 2, 1, T0),
        Act(Kind.FAVORITE, 2, 7, T0),
        Act(Kind.SERVED, 2, 1, T0),
    ]
    batch = batch_of([*acts, Act(Kind.RETWEET, 2, 1, T0), Act(Kind.REPLY, 2, 1, T0)])
    batch.change[-2:] = Change.NOTHING, Change.UNCOUNTED
    room.apply(batch)
    assert {name: count for name, count in room.counters().items() if count} == {
        "counted": 2, "short_dwells": 1, "own_tweets": 1, "without_user": 1, "without_author": 1, "taken_back": 1,
        "unknown_author": 1, "unchanged": 2,
    }  # fmt: skip
    assert room.of_authors(AUTHORS, T0).sum() == 2.0
    # The viewer's own counts do not need the author to be known.
    assert room.of_pairs(2, AUTHORS, T0)[6, PairLabel.FAVORITE].tolist() == [1, 1]


def test_an_engagement_with_a_retweet_of_a_retweet_is_the_originals():
    state = EngineState(small_rooms(1 << 6))
    state.apply(
        make_batch(
            kind=[Kind.CREATE] * 3 + [Kind.FAVORITE] * 2, id=range(1, 6), user_id=[1, 2, 3, 4, 1],
            author_id=[1, 2, 3, 0, 0], subject_id=[10, 20, 30, 30, 20], timestamp_ms=[T0] * 5,
            payload=[0, 1, 2, -1, -1], tweet_retweeted_id=[0, 10, 20],
        )
    )  # fmt: skip
    favorites = state.engagement_aggregates.of_authors(AUTHORS, T0)[:, Label.FAVORITE, 0]
    assert favorites.tolist() == [1, 0, 0, 0, 0, 0, 0, 0]
    # Those who only retweet take nobody's place.
    assert state.engagement_aggregates.usage()["authors"][0] == 1
    assert state.engagement_aggregates.counters()["own_tweets"] == 1


def test_one_viewer_with_ten_thousand_authors_evicts_nobody_elses_counts():
    config = EngagementAggregatesConfig(authors_max=8, viewers_max=4, pairs_per_viewer=4)
    room, _ = make_room(config)
    room.apply(batch_of(creates(AUTHORS[:4])))
    room.apply(batch_of([Act(Kind.FAVORITE, viewer, author, T0) for viewer in (2, 3) for author in (1, 4, 5, 6)]))
    before = [room.of_authors(AUTHORS, T0), room.of_pairs(2, AUTHORS, T0), room.of_pairs(3, AUTHORS, T0)]
    room.apply(batch_of([Act(Kind.REPLY, 9, 100 + i, T0 + i) for i in range(10_000)]))
    after = [room.of_authors(AUTHORS, T0), room.of_pairs(2, AUTHORS, T0), room.of_pairs(3, AUTHORS, T0)]
    assert [a.tobytes() for a in before] == [a.tobytes() for a in after]
    assert room.counters()["pairs_evicted"] == 10_000 - config.pairs_per_viewer
    assert room.counters()["viewers_evicted"] == room.counters()["authors_evicted"] == 0
    newest = np.arange(10_096, 10_100, dtype=np.uint64)
    assert (room.of_pairs(9, newest, T0)[:, PairLabel.REPLY, 0] > 0).all()
    room.check()


def test_impressions_count_for_a_pair_that_is_there_and_make_none():
    room, _ = make_room()
    room.apply(batch_of([Act(Kind.IMPRESSION, 9, 1, T0), Act(Kind.CLICK, 9, 1, T0), Act(Kind.IMPRESSION, 9, 1, T0)]))
    room.apply(batch_of([Act(Kind.IMPRESSION, 9, 2, T0), Act(Kind.IMPRESSION, 8, 1, T0)]))
    assert room.of_pairs(9, AUTHORS, T0)[:2, [PairLabel.CLICK, PairLabel.IMPRESSION], 0].tolist() == [[1, 1], [0, 0]]
    assert room.counters()["impressions_without_pair"] == 3
    assert room.usage()["viewers"][0] == room.usage()["pairs"][0] == 1


def test_acts_close_together_decay_as_well():
    """20 ms are 2e-7 of the long half-life: decaying a float32 at each act would round every step away, 4e-3 in all."""
    room, _ = make_room()
    room.apply(batch_of(creates([1])))
    times = T0 + 20 * np.arange(50_000)
    n = len(times)
    room.apply(
        make_batch(
            kind=np.full(n, Kind.FAVORITE), user_id=np.full(n, 2), subject_id=np.full(n, 5), timestamp_ms=times,
            original_author_id=np.full(n, 1),
        )
    )  # fmt: skip
    now_ms = int(times[-1])
    expected = [(0.5 ** ((now_ms - times) / half_life)).sum() for half_life in HALF_LIVES_MS]
    assert room.of_authors(AUTHORS[:1], now_ms)[0, Label.FAVORITE] == pytest.approx(expected, rel=5e-4)


def test_a_restored_room_goes_on_alike():
    chance = random.Random(3)
    kinds = sorted(LABELED)
    acts = [
        Act(chance.choice(kinds), chance.randint(1, 9), chance.randint(1, 9), T0 + chance.randint(0, HOUR) + 100 * i)
        for i in range(2000)
    ]
    first, second = batch_of(creates(range(1, 9)) + acts[:1000]), batch_of(creates(range(3, 5)) + acts[1000:])
    (room, graph), (again, other_graph) = make_room(SMALL), make_room(SMALL)
    graph.apply(first)
    room.apply(first)
    restore(other_graph, graph.arrays())
    restore(again, {name: array.copy() for name, array in room.arrays().items()})
    for some_room, some_graph in ((room, graph), (again, other_graph)):
        some_graph.apply(second)
        some_room.apply(second)
        some_room.check()
    for name, array in room.arrays().items():
        assert array.tobytes() == again.arrays()[name].tobytes(), name


def test_a_larger_room_goes_on_where_a_smaller_one_was():
    acts = [Act(Kind.FAVORITE, v, a, T0 + 7 * v + a) for v in range(1, 6) for a in range(1, 6)]
    small, _ = make_room(SMALL)
    small.apply(batch_of(creates(range(1, 6)) + acts))
    large, _ = make_room()
    assert large.grow_from(small)
    large.check()
    assert large.counters() == small.counters()
    assert {name: used for name, (used, _) in large.usage().items()} == {
        name: used for name, (used, _) in small.usage().items()
    }
    assert np.array_equal(large.of_authors(AUTHORS, T0 + HOUR), small.of_authors(AUTHORS, T0 + HOUR))
    for viewer in range(1, 6):
        assert np.array_equal(large.of_pairs(viewer, AUTHORS, T0), small.of_pairs(viewer, AUTHORS, T0))
    large.apply(batch_of([*creates([7]), Act(Kind.REPLY, 8, 7, T0)]))
    large.check()
    assert large.counters()["authors_evicted"] == small.counters()["authors_evicted"]
    assert large.of_pairs(8, AUTHORS, T0)[6, PairLabel.REPLY, 0] == 1
    assert not make_room(SMALL)[0].grow_from(large)


def test_a_request_before_the_acts_does_not_grow_them():
    room, _ = make_room()
    room.apply(batch_of([*creates([1]), Act(Kind.FAVORITE, 2, 1, T0)]))
    assert room.of_authors(AUTHORS[:1], T0 - HOUR)[0, Label.FAVORITE].tolist() == [1, 1]


def test_memory_is_what_the_formula_says():
    for config in (SMALL, WIDE):
        assert make_room(config)[0].bytes_max == engagement_aggregates_bytes(config)
    assert engagement_aggregates_bytes(EngagementAggregatesConfig()) < 25.6e6


def test_half_lives_in_the_wrong_order_are_refused():
    with pytest.raises(ConfigError, match="half_life_long_ms"):
        make_room(EngagementAggregatesConfig(half_life_short_ms=2000, half_life_long_ms=1000))


DAMAGE = {
    "negative": lambda s: s.author_counts.__setitem__((0, 0, 0), -1.0),
    "count": lambda s: s.pair_counts.__setitem__((0, 1, 0, 0), 1.0),
    "twice": lambda s: s.pair_author.__setitem__((0, slice(0, 2)), 1),
    "itself": lambda s: s.pair_author.__setitem__((0, 0), 2),
    "lost": lambda s: s.authors.slots.fill(0),
    "unused": lambda s: s.viewer_touched.__setitem__(2, 1),
    "pairs": lambda s: s.header.__setitem__(arrays.PAIRS, 5),
    "hand": lambda s: s.header.__setitem__(arrays.AUTHORS_HAND, 99),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_damage_is_noticed(how):
    room, _ = make_room(SMALL)
    room.apply(batch_of([*creates([1]), Act(Kind.FAVORITE, 2, 1, T0)]))
    room.check()
    DAMAGE[how](room._aggregates)
    with pytest.raises(InvariantError):
        room.check()
