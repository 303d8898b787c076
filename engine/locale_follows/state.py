"""locale_follows: who is followed lately, by the language and country of those who follow.

A derived room of state (docs/who_to_follow.md). ``apply`` is called by one thread under the write side of the state
lock, everything else by readers under the read side.
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar, NamedTuple

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from engine.batch import EventBatch, Kind, make_batch
from engine.errors import ConfigError
from engine.kernels.erasing import QUEUE_SIZE
from engine.kernels.handle import handle
from engine.kernels.id_map import SIZE, id_map_bytes
from engine.locale_follows import arrays, read_kernels, write_kernels
from engine.locale_follows.check import check
from engine.profiles.state import ProfileRoom, ProfilesConfig
from engine.room import DerivedRoom, Share

Ids = NDArray[np.uint64]
Places = Annotated[int, Meta(ge=arrays.BUCKET, le=1 << 24)]

_KINDS = np.zeros(256, bool)
_KINDS[[Kind.FOLLOW, Kind.UNFOLLOW, Kind.USER, Kind.ERASE]] = True


class LocaleFollowsConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Capacities: locales, and how many people are counted of all follows together and of each locale (powers of two).

    A follow counts less as time passes, by this half-life.
    """

    locales_max: Annotated[int, Meta(ge=1, le=1 << 20)] = 1 << 9
    people_max: Places = 1 << 13
    people_per_locale_max: Places = 1 << 8
    half_life_ms: Annotated[int, Meta(ge=1, le=1 << 48)] = 7 * 86_400_000


class Popular(NamedTuple):
    """People (n), most first: ``people`` uint64; ``counts`` float64, decayed follows; ``ppmi`` float64, how peculiar
    the person is to the locale (0: not more than chance, and among all follows)."""

    people: Ids
    counts: NDArray[np.float64]
    ppmi: NDArray[np.float64]


#: Cumulative counters by name.
COUNTERS = {
    "counted": arrays.COUNTED,
    "taken_back": arrays.TAKEN_BACK,
    "without_locale": arrays.WITHOUT_LOCALE,
    "people_pushed_out": arrays.PUSHED_OUT,
    "people_not_kept": arrays.NOT_KEPT,
    "locales_pushed_out": arrays.LOCALES_PUSHED_OUT,
    "locales_not_kept": arrays.LOCALES_NOT_KEPT,
}


def locale_follows_bytes(config: LocaleFollowsConfig) -> int:
    """Bytes of all arrays: 24 a person of a table, 16 a table, and the id map."""
    places = config.people_max + config.locales_max * config.people_per_locale_max
    tables = 16 * (config.locales_max + 1) + id_map_bytes(config.locales_max)
    return 24 * places + tables + 8 * (arrays.HEADER_SIZE + QUEUE_SIZE)


class LocaleFollows(DerivedRoom):
    """Decayed counts of new follows by person, of all follows and of each locale.

    Writers: ``apply``, one thread. Readers hold the read side of the state lock. Only whoever has less than one new
    follow gives way to another person, or locale.
    """

    name: ClassVar[str] = "locale_follows"
    shares: ClassVar[Mapping[str, Share]] = {
        "people": Share(
            "one count for each person whom one follows",
            "it takes the place of whom nobody else followed lately, or is not kept (`people_not_kept`)",
        ),
        "locales": Share("as people", "as people (`locales_not_kept`)"),
    }
    constants: ClassVar[frozenset[str]] = frozenset({"limits"})
    counted: ClassVar[Mapping[str, int]] = COUNTERS
    reads: ClassVar[tuple[str, ...]] = ("profiles",)

    def __init__(self, config: LocaleFollowsConfig, profiles: ProfileRoom) -> None:
        """Allocate everything.

        Raises:
            ConfigError: a table's size is no power of two.
        """
        for name in ("people_max", "people_per_locale_max"):
            if (size := getattr(config, name)) & (size - 1):
                raise ConfigError(f"locale_follows.{name}: {size} is not a power of two")
        self.config = config
        self._profiles = profiles
        sizes = (config.locales_max, config.people_max, config.people_per_locale_max)
        self._follows = handle(arrays.make_follows(*sizes, config.half_life_ms))
        super().__init__(self._follows, self._follows.header)

    def apply(self, batch: EventBatch) -> None:
        """Count the piece's follows; languages and countries are as of the end of the piece."""
        if _KINDS[batch.kind].any():
            write_kernels.apply(self._follows, self._profiles.profiles, batch)

    def popular(self, language: int, country: int, time_ms: int, *, least: float) -> Popular:
        """Whom people of a locale followed lately, by PPMI × count, then count, then id; only counts above ``least``.

        Args:
            language, country: codes (``ProfileBit``), 0 for any; both 0: all follows, by count.
            time_ms: the request's time.
        """
        n = self.config.people_per_locale_max if language or country else self.config.people_max
        found = Popular(np.empty(n, np.uint64), np.empty(n), np.empty(n))
        key = np.uint64(arrays.key_of(np.uint64(language), np.uint64(country)))
        count = int(read_kernels.read(self._follows, key, np.int64(time_ms), np.float64(least), *found))
        people, counts, ppmi = found.people[:count], found.counts[:count], found.ppmi[:count]
        order = np.lexsort((people, -counts, -(ppmi * counts)))
        return Popular(people[order], counts[order], ppmi[order])

    def usage(self) -> Mapping[str, tuple[int, int]]:
        """People in all tables, and locales."""
        return {
            "people": (int(np.count_nonzero(self._follows.people)), len(self._follows.people)),
            "locales": (int(self._follows.locales.header[SIZE]), self.config.locales_max),
        }

    def check(self) -> None:
        """Verify tables and locales against each other.

        Raises:
            InvariantError: state that must not exist.
        """
        check(self._follows)


def warm() -> None:
    """Compile the kernels on a tiny batch of the real dtypes."""
    config = LocaleFollowsConfig(locales_max=1, people_max=8, people_per_locale_max=8)
    room = LocaleFollows(config, ProfileRoom(ProfilesConfig(users_max=1)))
    room.apply(make_batch(kind=[Kind.FOLLOW, Kind.UNFOLLOW], user_id=[1, 1], subject_id=[2, 2]))
    room.popular(1, 1, 0, least=0.0)
