"""De-duplication against a list of the last events."""

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.batch import Kind, make_batch
from engine.deduplication.arrays import PERSON_FACTOR, SMALL_RINGS, share_of, small_ring
from engine.deduplication.state import Deduplication, DeduplicationConfig
from engine.errors import InvariantError
from engine.kernels.erasing import QUEUE_SIZE
from engine.room import restore

PRIMARY = [int(kind) for kind in Kind if not 72 <= kind < 96]
DERIVED = [int(kind) for kind in Kind if 72 <= kind < 96]

IDS = st.integers(0, 5) | st.integers((1 << 64) - 3, (1 << 64) - 1)
#: Kind, id, person and subject: few of each, so that events repeat, and differ in one value only.
rows_of_events = st.lists(
    st.tuples(st.sampled_from([*PRIMARY[:3], *PRIMARY, *DERIVED]), IDS, st.integers(1, 2), st.sampled_from([1, 7, 8])),
    max_size=200,
)


class Model:
    """The rules, over plain lists of the newest events: within shares, and beyond a share by small ring."""

    def __init__(self, events_max):
        self.events_max = events_max
        self.recent = []
        self.small = defaultdict(list)
        self.fate = True

    def holds(self, key):
        return key in self.recent or any(key in ring for ring in self.small.values())

    def enter(self, key):
        who = owner(key)
        if sum(owner(other) == who for other in self.recent) < share_of(self.events_max):
            self.recent = [*self.recent, key][-self.events_max :]
        else:
            ring = SMALL_RING_OF[who]
            self.small[ring] = [*self.small[ring], key][-small_ring(self.events_max) :]

    def keep(self, kind, event_id, user_id, subject_id):
        if kind in DERIVED:
            return self.fate
        if kind == Kind.ERASE:
            for ring in (self.recent, *self.small.values()):
                ring[:] = [
                    (of, id, 0 if who == user_id else who, 0 if of >= Kind.FOLLOW and whom == user_id else whom)
                    for of, id, who, whom in ring
                ]
        key = (kind, event_id, user_id, subject_id)
        self.fate = event_id == 0 or not self.holds(key)
        if self.fate and event_id:
            self.enter(key)
        return self.fate


def owner(key):
    """Whose share an event counts in."""
    return 0 if key[0] in (Kind.LABEL, Kind.UNLABEL) else key[2]


#: The small rings of the people of these tests: the uppermost six bits of the ids' hashes.
SMALL_RING_OF = {0: 0, 1: 21, 2: 54}


def batch_of(rows):
    """Rows are (kind, id, person, subject); person and subject may be left out."""
    rows = [(*row, *(1, 1)[len(row) - 2 :]) for row in rows]
    kind, event_id, user_id, subject_id = zip(*rows, strict=True) if rows else ((), (), (), ())
    return make_batch(kind=kind, id=event_id, user_id=user_id, subject_id=subject_id, timestamp_ms=np.arange(len(rows)))


def keep(room, rows):
    return room.keep(batch_of(rows)).tolist()


def known(room, row):
    batch = batch_of([row])
    return bool(room.known(batch.kind, batch.id, batch.user_id, batch.subject_id)[0])


def room_bytes(room):
    return {name: array.tobytes() for name, array in room.arrays().items()}


@settings(deadline=None)
@given(rows=rows_of_events, events_max=st.integers(1, 20), cut=st.integers(0, 200))
def test_keeps_what_the_model_keeps_however_the_batch_is_split(rows, events_max, cut):
    room, split = (Deduplication(DeduplicationConfig(events_max=events_max)) for _ in range(2))
    model = Model(events_max)
    expected = [model.keep(*row) for row in rows]
    assert keep(room, rows) == expected
    assert keep(split, rows[:cut]) + keep(split, rows[cut:]) == expected
    # The ring's times differ (each part numbers its own rows); everything else is the same state.
    room.arrays()["ring_ms"][:] = split.arrays()["ring_ms"]
    assert room_bytes(room) == room_bytes(split)
    room.check()


@given(rows=rows_of_events, events_max=st.integers(1, 20))
def test_what_is_known_is_what_would_not_be_kept_next(rows, events_max):
    room = Deduplication(DeduplicationConfig(events_max=events_max))
    keep(room, rows)
    before = room_bytes(room)
    for row in {row for row in rows if not 72 <= row[0] < 96 and row[0] != Kind.ERASE}:
        next_one = Deduplication(room.config)
        restore(next_one, {name: array.copy() for name, array in room.arrays().items()})
        assert known(room, row) != keep(next_one, [row])[0]
    assert room_bytes(room) == before


def test_a_long_stream_forgets_exactly_beyond_the_horizon():
    horizon = 1000
    room = Deduplication(DeduplicationConfig(events_max=horizon))
    rng = np.random.default_rng(5)
    ids = rng.integers(1, 4000, 20_000).astype(np.uint64)
    kinds = rng.choice(np.array([1, 64, 96, 128, 160], np.uint8), len(ids))
    people = ids % np.uint64(100) + np.uint64(1)
    got = keep(room, list(zip(kinds.tolist(), ids.tolist(), people.tolist(), strict=True)))
    recent, order = {}, 0
    for row, key in enumerate(zip(kinds.tolist(), ids.tolist(), strict=True)):
        fresh = recent.get(key, -horizon - 1) < order - horizon
        assert bool(got[row]) == fresh
        if fresh:
            recent[key] = order
            order += 1
    room.check()
    assert room.counters()["kept"] == order
    assert room.counters()["expired"] == order - horizon
    assert room.fill() == {"events": 1.0, "events_over_share": 0.0}


