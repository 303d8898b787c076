"""What every room of state is: bounded arrays that change only by applying batches.

``Bounded`` holds what all rooms repeat; ``Room``, ``Observer`` and ``DerivedRoom`` say in which step of ``apply`` a
room takes part, and what it may read there (engine/apply.py).

Concurrency contract: ``apply`` is called by one thread, under the write side of the state lock; everything
else by readers that hold the read side (docs/architecture.md, invariant 2).
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from typing import Any, ClassVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.batch import EventBatch
from engine.effects import Effects
from engine.errors import InvariantError


class Bounded(ABC):
    """A bounded piece of engine state.

    All mutable state lives in preallocated arrays, scalars included (a small int64 array), so that the
    arrays of ``arrays()`` *are* the state: equal arrays mean equal behavior, and a snapshot is their bytes.
    """

    #: The room's name in configuration, metrics and snapshots.
    name: ClassVar[str]
    #: Raised when the same arrays come to mean something else: what an older program saved is then not loaded.
    layout: ClassVar[int] = 1
    #: Fields of the storage that follow from the configuration; they are no state.
    constants: ClassVar[frozenset[str]] = frozenset()
    #: Cumulative counters by name: their places in the array of counts.
    counted: ClassVar[Mapping[str, int]] = {}
    #: Arrays, by how their names begin, that get memory only when they are written: few writes, of many pages each.
    untouched: ClassVar[tuple[str, ...]] = ()
    #: Rooms that this one reads while a piece is applied, by name; they are passed to its constructor.
    reads: ClassVar[tuple[str, ...]] = ()

    def __init__(self, storage: Any, counts: NDArray[np.int64]) -> None:
        """Take the room's storage and the array (one of the storage) in which ``counted`` has its places.

        Args:
            storage: a NamedTuple of arrays, or of NamedTuples of arrays.
            counts: int64 scalars.
        """
        self._state_arrays: Mapping[str, NDArray[Any]] = dict(_flat(storage, self.constants))
        self._counts = counts

    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """The complete mutable state: the live arrays themselves, in a fixed order, of fixed shape and dtype."""
        return self._state_arrays

    @property
    def bytes_max(self) -> int:
        """Bytes of all arrays, allocated at construction."""
        return sum(array.nbytes for array in self._state_arrays.values())

    @abstractmethod
    def usage(self) -> Mapping[str, tuple[int, int]]:
        """Each bounded thing by name: how much of it is in use, and how much there is."""

    def fill(self) -> Mapping[str, float]:
        """Share in use (0 … 1) of each bounded thing, by name."""
        return {name: min(1.0, used / most) for name, (used, most) in self.usage().items()}

    def counters(self) -> Mapping[str, int]:
        """Cumulative counts since the state was empty: what was added, evicted, dropped and why."""
        return {name: int(self._counts[at]) for name, at in self.counted.items()}

    def grow_from(self, smaller: Any) -> bool:
        """Fill this room, which is empty, with what a room of its class and of another configuration holds.

        False, and nothing done, unless this room can hold all of it: the configurations may differ by larger
        capacities, and by rules that concern later events alone. Here: unless they are equal.
        """
        own: Any = self
        if smaller.config != own.config or not fits(self, smaller.arrays()):
            return False
        restore(self, smaller.arrays())
        return True

    @abstractmethod
    def check(self) -> None:
        """Verify the invariants (slow; tests and the debug flag).

        Raises:
            InvariantError: state that must not exist.
        """


class Room(Bounded):
    """A base room: it changes by what batches say, and by nothing else."""

    @abstractmethod
    def apply(self, batch: EventBatch) -> Effects | None:
        """Apply the batch's events in order; returns what is to be done outside.

        Splitting a batch anywhere gives the same state and the same effects.
        """


class Observer(Room):
    """A room that looks at the state just before a piece, and keeps what it learns from that."""

    @abstractmethod
    def observe(self, batch: EventBatch, events: int) -> Any:
        """What the batch teaches about the state before it. Changes nothing; called without any lock.

        Args:
            batch: as decoded, duplicates included.
            events: how many events the state has applied.
        """

    @abstractmethod
    def learn(self, observed: Any) -> None:
        """Keep what ``observe`` returned for the piece that is being applied. Bounded by a small constant."""


class DerivedRoom(Bounded):
    """A room that follows from batches and from other rooms.

    Its constructor takes its configuration and, by keyword, the rooms that ``reads`` names: base rooms, or derived
    rooms that come before it in the list of rooms.
    """

    @abstractmethod
    def apply(self, batch: EventBatch) -> Effects | None:
        """Apply the batch; the rooms of ``reads`` are as of the end of the piece. Where pieces end may matter."""


def _flat(storage: Any, constants: frozenset[str], prefix: str = "") -> Iterator[tuple[str, NDArray[Any]]]:
    """Every array of nested NamedTuples, named by its path."""
    for name, part in storage._asdict().items():
        if name in constants:
            continue
        if isinstance(part, np.ndarray):
            yield prefix + name, part
        else:
            yield from _flat(part, constants, f"{prefix}{name}.")


def only_grew(
    before: msgspec.Struct, after: msgspec.Struct, *, capacities: Collection[str], rules: Collection[str] = ()
) -> bool:
    """Whether two configurations of a room differ only by larger ``capacities`` and by ``rules`` for later events."""
    return all(
        new == old or name in rules or (name in capacities and new > old)
        for name in before.__struct_fields__
        for old, new in ((getattr(before, name), getattr(after, name)),)
    )


def fits(room: Bounded, saved: Mapping[str, NDArray[Any]]) -> bool:
    """Whether saved arrays are the room's by name, shape and dtype."""
    live = room.arrays()
    return live.keys() == saved.keys() and all(
        (array.shape, array.dtype) == (saved[name].shape, saved[name].dtype) for name, array in live.items()
    )


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
