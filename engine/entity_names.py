"""Names of hashtags and URLs: maps the 64-bit hash that the engine counts by to the name that somebody wrote.

Names come with tweets that were published as JSON; packed events have only the hash. The room keeps the last
``names_max`` names by first sight, and of their text the last ``text_bytes_max`` bytes. A name whose entry or text was
evicted is stored again when another tweet carries it.

An author has a share of new names and of their text per day; of names beyond it only the hash is known, until somebody
else's tweet brings them. So nobody pushes out the names that others use.

Memory: ``12 B · names_max``, the id map, the text, and 16 KB to 256 KB for the authors' shares, twice.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from engine.batch import EventBatch, Kind, make_batch
from engine.errors import InvariantError
from engine.kernels import daily_share, id_map
from engine.kernels.daily_share import OVER_SHARE, DailyShare, make_daily_share, share_of, take_share
from engine.kernels.growth import copy_rows, grow_id_map, grow_text
from engine.kernels.id_map import IdMap, find, find_many, find_or_add, lookup, make_id_map, remove
from engine.kernels.jit import inlined, kernel
from engine.room import Room, Share, only_grew

#: Indices of ``Names.header``. ``WRITTEN``: bytes of text ever written; modulo the ring's size it is the next place.
POSITION, WRITTEN, NAMES, REWRITTEN, EVICTED, TOO_LONG = range(6)
HEADER_SIZE = 8

_HASHTAG, _URL = int(Kind.HASHTAG), int(Kind.URL)


class EntityNamesConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How many names of hashtags and URLs are kept, and how many bytes of text; and what one author's tweets may bring
    of both per day (of a small room at most a quarter)."""

    names_max: Annotated[int, Meta(ge=1, le=1 << 28)] = 1 << 16
    text_bytes_max: Annotated[int, Meta(ge=1, le=1 << 40)] = 1 << 22
    author_names_per_day_max: Annotated[int, Meta(ge=1, le=1 << 28)] = 1 << 10
    author_text_bytes_per_day_max: Annotated[int, Meta(ge=1, le=1 << 40)] = 1 << 17


class Names(NamedTuple):
    """The arrays: the complete state. n = ``names_max``.

    ``ids``: hash → place; places are a ring by first sight. ``start``: int64 (n,), ``WRITTEN`` when the text was
    stored. ``size``: int32 (n,), bytes of UTF-8. ``text``: the ring of bytes. ``names_spent``, ``text_spent``: what
    each author brought today. ``header``: int64. Not state: ``limits``, int64 (2): an author's names and bytes per day.
    """

    ids: IdMap
    start: NDArray[np.int64]
    size: NDArray[np.int32]
    text: NDArray[np.uint8]
    names_spent: DailyShare
    text_spent: DailyShare
    header: NDArray[np.int64]
    limits: NDArray[np.int64]


@inlined
def _has_text(names: Any, at: Any) -> Any:
    """Whether a name's text is still in the ring, not overwritten."""
    return names.header[WRITTEN] - names.start[at] <= names.text.shape[0]


@inlined
def _may_bring(names: Any, author_id: Any, size: Any, time_ms: Any) -> Any:
    """Whether a name of so many bytes is within its author's shares."""
    return take_share(names.names_spent, author_id, 1, names.limits[0], time_ms) and take_share(
        names.text_spent, author_id, size, names.limits[1], time_ms
    )


@kernel
def _put(names: Any, name_hash: Any, text: Any, start: Any, size: Any, author_id: Any, time_ms: Any) -> None:
    """Keep a name, unless it is there or its author has brought too many."""
    header, ring = names.header, names.text
    if size > ring.shape[0]:
        header[TOO_LONG] += 1
        return
    at = np.int64(find(names.ids, name_hash))
    if at >= 0:
        if _has_text(names, at) or not _may_bring(names, author_id, size, time_ms):
            return
        header[REWRITTEN] += 1
    elif not _may_bring(names, author_id, size, time_ms):
        return
    else:
        # The map hands out 0, 1, 2 …, and when full the place of the name just removed: the same order as the ring.
        at = header[POSITION]
        if header[NAMES] - header[EVICTED] == names.size.shape[0]:
            remove(names.ids, names.ids.keys[at])
            header[EVICTED] += 1
        find_or_add(names.ids, name_hash)
        header[POSITION] = at + 1 if at + 1 < names.size.shape[0] else 0
        header[NAMES] += 1
    names.start[at] = header[WRITTEN]
    names.size[at] = size
    head = header[WRITTEN] % ring.shape[0]
    for i in range(size):
        ring[head] = text[start + i]
        head = head + 1 if head + 1 < ring.shape[0] else 0
    header[WRITTEN] += size


@kernel
def _apply(names: Any, batch: Any) -> None:
    """Keep the names that a batch's hashtags and URLs carry; other rows are ignored."""
    for row in range(batch.kind.shape[0]):
        at = batch.payload[row]
        if at >= 0 and batch.kind[row] in (_HASHTAG, _URL):
            start, size = batch.tweet_text_start[at], np.int64(batch.tweet_text_bytes[at])
            author_id, time_ms = batch.author_id[row], batch.timestamp_ms[row]
            _put(names, batch.context_id[row], batch.text, start, size, author_id, time_ms)


