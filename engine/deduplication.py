"""Exact de-duplication of events by (person, kind, subject, id) over the last ``events_max`` events.

An id distinguishes the events of one person, of one kind, about one subject. So nobody can suppress another person's
event by choosing its id, and a tweet's create and delete may have the same id. All four values are kept and compared:
distinct events are never taken for duplicates, whatever their hashes are.

A ring holds the events in arrival order; an open-addressing table over the ring's positions answers "seen before?" in
about one cache miss.

Rules: a duplicate is dropped and does not renew the first event's place; id 0 (an event without id) is never a
duplicate and takes no place; rows derived from a create or edit (mentions, hashtags …) share the fate of the row before
them, even if a batch ends in between. The ring is everybody's: whoever publishes very many events shortens the time for
which repetitions of others' events are recognized. A repetition that comes later than that is applied again.

Memory: ``33 B · events_max + 8 B · table + 3 KiB``, table = the power of two at or above ``2 · events_max``.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from engine.batch import EventBatch, Kind, make_batch
from engine.errors import InvariantError
from engine.kernels.erasing import (
    PLACE,
    bits_of,
    copy_queue,
    drop_done,
    enter,
    is_full,
    is_waiting,
    make_queue,
    may_wait,
    pass_places,
    places_left,
    waits,
)
from engine.kernels.growth import copy_rows
from engine.kernels.jit import inlined, kernel
from engine.kernels.prefetch import prefetch
from engine.kernels.rng import mix64
from engine.room import Bounded, InOrder, Share, only_grew

#: Indices of ``header``.
POSITION, SIZE, LAST_FATE, KEPT, DUPLICATES, EXPIRED, WITHOUT_ID = range(7)
HEADER_SIZE = 8

#: How many rows' table slots are prefetched together, so that their cache misses overlap.
AHEAD_ROWS = 64
LOW_32 = np.uint64(0xFFFFFFFF)
_ERASE, _USER, _RELATIONS = int(Kind.ERASE), int(Kind.USER), int(Kind.FOLLOW)
#: An ERASE row forgets at most so many events of erased people, among the next so many of the ring.
ERASED_PER_ROW, POSITIONS_PER_ROW = 256, 1 << 14


class DeduplicationConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How far back duplicates are recognized, in events of all topics together."""

    events_max: Annotated[int, Meta(ge=1, le=1 << 30)] = 1 << 20


#: Odd multipliers that keep person, subject and kind apart before the one mix (fractional digits of √2, √3 and √5).
_PERSON, _SUBJECT, _KIND = np.uint64(0x6A09E667F3BCC909), np.uint64(0xBB67AE8584CAA73B), np.uint64(0x3C6EF372FE94F82B)


#: Kinds of which the name in ``context_id`` is part of what they are about: it stands in for the person that a label
#: does not have, and for the tweet or person that a muted word is not about.
_NAMED = np.zeros(256, bool)
_NAMED[[Kind.LABEL, Kind.UNLABEL, Kind.MUTE_WORD, Kind.UNMUTE_WORD]] = True


class Ids(NamedTuple):
    """The arrays: a ring of ``events_max`` events (id, person, subject, kind) with their times, and the table over it.

    A table slot holds the hash's top 32 bits above the ring position + 1; 0 is empty. ``erasing``: whose events are
    still to be looked for (engine/kernels/erasing.py).
    """

    ring_id: NDArray[np.uint64]
    ring_user: NDArray[np.uint64]
    ring_subject: NDArray[np.uint64]
    ring_kind: NDArray[np.uint8]
    ring_ms: NDArray[np.int64]
    table: NDArray[np.uint64]
    header: NDArray[np.int64]
    erasing: NDArray[np.uint64]


@inlined
def _hash(kind: Any, event_id: Any, user_id: Any, subject_id: Any) -> Any:
    """A mix of the four values. Its top bits are the home slot, its top 32 bits the fingerprint."""
    return mix64(event_id + user_id * _PERSON + subject_id * _SUBJECT + np.uint64(kind) * _KIND)


