"""The calendar log against a sorted list."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.kernels import calendar_log as calendar

SPAN = 3000
CAPACITY = 40


def contents(log: calendar.CalendarLog) -> list[tuple[int, int]]:
    count = int(log.header[calendar.COUNT])
    seconds, payloads = np.zeros(count, np.int64), np.zeros(count, np.int64)
    assert calendar.dump(log, seconds, payloads) == count
    return list(zip(seconds.tolist(), payloads.tolist(), strict=True))


OPS = st.lists(st.tuples(st.sampled_from(["add", "add", "pop", "peek"]), st.integers(-2999, 4000)), max_size=200)


@settings(deadline=None, max_examples=300)
@given(OPS, st.integers(0, 10**9))
def test_is_a_stable_sorted_list(ops: list[tuple[str, int]], start: int) -> None:
    log = calendar.make_calendar_log(CAPACITY, SPAN)
    model: list[tuple[int, int]] = []
    newest = start
    for serial, (op, move) in enumerate(ops):
        if op == "add":
            second = max(0, newest + move)
            newest = max(newest, second)
            # What the window promises: nothing older than the span stays, nothing older comes.
            while model and model[0][0] <= newest - SPAN:
                assert calendar.oldest(log) == model[0][0]
                calendar.pop_oldest(log)
                model.pop(0)
            assert calendar.oldest(log) == (model[0][0] if model else -1)
            if len(model) == CAPACITY or second <= newest - SPAN:
                continue
            payload = serial * 1_000_003_000 + 5
            calendar.append(log, np.int64(second), np.int64(payload))
            at = len(model)
            while at and model[at - 1][0] > second:
                at -= 1
            model.insert(at, (second, payload))
        elif op == "pop" and model:
            assert calendar.oldest(log) == model[0][0]
            slot = calendar.pop_oldest(log)
            assert log.entries[slot] >> calendar.PAGE_BITS == model.pop(0)[1]
        elif op == "peek":
            assert calendar.oldest(log) == (model[0][0] if model else -1)
        if model:
            assert calendar.oldest_at_least(log) <= model[0][0]
    assert contents(log) == model


def test_time_may_jump_over_any_gap() -> None:
    log = calendar.make_calendar_log(4, 100)
    for second in (5, 10**6, 3 * 10**9):
        calendar.append(log, np.int64(second), np.int64(second))
        assert calendar.oldest(log) == second
        calendar.pop_oldest(log)
    assert calendar.oldest(log) == -1


def test_payload_keeps_56_bits() -> None:
    log = calendar.make_calendar_log(1, 100)
    payload = (1 << 56) - 1
    calendar.append(log, np.int64(255), np.int64(payload))
    assert contents(log) == [(255, payload)]


@pytest.mark.parametrize(("capacity", "span"), [(1, 1), (10, 172_800), (5, 1 << 32 - 8)])
def test_bytes(capacity: int, span: int) -> None:
    assert sum(a.nbytes for a in calendar.make_calendar_log(capacity, span)) == calendar.calendar_bytes(capacity, span)


@pytest.mark.parametrize(("capacity", "span"), [(0, 1), (1, 0), (1 << 31, 1)])
def test_refuses_what_it_cannot_be(capacity: int, span: int) -> None:
    with pytest.raises(ValueError, match="out of range"):
        calendar.make_calendar_log(capacity, span)
