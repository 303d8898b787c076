"""Who did what to which tweet or person, and since when: so that a person counts once, and the later act wins.

One entry is (person, subject, kind of act): the time of the person's newest act of that kind, and whether the act holds
or was taken back. Whatever the order of arrival, the act with the later time decides; of equal times, the one that
arrived later. An undo of something that nobody did leaves an entry, too, so that an older act that arrives after its
undo changes nothing.

Entries are a ring by arrival: when it is full, the oldest entry leaves. A table finds an entry by its person and
subject; entries of one person and subject are neighbors in the table. A second table has each person's newest entry
and number of entries; a person's entries are linked in a circle, the newest to the oldest.

Fair shares: a person has at most ``PERSON`` entries. A person with that many replaces the oldest of them if it is older
than ``SPAN_MS``, else the act does not count. So nobody can forget an act on purpose, to count a second time, and one
person shortens the memory of everybody else by at most ``PERSON`` of all entries.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.batch import Change, Kind
from engine.kernels.jit import inlined, kernel
from engine.kernels.prefetch import prefetch
from engine.kernels.rng import mix64

#: Columns of ``Acts.places``. STAMP: time_ms << 8 | whether the act holds << 7 | kind. LINK: the person's next newer
#: entry; of the newest entry, the oldest.
OWNER, SUBJECT, STAMP, LINK = range(4)
PLACE = 4
KIND_MASK, HOLDS, TIME_SHIFT = np.int64(127), np.int64(128), np.int64(8)

#: Indices of ``Acts.header``: gauges, then counters.
POSITION, SIZE, PEOPLE, CLOCK_MS, ENTERED, STALE, REPEATED, FORGOTTEN, OVER_SHARE = range(9)
HEADER_SIZE = 16
#: Indices of ``Acts.limits``: a person's most entries; the age from which these give way; hash bits below the home.
PERSON, SPAN_MS, SHIFT = range(3)

#: Kinds of acts from here on are done to people, the others to tweets.
RELATIONS = np.int64(Kind.FOLLOW)

NEVER = np.int64(-1)
NOTHING, BEGINS, RENEWED, ENDS, UNCOUNTED = (np.uint8(change) for change in Change)

LOW_32 = np.uint64(0xFFFFFFFF)
ONE, ZERO, S32 = np.uint64(1), np.uint64(0), np.uint64(32)


class Acts(NamedTuple):
    """All arrays; n = the most entries.

    ``table``: uint64 (t,), the hash's upper 32 bits | place + 1; 0 empty. ``people``: uint64 (2p,), id, then newest
    place << 32 | number of entries. ``places``: int64 (n, 4), zeros when empty. ``header``: int64 scalars. ``limits``:
    int64 (3,), not state.
    """

    table: NDArray[np.uint64]
    people: NDArray[np.uint64]
    places: NDArray[np.int64]
    header: NDArray[np.int64]
    limits: NDArray[np.int64]


def _power_of_two(least: int) -> int:
    return 1 << max(1, (least - 1).bit_length())


def table_sizes(entries_max: int) -> tuple[int, int]:
    """Slots of ``table`` (at least twice the entries) and of ``people`` (at least 5/4 of them)."""
    return _power_of_two(2 * entries_max), _power_of_two(entries_max + entries_max // 4 + 1)


def acts_bytes(entries_max: int) -> int:
    """Bytes of all arrays: 32 an entry, 8 a slot of the table, 16 a slot of the table of people."""
    table, people = table_sizes(entries_max)
    return 8 * PLACE * entries_max + 8 * table + 16 * people + 8 * HEADER_SIZE


def make_acts(entries_max: int, person_max: int, span_ms: int) -> Acts:
    """Empty arrays."""
    table, people = table_sizes(entries_max)
    return Acts(
        table=np.zeros(table, np.uint64),
        people=np.zeros(2 * people, np.uint64),
        places=np.zeros((entries_max, PLACE), np.int64),
        header=np.zeros(HEADER_SIZE, np.int64),
        limits=np.array([person_max, span_ms, 65 - table.bit_length()], np.int64),
    )


# --- tables -----------------------------------------------------------------------------------------------------


@inlined
def _code(owner: Any, subject: Any) -> Any:
    """Hash of a person and a subject: its top bits are the home slot, its upper 32 bits are kept in the slot."""
    return mix64(subject ^ mix64(owner))


@inlined
def _home(a: Any, code: Any) -> Any:
    return np.int64(code >> np.uint64(a.limits[SHIFT]))


@inlined
def _person_home(a: Any, owner: Any) -> Any:
    return np.int64(mix64(owner) & np.uint64(a.people.shape[0] // 2 - 1))


@inlined
def prefetch_slots(a: Any, owner: Any, subject: Any) -> Any:
    """Prefetch where the searches for an entry and for its person start."""
    prefetch(a.table, _home(a, _code(owner, subject)))
    prefetch(a.people, 2 * _person_home(a, owner))


@inlined
def prefetch_place(a: Any, owner: Any, subject: Any) -> Any:
    """Prefetch the entry that a search will most likely compare first."""
    held = a.table[_home(a, _code(owner, subject))]
    if held != ZERO:
        prefetch(a.places.reshape(-1), (np.int64(held & LOW_32) - 1) * PLACE)


@inlined
def prefetch_leaving(a: Any, rows: Any) -> Any:
    """Prefetch what forgetting the next ``rows`` entries of a full ring will touch."""
    size = a.places.shape[0]
    at = a.header[POSITION]
    for _ in range(rows):
        owner = np.uint64(a.places[at, OWNER])
        if owner == ZERO:
            break
        prefetch_slots(a, owner, np.uint64(a.places[at, SUBJECT]))
        at = at + 1 if at + 1 < size else 0


@inlined
def find_person(a: Any, owner: Any) -> Any:
    """The slot of a person in ``people``, or the empty slot where the person belongs."""
    mask = a.people.shape[0] // 2 - 1
    at = _person_home(a, owner)
    while a.people[2 * at] != ZERO and a.people[2 * at] != owner:
        at = (at + 1) & mask
    return at


@kernel
def _drop_person(a: Any, hole: Any) -> Any:
    """Remove a person from the table, closing the gap."""
    mask = a.people.shape[0] // 2 - 1
    at = hole
    while True:
        at = (at + 1) & mask
        if a.people[2 * at] == ZERO:
            break
        if ((at - _person_home(a, a.people[2 * at])) & mask) >= ((at - hole) & mask):
            a.people[2 * hole], a.people[2 * hole + 1] = a.people[2 * at], a.people[2 * at + 1]
            hole = at
    a.people[2 * hole] = a.people[2 * hole + 1] = ZERO
    a.header[PEOPLE] -= 1


@kernel
def _drop_slot(a: Any, place: Any) -> Any:
    """Remove an entry from the table, closing the gap."""
    mask = a.table.shape[0] - 1
    hole = _home(a, _code(np.uint64(a.places[place, OWNER]), np.uint64(a.places[place, SUBJECT])))
    while np.int64(a.table[hole] & LOW_32) != place + 1:
        hole = (hole + 1) & mask
    at = hole
    while True:
        at = (at + 1) & mask
        if a.table[at] == ZERO:
            break
        if ((at - _home(a, a.table[at])) & mask) >= ((at - hole) & mask):
            a.table[hole] = a.table[at]
            hole = at
    a.table[hole] = ZERO


# --- entries ----------------------------------------------------------------------------------------------------


@kernel
def _forget_after(a: Any, person: Any, before: Any) -> Any:
    """Forget the entry after the place ``before`` in the circle of the person in this slot of ``people``."""
    newest, count = np.int64(a.people[2 * person + 1] >> S32), a.people[2 * person + 1] & LOW_32
    place = a.places[before, LINK]
    _drop_slot(a, place)
    if count == ONE:
        _drop_person(a, person)
    else:
        a.places[before, LINK] = a.places[place, LINK]
        newest = before if place == newest else newest
        a.people[2 * person + 1] = (np.uint64(newest) << S32) | (count - ONE)
    for column in range(PLACE):
        a.places[place, column] = 0
    a.header[SIZE] -= 1
    a.header[FORGOTTEN] += 1


@inlined
def forget_oldest(a: Any, person: Any) -> Any:
    """Forget the oldest entry of the person in this slot of ``people``."""
    _forget_after(a, person, np.int64(a.people[2 * person + 1] >> S32))


@kernel
def forget_entry(a: Any, place: Any) -> Any:
    """Forget any entry: O(entries of its person)."""
    person = find_person(a, np.uint64(a.places[place, OWNER]))
    before = np.int64(a.people[2 * person + 1] >> S32)
    while a.places[before, LINK] != place:
        before = a.places[before, LINK]
    _forget_after(a, person, before)


@inlined
def entries_of(a: Any, person: Any) -> Any:
    """How many entries the person in this slot of ``people`` has."""
    return np.int64(a.people[2 * person + 1] & LOW_32)


@inlined
def oldest_of(a: Any, person: Any) -> Any:
    """The place of the oldest entry of the person, who has one, in this slot of ``people``."""
    return a.places[np.int64(a.people[2 * person + 1] >> S32), LINK]


@kernel
def erase(a: Any, owner: Any) -> Any:
    """Forget everything that a person did."""
    person = find_person(a, owner)
    if a.people[2 * person] == owner:
        for _ in range(entries_of(a, person)):
            forget_oldest(a, person)


@inlined
def is_to_person(a: Any, place: Any) -> Any:
    """Whether the entry at a place is of something done to a person."""
    return a.places[place, STAMP] & KIND_MASK >= RELATIONS


@kernel
def forget_subject(a: Any, place: Any) -> Any:
    """Forget to whom the person of an entry did what they did: it stays, with subject 0."""
    rename_subject(a, place, ZERO)


@kernel
def rename_subject(a: Any, place: Any, subject: Any) -> Any:
    """Make an entry one about another subject; 0: about nothing. No entry is about that subject and of its kind."""
    _drop_slot(a, place)
    a.places[place, SUBJECT] = np.int64(subject)
    index(a, place)


@inlined
def index(a: Any, place: Any) -> Any:
    """Enter a place into the table."""
    code = _code(np.uint64(a.places[place, OWNER]), np.uint64(a.places[place, SUBJECT]))
    mask = a.table.shape[0] - 1
    at = _home(a, code)
    while a.table[at] != ZERO:
        at = (at + 1) & mask
    a.table[at] = (code >> S32 << S32) | np.uint64(place + 1)


@kernel
def add(a: Any, owner: Any, subject: Any, stamp: Any) -> Any:
    """Enter a new entry; a full ring forgets its oldest."""
    place = a.header[POSITION]
    gone = np.uint64(a.places[place, OWNER])
    if gone != ZERO:
        # The oldest entry of all is the oldest of its person.
        forget_oldest(a, find_person(a, gone))
    a.header[POSITION] = place + 1 if place + 1 < a.places.shape[0] else 0
    enter_at(a, place, owner, subject, stamp)


@kernel
def enter_at(a: Any, place: Any, owner: Any, subject: Any, stamp: Any) -> Any:
    """Enter a new entry in an empty place, as its person's newest."""
    a.header[SIZE] += 1
    a.header[ENTERED] += 1
    a.places[place, OWNER], a.places[place, SUBJECT] = np.int64(owner), np.int64(subject)
    a.places[place, STAMP] = stamp
    index(a, place)
    person = find_person(a, owner)
    if a.people[2 * person] == ZERO:
        a.people[2 * person] = owner
        a.people[2 * person + 1] = (np.uint64(place) << S32) | ONE
        a.places[place, LINK] = place
        a.header[PEOPLE] += 1
        return
    packed = a.people[2 * person + 1]
    newest = np.int64(packed >> S32)
    a.places[place, LINK] = a.places[newest, LINK]
    a.places[newest, LINK] = place
    a.people[2 * person + 1] = (np.uint64(place) << S32) | ((packed & LOW_32) + ONE)


