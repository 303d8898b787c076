"""Checks the invariants of muted words, in plain Python (slow)."""

import numpy as np

from engine.errors import InvariantError
from engine.kernels.entry_pool import entries_listed
from engine.muted_words import arrays as w


def _require(truth: object, message: str) -> None:
    if not truth:
        raise InvariantError(f"muted_words: {message}")


def check(s: w.Words) -> None:
    """Verify the arrays against each other.

    Raises:
        InvariantError: names the first invariant that does not hold.
    """
    seen: set[int] = set()
    lost = 0
    for person in np.flatnonzero(s.ids.keys).tolist():
        first, entries, muted, unkept = s.people[person].tolist()
        listed = entries_listed(s.entries, first, seen)
        _require(entries == len(listed), f"person {person} has {len(listed)} entries, counted {entries}")
        _require(entries or unkept, f"person {person} has nothing here")
        lost += unkept
        _require(entries <= s.limits[0], f"person {person} has {entries} entries")
        _require(
            muted == sum(bool(s.entries[at, w.TRAITS] & w.IS_MUTED) for at in listed), "muted words are miscounted"
        )
        words = {(int(s.entries[at, w.PHRASE]), int(s.entries[at, w.TRAITS]) & ~w.IS_MUTED) for at in listed}
        _require(len(words) == len(listed), f"person {person} has a word twice")
        _require(all(s.entries[at, w.TRAITS] & w.SIZE_BITS for at in listed), "an entry has no words")
    _require(len(seen) == s.header[w.IN_USE], f"{len(seen)} entries are listed, {s.header[w.IN_USE]} in use")
    _require(lost == s.header[w.UNKEPT_PEOPLE], "people whose mutes found no room are miscounted")
    free = entries_listed(s.entries, int(s.header[w.FREE]), seen)
    _require(len(seen) == s.header[w.USED], f"{len(seen)} entries are listed or free, {s.header[w.USED]} were used")
    cleared = s.entries[free][:, : w.NEXT]
    _require(not cleared.any(), "a free entry is not clear")
    _require(not s.people[s.ids.keys == 0].any(), "an unused person is not clear")
    _require(not s.entries[int(s.header[w.USED]) :].any(), "an entry that was never used is not clear")
