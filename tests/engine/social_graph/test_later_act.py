"""Whatever the order in which acts arrive, the later one holds: against a plain replay in the order of their times."""

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.batch import Kind, make_batch
from engine.room import restore
from engine.social_graph.state import Relation, SocialGraph, SocialGraphConfig

T = 1_760_000_000_000
PEOPLE = range(1, 5)
ACTS = [Kind.FOLLOW, Kind.UNFOLLOW, Kind.BLOCK, Kind.UNBLOCK, Kind.MUTE, Kind.UNMUTE]

acts = st.tuples(st.sampled_from([*ACTS, *ACTS[:4]]), st.integers(1, 4), st.integers(1, 4), st.integers(T, T + 6))
arrivals = st.lists(acts.filter(lambda act: act[1] != act[2]), max_size=24)
few_pairs = st.lists(
    st.tuples(st.sampled_from(ACTS[:4]), st.sampled_from([(1, 2), (2, 1)]), st.integers(T, T + 9)).map(
        lambda act: (act[0], *act[1], act[2])
    ),
    max_size=10,
)


def expected(rows):
    """Relations of all pairs after a replay in the order of the times, then of arrival, by the plainest rules."""
    follows, blocks, mutes = set(), set(), set()
    for kind, user, other, _ in sorted(rows, key=lambda row: row[3]):
        pair, back = (user, other), (other, user)
        if kind == Kind.FOLLOW and pair not in blocks and back not in blocks:
            follows.add(pair)
        elif kind == Kind.UNFOLLOW:
            follows.discard(pair)
        elif kind == Kind.BLOCK:
            blocks.add(pair)
            follows -= {pair, back}
        elif kind == Kind.UNBLOCK:
            blocks.discard(pair)
        elif kind == Kind.MUTE:
            mutes.add(pair)
        elif kind == Kind.UNMUTE:
            mutes.discard(pair)
    return follows, blocks, mutes


def held(room):
    """The same three sets, as the room answers."""
    people = np.array(PEOPLE, np.uint64)
    bits = {viewer: room.relation(viewer, people).tolist() for viewer in PEOPLE}
    found = []
    for relation, back in (
        (Relation.FOLLOWS, Relation.FOLLOWED_BY),
        (Relation.BLOCKS, Relation.BLOCKED_BY),
        (Relation.MUTES, Relation.MUTED_BY),
    ):
        pairs = {(user, other) for user in PEOPLE for other in PEOPLE if bits[user][other - 1] & relation}
        assert pairs == {(other, user) for user in PEOPLE for other in PEOPLE if bits[user][other - 1] & back}
        found.append(pairs)
    assert found[0] == {(user, other) for user in PEOPLE for other in room.followees(user, 9).tolist()}
    assert found[0] == {(other, user) for user in PEOPLE for other in room.followers(user, 9).tolist()}
    return tuple(found)


def batch_of(rows):
    kind, user, other, ms = zip(*rows, strict=True) if rows else ((), (), (), ())
    return make_batch(kind=kind, user_id=user, subject_id=other, timestamp_ms=ms)


def make(edges_max=4000, **rules):
    return SocialGraph(SocialGraphConfig(users_max=64, edges_max=edges_max, list_entries_max=2000, **rules))


def restarted(room, **config):
    """The room as a snapshot brings it back; with another configuration, grown."""
    other = make(**config)
    if config:
        assert other.grow_from(room)
    else:
        restore(other, {name: array.copy() for name, array in room.arrays().items()})
    return other


def unblocks_are_known(rows):
    """Whether no pair has more than two unblocks: of more, the room knows the first after the block and the last."""
    count = Counter((user, other) for kind, user, other, _ in rows if kind == Kind.UNBLOCK)
    return all(n <= 2 for n in count.values())


