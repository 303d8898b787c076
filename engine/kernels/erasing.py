"""People who are being erased: a short queue, and a sweep through everything that may name one of them.

What a room holds about a person has no index by person everywhere, so tables must be looked through. Each ERASE row
(also one without a person, which only goes on) sweeps so many places further, for all people of the queue together,
going round: whoever entered the queue is done when the sweep has passed every place once. So the work of a row is
bounded, depends on the rows alone, and not on where batches are cut.

A room keeps the queue as one array of its state, uint64 (``QUEUE_SIZE``): how many people wait, the next place of the
sweep, then of each person the id, how many places are left to be looked at, and the index by which the room knows the
person (of use during a sweep only).
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engine.kernels.jit import inlined, kernel
from engine.kernels.rng import mix64

#: Most people who wait. A sweep takes at most 68 rows in rooms of the default sizes, and every ERASE row sweeps, so
#: more wait only where somebody has very much; then the sweep is finished at once.
PEOPLE_MAX: Final = 128
COUNT, PLACE, PEOPLE = 0, 1, 2
#: Of each person.
LEFT, INDEX, WORDS = 1, 2, 3
QUEUE_SIZE: Final = PEOPLE + WORDS * PEOPLE_MAX
_ZERO, _ONE, _S58 = np.uint64(0), np.uint64(1), np.uint64(58)


@inlined
def is_waiting(queue: Any) -> Any:
    """Whether anybody waits."""
    return queue[COUNT] != _ZERO


@inlined
def is_full(queue: Any) -> Any:
    """Whether nobody else can wait: the sweep is then to be finished."""
    return queue[COUNT] == np.uint64(PEOPLE_MAX)


@inlined
def first(queue: Any) -> Any:
    """Who has waited longest."""
    return queue[PEOPLE]


@kernel
def waits(queue: Any, person_id: Any) -> Any:
    """Whether this person (uint64, not 0) is being erased."""
    found = False
    for at in range(np.int64(queue[COUNT])):
        found = found or queue[PEOPLE + WORDS * at] == person_id
    return found


@kernel
def bits_of(queue: Any) -> Any:
    """A set of 64 hash values (uint64), in which everybody who waits is: most other ids are told apart at once."""
    bits = _ZERO
    for at in range(np.int64(queue[COUNT])):
        bits |= _ONE << (mix64(queue[PEOPLE + WORDS * at]) >> _S58)
    return bits


@inlined
def may_wait(bits: Any, person_id: Any) -> Any:
    """Whether the set has the hash of this id."""
    return (bits >> (mix64(person_id) >> _S58)) & _ONE != _ZERO


@kernel
def drop(queue: Any, index: Any) -> None:
    """The person at this index of the queue is done."""
    last = PEOPLE + WORDS * (np.int64(queue[COUNT]) - 1)
    for at in range(PEOPLE + WORDS * index, last):
        queue[at] = queue[at + WORDS]
    for at in range(last, last + WORDS):
        queue[at] = _ZERO
    queue[COUNT] -= _ONE
    if queue[COUNT] == _ZERO:
        queue[PLACE] = _ZERO


@kernel
def enter(queue: Any, person_id: Any, places: Any) -> None:
    """Let a person wait until the sweep has passed so many places; the queue is not full. Whoever waits already waits
    anew."""
    for at in range(np.int64(queue[COUNT])):
        if queue[PEOPLE + WORDS * at] == person_id:
            drop(queue, np.int64(at))
            break
    last = PEOPLE + WORDS * np.int64(queue[COUNT])
    queue[last], queue[last + LEFT] = person_id, np.uint64(places)
    queue[COUNT] += _ONE


@kernel
def places_left(queue: Any) -> Any:
    """How many places the sweep has to pass until nobody is left (int64)."""
    most = _ZERO
    for at in range(np.int64(queue[COUNT])):
        most = max(most, queue[PEOPLE + WORDS * at + LEFT])
    return np.int64(most)


@kernel
def pass_places(queue: Any, passed: Any, places: Any) -> None:
    """The sweep has passed so many of all ``places``. Nobody leaves the queue by that."""
    queue[PLACE] = (queue[PLACE] + np.uint64(passed)) % np.uint64(places)
    for at in range(np.int64(queue[COUNT])):
        left = queue[PEOPLE + WORDS * at + LEFT]
        queue[PEOPLE + WORDS * at + LEFT] = left - min(left, np.uint64(passed))


@kernel
def drop_done(queue: Any) -> None:
    """Let those go for whom the sweep has passed every place."""
    at = np.int64(0)
    while at < np.int64(queue[COUNT]):
        if queue[PEOPLE + WORDS * at + LEFT] == _ZERO:
            drop(queue, at)
        else:
            at += 1


def make_queue() -> NDArray[np.uint64]:
    """An empty queue."""
    return np.zeros(QUEUE_SIZE, np.uint64)


def copy_queue(target: NDArray[np.uint64], source: NDArray[np.uint64], places: int) -> None:
    """Copy a queue into a larger room, where things are at other places: the sweep begins anew."""
    target[:] = source
    target[PLACE] = 0
    left = target[PEOPLE + LEFT :: WORDS]
    left[left > 0] = places