@inlined
def _is_at(ids: Any, position: Any, kind: Any, event_id: Any, user_id: Any, subject_id: Any) -> Any:
    """Whether the ring holds this event at ``position``."""
    return (
        ids.ring_id[position] == event_id
        and ids.ring_user[position] == user_id
        and ids.ring_subject[position] == subject_id
        and ids.ring_kind[position] == kind
    )


@inlined
def _ring_hash(ids: Any, position: Any) -> Any:
    """Hash of the event at a ring position."""
    return _hash(ids.ring_kind[position], ids.ring_id[position], ids.ring_user[position], ids.ring_subject[position])


@inlined
def _ring_home(ids: Any, position: Any, shift: Any) -> Any:
    """Home slot of the event at a ring position."""
    return np.int64(_ring_hash(ids, position) >> shift)


@kernel
def _forget(ids: Any, position: Any, shift: Any) -> Any:
    """Remove the ring's ``position`` from the table and close the gap (backward shift: no marks are left)."""
    table = ids.table
    mask = table.shape[0] - 1
    hole = _ring_home(ids, position, shift)
    while np.int64(table[hole] & LOW_32) != position + 1:
        hole = (hole + 1) & mask
    at = hole
    while True:
        at = (at + 1) & mask
        slot = table[at]
        if slot == np.uint64(0):
            break
        home = np.int64(slot >> shift)
        if ((at - home) & mask) >= ((at - hole) & mask):
            table[hole] = slot
            hole = at
    table[hole] = np.uint64(0)


@kernel
def _prefetch(
    ids: Any, kind: Any, event_id: Any, user_id: Any, subject_id: Any, start: Any, end: Any, shift: Any
) -> Any:
    """Prefetch the slots of rows ``start`` to ``end``, and of the entries that these rows will evict."""
    capacity = ids.ring_id.shape[0]
    for row in range(start, end):
        prefetch(ids.table, np.int64(_hash(kind[row], event_id[row], user_id[row], subject_id[row]) >> shift))
    size = ids.header[SIZE]
    if size + (end - start) > capacity:
        position = ids.header[POSITION]
        for _ in range(min(end - start, size)):
            prefetch(ids.table, _ring_home(ids, position, shift))
            position += 1
            if position == capacity:
                position = 0


@kernel
def _enter(ids: Any, kind: Any, event_id: Any, user_id: Any, subject_id: Any, time_ms: Any, shift: Any) -> Any:
    """Enter an event unless it is there; True when it was new. A full ring evicts its oldest entry."""
    table = ids.table
    capacity = ids.ring_id.shape[0]
    mask = table.shape[0] - 1
    code = _hash(kind, event_id, user_id, subject_id)
    fingerprint = code >> np.uint64(32)
    home = np.int64(code >> shift)
    at = home
    while table[at] != np.uint64(0):
        if table[at] >> np.uint64(32) == fingerprint:
            position = np.int64(table[at] & LOW_32) - 1
            if _is_at(ids, position, kind, event_id, user_id, subject_id):
                return False
        at = (at + 1) & mask
    position = ids.header[POSITION]
    if ids.header[SIZE] == capacity:
        _forget(ids, position, shift)
        ids.header[EXPIRED] += 1
        at = home
        while table[at] != np.uint64(0):
            at = (at + 1) & mask
    else:
        ids.header[SIZE] += 1
    table[at] = (fingerprint << np.uint64(32)) | np.uint64(position + 1)
    ids.ring_id[position] = event_id
    ids.ring_user[position] = user_id
    ids.ring_subject[position] = subject_id
    ids.ring_kind[position] = kind
    ids.ring_ms[position] = time_ms
    ids.header[POSITION] = position + 1 if position + 1 < capacity else 0
    return True


