"""Decayed sums with a continuous half-life: a value, and the time for which it holds.

State (v, t) stands for Σ x_i · 2^(−(t − t_i) / H). Merging is commutative and associative, so events may come in any
order, provided that event time is used: a late event adds its decayed share and leaves the time unchanged.
"""

from typing import Any

import numpy as np

from engine.exact_math import exp2
from engine.kernels.jit import kernel


@kernel
def factor(elapsed_ms: Any, half_life_ms: Any) -> Any:
    """2^(−elapsed / half-life) as float64; ``elapsed_ms`` int64, ``half_life_ms`` float64 > 0."""
    return exp2(-np.float64(elapsed_ms) / half_life_ms)


@kernel
def value_at(value: Any, time_ms: Any, at_ms: Any, half_life_ms: Any) -> Any:
    """The sum's value at ``at_ms``; the value as it is for a time before the sum's (a request slightly in the past)."""
    if at_ms <= time_ms:
        return value
    return value * factor(at_ms - time_ms, half_life_ms)


@kernel
def add(values: Any, times_ms: Any, i: Any, amount: Any, at_ms: Any, half_life_ms: Any) -> None:
    """Add ``amount`` at event time ``at_ms`` to sum i, in place.

    ``values`` float64 (n,), ``times_ms`` int64 (n,); an empty sum has value 0 and takes the event's time.
    """
    held_ms = times_ms[i]
    if values[i] == 0.0:
        values[i] = amount
        times_ms[i] = at_ms
    elif at_ms >= held_ms:
        values[i] = values[i] * factor(at_ms - held_ms, half_life_ms) + amount
        times_ms[i] = at_ms
    else:
        values[i] += amount * factor(held_ms - at_ms, half_life_ms)


def warm() -> None:
    """Compile every kernel of this module on the real types."""
    add(np.zeros(1), np.zeros(1, np.int64), np.int64(0), np.float64(1.0), np.int64(1), np.float64(1.0))
    value_at(np.float64(1.0), np.int64(0), np.int64(1), np.float64(1.0))
    factor(np.int64(1), np.float64(1.0))