class EntityNames(Room):
    """Names by hash. Only the writer calls ``apply``; readers hold the read side of the state lock."""

    name: ClassVar[str] = "entity_names"
    layout: ClassVar[int] = 2
    constants: ClassVar[frozenset[str]] = frozenset({"limits"})
    shares: ClassVar[Mapping[str, Share]] = {
        "names": Share("`author_names_per_day_max`, of new names", "the name is not kept (`over_share`)"),
        "text": Share("`author_text_bytes_per_day_max`, of new names", "the name is not kept (`over_share`)"),
    }
    counted: ClassVar[Mapping[str, int]] = {
        "names": NAMES,
        "rewritten": REWRITTEN,
        "evicted": EVICTED,
        "too_long": TOO_LONG,
    }

    def __init__(self, config: EntityNamesConfig) -> None:
        self.config = config
        self._names = Names(
            ids=make_id_map(config.names_max),
            start=np.zeros(config.names_max, np.int64),
            size=np.zeros(config.names_max, np.int32),
            text=np.zeros(config.text_bytes_max, np.uint8),
            names_spent=make_daily_share(config.names_max),
            text_spent=make_daily_share(config.names_max),
            header=np.zeros(HEADER_SIZE, np.int64),
            limits=np.array(
                [
                    share_of(config.author_names_per_day_max, config.names_max),
                    share_of(config.author_text_bytes_per_day_max, config.text_bytes_max, least=1 << 12),
                ],
                np.int64,
            ),
        )
        super().__init__(self._names, self._names.header)

    def apply(self, batch: EventBatch) -> None:
        """Keep the names of a batch's hashtags and URLs (``Room.apply``)."""
        # Packed events carry no text, so they have no names.
        if batch.text.size:
            _apply(self._names, batch)

    def counters(self) -> Mapping[str, int]:
        """``Bounded.counters``, and the names that were more than their author's share."""
        over = sum(int(spent.header[OVER_SHARE]) for spent in (self._names.names_spent, self._names.text_spent))
        return {**super().counters(), "over_share": over}

    def names_of(self, hashes: NDArray[np.uint64]) -> list[str | None]:
        """The names (n) as first written (after an eviction: as first written since); None where not known."""
        names, size = self._names, len(self._names.text)
        places = np.empty(len(hashes), np.int32)
        find_many(names.ids, np.ascontiguousarray(hashes, np.uint64), places)
        known = (places >= 0) & (names.header[WRITTEN] - names.start[places] <= size)
        starts, sizes = (names.start[places] % size).tolist(), names.size[places].tolist()
        found: list[str | None] = []
        for there, start, length in zip(known.tolist(), starts, sizes, strict=True):
            text = names.text[start : start + length].tobytes() if there else b""
            if there and start + length > size:
                text += names.text[: start + length - size].tobytes()
            found.append(text.decode("utf-8", "replace") if there else None)
        return found

    def usage(self) -> Mapping[str, tuple[int, int]]:
        """Names and bytes of text; both stay full once they are full."""
        return {
            "names": (int(self._names.ids.header[id_map.SIZE]), self.config.names_max),
            "text": (int(self._names.header[WRITTEN]), self.config.text_bytes_max),
        }

    def check(self) -> None:
        """Verify that map, ring and text fit each other.

        Raises:
            InvariantError: they do not.
        """
        names, header = self._names, self._names.header
        held = int(header[NAMES] - header[EVICTED])
        used = np.flatnonzero(names.ids.keys)
        if held != int(names.ids.header[id_map.SIZE]) or not np.array_equal(used, np.arange(held)):
            raise InvariantError(f"entity_names: {held} names are counted, but the map has others")
        if held < self.config.names_max and header[POSITION] != held:
            raise InvariantError("entity_names: the ring's position is not where the next name goes")
        if any(lookup(names.ids, int(names.ids.keys[at])) != at for at in used.tolist()):
            raise InvariantError("entity_names: a name cannot be found")
        if (names.start[used] + names.size[used] > header[WRITTEN]).any():
            raise InvariantError("entity_names: a text ends after the last byte written")

    def grow_from(self, smaller: "EntityNames") -> bool:
        """Copy the smaller room's names and their text (``Bounded.grow_from``)."""
        rules = ("author_names_per_day_max", "author_text_bytes_per_day_max")
        if not only_grew(smaller.config, self.config, capacities=("names_max", "text_bytes_max"), rules=rules):
            return False
        names, held = self._names, smaller._names
        full = int(held.ids.header[id_map.SIZE]) == len(held.size) < len(names.size)
        first = int(held.header[POSITION]) if full else 0
        grow_id_map(names.ids, held.ids, first)
        copy_rows(names.start, held.start, first)
        copy_rows(names.size, held.size, first)
        names.header[:] = held.header
        daily_share.grow(names.names_spent, held.names_spent)
        daily_share.grow(names.text_spent, held.text_spent)
        if full:
            names.header[POSITION] = len(held.size)
        written = int(held.header[WRITTEN])
        grow_text(names.text, held.text, written)
        # Text that the smaller ring has overwritten must not look as if the larger ring still had it.
        names.start[: len(held.start)][written - names.start[: len(held.start)] > len(held.text)] = (
            written - len(names.text) - 1
        )
        return True


def warm() -> None:
    """Compile the kernels on a tiny batch of the real dtypes."""
    room = EntityNames(EntityNamesConfig(names_max=1, text_bytes_max=4))
    for name_hash in (1, 2):
        room.apply(
            make_batch(
                b"ab", kind=[_URL], context_id=[name_hash], payload=[0], tweet_text_start=[0], tweet_text_bytes=[2]
            )
        )
    room.names_of(np.ones(1, np.uint64))
