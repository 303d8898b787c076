"""The writer: decides which events are new, enters them, and forgets erased people."""

from typing import Any

import numpy as np

from engine.batch import Kind
from engine.deduplication.arrays import (
    DUPLICATES,
    EXPIRED,
    KEPT,
    LAST_FATE,
    LOW_32,
    OVER_SHARE,
    POSITION,
    RING,
    SHARE,
    SIZE,
    SMALL,
    WITHOUT_ID,
    ZERO,
    code_of,
    drop,
    enter_position,
    group_of,
    home_at,
    home_of,
    is_at,
    small_ring_of,
)
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
from engine.kernels.jit import inlined, kernel
from engine.kernels.prefetch import prefetch

#: How many rows' table slots are prefetched together, so that their cache misses overlap.
AHEAD_ROWS = 64
_ERASE, _USER, _RELATIONS = int(Kind.ERASE), int(Kind.USER), int(Kind.FOLLOW)
#: An ERASE row forgets at most so many events of erased people, among the next so many of the ring.
ERASED_PER_ROW, POSITIONS_PER_ROW = 256, 1 << 14


@kernel
def _prefetch(ids: Any, kind: Any, event_id: Any, user_id: Any, subject_id: Any, start: Any, end: Any) -> Any:
    """Prefetch the slots of rows ``start`` to ``end``, and of the entries that these rows will evict."""
    capacity = ids.limits[RING]
    for row in range(start, end):
        prefetch(ids.table, home_of(ids, code_of(kind[row], event_id[row], user_id[row], subject_id[row])))
    size = ids.header[SIZE]
    if size + (end - start) > capacity:
        position = ids.header[POSITION]
        for _ in range(min(end - start, size)):
            prefetch(ids.table, home_at(ids, position))
            position += 1
            if position == capacity:
                position = 0


@kernel
def _place(ids: Any, kind: Any, user_id: Any) -> Any:
    """The position that a new event takes: the next one of the ring, or of a small ring if its person has a full share.
    What is there leaves the table."""
    header, limits = ids.header, ids.limits
    group = group_of(ids, kind, user_id)
    if ids.groups[group] >= limits[SHARE]:
        header[OVER_SHARE] += 1
        ring = small_ring_of(kind, user_id)
        position = limits[RING] + ring * limits[SMALL] + ids.put[ring] % limits[SMALL]
        if ids.put[ring] >= limits[SMALL]:
            drop(ids, position)
            header[EXPIRED] += 1
        ids.put[ring] += 1
        return position
    position = header[POSITION]
    if header[SIZE] == limits[RING]:
        drop(ids, position)
        ids.groups[group_of(ids, ids.ring_kind[position], ids.ring_user[position])] -= 1
        header[EXPIRED] += 1
    else:
        header[SIZE] += 1
    ids.groups[group] += 1
    header[POSITION] = position + 1 if position + 1 < limits[RING] else 0
    return position


@kernel
def _enter(ids: Any, kind: Any, event_id: Any, user_id: Any, subject_id: Any, time_ms: Any) -> Any:
    """Enter an event unless it is there; True when it was new."""
    table = ids.table
    mask = table.shape[0] - 1
    code = code_of(kind, event_id, user_id, subject_id)
    fingerprint = code >> np.uint64(32)
    home = home_of(ids, code)
    at = home
    while table[at] != np.uint64(0):
        if table[at] >> np.uint64(32) == fingerprint:
            position = np.int64(table[at] & LOW_32) - 1
            if is_at(ids, position, kind, event_id, user_id, subject_id):
                return False
        at = (at + 1) & mask
    position = _place(ids, kind, user_id)
    # What left the table may have moved what was before the empty slot.
    at = home
    while table[at] != np.uint64(0):
        at = (at + 1) & mask
    table[at] = (fingerprint << np.uint64(32)) | np.uint64(position + 1)
    ids.ring_id[position] = event_id
    ids.ring_user[position] = user_id
    ids.ring_subject[position] = subject_id
    ids.ring_kind[position] = kind
    ids.ring_ms[position] = time_ms
    return True


