"""People whose erasing is spread over the rows that follow, so that no piece is long: a short queue.

A room keeps the queue as one array of its state, uint64 (``QUEUE_SIZE``): how many people wait, how far the erasing of
the first of them got, then their ids. Work is done per row, so the state does not depend on where batches are cut.
"""

from typing import Any, Final

import numpy as np

from engine.kernels.jit import inlined, kernel

#: Most people who wait.
PEOPLE_MAX: Final = 14
QUEUE_SIZE: Final = 2 + PEOPLE_MAX
_ZERO, _ONE = np.uint64(0), np.uint64(1)


@inlined
def is_waiting(queue: Any) -> Any:
    """Whether anybody waits."""
    return queue[0] != _ZERO


@inlined
def is_full(queue: Any) -> Any:
    """Whether nobody else can wait: the first one is then to be finished."""
    return queue[0] == np.uint64(PEOPLE_MAX)


@inlined
def first(queue: Any) -> Any:
    """Whose turn it is."""
    return queue[2]


@kernel
def waits(queue: Any, person_id: Any) -> Any:
    """Whether this person (uint64, not 0) waits or is being erased."""
    found = False
    for at in range(2, 2 + np.int64(queue[0])):
        found = found or queue[at] == person_id
    return found


@inlined
def enter(queue: Any, person_id: Any) -> Any:
    """Let a person wait; the queue is not full."""
    if not waits(queue, person_id):
        queue[2 + np.int64(queue[0])] = person_id
        queue[0] += _ONE


@kernel
def finish_first(queue: Any) -> Any:
    """The first one is erased: it is the next one's turn."""
    last = 1 + np.int64(queue[0])
    for at in range(2, last):
        queue[at] = queue[at + 1]
    queue[last] = _ZERO
    queue[0] -= _ONE
    queue[1] = _ZERO
