"""The reader of suggestions: a viewer's list."""

from typing import Any

import numpy as np

from engine.kernels.id_map import find
from engine.kernels.jit import kernel
from engine.suggestions.arrays import FIRST, NEXT, PERSON, is_dismissed, shown


@kernel
def collect(s: Any, viewer_id: Any, time_ms: Any, people: Any, dismissed: Any, times_shown: Any) -> Any:
    """Write a viewer's list as of a time: people (uint64), whether they are dismissed (bool), and how often they were
    suggested (int32), each (at least the entries of one person,); returns how many."""
    viewer = np.int64(find(s.ids, viewer_id))
    if viewer < 0:
        return 0
    count, link = np.int64(0), np.int64(s.viewers[viewer, FIRST]) - 1
    while link >= 0:
        people[count] = np.uint64(s.entries[link, PERSON])
        dismissed[count] = is_dismissed(s, link, time_ms)
        times_shown[count] = shown(s, link, time_ms)
        count += 1
        link = s.entries[link, NEXT] - 1
    return count
