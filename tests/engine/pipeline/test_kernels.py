"""Kernels over candidate columns against a few lines of Python."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engine.pipeline import kernels

columns = st.lists(
    st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 3), st.booleans(), st.booleans()), max_size=30
)


def arrays(rows):
    """ids, originals, flags, servable, dropped_by."""
    types = (np.uint64, np.uint64, np.uint8, np.bool_, np.int16)
    return [np.array([row[i] for row in rows], dtype) for i, dtype in enumerate(types)]


def check(rows, kernel, bad):
    """``kernel(arrays, dropped)`` drops just the kept rows for which ``bad(row)``, with code 7."""
    made = arrays(rows)
    dropped = made[4].copy()
    kernel(made, dropped)
    assert dropped.tolist() == [int(row[4]) or 7 * bool(bad(row)) for row in rows]


@given(columns, st.integers(0, 3))
def test_drops_by_value(rows, value):
    check(
        rows, lambda a, d: kernels.drop_either_equal(a[0], a[1], np.uint64(value), d, 7), lambda row: value in row[:2]
    )
    check(rows, lambda a, d: kernels.drop_less(a[1].astype(np.int64), value, d, 7), lambda row: row[1] < value)
    check(
        rows,
        lambda a, d: kernels.drop_not_before(a[2].astype(np.int64), a[0], value, np.uint64(3), d, 7),
        lambda row: not (row[2], row[0]) < (value, 3),
    )


@given(columns, st.lists(st.integers(0, 3), max_size=3))
def test_the_first_of_several_tests_of_bits_drops(rows, bits):
    *_, flags, _, dropped = arrays(rows)
    kernels.drop_by_bits(flags.astype(np.uint16), np.array(bits, np.uint16), dropped, 7)
    first = [next((7 + i for i, b in enumerate(bits) if row[2] & b), 0) for row in rows]
    assert dropped.tolist() == [int(row[4]) or code for row, code in zip(rows, first, strict=True)]


@given(columns, st.lists(st.integers(0, 8), max_size=9))
def test_drops_by_list(rows, listed):
    table = np.full(kernels.table_size(len(listed)), 99, np.int32)
    ids = np.array(listed, np.uint64)
    check(rows, lambda a, d: kernels.drop_listed(a[0], ids, table, d, 7), lambda row: row[0] in listed)


@given(columns)
def test_one_of_each_original_stays(rows):
    rows = list({row[0]: row for row in rows}.values())
    ids, originals, _, _, dropped = arrays(rows)
    kernels.drop_repeated(ids, originals, np.full(kernels.table_size(len(rows)), 5, np.int32), dropped, 7)
    kept = [row for row in rows if not row[4]]
    stays = {}
    for row in [row for row in kept if row[0] == row[1]] + kept:
        stays.setdefault(row[1], row[0])
    assert dropped.tolist() == [int(row[4]) or 7 * (stays[row[1]] != row[0]) for row in rows]


@given(columns, st.integers(0, 9), st.integers(0, 9))
def test_the_original_or_the_newest_stays_of_those_up_to_the_first(rows, first, first_id):
    rows = list({row[0]: row for row in rows}.values())
    ids, originals, times, _, dropped = arrays(rows)
    table = np.full(kernels.table_size(len(rows)), 5, np.int32)
    kernels.drop_repeated_of_page(originals, times.astype(np.int64), ids, first, np.uint64(first_id), table, dropped, 7)
    asked = [row for row in rows if not row[4] and (row[2], row[0]) <= (first, first_id)]
    stays = {row[1]: row[0] for row in sorted(asked, key=lambda row: (row[0] == row[1], row[2], row[0]))}
    assert dropped.tolist() == [int(row[4]) or 7 * (row in asked and stays[row[1]] != row[0]) for row in rows]


scored = st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.booleans(), st.booleans()), max_size=40)


@given(scored, st.integers(0, 12), st.integers(0, 12), st.integers(0, 20))
def test_narrowing_keeps_the_best_of_each_source(rows, first, second, total):
    """A row's sources are those of two that brought it; rows that were dropped before are not looked at."""
    n = len(rows)
    scores, ids = np.array([float(row[0]) for row in rows]), np.arange(1, n + 1, dtype=np.uint64)
    ranks = np.array([[0 if row[1 + s] or not row[2 - s] else -1 for row in rows] for s in (0, 1)], np.int32)
    ranks = ranks.reshape(2, n)
    before = np.array([int(row[3]) for row in rows], np.int16)
    dropped, kept = before.copy(), np.flatnonzero(before == 0).astype(np.int32)
    cut = (np.empty(len(kept), np.int32), np.empty(len(kept), np.int32), np.empty(2, np.int64))
    kernels.narrow(scores, ids, ranks, kept, np.array([first, second]), total, cut, dropped, 7)
    order = sorted(kept.tolist(), key=lambda i: (-scores[i], -int(ids[i])))
    allowed = set()
    for s, cap in enumerate((first, second)):
        allowed |= set([i for i in order if ranks[s, i] >= 0][:cap])
    stays = set([i for i in order if i in allowed][:total])
    assert dropped.tolist() == [int(before[i]) or 7 * (i not in stays) for i in range(n)]


@given(scored)
def test_sorting_best_first_ties_to_the_greater_id(rows):
    scores = np.array([float(row[0]) for row in rows])
    ids = np.array([i * 2654435761 % 2**64 for i in range(1, len(rows) + 1)], np.uint64)
    order = np.flatnonzero([row[1] for row in rows]).astype(np.int32)
    expected = sorted(order.tolist(), key=lambda i: (-scores[i], -int(ids[i])))
    kernels.sort_best_first(scores, ids, order, np.empty(len(order), np.int32))
    assert order.tolist() == expected


def test_ties_reach_up_to_the_top_bit():
    ids = np.array([5, 2**63 + 1, 9, 2**64 - 1], np.uint64)
    order = np.arange(4, dtype=np.int32)
    kernels.sort_best_first(np.zeros(4), ids, order, np.empty(4, np.int32))
    assert ids[order].tolist() == [2**64 - 1, 2**63 + 1, 9, 5]
