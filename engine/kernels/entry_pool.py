"""A pool of equal entries, of which a room makes linked lists; free entries are a list of their own.

``entries`` int64 (n, columns), whose last column is the next entry + 1; ``header`` int64, whose first three are
``FREE``, ``USED`` and ``IN_USE``.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import InvariantError
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


def entries_listed(entries: NDArray[np.int64], first: int, seen: set[int]) -> list[int]:
    """The entries of the list that begins at ``first`` (+ 1; 0: none), which are added to ``seen``; for checks.

    Raises:
        InvariantError: an entry was seen before, so it is in two lists.
    """
    listed = []
    while first:
        if first - 1 in seen:
            raise InvariantError(f"entry {first - 1} is in two lists")
        seen.add(first - 1)
        listed.append(first - 1)
        first = int(entries[first - 1, -1])
    return listed
