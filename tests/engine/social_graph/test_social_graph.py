"""The social graph against plain dictionaries and lists, and at its bounds."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.batch import EVENT_COLUMNS, Kind, make_batch
from engine.errors import InvariantError
from engine.room import restore
from engine.social_graph.state import Relation, SocialGraph, SocialGraphConfig, social_graph_bytes

FLAG = {Kind.FOLLOW: "follow", Kind.BLOCK: "block", Kind.MUTE: "mute"}
LIFTS = {Kind.UNFOLLOW: "follow", Kind.UNBLOCK: "block", Kind.UNMUTE: "mute"}
OTHERS = [Kind.FAVORITE, Kind.CREATE, Kind.REPORT_USER, Kind.CONTACT, Kind.MUTE_WORD, Kind.USER]

USERS = st.integers(1, 9)
#: Follows and unfollows prevail, so that lists grow, get holes and are compacted.
KINDS = st.sampled_from([Kind.FOLLOW] * 6 + [Kind.UNFOLLOW] * 3 + list(FLAG) + list(LIFTS) + OTHERS)
events = st.lists(st.tuples(KINDS, USERS, USERS), max_size=250)


class Model:
    """The documented rules for events in the order of their times. ``follows`` is in that order."""

    def __init__(self):
        self.follows, self.restricted = [], set()

    def blocks_between(self, user, other):
        return {(user, other, "block"), (other, user, "block")} & self.restricted

    def apply(self, kind, user, other):
        if user == other or kind in OTHERS:
            return
        if kind in LIFTS:
            if (user, other) in self.follows and LIFTS[kind] == "follow":
                self.follows.remove((user, other))
            self.restricted.discard((user, other, LIFTS[kind]))
        elif kind == Kind.FOLLOW:
            if (user, other) in self.follows or self.blocks_between(user, other):
                return
            self.follows.append((user, other))
        else:
            self.restricted.add((user, other, FLAG[kind]))
            if kind == Kind.BLOCK:
                self.follows = [pair for pair in self.follows if pair not in ((user, other), (other, user))]

    def relation(self, viewer, other):
        bits = Relation.FOLLOWS * ((viewer, other) in self.follows)
        bits |= Relation.FOLLOWED_BY * ((other, viewer) in self.follows)
        bits |= Relation.BLOCKS * ((viewer, other, "block") in self.restricted)
        bits |= Relation.BLOCKED_BY * ((other, viewer, "block") in self.restricted)
        bits |= Relation.MUTES * ((viewer, other, "mute") in self.restricted)
        return bits | Relation.MUTED_BY * ((other, viewer, "mute") in self.restricted)


clock = itertools.count(1_760_000_000_000)


def batch_of(rows, times=None):
    """Rows of (kind, user, other); without times each row is a millisecond after everything before it."""
    return make_batch(
        kind=[kind for kind, _, _ in rows],
        user_id=[user for _, user, _ in rows],
        subject_id=[other for _, _, other in rows],
        timestamp_ms=[next(clock) for _ in rows] if times is None else times,
    )


def cut_at(batch, row):
    """The batch's events up to a row, and the rest."""
    parts = ({name: getattr(batch, name)[part] for name in EVENT_COLUMNS} for part in (slice(row), slice(row, None)))
    return [make_batch(**part) for part in parts]


def refused_rows(effects):
    """Refused rows with their reasons."""
    rows = range(effects.size if effects else 0)
    return {int(effects.row[i]): effects.text_of(i).partition("\n")[0] for i in rows}


def room_bytes(room):
    return {name: array.tobytes() for name, array in room.arrays().items()}


def assert_followees_have_their_relation(room, users):
    for user in users:
        for limit in (1, 1000):
            ids, relation = room.followees_with_relation(user, limit)
            assert ids.tolist() == room.followees(user, limit).tolist()
            assert relation.tolist() == (room.relation(user, ids) & ~np.uint8(Relation.FOLLOWED_BY)).tolist()


def assert_same(room, model, users):
    assert_followees_have_their_relation(room, users)
    for user in users:
        followees = [other for source, other in model.follows if source == user][::-1]
        followers = [source for source, other in model.follows if other == user][::-1]
        assert room.followees(user, 1000).tolist() == followees
        assert room.followers(user, 1000).tolist() == followers
        assert room.followees(user, 2).tolist() == followees[:2]
        assert (room.followee_count(user), room.follower_count(user)) == (len(followees), len(followers))
        expected = [model.relation(user, other) if other != user else 0 for other in users]
        others = np.array(list(users), np.uint64)
        assert room.relation(user, others).tolist() == expected
        since = room.followed_ms(np.full(len(others), user, np.uint64), others)
        assert (since >= 0).tolist() == [other in followees for other in users]
        more = np.where(others % 2 == 0, others, others[::-1])
        both = [expected, room.relation(user, more).tolist()]
        assert room.relations(user, others, more).tolist() == both


