"""What two people's circles have in common: how many neighbors of each kind; and who of some people follows whom."""

from typing import Any

import numpy as np

from engine.kernels.id_map import find
from engine.kernels.jit import inlined, kernel
from engine.kernels.rng import mix64
from engine.social_graph.arrays import ENTRIES, FOLLOW, FOLLOWERS_AT, LIVE, START, edge_flags

#: Of an author with more followers than this it is asked whether each of the first ``EDGES_ASKED`` people follows.
FOLLOWERS_SCANNED = np.int64(512)
EDGES_ASKED = np.int64(128)


@inlined
def _slot_of(ids: Any, marks: Any, person_id: Any) -> Any:
    """Where a table has a person, or the empty place where the person belongs."""
    mask = ids.shape[0] - 1
    at = np.int64(mix64(person_id) & np.uint64(mask))
    while marks[at] != 0 and ids[at] != person_id:
        at = (at + 1) & mask
    return at


@kernel
def intersect(left: Any, left_ends: Any, right: Any, right_ends: Any, table: Any, counts: Any) -> None:
    """Count the people that each list of one person shares with each list of many candidates.

    ``left``, ``right``: uint64, lists end to end, each without repeats; ``left_ends``: int64 (l), at most 3 lists;
    ``right_ends``: int64 (n · r), r lists of each candidate. ``table``: scratch, ids uint64 (t) and marks uint8 (t),
    with t a power of two at least twice as long as ``left``, and int64 (8). ``counts``: int32 (n, l, r).
    """
    ids, marks, tally = table
    marks[:] = 0
    begin = np.int64(0)
    for which in range(left_ends.shape[0]):
        for at in range(begin, left_ends[which]):
            slot = _slot_of(ids, marks, left[at])
            ids[slot] = left[at]
            marks[slot] |= np.uint8(1 << which)
        begin = left_ends[which]
    begin = np.int64(0)
    for which in range(right_ends.shape[0]):
        tally[:] = 0
        for at in range(begin, right_ends[which]):
            tally[marks[_slot_of(ids, marks, right[at])]] += 1
        begin = right_ends[which]
        candidate, column = which // counts.shape[2], which % counts.shape[2]
        for row in range(counts.shape[1]):
            shared = np.int64(0)
            for mark in range(8):
                shared += tally[mark] if mark >> row & 1 else 0
            counts[candidate, row, column] = shared


@kernel
def followed_by(g: Any, people_ids: Any, author_ids: Any, table: Any, out: Any, counts: Any) -> None:
    """Name the first of some people who follow each author.

    ``people_ids``: uint64 (k), in the order in which they are to be named. ``author_ids``: uint64 (n), 0 is nobody.
    ``table``: scratch, indices int64 (t) and places int32 (t), with t a power of two at least 2 · k, and int64 (m).
    ``out``: uint64 (n, m), the first m of those found. ``counts``: int32 (n), how many of them there are. Of authors
    with more than ``FOLLOWERS_SCANNED`` followers, only the first ``EDGES_ASKED`` people are looked for.
    """
    indices, places, found = table
    mask = places.shape[0] - 1
    places[:] = 0
    for place in range(people_ids.shape[0]):
        index = np.int64(find(g.ids, people_ids[place]))
        if index < 0:
            continue
        at = np.int64(mix64(np.uint64(index)) & np.uint64(mask))
        while places[at] != 0 and indices[at] != index:
            at = (at + 1) & mask
        if places[at] == 0:
            indices[at], places[at] = index, place + 1
    for i in range(author_ids.shape[0]):
        counts[i] = 0
        author = np.int64(find(g.ids, author_ids[i]))
        if author < 0 or people_ids.shape[0] == 0:
            continue
        many = g.users[author, FOLLOWERS_AT + LIVE] > FOLLOWERS_SCANNED
        if many:
            for place in range(min(EDGES_ASKED, people_ids.shape[0])):
                index = np.int64(find(g.ids, people_ids[place]))
                if index >= 0 and edge_flags(g, index, author) & FOLLOW:
                    _keep(found, counts, i, np.int64(place))
        else:
            start = np.int64(g.users[author, FOLLOWERS_AT + START])
            for entry in range(start, start + g.users[author, FOLLOWERS_AT + ENTRIES]):
                index = np.int64(g.arena[entry])
                if index < 0:
                    continue
                at = np.int64(mix64(np.uint64(index)) & np.uint64(mask))
                while places[at] != 0 and indices[at] != index:
                    at = (at + 1) & mask
                if places[at] != 0:
                    _keep(found, counts, i, np.int64(places[at]) - 1)
        for j in range(min(np.int64(counts[i]), out.shape[1])):
            out[i, j] = people_ids[found[j]]


@inlined
def _keep(found: Any, counts: Any, i: Any, place: Any) -> None:
    """Count a place, and keep it if it is among the smallest, which ``found`` has in ascending order."""
    held = min(np.int64(counts[i]), found.shape[0])
    counts[i] += 1
    if held == found.shape[0]:
        if place >= found[held - 1]:
            return
        held -= 1
    at = held
    while at > 0 and found[at - 1] > place:
        found[at] = found[at - 1]
        at -= 1
    found[at] = place


def warm_on(g: Any) -> None:
    """Compile the kernels on the given (tiny) arrays."""
    ids, ends = np.ones(1, np.uint64), np.ones(1, np.int64)
    counts, table = (
        np.zeros((1, 1, 1), np.int32),
        (np.zeros(2, np.uint64), np.zeros(2, np.uint8), np.zeros(8, np.int64)),
    )
    intersect(ids, ends, ids, ends, table, counts)
    places = (np.zeros(2, np.int64), np.zeros(2, np.int32), np.zeros(1, np.int64))
    followed_by(g, ids, ids, places, np.zeros((1, 1), np.uint64), np.zeros(1, np.int32))
