"""Checks the invariants of suggestions, in plain Python (slow)."""

import numpy as np

from engine.errors import InvariantError
from engine.kernels.entry_pool import entries_listed
from engine.suggestions import arrays as a


def _require(truth: object, message: str) -> None:
    if not truth:
        raise InvariantError(f"suggestions: {message}")


def check(s: a.Suggested) -> None:
    """Verify the arrays against each other.

    Raises:
        InvariantError: names the first invariant that does not hold.
    """
    seen: set[int] = set()
    for viewer in np.flatnonzero(s.ids.keys).tolist():
        first, entries = s.viewers[viewer].tolist()
        listed = entries_listed(s.entries, first, seen)
        _require(0 < entries == len(listed), f"viewer {viewer} has {len(listed)} entries, counted {entries}")
        _require(entries <= s.limits[a.ENTRIES_EACH], f"viewer {viewer} has {entries} entries")
        people = s.entries[listed, a.PERSON]
        _require(len(set(people.tolist())) == len(listed) and people.all(), f"viewer {viewer} has a person twice")
        _require((s.entries[listed, a.VIEWER] == viewer + 1).all(), "an entry is in another viewer's list")
    _require(len(seen) == s.header[a.IN_USE], f"{len(seen)} entries are listed, {s.header[a.IN_USE]} in use")
    free = entries_listed(s.entries, int(s.header[a.FREE]), seen)
    _require(len(seen) == s.header[a.USED], f"{len(seen)} entries are listed or free, {s.header[a.USED]} were used")
    _require(not s.entries[free][:, : a.NEXT].any(), "a free entry is not clear")
    _require(not s.viewers[s.ids.keys == 0].any(), "an unused viewer is not clear")
    _require(not s.entries[int(s.header[a.USED]) :].any(), "an entry that was never used is not clear")