def ample():
    return SocialGraph(SocialGraphConfig(users_max=1 << 10, edges_max=4000, list_entries_max=2000))


@settings(deadline=None)
@given(rows=events, cut=st.integers(0, 250))
def test_answers_as_the_model_however_the_batch_is_split(rows, cut):
    room, split, model = ample(), ample(), Model()
    batch = batch_of(rows)
    room.apply(batch)
    for part in cut_at(batch, cut):
        split.apply(part)
    for row in rows:
        model.apply(*row)
    room.check()
    assert_same(room, model, range(1, 11))
    assert room_bytes(room) == room_bytes(split)


@settings(deadline=None)
@given(rows=events, cut=st.integers(0, 250), users_max=st.integers(2, 9), edges_max=st.integers(2, 60))
def test_full_tables_refuse_by_name_and_keep_the_rest(rows, cut, users_max, edges_max):
    room, split = (
        SocialGraph(SocialGraphConfig(users_max=users_max, edges_max=edges_max, list_entries_max=2000))
        for _ in range(2)
    )
    batch = batch_of(rows)
    refused = refused_rows(room.apply(batch))
    first, second = (refused_rows(split.apply(part)) for part in cut_at(batch, cut))
    assert refused == first | {row + min(cut, len(rows)): why for row, why in second.items()}
    assert room_bytes(room) == room_bytes(split)
    room.check()
    model = Model()
    for number, row in enumerate(rows):
        if number in refused:
            assert row[0] in FLAG
            assert refused[number] in {"social_graph_full", "too_many_follows", "too_many_blocks", "too_many_mutes"}
        else:
            model.apply(*row)
    if not room.problem:
        assert_same(room, model, range(1, 10))
    assert {(u, o) for u in range(1, 10) for o in room.followees(u, 99).tolist()} == set(model.follows)
    assert_followees_have_their_relation(room, range(1, 10))
    for viewer in range(1, 10):
        bits = room.relation(viewer, np.arange(1, 10, dtype=np.uint64))
        for other in range(1, 10):
            asked = model.relation(viewer, other) & ~(Relation.FOLLOWS | Relation.FOLLOWED_BY)
            assert viewer == other or bits[other - 1] & asked == asked, "a block or mute does not hold"


@settings(deadline=None)
@given(rows=events, entries=st.integers(8, 64))
def test_a_full_arena_drops_follows_whole_and_stays_consistent(rows, entries):
    room = SocialGraph(SocialGraphConfig(users_max=16, edges_max=4000, list_entries_max=entries))
    refused = refused_rows(room.apply(batch_of(rows)))
    room.check()
    followees = {(user, int(other)) for user in range(1, 10) for other in room.followees(user, 100)}
    followers = {(int(other), user) for user in range(1, 10) for other in room.followers(user, 100)}
    assert followees == followers
    if not room.counters()["dropped_lists_full"]:
        model = Model()
        for number, row in enumerate(rows):
            if number not in refused:
                model.apply(*row)
        assert followees == set(model.follows)


def test_when_somebody_followed_is_the_time_of_the_newest_follow():
    room = ample()
    room.apply(batch_of([(Kind.FOLLOW, 1, 2), (Kind.FOLLOW, 1, 3), (Kind.FOLLOW, 2, 1)], times=[5000, 6000, 7000]))
    room.apply(batch_of([(Kind.FOLLOW, 1, 2), (Kind.UNFOLLOW, 1, 3)], times=[8000, 9000]))
    sources, others = np.array([1, 1, 2, 9, 1], np.uint64), np.array([2, 3, 1, 1, 9], np.uint64)
    assert room.followed_ms(sources, others).tolist() == [8000, -1, 7000, -1, -1]