@inlined
def _enter_position(ids: Any, position: Any, shift: Any) -> None:
    """Enter a ring position into the table."""
    code = _ring_hash(ids, position)
    mask = ids.table.shape[0] - 1
    at = np.int64(code >> shift)
    while ids.table[at] != np.uint64(0):
        at = (at + 1) & mask
    ids.table[at] = (code >> np.uint64(32) << np.uint64(32)) | np.uint64(position + 1)


@kernel
def _sweep(ids: Any, shift: Any, positions: Any, most: Any) -> None:
    """Go on to forget whose events the events of erased people were, and who did what to them: 0 takes the id's place.
    At most so many events, among the next so many positions."""
    capacity, size, queue = ids.ring_id.shape[0], ids.header[SIZE], ids.erasing
    position, bits = np.int64(queue[PLACE]), bits_of(queue)
    passed, end = np.int64(0), min(positions, places_left(queue))
    while passed < end and most > 0:
        if position >= size:
            # Beyond here nothing was written yet.
            passed += capacity - position
            position = np.int64(0)
            continue
        user, subject = ids.ring_user[position], ids.ring_subject[position]
        if may_wait(bits, user) or may_wait(bits, subject):
            by_person = waits(queue, user)
            to_person = ids.ring_kind[position] >= _RELATIONS and waits(queue, subject)
            if by_person or to_person:
                _forget(ids, position, shift)
                if by_person:
                    ids.ring_user[position] = np.uint64(0)
                if to_person:
                    ids.ring_subject[position] = np.uint64(0)
                _enter_position(ids, position, shift)
                most -= 1
        passed += 1
        position = position + 1 if position + 1 < capacity else np.int64(0)
    pass_places(queue, passed, capacity)
    drop_done(queue)


@kernel
def _finish(ids: Any, shift: Any) -> None:
    """Erase everybody who waits."""
    capacity = np.int64(ids.ring_id.shape[0])
    _sweep(ids, shift, 2 * capacity, capacity)


@kernel
def _erase(ids: Any, person_id: Any, shift: Any) -> None:
    """ERASE: a person's events are to be forgotten (0: nobody's further); and go on with those who wait."""
    if person_id != np.uint64(0):
        if is_full(ids.erasing):
            _finish(ids, shift)
        enter(ids.erasing, person_id, np.int64(ids.ring_id.shape[0]))
    if is_waiting(ids.erasing):
        _sweep(ids, shift, np.int64(POSITIONS_PER_ROW), np.int64(ERASED_PER_ROW))


@kernel
def _keep(
    ids: Any,
    kind: Any,
    event_id: Any,
    user_id: Any,
    subject_id: Any,
    timestamp_ms: Any,
    shift: Any,
    late: Any,
    out: Any,
) -> Any:
    """Decide row by row which rows to keep: writes ``out`` (bool, n). O(n) expected.

    ``late``: bool (n,), rows that are left out whatever they are; they leave nothing behind.
    """
    header = ids.header
    for start in range(0, kind.shape[0], AHEAD_ROWS):
        end = min(start + AHEAD_ROWS, kind.shape[0])
        _prefetch(ids, kind, event_id, user_id, subject_id, start, end, shift)
        for row in range(start, end):
            code = np.int64(kind[row])
            if code == _USER and is_waiting(ids.erasing) and waits(ids.erasing, user_id[row]):
                # What the person does after coming back must stay.
                _finish(ids, shift)
            if 72 <= code < 96:
                out[row] = header[LAST_FATE] == 0 and not late[row]
                continue
            if code == _ERASE:
                _erase(ids, user_id[row], shift)
            if late[row]:
                header[LAST_FATE] = 1
                out[row] = False
                continue
            fresh = True
            if event_id[row] == np.uint64(0):
                header[WITHOUT_ID] += 1
            else:
                fresh = _enter(ids, kind[row], event_id[row], user_id[row], subject_id[row], timestamp_ms[row], shift)
            header[LAST_FATE] = 0 if fresh else 1
            header[KEPT if fresh else DUPLICATES] += 1
            out[row] = fresh


