"""What people's profiles mean for whom they and their tweets are shown to (docs/profiles.md)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.kernels.id_map import SIZE, prefetch_slot
from engine.kernels.jit import kernel
from engine.profiles.arrays import LOST, ORDINARY, make_profiles, standing_of
from engine.profiles.bits import Standing
from engine.profiles.state import ProfileRoom
from engine.social_graph.state import Relation

Ids = NDArray[np.uint64]

#: Bits of ``Judged.hidden`` that are decided here; ``judge.Hidden`` names them.
BIT_SUSPENDED, BIT_DEACTIVATED, BIT_UNKNOWN = np.uint16(16), np.uint16(32), np.uint16(64)
BIT_PROTECTED, BIT_OPTED_OUT = np.uint16(128), np.uint16(256)

_FOLLOWS = np.int64(Relation.FOLLOWS)
_SUSPENDED, _UNKNOWN = np.int64(Standing.SUSPENDED), np.int64(Standing.UNKNOWN)
_DEACTIVATED = np.int64(Standing.DEACTIVATED | Standing.ERASED)
_PROTECTED, _NOT_RECOMMENDED = np.int64(Standing.PROTECTED), np.int64(Standing.NOT_RECOMMENDED)


@kernel
def _mark(p: Any, viewer_id: Any, user_ids: Any, relation: Any, row: Any, originals: Any, hidden: Any) -> None:
    """See ``Standings.mark``; ``originals`` uint64 (n) has the author of each row's original."""
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


class Standings:
    """Who is suspended, deactivated, protected or not to be recommended: a ``PeopleCheck``.

    A wish not to be recommended concerns a person's own tweets, retweeted or not; what quotes or answers them is
    somebody else's.
    """

    def __init__(self, profiles: ProfileRoom) -> None:
        self._profiles = profiles.profiles

    def mark(
        self,
        viewer_id: int,
        user_ids: Ids,
        relation: NDArray[np.uint8],
        row: NDArray[np.int32],
        original_author_ids: Ids,
        hidden: NDArray[np.uint16],
    ) -> None:
        """See ``PeopleCheck``."""
        profiles = self._profiles
        if profiles.ids.header[SIZE] == profiles.header[ORDINARY] and not profiles.header[LOST]:
            return  # nobody's profile hides anything
        _mark(profiles, np.uint64(viewer_id), user_ids, relation, row, original_author_ids, hidden)


def warm() -> None:
    """Compile the kernel on tiny arrays of the real dtypes."""
    ids, row = np.ones(1, np.uint64), np.zeros(1, np.int32)
    profiles = make_profiles(1)
    _mark(profiles, np.uint64(1), ids, np.zeros(1, np.uint8), row, ids, np.zeros(1, np.uint16))
