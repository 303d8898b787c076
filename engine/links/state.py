"""Links: who has whom in the address book, and whose retweets somebody mutes.

A room of state (docs/links.md). ``apply`` is called by one thread under the write side of the state lock, everything
else by readers under the read side.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, ClassVar

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from engine.batch import EventBatch, Kind, make_batch
from engine.effects import Effect, EffectKind, Effects, make_effects
from engine.kernels.erasing import QUEUE_SIZE, copy_queue
from engine.kernels.growth import copy_rows, grow_id_map
from engine.kernels.handle import handle
from engine.kernels.id_map import HIGH as PEOPLE_HIGH
from engine.kernels.id_map import SIZE, id_map_bytes, table_size
from engine.links import arrays, read_kernels, write_kernels
from engine.links.check import check
from engine.room import InOrder, Room, Share, only_grew

Ids = NDArray[np.uint64]
_KINDS = np.zeros(256, bool)
_KINDS[[Kind.CONTACT, Kind.UNCONTACT, Kind.MUTE_RETWEETS, Kind.UNMUTE_RETWEETS, Kind.USER, Kind.ERASE]] = True


class LinksConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Capacities, and what one person may have. In small rooms a person's share is smaller: an eighth of people and
    links, of what was taken back a 32nd, but at least 4.
    """

    people_max: Annotated[int, Meta(ge=2, le=1 << 28)] = 1 << 17
    links_max: Annotated[int, Meta(ge=2, le=1 << 29)] = 1 << 18
    contacts_per_person_max: Annotated[int, Meta(ge=1, le=1 << 20)] = 2000
    retweet_mutes_per_person_max: Annotated[int, Meta(ge=1, le=1 << 20)] = 1000
    undone_per_person_max: Annotated[int, Meta(ge=4, le=1 << 20)] = 500


#: Cumulative counters by name.
COUNTERS = {
    "added": arrays.ADDED,
    "ended": arrays.ENDED,
    "renewed": arrays.RENEWED,
    "late": arrays.LATE,
    "undone_forgotten": arrays.FORGOTTEN,
    "refused_too_many": arrays.REFUSED_MANY,
    "refused_full": arrays.REFUSED_FULL,
    "undone_dropped_full": arrays.UNDONE_DROPPED,
}
_REASONS = {
    write_kernels.TOO_MANY_CONTACTS: "too_many_contacts",
    write_kernels.TOO_MANY_RETWEET_MUTES: "too_many_retweet_mutes",
    write_kernels.FULL: "links_full",
}


def links_bytes(config: LinksConfig) -> int:
    """Bytes of all arrays: 36 a person, the id map, 36 a link, 4 a slot of the table, and 3 KiB."""
    people = 4 * arrays.PEOPLE_COLUMNS * config.people_max + id_map_bytes(config.people_max)
    links = (4 * arrays.LINK_COLUMNS + 8) * config.links_max + 4 * table_size(config.links_max)
    return people + links + 8 * (QUEUE_SIZE + arrays.HEADER_SIZE)


