"""What one person sends changes nothing for others; a block that finds no room is not forgotten."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.batch import Kind, make_batch
from engine.effects import EffectKind
from engine.social_graph.state import Refusal, Relation, SocialGraph, SocialGraphConfig

T = 1_760_000_000_000
HOSTILE = 66_666
KINDS = [Kind.FOLLOW, Kind.UNFOLLOW, Kind.BLOCK, Kind.UNBLOCK, Kind.MUTE, Kind.UNMUTE]


def batch_of(rows):
    kind, user, other, ms = zip(*rows, strict=True) if rows else ((), (), (), ())
    return make_batch(kind=kind, user_id=user, subject_id=other, timestamp_ms=ms)


def reasons(effects):
    assert effects is None or set(effects.kind.tolist()) == {EffectKind.REFUSED}
    return [effects.text_of(i).split("\n")[0] for i in range(effects.size if effects else 0)]


def relation(room, viewer, other):
    return int(room.relation(viewer, np.array([other], np.uint64))[0])


def test_each_person_follows_blocks_and_mutes_a_bounded_number_of_people():
    rules = {"follows_per_person_max": 7, "blocks_per_person_max": 5, "mutes_per_person_max": 3}
    room = SocialGraph(SocialGraphConfig(users_max=1 << 10, edges_max=1 << 12, list_entries_max=1 << 12, **rules))
    for kind, undo, most, reason in (
        (Kind.FOLLOW, Kind.UNFOLLOW, 7, "too_many_follows"),
        (Kind.BLOCK, Kind.UNBLOCK, 5, "too_many_blocks"),
        (Kind.MUTE, Kind.UNMUTE, 3, "too_many_mutes"),
    ):
        people = range(1000 * kind, 1000 * kind + 10)
        effects = room.apply(batch_of([(kind, 1, other, T) for other in people]))
        assert effects.row.tolist() == list(range(most, 10))
        assert reasons(effects) == [reason] * (10 - most)
        assert room.counters()[f"refused_{reason}"] == 10 - most
        # What holds may be repeated, others have their own share, and whoever undoes one has room for another.
        assert room.apply(batch_of([(kind, 1, people[0], T + 1), (kind, 2, people[9], T)])) is None
        assert room.apply(batch_of([(undo, 1, people[0], T + 2), (kind, 1, people[9], T + 2)])) is None
        assert reasons(room.apply(batch_of([(kind, 1, people[8], T + 3)]))) == [reason]
    room.check()
    assert room.problem is None


acts = st.tuples(st.sampled_from(KINDS), st.integers(1, 6), st.integers(1, 6), st.integers(T, T + 9))


@settings(deadline=None)
@given(
    rows=st.lists(acts, max_size=60),
    hostile=st.lists(
        st.tuples(st.sampled_from(KINDS), st.integers(7, 1 << 62), st.integers(T - 5, T + 20)), max_size=200
    ),
    places=st.lists(st.integers(0, 60), max_size=200),
)
def test_a_flood_of_one_person_changes_nothing_between_others(rows, hostile, places):
    config = SocialGraphConfig(users_max=256, edges_max=1 << 10, list_entries_max=1 << 12)
    alone, beside = SocialGraph(config), SocialGraph(config)
    alone.apply(batch_of(rows))
    mixed = [(place, 0, row) for place, row in enumerate(rows)]
    mixed += [(place, 1, (kind, HOSTILE, other, ms)) for place, (kind, other, ms) in zip(places, hostile, strict=False)]
    beside.apply(batch_of([row for _, _, row in sorted(mixed, key=lambda entry: entry[:2])]))
    beside.check()
    people = np.arange(1, 7, dtype=np.uint64)
    for viewer in people.tolist():
        assert alone.relation(viewer, people).tolist() == beside.relation(viewer, people).tolist()
        assert alone.followees(viewer, 99).tolist() == beside.followees(viewer, 99).tolist()
        followers = [user for user in beside.followers(viewer, 99).tolist() if user != HOSTILE]
        assert alone.followers(viewer, 99).tolist() == followers


def test_65000_mutes_of_made_up_people_leave_room_for_everybody():
    room = SocialGraph(SocialGraphConfig())
    made_up = np.arange(1, 65_001, dtype=np.uint64) << np.uint64(20)
    for kind in (Kind.MUTE, Kind.BLOCK, Kind.FOLLOW, Kind.UNMUTE):
        batch = make_batch(
            kind=np.full(65_000, kind), user_id=np.full(65_000, HOSTILE), subject_id=made_up + np.uint64(kind)
        )
        room.apply(batch._replace(timestamp_ms=np.full(65_000, T)))
    assert room.counters()["mutes"] == room.counters()["blocks"] == 5000
    assert room.usage()["users"][0] < (1 << 18) // 8
    assert room.problem is None
    rows = [(kind, user, user + 1, T) for kind in (Kind.FOLLOW, Kind.MUTE) for user in range(1, 1000)]
    assert room.apply(batch_of([*rows, (Kind.BLOCK, 1, 3, T)])) is None
    assert relation(room, 1, 2) == Relation.FOLLOWS | Relation.MUTES
    assert relation(room, 3, 1) == Relation.BLOCKED_BY


@settings(deadline=None)
@given(
    users_max=st.integers(16, 300),
    edges_max=st.integers(64, 1200),
    acts=st.lists(st.tuples(st.sampled_from(KINDS), st.integers(100, 400)), min_size=100, max_size=400),
)
def test_one_person_cannot_fill_a_room_however_small_it_is(users_max, edges_max, acts):
    room = SocialGraph(SocialGraphConfig(users_max=users_max, edges_max=edges_max, list_entries_max=5 * edges_max))
    room.apply(batch_of([(kind, HOSTILE, other, T + i) for i, (kind, other) in enumerate(acts)]))
    assert all(used <= 3 * room_for // 4 for used, room_for in room.usage().values())
    others = [(Kind.BLOCK, 1, 2, T), (Kind.MUTE, 3, 1, T), (Kind.FOLLOW, 2, 3, T)]
    assert room.apply(batch_of(others)) is None
    assert room.problem is None


def full_room():
    """A room without a place for another block or mute: two are in force."""
    room = SocialGraph(SocialGraphConfig(users_max=64, edges_max=16, list_entries_max=64))
    room.apply(batch_of([(Kind.BLOCK, 1, 2, T), (Kind.MUTE, 3, 4, T)]))
    assert "no room" in room.problem
    return room


def test_a_block_that_finds_no_room_is_refused_and_its_person_sees_nobody_until_it_is_kept():
    room = full_room()
    assert reasons(room.apply(batch_of([(Kind.BLOCK, 5, 6, T), (Kind.MUTE, 7, 8, T)]))) == ["social_graph_full"] * 2
    assert "2 people" in room.problem
    room.check()
    # Of 5 it is not known whom 5 has blocked; of 7 not whom 7 has muted.
    assert relation(room, 5, 6) & Relation.BLOCKS
    assert relation(room, 5, 99) == Relation.BLOCKS
    assert relation(room, 99, 5) == Relation.BLOCKED_BY
    assert relation(room, 7, 99) == Relation.MUTES
    assert relation(room, 99, 7) == 0
    assert relation(room, 1, 3) == 0
    both = room.relations(5, np.array([99, 1], np.uint64), np.array([98, 1], np.uint64))
    assert both.tolist() == [[Relation.BLOCKS, Relation.BLOCKS]] * 2
    # The refused events are published again after there is room.
    grown = SocialGraph(SocialGraphConfig(users_max=64, edges_max=64, list_entries_max=64))
    assert grown.grow_from(room)
    assert relation(grown, 99, 5) == Relation.BLOCKED_BY
    assert grown.apply(batch_of([(Kind.BLOCK, 5, 6, T), (Kind.UNMUTE, 7, 8, T + 1)])) is None
    assert grown.problem is None
    assert (relation(grown, 5, 6), relation(grown, 5, 99), relation(grown, 7, 8)) == (Relation.BLOCKS, 0, 0)
    grown.check()


def test_more_of_one_person_than_can_be_noted_stays_closed():
    room = full_room()
    room.apply(batch_of([(Kind.BLOCK, 5, other, T) for other in range(10, 15)]))
    grown = SocialGraph(SocialGraphConfig(users_max=64, edges_max=256, list_entries_max=64))
    assert grown.grow_from(room)
    grown.apply(batch_of([(Kind.BLOCK, 5, other, T) for other in range(10, 15)]))
    assert relation(grown, 5, 99) == Relation.BLOCKS
    assert "1 people" in grown.problem


def test_more_people_than_can_be_noted_close_everything():
    room = full_room()
    people = np.arange(100, 100 + 1025, dtype=np.uint64)
    room.apply(make_batch(kind=np.full(1025, Kind.MUTE), user_id=people, subject_id=people + np.uint64(5000)))
    assert relation(room, 50, 51) == Relation.BLOCKS | Relation.MUTES | Relation.BLOCKED_BY
    assert relation(room, 50, 50) == relation(room, 50, 0) == 0
    assert "more people" in room.problem


def test_the_entrance_refuses_what_would_be_refused_and_a_little_before_the_room_is_full():
    config = SocialGraphConfig(users_max=1 << 10, edges_max=1 << 10, list_entries_max=1 << 12, blocks_per_person_max=20)
    room = SocialGraph(config)
    room.apply(batch_of([(Kind.BLOCK, 1, other, T) for other in range(100, 115)]))

    def refused(kind, user, other, waiting=0):
        columns = (np.array([kind], np.uint8), np.array([user], np.uint64), np.array([other], np.uint64))
        return int(room.refusals(*columns, np.array([0]), np.array([waiting]))[0, 0])

    assert refused(Kind.BLOCK, 1, 200) == 0
    assert refused(Kind.BLOCK, 1, 200, waiting=4) == 0
    assert refused(Kind.BLOCK, 1, 200, waiting=5) == Refusal.TOO_MANY_BLOCKS
    assert refused(Kind.BLOCK, 1, 100, waiting=5) == 0
    assert refused(Kind.MUTE, 1, 200, waiting=5) == 0
    assert refused(Kind.UNBLOCK, 1, 200, waiting=99) == refused(Kind.FAVORITE, 1, 200, waiting=99) == 0
    assert refused(Kind.FOLLOW, 1, 200, waiting=256) == Refusal.TOO_MANY_FOLLOWS
    # Of several events, each is judged as if those before it had been applied; what holds already adds nothing.
    several = [np.array([Kind.BLOCK] * 9, np.uint8), np.full(9, 1, np.uint64), np.arange(110, 119, dtype=np.uint64)]
    judged = room.refusals(*several, np.zeros(9, np.int64), np.array([2]))
    assert judged[0].tolist() == [0] * 8 + [Refusal.TOO_MANY_BLOCKS]
    assert judged[1].tolist() == [0] * 5 + [1] * 3 + [0]
    for user in range(2, 9):
        room.apply(batch_of([(Kind.BLOCK, user, other, T) for other in range(100, 116)]))
    assert room.usage()["blocks_and_mutes"] == (127, 128)
    assert room.problem is None
    assert refused(Kind.BLOCK, 900, 901) == refused(Kind.MUTE, 2, 901) == Refusal.SOCIAL_GRAPH_FULL
    assert refused(Kind.FOLLOW, 900, 901) == 0
    assert room.reason(Refusal.SOCIAL_GRAPH_FULL) == "social_graph_full"