@settings(deadline=None, max_examples=300)
@given(rows=arrivals | few_pairs, cuts=st.tuples(st.integers(0, 24), st.integers(0, 24)), grows=st.booleans())
def test_any_order_any_cut_any_restart_gives_what_the_order_of_the_times_gives(rows, cuts, grows):
    whole, parts = make(), make()
    whole.apply(batch_of(rows))
    first, second = sorted(cuts)
    parts.apply(batch_of(rows[:first]))
    parts = restarted(parts)
    parts.apply(batch_of(rows[first:second]))
    if grows:
        parts = restarted(parts, edges_max=5000)
    parts.apply(batch_of(rows[second:]))
    for room in (whole, parts):
        room.check()
        follows, blocks, mutes = expected(rows)
        found = held(room)
        assert found[1:] == (blocks, mutes)
        assert found[0] <= follows
        assert found[0] == follows or not unblocks_are_known(rows)
    if not grows:
        same = {name: array.tobytes() for name, array in whole.arrays().items()}
        assert same == {name: array.tobytes() for name, array in parts.arrays().items()}


def holds(rows, relation, user=18, other=24):
    room = make()
    room.apply(batch_of(rows))
    return bool(room.relation(user, np.array([other], np.uint64))[0] & relation)


def test_an_older_undo_that_comes_later_undoes_nothing():
    for act, undo, relation in (
        (Kind.FOLLOW, Kind.UNFOLLOW, Relation.FOLLOWS),
        (Kind.BLOCK, Kind.UNBLOCK, Relation.BLOCKS),
        (Kind.MUTE, Kind.UNMUTE, Relation.MUTES),
    ):
        assert holds([(act, 18, 24, T), (undo, 18, 24, T - 3_600_000)], relation)
        assert holds([(act, 18, 24, T), (undo, 18, 24, T - 1)], relation)
        assert not holds([(undo, 18, 24, T + 2), (act, 18, 24, T + 1)], relation)
        assert not holds([(act, 18, 24, T), (undo, 18, 24, T + 1)], relation)
        assert holds([(undo, 18, 24, T + 2), (act, 18, 24, T + 1), (act, 18, 24, T + 3)], relation)


def test_in_one_millisecond_the_act_that_arrives_later_holds():
    for act, undo, relation in (
        (Kind.FOLLOW, Kind.UNFOLLOW, Relation.FOLLOWS),
        (Kind.BLOCK, Kind.UNBLOCK, Relation.BLOCKS),
        (Kind.MUTE, Kind.UNMUTE, Relation.MUTES),
    ):
        assert not holds([(act, 18, 24, T), (undo, 18, 24, T)], relation)
        assert holds([(undo, 18, 24, T), (act, 18, 24, T)], relation)
    for order in (1, -1):
        assert not holds([(Kind.FOLLOW, 18, 24, T), (Kind.BLOCK, 24, 18, T)][::order], Relation.FOLLOWS)


def test_what_was_undone_is_remembered_up_to_a_persons_own_bound():
    """One more forgets the person's first; others' are untouched. Then an older follow comes back, a block holds."""
    room = make(edges_max=1 << 14, undone_per_person_max=4)
    room.apply(batch_of([(Kind.UNFOLLOW, 2, 9, T), (Kind.UNBLOCK, 3, 9, T)]))
    room.apply(batch_of([(Kind.UNFOLLOW, 1, other, T) for other in range(10, 15)]))
    late = [(Kind.FOLLOW, 1, other, T - 1) for other in range(10, 15)]
    room.apply(batch_of([*late, (Kind.FOLLOW, 2, 9, T - 1), (Kind.BLOCK, 3, 9, T - 1)]))
    assert room.followees(1, 9).tolist() == [10]
    assert room.followees(2, 9).tolist() == []
    assert not room.relation(3, np.array([9], np.uint64))[0]
    assert room.counters()["undone_forgotten"] == 1
    room.check()


def test_undone_acts_are_bounded_in_all():
    room = make(edges_max=64)
    for user in range(1, 33):
        room.apply(batch_of([(Kind.UNFOLLOW, user, 40 + i, T) for i in range(3)]))
        room.check()
    assert room.usage()["undone"] == (64, 64)