def test_a_celebrity_gains_and_loses_followers_in_any_order():
    count = 20_000
    room = SocialGraph(SocialGraphConfig(users_max=1 << 15, edges_max=1 << 15, list_entries_max=1 << 18))
    rng = np.random.default_rng(3)
    kept = list(range(100, 100 + count))
    room.apply(batch_of([(Kind.FOLLOW, user, 7) for user in kept]))
    for round_ in range(4):
        leaving = rng.permutation(kept)[: len(kept) // 2].tolist()
        back = leaving[: len(leaving) // 4]
        gone = set(leaving)
        room.apply(batch_of([(Kind.UNFOLLOW, user, 7) for user in leaving] + [(Kind.FOLLOW, user, 7) for user in back]))
        kept = [user for user in kept if user not in gone] + back
        assert room.followers(7, count).tolist() == kept[::-1], round_
    room.check()
    room.apply(batch_of([(Kind.UNFOLLOW, user, 7) for user in kept]))
    room.check()
    usage = room.usage()
    assert (usage["edges"][0], usage["list_entries"][0]) == (0, 0)
    assert usage["undone"] == (1 << 11, 1 << 11)


def test_a_block_ends_following_and_prevents_it_until_lifted():
    room = ample()
    follow_both = [(Kind.FOLLOW, 1, 2), (Kind.FOLLOW, 2, 1)]
    room.apply(batch_of([*follow_both, (Kind.BLOCK, 1, 2), *follow_both]))
    assert room.relation(1, np.array([2], np.uint64)).tolist() == [Relation.BLOCKS]
    assert room.relation(2, np.array([1], np.uint64)).tolist() == [Relation.BLOCKED_BY]
    counters = room.counters()
    assert (counters["follows_cut_by_block"], counters["refused_blocked"]) == (2, 2)
    room.apply(batch_of([(Kind.UNBLOCK, 1, 2), *follow_both]))
    assert room.relation(1, np.array([2], np.uint64)).tolist() == [Relation.FOLLOWS | Relation.FOLLOWED_BY]


def test_counts_what_has_no_effect():
    room = ample()
    rows = [
        (Kind.FOLLOW, 1, 2),
        (Kind.FOLLOW, 1, 2),
        (Kind.FOLLOW, 3, 3),
        (Kind.BLOCK, 3, 3),
        (Kind.UNFOLLOW, 2, 1),
        (Kind.UNMUTE, 8, 9),
        (Kind.FOLLOW, 0, 2),
        (Kind.MUTE, 2, 0),
    ]
    room.apply(batch_of(rows))
    counters = {name: count for name, count in room.counters().items() if count}
    assert counters == {"follows": 1, "repeated": 1, "refused_self": 2, "absent": 2, "without_user": 2}


def test_blocks_still_fit_when_follows_no_longer_do():
    room = SocialGraph(SocialGraphConfig(users_max=1000, edges_max=80, list_entries_max=4000))
    room.apply(batch_of([(Kind.FOLLOW, 200 + other % 5, other) for other in range(2, 100)]))
    assert room.follow_count == 70
    room.apply(batch_of([(Kind.BLOCK, 500 + other % 5, other) for other in range(601, 611)]))
    assert room.counters()["blocks"] == 10
    assert room.counters()["dropped_edges_full"] == 98 - 70
    room.check()


def test_unknown_ids_relate_to_nobody():
    room = ample()
    room.apply(batch_of([(Kind.FOLLOW, 1, 2)]))
    others = np.array([0, 1, 2, 77, (1 << 64) - 1], np.uint64)
    assert room.relation(1, others).tolist() == [0, 0, 1, 0, 0]
    assert room.relation(99, others).tolist() == [0] * 5
    assert room.followees(99, 10).tolist() == []
    assert room.followees(1, 0).tolist() == []


def test_memory_is_what_the_formula_says():
    config = SocialGraphConfig(users_max=1000, edges_max=5000, list_entries_max=20_000)
    assert SocialGraph(config).bytes_max == social_graph_bytes(config)


def test_restored_state_goes_on_as_the_first_and_damage_is_found():
    rows = [(Kind.FOLLOW, user, other) for user in range(1, 8) for other in range(1, 8)]
    room, other = ample(), ample()
    room.apply(batch_of(rows))
    restore(other, {name: array.copy() for name, array in room.arrays().items()})
    more = batch_of([(Kind.UNFOLLOW, 1, 3), (Kind.BLOCK, 2, 4), (Kind.FOLLOW, 9, 1)])
    for each in (room, other):
        each.apply(more)
    assert room_bytes(room) == room_bytes(other)
    edges = other.arrays()["edges"]
    edges[np.flatnonzero(edges)[0]] = 0
    with pytest.raises(InvariantError):
        other.check()
