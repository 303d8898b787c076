"""Suggestions: whom each viewer does not want to be suggested, and who was suggested lately.

A room of state (docs/who_to_follow.md). ``apply`` is called by one thread under the write side of the state lock,
everything else by readers under the read side.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, ClassVar, NamedTuple

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from engine.batch import EventBatch, Kind, make_batch
from engine.effects import Effect, EffectKind, Effects, make_effects
from engine.kernels.erasing import QUEUE_SIZE, copy_queue
from engine.kernels.growth import grow_id_map
from engine.kernels.handle import handle
from engine.kernels.id_map import SIZE, id_map_bytes, lookup
from engine.room import InOrder, Room, Share, only_grew
from engine.suggestions import arrays, read_kernels, write_kernels
from engine.suggestions.check import check

Ids = NDArray[np.uint64]
_DAY_MS = 86_400_000
AgeMs = Annotated[int, Meta(ge=0, le=1 << 48)]

_KINDS = np.zeros(256, bool)
_KINDS[[Kind.DISMISS, Kind.UNDISMISS, Kind.SUGGESTED, Kind.USER, Kind.ERASE]] = True


class SuggestionsConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Capacities, and how long a dismissal and a suggestion count.

    An entry is one person whom one viewer dismissed, or was suggested. A viewer keeps at most
    ``entries_per_person_max``.
    """

    people_max: Annotated[int, Meta(ge=1, le=1 << 28)] = 1 << 16
    entries_max: Annotated[int, Meta(ge=1, le=1 << 30)] = 1 << 18
    entries_per_person_max: Annotated[int, Meta(ge=1, le=4096)] = 512
    dismissed_age_ms_max: AgeMs = 180 * _DAY_MS
    shown_age_ms_max: AgeMs = 14 * _DAY_MS


class Suggested(NamedTuple):
    """A viewer's list (n): ``people`` uint64, ascending; ``dismissed`` bool; ``shown`` int32, how often."""

    people: Ids
    dismissed: NDArray[np.bool_]
    shown: NDArray[np.int32]


#: Cumulative counters by name.
COUNTERS = {
    "dismissed": arrays.DISMISSED,
    "taken_back": arrays.TAKEN_BACK,
    "shown": arrays.SHOWINGS,
    "late": arrays.LATE,
    "lapsed": arrays.LAPSED,
    "over_share": arrays.OVER_SHARE,
    "dropped_full": arrays.DROPPED_FULL,
    "without_person": arrays.WITHOUT_PERSON,
}


def suggestions_bytes(config: SuggestionsConfig) -> int:
    """Bytes of all arrays: 8 per viewer, the id map, 56 per entry."""
    viewers = 8 * config.people_max + id_map_bytes(config.people_max)
    return viewers + 8 * arrays.COLUMNS * config.entries_max + 8 * (arrays.HEADER_SIZE + QUEUE_SIZE)


class Suggestions(Room):
    """Per viewer: people who were dismissed, and people who were suggested, with how often.

    Writers: ``apply``, one thread. Readers hold the read side of the state lock. Nobody's entries give way to somebody
    else's: a dismissal that finds no room is refused by name, a suggestion that finds none is not counted.
    """

    name: ClassVar[str] = "suggestions"
    shares: ClassVar[Mapping[str, Share]] = {
        "people": Share("1", "–"),
        "entries": Share(
            "`entries_per_person_max`, and a quarter of all",
            "the person's own give way: who was suggested longest ago, then the oldest dismissal (`over_share`)",
        ),
    }
    constants: ClassVar[frozenset[str]] = frozenset({"limits"})
    counted: ClassVar[Mapping[str, int]] = COUNTERS

    def __init__(self, config: SuggestionsConfig) -> None:
        self.config = config
        #: The most entries of one person.
        self.entries_each = max(1, min(config.entries_per_person_max, config.entries_max // 4))
        limits = (self.entries_each, config.dismissed_age_ms_max, config.shown_age_ms_max)
        self._suggested = handle(arrays.make_suggested(config.people_max, config.entries_max, limits))
        super().__init__(self._suggested, self._suggested.header)

    def apply(self, batch: EventBatch) -> Effects | None:
        """Apply DISMISS, UNDISMISS, SUGGESTED and ERASE rows in order; other kinds are skipped.

        Returns:
            A REFUSED effect for each dismissal that found no room.
        """
        if not _KINDS[batch.kind].any():
            return None
        refused = np.empty(batch.size, np.int64)
        count = int(write_kernels.apply(self._suggested, batch, refused))
        if not count:
            return None
        detail = "suggestions_full\nthere is no room for further dismissals: raise rooms.suggestions.entries_max"
        return make_effects([Effect(EffectKind.REFUSED, int(row), text=detail) for row in refused[:count]])

    def of(self, viewer_id: int, time_ms: int) -> Suggested:
        """Whom a viewer dismissed, and who was suggested, as far as that counts at a time."""
        viewer = lookup(self._suggested.ids, viewer_id)
        n = int(self._suggested.viewers[viewer, arrays.ENTRIES]) if viewer >= 0 else 0
        found = Suggested(np.empty(n, np.uint64), np.empty(n, np.bool_), np.empty(n, np.int32))
        if n:
            read_kernels.collect(self._suggested, np.uint64(viewer_id), np.int64(time_ms), *found)
        order = np.argsort(found.people, kind="stable")
        return Suggested(found.people[order], found.dismissed[order], found.shown[order])

    def in_order(self) -> Iterable[InOrder]:
        """``Bounded.in_order``: the pool of entries."""
        yield InOrder("entries", int(self._suggested.header[arrays.USED]), len(self._suggested.entries))

    def usage(self) -> Mapping[str, tuple[int, int]]:
        """Viewers and entries."""
        return {
            "people": (int(self._suggested.ids.header[SIZE]), self.config.people_max),
            "entries": (int(self._suggested.header[arrays.IN_USE]), self.config.entries_max),
        }

    def check(self) -> None:
        """Verify lists, pool and counts against each other.

        Raises:
            InvariantError: state that must not exist.
        """
        check(self._suggested)

    def grow_from(self, smaller: "Suggestions") -> bool:
        """Copy the smaller room's viewers and entries (``Bounded.grow_from``)."""
        capacities = ("people_max", "entries_max", "entries_per_person_max")
        rules = ("dismissed_age_ms_max", "shown_age_ms_max")
        if not only_grew(smaller.config, self.config, capacities=capacities, rules=rules):
            return False
        own, held = self._suggested, smaller._suggested
        grow_id_map(own.ids, held.ids)
        own.viewers[: len(held.viewers)] = held.viewers
        own.entries[: len(held.entries)] = held.entries
        own.header[:] = held.header
        copy_queue(own.erasing, held.erasing, len(own.entries))
        return True


def warm() -> None:
    """Compile the kernels on a tiny batch of the real dtypes."""
    room = Suggestions(SuggestionsConfig(people_max=1, entries_max=4))
    kinds = [Kind.DISMISS, Kind.UNDISMISS, Kind.SUGGESTED]
    room.apply(make_batch(kind=kinds, user_id=[1, 1, 1], subject_id=[2, 2, 3]))
    room.of(1, 0)
