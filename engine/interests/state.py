"""Interests: what people said, when they came, that they want to read about.

A room of state (docs/interests.md). ``apply`` is called by one thread under the write side of the state lock,
everything else by readers under the read side.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, ClassVar, NamedTuple

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from engine.batch import EventBatch, Kind, make_batch
from engine.interests import arrays, kernels
from engine.interests.check import check
from engine.interests.content import LANGUAGES_MAX, TAGS_MAX, encode_interests
from engine.kernels.growth import copy_rows, grow_id_map
from engine.kernels.handle import handle
from engine.kernels.id_map import HIGH, SIZE, id_map_bytes
from engine.room import InOrder, Room, Share, only_grew

_KINDS = np.zeros(256, bool)
_KINDS[[Kind.INTERESTS, Kind.USER, Kind.ERASE]] = True


class InterestsConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Capacity. When it is full, the person who said something longest ago gives way."""

    people_max: Annotated[int, Meta(ge=1, le=1 << 28)] = 1 << 16


class Known(NamedTuple):
    """What a person wants to read about: ``tags`` uint64, hashes as those of hashtags; ``languages`` uint16, codes of
    the primary subtag. Both in the person's order."""

    tags: NDArray[np.uint64]
    languages: NDArray[np.uint16]


NOTHING = Known(np.empty(0, np.uint64), np.empty(0, np.uint16))

#: Cumulative counters by name.
COUNTERS = {
    "updates": arrays.UPDATES,
    "older": arrays.OLDER,
    "evicted": arrays.EVICTED,
    "malformed": arrays.MALFORMED,
}
#: Bytes a person: time, sizes, tags, languages, two links.
_PERSON_BYTES = 8 + 2 + 8 * TAGS_MAX + 2 * LANGUAGES_MAX + 8


def interests_bytes(config: InterestsConfig) -> int:
    """Bytes of all arrays: 282 a person, the id map, and 40."""
    return _PERSON_BYTES * config.people_max + id_map_bytes(config.people_max) + 8 + 8 * arrays.HEADER_SIZE


class InterestRoom(Room):
    """What each person said last, by event time, about what they want to read."""

    name: ClassVar[str] = "interests"
    shares: ClassVar[Mapping[str, Share]] = {"people": Share("1", "–")}
    counted: ClassVar[Mapping[str, int]] = COUNTERS

    def __init__(self, config: InterestsConfig) -> None:
        self.config = config
        self._interests = handle(arrays.make_interests(config.people_max))
        super().__init__(self._interests, self._interests.header)

    def apply(self, batch: EventBatch) -> None:
        """Apply ``interests``, profiles that name interests, and ERASE rows in order; other kinds are skipped."""
        if _KINDS[batch.kind].any():
            kernels.apply(self._interests, batch)

    def of(self, user_id: int) -> Known:
        """What a person wants to read about; empty where nothing is known."""
        if not self._interests.ids.header[SIZE]:
            return NOTHING  # nobody said anything, so the kernel need not be called
        found = Known(np.empty(TAGS_MAX, np.uint64), np.empty(LANGUAGES_MAX, np.uint16))
        sizes = np.empty(2, np.int64)
        kernels.look_up(self._interests, np.uint64(user_id), *found, sizes)
        return Known(found.tags[: sizes[arrays.TAGS]], found.languages[: sizes[arrays.LANGUAGES]])

    def in_order(self) -> Iterable[InOrder]:
        """``Bounded.in_order``: people by place."""
        for name in ("tags", "languages", "order", "times_ms", "sizes"):
            array = getattr(self._interests, name)
            yield InOrder(name, int(self._interests.ids.header[HIGH]) + 1, len(array))

    def usage(self) -> Mapping[str, tuple[int, int]]:
        """People."""
        return {"people": (int(self._interests.ids.header[SIZE]), self.config.people_max)}

    def check(self) -> None:
        """Verify people, places, lists and their order against each other.

        Raises:
            InvariantError: state that must not exist.
        """
        check(self._interests)

    def grow_from(self, smaller: "InterestRoom") -> bool:
        """Copy the smaller room's people (``Bounded.grow_from``)."""
        if not only_grew(smaller.config, self.config, capacities=("people_max",)):
            return False
        own, held = self._interests, smaller._interests
        grow_id_map(own.ids, held.ids)
        for name in ("times_ms", "sizes", "tags", "languages", "order", "header"):
            copy_rows(getattr(own, name), getattr(held, name))
        return True


def warm() -> None:
    """Compile the kernels on a tiny batch of the real dtypes."""
    room = InterestRoom(InterestsConfig(people_max=1))
    text = encode_interests([1], [1])
    room.apply(
        make_batch(
            text, kind=[Kind.INTERESTS], user_id=[1], payload=[0], tweet_text_start=[0], tweet_text_bytes=[len(text)]
        )
    )
    room.of(1)
