"""The writer of links: applies contacts, mutes of retweets, their undos, and ERASE rows.

What a person does later holds, by event time, in whatever order it arrives; of two acts of one millisecond the one that
arrives later.
"""

from typing import Any

import numpy as np

from engine.batch import Kind
from engine.kernels.erasing import drop, enter, first, is_full, is_waiting, waits
from engine.kernels.id_map import find, find_or_add, remove
from engine.kernels.jit import inlined, kernel
from engine.links.arrays import (
    ADDED,
    CONTACT,
    CONTACTS,
    ENDED,
    FIRST_UNDONE,
    FORGOTTEN,
    FREE,
    HIGH,
    LATE,
    LINK_COLUMNS,
    LINKS,
    LISTS,
    MY_UNDONE,
    NEXT,
    OTHER,
    OWNER,
    REFUSED_FULL,
    REFUSED_MANY,
    RENEWED,
    RETWEETS_MUTED,
    TRAITS,
    UNDONE,
    UNDONE_DROPPED,
    UNDONE_EACH,
    enter_lists,
    find_link,
    home_of,
    leave_lists,
)

#: Why an act is refused (0: it is not).
TOO_MANY_CONTACTS, TOO_MANY_RETWEET_MUTES, FULL = 1, 2, 3
#: An ERASE row removes so many links of people who are being erased.
LINKS_PER_ROW = 256
_CONTACT, _UNCONTACT, _USER, _ERASE = int(Kind.CONTACT), int(Kind.UNCONTACT), int(Kind.USER), int(Kind.ERASE)
_MUTE_RETWEETS, _UNMUTE_RETWEETS = int(Kind.MUTE_RETWEETS), int(Kind.UNMUTE_RETWEETS)
_ZERO = np.uint64(0)


@kernel
def _leave_if_unlinked(s: Any, person: Any) -> None:
    """Forget a person whom no link names any more."""
    for at in range(LISTS):
        if s.people[person, at] != 0:
            return
    remove(s.ids, s.ids.keys[person])


@kernel
def _drop(s: Any, link: Any) -> None:
    """Remove a link, and the people whom no other link names."""
    table, mask = s.table, s.table.shape[0] - 1
    hole = home_of(s, link)
    while np.int64(table[hole]) - 1 != link:
        hole = (hole + 1) & mask
    at = hole
    while True:
        at = (at + 1) & mask
        if table[at] == 0:
            break
        home = home_of(s, np.int64(table[at]) - 1)
        # The entry may fill the hole unless its home lies (cyclically) after the hole.
        if ((at - home) & mask) >= ((at - hole) & mask):
            table[hole] = table[at]
            hole = at
    table[hole] = 0
    leave_lists(s, link)
    owner, other = np.int64(s.links[link, OWNER]), np.int64(s.links[link, OTHER])
    for column in range(LINK_COLUMNS):
        s.links[link, column] = 0
    s.times_ms[link] = 0
    s.links[link, OWNER] = s.header[FREE]
    s.header[FREE] = link + 1
    s.header[LINKS] -= 1
    _leave_if_unlinked(s, owner)
    _leave_if_unlinked(s, other)


@kernel
def _forget_undone(s: Any, person: Any) -> None:
    """Forget what the person took back first while it is more than one may have."""
    if s.people[person, UNDONE] > s.limits[UNDONE_EACH]:
        s.header[FORGOTTEN] += 1
        _drop(s, np.int64(s.people[person, FIRST_UNDONE]) - 1)


@inlined
def _has_room(s: Any) -> Any:
    return s.header[FREE] != 0 or s.header[HIGH] < s.links.shape[0]


@kernel
def _make(s: Any, owner_id: Any, other_id: Any, traits: Any, time_ms: Any) -> Any:
    """Enter a new link; returns the owner's index, -1 if there is no room."""
    if not _has_room(s):
        return np.int64(-1)
    owner, other = np.int64(find_or_add(s.ids, owner_id)), np.int64(find_or_add(s.ids, other_id))
    if owner < 0 or other < 0:
        if owner >= 0:
            _leave_if_unlinked(s, owner)
        return np.int64(-1)
    link = s.header[FREE] - 1
    if link >= 0:
        s.header[FREE] = s.links[link, OWNER]
    else:
        link = s.header[HIGH]
        s.header[HIGH] += 1
    s.links[link, OWNER], s.links[link, OTHER], s.links[link, TRAITS] = owner, other, traits
    s.times_ms[link] = time_ms
    at, mask = home_of(s, link), s.table.shape[0] - 1
    while s.table[at] != 0:
        at = (at + 1) & mask
    s.table[at] = link + 1
    enter_lists(s, link)
    s.header[LINKS] += 1
    return owner


