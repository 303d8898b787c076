"""The times of acts: of blocks and mutes in force, and of what was undone.

The later of two acts holds, in whatever order they come (docs/social_graph.md). So a block and a mute have a row with
their times, and an act that was undone leaves a row: an older follow that comes later must not bring back what was
unfollowed. Only a follow in force needs no row; its time stands beside its edge.

Rows of undone acts are bounded, in all and for each person: one more than a person may have forgets that person's
first; if they are too many in all, the first of all is forgotten. They are in two doubly linked lists, of everybody and
of their person, in the order in which they came.

What a row's three moments (``write_kernels.ARRIVAL_BITS``) mean, ``NEVER`` if there was no such act:

======== ================================== =======================================================
row      ``ON``                             ``FIRST_OFF``, ``LAST_OFF``
======== ================================== =======================================================
block    the newest block                   the first known unblock after it, and the newest unblock
mute     the newest mute                    the same
follow   the newest follow that was refused the newest unfollow (both)
         because of a block
======== ================================== =======================================================
"""

from typing import Any

import numpy as np

from engine.kernels.id_map import find, find_or_add, remove
from engine.kernels.jit import inlined, kernel
from engine.kernels.rng import mix64
from engine.social_graph.arrays import (
    ACTS_FREE,
    ACTS_TOP,
    FLAG_BITS,
    FLAG_MASK,
    FORGOTTEN,
    INCIDENT,
    INDEX_BITS,
    UNDONE,
    UNDONE_EACH,
    UNDONE_FIRST,
    UNDONE_LAST,
    UNDONE_MAX,
    UNDONE_NEWEST,
    UNDONE_NOW,
    UNDONE_OLDEST,
    UNKEPT,
    UNKEPT_ALL,
    ZERO,
    pack,
    release,
)

#: Columns of ``Acts.moments``.
ON, FIRST_OFF, LAST_OFF = range(3)
#: Columns of ``Acts.links``: neighbors' rows + 1 in everybody's and in the person's list; ``OLDER`` of a free row names
#: the next free one.
OLDER, NEWER, OWN_OLDER, OWN_NEWER = range(4)
NEVER = np.int64(-(1 << 62))
_INDEX_MASK = (np.uint64(1) << INDEX_BITS) - np.uint64(1)


@inlined
def in_force(g: Any, row: Any) -> Any:
    """Whether a row's block or mute holds."""
    return g.acts.moments[row, ON] >= g.acts.moments[row, LAST_OFF]


@inlined
def source_of(g: Any, row: Any) -> Any:
    """Index of the person whose act it was."""
    return np.int64(g.acts.keys[row] >> FLAG_BITS >> INDEX_BITS)


@inlined
def target_of(g: Any, row: Any) -> Any:
    """Index of the person whom it was about."""
    return np.int64((g.acts.keys[row] >> FLAG_BITS) & _INDEX_MASK)


@inlined
def flag_of(g: Any, row: Any) -> Any:
    """FOLLOW, BLOCK or MUTE."""
    return np.int64(g.acts.keys[row] & FLAG_MASK)


@inlined
def _key(source: Any, target: Any, flag: Any) -> Any:
    return (pack(source, target) << FLAG_BITS) | np.uint64(flag)


@inlined
def _home(g: Any, key: Any) -> Any:
    return np.int64(mix64(key) & np.uint64(g.acts.table.shape[0] - 1))


@kernel
def find_act(g: Any, source: Any, target: Any, flag: Any) -> Any:
    """Row of an act, -1 when there is none."""
    key = _key(source, target, flag)
    table = g.acts.table
    mask = table.shape[0] - 1
    at = _home(g, key)
    while table[at] != 0:
        row = np.int64(table[at]) - 1
        if g.acts.keys[row] == key:
            return row
        at = (at + 1) & mask
    return np.int64(-1)


@kernel
def add_act(g: Any, source: Any, target: Any, flag: Any) -> Any:
    """A new row, without times and in no list; the pool must have room. From now on it names both people."""
    key = _key(source, target, flag)
    row = g.header[ACTS_FREE] - 1
    if row >= 0:
        g.header[ACTS_FREE] = g.acts.links[row, OLDER]
        g.acts.links[row, OLDER] = 0
    else:
        row = g.header[ACTS_TOP]
        g.header[ACTS_TOP] += 1
    g.acts.keys[row] = key
    for column in range(3):
        g.acts.moments[row, column] = NEVER
    enter_act(g, row)
    g.users[source, INCIDENT] += 1
    g.users[target, INCIDENT] += 1
    return row


@inlined
def enter_act(g: Any, row: Any) -> None:
    """Enter a row into the table."""
    table = g.acts.table
    mask = table.shape[0] - 1
    at = _home(g, g.acts.keys[row])
    while table[at] != 0:
        at = (at + 1) & mask
    table[at] = row + 1


