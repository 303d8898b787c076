"""The random numbers: reference values, bijection, uniformity."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.kernels import rng

U64 = (1 << 64) - 1


def reference_mix(x: int) -> int:
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & U64
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & U64
    return x ^ (x >> 31)


def test_draws_are_the_published_splitmix64_sequence() -> None:
    # The widely published first outputs of splitmix64 for the seed 1234567.
    expected = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    assert [int(rng.draw64(np.uint64(1234567), np.uint64(i))) for i in range(5)] == expected


@given(st.integers(0, U64))
def test_mix_is_the_finaliser(x: int) -> None:
    assert int(rng.mix64(np.uint64(x))) == reference_mix(x)


@given(st.integers(0, U64), st.integers(1, (1 << 32) - 1))
def test_bounded_is_multiply_shift_of_the_upper_half(bits: int, n: int) -> None:
    value = int(rng.bounded(np.uint64(bits), np.int64(n)))
    assert value == ((bits >> 32) * n) >> 32
    assert 0 <= value < n


@given(st.integers(0, U64))
def test_uniform01_is_in_the_half_open_interval(bits: int) -> None:
    assert float(rng.uniform01(np.uint64(bits))) == (bits >> 11) / 2**53 < 1.0


@pytest.mark.parametrize("n", [2, 3, 7, 100])
def test_bounded_draws_are_uniform(n: int) -> None:
    start = rng.stream(np.uint64(42), np.uint64(n))
    draws = 20_000
    counts = np.zeros(n)
    for i in range(draws):
        counts[rng.bounded(np.uint64(rng.draw64(np.uint64(start), np.uint64(i))), np.int64(n))] += 1
    chi2 = float(((counts - draws / n) ** 2).sum() / (draws / n))
    assert chi2 < n - 1 + 6 * np.sqrt(2 * (n - 1)), chi2


def test_streams_of_a_seed_differ() -> None:
    starts = {int(rng.stream(np.uint64(9), np.uint64(i))) for i in range(1000)}
    assert len(starts) == 1000