@inlined
def _has_room(a: Any, owner: Any, time_ms: Any) -> Any:
    """Whether a person may have one more entry, after an old one of theirs has given way if need be."""
    person = find_person(a, owner)
    if entries_of(a, person) < a.limits[PERSON]:
        return True
    oldest = oldest_of(a, person)
    since_ms = a.header[CLOCK_MS] - a.limits[SPAN_MS]
    if a.places[oldest, STAMP] >> TIME_SHIFT > since_ms or time_ms <= since_ms:
        return False
    forget_oldest(a, person)
    return True


@kernel
def place_of(a: Any, owner: Any, subject: Any, kind: Any) -> Any:
    """The place of the entry of a person, a subject and a kind of act; -1 for none."""
    code = _code(owner, subject)
    mask = a.table.shape[0] - 1
    at = _home(a, code)
    while a.table[at] != ZERO:
        if (a.table[at] ^ code) >> S32 == ZERO:
            place = np.int64(a.table[at] & LOW_32) - 1
            same = np.uint64(a.places[place, OWNER]) == owner and np.uint64(a.places[place, SUBJECT]) == subject
            if same and a.places[place, STAMP] & KIND_MASK == kind:
                return place
        at = (at + 1) & mask
    return NEVER


@kernel
def enter(a: Any, owner: Any, subject: Any, kind: Any, holds: Any, time_ms: Any, group_of: Any) -> Any:
    """Take in an act (``holds``), or its undo.

    ``owner``, ``subject``: uint64, not 0. ``kind``: int64, of the act, below 128. ``group_of``: int64 (128,), by kind:
    kinds of one group count as one act.

    Returns (change, replaced_ms, before_ms, after_ms): a ``Change`` (uint8); when the act was made that now ends or is
    renewed, else -1; the newest act of the group that held before and that holds now, -1 for none.
    """
    header = a.header
    header[CLOCK_MS] = max(header[CLOCK_MS], time_ms)
    code = _code(owner, subject)
    mask = a.table.shape[0] - 1
    group = group_of[kind]
    found, before_ms = NEVER, NEVER
    at = _home(a, code)
    while a.table[at] != ZERO:
        if (a.table[at] ^ code) >> S32 == ZERO:
            place = np.int64(a.table[at] & LOW_32) - 1
            if np.uint64(a.places[place, OWNER]) == owner and np.uint64(a.places[place, SUBJECT]) == subject:
                stamp = a.places[place, STAMP]
                if stamp & KIND_MASK == kind:
                    found = place
                if stamp & HOLDS and (group_of[stamp & KIND_MASK] == group or stamp & KIND_MASK == kind):
                    before_ms = max(before_ms, stamp >> TIME_SHIFT)
        at = (at + 1) & mask
    stamp = (time_ms << TIME_SHIFT) | (HOLDS if holds else np.int64(0)) | kind
    if found < 0:
        if not _has_room(a, owner, time_ms):
            header[OVER_SHARE] += 1
            return UNCOUNTED, NEVER, before_ms, before_ms
        add(a, owner, subject, stamp)
        if not holds:
            return NOTHING, NEVER, before_ms, before_ms
        return BEGINS, NEVER, before_ms, max(before_ms, time_ms)
    held_ms, held = a.places[found, STAMP] >> TIME_SHIFT, a.places[found, STAMP] & HOLDS != 0
    if time_ms < held_ms:
        header[STALE] += 1
        return NOTHING, NEVER, before_ms, before_ms
    a.places[found, STAMP] = stamp
    if held == holds:
        header[REPEATED] += 1
        if not holds or time_ms == held_ms:
            return NOTHING, NEVER, before_ms, before_ms
        return RENEWED, held_ms, before_ms, max(before_ms, time_ms)
    if holds:
        return BEGINS, NEVER, before_ms, max(before_ms, time_ms)
    # Only kinds that are a group of their own can be undone.
    return ENDS, held_ms, before_ms, NEVER


