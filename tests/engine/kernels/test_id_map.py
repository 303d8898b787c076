"""The id map against a dict, with removals, reuse of indices and a full table."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.kernels import id_map

# A small table with many ids of the same home slot makes long probe runs, where deletion can go wrong.
IDS = st.one_of(st.integers(1, 40), st.integers((1 << 64) - 20, (1 << 64) - 1))
OPS = st.lists(st.tuples(st.sampled_from(["add", "add", "remove", "find"]), IDS), max_size=300)


@settings(deadline=None, max_examples=200)
@given(OPS, st.sampled_from([1, 3, 8, 16, 31]))
def test_behaves_like_a_dict_with_a_free_stack(ops: list[tuple[str, int]], capacity: int) -> None:
    m = id_map.make_id_map(capacity)
    model: dict[int, int] = {}
    free: list[int] = []
    high = 0
    for op, node_id in ops:
        if op == "add":
            if node_id not in model:
                if free:
                    model[node_id] = free.pop()
                elif high < capacity:
                    model[node_id] = high
                    high += 1
            assert int(id_map.find_or_add(m, np.uint64(node_id))) == model.get(node_id, -1)
        elif op == "remove":
            expected = model.pop(node_id, -1)
            if expected >= 0:
                free.append(expected)
            assert int(id_map.remove(m, np.uint64(node_id))) == expected
        else:
            assert id_map.lookup(m, node_id) == model.get(node_id, -1)
        assert m.header.tolist() == [len(model), len(free), high, capacity]
    assert {int(m.keys[i]): i for i in range(capacity) if m.keys[i]} == model
    ids = np.array([*model, 7777, 0], np.uint64)
    out = np.empty(len(ids), np.int32)
    assert id_map.find_many(m, ids, out) == len(model)
    assert out.tolist() == [*model.values(), -1, -1]


def test_empties_completely_under_churn() -> None:
    m = id_map.make_id_map(64)
    rng = np.random.default_rng(3)
    live: list[int] = []
    for node_id in rng.integers(1, 1 << 63, 20_000, np.uint64):
        if len(live) == 64:
            assert id_map.remove(m, np.uint64(live.pop(int(rng.integers(64))))) >= 0
        assert id_map.find_or_add(m, np.uint64(node_id)) >= 0
        live.append(int(node_id))
    for node_id in live:
        id_map.remove(m, np.uint64(node_id))
    assert not m.slots.any()
    assert not m.keys.any()
    assert m.header[id_map.SIZE] == 0


def test_id_zero_is_never_stored() -> None:
    m = id_map.make_id_map(4)
    assert id_map.find_or_add(m, np.uint64(0)) == -1
    assert id_map.find(m, np.uint64(0)) == -1
    assert id_map.remove(m, np.uint64(0)) == -1
    assert id_map.lookup(m, 0) == id_map.lookup(m, 1 << 64) == -1


@pytest.mark.parametrize("capacity", [1, 2, 3, 1000, 1024])
def test_bytes_and_load(capacity: int) -> None:
    m = id_map.make_id_map(capacity)
    assert sum(a.nbytes for a in m) == id_map.id_map_bytes(capacity)
    assert m.slots.shape[0] // 2 >= 2 * capacity


@pytest.mark.parametrize("capacity", [0, -1, (1 << 30) + 1])
def test_refuses_a_capacity_it_cannot_hold(capacity: int) -> None:
    with pytest.raises(ValueError, match="capacity"):
        id_map.make_id_map(capacity)


def test_one_signature_a_kernel() -> None:
    id_map.warm()
    for kernel in (id_map.find_or_add, id_map.remove, id_map.find_many):
        assert len(kernel.signatures) == 1
