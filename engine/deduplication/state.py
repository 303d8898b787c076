"""The room ``deduplication``."""

from collections.abc import Iterable, Mapping
from typing import Annotated, ClassVar

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from engine.batch import EventBatch, Kind, make_batch
from engine.deduplication import read_kernels, write_kernels
from engine.deduplication.arrays import (
    DUPLICATES,
    EXPIRED,
    HEADER_SIZE,
    KEPT,
    LOW_32,
    OVER_SHARE,
    POSITION,
    SIZE,
    SMALL,
    SMALL_RINGS,
    WITHOUT_ID,
    Ids,
    group_of,
    home_at,
    share_of,
    small_ring,
    table_slots,
)
from engine.errors import InvariantError
from engine.kernels.daily_share import counters_for
from engine.kernels.erasing import copy_queue, make_queue
from engine.kernels.growth import copy_rows
from engine.room import Bounded, InOrder, Share, only_grew


class DeduplicationConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How far back duplicates are recognized, in events of all topics together."""

    events_max: Annotated[int, Meta(ge=1, le=1 << 30)] = 1 << 20


#: Kinds of which the name in ``context_id`` is part of what they are about: it stands in for the person that a label
#: does not have, and for the tweet or person that a muted word is not about.
_NAMED = np.zeros(256, bool)
_NAMED[[Kind.LABEL, Kind.UNLABEL, Kind.MUTE_WORD, Kind.UNMUTE_WORD]] = True


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
    layout: ClassVar[int] = 5
    constants: ClassVar[frozenset[str]] = frozenset({"limits"})
    shares: ClassVar[Mapping[str, Share]] = {
        "events": Share(
            "1/16 of them, or 16 if that is more; labels and models together have one share",
            "the event goes to a small ring that the person's id chooses (`over_share`)",
        ),
        "events_over_share": Share(
            "one of 64 rings", "the oldest event of the ring is forgotten, of this person or another over the share"
        ),
    }
    counted: ClassVar[Mapping[str, int]] = {
        "kept": KEPT,
        "duplicates": DUPLICATES,
        "expired": EXPIRED,
        "without_id": WITHOUT_ID,
        "over_share": OVER_SHARE,
    }

    def __init__(self, config: DeduplicationConfig) -> None:
        self.config = config
        total = config.events_max + SMALL_RINGS * small_ring(config.events_max)
        table = table_slots(total)
        limits = (
            config.events_max,
            share_of(config.events_max),
            small_ring(config.events_max),
            65 - table.bit_length(),
        )
        self._ids = Ids(
            ring_id=np.zeros(total, np.uint64),
            ring_user=np.zeros(total, np.uint64),
            ring_subject=np.zeros(total, np.uint64),
            ring_kind=np.zeros(total, np.uint8),
            ring_ms=np.zeros(total, np.int64),
            table=np.zeros(table, np.uint64),
            header=np.zeros(HEADER_SIZE, np.int64),
            erasing=make_queue(),
            groups=np.zeros(counters_for(config.events_max), np.int32),
            put=np.zeros(SMALL_RINGS, np.int64),
            limits=np.array(limits, np.int64),
        )
        self._header = self._ids.header
        super().__init__(self._ids, self._header)

    def keep(self, batch: EventBatch, late: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
        """Which rows of a batch to apply: bool (n), False for duplicates of earlier events or rows; enters the others.

        ``late``: bool (n), rows that are left out all the same, and not entered: they are about erased people.
        ``timestamp_ms`` decides nothing; ``horizon_ms`` reports from it.
        """
        out = np.empty(batch.size, np.bool_)
        ids = identity(batch.kind, batch.id, batch.user_id, batch.subject_id, context_id=batch.context_id)
        if late is None:
            late = np.zeros(batch.size, np.bool_)
        write_kernels.keep(self._ids, *ids, batch.timestamp_ms, late, out)
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
        read_kernels.known(self._ids, kind, id, user_id, subject_id, out)
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
        """The ring's fill, which stays full after ``events_max`` events within shares; and that of the small rings."""
        small = int(self._ids.limits[SMALL])
        over = int(np.minimum(self._ids.put, small).sum(dtype=np.int64))
        return {
            "events": (int(self._header[SIZE]), self.config.events_max),
            "events_over_share": (over, SMALL_RINGS * small),
        }

    def check(self) -> None:
        """Verify that table and rings hold the same ids, each where a search finds it, and the counts of groups.

        Raises:
            InvariantError: they do not.
        """
        ids, size = self._ids, int(self._header[SIZE])
        held = np.flatnonzero(ids.ring_id)
        used = np.flatnonzero(ids.table)
        positions = (ids.table[used] & LOW_32).astype(np.int64) - 1
        if not np.array_equal(np.sort(positions), held):
            raise InvariantError(f"deduplication: {len(used)} table slots for {len(held)} ids, or for others")
        in_ring = held[held < self.config.events_max]
        if not np.array_equal(in_ring, np.arange(size)):
            raise InvariantError(f"deduplication: {len(in_ring)} ids in the ring, not {size}")
        counted = [int(group_of(ids, ids.ring_kind[at], ids.ring_user[at])) for at in in_ring.tolist()]
        if not np.array_equal(np.bincount(counted, minlength=len(ids.groups)), ids.groups):
            raise InvariantError("deduplication: groups are not what is in the ring")
        for at, position in zip(used.tolist(), positions.tolist(), strict=True):
            probe = int(home_at(ids, position))
            while probe != at:
                if ids.table[probe] == 0:
                    raise InvariantError(f"deduplication: ring position {position} cannot be found")
                probe = (probe + 1) % len(ids.table)

    def grow_from(self, smaller: "Deduplication") -> bool:
        """Copy the smaller room's ids (``Bounded.grow_from``); they now leave later."""
        if not only_grew(smaller.config, self.config, capacities=("events_max",)):
            return False
        ids, held = self._ids, smaller._ids
        copy_queue(ids.erasing, held.erasing, len(ids.ring_id))
        ring, small = smaller.config.events_max, int(held.limits[SMALL])
        first = int(held.header[POSITION]) if int(held.header[SIZE]) == ring else 0
        for name in ("ring_id", "ring_user", "ring_subject", "ring_kind", "ring_ms"):
            copy_rows(getattr(ids, name), getattr(held, name)[:ring], first)
            for number, put in enumerate(held.put.tolist()):
                begin = self.config.events_max + number * int(ids.limits[SMALL])
                given = getattr(held, name)[ring + number * small : ring + (number + 1) * small]
                copy_rows(getattr(ids, name)[begin:], given[: min(put, small)], put % small if put > small else 0)
        ids.put[:] = np.minimum(held.put, small)
        self._header[:] = held.header
        self._header[POSITION] = held.header[SIZE] % self.config.events_max
        write_kernels.enter_rings(ids)
        return True


def warm() -> None:
    """Compile the kernels on a tiny batch of the real dtypes."""
    room = Deduplication(DeduplicationConfig(events_max=1))
    batch = make_batch(kind=[1, 1], id=[1, 2], user_id=[1, 1], subject_id=[1, 1])
    room.keep(batch)
    room.known(batch.kind, batch.id, batch.user_id, batch.subject_id)
