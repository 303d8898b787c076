"""The social graph's writer: applies relationship events to the arrays of ``Graph``."""

from typing import Any

import numpy as np

from engine.batch import Kind
from engine.kernels.erasing import is_waiting, waits
from engine.kernels.id_map import find, find_or_add
from engine.kernels.jit import inlined, kernel
from engine.kernels.prefetch import prefetch
from engine.social_graph.acts import (
    FIRST_OFF,
    LAST_OFF,
    NEVER,
    ON,
    add_act,
    drop_act,
    enlist,
    find_act,
    in_force,
    keep_to_bounds,
    lose,
    settle,
    unlist,
)
from engine.social_graph.arrays import (
    ABSENT,
    ACTS_SEEN,
    ALL_EDGES,
    ALL_USERS,
    BLOCK,
    BLOCKING,
    BLOCKS,
    BLOCKS_EACH,
    CUT_BY_BLOCK,
    DROPPED_EDGES,
    DROPPED_LISTS,
    DROPPED_RESTRICTIONS,
    DROPPED_USERS,
    EDGES,
    ENTRIES,
    FOLLOW,
    FOLLOW_EDGES,
    FOLLOW_USERS,
    FOLLOWEES_AT,
    FOLLOWERS_AT,
    FOLLOWS,
    FOLLOWS_EACH,
    FOLLOWS_NOW,
    FORGOTTEN,
    LATE,
    LIFTED,
    LIVE,
    MUTE,
    MUTES,
    MUTES_EACH,
    MUTING,
    REFUSED_BLOCKED,
    REFUSED_BLOCKS,
    REFUSED_FOLLOWS,
    REFUSED_MUTES,
    REFUSED_SELF,
    REPEATED,
    RESTRICTIONS,
    RESTRICTIONS_MAX,
    START,
    UNDONE,
    UNFOLLOWS,
    USER_COLUMNS,
    WITHOUT_USER,
    ZERO,
    add_flag,
    append,
    clear_flag,
    find_edge,
    home,
    make_room,
    pack,
    prefetch_edge,
    prefetch_id,
    release,
    trim,
)
from engine.social_graph.cut_kernels import cut_follow, erase, finish, finish_acts

#: How many rows' users and edges are prefetched together, so that their cache misses overlap.
AHEAD_ROWS = 32

KIND_FOLLOW, KIND_MUTE, KIND_UNMUTE = int(Kind.FOLLOW), int(Kind.MUTE), int(Kind.UNMUTE)
KIND_ERASE, KIND_USER = int(Kind.ERASE), int(Kind.USER)
KIND_UNFOLLOW, KIND_BLOCK, KIND_UNBLOCK = int(Kind.UNFOLLOW), int(Kind.BLOCK), int(Kind.UNBLOCK)

#: An act's moment is its event time in ms, shifted left by these bits, and the low bits of its number in the order of
#: arrival: of two acts in one millisecond the one that arrives later is the later one.
ARRIVAL_BITS = np.int64(20)

#: Why a row is refused.
TAKEN, TOO_MANY_FOLLOWS, TOO_MANY_BLOCKS, TOO_MANY_MUTES, FULL = range(5)


@inlined
def _index(g: Any, user_id: Any) -> Any:
    return np.int64(find(g.ids, user_id))


@inlined
def _add(g: Any, user_id: Any) -> Any:
    return np.int64(find_or_add(g.ids, user_id))


@inlined
def _fits(g: Any, source: Any, target: Any, users_max: Any, edges_max: Any) -> Any:
    """Whether both people (-1: not known yet) and the edge between them fit; counts a drop if not."""
    new_users = (1 if source < 0 else 0) + (1 if target < 0 else 0)
    if new_users > 0 and g.ids.header[0] + new_users > users_max:
        g.header[DROPPED_USERS] += 1
        return False
    if (new_users > 0 or find_edge(g, source, target) < 0) and g.header[EDGES] + 1 > edges_max:
        g.header[DROPPED_EDGES] += 1
        return False
    return True


#: What a follow comes to while somebody of the two blocks the other: nothing, now and ever; or nothing unless an
#: unblock turns out to have come between block and follow; or it holds.
_SEVERED, _WAITS, _HOLDS = range(3)


@kernel
def _beside_blocks(g: Any, source: Any, target: Any, moment: Any) -> Any:
    """What a follow of this time comes to, as far as the blocks between the two are known."""
    verdict = _HOLDS
    for one, other in ((source, target), (target, source)):
        if g.users[one, BLOCKING] == 0 and g.users[one, UNDONE] == 0:
            continue
        row = find_act(g, one, other, BLOCK)
        if row < 0 or g.acts.moments[row, ON] == NEVER:
            continue
        if moment <= g.acts.moments[row, ON]:
            return _SEVERED
        if in_force(g, row) or moment < g.acts.moments[row, FIRST_OFF]:
            verdict = _WAITS
    return verdict


