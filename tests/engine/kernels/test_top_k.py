"""Top-k against a full sort; the decayed sum against the sum over all events."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.kernels import decay
from engine.kernels.top_k import top_k


@settings(deadline=None, max_examples=300)
@given(st.lists(st.sampled_from([0.0, 1.0, 1.0, 2.0, 3.5, -1.0]), max_size=80), st.integers(0, 90), st.randoms())
def test_is_the_head_of_a_full_sort(scores: list[float], k: int, random: object) -> None:
    ids = list(range(1, len(scores) + 1))
    random.shuffle(ids)  # type: ignore[attr-defined]
    keys = np.array(ids, np.uint64) + np.uint64((1 << 63) - 40)
    out = np.full(len(scores), -1, np.int32)
    n = top_k(np.array(scores, float), keys, np.int64(len(scores)), np.int64(k), out)
    assert n == min(k, len(scores))
    assert out[:n].tolist() == sorted(range(len(scores)), key=lambda r: (-scores[r], ids[r]))[:k]


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 10_000), st.floats(0.01, 10)), min_size=1, max_size=30), st.randoms())
def test_decayed_sum_does_not_mind_the_order(events: list[tuple[int, float]], random: object) -> None:
    half_life = 700.0
    last = max(t for t, _ in events)
    expected = sum(x * 2 ** (-(last - t) / half_life) for t, x in events)
    random.shuffle(events)  # type: ignore[attr-defined]
    values, times = np.zeros(1), np.zeros(1, np.int64)
    for t, x in events:
        decay.add(values, times, np.int64(0), np.float64(x), np.int64(t), np.float64(half_life))
    assert times[0] == last
    assert values[0] == pytest.approx(expected, rel=1e-9)
    later = decay.value_at(np.float64(values[0]), np.int64(last), np.int64(last + 700), np.float64(half_life))
    assert later == pytest.approx(expected / 2, rel=1e-9)
    assert decay.value_at(np.float64(2.0), np.int64(50), np.int64(10), np.float64(half_life)) == 2.0
