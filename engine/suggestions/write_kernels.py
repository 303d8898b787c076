"""The writer of suggestions: applies ``dismiss``, ``undismiss``, SUGGESTED and ERASE rows.

What a viewer does later holds, by event time, whatever arrives first; of two acts of one millisecond the one that
arrives later. Each row also looks at the next places of the pool and frees what does not count any more, so that what
viewers who stay away left behind does not fill the room for good.
"""

from typing import Any

import numpy as np

from engine.batch import Kind
from engine.kernels.entry_pool import free_entry, take_entry
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
from engine.kernels.id_map import find, find_or_add, remove
from engine.kernels.jit import inlined, kernel
from engine.suggestions.arrays import (
    ACT_MS,
    CLOCK_MS,
    DISMISSED,
    DROPPED_FULL,
    ENTRIES,
    ENTRIES_EACH,
    FIRST,
    HAND,
    IS_DISMISSED,
    LAPSED,
    LATE,
    NEXT,
    OVER_SHARE,
    PERSON,
    SHOWINGS,
    SHOWN,
    SHOWN_AGAIN_MS,
    SHOWN_AGE_MS,
    SHOWN_MS,
    TAKEN_BACK,
    USED,
    VIEWER,
    WITHOUT_PERSON,
    is_dismissed,
    shown,
)

_DISMISS, _UNDISMISS, _SUGGESTED = int(Kind.DISMISS), int(Kind.UNDISMISS), int(Kind.SUGGESTED)
_ERASE, _USER = int(Kind.ERASE), int(Kind.USER)
_ZERO = np.uint64(0)
#: Places that a row looks at for what does not count any more.
LOOKED_AT = 2
#: An ERASE row looks for erased people in so many places.
PLACES_PER_ROW = 1 << 14


@kernel
def _unlink(s: Any, at: Any) -> None:
    """Take an entry out of its viewer's list and give it back; a viewer without entries is forgotten."""
    viewer = s.entries[at, VIEWER] - 1
    after = s.entries[at, NEXT]
    link, before = np.int64(s.viewers[viewer, FIRST]) - 1, np.int64(-1)
    while link != at:
        before, link = link, s.entries[link, NEXT] - 1
    if before < 0:
        s.viewers[viewer, FIRST] = after
    else:
        s.entries[before, NEXT] = after
    free_entry(s.entries, s.header, at)
    s.viewers[viewer, ENTRIES] -= 1
    if s.viewers[viewer, ENTRIES] == 0:
        remove(s.ids, s.ids.keys[viewer])


@kernel
def _free_lapsed(s: Any) -> None:
    """Look at the next places of the pool, and free the entries that do not count any more."""
    used, now_ms = s.header[USED], s.header[CLOCK_MS]
    for _ in range(min(LOOKED_AT, used)):
        at = s.header[HAND] % used
        s.header[HAND] = at + 1
        if s.entries[at, VIEWER] == 0 or is_dismissed(s, at, now_ms) or shown(s, at, now_ms) > 0:
            continue
        # What was taken back is known for a while, in case that an older dismissal comes late.
        if now_ms - s.entries[at, ACT_MS] > s.limits[SHOWN_AGE_MS]:
            _unlink(s, at)
            s.header[LAPSED] += 1


@kernel
def _give_way(s: Any, viewer: Any, dismisses: Any) -> Any:
    """Free one entry of a viewer: of those that dismiss nobody the one that was shown longest ago; a dismissal only for
    another one, the oldest. Returns whether one was freed."""
    now_ms = s.header[CLOCK_MS]
    link, worst, worst_keeps, worst_ms = np.int64(s.viewers[viewer, FIRST]) - 1, np.int64(-1), False, np.int64(0)
    while link >= 0:
        keeps = is_dismissed(s, link, now_ms)
        time_ms = s.entries[link, ACT_MS] if keeps else max(s.entries[link, ACT_MS], s.entries[link, SHOWN_MS])
        if worst < 0 or (worst_keeps and not keeps) or (worst_keeps == keeps and time_ms <= worst_ms):
            worst, worst_keeps, worst_ms = link, keeps, time_ms
        link = s.entries[link, NEXT] - 1
    if worst < 0 or (worst_keeps and not dismisses):
        return False
    _unlink(s, worst)
    s.header[OVER_SHARE] += 1
    return True


