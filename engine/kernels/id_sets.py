"""Small maps made for one question: which of given ids are among these?"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.kernels.id_map import IdMap, find_or_add, make_id_map
from engine.kernels.jit import kernel


@kernel
def _enter_all(m: Any, ids: Any) -> None:
    """Enter ``ids`` (uint64, (n,)), for which there is room."""
    for i in range(ids.shape[0]):
        find_or_add(m, ids[i])


def id_map_of(ids: NDArray[np.uint64]) -> IdMap:
    """A map of these ids (uint64, n); distinct ids have the indices 0 … n-1, in order."""
    made = make_id_map(max(1, len(ids)))
    _enter_all(made, ids)
    return made


def warm() -> None:
    """Compile the kernel on the real types."""
    id_map_of(np.ones(1, np.uint64))
