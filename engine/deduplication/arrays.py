"""The rings of events and the table over them: arrays, hashes, shares, and leaving and entering the table."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.batch import Kind
from engine.kernels.jit import inlined, kernel
from engine.kernels.rng import mix64

#: Indices of ``header``.
POSITION, SIZE, LAST_FATE, KEPT, DUPLICATES, EXPIRED, WITHOUT_ID, OVER_SHARE = range(8)
HEADER_SIZE = 8
#: Indices of ``limits``: entries of the ring, of it a group's most, entries of a small ring, hash bits below the home.
RING, SHARE, SMALL, SHIFT = range(4)
#: The small rings, for what is beyond a share.
SMALL_RINGS = 64

LOW_32 = np.uint64(0xFFFFFFFF)
_LABEL, _UNLABEL = int(Kind.LABEL), int(Kind.UNLABEL)
ZERO = np.uint64(0)
#: Odd multipliers that keep person, subject and kind apart before the one mix (fractional digits of √2, √3 and √5).
PERSON_FACTOR, SUBJECT_FACTOR = np.uint64(0x6A09E667F3BCC909), np.uint64(0xBB67AE8584CAA73B)
KIND_FACTOR = np.uint64(0x3C6EF372FE94F82B)


class Ids(NamedTuple):
    """The arrays: a ring of ``events_max`` events (id, person, subject, kind) with their times, after it the small
    rings, and the table over all of them.

    A table slot holds the hash's top 32 bits above the ring position + 1; 0 is empty. ``groups``: int32, how many
    events of the ring are those of people with this hash. ``put``: int64 (64,), how many events each small ring was
    given. ``erasing``: whose events are still to be looked for (engine/kernels/erasing.py). ``limits``: int64 (4,), not
    state.
    """

    ring_id: NDArray[np.uint64]
    ring_user: NDArray[np.uint64]
    ring_subject: NDArray[np.uint64]
    ring_kind: NDArray[np.uint8]
    ring_ms: NDArray[np.int64]
    table: NDArray[np.uint64]
    header: NDArray[np.int64]
    erasing: NDArray[np.uint64]
    groups: NDArray[np.int32]
    put: NDArray[np.int64]
    limits: NDArray[np.int64]


def share_of(events_max: int) -> int:
    """The most events of one person in the ring: a 16th of it, but at least 16."""
    return max(16, events_max // 16)


def small_ring(events_max: int) -> int:
    """The size of a small ring."""
    return max(1, events_max >> 10)


def table_slots(entries: int) -> int:
    """Slots of the table: the power of two at or above 1.5 times the entries of all rings."""
    return 1 << max(4, (entries + entries // 2 - 1).bit_length())


@inlined
def group_of(ids: Any, kind: Any, user_id: Any) -> Any:
    """Index in ``groups`` of an event's person; of what names nobody, that of person 0."""
    person = ZERO if kind in (_LABEL, _UNLABEL) else user_id
    return np.int64(mix64(person) & np.uint64(ids.groups.shape[0] - 1))


@inlined
def small_ring_of(kind: Any, user_id: Any) -> Any:
    """Which small ring an event's person chooses."""
    person = ZERO if kind in (_LABEL, _UNLABEL) else user_id
    return np.int64(mix64(person) >> np.uint64(58))


@inlined
def code_of(kind: Any, event_id: Any, user_id: Any, subject_id: Any) -> Any:
    """A mix of the four values. Its top bits are the home slot, its top 32 bits the fingerprint."""
    return mix64(event_id + user_id * PERSON_FACTOR + subject_id * SUBJECT_FACTOR + np.uint64(kind) * KIND_FACTOR)


@inlined
def is_at(ids: Any, position: Any, kind: Any, event_id: Any, user_id: Any, subject_id: Any) -> Any:
    """Whether the ring holds this event at ``position``."""
    return (
        ids.ring_id[position] == event_id
        and ids.ring_user[position] == user_id
        and ids.ring_subject[position] == subject_id
        and ids.ring_kind[position] == kind
    )


@inlined
def code_at(ids: Any, position: Any) -> Any:
    """Hash of the event at a ring position."""
    return code_of(ids.ring_kind[position], ids.ring_id[position], ids.ring_user[position], ids.ring_subject[position])


@inlined
def home_of(ids: Any, code: Any) -> Any:
    """Home slot of a hash."""
    return np.int64(code >> np.uint64(ids.limits[SHIFT]))


@inlined
def home_at(ids: Any, position: Any) -> Any:
    """Home slot of the event at a ring position."""
    return home_of(ids, code_at(ids, position))


@kernel
def drop(ids: Any, position: Any) -> Any:
    """Remove the ring's ``position`` from the table and close the gap (backward shift: no marks are left)."""
    table = ids.table
    mask = table.shape[0] - 1
    hole = home_at(ids, position)
    while np.int64(table[hole] & LOW_32) != position + 1:
        hole = (hole + 1) & mask
    at = hole
    while True:
        at = (at + 1) & mask
        slot = table[at]
        if slot == np.uint64(0):
            break
        home = home_of(ids, slot)
        if ((at - home) & mask) >= ((at - hole) & mask):
            table[hole] = slot
            hole = at
    table[hole] = np.uint64(0)


@inlined
def enter_position(ids: Any, position: Any) -> None:
    """Enter a ring position into the table."""
    code = code_at(ids, position)
    mask = ids.table.shape[0] - 1
    at = home_of(ids, code)
    while ids.table[at] != np.uint64(0):
        at = (at + 1) & mask
    ids.table[at] = (code >> np.uint64(32) << np.uint64(32)) | np.uint64(position + 1)
