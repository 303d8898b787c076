"""The daily roll-up of one feature, done when somebody touches it instead of every day.

A day's total x of an act is folded into a feature's statistics as a daily sweep would: ``n += 1, d = x − mean, mean +=
d / n, m2 += d · (x − mean), ewma = 0.955 · ewma + x``; a day without acts multiplies ewma by 0.955 only. However long
nobody looked, the result is that of the sweep: a power of 0.955 stands for the days between, and what was idle for too
long, or fell below the least ewma, on any of them begins anew.

The two newest days with acts stay open, so that acts may come late or be taken back; older ones are closed. Of a closed
day at most ``MARKED_DAYS`` before the newest it is still known whether its total was 1, 2 or more, so that a change to
it is exact, too, up to 2. Of older ones it is known as long as all closed days have the same total; else the ewma and
the mean follow, and m2 is near.

Source: interaction_graph of Twitter's release (``IG/scio/agg_all``): the newest day has weight 1.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.kernels.jit import inlined, kernel
from engine.real_graph.arrays import (
    CLOSED_DAY,
    CODE,
    DAY_0,
    DAY_1,
    EWMA,
    FIRST_DAY,
    LATE,
    M2,
    MEAN,
    NON_ZERO,
    TOTAL_0,
    TOTAL_1,
    Feature,
)

DECAY = 0.955
#: A feature is dropped when its newest act is more than so many days ago (today is day 1), or its ewma is less.
DAYS_SINCE_MAX = 60
MARKED_DAYS = 32
_CODE_DWELL = int(Feature.DWELL_S)
_ZERO, _THREE, _LOW_OF_PAIRS = np.uint64(0), np.uint64(3), np.uint64(0x5555555555555555)


def _make_powers() -> NDArray[np.float64]:
    """0.955 to the powers 0 … 1023, one multiplication each: the same numbers on every machine."""
    powers = np.empty(1024, np.float64)
    power = 1.0
    for days in range(len(powers)):
        powers[days] = power
        power *= DECAY
    return powers


POWERS = _make_powers()
EWMA_MIN = float(POWERS[DAYS_SINCE_MAX])


@inlined
def decay(days: Any) -> Any:
    """0.955 to the power of ``days``; 1 for negative ones, 0 beyond the table."""
    if days >= POWERS.shape[0]:
        return 0.0
    return POWERS[max(np.int64(0), days)]


@inlined
def _mark(t: Any, f: Any, total: Any) -> Any:
    """The two bits for a closed day's total. Of seconds it is never known."""
    if t.feature_days[f, CODE] == _CODE_DWELL:
        return _THREE
    return np.uint64(min(np.int64(3), max(np.int64(1), np.int64(total))))


@inlined
def newest_day(t: Any, f: Any) -> Any:
    """The newest day with acts."""
    return np.int64(max(t.feature_days[f, DAY_0], t.feature_days[f, CLOSED_DAY]))


@inlined
def ewma_at(t: Any, f: Any, day: Any) -> Any:
    """The decayed sum at the end of a day, as float64."""
    days, sums = t.feature_days[f], t.feature_sums[f]
    total = np.float64(sums[EWMA]) * decay(day - np.int64(days[CLOSED_DAY]))
    total += np.float64(sums[TOTAL_1]) * decay(day - np.int64(days[DAY_1]))
    return total + np.float64(sums[TOTAL_0]) * decay(day - np.int64(days[DAY_0]))


@inlined
def has_lapsed(t: Any, f: Any, day: Any) -> Any:
    """Whether the daily sweep would have dropped the feature by the end of a day."""
    return day - newest_day(t, f) + 1 > DAYS_SINCE_MAX or ewma_at(t, f, day) < EWMA_MIN


@inlined
def days_marked(t: Any, f: Any, day: Any) -> Any:
    """The days with acts among the ``MARKED_DAYS`` up to ``day``: a uint64, bit 2k for the day k days before."""
    days = t.feature_days[f]
    marks = t.feature_marks[f]
    marks = (marks | (marks >> np.uint64(1))) & _LOW_OF_PAIRS
    back = day - np.int64(days[CLOSED_DAY])
    if back >= 0:
        marks = marks << np.uint64(2 * back) if back < MARKED_DAYS else _ZERO
    else:
        marks = marks >> np.uint64(-2 * back) if -back < MARKED_DAYS else _ZERO
    for column in (DAY_0, DAY_1):
        back = day - np.int64(days[column])
        if days[column] and 0 <= back < MARKED_DAYS:
            marks |= np.uint64(1) << np.uint64(2 * back)
    return marks


@kernel
def start(t: Any, f: Any, code: Any, day: Any) -> None:
    """Make a feature empty, for acts from ``day`` on."""
    for column in range(t.feature_days.shape[1]):
        t.feature_days[f, column] = 0
    for column in range(t.feature_sums.shape[1]):
        t.feature_sums[f, column] = np.float32(0.0)
    t.feature_marks[f] = _ZERO
    t.feature_days[f, CODE] = code
    t.feature_days[f, FIRST_DAY] = day


