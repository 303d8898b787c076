"""The profiles' writer: applies USER and ERASE rows."""

from typing import Any

import numpy as np

from engine.batch import Kind
from engine.kernels.id_map import CAPACITY, SIZE, find, find_or_add, remove
from engine.kernels.jit import kernel
from engine.kernels.ordered_places import AFTER
from engine.profiles.arrays import (
    AS_OF,
    CREATED,
    DROPPED,
    ERASED,
    ERASED_BITS,
    EVICTED,
    LOST,
    MARKS,
    OLDER,
    ORDINARY,
    UPDATES,
    WITHOUT_USER,
    is_safety,
    link,
    unlink,
)

KIND_USER, KIND_ERASE = int(Kind.USER), int(Kind.ERASE)
FOLLOW, SERVED, SUGGESTED = int(Kind.FOLLOW), int(Kind.SERVED), int(Kind.SUGGESTED)
_ZERO = np.uint64(0)


@kernel
def forget(p: Any, place: Any) -> Any:
    """Remove the profile at a place."""
    if not is_safety(p.bits[place]):
        unlink(p, place)
    if p.bits[place] == ERASED_BITS:
        p.header[MARKS] -= 1
    p.bits[place] = _ZERO
    p.times_ms[place, AS_OF] = 0
    p.times_ms[place, CREATED] = 0
    remove(p.ids, p.ids.keys[place])


@kernel
def _update(p: Any, user_id: Any, bits: Any, created_ms: Any, time_ms: Any) -> Any:
    """USER: the profile replaces an earlier one; one of an earlier time than the profile known is passed over."""
    place = np.int64(find(p.ids, user_id))
    if place >= 0:
        if time_ms < p.times_ms[place, AS_OF]:
            p.header[OLDER] += 1
            return
        if not is_safety(p.bits[place]):
            unlink(p, place)
        if p.bits[place] == ERASED_BITS:
            p.header[MARKS] -= 1
    else:
        if p.ids.header[SIZE] == p.ids.header[CAPACITY]:
            if p.header[ORDINARY] == 0:
                p.header[LOST if is_safety(bits) else DROPPED] += 1
                return
            forget(p, np.int64(p.order[0, AFTER]) - 1)
            p.header[EVICTED] += 1
        place = np.int64(find_or_add(p.ids, user_id))
    if bits == ERASED_BITS:
        p.header[ERASED] += 1
        p.header[MARKS] += 1
    else:
        p.header[UPDATES] += 1
    p.bits[place] = bits
    p.times_ms[place, AS_OF] = time_ms
    p.times_ms[place, CREATED] = created_ms
    if not is_safety(bits):
        link(p, place)


@kernel
def apply(p: Any, kind: Any, user_id: Any, context_id: Any, author_id: Any, timestamp_ms: Any) -> Any:
    """Apply a batch's USER and ERASE rows in order; other kinds are skipped. The columns are those of the batch (n)."""
    for row in range(kind.shape[0]):
        code = np.int64(kind[row])
        if code == KIND_USER:
            if user_id[row] == _ZERO:
                p.header[WITHOUT_USER] += 1
            else:
                _update(p, user_id[row], context_id[row], np.int64(author_id[row]), timestamp_ms[row])
        elif code == KIND_ERASE and user_id[row] != _ZERO:
            # The mark is of the latest time known: no event before it in the log counts any more.
            place, time_ms = np.int64(find(p.ids, user_id[row])), timestamp_ms[row]
            if place >= 0:
                time_ms = max(time_ms, p.times_ms[place, AS_OF])
            _update(p, user_id[row], ERASED_BITS, np.int64(0), time_ms)


@kernel
def mark_late(p: Any, batch: Any, late: Any, erased: Any) -> None:
    """Set in ``late`` (bool, n, False) what is about an erased person and not later than the erasing: it is left out,
    so that nothing that arrives late brings the person back.

    About a person: what the person did, tweets of the person, and relations of others with the person. ``erased``:
    int64 (e,), the batch's ERASE rows: what stands behind one is judged by it as well.
    """
    for row in range(batch.kind.shape[0]):
        code, time_ms = np.int64(batch.kind[row]), batch.timestamp_ms[row]
        if code == KIND_ERASE or code > SUGGESTED:
            continue
        of_people = (code >= FOLLOW and code < KIND_USER) or code == SUGGESTED
        other = batch.subject_id[row] if of_people else _ZERO
        # A feed that was served before the erasing may be recorded after it.
        author = batch.author_id[row] if code < FOLLOW or code == SERVED else _ZERO
        for person in (batch.user_id[row], other, author):
            place = np.int64(find(p.ids, person))
            if place >= 0 and p.bits[place] == ERASED_BITS and time_ms <= p.times_ms[place, AS_OF]:
                late[row] = True
            for at in range(erased.shape[0]):
                of = erased[at]
                if of < row and batch.user_id[of] == person and time_ms <= batch.timestamp_ms[of]:
                    late[row] = True
