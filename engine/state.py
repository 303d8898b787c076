"""EngineState owns every room: everything that the engine knows, and the only code that changes it.

Concurrency contract: a single writer calls ``apply`` under the write side of the state lock; readers hold the read side
while they read (docs/architecture.md, invariants 1 and 2). The writer also calls ``observe``, without the lock:
``observe`` only reads, and no other thread writes.
"""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.apply import Applied, Observed, Steps
from engine.backing import Backing
from engine.batch import EventBatch
from engine.errors import InvariantError
from engine.kernels.erasing import COUNT
from engine.rooms import Rooms, RoomsConfig

__all__ = ["HEADER_LAYOUT", "EngineState", "RoomsConfig", "Since"]

#: As ``Bounded.layout``, for the header and for ``Since``.
HEADER_LAYOUT = 1
VERSION, CLOCK_MS, EVENTS, DUPLICATES, GAP_RECORDS = range(5)


class Since(NamedTuple):
    """The version, and its event time, after which a room knows everything that was applied; zeros: from the start."""

    version: int
    time_ms: int


class EngineState(Rooms):
    """All rooms (attributes of ``Rooms``) at one version. ``apply`` raises the version by one."""

    def __init__(self, config: RoomsConfig) -> None:
        super().__init__(config)
        self._steps = Steps(self)
        self._backing = Backing(self.parts)
        self._header = np.zeros(5, np.int64)
        #: ``Since`` by room, as rows of one array.
        self._since_rows = np.zeros((len(self.parts), 2), np.int64)
        self._since = {room.name: row for room, row in zip(self.parts, self._since_rows, strict=True)}
        #: The queues of those rooms that erase people piece by piece (engine/kernels/erasing.py).
        self._queues = [array for name, array in self.arrays() if name.rpartition(".")[2].startswith("erasing")]

    @property
    def version(self) -> int:
        """How many batches were applied."""
        return int(self._header[VERSION])

    @property
    def clock_ms(self) -> int:
        """The newest event time applied so far (0 before the first event)."""
        return int(self._header[CLOCK_MS])

    @property
    def events(self) -> int:
        """Events applied, duplicates left out."""
        return int(self._header[EVENTS])

    @property
    def duplicates(self) -> int:
        """Events left out because their id was seen within the horizon."""
        return int(self._header[DUPLICATES])

    @property
    def gap_records(self) -> int:
        """Log records that were lost before they were applied (0 in a complete history)."""
        return int(self._header[GAP_RECORDS])

    @property
    def is_erasing(self) -> bool:
        """Whether something of an erased person is still to be removed: a further ERASE row goes on with that."""
        return any(queue[COUNT] for queue in self._queues)

    def note_gap(self, records: int) -> None:
        """Count ``records`` log records that will never be applied; feeds report the number from now on."""
        self._header[GAP_RECORDS] += records

    @property
    def late_rooms(self) -> dict[str, int]:
        """The rooms that do not know the whole history: name → event time (ms) from which on the room is complete."""
        if not np.count_nonzero(self._since_rows):
            return {}  # as a rule: every feed asks
        return {name: since.time_ms for name in self._since if (since := self.since(name)).version}

    @property
    def safety_problem(self) -> str | None:
        """Why safety cannot say of everybody what may be shown, and what to do about it; None if it can."""
        if self.profiles.has_lost_safety:
            return (
                "the room of profiles is full: people without a profile are not shown; raise rooms.profiles.users_max"
            )
        return self.social_graph.problem or self.muted_words.problem

    def since(self, room: str) -> Since:
        """From where on this room knows everything that was applied."""
        version, time_ms = self._since[room].tolist()
        return Since(version, time_ms)

    def begin_late(self, room: str, since: Since) -> None:
        """Note that this room knows only what was applied after ``since``."""
        self._since[room][:] = since

    def skip(self, records: int) -> None:
        """Skip a piece of ``records`` log records: the version rises, and no room changes."""
        self._header[VERSION] += 1
        self.note_gap(records)

    def go_on_at(self, other: "EngineState") -> None:
        """Copy version, clock and counts of another state."""
        self._header[:] = other._header

    def observe(self, batch: EventBatch) -> Observed:
        """What the next piece teaches about the present state, for ``apply`` of that piece. Only reads."""
        return Observed(self.version, self._steps.observe(batch, self.events))

    def apply(self, batch: EventBatch, observed: Observed | None = None) -> Applied:
        """Apply one batch to every room and raise the version (engine/apply.py).

        Args:
            batch: as decoded; it is not changed.
            observed: the result of ``observe`` for this batch; None observes here, under the caller's lock.

        Returns:
            Which rows were kept (not duplicates), and the effects that ``streams`` carries out.

        Raises:
            InvariantError: ``observed`` is of another version; nothing has changed.
        """
        observed = self.observe(batch) if observed is None else observed
        if observed.version != self.version:
            raise InvariantError(f"observed at version {observed.version}, to be applied at {self.version}")
        kept, applied = self._steps.apply(batch, observed.findings)
        self._header[VERSION] += 1
        self._header[EVENTS] += kept.size
        self._header[DUPLICATES] += batch.size - kept.size
        self._backing.note(kept.size)
        if kept.size:
            self._header[CLOCK_MS] = max(self.clock_ms, int(kept.timestamp_ms.max()))
        return applied

    def arrays(self) -> Iterator[tuple[str, NDArray[Any]]]:
        """Every array of the state with its qualified name, in a fixed order: the complete state."""
        yield "engine.header", self._header
        for room in self.parts:
            yield f"{room.name}.since", self._since[room.name]
            for name, array in room.arrays().items():
                yield f"{room.name}.{name}", array

    def digest(self) -> str:
        """SHA-256 over all arrays (names, shapes and bytes): equal digests mean equal states."""
        sha = hashlib.sha256()
        for name, array in self.arrays():
            sha.update(f"{name}{array.dtype.str}{array.shape}".encode())
            if array.size:
                sha.update(np.ascontiguousarray(array).data.cast("B"))
        return sha.hexdigest()

    def touch(self) -> None:
        """Make the operating system back the arrays with memory now; values stay. Called once, before serving.

        Otherwise the first write to each page waits, under the write lock, until the system has found and zeroed a
        page: single batches held the lock for 300 ms. Large arrays that come into use in order are backed for their
        first rows; ``keep_ahead`` does the rest (engine/backing.py).
        """
        self._backing.touch()

    def keep_ahead(self) -> None:
        """Back the arrays for the next pieces. The writer calls it before each piece, without the lock; values stay."""
        self._backing.keep_ahead()

    @property
    def bytes_max(self) -> int:
        """Bytes of all rooms' arrays."""
        return sum(room.bytes_max for room in self.parts)

    def check(self) -> None:
        """Verify every room's invariants (slow)."""
        for room in self.parts:
            room.check()

    def gauges(self) -> Mapping[str, tuple[int, Mapping[str, float], Mapping[str, int]]]:
        """By room: bytes, fill of each bounded resource, cumulative counters."""
        return {room.name: (room.bytes_max, room.fill(), room.counters()) for room in self.parts}
