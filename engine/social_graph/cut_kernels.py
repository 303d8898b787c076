"""Ends follows, and forgets a person with everything between that person and others."""

from typing import Any

import numpy as np

from engine.kernels.erasing import (
    COUNT,
    INDEX,
    PEOPLE,
    PLACE,
    WORDS,
    drop,
    drop_done,
    enter,
    first,
    is_full,
    is_waiting,
    pass_places,
    places_left,
)
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

#: As many follows or acts as there are.
_ALL = np.int64(1 << 62)
_ONE = np.uint64(1)


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


#: What an ERASE row does at most: so many follows end; so many rows of acts are looked at, and so many of them dropped.
FOLLOWS_PER_ROW, ROWS_PER_ROW, ACTS_PER_ROW = 128, 1 << 14, 128


@kernel
def _end_follows(g: Any, user_id: Any, most: Any) -> Any:
    """End follows of a person and of the person, at most so many; returns how many of these were too many: more than 0
    when no follows are left. The last entry of a list that is not empty is a live one."""
    while most > 0:
        user = np.int64(find(g.ids, user_id))
        if user < 0:
            break
        record = g.users[user]
        if record[FOLLOWEES_AT + LIVE] > 0:
            at = np.int64(record[FOLLOWEES_AT + START]) + record[FOLLOWEES_AT + ENTRIES] - 1
            source, target = user, np.int64(g.arena[at])
        elif record[FOLLOWERS_AT + LIVE] > 0:
            at = np.int64(record[FOLLOWERS_AT + START]) + record[FOLLOWERS_AT + ENTRIES] - 1
            source, target = np.int64(g.arena[at]), user
        else:
            break
        cut_follow(g, source, target, find_edge(g, source, target))
        most -= 1
    return most


@kernel
def _drop_act(g: Any, row: Any) -> None:
    """Forget a block, a mute, or what is remembered of an end."""
    source, target, flag = source_of(g, row), target_of(g, row), flag_of(g, row)
    if flag != FOLLOW and in_force(g, row):
        g.users[source, BLOCKING if flag == BLOCK else MUTING] -= 1
        g.header[RESTRICTIONS] -= 1
        clear_flag(g, source, target, flag)
    else:
        unlist(g, row)
    drop_act(g, row)


@kernel
def _sweep(g: Any, rows: Any, most: Any) -> None:
    """Go on to forget blocks and mutes by and of those who are being erased, and what was undone or waits: at most so
    many, among the next so many rows of acts."""
    queue, size = g.erasing_acts, g.acts.keys.shape[0]
    waiting = np.int64(queue[COUNT])
    bits = np.uint64(0)
    for at in range(waiting):
        user = np.int64(find(g.ids, queue[PEOPLE + WORDS * at]))
        queue[PEOPLE + WORDS * at + INDEX] = np.uint64(user)
        if user >= 0:
            bits |= _ONE << np.uint64(user & 63)
    row, passed, end = np.int64(queue[PLACE]), np.int64(0), min(rows, places_left(queue))
    while passed < end and most > 0:
        if row >= g.header[ACTS_TOP]:
            passed += size - row
            row = np.int64(0)
            continue
        if g.acts.keys[row] != ZERO:
            source, target = source_of(g, row), target_of(g, row)
            if (bits >> np.uint64(source & 63) | bits >> np.uint64(target & 63)) & _ONE != ZERO:
                for at in range(waiting):
                    user = np.int64(queue[PEOPLE + WORDS * at + INDEX])
                    if user in (source, target):
                        _drop_act(g, row)
                        most -= 1
                        break
        passed += 1
        row = row + 1 if row + 1 < size else np.int64(0)
    pass_places(queue, passed, size)
    drop_done(queue)


@kernel
def _go_on(g: Any, follows: Any, rows: Any, acts: Any) -> None:
    """Go on with those who are being erased, at most so far (see ``FOLLOWS_PER_ROW``)."""
    while is_waiting(g.erasing) and follows > 0:
        follows = _end_follows(g, first(g.erasing), follows)
        if follows > 0:
            drop(g.erasing, np.int64(0))
    if is_waiting(g.erasing_acts):
        _sweep(g, rows, acts)


@kernel
def finish_acts(g: Any) -> None:
    """Forget the acts of everybody who is being erased at once: somebody blocks or mutes one of them anew, which must
    stay."""
    _sweep(g, np.int64(g.acts.keys.shape[0]), _ALL)


@kernel
def finish(g: Any) -> None:
    """Erase everybody who waits at once: one of them has come back."""
    _go_on(g, _ALL, np.int64(g.acts.keys.shape[0]), _ALL)


@kernel
def _forget_unkept(g: Any, user_id: Any) -> None:
    """Forget which acts of a person, and of others about the person, found no room."""
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


@kernel
def erase(g: Any, user_id: Any) -> None:
    """ERASE: all follows, blocks and mutes in both directions are to go, and what is remembered of their ends, piece by
    piece. 0: nobody's further, go on with those who wait."""
    if user_id != ZERO:
        if g.unkept.ids.header[0] > 0:
            _forget_unkept(g, user_id)
        if find(g.ids, user_id) >= 0:
            if is_full(g.erasing) or is_full(g.erasing_acts):
                finish(g)
            enter(g.erasing, user_id, np.int64(0))
            enter(g.erasing_acts, user_id, np.int64(g.acts.keys.shape[0]))
    _go_on(g, np.int64(FOLLOWS_PER_ROW), np.int64(ROWS_PER_ROW), np.int64(ACTS_PER_ROW))