@kernel
def drop_act(g: Any, row: Any) -> None:
    """Free a row that is in no list; forgets people whom nothing else names."""
    table = g.acts.table
    mask = table.shape[0] - 1
    hole = _home(g, g.acts.keys[row])
    while table[hole] != row + 1:
        hole = (hole + 1) & mask
    at = hole
    while True:
        at = (at + 1) & mask
        if table[at] == 0:
            break
        home = _home(g, g.acts.keys[table[at] - 1])
        if ((at - home) & mask) >= ((at - hole) & mask):
            table[hole] = table[at]
            hole = at
    table[hole] = 0
    source, target = source_of(g, row), target_of(g, row)
    g.acts.keys[row] = ZERO
    for column in range(3):
        g.acts.moments[row, column] = 0
    g.acts.links[row, OLDER] = g.header[ACTS_FREE]
    g.header[ACTS_FREE] = row + 1
    g.users[source, INCIDENT] -= 1
    g.users[target, INCIDENT] -= 1
    release(g, source)
    release(g, target)


@kernel
def enlist(g: Any, row: Any) -> None:
    """Note that a row's act was undone: it becomes the newest in everybody's and in its person's list."""
    links, user = g.acts.links, g.users[source_of(g, row)]
    links[row, OLDER] = g.header[UNDONE_NEWEST]
    links[row, OWN_OLDER] = user[UNDONE_LAST]
    if g.header[UNDONE_NEWEST] > 0:
        links[g.header[UNDONE_NEWEST] - 1, NEWER] = row + 1
    else:
        g.header[UNDONE_OLDEST] = row + 1
    if user[UNDONE_LAST] > 0:
        links[user[UNDONE_LAST] - 1, OWN_NEWER] = row + 1
    else:
        user[UNDONE_FIRST] = row + 1
    g.header[UNDONE_NEWEST] = row + 1
    user[UNDONE_LAST] = row + 1
    g.header[UNDONE_NOW] += 1
    user[UNDONE] += 1


@kernel
def unlist(g: Any, row: Any) -> None:
    """Take a row out of both lists."""
    links, user = g.acts.links, g.users[source_of(g, row)]
    older, newer, own_older, own_newer = (
        links[row, OLDER],
        links[row, NEWER],
        links[row, OWN_OLDER],
        links[row, OWN_NEWER],
    )
    if older > 0:
        links[older - 1, NEWER] = newer
    else:
        g.header[UNDONE_OLDEST] = newer
    if newer > 0:
        links[newer - 1, OLDER] = older
    else:
        g.header[UNDONE_NEWEST] = older
    if own_older > 0:
        links[own_older - 1, OWN_NEWER] = own_newer
    else:
        user[UNDONE_FIRST] = own_newer
    if own_newer > 0:
        links[own_newer - 1, OWN_OLDER] = own_older
    else:
        user[UNDONE_LAST] = own_older
    for column in range(4):
        links[row, column] = 0
    g.header[UNDONE_NOW] -= 1
    user[UNDONE] -= 1


@kernel
def keep_to_bounds(g: Any, source: Any) -> None:
    """Forget the person's first undone acts, and the first of all, while they are too many. The newest ones stay."""
    while g.users[source, UNDONE] > g.limits[UNDONE_EACH]:
        _forget(g, np.int64(g.users[source, UNDONE_FIRST]) - 1)
    while g.header[UNDONE_NOW] > g.limits[UNDONE_MAX]:
        _forget(g, g.header[UNDONE_OLDEST] - 1)


@kernel
def _forget(g: Any, row: Any) -> None:
    unlist(g, row)
    drop_act(g, row)
    g.header[FORGOTTEN] += 1


# --- people whose blocks or mutes found no room -----------------------------------------------------------------


@kernel
def lose(g: Any, user_id: Any, other_id: Any, flag: Any, moment: Any) -> None:
    """Note that a block or mute could not be kept."""
    g.header[UNKEPT] += 1
    unkept = g.unkept
    person = np.int64(find_or_add(unkept.ids, user_id))
    if person < 0:
        g.header[UNKEPT_ALL] = 1
        return
    place = -1
    for i in range(unkept.flags.shape[1]):
        if unkept.flags[person, i] == flag and unkept.others[person, i] == other_id:
            unkept.moments[person, i] = max(unkept.moments[person, i], moment)
            return
        if place < 0 and unkept.flags[person, i] == 0:
            place = i
    if place < 0:
        unkept.more[person] |= np.uint8(flag)
        return
    unkept.others[person, place] = other_id
    unkept.flags[person, place] = np.uint8(flag)
    unkept.moments[person, place] = moment


@kernel
def settle(g: Any, user_id: Any, other_id: Any, flag: Any, moment: Any) -> None:
    """Note that an act, or its undo, is kept now that may have been lost before."""
    unkept = g.unkept
    person = np.int64(find(unkept.ids, user_id))
    if person < 0:
        return
    left = np.int64(unkept.more[person])
    for i in range(unkept.flags.shape[1]):
        same = unkept.flags[person, i] == flag and unkept.others[person, i] == other_id
        if same and unkept.moments[person, i] <= moment:
            unkept.others[person, i] = ZERO
            unkept.flags[person, i] = 0
            unkept.moments[person, i] = 0
        left |= np.int64(unkept.flags[person, i])
    if left == 0:
        remove(unkept.ids, user_id)


@inlined
def unkept_flags(g: Any, user_id: Any) -> Any:
    """BLOCK and MUTE, as far as a person's ones are not fully known."""
    unkept = g.unkept
    person = np.int64(find(unkept.ids, user_id))
    if person < 0:
        return np.int64(0)
    flags = np.int64(unkept.more[person])
    for i in range(unkept.flags.shape[1]):
        flags |= np.int64(unkept.flags[person, i])
    return flags