@inlined
def _rename(ids: Any, position: Any, by_person: Any, to_person: Any) -> None:
    """Forget whose an event was (it then counts as what names nobody), or to whom it was done."""
    drop(ids, position)
    if by_person:
        if position < ids.limits[RING]:
            kind = ids.ring_kind[position]
            ids.groups[group_of(ids, kind, ids.ring_user[position])] -= 1
            ids.groups[group_of(ids, kind, ZERO)] += 1
        ids.ring_user[position] = ZERO
    if to_person:
        ids.ring_subject[position] = ZERO
    enter_position(ids, position)


@kernel
def _sweep(ids: Any, positions: Any, most: Any) -> None:
    """Go on to forget whose events the events of erased people were, and who did what to them: 0 takes the id's place.
    At most so many events, among the next so many positions of all rings."""
    total, ring, size, queue = ids.ring_id.shape[0], ids.limits[RING], ids.header[SIZE], ids.erasing
    position, bits = np.int64(queue[PLACE]), bits_of(queue)
    passed, end = np.int64(0), min(positions, places_left(queue))
    while passed < end and most > 0:
        if size <= position < ring:
            # Up to the small rings nothing was written yet.
            passed += ring - position
            position = ring
            continue
        user, subject = ids.ring_user[position], ids.ring_subject[position]
        if ids.ring_id[position] != ZERO and (may_wait(bits, user) or may_wait(bits, subject)):
            by_person = waits(queue, user)
            to_person = ids.ring_kind[position] >= _RELATIONS and waits(queue, subject)
            if by_person or to_person:
                _rename(ids, position, by_person, to_person)
                most -= 1
        passed += 1
        position = position + 1 if position + 1 < total else np.int64(0)
    pass_places(queue, passed, total)
    drop_done(queue)


@kernel
def _finish(ids: Any) -> None:
    """Erase everybody who waits."""
    total = np.int64(ids.ring_id.shape[0])
    _sweep(ids, 2 * total, total)


@kernel
def _erase(ids: Any, person_id: Any) -> None:
    """ERASE: a person's events are to be forgotten (0: nobody's further); and go on with those who wait."""
    if person_id != np.uint64(0):
        if is_full(ids.erasing):
            _finish(ids)
        enter(ids.erasing, person_id, np.int64(ids.ring_id.shape[0]))
    if is_waiting(ids.erasing):
        _sweep(ids, np.int64(POSITIONS_PER_ROW), np.int64(ERASED_PER_ROW))


@kernel
def keep(
    ids: Any,
    kind: Any,
    event_id: Any,
    user_id: Any,
    subject_id: Any,
    timestamp_ms: Any,
    late: Any,
    out: Any,
) -> Any:
    """Decide row by row which rows to keep: writes ``out`` (bool, n). O(n) expected.

    ``late``: bool (n,), rows that are left out whatever they are; they leave nothing behind.
    """
    header = ids.header
    for start in range(0, kind.shape[0], AHEAD_ROWS):
        end = min(start + AHEAD_ROWS, kind.shape[0])
        _prefetch(ids, kind, event_id, user_id, subject_id, start, end)
        for row in range(start, end):
            code = np.int64(kind[row])
            if code == _USER and is_waiting(ids.erasing) and waits(ids.erasing, user_id[row]):
                # What the person does after coming back must stay.
                _finish(ids)
            if 72 <= code < 96:
                out[row] = header[LAST_FATE] == 0 and not late[row]
                continue
            if code == _ERASE:
                _erase(ids, user_id[row])
            if late[row]:
                header[LAST_FATE] = 1
                out[row] = False
                continue
            fresh = True
            if event_id[row] == np.uint64(0):
                header[WITHOUT_ID] += 1
            else:
                fresh = _enter(ids, kind[row], event_id[row], user_id[row], subject_id[row], timestamp_ms[row])
            header[LAST_FATE] = 0 if fresh else 1
            header[KEPT if fresh else DUPLICATES] += 1
            out[row] = fresh


@kernel
def enter_rings(ids: Any) -> None:
    """Enter all events of the rings into an empty table, and count the groups."""
    for position in range(ids.ring_id.shape[0]):
        if ids.ring_id[position] != ZERO:
            enter_position(ids, np.int64(position))
            if position < ids.limits[RING]:
                ids.groups[group_of(ids, ids.ring_kind[position], ids.ring_user[position])] += 1
