"""The follow graph in a canonical form: accounts by ascending id, each with its followers in that same order.

Sums over followers then have one order, so results depend only on who follows whom, not on the order in which follows
arrived, nor on the indices that the social graph assigned.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.kernels.jit import kernel
from engine.social_graph.arrays import ENTRIES, FOLLOWEES_AT, FOLLOWERS_AT, LIVE, START, Graph


class Follows(NamedTuple):
    """Accounts that follow or are followed, and their followers, as compressed rows.

    ``ids``: uint64 (n), ascending. ``starts``: int64 (n + 1). ``followers``: int32 (m), positions in ``ids``;
    account i's followers are ``followers[starts[i]:starts[i + 1]]``, ascending. ``followings``: int32 (n), how many
    accounts each account follows.
    """

    ids: NDArray[np.uint64]
    starts: NDArray[np.int64]
    followers: NDArray[np.int32]
    followings: NDArray[np.int32]


@kernel
def _accounts(g: Any, out: Any) -> Any:
    """Write the indices of all users who follow or are followed into ``out`` (int32, users); returns how many."""
    count = 0
    for user in range(g.users.shape[0]):
        if g.users[user, FOLLOWEES_AT + LIVE] > 0 or g.users[user, FOLLOWERS_AT + LIVE] > 0:
            out[count] = user
            count += 1
    return count


@kernel
def _count(g: Any, indices: Any, positions: Any, starts: Any, followings: Any) -> Any:
    """Write followers per account into ``starts`` (as offsets), ``followings``, and each account's position by index.

    ``indices`` int32 (n) in order of id; ``positions`` int32 (users).
    """
    starts[0] = 0
    for i in range(indices.shape[0]):
        record = g.users[indices[i]]
        positions[indices[i]] = i
        followings[i] = record[FOLLOWEES_AT + LIVE]
        starts[i + 1] = starts[i] + record[FOLLOWERS_AT + LIVE]


@kernel
def _fill(g: Any, indices: Any, positions: Any, ends: Any, followers: Any) -> Any:
    """Append every account, in order of id, to the followers of the accounts that it follows.

    ``ends`` int64 (n): where each account's next follower goes; at first the starts, at last the ends.
    """
    for i in range(indices.shape[0]):
        record = g.users[indices[i]]
        start = np.int64(record[FOLLOWEES_AT + START])
        for at in range(start, start + record[FOLLOWEES_AT + ENTRIES]):
            followee = g.arena[at]
            if followee >= 0:
                position = positions[followee]
                followers[ends[position]] = i
                ends[position] += 1


def follows_of(graph: Graph) -> Follows:
    """The follows in a social graph's arrays. O(users log users + follows)."""
    users = graph.users.shape[0]
    indices = np.empty(users, np.int32)
    indices = indices[: _accounts(graph, indices)]
    ids = graph.ids.keys[indices]
    by_id = np.argsort(ids, kind="stable")
    ids, indices = ids[by_id], indices[by_id]
    starts, followings = np.empty(ids.size + 1, np.int64), np.empty(ids.size, np.int32)
    positions = np.empty(users, np.int32)
    _count(graph, indices, positions, starts, followings)
    followers = np.empty(starts[-1], np.int32)
    _fill(graph, indices, positions, starts[:-1].copy(), followers)
    return Follows(ids, starts, followers, followings)


def without(follows: Follows, removed: NDArray[np.bool_]) -> Follows:
    """The follows among the accounts that remain; ``removed``: bool (n). If none is removed, ``follows`` itself."""
    if not removed.any():
        return follows
    kept = ~removed
    position = np.cumsum(kept, dtype=np.int32) - np.int32(1)
    target = np.repeat(np.arange(follows.ids.size), np.diff(follows.starts))
    edges = kept[target] & kept[follows.followers]
    target, source = position[target[edges]], position[follows.followers[edges]]
    count = np.count_nonzero(kept)
    starts = np.zeros(count + 1, np.int64)
    np.cumsum(np.bincount(target, minlength=count), out=starts[1:])
    followings = np.bincount(source, minlength=count).astype(np.int32)
    return Follows(follows.ids[kept], starts, source, followings)
