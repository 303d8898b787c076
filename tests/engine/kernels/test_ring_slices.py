"""Ring slices against lists, and the arena against what it must never lose."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.kernels import ring_slices as rings

NODES = 6


def entries_of(arena: rings.SliceArena, record: int) -> list[int]:
    return [
        int(arena.entries[rings.slot_of(np.int64(record), np.int64(i))]) for i in range(rings.degree(np.int64(record)))
    ]


def free_blocks(arena: rings.SliceArena) -> list[tuple[int, int]]:
    found = []
    for c in range(rings.CLASSES):
        link = int(arena.header[c])
        while link:
            found.append((link - 1, 1 << c))
            link = int(arena.entries[link - 1])
    return found


def check_arena(arena: rings.SliceArena, records: np.ndarray) -> None:
    used = np.zeros(len(arena.entries), int)
    for start, size in free_blocks(arena):
        assert start % size == 0
        used[start : start + size] += 1
    assert used.sum() == arena.header[rings.FREE_SLOTS]
    for record in records[records != 0].tolist():
        size = 1 << ((record >> 27) & 31)
        start = (record >> 32) // size * size
        used[start : start + size] += 1
    assert (used == 1).all()
    blocks = set(free_blocks(arena))
    assert not any((start ^ size, size) in blocks for start, size in blocks), "two free buddies"


def entry(time: int, payload: int) -> int:
    value = (time << 32) | payload
    return value - (1 << 64) if value >= 1 << 63 else value


OPS = st.lists(
    st.tuples(
        st.integers(0, NODES - 1),
        st.sampled_from(["push", "push", "push", "pop", "remove", "clear"]),
        st.one_of(st.integers(0, 30), st.integers((1 << 32) - 3, (1 << 32) - 1)),
        st.integers(0, 1 << 20),
    ),
    max_size=250,
)


@settings(deadline=None, max_examples=200)
@given(OPS, st.sampled_from([1, 3, 8, 100]), st.sampled_from([16, 44, 64, 1024]))
def test_lists_are_time_ordered_deques(ops: list[tuple[int, str, int, int]], degree_max: int, slots: int) -> None:
    arena = rings.make_arena(slots)
    records = np.zeros(NODES, np.int64)
    model: list[list[int]] = [[] for _ in range(NODES)]
    for serial, (node, op, time, at) in enumerate(ops):
        held = model[node]
        n = np.int64(node)
        if op == "push":
            if not rings.ensure_slice(records, n, arena):
                assert not held
                continue
            new = entry(time, serial)
            done = rings.push(records, n, arena, np.int64(new), np.int64(degree_max))
            place = sum(1 for e in held if (e >> 32) & 0xFFFFFFFF <= time)
            if done in (rings.NOT_STORED, rings.NOT_STORED_ARENA_FULL):
                assert place == 0
            else:
                held.insert(place, new)
                if done != rings.STORED:
                    held.pop(0)
            assert (done in (rings.STORED_DROPPING_OLDEST, rings.NOT_STORED)) <= (len(held) == degree_max)
            assert len(held) <= degree_max
        elif op == "pop" and held:
            held.pop(0)
            rings.pop_oldest(records, n, arena)
        elif op == "remove" and held:
            del held[at % len(held)]
            rings.remove_at(records, n, arena, np.int64(at % (len(held) + 1)))
        elif op == "clear":
            held.clear()
            rings.clear(records, n, arena)
        assert entries_of(arena, int(records[node])) == held
        if held:
            count = int(rings.upper_bound(arena, np.int64(records[node]), np.int64(time)))
            assert count == sum(1 for e in held if (e >> 32) & 0xFFFFFFFF <= time)
    check_arena(arena, records)
    free = {at for start, size in free_blocks(arena) for at in range(start, start + size)}
    assert rings.slots_in_use(arena) == max(set(range(slots)) - free, default=-1) + 1
    for node in range(NODES):
        assert entries_of(arena, int(records[node])) == model[node]
        rings.clear(records, np.int64(node), arena)
    assert arena.header[rings.FREE_SLOTS] == slots
    assert rings.slots_in_use(arena) == 0
    assert arena.marks.astype(bool).sum() == bin(slots).count("1"), "the arena did not join up again"


def test_slices_shrink_and_give_back() -> None:
    arena = rings.make_arena(4096)
    records = np.zeros(1, np.int64)
    n = np.int64(0)
    rings.ensure_slice(records, n, arena)
    for i in range(2000):
        rings.push(records, n, arena, np.int64(i << 32), np.int64(10**6))
    assert arena.header[rings.FREE_SLOTS] == 2048
    for left in range(1999, 0, -1):
        rings.pop_oldest(records, n, arena)
        size = 1 << ((int(records[0]) >> 27) & 31)
        assert max(4, left) <= size <= max(4, 4 * left)
    assert entries_of(arena, int(records[0])) == [1999 << 32]


def test_a_list_outgrows_any_former_limit() -> None:
    arena = rings.make_arena(1 << 19)
    records = np.zeros(1, np.int64)
    n = np.int64(0)
    rings.ensure_slice(records, n, arena)
    for i in range(200_000):
        rings.push(records, n, arena, np.int64(i << 32), np.int64((1 << 26) - 1))
    assert rings.degree(np.int64(records[0])) == 200_000
    assert arena.entries[rings.slot_of(np.int64(records[0]), np.int64(123_456))] >> 32 == 123_456


@pytest.mark.parametrize("slots", [4, 44, 1 << 12, (1 << 12) + 4])
def test_bytes(slots: int) -> None:
    assert sum(a.nbytes for a in rings.make_arena(slots)) == rings.arena_bytes(slots)
    assert rings.make_arena(slots).entries.ctypes.data % 64 == 0


@pytest.mark.parametrize("slots", [0, 3, 6, (1 << 31) + 4])
def test_refuses_what_it_cannot_be(slots: int) -> None:
    with pytest.raises(ValueError, match="slots"):
        rings.make_arena(slots)