@kernel
def _follow(g: Any, user_id: Any, other_id: Any, moment: Any) -> Any:
    """FOLLOW; returns why it is refused."""
    source, target = _index(g, user_id), _index(g, other_id)
    row = np.int64(-1)
    if source >= 0 and target >= 0:
        slot = find_edge(g, source, target)
        if slot >= 0 and g.edges[slot] & np.uint64(FOLLOW) != ZERO:
            g.follow_moment[slot] = max(g.follow_moment[slot], moment)
            g.header[REPEATED] += 1
            return TAKEN
        if g.users[source, UNDONE] > 0:
            row = find_act(g, source, target, FOLLOW)
        if row >= 0 and moment <= g.acts.moments[row, LAST_OFF]:
            g.header[LATE] += 1
            return TAKEN
        verdict = _beside_blocks(g, source, target, moment)
        if verdict != _HOLDS:
            g.header[REFUSED_BLOCKED] += 1
            if verdict == _WAITS:
                _wait(g, source, target, row, moment)
            return TAKEN
    return _enter_follow(g, user_id, other_id, row, moment)


@kernel
def _wait(g: Any, source: Any, target: Any, row: Any, moment: Any) -> None:
    """Remember a follow that a block refuses; ``row`` is what is known of follows between the two (-1: nothing)."""
    if row >= 0:
        g.acts.moments[row, ON] = max(g.acts.moments[row, ON], moment)
        return
    row = add_act(g, source, target, FOLLOW)
    g.acts.moments[row, ON] = moment
    enlist(g, row)
    keep_to_bounds(g, source)


@kernel
def _enter_follow(g: Any, user_id: Any, other_id: Any, row: Any, moment: Any) -> Any:
    """Add a follow at the end of both lists, in the place of what was known before in ``row`` (-1: nothing)."""
    source, target = _index(g, user_id), _index(g, other_id)
    if source >= 0 and g.users[source, FOLLOWEES_AT + LIVE] >= g.limits[FOLLOWS_EACH]:
        g.header[REFUSED_FOLLOWS] += 1
        return TOO_MANY_FOLLOWS
    if not _fits(g, source, target, g.limits[FOLLOW_USERS], g.limits[FOLLOW_EDGES]):
        return FULL
    source, target = _add(g, user_id), _add(g, other_id)
    if not (make_room(g, source, FOLLOWEES_AT) and make_room(g, target, FOLLOWERS_AT)):
        g.header[DROPPED_LISTS] += 1
        trim(g, source, FOLLOWEES_AT)
        release(g, source)
        release(g, target)
        return FULL
    slot = add_flag(g, source, target, FOLLOW)
    g.sequences[slot, 0] = append(g, source, FOLLOWEES_AT, target)
    g.sequences[slot, 1] = append(g, target, FOLLOWERS_AT, source)
    g.follow_moment[slot] = moment
    g.header[FOLLOWS_NOW] += 1
    g.header[FOLLOWS] += 1
    if row >= 0:
        unlist(g, row)
        drop_act(g, row)
    return TAKEN


@kernel
def _unfollow(g: Any, user_id: Any, other_id: Any, moment: Any) -> None:
    """UNFOLLOW."""
    source, target = _index(g, user_id), _index(g, other_id)
    if source >= 0 and target >= 0:
        slot = find_edge(g, source, target)
        if slot >= 0 and g.edges[slot] & np.uint64(FOLLOW) != ZERO:
            if moment < g.follow_moment[slot]:
                g.header[LATE] += 1
                return
            row = add_act(g, source, target, FOLLOW)
            g.acts.moments[row, FIRST_OFF] = moment
            g.acts.moments[row, LAST_OFF] = moment
            cut_follow(g, source, target, slot)
            g.header[UNFOLLOWS] += 1
            enlist(g, row)
            keep_to_bounds(g, source)
            return
    _note_undo(g, user_id, other_id, FOLLOW, moment)


@kernel
def _recheck_follow(g: Any, source: Any, target: Any) -> None:
    """Let a follow end, or begin, after what is known of blocks between the two has changed. A row names both."""
    slot = find_edge(g, source, target)
    if slot >= 0 and g.edges[slot] & np.uint64(FOLLOW) != ZERO:
        moment = g.follow_moment[slot]
        verdict = _beside_blocks(g, source, target, moment)
        if verdict != _HOLDS:
            cut_follow(g, source, target, slot)
            g.header[CUT_BY_BLOCK] += 1
            if verdict == _WAITS:
                _wait(g, source, target, np.int64(-1), moment)
    elif g.users[source, UNDONE] > 0:
        row = find_act(g, source, target, FOLLOW)
        if row >= 0 and g.acts.moments[row, ON] > g.acts.moments[row, LAST_OFF]:
            moment = g.acts.moments[row, ON]
            if _beside_blocks(g, source, target, moment) == _HOLDS:
                _enter_follow(g, g.ids.keys[source], g.ids.keys[target], row, moment)