@kernel
def _known(ids: Any, kind: Any, event_id: Any, user_id: Any, subject_id: Any, shift: Any, out: Any) -> Any:
    """Which events are in the table now: writes ``out`` (bool, n) and nothing else. O(n) expected."""
    table = ids.table
    mask = table.shape[0] - 1
    for row in range(kind.shape[0]):
        code = _hash(kind[row], event_id[row], user_id[row], subject_id[row])
        at = np.int64(code >> shift)
        out[row] = False
        while event_id[row] != np.uint64(0) and table[at] != np.uint64(0):
            if table[at] >> np.uint64(32) == code >> np.uint64(32):
                position = np.int64(table[at] & LOW_32) - 1
                if _is_at(ids, position, kind[row], event_id[row], user_id[row], subject_id[row]):
                    out[row] = True
                    break
            at = (at + 1) & mask


@kernel
def _enter_ring(ids: Any, size: Any, shift: Any) -> None:
    """Enter the ring's first ``size`` positions into an empty table."""
    for position in range(size):
        _enter_position(ids, np.int64(position), shift)


def identity(
    kind: NDArray[np.uint8],
    id: NDArray[np.uint64],
    user_id: NDArray[np.uint64],
    subject_id: NDArray[np.uint64],
    *,
    context_id: NDArray[np.uint64],
) -> tuple[NDArray[np.uint8], NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint64]]:
    """The columns by which n events are told apart: kind, id, person, subject (each n)."""
    named = _NAMED[kind]
    if named.any():
        user_id = np.where(named & (user_id == 0), context_id, user_id)
        subject_id = np.where(named & (subject_id == 0), context_id, subject_id)
    return kind, id, user_id, subject_id


