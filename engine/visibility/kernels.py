"""Kernels that judge the entries of ``Related``: a fault of one entry is a fault of the tweet that stands for it."""

from typing import Any

import numpy as np

from engine.kernels.jit import kernel


@kernel
def mark_any_bit(column: Any, bits: Any, row: Any, hidden: Any, bit: Any) -> None:
    """Set ``bit`` (uint16) in ``hidden`` (uint16, n) at the row (int32, m) of every entry whose ``column`` (uint8, m)
    has any of ``bits`` (int64)."""
    for at in range(column.shape[0]):
        if np.int64(column[at]) & bits != 0:
            hidden[row[at]] |= bit


@kernel
def join_bits(column: Any, row: Any, out: Any) -> None:
    """Write into ``out`` (uint8, n) the union of all entries' bits of ``column`` (uint8, m) by row (int32, m)."""
    n = out.shape[0]
    for at in range(n):
        out[at] = column[at]
    for at in range(n, column.shape[0]):
        out[row[at]] |= column[at]
