"""What each person may put into a place that everybody shares, per day of event time.

For rings whose oldest content gives way: whoever puts in very much would push out what others put there. A room counts
what each person puts in, and treats what is over the person's share in another way. People are told apart by a hash, so
two people may share a counter: of 16,384 counters, a person shares one with one of 16,384 others.

The day is that of the newest event that the counters have seen, so an event's own time (which its sender chooses) opens
no new share in the past.
"""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.kernels.jit import inlined
from engine.kernels.rng import mix64

DAY_MS: Final = 86_400_000
#: Columns of ``DailyShare.counters``: the day, and what was put in on it.
_DAY, _USED = 0, 1
#: Indices of ``DailyShare.header``.
CLOCK_MS, OVER_SHARE = 0, 1
_COUNTERS_MAX = 1 << 14


class DailyShare(NamedTuple):
    """The counters: int64 (n, 2), n a power of two, and ``header``, int64 (2): the newest event time, and how often
    somebody was over their share."""

    counters: NDArray[np.int64]
    header: NDArray[np.int64]


def counters_for(capacity: int) -> int:
    """How many counters a room of this capacity needs: a power of two, 1,024 to 16,384."""
    return min(_COUNTERS_MAX, 1 << max(10, capacity.bit_length()))


def daily_share_bytes(capacity: int) -> int:
    """Bytes of all arrays: 16 per counter, and 16."""
    return 16 * counters_for(capacity) + 16


def make_daily_share(capacity: int) -> DailyShare:
    """Nobody has put in anything."""
    return DailyShare(np.zeros((counters_for(capacity), 2), np.int64), np.zeros(2, np.int64))


def share_of(most: int, capacity: int, least: int = 64) -> int:
    """A person's share: ``most``, but no more than a quarter of a small room (at least ``least``)."""
    return min(most, max(least, capacity // 4))


@inlined
def take_share(spent: Any, person_id: Any, amount: Any, share: Any, time_ms: Any) -> Any:
    """Whether a person (uint64) may put in ``amount`` more on this day; if so, it is counted."""
    header, counters = spent.header, spent.counters
    header[CLOCK_MS] = max(header[CLOCK_MS], time_ms)
    day = header[CLOCK_MS] // DAY_MS
    at = np.int64(mix64(person_id) & np.uint64(counters.shape[0] - 1))
    used = counters[at, _USED] if counters[at, _DAY] == day else np.int64(0)
    if used + amount > share:
        header[OVER_SHARE] += 1
        return False
    counters[at, _DAY], counters[at, _USED] = day, used + amount
    return True


def grow(target: DailyShare, source: DailyShare) -> None:
    """Copy the counters of a smaller room: several of the larger one may begin with what one had counted."""
    target.counters[:] = np.tile(source.counters, (len(target.counters) // len(source.counters), 1))
    target.header[:] = source.header
