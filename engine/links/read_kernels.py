"""Readers of links."""

from typing import Any

import numpy as np

from engine.kernels.id_map import find
from engine.kernels.jit import kernel
from engine.links.arrays import HAVE_ME, NEXT, NEXT_TOWARD, OTHER, OWNER


@kernel
def newest(s: Any, user_id: Any, which: Any, ids: Any) -> Any:
    """Write the people of one of a person's lists, the newest link first, into ``ids`` (uint64, k); returns how many
    were written."""
    person, count = np.int64(find(s.ids, user_id)), np.int64(0)
    if person < 0:
        return count
    link = np.int64(s.people[person, which]) - 1
    while link >= 0 and count < ids.shape[0]:
        toward = which == HAVE_ME
        ids[count] = s.ids.keys[s.links[link, OWNER if toward else OTHER]]
        link = np.int64(s.links[link, NEXT_TOWARD if toward else NEXT]) - 1
        count += 1
    return count


@kernel
def count_of(s: Any, user_id: Any, column: Any) -> Any:
    """A count of a person's record, 0 of somebody unknown."""
    person = np.int64(find(s.ids, user_id))
    return np.int64(s.people[person, column]) if person >= 0 else np.int64(0)
