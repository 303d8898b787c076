"""Counter-based random numbers: splitmix64 over (seed, stream, counter).

Stateless: the n-th number of a stream is a pure function of the seed and n, so walkers may draw in any order, or in
several threads, and the same request gives the same bytes. Steele, Lea and Flood, "Fast splittable pseudorandom number
generators" (OOPSLA 2014); the finalizer is Stafford's mix 13.
"""

from typing import Any

import numpy as np

from engine.kernels.jit import inlined, kernel

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_S27 = np.uint64(27)
_S30 = np.uint64(30)
_S31 = np.uint64(31)
_S32 = np.uint64(32)
_S11 = np.uint64(11)
_ONE = np.uint64(1)
_TO_UNIT = 1.0 / 9007199254740992.0  # 2**-53


@inlined
def mix64(x: Any) -> Any:
    """The splitmix64 finalizer: a bijection of 64 bits (uint64 → uint64)."""
    x = (x ^ (x >> _S30)) * _MIX_1
    x = (x ^ (x >> _S27)) * _MIX_2
    return x ^ (x >> _S31)


@kernel
def stream(seed: Any, i: Any) -> Any:
    """The start of the i-th stream of a seed (both uint64 → uint64), for ``draw64``.

    The streams of one seed start at unrelated points of the counter's cycle.
    """
    return mix64(seed + mix64((i + _ONE) * GOLDEN))


@inlined
def draw64(start: Any, counter: Any) -> Any:
    """The ``counter``-th 64 random bits of a stream that begins at ``start`` (both uint64 → uint64)."""
    return mix64(start + (counter + _ONE) * GOLDEN)


@inlined
def bounded(bits: Any, n: Any) -> Any:
    """An integer in [0, n) as int64 from 64 random bits (uint64), 0 < n < 2**32, by multiply-shift (Lemire 2019).

    Uses the upper 32 bits. The bias of a value is at most n / 2**32 of its probability: fewer than (2**32 / n)**2 draws
    cannot show it.
    """
    return np.int64(((bits >> _S32) * np.uint64(n)) >> _S32)


@inlined
def uniform01(bits: Any) -> Any:
    """A float64 in [0, 1) from the upper 53 of 64 random bits (uint64)."""
    return np.float64(bits >> _S11) * _TO_UNIT


def warm() -> None:
    """Compile every kernel of this module."""
    bits = draw64(stream(np.uint64(1), np.uint64(0)), np.uint64(0))
    bounded(np.uint64(bits), np.int64(7))
    uniform01(np.uint64(bits))
    mix64(np.uint64(1))
