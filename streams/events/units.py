"""Times in a wrong unit: the bounds of a time in milliseconds, and what a number beyond them looks like."""

import datetime
from typing import Final

#: 1970-04-26. An earlier time in milliseconds is surely in seconds: the seconds of every date until 2286 are below.
TIMESTAMP_MS_MIN: Final = 10_000_000_000
#: 2200-01-01. A later time is surely in a wrong unit.
TIMESTAMP_MS_MAX: Final = 7_258_118_400_000

#: 1973: seconds since then are told from small numbers of another meaning.
_SECONDS_MIN: Final = 100_000_000
#: 2001-09-09: earlier dates are not guessed from micro- and nanoseconds.
_GUESSED_MS_MIN: Final = 1_000_000_000_000


def unit_of(number: float) -> tuple[str, int] | None:
    """The unit that a number looks like as a time since 1970, and the time in milliseconds; None: like no time."""
    if _SECONDS_MIN <= number < TIMESTAMP_MS_MIN:
        return "seconds", round(number * 1000)
    for unit, per_ms in (("microseconds", 1_000), ("nanoseconds", 1_000_000)):
        if _GUESSED_MS_MIN * per_ms <= number <= TIMESTAMP_MS_MAX * per_ms:
            return unit, int(number // per_ms)
    return None


def wrong_unit(number: float) -> str:
    """Words about a number that is no time in milliseconds: the unit that it looks like, or the bounds."""
    if isinstance(number, float) and number != number:
        return "a time is a number of milliseconds since 1970"
    found = unit_of(number)
    if found is None:
        return f"{_short(number)} is not a time in milliseconds between 1970-04-26 and 2200"
    unit, time_ms = found
    date = datetime.datetime.fromtimestamp(time_ms // 1000, datetime.UTC)
    return f"{_short(number)} looks like {unit} ({date:%Y-%m-%d}); a time is in milliseconds: {time_ms}"


def _short(number: float) -> str:
    return str(number)[:30]
