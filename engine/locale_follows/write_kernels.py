"""The writer of locale_follows: counts new follows, and takes back those that end."""

from typing import Any

import numpy as np

from engine.batch import Change, Kind
from engine.kernels.decay import factor, value_at
from engine.kernels.erasing import (
    PLACE,
    bits_of,
    drop_done,
    enter,
    is_full,
    is_waiting,
    may_wait,
    pass_places,
    places_left,
    waits,
)
from engine.kernels.id_map import CAPACITY, SIZE, find, find_or_add, remove
from engine.kernels.jit import kernel
from engine.locale_follows.arrays import (
    COUNTED,
    HALF_LIFE_MS,
    LOCALES_NOT_KEPT,
    LOCALES_PUSHED_OUT,
    TAKEN_BACK,
    WITHOUT_LOCALE,
    change,
    clear,
    first_place,
    key_of,
    places_of,
)
from engine.profiles.arrays import standing_of
from engine.profiles.bits import GONE, ProfileBit

_FOLLOW, _UNFOLLOW, _ERASE, _USER = int(Kind.FOLLOW), int(Kind.UNFOLLOW), int(Kind.ERASE), int(Kind.USER)
_BEGINS, _RENEWED, _ENDS = np.uint8(Change.BEGINS), np.uint8(Change.RENEWED), np.uint8(Change.ENDS)
_LANGUAGE_SHIFT, _COUNTRY_SHIFT = np.uint64(ProfileBit.LANGUAGE_SHIFT), np.uint64(ProfileBit.COUNTRY_SHIFT)
_CODE = np.uint64(0xFFFF)
_GONE = np.int64(GONE)
_ZERO = np.uint64(0)
#: An ERASE row looks for erased people in so many places.
PLACES_PER_ROW = 1 << 14


@kernel
def _table_of(s: Any, key: Any, time_ms: Any, adds: Any) -> Any:
    """The table of a locale, made if it is missing and ``adds``; -1 if there is none.

    A full room gives up the locale with the least follows, if these are less than one new follow.
    """
    index = np.int64(find(s.locales, key))
    if index >= 0 or not adds:
        return index + 1 if index >= 0 else np.int64(-1)
    if s.locales.header[SIZE] == s.locales.header[CAPACITY]:
        least, half_life_ms = np.float64(1.0), np.float64(s.limits[HALF_LIFE_MS])
        for other in range(s.locales.keys.shape[0]):
            total = value_at(s.totals[other + 1], s.totals_ms[other + 1], time_ms, half_life_ms)
            if total < least:
                index, least = np.int64(other), total
        if index < 0:
            s.header[LOCALES_NOT_KEPT] += 1
            return np.int64(-1)
        table = index + 1
        for at in range(first_place(s, table), first_place(s, table) + places_of(s, table)):
            clear(s, at)
        s.totals[table], s.totals_ms[table] = 0.0, 0
        remove(s.locales, s.locales.keys[index])
        s.header[LOCALES_PUSHED_OUT] += 1
    return np.int64(find_or_add(s.locales, key)) + 1


@kernel
def _count(s: Any, p: Any, user_id: Any, person_id: Any, amount: Any, time_ms: Any) -> None:
    """Add to the counts of a followed person, of all follows and of the follower's locales."""
    if standing_of(p, user_id) & _GONE:
        return
    s.header[COUNTED if amount > 0.0 else TAKEN_BACK] += 1
    change(s, np.int64(0), person_id, amount, time_ms)
    place = np.int64(find(p.ids, user_id))
    bits = p.bits[place] if place >= 0 else _ZERO
    language, country = (bits >> _LANGUAGE_SHIFT) & _CODE, (bits >> _COUNTRY_SHIFT) & _CODE
    if language == _ZERO and country == _ZERO:
        s.header[WITHOUT_LOCALE] += 1
        return
    for part in range(3):
        # Both, the language, the country; where one is not known, both together are the other.
        if part and (language == _ZERO or country == _ZERO):
            break
        key = key_of(language if part != 2 else _ZERO, country if part != 1 else _ZERO)
        table = _table_of(s, key, time_ms, amount > 0.0)
        if table > 0:
            change(s, table, person_id, amount, time_ms)


@kernel
def _sweep(s: Any, places: Any) -> None:
    """Go on to forget erased people who were followed, in the next so many places."""
    queue, size = s.erasing, s.people.shape[0]
    at, bits = np.int64(queue[PLACE]), bits_of(queue)
    passed = min(places, places_left(queue))
    for _ in range(passed):
        if s.people[at] != _ZERO and may_wait(bits, s.people[at]) and waits(queue, s.people[at]):
            clear(s, at)
        at = at + 1 if at + 1 < size else np.int64(0)
    pass_places(queue, passed, size)
    drop_done(queue)


@kernel
def _erase(s: Any, user_id: Any) -> None:
    """ERASE: forget a person who was followed, piece by piece. 0: nobody's further, go on with those who wait."""
    size = np.int64(s.people.shape[0])
    if user_id != _ZERO:
        if is_full(s.erasing):
            _sweep(s, size)
        enter(s.erasing, user_id, size)
    if is_waiting(s.erasing):
        _sweep(s, np.int64(PLACES_PER_ROW))


@kernel
def apply(s: Any, p: Any, batch: Any) -> None:
    """Apply a resolved batch's FOLLOW, UNFOLLOW and ERASE rows in order; ``p``: the profiles as of the piece's end."""
    half_life_ms = np.float64(s.limits[HALF_LIFE_MS])
    for row in range(batch.kind.shape[0]):
        code, user_id, person_id = np.int64(batch.kind[row]), batch.user_id[row], batch.subject_id[row]
        if code == _USER and is_waiting(s.erasing) and waits(s.erasing, user_id):
            # What is done to the person after coming back must stay.
            _sweep(s, np.int64(s.people.shape[0]))
        if code == _ERASE:
            _erase(s, user_id)
        if (code != _FOLLOW and code != _UNFOLLOW) or user_id in (_ZERO, person_id) or person_id == _ZERO:
            continue
        what, time_ms = batch.change[row], batch.timestamp_ms[row]
        if what == _BEGINS:
            _count(s, p, user_id, person_id, np.float64(1.0), time_ms)
        elif what in (_RENEWED, _ENDS):
            left = factor(max(np.int64(0), time_ms - batch.replaced_ms[row]), half_life_ms)
            _count(s, p, user_id, person_id, (1.0 if what == _RENEWED else 0.0) - left, time_ms)