@kernel
def _recheck_follows(g: Any, source: Any, target: Any, flag: Any) -> None:
    if flag == BLOCK:
        _recheck_follow(g, source, target)
        _recheck_follow(g, target, source)


@kernel
def _restrict(g: Any, user_id: Any, other_id: Any, flag: Any, moment: Any) -> Any:
    """BLOCK or MUTE; returns why it is refused. A block also ends following, both ways."""
    source, target = _index(g, user_id), _index(g, other_id)
    row = find_act(g, source, target, flag) if source >= 0 and target >= 0 else np.int64(-1)
    if row >= 0:
        times = g.acts.moments[row]
        if in_force(g, row):
            g.header[REPEATED] += 1
            times[ON] = max(times[ON], moment)
            return TAKEN
        if moment < times[LAST_OFF]:
            g.header[LATE] += 1
            if moment > times[ON]:
                times[ON] = moment
                if times[FIRST_OFF] <= moment:
                    times[FIRST_OFF] = times[LAST_OFF]
                _recheck_follows(g, source, target, flag)
            return TAKEN
    column = BLOCKING if flag == BLOCK else MUTING
    if source >= 0 and g.users[source, column] >= g.limits[BLOCKS_EACH if flag == BLOCK else MUTES_EACH]:
        g.header[REFUSED_BLOCKS if flag == BLOCK else REFUSED_MUTES] += 1
        return TOO_MANY_BLOCKS if flag == BLOCK else TOO_MANY_MUTES
    if not _restriction_fits(g, source, target):
        lose(g, user_id, other_id, flag, moment)
        return FULL
    source, target = _add(g, user_id), _add(g, other_id)
    if row < 0:
        row = add_act(g, source, target, flag)
    else:
        unlist(g, row)
    g.acts.moments[row, ON] = moment
    add_flag(g, source, target, flag)
    g.users[source, column] += 1
    g.header[RESTRICTIONS] += 1
    g.header[BLOCKS if flag == BLOCK else MUTES] += 1
    _recheck_follows(g, source, target, flag)
    return TAKEN


@inlined
def _restriction_fits(g: Any, source: Any, target: Any) -> Any:
    """Whether one more block or mute fits; counts a drop if not."""
    if g.header[RESTRICTIONS] >= g.limits[RESTRICTIONS_MAX]:
        g.header[DROPPED_RESTRICTIONS] += 1
        return False
    return _fits(g, source, target, g.limits[ALL_USERS], g.limits[ALL_EDGES])


@kernel
def _lift(g: Any, user_id: Any, other_id: Any, flag: Any, moment: Any) -> None:
    """UNBLOCK or UNMUTE."""
    source, target = _index(g, user_id), _index(g, other_id)
    row = find_act(g, source, target, flag) if source >= 0 and target >= 0 else np.int64(-1)
    if row < 0 or not in_force(g, row):
        _note_undo(g, user_id, other_id, flag, moment)
        return
    if moment <= g.acts.moments[row, ON]:
        g.header[LATE] += 1
        return
    g.acts.moments[row, FIRST_OFF] = moment
    g.acts.moments[row, LAST_OFF] = moment
    g.users[source, BLOCKING if flag == BLOCK else MUTING] -= 1
    g.header[RESTRICTIONS] -= 1
    g.header[LIFTED] += 1
    clear_flag(g, source, target, flag)
    enlist(g, row)
    keep_to_bounds(g, source)
    _recheck_follows(g, source, target, flag)


@kernel
def _note_undo(g: Any, user_id: Any, other_id: Any, flag: Any, moment: Any) -> None:
    """Remember an undo of what does not hold (yet): what it undoes may still come."""
    g.header[ABSENT] += 1
    source, target = _index(g, user_id), _index(g, other_id)
    row = find_act(g, source, target, flag) if source >= 0 and target >= 0 else np.int64(-1)
    if row >= 0:
        times = g.acts.moments[row]
        times[LAST_OFF] = max(times[LAST_OFF], moment)
        if moment > times[ON] and (times[FIRST_OFF] <= times[ON] or moment < times[FIRST_OFF]):
            times[FIRST_OFF] = moment
            _recheck_follows(g, source, target, flag)
        return
    new_users = (1 if source < 0 else 0) + (1 if target < 0 else 0)
    if g.ids.header[0] + new_users > g.limits[FOLLOW_USERS] and new_users > 0:
        g.header[FORGOTTEN] += 1
        return
    source = _add(g, user_id)
    row = add_act(g, source, _add(g, other_id), flag)
    g.acts.moments[row, FIRST_OFF] = moment
    g.acts.moments[row, LAST_OFF] = moment
    enlist(g, row)
    keep_to_bounds(g, source)


