"""The reader of locale_follows: the people of a table, with their counts and how peculiar they are to the locale."""

from typing import Any

import numpy as np

from engine.exact_math import log
from engine.kernels.decay import value_at
from engine.kernels.id_map import find
from engine.kernels.jit import kernel
from engine.locale_follows.arrays import HALF_LIFE_MS, find_place, first_place, places_of

_ZERO = np.uint64(0)


@kernel
def read(s: Any, key: Any, time_ms: Any, least: Any, people: Any, counts: Any, ppmi: Any) -> Any:
    """Write the people (uint64) of a locale's table whose count is more than ``least``, their counts and their PPMI
    with the locale (float64), each (at least the places of a table,); returns how many. Key 0: of all follows.

    PPMI = max(0, ln(P(person, locale) / (P(person) · P(locale)))), of follows. Whom the table of all follows has
    lost was followed at least as often as in the locale.
    """
    table = np.int64(find(s.locales, key)) + 1 if key != _ZERO else np.int64(0)
    if table == 0 and key != _ZERO:
        return 0
    half_life_ms, count = np.float64(s.limits[HALF_LIFE_MS]), np.int64(0)
    everything = value_at(s.totals[0], s.totals_ms[0], time_ms, half_life_ms)
    of_locale = value_at(s.totals[table], s.totals_ms[table], time_ms, half_life_ms)
    start = first_place(s, table)
    for at in range(start, start + places_of(s, table)):
        if s.people[at] == _ZERO:
            continue
        here = value_at(s.counts[at], s.times_ms[at], time_ms, half_life_ms)
        if here <= least:
            continue
        place = find_place(s, np.int64(0), s.people[at])
        anywhere = value_at(s.counts[place], s.times_ms[place], time_ms, half_life_ms) if place >= 0 else here
        people[count], counts[count], ppmi[count] = s.people[at], here, 0.0
        product = max(anywhere, here) * of_locale
        if table > 0 and product > 0.0 and here * everything > product:
            ppmi[count] = log(here * everything / product)
        count += 1
    return count