class Deduplication(Bounded):
    """A set of recent events. ``keep`` takes the place of ``apply``; only the writer calls it.

    Scalars are in ``header``: ring position, size, fate of the last row that was not derived (1 = dropped), counters.
    """

    name: ClassVar[str] = "deduplication"
    layout: ClassVar[int] = 4
    shares: ClassVar[Mapping[str, Share]] = {
        "events": Share(
            "none: it holds nothing of people, only which events were applied lately",
            "an event that is repeated after it was forgotten is applied again, which changes nothing: the later act "
            "holds, and a person counts once",
        )
    }
    counted: ClassVar[Mapping[str, int]] = {
        "kept": KEPT,
        "duplicates": DUPLICATES,
        "expired": EXPIRED,
        "without_id": WITHOUT_ID,
    }

    def __init__(self, config: DeduplicationConfig) -> None:
        self.config = config
        capacity = config.events_max
        table = 1 << max(4, (2 * capacity - 1).bit_length())
        self._ids = Ids(
            ring_id=np.zeros(capacity, np.uint64),
            ring_user=np.zeros(capacity, np.uint64),
            ring_subject=np.zeros(capacity, np.uint64),
            ring_kind=np.zeros(capacity, np.uint8),
            ring_ms=np.zeros(capacity, np.int64),
            table=np.zeros(table, np.uint64),
            header=np.zeros(HEADER_SIZE, np.int64),
            erasing=make_queue(),
        )
        self._header = self._ids.header
        super().__init__(self._ids, self._header)
        #: Hash bits below the home slot.
        self._shift = np.uint64(65 - table.bit_length())

    def keep(self, batch: EventBatch, late: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
        """Which rows of a batch to apply: bool (n), False for duplicates of earlier events or rows; enters the others.

        ``late``: bool (n), rows that are left out all the same, and not entered: they are about erased people.
        ``timestamp_ms`` decides nothing; ``horizon_ms`` reports from it.
        """
        out = np.empty(batch.size, np.bool_)
        ids = identity(batch.kind, batch.id, batch.user_id, batch.subject_id, context_id=batch.context_id)
        if late is None:
            late = np.zeros(batch.size, np.bool_)
        _keep(self._ids, *ids, batch.timestamp_ms, self._shift, late, out)
        return out

    def known(
        self,
        kind: NDArray[np.uint8],
        id: NDArray[np.uint64],
        user_id: NDArray[np.uint64],
        subject_id: NDArray[np.uint64],
    ) -> NDArray[np.bool_]:
        """Which of these n events are duplicates of events applied before: bool (n); changes nothing.

        The columns are those that ``identity`` gives. Rows derived from a create are judged by their own id. Readers
        hold the read side of the state lock.
        """
        out = np.empty(kind.shape[0], np.bool_)
        _known(self._ids, kind, id, user_id, subject_id, self._shift, out)
        return out

    @property
    def horizon_ms(self) -> int:
        """Event time between the newest and the oldest id held: how far back duplicates are recognized now."""
        size, position, capacity = int(self._header[SIZE]), int(self._header[POSITION]), self.config.events_max
        if size == 0:
            return 0
        oldest = position if size == capacity else 0
        return max(0, int(self._ids.ring_ms[position - 1]) - int(self._ids.ring_ms[oldest]))

    def in_order(self) -> Iterable[InOrder]:
        """``Bounded.in_order``: the ring."""
        used = int(max(self._header[POSITION], self._header[SIZE]))
        for name in ("ring_id", "ring_user", "ring_subject", "ring_ms"):
            yield InOrder(name, used, self.config.events_max)

    def usage(self) -> Mapping[str, tuple[int, int]]:
        """The ring's fill; it stays full after ``events_max`` events."""
        return {"events": (int(self._header[SIZE]), self.config.events_max)}

    def check(self) -> None:
        """Verify that table and ring hold the same ids, each where a search finds it.

        Raises:
            InvariantError: they do not.
        """
        ids, size = self._ids, int(self._header[SIZE])
        used = np.flatnonzero(ids.table)
        if len(used) != size:
            raise InvariantError(f"deduplication: {len(used)} table slots for {size} ids")
        positions = (ids.table[used] & LOW_32).astype(np.int64) - 1
        if not np.array_equal(np.sort(positions), np.arange(size)):
            raise InvariantError("deduplication: table and ring positions differ")
        for at, position in zip(used.tolist(), positions.tolist(), strict=True):
            probe = int(_ring_home(ids, position, self._shift))
            while probe != at:
                if ids.table[probe] == 0:
                    raise InvariantError(f"deduplication: ring position {position} cannot be found")
                probe = (probe + 1) % len(ids.table)

    def grow_from(self, smaller: "Deduplication") -> bool:
        """Copy the smaller room's ids (``Bounded.grow_from``); they now leave later."""
        if not only_grew(smaller.config, self.config, capacities=("events_max",)):
            return False
        copy_queue(self._ids.erasing, smaller._ids.erasing, self.config.events_max)
        held = smaller._ids
        full = int(held.header[SIZE]) == len(held.ring_id)
        first = int(held.header[POSITION]) if full else 0
        for name in ("ring_id", "ring_user", "ring_subject", "ring_kind", "ring_ms"):
            copy_rows(getattr(self._ids, name), getattr(held, name), first)
        self._header[:] = held.header
        self._header[POSITION] = held.header[SIZE] % self.config.events_max
        _enter_ring(self._ids, held.header[SIZE], self._shift)
        return True


def warm() -> None:
    """Compile the kernels on a tiny batch of the real dtypes."""
    room = Deduplication(DeduplicationConfig(events_max=1))
    batch = make_batch(kind=[1, 1], id=[1, 2], user_id=[1, 1], subject_id=[1, 1])
    room.keep(batch)
    room.known(batch.kind, batch.id, batch.user_id, batch.subject_id)
