"""real_graph in plain Python: a sweep at the end of every day over the raw acts that hold."""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

DECAY, DAYS_SINCE_MAX = 0.955, 60


class Statistics(NamedTuple):
    """Of one kind of act of a pair, in the order of the columns of ``RealGraph.statistics``."""

    ewma: float
    mean: float
    variance: float
    non_zero_days: int
    elapsed_days: int
    days_since: int


NOTHING = Statistics(0, 0, 0, 0, 0, 0)


def swept(acts: Iterable[tuple[int, float]], until_day: int) -> Statistics:
    """The statistics at the end of a day, by a sweep over every day. ``acts``: day and amount, in any order."""
    totals: Counter[int] = Counter()
    for day, amount in acts:
        totals[day] += amount
    held = NOTHING
    mean = m2 = ewma = 0.0
    n = elapsed = since = 0
    for day in range(min(totals, default=until_day), until_day + 1):
        x = totals[day]
        ewma *= DECAY
        if n:
            elapsed, since = elapsed + 1, since + 1
        if x > 0:
            n, elapsed, since = n + 1, max(elapsed, 1), 1
            delta = x - mean
            mean += delta / n
            m2 += delta * (x - mean)
            ewma += x
        if since > DAYS_SINCE_MAX or ewma < DECAY**DAYS_SINCE_MAX:
            mean = m2 = ewma = 0.0
            n = elapsed = since = 0
        held = Statistics(ewma, mean, m2 / max(n, 1), n, elapsed, since)
    return held