@kernel
def _entry(s: Any, viewer_id: Any, person_id: Any, dismisses: Any) -> Any:
    """The viewer's entry about a person, made if it is missing; -1 if there is no room."""
    viewer = np.int64(find(s.ids, viewer_id))
    link = np.int64(s.viewers[viewer, FIRST]) - 1 if viewer >= 0 else np.int64(-1)
    while link >= 0:
        if s.entries[link, PERSON] == np.int64(person_id):
            return link
        link = s.entries[link, NEXT] - 1
    full = viewer >= 0 and s.viewers[viewer, ENTRIES] >= s.limits[ENTRIES_EACH]
    if full and not _give_way(s, viewer, dismisses):
        s.header[OVER_SHARE] += 1
        return np.int64(-1)
    at = take_entry(s.entries, s.header)
    if at < 0 and viewer >= 0 and _give_way(s, viewer, dismisses):
        at = take_entry(s.entries, s.header)
    viewer = np.int64(find_or_add(s.ids, viewer_id)) if at >= 0 else np.int64(-1)
    if viewer < 0:
        if at >= 0:
            free_entry(s.entries, s.header, at)
        s.header[DROPPED_FULL] += 1
        return np.int64(-1)
    s.entries[at, PERSON], s.entries[at, VIEWER] = np.int64(person_id), viewer + 1
    for column in (ACT_MS, IS_DISMISSED, SHOWN, SHOWN_MS):
        s.entries[at, column] = 0
    s.entries[at, NEXT] = s.viewers[viewer, FIRST]
    s.viewers[viewer, FIRST] = at + 1
    s.viewers[viewer, ENTRIES] += 1
    return at


@inlined
def _say(s: Any, at: Any, dismisses: Any, time_ms: Any) -> None:
    """What the viewer says about suggesting a person; the later act holds."""
    if time_ms < s.entries[at, ACT_MS]:
        s.header[LATE] += 1
        return
    s.entries[at, ACT_MS], s.entries[at, IS_DISMISSED] = time_ms, 1 if dismisses else 0
    s.header[DISMISSED if dismisses else TAKEN_BACK] += 1


@inlined
def _show(s: Any, at: Any, time_ms: Any) -> None:
    """A person was suggested. Within an hour that counts once; after a long time it counts anew."""
    before = shown(s, at, time_ms)
    if before > 0 and abs(time_ms - s.entries[at, SHOWN_MS]) < SHOWN_AGAIN_MS:
        return
    s.entries[at, SHOWN] = before + 1
    s.entries[at, SHOWN_MS] = max(time_ms, s.entries[at, SHOWN_MS])
    s.header[SHOWINGS] += 1


@kernel
def _sweep(s: Any, places: Any) -> None:
    """Go on to forget erased people whom others dismissed or were suggested, in the next so many places."""
    queue, size, used = s.erasing, s.entries.shape[0], s.header[USED]
    at, bits = np.int64(queue[PLACE]), bits_of(queue)
    passed, end = np.int64(0), min(places, places_left(queue))
    while passed < end:
        if at >= used:
            passed += size - at
            at = np.int64(0)
            continue
        person = np.uint64(s.entries[at, PERSON])
        if s.entries[at, VIEWER] != 0 and may_wait(bits, person) and waits(queue, person):
            _unlink(s, at)
        passed += 1
        at = at + 1 if at + 1 < size else np.int64(0)
    pass_places(queue, passed, size)
    drop_done(queue)


@kernel
def _erase(s: Any, user_id: Any) -> None:
    """ERASE: forget a viewer's list at once, and the person in others' lists piece by piece. 0: nobody's further, go on
    with those who wait."""
    size = np.int64(s.entries.shape[0])
    if user_id != _ZERO:
        viewer = np.int64(find(s.ids, user_id))
        while viewer >= 0 and s.viewers[viewer, ENTRIES] > 0:
            _unlink(s, np.int64(s.viewers[viewer, FIRST]) - 1)
        if is_full(s.erasing):
            _sweep(s, size)
        enter(s.erasing, user_id, size)
    if is_waiting(s.erasing):
        _sweep(s, np.int64(PLACES_PER_ROW))


@kernel
def apply(s: Any, batch: Any, refused: Any) -> Any:
    """Apply a batch's DISMISS, UNDISMISS, SUGGESTED and ERASE rows in order; other kinds are skipped.

    Writes the numbers of dismissals that found no room into ``refused`` (int64, n), and returns how many there are.
    """
    count = 0
    for row in range(batch.kind.shape[0]):
        code, user_id, person_id = np.int64(batch.kind[row]), batch.user_id[row], batch.subject_id[row]
        if code == _USER and is_waiting(s.erasing) and waits(s.erasing, user_id):
            # What is done to the person after coming back must stay.
            _sweep(s, np.int64(s.entries.shape[0]))
        if code == _ERASE:
            _erase(s, user_id)
        if code != _DISMISS and code != _UNDISMISS and code != _SUGGESTED:
            continue
        if user_id in (_ZERO, person_id) or person_id == _ZERO:
            s.header[WITHOUT_PERSON] += 1
            continue
        time_ms = batch.timestamp_ms[row]
        s.header[CLOCK_MS] = max(s.header[CLOCK_MS], time_ms)
        _free_lapsed(s)
        at = _entry(s, user_id, person_id, code != _SUGGESTED)
        if at < 0:
            if code == _DISMISS:
                refused[count] = row
                count += 1
        elif code == _SUGGESTED:
            _show(s, at, time_ms)
        else:
            _say(s, at, code == _DISMISS, time_ms)
    return count
