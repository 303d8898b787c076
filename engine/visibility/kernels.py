"""Kernels that judge the entries of ``Related``: a fault of one entry is a fault of the tweet that stands for it."""

from typing import Any

import numpy as np

from engine.kernels.jit import kernel
from engine.social_graph.state import Relation

#: Bits of ``Judged.hidden`` that are decided here; ``judge.Hidden`` names them.
BIT_BLOCKED, BIT_MUTED = np.uint16(4), np.uint16(8)

_BLOCK = np.int64(Relation.BLOCKS | Relation.BLOCKED_BY)
_MUTE = np.int64(Relation.MUTES | Relation.MUTED_BY)


@kernel
def mark_blocks_and_mutes(relation: Any, row: Any, hidden: Any) -> None:
    """Mark in ``hidden`` (uint16, n) the row (int32, m) of every entry whose ``relation`` (uint8, m) has a block or a
    mute, in either direction."""
    for at in range(relation.shape[0]):
        bits = np.int64(relation[at])
        if bits & _BLOCK != 0:
            hidden[row[at]] |= BIT_BLOCKED
        if bits & _MUTE != 0:
            hidden[row[at]] |= BIT_MUTED


@kernel
def join_bits(column: Any, row: Any, out: Any) -> None:
    """Write into ``out`` (uint8, n) the union of all entries' bits of ``column`` (uint8, m) by row (int32, m)."""
    n = out.shape[0]
    for at in range(n):
        out[at] = column[at]
    for at in range(n, column.shape[0]):
        out[row[at]] |= column[at]
