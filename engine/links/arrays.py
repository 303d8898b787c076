"""The arrays of links between people, and the lists and the table that hold them together.

A link says that somebody (the owner) has somebody else in the address book, or mutes their retweets; or that the owner
took this back, which is remembered in case that an older act comes later. Every link is in one list of its owner and in
one of the other person, and the table finds it by owner, other and kind.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.kernels.erasing import make_queue
from engine.kernels.id_map import IdMap, make_id_map, table_size
from engine.kernels.jit import inlined, kernel
from engine.kernels.rng import mix64

#: Kinds of links.
CONTACT, RETWEETS_MUTED = 0, 1
#: Columns of ``Links.people``: first links (+ 1) of the lists, the newest first: contacts of the person, people whose
#: retweets the person mutes, what the person took back; then who has the person in the address book, and all other
#: links to the person. Then what the person took back first (+ 1), and how many links of the first three lists.
MY_CONTACTS, MY_MUTES, MY_UNDONE, HAVE_ME, TOWARD_ME, FIRST_UNDONE, CONTACTS, MUTES, UNDONE = range(9)
PEOPLE_COLUMNS = 9
LISTS = 5
#: Columns of ``Links.links``: owner, other, kind · 2 + holds; neighbors (+ 1) in the owner's list and in the other's.
OWNER, OTHER, TRAITS, NEXT, BEFORE, NEXT_TOWARD, BEFORE_TOWARD = range(7)
LINK_COLUMNS = 7

#: Indices of ``Links.header``: the first free link + 1, links ever used, links now; counters.
FREE, HIGH, LINKS, ADDED, ENDED, RENEWED, LATE, FORGOTTEN, REFUSED_MANY, REFUSED_FULL, UNDONE_DROPPED = range(11)
HEADER_SIZE = 12
#: Indices of ``Links.limits``: what one person may have.
CONTACTS_EACH, MUTES_EACH, UNDONE_EACH = range(3)

_ONE = np.uint64(1)


class Links(NamedTuple):
    """All arrays of the room.

    ``ids``: people to indices. ``people``: int32 (people, 9). ``links``: int32 (links, 7), ``times_ms``: int64 (links),
    when the owner did it or took it back. ``table``: int32, link + 1, 0 empty. ``erasing``: uint64, whose links are
    still to be removed (engine/kernels/erasing.py). ``header``: int64. ``limits``: int64 (3), not state.
    """

    ids: IdMap
    people: NDArray[np.int32]
    links: NDArray[np.int32]
    times_ms: NDArray[np.int64]
    table: NDArray[np.int32]
    erasing: NDArray[np.uint64]
    header: NDArray[np.int64]
    limits: NDArray[np.int64]


def make_links(people_max: int, links_max: int, limits: tuple[int, int, int]) -> Links:
    """Empty arrays."""
    return Links(
        ids=make_id_map(people_max),
        people=np.zeros((people_max, PEOPLE_COLUMNS), np.int32),
        links=np.zeros((links_max, LINK_COLUMNS), np.int32),
        times_ms=np.zeros(links_max, np.int64),
        table=np.zeros(table_size(links_max), np.int32),
        erasing=make_queue(),
        header=np.zeros(HEADER_SIZE, np.int64),
        limits=np.array(limits, np.int64),
    )


@inlined
def _home(s: Any, owner: Any, other: Any, kind: Any) -> Any:
    """The slot where a search for a link starts."""
    key = (np.uint64(owner) << np.uint64(33)) | (np.uint64(other) << _ONE) | np.uint64(kind)
    return np.int64(mix64(key) & np.uint64(s.table.shape[0] - 1))


@inlined
def home_of(s: Any, link: Any) -> Any:
    """The slot where a search for this link starts."""
    return _home(s, s.links[link, OWNER], s.links[link, OTHER], s.links[link, TRAITS] >> 1)


@inlined
def find_link(s: Any, owner: Any, other: Any, kind: Any) -> Any:
    """The link of a kind between two people (indices), -1 if there is none."""
    at, mask = _home(s, owner, other, kind), s.table.shape[0] - 1
    while s.table[at] != 0:
        link = np.int64(s.table[at]) - 1
        same = s.links[link, OWNER] == owner and s.links[link, OTHER] == other
        if same and s.links[link, TRAITS] >> 1 == kind:
            return link
        at = (at + 1) & mask
    return np.int64(-1)


@inlined
def list_of(traits: Any) -> Any:
    """The owner's list in which a link with these traits stands."""
    if traits & 1 == 0:
        return MY_UNDONE
    return MY_CONTACTS if traits >> 1 == CONTACT else MY_MUTES


@inlined
def list_toward(traits: Any) -> Any:
    """The other person's list in which a link with these traits stands."""
    return HAVE_ME if traits == 2 * CONTACT + 1 else TOWARD_ME


@kernel
def enter_lists(s: Any, link: Any) -> None:
    """Put a link at the newest end of its two lists, and count it."""
    owner, other, traits = (
        np.int64(s.links[link, OWNER]),
        np.int64(s.links[link, OTHER]),
        np.int64(s.links[link, TRAITS]),
    )
    mine, toward = list_of(traits), list_toward(traits)
    first = np.int64(s.people[owner, mine])
    s.links[link, NEXT], s.links[link, BEFORE] = first, 0
    if first > 0:
        s.links[first - 1, BEFORE] = link + 1
    elif mine == MY_UNDONE:
        s.people[owner, FIRST_UNDONE] = link + 1
    s.people[owner, mine] = link + 1
    s.people[owner, CONTACTS + mine] += 1
    first = np.int64(s.people[other, toward])
    s.links[link, NEXT_TOWARD], s.links[link, BEFORE_TOWARD] = first, 0
    if first > 0:
        s.links[first - 1, BEFORE_TOWARD] = link + 1
    s.people[other, toward] = link + 1


@kernel
def leave_lists(s: Any, link: Any) -> None:
    """Take a link out of its two lists."""
    owner, other, traits = (
        np.int64(s.links[link, OWNER]),
        np.int64(s.links[link, OTHER]),
        np.int64(s.links[link, TRAITS]),
    )
    mine, toward = list_of(traits), list_toward(traits)
    after, before = np.int64(s.links[link, NEXT]), np.int64(s.links[link, BEFORE])
    if before > 0:
        s.links[before - 1, NEXT] = after
    else:
        s.people[owner, mine] = after
    if after > 0:
        s.links[after - 1, BEFORE] = before
    elif mine == MY_UNDONE:
        s.people[owner, FIRST_UNDONE] = before
    s.people[owner, CONTACTS + mine] -= 1
    after, before = np.int64(s.links[link, NEXT_TOWARD]), np.int64(s.links[link, BEFORE_TOWARD])
    if before > 0:
        s.links[before - 1, NEXT_TOWARD] = after
    else:
        s.people[other, toward] = after
    if after > 0:
        s.links[after - 1, BEFORE_TOWARD] = before
