"""Ends follows, and forgets a person with everything between that person and others."""

from typing import Any

import numpy as np

from engine.kernels.erasing import enter, finish_first, first, is_full, is_waiting, waits
from engine.kernels.id_map import find, remove
from engine.kernels.jit import kernel
from engine.social_graph.acts import drop_act, flag_of, in_force, source_of, target_of, unlist
from engine.social_graph.arrays import (
    ACTS_TOP,
    BLOCK,
    BLOCKING,
    ENTRIES,
    FOLLOW,
    FOLLOWEES_AT,
    FOLLOWERS_AT,
    FOLLOWS_NOW,
    LIVE,
    MUTING,
    RESTRICTIONS,
    START,
    ZERO,
    clear_flag,
    detach,
    find_edge,
)

#: As many follows as there are.
_ALL = np.int64(1 << 62)


@kernel
def cut_follow(g: Any, source: Any, target: Any, slot: Any) -> Any:
    """Remove the follow of an edge's slot. Forgets people whom nothing else names."""
    detach(g, source, FOLLOWEES_AT, np.int64(g.sequences[slot, 0]))
    detach(g, target, FOLLOWERS_AT, np.int64(g.sequences[slot, 1]))
    g.sequences[slot, 0] = 0
    g.sequences[slot, 1] = 0
    g.follow_moment[slot] = 0
    g.header[FOLLOWS_NOW] -= 1
    clear_flag(g, source, target, FOLLOW)


#: So many follows of an erased person end at once, and so many with each row after that.
ENDED_FIRST, ENDED_PER_ROW = 256, 2


@kernel
def _end_follows(g: Any, user_id: Any, most: Any) -> Any:
    """End follows of a person and of the person, at most so many; returns whether there are no more. The last entry of
    a list that is not empty is a live one."""
    for _ in range(most):
        user = np.int64(find(g.ids, user_id))
        if user < 0:
            return True
        record = g.users[user]
        if record[FOLLOWEES_AT + LIVE] > 0:
            at = np.int64(record[FOLLOWEES_AT + START]) + record[FOLLOWEES_AT + ENTRIES] - 1
            source, target = user, np.int64(g.arena[at])
        elif record[FOLLOWERS_AT + LIVE] > 0:
            at = np.int64(record[FOLLOWERS_AT + START]) + record[FOLLOWERS_AT + ENTRIES] - 1
            source, target = np.int64(g.arena[at]), user
        else:
            return True
        cut_follow(g, source, target, find_edge(g, source, target))
    return False


@kernel
def go_on_erasing(g: Any, most: Any) -> None:
    """End the next follows, at most so many, of whoever's turn it is to be erased."""
    if _end_follows(g, first(g.erasing), most):
        finish_first(g.erasing)


@kernel
def finish(g: Any, user_id: Any) -> None:
    """End what is left of a person who is being erased: the person has come back."""
    while waits(g.erasing, user_id):
        go_on_erasing(g, _ALL)


@kernel
def _end_acts(g: Any, user_id: Any) -> None:
    """End every block and mute by or of a person, and forget what was undone or waits. O(rows of acts)."""
    user = np.int64(find(g.ids, user_id))
    for row in range(g.header[ACTS_TOP]):
        if user < 0 or g.acts.keys[row] == ZERO:
            continue
        source, target, flag = source_of(g, row), target_of(g, row), flag_of(g, row)
        if source != user and target != user:
            continue
        if flag != FOLLOW and in_force(g, row):
            g.users[source, BLOCKING if flag == BLOCK else MUTING] -= 1
            g.header[RESTRICTIONS] -= 1
            clear_flag(g, source, target, flag)
        else:
            unlist(g, row)
        drop_act(g, row)


@kernel
def erase(g: Any, user_id: Any) -> None:
    """Forget a person: all blocks and mutes in both directions, and what is remembered of their ends; and the follows,
    the first ones at once, the others with the rows that follow."""
    _end_acts(g, user_id)
    if is_full(g.erasing):
        go_on_erasing(g, _ALL)
    is_next = not is_waiting(g.erasing)
    enter(g.erasing, user_id)
    if is_next:
        go_on_erasing(g, np.int64(ENDED_FIRST))
    unkept = g.unkept
    for person in range(unkept.more.shape[0]):
        key = unkept.ids.keys[person]
        if key == ZERO:
            continue
        left = np.int64(0) if key == user_id else np.int64(unkept.more[person])
        for i in range(unkept.flags.shape[1]):
            if key == user_id or unkept.others[person, i] == user_id:
                unkept.others[person, i] = ZERO
                unkept.flags[person, i] = 0
                unkept.moments[person, i] = 0
            left |= np.int64(unkept.flags[person, i])
        if left == 0:
            unkept.more[person] = 0
            remove(unkept.ids, key)
