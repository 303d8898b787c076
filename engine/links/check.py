"""The invariants of links (slow: tests and the debug flag)."""

import numpy as np

from engine.errors import InvariantError
from engine.kernels.id_map import SIZE, lookup
from engine.links import arrays as a


def check(s: a.Links) -> None:
    """Verify lists, table, counts and people against each other.

    Raises:
        InvariantError: state that must not exist.
    """
    toward: dict[int, int] = {}
    mine: dict[int, int] = {}
    for person in np.flatnonzero(s.ids.keys).tolist():
        for which in range(a.LISTS):
            found = _walk(s, person, which)
            for link in found:
                held = mine if which <= a.MY_UNDONE else toward
                _require(link not in held, f"link {link} is in two lists")
                held[link] = which
            if which <= a.MY_UNDONE:
                _require(
                    s.people[person, a.CONTACTS + which] == len(found), f"person {person}: list {which} is counted"
                )
            if which == a.MY_UNDONE:
                last = int(s.people[person, a.FIRST_UNDONE])
                _require(last == (found[-1] + 1 if found else 0), f"person {person}: first undone")
        _require(any(s.people[person, : a.LISTS]), f"person {person} has no link")
    _require(mine.keys() == toward.keys(), "links stand in one list only")
    _require(len(mine) == s.header[a.LINKS], f"{len(mine)} links, not {s.header[a.LINKS]}")
    for link, which in mine.items():
        traits = int(s.links[link, a.TRAITS])
        _require(int(a.list_of(traits)) == which and int(a.list_toward(traits)) == toward[link], f"link {link}: lists")
        owner, other = int(s.links[link, a.OWNER]), int(s.links[link, a.OTHER])
        _require(int(a.find_link(s, owner, other, traits >> 1)) == link, f"link {link} is not found")
    _require(int(np.count_nonzero(s.table)) == len(mine), "the table has other links")
    _require(int(s.ids.header[SIZE]) == int(np.count_nonzero(s.ids.keys)), "people")
    free, at = set[int](), int(s.header[a.FREE])
    while at:
        _require(at - 1 not in free and at - 1 not in mine, f"free link {at - 1}")
        free.add(at - 1)
        at = int(s.links[at - 1, a.OWNER])
    _require(len(free) + len(mine) == s.header[a.HIGH], "links that are neither free nor used")
    for person_id in s.ids.keys[s.ids.keys != 0].tolist():
        _require(lookup(s.ids, person_id) >= 0, f"{person_id} is not found")


def _walk(s: a.Links, person: int, which: int) -> list[int]:
    mine = which <= a.MY_UNDONE
    owner, after, before = (a.OWNER, a.NEXT, a.BEFORE) if mine else (a.OTHER, a.NEXT_TOWARD, a.BEFORE_TOWARD)
    found: list[int] = []
    link = int(s.people[person, which])
    while link:
        _require(len(found) <= len(s.links) and s.links[link - 1, owner] == person, f"list {which} of {person}")
        _require(s.links[link - 1, before] == (found[-1] + 1 if found else 0), f"list {which} of {person}: backward")
        found.append(link - 1)
        link = int(s.links[link - 1, after])
    return found


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise InvariantError(f"links: {what}")
