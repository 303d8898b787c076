"""Checks the social graph's invariants, in plain Python (slow)."""

from collections import Counter

import numpy as np

from engine.errors import InvariantError
from engine.social_graph import arrays as s


def _require(truth: object, message: str) -> None:
    if not truth:
        raise InvariantError(f"social_graph: {message}")


def check(graph: s.Graph) -> None:
    """Verify the arrays against each other.

    Raises:
        InvariantError: names the first invariant that does not hold.
    """
    follows, incident = _check_edges(graph)
    spans = _free_spans(graph)
    degrees = {0: Counter(source for source, _ in follows), 5: Counter(target for _, target in follows)}
    used = 0
    for user in range(len(graph.users)):
        record = graph.users[user].tolist()
        known = graph.ids.keys[user] != 0
        _require(known == (incident[user] > 0), f"user {user}: mapped without edges, or not mapped with edges")
        _require(record[s.INCIDENT] == incident[user], f"user {user}: incident count {record[s.INCIDENT]}")
        _require(known or not any(record), f"user {user}: unused but not zero")
        for at in (0, int(s.FOLLOWERS_AT)):
            _check_list(graph, user, at, follows)
            _require(
                record[at + s.LIVE] == degrees[at][user], f"user {user}: {degrees[at][user]} edges, not in the list"
            )
            if record[at + s.CLASS]:
                size = s.SLICE_MIN << (record[at + s.CLASS] - 1)
                spans.append((record[at + s.START], size))
                used += size
    _require(used == graph.header[s.ARENA_USED], f"arena: {used} entries in slices")
    _require(len(follows) == graph.header[s.FOLLOWS_NOW], f"{len(follows)} follow edges")
    end = 0
    for start, size in sorted(spans):
        _require(start == end, f"arena: slice at {start} after {end}")
        end = start + size
    _require(end == graph.header[s.ARENA_TOP], f"arena: slices end at {end}")


def _check_edges(graph: s.Graph) -> tuple[dict[tuple[int, int], tuple[int, int]], Counter[int]]:
    """Follow edges with their sequences, and how many edges name each user."""
    follows: dict[tuple[int, int], tuple[int, int]] = {}
    incident: Counter[int] = Counter()
    used = np.flatnonzero(graph.edges)
    _require(len(used) == graph.header[s.EDGES], f"{len(used)} edges in the table")
    for at in used.tolist():
        slot = int(graph.edges[at])
        pair, flags = slot >> 3, slot & 7
        source, target = pair >> 28, pair & ((1 << 28) - 1)
        _require(flags and source != target, f"edge {source}→{target} without flags or to itself")
        _require(s.find_edge(graph, source, target) == at, f"edge {source}→{target} cannot be found")
        incident.update((source, target))
        sequences = (int(graph.sequences[at, 0]), int(graph.sequences[at, 1]))
        if flags & s.FOLLOW:
            follows[source, target] = sequences
        else:
            _require(sequences == (0, 0), f"edge {source}→{target} is no follow but has a sequence")
    _require(not graph.sequences[graph.edges == 0].any(), "an empty table slot has a sequence")
    return follows, incident


def _check_list(graph: s.Graph, user: int, at: int, follows: dict[tuple[int, int], tuple[int, int]]) -> None:
    """Check that one list's entries and marks are in order of sequence, and its live entries are the user's edges."""
    start, size_class, entries, live, following = graph.users[user, at : at + 5].tolist()
    room = s.SLICE_MIN << (size_class - 1) if size_class else 0
    _require(live <= entries <= room and (live > 0) == (size_class > 0), f"user {user}: list of {entries} in {room}")
    last, found = -1, 0
    for entry in graph.arena[start : start + entries].tolist():
        sequence = -1 - entry
        if entry >= 0:
            pair = (user, entry) if at == 0 else (entry, user)
            _require(pair in follows, f"user {user}: a list names {entry} without an edge")
            sequence = follows[pair][0 if at == 0 else 1]
            found += 1
        _require(last < sequence < following, f"user {user}: sequence {sequence} after {last}")
        last = sequence
    _require(found == live, f"user {user}: {found} live entries of {live}")


def _free_spans(graph: s.Graph) -> list[tuple[int, int]]:
    """Start and size of every free slice."""
    spans: list[tuple[int, int]] = []
    for size_class in range(s.CLASSES):
        start = int(graph.free[size_class]) - 1
        while start >= 0:
            spans.append((start, s.SLICE_MIN << size_class))
            _require(len(spans) <= len(graph.arena), "the free lists have a cycle")
            start = int(graph.arena[start]) - 1
    return spans