@inlined
def is_empty(t: Any, f: Any) -> Any:
    """Whether no day is left in a feature."""
    return t.feature_days[f, NON_ZERO] == 0 and t.feature_days[f, DAY_0] == 0


# --- closed days ------------------------------------------------------------------------------------------------


@kernel
def _close(t: Any, f: Any, day: Any, total: Any) -> None:
    """Fold a day's total, of a day that is not among the closed ones, into the statistics. Any order of days."""
    days, sums = t.feature_days[f], t.feature_sums[f]
    days[NON_ZERO] += 1
    mean, n = np.float64(sums[MEAN]), np.float64(days[NON_ZERO])
    delta = total - mean
    mean += delta / n
    sums[M2] = np.float32(np.float64(sums[M2]) + delta * (total - mean))
    sums[MEAN] = np.float32(mean)
    mark, back = _mark(t, f, total), np.int64(days[CLOSED_DAY]) - day
    if back > 0:
        sums[EWMA] = np.float32(np.float64(sums[EWMA]) + total * decay(back))
        if back < MARKED_DAYS:
            t.feature_marks[f] |= mark << np.uint64(2 * back)
    else:
        sums[EWMA] = np.float32(np.float64(sums[EWMA]) * decay(-back) + total)
        marks = t.feature_marks[f] << np.uint64(-2 * back) if -back < MARKED_DAYS else _ZERO
        t.feature_marks[f] = marks | mark
        days[CLOSED_DAY] = day


@kernel
def _change_total(t: Any, f: Any, back: Any, total: Any, more: Any) -> None:
    """Change the total of a closed day that stays active, ``back`` days before the newest, by ``more``."""
    sums, n = t.feature_sums[f], np.float64(t.feature_days[f, NON_ZERO])
    mean = np.float64(sums[MEAN])
    # m2 is Σ x² − n · mean²; both terms change.
    m2 = np.float64(sums[M2]) + more * (2.0 * total + more) - more * (2.0 * mean + more / n)
    sums[M2] = np.float32(max(0.0, m2))
    sums[MEAN] = np.float32(max(0.0, mean + more / n))
    sums[EWMA] = np.float32(max(0.0, np.float64(sums[EWMA]) + more * decay(back)))


@inlined
def _likely_total(t: Any, f: Any, least: Any) -> Any:
    """The total of a closed day of which nothing is known but that it was at least ``least``: the mean. If all closed
    days had the same total it is exact; two different counts make m2 at least 0.5."""
    mean = np.float64(t.feature_sums[f, MEAN])
    if t.feature_sums[f, M2] < 0.25 and t.feature_days[f, CODE] != _CODE_DWELL:
        return np.float64(np.int64(mean + 0.5))
    return max(least, mean)


@inlined
def _known_total(t: Any, f: Any, mark: Any) -> Any:
    """The total of a closed day by its two bits; where it is not known, a likely one."""
    return np.float64(mark) if mark < _THREE else _likely_total(t, f, 3.0)


@inlined
def _mark_at(t: Any, f: Any, back: Any) -> Any:
    return (t.feature_marks[f] >> np.uint64(2 * back)) & _THREE if 0 <= back < MARKED_DAYS else _ZERO


@inlined
def _set_mark(t: Any, f: Any, back: Any, mark: Any) -> None:
    bits = np.uint64(2 * back)
    t.feature_marks[f] = (t.feature_marks[f] & ~(_THREE << bits)) | (mark << bits)


@kernel
def _add_to_closed(t: Any, f: Any, day: Any, amount: Any) -> None:
    """An act so late that its day is closed, or lies before closed ones."""
    back = np.int64(t.feature_days[f, CLOSED_DAY]) - day
    mark = _mark_at(t, f, back)
    if mark == _ZERO:
        _close(t, f, day, amount)
        return
    total = _known_total(t, f, mark)
    _change_total(t, f, back, total, amount)
    _set_mark(t, f, back, _mark(t, f, total + amount))


@kernel
def _reopen_mean(t: Any, f: Any, total: Any) -> None:
    """Take a whole day's total out of mean and m2; other days are left."""
    sums, n = t.feature_sums[f], np.float64(t.feature_days[f, NON_ZERO])
    mean = np.float64(sums[MEAN])
    before = (n * mean - total) / (n - 1.0)
    sums[M2] = np.float32(max(0.0, np.float64(sums[M2]) - (total - before) * (total - mean)))
    sums[MEAN] = np.float32(max(0.0, before))