@kernel
def copy_entries(target: Any, source: Any) -> Any:
    """Enter the entries of smaller arrays, the oldest first."""
    size = source.places.shape[0]
    for i in range(size):
        place = (source.header[POSITION] + i) % size
        if source.places[place, OWNER] != 0:
            owner, subject = np.uint64(source.places[place, OWNER]), np.uint64(source.places[place, SUBJECT])
            add(target, owner, subject, source.places[place, STAMP])


def grow(target: Acts, source: Acts) -> None:
    """Fill the empty ``target``, whose arrays are at least as large."""
    copy_entries(target, source)
    target.header[CLOCK_MS:] = source.header[CLOCK_MS:]


@kernel
def newest_ms(a: Any, owner: Any, subject: Any, group: Any, group_of: Any) -> Any:
    """When a person's newest act of a group on a subject was made that holds; -1 for none."""
    code = _code(owner, subject)
    mask = a.table.shape[0] - 1
    found_ms = NEVER
    at = _home(a, code)
    while a.table[at] != ZERO:
        if (a.table[at] ^ code) >> S32 == ZERO:
            place = np.int64(a.table[at] & LOW_32) - 1
            if np.uint64(a.places[place, OWNER]) == owner and np.uint64(a.places[place, SUBJECT]) == subject:
                stamp = a.places[place, STAMP]
                if stamp & HOLDS and group_of[stamp & KIND_MASK] == group:
                    found_ms = max(found_ms, stamp >> TIME_SHIFT)
        at = (at + 1) & mask
    return found_ms
