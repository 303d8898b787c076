"""De-duplication against a list of the last ids."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.batch import Kind
from engine.deduplication import Deduplication, DeduplicationConfig
from engine.errors import InvariantError
from engine.room import restore

PRIMARY = [int(kind) for kind in Kind if not 72 <= kind < 96]
DERIVED = [int(kind) for kind in Kind if 72 <= kind < 96]

rows_of_events = st.lists(
    st.tuples(st.sampled_from(PRIMARY + DERIVED), st.integers(0, 12) | st.integers((1 << 64) - 3, (1 << 64) - 1)),
    max_size=200,
)


def family(kind):
    return next(limit for limit in (64, 96, 128, 160, 192, 256) if kind < limit)


class Model:
    """The rules, over a plain list of the newest ids."""

    def __init__(self, events_max):
        self.events_max = events_max
        self.recent = []
        self.fate = True

    def keep(self, kind, event_id):
        if kind in DERIVED:
            return self.fate
        key = (family(kind), event_id)
        self.fate = event_id == 0 or key not in self.recent
        if self.fate and event_id:
            self.recent = [*self.recent, key][-self.events_max :]
        return self.fate


def keep(room, rows):
    kinds = np.array([kind for kind, _ in rows], np.uint8)
    ids = np.array([event_id for _, event_id in rows], np.uint64)
    return room.keep(kinds, ids, np.arange(len(rows), dtype=np.int64)).tolist()


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
    for row in {row for row in rows if not 72 <= row[0] < 96}:
        next_one = Deduplication(room.config)
        restore(next_one, {name: array.copy() for name, array in room.arrays().items()})
        assert room.known(np.array([row[0]], np.uint8), np.array([row[1]], np.uint64))[0] != keep(next_one, [row])[0]
    assert room_bytes(room) == before


def test_a_long_stream_forgets_exactly_beyond_the_horizon():
    horizon = 1000
    room = Deduplication(DeduplicationConfig(events_max=horizon))
    rng = np.random.default_rng(5)
    ids = rng.integers(1, 4000, 20_000).astype(np.uint64)
    kinds = rng.choice(np.array([1, 64, 96, 128, 160], np.uint8), len(ids))
    got = room.keep(kinds, ids, np.arange(len(ids), dtype=np.int64))
    recent, order = {}, 0
    for row, (kind, event_id) in enumerate(zip(kinds.tolist(), ids.tolist(), strict=True)):
        key = (kind, event_id)
        fresh = recent.get(key, -horizon - 1) < order - horizon
        assert bool(got[row]) == fresh
        if fresh:
            recent[key] = order
            order += 1
    room.check()
    assert room.counters()["kept"] == order
    assert room.counters()["expired"] == order - horizon
    assert room.fill() == {"events": 1.0}


def test_ids_that_differ_only_in_a_high_bit_or_by_topic_are_different():
    room = Deduplication(DeduplicationConfig(events_max=64))
    rows = [(kind, 7 | (1 << bit)) for bit in range(3, 64) for kind in (1,)]
    assert all(keep(room, rows))
    room = Deduplication(DeduplicationConfig())
    rows = [(kind, 7) for kind in (Kind.FAVORITE, Kind.CREATE, Kind.FOLLOW, Kind.USER, Kind.SERVED)]
    assert keep(room, rows) == [True] * 5
    assert keep(room, rows) == [False] * 5


def test_horizon_is_the_event_time_held():
    room = Deduplication(DeduplicationConfig(events_max=3))
    assert room.horizon_ms == 0
    room.keep(np.full(5, 1, np.uint8), np.arange(1, 6).astype(np.uint64), np.arange(0, 500, 100))
    assert room.horizon_ms == 200


def test_memory_is_what_the_formula_says():
    room = Deduplication(DeduplicationConfig(events_max=1000))
    assert room.bytes_max == 17 * 1000 + 8 * 2048 + 64


def test_restored_state_goes_on_as_the_first_and_damage_is_found():
    room, other = (Deduplication(DeduplicationConfig(events_max=8)) for _ in range(2))
    keep(room, [(1, n) for n in range(1, 7)])
    restore(other, {name: array.copy() for name, array in room.arrays().items()})
    assert keep(other, [(1, 6), (1, 7)]) == [False, True]
    table = other.arrays()["table"]
    table[np.flatnonzero(table)[0]] = 0
    with pytest.raises(InvariantError):
        other.check()
