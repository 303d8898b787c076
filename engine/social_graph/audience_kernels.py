"""Which people of a given audience follow given authors: from the shorter side, the followers' list or the audience."""

from typing import Any

import numpy as np

from engine.kernels.id_map import SIZE, find
from engine.kernels.jit import kernel
from engine.social_graph.arrays import ENTRIES, FOLLOW, FOLLOWERS_AT, LIVE, START, edge_flags

#: Looking for an edge costs about as much as this many entries of a list of followers.
_EDGE_COST = 2


@kernel
def followers_among(g: Any, author_ids: Any, audience: Any, found: Any, fewest: Any) -> None:
    """For each person of the audience, the least number of its people whom one of the followed authors has.

    ``author_ids``: uint64 (n). ``audience``: an id map whose indices are 0 … k-1. ``found``: int32 (k) scratch.
    ``fewest``: int32 (k), lowered where the person follows an author: to how many people of the audience follow that
    author.
    """
    people = np.int64(audience.header[SIZE])
    for i in range(author_ids.shape[0]):
        author = np.int64(find(g.ids, author_ids[i]))
        if author < 0 or g.users[author, FOLLOWERS_AT + LIVE] == 0:
            continue
        count = np.int64(0)
        start = np.int64(g.users[author, FOLLOWERS_AT + START])
        entries = np.int64(g.users[author, FOLLOWERS_AT + ENTRIES])
        if entries <= _EDGE_COST * people:
            for at in range(start, start + entries):
                follower = np.int64(g.arena[at])
                person = np.int64(find(audience, g.ids.keys[follower])) if follower >= 0 else np.int64(-1)
                if person >= 0:
                    found[count] = person
                    count += 1
        else:
            for place in range(people):
                follower = np.int64(find(g.ids, audience.keys[place]))
                if follower >= 0 and edge_flags(g, follower, author) & FOLLOW:
                    found[count] = place
                    count += 1
        for at in range(count):
            fewest[found[at]] = min(np.int64(fewest[found[at]]), count)
