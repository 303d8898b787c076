"""The base classes of rooms. A room is bounded arrays that change only when a batch is applied.

``Bounded`` has the code that all rooms share. ``Room``, ``Observer`` and ``DerivedRoom`` say in which step of ``apply``
a room takes part, and what the room may read then (engine/apply.py).

Concurrency contract: one thread calls ``apply``, under the write side of the state lock; readers call everything else,
under the read side (docs/architecture.md, invariant 2).
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, ClassVar, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.batch import EventBatch
from engine.effects import Effects
from engine.errors import InvariantError

#: In ``Bounded.shares``: every resource of the room.
ANY = "every"


class Share(NamedTuple):
    """What one person may have of a bounded resource: ``bound``, in words and configuration keys of the room; and
    ``beyond``, what becomes of more."""

    bound: str
    beyond: str


class InOrder(NamedTuple):
    """An array of which ``rows`` rows come into use one after the other from the first on; further rows, anywhere.

    ``used``: how many rows are in use so far (those of a ring that has turned need not be counted). What is after them
    was never written, but for some words.
    """

    array: str
    used: int
    rows: int


class Bounded(ABC):
    """A bounded piece of engine state.

    All mutable state is in preallocated arrays, including scalars (a small int64 array). So the arrays of ``arrays()``
    *are* the state: equal arrays mean equal behavior, and a snapshot is their bytes.
    """

    #: The room's name in configuration, metrics and snapshots.
    name: ClassVar[str]
    #: Raise this number when the meaning of the arrays changes: snapshots of other layouts are not loaded.
    layout: ClassVar[int] = 1
    #: Fields of the storage that follow from the configuration; they are not part of the state.
    constants: ClassVar[frozenset[str]] = frozenset()
    #: Cumulative counters: name → place in the array of counts.
    counted: ClassVar[Mapping[str, int]] = {}
    #: Prefixes of the names of arrays that are not backed by memory before they are written (engine/backing.py): that
    #: happens rarely, and many pages at a time.
    untouched: ClassVar[tuple[str, ...]] = ()
    #: By resource of ``usage``: what one person may have of it (docs/fair_shares.md).
    shares: ClassVar[Mapping[str, Share]] = {}
    #: Names of the rooms that this room reads while a piece is applied; they are passed to its constructor.
    reads: ClassVar[tuple[str, ...]] = ()

    def __init__(self, storage: Any, counts: NDArray[np.int64]) -> None:
        """Take the room's storage, and the array of the storage that ``counted`` points into.

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
        """Each bounded resource by name: the amount in use, and the capacity."""

    def in_order(self) -> Iterable[InOrder]:
        """Large arrays that come into use in order: memory is needed only for what is in use (engine/backing.py)."""
        return ()

    def fill(self) -> Mapping[str, float]:
        """Share in use (0 … 1) of each bounded resource, by name."""
        return {name: min(1.0, used / most) for name, (used, most) in self.usage().items()}

    def counters(self) -> Mapping[str, int]:
        """Cumulative counts since the state was empty: additions, evictions, and drops by reason."""
        return {name: int(self._counts[at]) for name, at in self.counted.items()}

    def grow_from(self, smaller: Any) -> bool:
        """Fill this room, which is empty, with the contents of a room of the same class and another configuration.

        Returns False and changes nothing unless this room can hold all of it: the configurations may differ by larger
        capacities, and by rules that apply to later events only. This default requires equal configurations.
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
    """A base room: its state depends on the batches only."""

    @abstractmethod
    def apply(self, batch: EventBatch) -> Effects | None:
        """Apply the batch's events in order; returns the effects that ``streams`` carries out.

        Splitting a batch anywhere gives the same state and the same effects.
        """


class Observer(Room):
    """A room that looks at the state just before a piece is applied, and keeps what it learns."""

    @abstractmethod
    def observe(self, batch: EventBatch, events: int) -> Any:
        """What the batch teaches about the state before the batch. Changes nothing; called without any lock.

        Args:
            batch: as decoded, duplicates included.
            events: how many events the state has applied.
        """

    @abstractmethod
    def learn(self, observed: Any) -> None:
        """Keep what ``observe`` returned for the piece that is being applied. Bounded by a small constant of work."""


class DerivedRoom(Bounded):
    """A room whose state depends on the batches and on other rooms.

    Its constructor takes its configuration and, by keyword, the rooms that ``reads`` names: base rooms, or derived
    rooms that come before it in the list of rooms.
    """

    @abstractmethod
    def apply(self, batch: EventBatch) -> Effects | None:
        """Apply the batch; the rooms of ``reads`` are as of the end of the piece. The result may depend on the cuts."""


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
    """Whether saved arrays have the names, shapes and dtypes of the room's arrays."""
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