@kernel
def _act(s: Any, owner_id: Any, other_id: Any, kind: Any, holds: Any, time_ms: Any) -> Any:
    """Apply one act or undo; returns why it is refused."""
    owner, other = np.int64(find(s.ids, owner_id)), np.int64(find(s.ids, other_id))
    link = find_link(s, owner, other, kind) if owner >= 0 and other >= 0 else np.int64(-1)
    if link >= 0:
        if time_ms < s.times_ms[link]:
            s.header[LATE] += 1
            return np.int64(0)
        if s.links[link, TRAITS] & 1 == holds:
            s.times_ms[link] = time_ms
            s.header[RENEWED] += 1
            return np.int64(0)
    if holds and owner >= 0 and s.people[owner, CONTACTS + kind] >= s.limits[kind]:
        s.header[REFUSED_MANY] += 1
        return np.int64(TOO_MANY_CONTACTS if kind == CONTACT else TOO_MANY_RETWEET_MUTES)
    traits = 2 * kind + holds
    if link >= 0:
        leave_lists(s, link)
        s.links[link, TRAITS] = traits
        s.times_ms[link] = time_ms
        enter_lists(s, link)
    else:
        if not holds and owner >= 0 and s.people[owner, UNDONE] >= s.limits[UNDONE_EACH]:
            # Its place is given up first: the new one needs one.
            s.header[FORGOTTEN] += 1
            _drop(s, np.int64(s.people[owner, FIRST_UNDONE]) - 1)
        owner = _make(s, owner_id, other_id, traits, time_ms)
        if owner < 0:
            s.header[REFUSED_FULL if holds else UNDONE_DROPPED] += 1
            return np.int64(FULL if holds else 0)
    s.header[ADDED if holds else ENDED] += 1
    if not holds:
        _forget_undone(s, owner)
    return np.int64(0)


# --- erasing ------------------------------------------------------------------------------------------------------


@kernel
def _go_on(s: Any, most: Any) -> None:
    """Remove at most so many links of the people who are being erased, of who waits longest first."""
    while most > 0 and is_waiting(s.erasing):
        person, link = np.int64(find(s.ids, first(s.erasing))), np.int64(-1)
        if person >= 0:
            for at in range(LISTS):
                if s.people[person, at] != 0:
                    link = np.int64(s.people[person, at]) - 1
        if link < 0:
            drop(s.erasing, np.int64(0))
        else:
            _drop(s, link)
            most -= 1


@kernel
def _erase(s: Any, user_id: Any) -> None:
    """ERASE: a person's links go piece by piece. 0: nobody's further, go on with those who wait."""
    if user_id != _ZERO:
        if is_full(s.erasing):
            _go_on(s, s.header[LINKS] + 1)
        enter(s.erasing, user_id, np.int64(1))
    _go_on(s, np.int64(LINKS_PER_ROW))


@inlined
def _kind_of(code: Any) -> Any:
    """The kind of link that a row is about, -1 for none."""
    if code in (_CONTACT, _UNCONTACT):
        return np.int64(CONTACT)
    return np.int64(RETWEETS_MUTED) if code in (_MUTE_RETWEETS, _UNMUTE_RETWEETS) else np.int64(-1)


@kernel
def enter_table(s: Any) -> None:
    """Enter all links into an empty table, after growth."""
    mask = s.table.shape[0] - 1
    for person in range(s.people.shape[0]):
        for which in range(MY_UNDONE + 1):
            link = np.int64(s.people[person, which]) - 1
            while link >= 0:
                at = home_of(s, link)
                while s.table[at] != 0:
                    at = (at + 1) & mask
                s.table[at] = link + 1
                link = np.int64(s.links[link, NEXT]) - 1


@kernel
def apply(s: Any, kind: Any, user_id: Any, subject_id: Any, timestamp_ms: Any, refused: Any) -> Any:
    """Apply a batch's rows about links and ERASE rows in order; other kinds are skipped.

    The columns are those of the batch (n). Writes row and reason of each refused act into ``refused`` (int64, (n, 2)),
    and returns how many there are.
    """
    count = 0
    for row in range(kind.shape[0]):
        code, one, other = np.int64(kind[row]), user_id[row], subject_id[row]
        if code == _ERASE:
            _erase(s, one)
            continue
        if code == _USER and is_waiting(s.erasing) and waits(s.erasing, one):
            # What comes after the person's return must stay.
            _go_on(s, s.header[LINKS] + 1)
        which = _kind_of(code)
        if which < 0 or one in (_ZERO, other) or other == _ZERO:
            continue
        holds = np.int64(code in (_CONTACT, _MUTE_RETWEETS))
        why = _act(s, one, other, which, holds, timestamp_ms[row])
        if why != 0:
            refused[count, 0], refused[count, 1] = row, why
            count += 1
    return count