def test_events_that_differ_only_in_a_high_bit_or_in_one_value_are_different():
    for place in range(1, 4):
        rows = [tuple(7 | (1 << bit) if at == place else 7 for at in range(4)) for bit in range(3, 64)]
        room = Deduplication(DeduplicationConfig())
        assert all(keep(room, rows))
        assert not any(keep(room, rows))
    rows = [(kind, 7) for kind in PRIMARY]
    assert all(keep(Deduplication(DeduplicationConfig()), rows))


def test_create_and_delete_may_have_the_id_of_their_tweet():
    room = Deduplication(DeduplicationConfig())
    create, delete = (Kind.CREATE, 2400, 9, 2400), (Kind.DELETE, 2400, 9, 2400)
    assert keep(room, [create, delete, create, delete]) == [True, True, False, False]


@settings(deadline=None)
@given(rows=rows_of_events, cut=st.integers(0, 200))
def test_nobody_changes_by_choice_of_ids_which_events_of_others_are_kept(rows, cut):
    """Everything that person 2 sends, with whatever ids, leaves person 1's events kept or not as without it."""
    alone, beside = (Deduplication(DeduplicationConfig(events_max=300)) for _ in range(2))
    others = [row for row in rows if row[2] == 1 and row[0] in PRIMARY]
    expected = iter(keep(alone, others))
    mixed = [row for row in rows if row[0] in PRIMARY]
    got = keep(beside, mixed[:cut]) + keep(beside, mixed[cut:])
    assert [kept for row, kept in zip(mixed, got, strict=True) if row[2] == 1] == list(expected)


def test_equal_hashes_are_not_taken_for_equal_events():
    """Somebody who inverts the hash finds ids that share the slot and fingerprint of another person's event."""
    room = Deduplication(DeduplicationConfig(events_max=64))
    mask = (1 << 64) - 1
    theirs = (int(Kind.BLOCK), 77, 5, 9)
    chosen_id = (theirs[1] + (theirs[2] - 6) * int(PERSON_FACTOR)) & mask
    assert keep(room, [(int(Kind.BLOCK), chosen_id, 6, 9), theirs]) == [True, True]
    assert keep(room, [theirs]) == [False]


def test_horizon_is_the_event_time_held():
    room = Deduplication(DeduplicationConfig(events_max=3))
    assert room.horizon_ms == 0
    batch = make_batch(kind=[1] * 5, id=range(1, 6), user_id=[1] * 5, timestamp_ms=range(0, 500, 100))
    room.keep(batch)
    assert room.horizon_ms == 200


def test_memory_is_what_the_formula_says():
    room = Deduplication(DeduplicationConfig(events_max=1000))
    assert room.bytes_max == 33 * (1000 + 64) + 8 * 2048 + 4 * 1024 + 64 + 8 * SMALL_RINGS + 8 * QUEUE_SIZE


def test_restored_state_goes_on_as_the_first_and_damage_is_found():
    room, other = (Deduplication(DeduplicationConfig(events_max=8)) for _ in range(2))
    keep(room, [(1, n) for n in range(1, 7)])
    restore(other, {name: array.copy() for name, array in room.arrays().items()})
    assert keep(other, [(1, 6), (1, 7)]) == [False, True]
    table = other.arrays()["table"]
    table[np.flatnonzero(table)[0]] = 0
    with pytest.raises(InvariantError):
        other.check()


FLOODER = 2


@pytest.mark.parametrize("kind", [Kind.FAVORITE, Kind.LABEL])
def test_a_flood_of_one_person_makes_the_room_forget_nothing_of_others(kind):
    """Labels name nobody: all of them together have one share."""
    room = Deduplication(DeduplicationConfig(events_max=1024))
    others = [(int(Kind.FAVORITE), n, 200 + n % 50, n) for n in range(1, 901)]
    flood = [(int(kind), 10_000 + n, FLOODER if kind == Kind.FAVORITE else 10_000 + n, 7) for n in range(8000)]
    assert all(keep(room, [*others, *flood]))
    assert not any(known(room, row) for row in flood[64:-1])
    assert known(room, flood[0])
    assert known(room, flood[-1])
    assert not any(keep(room, others))
    assert room.counters()["over_share"] == 8000 - 64
    room.check()


def test_a_room_that_grows_keeps_what_it_holds_also_beyond_shares():
    room = Deduplication(DeduplicationConfig(events_max=2048))
    rows = [(1, n, 1, 1) for n in range(1, 300)] + [(1, n, 5, 1) for n in range(1, 100)]
    keep(room, rows)
    larger = Deduplication(DeduplicationConfig(events_max=4096))
    assert larger.grow_from(room)
    larger.check()
    assert [known(larger, row) for row in rows] == [known(room, row) for row in rows]
    assert sum(known(larger, row) for row in rows) == 128 + 2 + 99
    # The small ring goes on where it was: its oldest leaves last.
    keep(larger, [(1, 1000 + n, 1, 1) for n in range(128 + 3)])
    assert not known(larger, (1, 298, 1, 1))
    larger.check()
