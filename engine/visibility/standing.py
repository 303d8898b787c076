"""What people's profiles mean for whom they and their tweets are shown to (docs/profiles.md)."""

from typing import Any

import numpy as np

from engine.kernels.id_map import SIZE, prefetch_slot
from engine.kernels.jit import kernel
from engine.profiles.arrays import LOST, ORDINARY, standing_of
from engine.profiles.bits import Standing
from engine.social_graph.state import Relation

#: Bits of ``Judged.hidden`` that are decided here; ``judge.Hidden`` names them.
BIT_SUSPENDED, BIT_DEACTIVATED, BIT_UNKNOWN = np.uint16(16), np.uint16(32), np.uint16(64)
BIT_PROTECTED, BIT_OPTED_OUT = np.uint16(128), np.uint16(256)

_FOLLOWS = np.int64(Relation.FOLLOWS)
_SUSPENDED, _UNKNOWN = np.int64(Standing.SUSPENDED), np.int64(Standing.UNKNOWN)
_DEACTIVATED = np.int64(Standing.DEACTIVATED | Standing.ERASED)
_PROTECTED, _NOT_RECOMMENDED = np.int64(Standing.PROTECTED), np.int64(Standing.NOT_RECOMMENDED)


@kernel
def mark_standing(p: Any, viewer_id: Any, user_ids: Any, relation: Any, row: Any, originals: Any, hidden: Any) -> None:
    """Mark in ``hidden`` (uint16, n) the ``row`` (int32, m) of those of ``user_ids`` (uint64, m) whose profiles say
    that they are not to be shown to the viewer; ``relation`` (uint8, m) has their ``Relation`` bits.

    ``originals``: uint64 (n), the author of each row's original; the first n entries are the rows' own. A wish not to
    be recommended concerns a person's own tweets, retweeted or not; what quotes or answers them is somebody else's.
    """
    if p.ids.header[SIZE] == p.header[ORDINARY] and p.header[LOST] == 0:
        return  # nobody's profile hides anything
    n = hidden.shape[0]
    for at in range(user_ids.shape[0]):
        prefetch_slot(p.ids, user_ids[at])
    for at in range(user_ids.shape[0]):
        user_id = user_ids[at]
        standing = standing_of(p, user_id)
        if standing == 0:
            continue
        bits = np.uint16(0)
        if standing & _SUSPENDED:
            bits |= BIT_SUSPENDED
        if standing & _DEACTIVATED:
            bits |= BIT_DEACTIVATED
        if user_id != viewer_id and not np.int64(relation[at]) & _FOLLOWS:
            if standing & _UNKNOWN:
                bits |= BIT_UNKNOWN
            if standing & _PROTECTED:
                bits |= BIT_PROTECTED
            if standing & _NOT_RECOMMENDED and (at < n or user_id == originals[row[at]]):
                bits |= BIT_OPTED_OUT
        hidden[row[at]] |= bits
