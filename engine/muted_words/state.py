"""Muted words: words, phrases and hashtags that a person does not want to see.

A room of state (docs/muted_words.md). ``apply`` is called by one thread under the write side of the state lock,
everything else by readers under the read side.
"""

from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import Annotated, ClassVar

import numpy as np
from msgspec import Meta, Struct

from engine.batch import EventBatch, Kind, make_batch
from engine.effects import Effect, EffectKind, Effects, make_effects
from engine.kernels.growth import grow_id_map
from engine.kernels.handle import handle
from engine.kernels.id_map import SIZE, id_map_bytes
from engine.muted_words import arrays, read_kernels, write_kernels
from engine.muted_words.check import check
from engine.muted_words.folding import Folder, make_folder
from engine.muted_words.read_kernels import Muted, make_muted
from engine.room import InOrder, Room, Share, only_grew

_KINDS = np.zeros(256, bool)
_KINDS[[Kind.MUTE_WORD, Kind.UNMUTE_WORD, Kind.ERASE]] = True


class MutedWordsConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Capacities: people who have muted or unmuted words, words of all together, and words of each."""

    people_max: Annotated[int, Meta(ge=1, le=1 << 28)] = 1 << 16
    words_max: Annotated[int, Meta(ge=1, le=1 << 30)] = 1 << 18
    words_per_person_max: Annotated[int, Meta(ge=1, le=10_000)] = 200


#: Cumulative counters by name.
COUNTERS = {
    "mutes": arrays.MUTES,
    "unmutes": arrays.UNMUTES,
    "superseded": arrays.SUPERSEDED,
    "unmutes_forgotten": arrays.FORGOTTEN,
    "refused_over_cap": arrays.REFUSED_OVER_CAP,
    "without_word": arrays.WITHOUT_WORD,
    "dropped_full": arrays.DROPPED_FULL,
    "unmutes_dropped": arrays.UNMUTES_DROPPED,
}


def muted_words_bytes(config: MutedWordsConfig) -> int:
    """Bytes of all arrays: 16 per person, the id map, 48 per word."""
    return 16 * config.people_max + id_map_bytes(config.people_max) + 48 * config.words_max + 8 * arrays.HEADER_SIZE


class Knowledge(IntEnum):
    """What the room knows of a person's muted words."""

    NONE_MUTED = 0
    MUTED = 1
    #: A mute found no room.
    NOT_KEPT = 2


class MutedWords(Room):
    """What every person said last about each word, within the bounds of each person.

    Nothing that is muted is ever evicted. A mute that would be one too many for its person is refused by name. When one
    finds no room it is noted whose it was: that person sees no tweets, rather than one with the word.
    """

    name: ClassVar[str] = "muted_words"
    shares: ClassVar[Mapping[str, Share]] = {
        "people": Share("1", "–"),
        "words": Share(
            "`words_per_person_max`, muted and unmuted",
            "the person's oldest unmuted word gives way, else the mute is refused by name: `too_many_words`",
        ),
    }
    constants: ClassVar[frozenset[str]] = frozenset({"limits"})
    counted: ClassVar[Mapping[str, int]] = COUNTERS

    def __init__(self, config: MutedWordsConfig) -> None:
        self.config = config
        self._words = handle(arrays.make_words(config.people_max, config.words_max, config.words_per_person_max))
        self._folder = make_folder()
        super().__init__(self._words, self._words.header)

    def apply(self, batch: EventBatch) -> Effects | None:
        """Apply ``mute_word``, ``unmute_word`` and ERASE rows in order; other kinds are skipped."""
        if not _KINDS[batch.kind].any():
            return None
        refused = np.empty(batch.size, np.int64)
        count = int(write_kernels.apply(self._words, self._folder, batch, np.zeros(2, np.uint64), refused))
        if not count:
            return None
        detail = (
            f"too_many_words\nthis person has {self.config.words_per_person_max} muted words, the most there may be"
        )
        return make_effects([Effect(EffectKind.REFUSED, int(row), text=detail) for row in refused[:count]])

    @property
    def problem(self) -> str | None:
        """Why muted words cannot be relied on, in one line; None when all is well. Needs no lock."""
        header = self._words.header
        if header[arrays.UNKEPT_ALL] or header[arrays.UNKEPT_PEOPLE]:
            whose = (
                "people who cannot be told" if header[arrays.UNKEPT_ALL] else f"{header[arrays.UNKEPT_PEOPLE]} people"
            )
            return f"muted words of {whose} found no room in rooms.muted_words; they see no tweets"
        return None

    def knows(self, user_id: int) -> Knowledge:
        """Whether a person has muted words, and whether all of them are known."""
        if not self._words.ids.header[SIZE] and not self._words.header[arrays.UNKEPT_ALL]:
            return Knowledge.NONE_MUTED  # nobody has, so the kernel need not be called
        return Knowledge(int(read_kernels.may_have(self._words, np.uint64(user_id))))

    def of(self, user_id: int, muted: Muted) -> int:
        """Write a person's muted words into ``muted`` (of ``make_muted``); returns how many there are."""
        return int(read_kernels.collect(self._words, np.uint64(user_id), muted))

    def make_muted(self) -> Muted:
        """A table for the words of any one person."""
        return make_muted(self.config.words_per_person_max)

    def in_order(self) -> Iterable[InOrder]:
        """``Bounded.in_order``: the pool of words."""
        yield InOrder("entries", int(self._words.header[arrays.USED]), len(self._words.entries))

    def usage(self) -> Mapping[str, tuple[int, int]]:
        """People and words."""
        return {
            "people": (int(self._words.ids.header[0]), self.config.people_max),
            "words": (int(self._words.header[arrays.IN_USE]), self.config.words_max),
        }

    def check(self) -> None:
        """Verify lists, pool and counts against each other.

        Raises:
            InvariantError: state that must not exist.
        """
        check(self._words)

    def grow_from(self, smaller: "MutedWords") -> bool:
        """Copy the smaller room's people and words (``Bounded.grow_from``). A room that dropped mutes is
        not taken over: it is built again from the log, which still has them."""
        capacities = ("people_max", "words_max", "words_per_person_max")
        dropped = smaller._words.header[arrays.DROPPED_FULL]
        if dropped or not only_grew(smaller.config, self.config, capacities=capacities):
            return False
        own, held = self._words, smaller._words
        grow_id_map(own.ids, held.ids)
        own.people[: len(held.people)] = held.people
        own.entries[: len(held.entries)] = held.entries
        own.header[:] = held.header
        return True


def occurs(muted: Muted, folder: Folder, text: str) -> bool:
    """Whether a text has one of these words."""
    source = np.frombuffer(bytearray(text.encode()), np.uint8)
    return bool(read_kernels.occurs(muted, folder, source, np.int64(0), np.int64(len(source))))


def warm() -> None:
    """Compile the kernels on tiny arrays of the real dtypes."""
    room = MutedWords(MutedWordsConfig(people_max=1, words_max=1, words_per_person_max=1))
    room.apply(
        make_batch(b"a", kind=[Kind.MUTE_WORD], user_id=[1], payload=[0], tweet_text_start=[0], tweet_text_bytes=[1])
    )
    muted = room.make_muted()
    room.of(1, muted)
    occurs(muted, make_folder(), "a")
    read_kernels.is_named(muted, np.uint64(1))
    room.knows(1)
