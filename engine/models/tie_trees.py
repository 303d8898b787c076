"""The bytes of model ``real_graph``: two forests over the columns of a pair, for any act and for an explicit one.

Written by a trainer, read in place. The decoder of records has compared the bytes with their digest; what they hold is
looked at when they are committed (``fault_of``), so readers can trust it.
"""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.errors import InvariantError
from engine.kernels.trees import NOT_FINITE, SOUND, Trees, fault

#: Columns of a row (engine/real_graph/read_kernels.py says which).
FEATURES: Final = 8
#: Bounds of a model; the steps to a leaf bound what a score costs.
TREES_MAX: Final = 256
NODES_MAX: Final = 8192
DEPTH_MAX: Final = 16

#: The head: trees of the first forest, trees of both, nodes, and zero; then what each forest's sums begin with.
_HEAD_BYTES: Final = 4 * 8 + 2 * 8
_NODE_BYTES: Final = 2 * 8 + 2 * 4 + 2
_NAME_OF_FAULT: Final = {int(SOUND): "", int(NOT_FINITE): "not_finite"}


class TieTrees(NamedTuple):
    """Both forests: of ``trees`` the first ``any_trees`` are for any act, the others for an explicit one. ``bases``:
    float64 (2), with what the sums of values begin."""

    any_trees: int
    bases: NDArray[np.float64]
    trees: Trees


def tie_trees_bytes(trees: int, nodes: int) -> int:
    """Bytes of a model."""
    return _HEAD_BYTES + _NODE_BYTES * nodes + 4 * (trees + 1)


def encode(model: TieTrees) -> bytes:
    """The model's bytes, little endian."""
    trees = model.trees
    head = np.array([model.any_trees, len(trees.roots) - 1, len(trees.value), 0], "<u8")
    columns: list[NDArray[Any]] = [head, model.bases, trees.threshold, trees.value, trees.left, trees.right]
    columns += [trees.roots, trees.feature, trees.missing_left]
    return b"".join(np.ascontiguousarray(column, column.dtype.newbyteorder("<")).tobytes() for column in columns)


def decode(payload: NDArray[np.uint8]) -> TieTrees:
    """Views of the model's bytes, nothing copied. ``payload`` begins at a multiple of 8 bytes in memory.

    Raises:
        InvariantError: the number of bytes does not fit.
    """
    if payload.size < _HEAD_BYTES:
        raise InvariantError(f"a model of ties cannot have {payload.size} bytes")
    any_trees, trees, nodes, zero = payload[:32].view(np.uint64).tolist()
    if not 0 < any_trees < trees <= TREES_MAX or not trees <= nodes <= NODES_MAX or zero:
        raise InvariantError(f"a model of ties cannot have {any_trees} of {trees} trees with {nodes} nodes")
    if payload.size != tie_trees_bytes(trees, nodes):
        raise InvariantError(f"a model of {trees} trees with {nodes} nodes cannot have {payload.size} bytes")
    at = 32
    columns: list[Any] = []
    for dtype, count in (
        (np.float64, 2), (np.float64, nodes), (np.float64, nodes), (np.int32, nodes), (np.int32, nodes),
        (np.int32, trees + 1), (np.uint8, nodes), (np.uint8, nodes),
    ):  # fmt: skip
        size = count * np.dtype(dtype).itemsize
        columns.append(payload[at : at + size].view(dtype))
        at += size
    bases, threshold, value, left, right, roots, feature, missing_left = columns
    return TieTrees(any_trees, bases, Trees(roots, threshold, value, left, right, feature, missing_left))


def fault_of(payload: NDArray[np.uint8]) -> str:
    """Why the bytes cannot be used: ``malformed_model``, ``not_finite``; "" if they can. O(``NODES_MAX``)."""
    try:
        model = decode(payload)
    except InvariantError:
        return "malformed_model"
    depths = np.empty(len(model.trees.value), np.int32)
    found = int(fault(model.trees, np.int64(FEATURES), np.int64(DEPTH_MAX), depths))
    if found == SOUND and not np.isfinite(model.bases).all():
        return "not_finite"
    return _NAME_OF_FAULT.get(found, "malformed_model")
