"""Profiles: whether an account is in use, protected, verified, and whether it wants to be recommended.

A base room of state (docs/profiles.md). ``apply`` is called by one thread under the write side of the state lock,
everything else by readers under the read side.
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar, NamedTuple

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from engine.batch import EventBatch, Kind, make_batch
from engine.kernels.growth import copy_rows, grow_id_map
from engine.kernels.handle import handle
from engine.kernels.id_map import SIZE, id_map_bytes
from engine.profiles import arrays, write_kernels
from engine.profiles.check import check
from engine.room import Room, Share, only_grew

Ids = NDArray[np.uint64]


class ProfilesConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Capacity. When it is full, the ordinary profile updated longest ago makes place; a profile that safety needs
    (suspended, deactivated, protected, not to be recommended, no sensitive media) never does.
    """

    users_max: Annotated[int, Meta(ge=1, le=1 << 28)] = 1 << 18


class Known(NamedTuple):
    """What is known of n people: ``bits`` uint64 (n), ``ProfileBit``; ``created_ms`` int64 (n); 0 where not known."""

    bits: NDArray[np.uint64]
    created_ms: NDArray[np.int64]


#: Cumulative counters by name.
COUNTERS = {
    "updates": arrays.UPDATES,
    "older": arrays.OLDER,
    "evicted": arrays.EVICTED,
    "dropped_full": arrays.DROPPED,
    "lost_safety_full": arrays.LOST,
    "erased": arrays.ERASED,
    "without_user": arrays.WITHOUT_USER,
}


def profiles_bytes(config: ProfilesConfig) -> int:
    """Bytes of all arrays: 32 per person, the id map, and 80."""
    return 32 * config.users_max + id_map_bytes(config.users_max) + 8 + 8 * arrays.HEADER_SIZE


class ProfileRoom(Room):
    """Profiles by person, the one of the latest event time.

    Writers: ``apply``, one thread. Readers hold the read side of the state lock.
    """

    name: ClassVar[str] = "profiles"
    shares: ClassVar[Mapping[str, Share]] = {
        "users": Share("1: a person's profile, or the mark that the person is erased", "–"),
        "safety_users": Share("1", "–"),
    }
    counted: ClassVar[Mapping[str, int]] = COUNTERS

    def __init__(self, config: ProfilesConfig) -> None:
        self.config = config
        self._profiles = handle(arrays.make_profiles(config.users_max))
        super().__init__(self._profiles, self._profiles.header)

    @property
    def profiles(self) -> arrays.Profiles:
        """The room's arrays, for kernels that look people up row by row."""
        return self._profiles

    @property
    def has_lost_safety(self) -> bool:
        """Whether profiles that safety needs did not fit: then nobody without a profile is shown."""
        return bool(self._profiles.header[arrays.LOST])

    def apply(self, batch: EventBatch) -> None:
        """Apply USER and ERASE rows in order; other kinds are skipped."""
        write_kernels.apply(
            self._profiles, batch.kind, batch.user_id, batch.context_id, batch.author_id, batch.timestamp_ms
        )

    def late(self, batch: EventBatch) -> NDArray[np.bool_]:
        """Which rows (bool, n) come late about people who were erased, and are left out (docs/profiles.md)."""
        late = np.zeros(batch.size, np.bool_)
        erased = np.flatnonzero((batch.kind == Kind.ERASE) & (batch.user_id != 0))
        if len(erased) or self._profiles.header[arrays.MARKS]:
            write_kernels.mark_late(self._profiles, batch, late, erased)
        return late

    def standings(self, user_ids: Ids) -> NDArray[np.uint8]:
        """``Standing`` bits of people (uint64, n; 0 is nobody): uint8 (n)."""
        out = np.empty(len(user_ids), np.uint8)
        arrays.standings(self._profiles, np.ascontiguousarray(user_ids, np.uint64), out)
        return out

    def known(self, user_ids: Ids) -> Known:
        """What is known of people (uint64, n)."""
        found = Known(np.empty(len(user_ids), np.uint64), np.empty(len(user_ids), np.int64))
        arrays.profiles_of(self._profiles, np.ascontiguousarray(user_ids, np.uint64), *found)
        return found

    def usage(self) -> Mapping[str, tuple[int, int]]:
        """People, and those whose profiles safety needs: when the latter fill the room, the next one is lost."""
        people = int(self._profiles.ids.header[SIZE])
        safety = people - int(self._profiles.header[arrays.ORDINARY])
        return {"users": (people, self.config.users_max), "safety_users": (safety, self.config.users_max)}

    def check(self) -> None:
        """Verify people, places and the order of giving up against each other.

        Raises:
            InvariantError: state that must not exist.
        """
        check(self._profiles)

    def grow_from(self, smaller: "ProfileRoom") -> bool:
        """Copy the smaller room's profiles (``Bounded.grow_from``). A room that has lost profiles is not taken over: it
        is built again from the log, which still has them."""
        if smaller.has_lost_safety or not only_grew(smaller.config, self.config, capacities=("users_max",)):
            return False
        own, held = self._profiles, smaller._profiles
        grow_id_map(own.ids, held.ids)
        for name in ("bits", "times_ms", "order", "header"):
            copy_rows(getattr(own, name), getattr(held, name))
        return True


def warm() -> None:
    """Compile the kernels on a tiny batch of the real dtypes."""
    room = ProfileRoom(ProfilesConfig(users_max=1))
    batch = make_batch(kind=[Kind.USER, Kind.USER, Kind.ERASE], user_id=[1, 2, 2])
    room.late(batch)
    room.apply(batch)
    ids = np.array([1, 2], np.uint64)
    room.standings(ids)
    room.known(ids)
