"""The profiles' arrays, the order in which profiles are given up, and what a profile means for safety.

Profiles that safety needs (``SAFETY_BITS``) are never given up. The others stand in a doubly linked list by their last
update; when the room is full, the one updated longest ago makes place.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.kernels.id_map import IdMap, find, make_id_map
from engine.kernels.jit import inlined, kernel
from engine.kernels.ordered_places import link_place, unlink_place
from engine.profiles.bits import ProfileBit, ProfileState, SensitiveMedia, Standing

#: Indices of ``Profiles.header``: gauges and counters. ``MARKS``: marks of erased people now.
#: ``LOST`` counts profiles that safety needs and that did not
#: fit: once it is not 0, a person without a profile is nobody of whom anything is known.
ORDINARY, UPDATES, OLDER, EVICTED, DROPPED, LOST, ERASED, WITHOUT_USER, MARKS = range(9)
HEADER_SIZE = 9

#: Columns of ``Profiles.times_ms``: the profile's event time, and when the account was made (0 unknown).
AS_OF, CREATED = 0, 1

_STATE_MASK = np.uint64(3 << ProfileBit.STATE_SHIFT)
_SUSPENDED = np.uint64(ProfileState.SUSPENDED << ProfileBit.STATE_SHIFT)
_DEACTIVATED = np.uint64(ProfileState.DEACTIVATED << ProfileBit.STATE_SHIFT)
#: The bits of an erased person's mark.
ERASED_BITS = np.uint64(ProfileState.ERASED << ProfileBit.STATE_SHIFT)
_PROTECTED = np.uint64(ProfileBit.PROTECTED)
_NOT_RECOMMENDED = np.uint64(ProfileBit.NOT_RECOMMENDED)
#: A profile with any of these bits is one that safety needs: without it, somebody would be shown what must not be.
SAFETY_BITS = np.uint64(
    3 << ProfileBit.STATE_SHIFT
    | ProfileBit.PROTECTED
    | ProfileBit.NOT_RECOMMENDED
    | SensitiveMedia.HIDE << ProfileBit.SENSITIVE_MEDIA_SHIFT
)
_ZERO = np.uint64(0)
_S_SUSPENDED, _S_DEACTIVATED = np.int64(Standing.SUSPENDED), np.int64(Standing.DEACTIVATED)
_S_PROTECTED, _S_NOT_RECOMMENDED = np.int64(Standing.PROTECTED), np.int64(Standing.NOT_RECOMMENDED)
_S_UNKNOWN, _S_ERASED = np.int64(Standing.UNKNOWN), np.int64(Standing.ERASED)


class Profiles(NamedTuple):
    """All arrays of the room.

    ``ids``: people to places. ``bits``: uint64 (n), ``ProfileBit``. ``times_ms``: int64 (n, 2), ``AS_OF`` and
    ``CREATED``. ``order``: int32 (n + 1, 2), the list of ordinary profiles; row p + 1 is place p, row 0 the list's ends
    (its AFTER is the profile updated longest ago). ``header``: int64 scalars.
    """

    ids: IdMap
    bits: NDArray[np.uint64]
    times_ms: NDArray[np.int64]
    order: NDArray[np.int32]
    header: NDArray[np.int64]


def make_profiles(users_max: int) -> Profiles:
    """Empty arrays."""
    return Profiles(
        ids=make_id_map(users_max),
        bits=np.zeros(users_max, np.uint64),
        times_ms=np.zeros((users_max, 2), np.int64),
        order=np.zeros((users_max + 1, 2), np.int32),
        header=np.zeros(HEADER_SIZE, np.int64),
    )


@inlined
def is_safety(bits: Any) -> Any:
    """Whether safety needs a profile with these bits."""
    return bits & SAFETY_BITS != _ZERO


@inlined
def link(p: Any, place: Any) -> Any:
    """Put a place at the newest end of the list of ordinary profiles."""
    link_place(p.order, place)
    p.header[ORDINARY] += 1


@inlined
def unlink(p: Any, place: Any) -> Any:
    """Take a place out of the list of ordinary profiles."""
    unlink_place(p.order, place)
    p.header[ORDINARY] -= 1


@inlined
def standing_of(p: Any, user_id: Any) -> Any:
    """A person's ``Standing`` bits (int64). Id 0 is nobody: 0."""
    place = np.int64(find(p.ids, user_id))
    if place < 0:
        return _S_UNKNOWN if p.header[LOST] > 0 and user_id != _ZERO else np.int64(0)
    bits = p.bits[place]
    found = np.int64(0)
    state = bits & _STATE_MASK
    if state == _SUSPENDED:
        found |= _S_SUSPENDED
    elif state == _DEACTIVATED:
        found |= _S_DEACTIVATED
    elif state == ERASED_BITS:
        found |= _S_ERASED
    if bits & _PROTECTED != _ZERO:
        found |= _S_PROTECTED
    if bits & _NOT_RECOMMENDED != _ZERO:
        found |= _S_NOT_RECOMMENDED
    return found


@kernel
def standings(p: Any, user_ids: Any, out: Any) -> Any:
    """Write the ``Standing`` bits of ``user_ids`` (uint64, n) into ``out`` (uint8, n)."""
    for i in range(user_ids.shape[0]):
        out[i] = standing_of(p, user_ids[i])


@kernel
def profiles_of(p: Any, user_ids: Any, bits: Any, created_ms: Any) -> Any:
    """Write ``bits`` (uint64, n) and ``created_ms`` (int64, n) of ``user_ids`` (uint64, n); 0 where not known."""
    for i in range(user_ids.shape[0]):
        place = np.int64(find(p.ids, user_ids[i]))
        bits[i] = p.bits[place] if place >= 0 else _ZERO
        created_ms[i] = p.times_ms[place, CREATED] if place >= 0 else 0