@kernel
def _remove_from_closed(t: Any, f: Any, day: Any, amount: Any) -> Any:
    """Take an act of a closed day back; returns whether it was there."""
    days, sums = t.feature_days[f], t.feature_sums[f]
    back = np.int64(days[CLOSED_DAY]) - day
    if days[NON_ZERO] == 0 or back < 0 or day < days[FIRST_DAY]:
        return False
    mark = _mark_at(t, f, back)
    if mark == _ZERO and back < MARKED_DAYS:
        return False
    total = _known_total(t, f, mark) if mark != _ZERO else _likely_total(t, f, 2.0)
    if total > amount:
        _change_total(t, f, back, total, -amount)
        if mark != _ZERO:
            _set_mark(t, f, back, _mark(t, f, total - amount) if mark < _THREE else _THREE)
        return True
    if days[NON_ZERO] == 1:
        days[NON_ZERO] = days[CLOSED_DAY] = 0
        sums[EWMA] = sums[MEAN] = sums[M2] = np.float32(0.0)
        t.feature_marks[f] = _ZERO
        return True
    _reopen_mean(t, f, total)
    days[NON_ZERO] -= 1
    sums[EWMA] = np.float32(max(0.0, np.float64(sums[EWMA]) - total * decay(back)))
    if mark != _ZERO:
        _set_mark(t, f, back, _ZERO)
    if back == 0 and t.feature_marks[f] != _ZERO:
        while t.feature_marks[f] & _THREE == _ZERO:
            t.feature_marks[f] >>= np.uint64(2)
            days[CLOSED_DAY] -= 1
            sums[EWMA] = np.float32(np.float64(sums[EWMA]) / DECAY)
    return True


# --- acts -------------------------------------------------------------------------------------------------------


@kernel
def add(t: Any, f: Any, day: Any, amount: Any) -> None:
    """Count an act (``amount`` float64 > 0) on a day. What the sweep would have dropped before it is forgotten."""
    days, sums = t.feature_days[f], t.feature_sums[f]
    if days[DAY_0] == day:
        sums[TOTAL_0] += np.float32(amount)
        return
    if days[DAY_1] == day:
        sums[TOTAL_1] += np.float32(amount)
        return
    if not is_empty(t, f):
        if day > newest_day(t, f) and has_lapsed(t, f, day - 1):
            start(t, f, np.int64(days[CODE]), day)
        elif np.int64(days[FIRST_DAY]) - day > DAYS_SINCE_MAX:
            t.header[LATE] += 1  # dropped before the first day that is known
            return
    days[FIRST_DAY] = min(np.int64(days[FIRST_DAY]), day)
    if day > days[DAY_1] and (days[NON_ZERO] == 0 or day > days[CLOSED_DAY]):
        if days[DAY_1]:
            _close(t, f, np.int64(days[DAY_1]), np.float64(sums[TOTAL_1]))
        if day > days[DAY_0]:
            days[DAY_1], sums[TOTAL_1] = days[DAY_0], sums[TOTAL_0]
            days[DAY_0], sums[TOTAL_0] = day, np.float32(amount)
        else:
            days[DAY_1], sums[TOTAL_1] = day, np.float32(amount)
        return
    t.header[LATE] += 1
    _add_to_closed(t, f, day, amount)


@kernel
def _mend_first(t: Any, f: Any) -> None:
    """Find the first day again after it lost its acts, if all closed days are marked."""
    days, marks = t.feature_days[f], t.feature_marks[f]
    if days[NON_ZERO] == 0:
        days[FIRST_DAY] = days[DAY_1] if days[DAY_1] else days[DAY_0]
        return
    known, first = 0, np.int64(days[CLOSED_DAY])
    for back in range(MARKED_DAYS):
        if (marks >> np.uint64(2 * back)) & _THREE:
            known += 1
            first = np.int64(days[CLOSED_DAY]) - back
    if known == days[NON_ZERO]:
        days[FIRST_DAY] = first


@kernel
def remove(t: Any, f: Any, day: Any, amount: Any) -> Any:
    """Take an act of a day back; returns whether it was there. The feature may be empty then."""
    days, sums = t.feature_days[f], t.feature_sums[f]
    if days[DAY_0] == day:
        sums[TOTAL_0] = np.float32(np.float64(sums[TOTAL_0]) - amount)
        if sums[TOTAL_0] <= 0.0:
            days[DAY_0], sums[TOTAL_0] = days[DAY_1], sums[TOTAL_1]
            days[DAY_1], sums[TOTAL_1] = 0, np.float32(0.0)
    elif days[DAY_1] == day:
        sums[TOTAL_1] = np.float32(np.float64(sums[TOTAL_1]) - amount)
        if sums[TOTAL_1] <= 0.0:
            days[DAY_1], sums[TOTAL_1] = 0, np.float32(0.0)
    elif not _remove_from_closed(t, f, day, amount):
        return False
    if days[FIRST_DAY] == day:
        _mend_first(t, f)
    return True