def _limits(config: LinksConfig) -> tuple[int, int, int]:
    share = max(1, min(config.people_max, config.links_max) // 8)
    return (
        min(config.contacts_per_person_max, share),
        min(config.retweet_mutes_per_person_max, share),
        min(config.undone_per_person_max, max(4, share // 4)),
    )


class LinkRoom(Room):
    """Contacts and muted retweets, as far as they hold; what was taken back is remembered within each person's share.

    What holds is never evicted: an act beyond its person's share, or without room, is refused by name.
    """

    name: ClassVar[str] = "links"
    shares: ClassVar[Mapping[str, Share]] = {
        "people": Share("as links", "as links"),
        "links": Share(
            "`contacts_per_person_max`, `retweet_mutes_per_person_max`, `undone_per_person_max`",
            "refused by name: `too_many_contacts`, `too_many_retweet_mutes`; of what was taken back, the first is"
            " forgotten (`undone_forgotten`)",
        ),
    }
    constants: ClassVar[frozenset[str]] = frozenset({"limits"})
    counted: ClassVar[Mapping[str, int]] = COUNTERS

    def __init__(self, config: LinksConfig) -> None:
        self.config = config
        self._links = handle(arrays.make_links(config.people_max, config.links_max, _limits(config)))
        super().__init__(self._links, self._links.header)

    def apply(self, batch: EventBatch) -> Effects | None:
        """Apply contacts, muted retweets, their undos and ERASE rows in order; other kinds are skipped.

        Returns:
            A REFUSED effect for each act that its person may not have or that found no room.
        """
        if not _KINDS[batch.kind].any():
            return None
        refused = np.empty((batch.size, 2), np.int64)
        columns = (batch.kind, batch.user_id, batch.subject_id, batch.timestamp_ms)
        count = int(write_kernels.apply(self._links, *columns, refused))
        if not count:
            return None
        return make_effects(
            [
                Effect(EffectKind.REFUSED, row, text=f"{_REASONS[why]}\n{self._explain(why)}")
                for row, why in refused[:count].tolist()
            ]
        )

    def _explain(self, why: int) -> str:
        """One line for people."""
        if why == write_kernels.FULL:
            return "the room of links has no room left; raise rooms.links.links_max or people_max"
        contacts = why == write_kernels.TOO_MANY_CONTACTS
        most = int(self._links.limits[arrays.CONTACTS_EACH if contacts else arrays.MUTES_EACH])
        what, key = ("contacts", "contacts") if contacts else ("muted retweeters", "retweet_mutes")
        return f"one person has at most {most} {what} (rooms.links.{key}_per_person_max)"

    def contacts_of(self, user_id: int, limit: int) -> Ids:
        """Whom a person has in the address book: uint64, the newest first, at most ``limit``."""
        return self._newest(user_id, arrays.MY_CONTACTS, limit)

    def in_address_books_of(self, user_id: int, limit: int) -> Ids:
        """Who has a person in the address book: uint64, the newest first, at most ``limit``."""
        return self._newest(user_id, arrays.HAVE_ME, limit)

    def contact_count(self, user_id: int) -> int:
        """How many people a person has in the address book."""
        return int(read_kernels.count_of(self._links, np.uint64(user_id), np.int64(arrays.CONTACTS)))

    def muted_retweeters(self, user_id: int) -> Ids:
        """Whose retweets a person mutes: uint64, the newest first."""
        if not self._links.header[arrays.LINKS]:
            return np.empty(0, np.uint64)  # as a rule: every feed asks
        count = int(read_kernels.count_of(self._links, np.uint64(user_id), np.int64(arrays.MUTES)))
        return self._newest(user_id, arrays.MY_MUTES, count) if count else np.empty(0, np.uint64)

    def _newest(self, user_id: int, which: int, limit: int) -> Ids:
        ids = np.empty(max(0, limit), np.uint64)
        return ids[: int(read_kernels.newest(self._links, np.uint64(user_id), np.int64(which), ids))]

    def in_order(self) -> Iterable[InOrder]:
        """``Bounded.in_order``: people and links."""
        yield InOrder("people", int(self._links.ids.header[PEOPLE_HIGH]), len(self._links.people))
        for name in ("links", "times_ms"):
            yield InOrder(name, int(self._links.header[arrays.HIGH]), self.config.links_max)

    def usage(self) -> Mapping[str, tuple[int, int]]:
        """People, and links with what was taken back."""
        return {
            "people": (int(self._links.ids.header[SIZE]), self.config.people_max),
            "links": (int(self._links.header[arrays.LINKS]), self.config.links_max),
        }

    def check(self) -> None:
        """Verify lists, table, counts and people against each other.

        Raises:
            InvariantError: state that must not exist.
        """
        check(self._links)

    def grow_from(self, smaller: "LinkRoom") -> bool:
        """Copy the smaller room's links (``Bounded.grow_from``)."""
        capacities = ("people_max", "links_max", "contacts_per_person_max", "retweet_mutes_per_person_max")
        if not only_grew(smaller.config, self.config, capacities=(*capacities, "undone_per_person_max")):
            return False
        own, held = self._links, smaller._links
        grow_id_map(own.ids, held.ids)
        for name in ("people", "links", "times_ms", "header"):
            copy_rows(getattr(own, name), getattr(held, name))
        copy_queue(own.erasing, held.erasing, 1)
        write_kernels.enter_table(own)
        return True


def warm() -> None:
    """Compile the kernels on a tiny batch of the real dtypes."""
    room = LinkRoom(LinksConfig(people_max=4, links_max=4))
    room.apply(make_batch(kind=[Kind.CONTACT, Kind.USER], user_id=[1, 1], subject_id=[2, 0]))
    room.contacts_of(1, 1)
    room.contact_count(1)
