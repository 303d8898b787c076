"""The arrays of locale_follows: decayed counts of new follows, by followed person and the follower's locale.

A **table** holds people with their counts, in buckets of eight that a hash of the person chooses. The first table is of
all follows, the others are each of one locale: a language in a country, a language, or a country. Whoever is not in
the table takes a free place of the bucket, or that of somebody whose count is less than one new follow. So whom two
people followed lately is not pushed out by the follows of any one person, however many.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.kernels.decay import add, value_at
from engine.kernels.erasing import make_queue
from engine.kernels.id_map import IdMap, make_id_map
from engine.kernels.jit import inlined, kernel
from engine.kernels.rng import mix64

#: Places of a bucket.
BUCKET = 8
#: A count of less than this is the rounding of one that was taken back.
NOTHING_LEFT = 1e-9
#: Bits of a locale's key (uint64): language, country, and one that is always set, so that no key is 0.
LANGUAGE_BITS, COUNTRY_BITS = 16, 16
_KEY = np.uint64(1 << 32)
_ZERO = np.uint64(0)

#: Indices of ``Follows.header``: counters.
COUNTED, TAKEN_BACK, WITHOUT_LOCALE, PUSHED_OUT, NOT_KEPT, LOCALES_PUSHED_OUT, LOCALES_NOT_KEPT = range(7)
HEADER_SIZE = 8
#: Indices of ``Follows.limits``: places of the first table and of each other one; the half-life in ms.
PLACES, PLACES_EACH, HALF_LIFE_MS = range(3)


class Follows(NamedTuple):
    """All arrays of the room. ``locales``: keys of locales to tables (table 0 is of all follows; a locale's index + 1).

    ``people`` uint64, ``counts`` float64 and ``times_ms`` int64 (places): the tables, one after the other. ``totals``
    float64 and ``totals_ms`` int64 (tables): all follows of a locale. ``header``, ``erasing``, ``limits``."""

    locales: IdMap
    people: NDArray[np.uint64]
    counts: NDArray[np.float64]
    times_ms: NDArray[np.int64]
    totals: NDArray[np.float64]
    totals_ms: NDArray[np.int64]
    header: NDArray[np.int64]
    erasing: NDArray[np.uint64]
    limits: NDArray[np.int64]


def make_follows(locales_max: int, places: int, places_each: int, half_life_ms: int) -> Follows:
    """Empty arrays; both numbers of places are powers of two, at least ``BUCKET``."""
    size = places + locales_max * places_each
    return Follows(
        locales=make_id_map(locales_max),
        people=np.zeros(size, np.uint64),
        counts=np.zeros(size, np.float64),
        times_ms=np.zeros(size, np.int64),
        totals=np.zeros(locales_max + 1, np.float64),
        totals_ms=np.zeros(locales_max + 1, np.int64),
        header=np.zeros(HEADER_SIZE, np.int64),
        erasing=make_queue(),
        limits=np.array([places, places_each, half_life_ms], np.int64),
    )


@inlined
def key_of(language: Any, country: Any) -> Any:
    """The key (uint64) of a locale; each of the codes may be 0, but not both: then it is 0."""
    key = np.uint64(language) | np.uint64(country) << np.uint64(LANGUAGE_BITS)
    return key | _KEY if key != _ZERO else _ZERO


@inlined
def first_place(s: Any, table: Any) -> Any:
    """Where a table begins."""
    return np.int64(0) if table == 0 else s.limits[PLACES] + (table - 1) * s.limits[PLACES_EACH]


@inlined
def places_of(s: Any, table: Any) -> Any:
    """How many places a table has."""
    return s.limits[PLACES] if table == 0 else s.limits[PLACES_EACH]


@inlined
def clear(s: Any, at: Any) -> None:
    """Forget the person at a place."""
    s.people[at] = _ZERO
    s.counts[at] = 0.0
    s.times_ms[at] = 0


@kernel
def find_place(s: Any, table: Any, person_id: Any) -> Any:
    """Where a table has a person, -1 where it has not."""
    size = places_of(s, table)
    bucket = np.int64(mix64(person_id) & np.uint64(size // BUCKET - 1))
    start = first_place(s, table) + bucket * BUCKET
    for at in range(start, start + BUCKET):
        if s.people[at] == person_id:
            return at
    return np.int64(-1)


@kernel
def change(s: Any, table: Any, person_id: Any, amount: Any, time_ms: Any) -> None:
    """Add to a person's count in a table and to the table's total; ``amount`` float64, negative to take back."""
    half_life_ms = np.float64(s.limits[HALF_LIFE_MS])
    add(s.totals, s.totals_ms, table, amount, time_ms, half_life_ms)
    if s.totals[table] < NOTHING_LEFT:
        s.totals[table] = 0.0
    at = find_place(s, table, person_id)
    if at < 0:
        if amount <= 0.0:
            return
        bucket = np.int64(mix64(person_id) & np.uint64(places_of(s, table) // BUCKET - 1))
        start = first_place(s, table) + bucket * BUCKET
        least = amount
        for place in range(start, start + BUCKET):
            held = value_at(s.counts[place], s.times_ms[place], time_ms, half_life_ms)
            if held < least:
                at, least = place, held
        if at < 0:
            s.header[NOT_KEPT] += 1
            return
        s.header[PUSHED_OUT] += s.people[at] != _ZERO
        clear(s, at)
        s.people[at] = person_id
    add(s.counts, s.times_ms, at, amount, time_ms, half_life_ms)
    if s.counts[at] < NOTHING_LEFT:
        clear(s, at)
