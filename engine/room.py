"""What every room of state is: bounded arrays that change only by applying batches.

Concurrency contract: ``apply`` is called by one thread, under the write side of the state lock; everything
else by readers that hold the read side (docs/architecture.md, invariant 2).
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from engine.batch import EventBatch
from engine.errors import InvariantError


class Bounded(Protocol):
    """A bounded piece of engine state.

    All mutable state lives in preallocated arrays, scalars included (a small int64 array), so that the
    arrays of ``arrays()`` *are* the state: equal arrays mean equal behaviour, and a snapshot is their bytes.
    """

    name: ClassVar[str]

    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """The complete mutable state: the live arrays themselves, in a fixed order, of fixed shape and dtype."""

    @property
    def bytes_max(self) -> int:
        """Bytes of all arrays, allocated at construction."""

    def fill(self) -> Mapping[str, float]:
        """Share in use (0..1) of each bounded thing, by name."""

    def counters(self) -> Mapping[str, int]:
        """Cumulative counts since the state was empty: what was added, evicted, dropped and why."""

    def check(self) -> None:
        """Verify the invariants (slow; tests and the debug flag).

        Raises:
            InvariantError: state that must not exist.
        """


class Room(Bounded, Protocol):
    """State that changes only by applying batches."""

    def apply(self, batch: EventBatch) -> None:
        """Apply the batch's events in order. Splitting a batch anywhere gives the same state."""


def restore(room: Bounded, saved: Mapping[str, NDArray[Any]]) -> None:
    """Overwrite the room's state with saved arrays.

    Raises:
        InvariantError: names, shapes or dtypes differ from the room's (another configuration or format).
    """
    live = room.arrays()
    if live.keys() != saved.keys():
        raise InvariantError(f"{room.name}: arrays {sorted(saved)} are not {sorted(live)}")
    for name, array in live.items():
        other = saved[name]
        if array.shape != other.shape or array.dtype != other.dtype:
            raise InvariantError(
                f"{room.name}.{name}: {other.dtype}{other.shape} does not fit {array.dtype}{array.shape}"
            )
        np.copyto(array, other)
