"""A pool of equal entries, of which a room makes linked lists; free entries are a list of their own.

``entries`` int64 (n, columns), whose last column is the next entry + 1; ``header`` int64, whose first three are
``FREE``, ``USED`` and ``IN_USE``.
"""

from typing import Any

import numpy as np

from engine.kernels.jit import inlined

#: Indices of a pool's header: the first free entry + 1, entries ever used, entries in use.
FREE, USED, IN_USE = range(3)


@inlined
def take_entry(entries: Any, header: Any) -> Any:
    """A free entry, -1 if there is none. The caller writes all its columns."""
    at = header[FREE] - 1
    if at >= 0:
        header[FREE] = entries[at, entries.shape[1] - 1]
    elif header[USED] < entries.shape[0]:
        at = header[USED]
        header[USED] += 1
    else:
        return np.int64(-1)
    header[IN_USE] += 1
    return at


@inlined
def free_entry(entries: Any, header: Any, at: Any) -> Any:
    """Give an entry, which is in no list any more, back to the pool, cleared."""
    last = entries.shape[1] - 1
    for column in range(last):
        entries[at, column] = 0
    entries[at, last] = header[FREE]
    header[FREE] = at + 1
    header[IN_USE] -= 1