@inlined
def _both(g: Any, kind: Any, user_id: Any, subject_id: Any) -> Any:
    """Indices of the two people of a relationship row, (-1, -1) unless both are known."""
    if kind < KIND_FOLLOW or kind > KIND_UNMUTE:
        return np.int64(-1), np.int64(-1)
    source, target = _index(g, user_id), _index(g, subject_id)
    if source < 0 or target < 0:
        return np.int64(-1), np.int64(-1)
    return source, target


@kernel
def _prefetch(g: Any, kind: Any, user_id: Any, subject_id: Any, start: Any, end: Any) -> Any:
    """Prefetch what the rows will touch, step by step: id slots; records and edges; list ends. Changes nothing."""
    for row in range(start, end):
        prefetch_id(g, user_id[row])
        prefetch_id(g, subject_id[row])
    for row in range(start, end):
        source, target = _both(g, kind[row], user_id[row], subject_id[row])
        if source >= 0:
            prefetch(g.users, source * USER_COLUMNS)
            prefetch(g.users, target * USER_COLUMNS)
            prefetch_edge(g, source, target)
            prefetch_edge(g, target, source)
            prefetch(g.sequences, 2 * home(g, pack(source, target)))
    for row in range(start, end):
        source, target = _both(g, kind[row], user_id[row], subject_id[row])
        if source >= 0:
            prefetch(g.arena, np.int64(g.users[source, START]) + g.users[source, ENTRIES])
            prefetch(g.arena, np.int64(g.users[target, 5 + START]) + g.users[target, 5 + ENTRIES])


@kernel
def _act(g: Any, code: Any, user_id: Any, other_id: Any, moment: Any) -> Any:
    """Apply one relationship row; returns why it is refused."""
    if code == KIND_FOLLOW:
        return _follow(g, user_id, other_id, moment)
    if code == KIND_UNFOLLOW:
        _unfollow(g, user_id, other_id, moment)
        return TAKEN
    flag = BLOCK if code in (KIND_BLOCK, KIND_UNBLOCK) else MUTE
    refusal = TAKEN
    if code in (KIND_BLOCK, KIND_MUTE):
        refusal = _restrict(g, user_id, other_id, flag, moment)
    else:
        _lift(g, user_id, other_id, flag, moment)
    if g.unkept.ids.header[0] > 0 and refusal == TAKEN:
        settle(g, user_id, other_id, flag, moment)
    return refusal


@kernel
def apply(g: Any, kind: Any, user_id: Any, subject_id: Any, timestamp_ms: Any, refused: Any) -> Any:
    """Apply a batch's relationship and ERASE rows in order, others are skipped; returns how many rows were refused.

    ``kind`` uint8 (n), ``user_id`` and ``subject_id`` uint64 (n), ``timestamp_ms`` int64 (n). ``refused`` int64 (n, 2):
    receives the refused rows and why. Writes every array of ``g``.
    """
    ahead = count = 0
    for row in range(kind.shape[0]):
        code = np.int64(kind[row])
        if is_waiting(g.erasing_acts) or is_waiting(g.erasing):
            if code == KIND_USER and (waits(g.erasing_acts, user_id[row]) or waits(g.erasing, user_id[row])):
                finish(g)
            elif code in (KIND_BLOCK, KIND_MUTE) and waits(g.erasing_acts, subject_id[row]):
                finish_acts(g)
        if code == KIND_ERASE:
            erase(g, user_id[row])
        if code < KIND_FOLLOW or code > KIND_UNMUTE:
            continue
        if row >= ahead:
            ahead = min(row + AHEAD_ROWS, kind.shape[0])
            _prefetch(g, kind, user_id, subject_id, np.int64(row), np.int64(ahead))
        a, b = user_id[row], subject_id[row]
        if a == ZERO or b == ZERO:
            g.header[WITHOUT_USER] += 1
        elif a == b:
            g.header[REFUSED_SELF] += 1
        else:
            moment = (timestamp_ms[row] << ARRIVAL_BITS) | (g.header[ACTS_SEEN] & ((1 << ARRIVAL_BITS) - 1))
            g.header[ACTS_SEEN] += 1
            refusal = _act(g, code, a, b, moment)
            if refusal != TAKEN:
                refused[count, 0] = row
                refused[count, 1] = refusal
                count += 1
    return count
