"""Checks the social graph's invariants, in plain Python (slow)."""

from collections import Counter

import numpy as np

from engine.errors import InvariantError
from engine.social_graph import acts as a
from engine.social_graph import arrays as s


def _require(truth: object, message: str) -> None:
    if not truth:
        raise InvariantError(f"social_graph: {message}")


def check(graph: s.Graph) -> None:
    """Verify the arrays against each other.

    Raises:
        InvariantError: names the first invariant that does not hold.
    """
    follows, incident, restrictions = _check_edges(graph)
    _check_acts(graph, restrictions, incident)
    spans = _free_spans(graph)
    degrees = {0: Counter(source for source, _ in follows), 5: Counter(target for _, target in follows)}
    in_force = Counter((source, flag) for source, _, flag in restrictions)
    used = 0
    for user in range(len(graph.users)):
        record = graph.users[user].tolist()
        known = graph.ids.keys[user] != 0
        _require(known == (incident[user] > 0), f"user {user}: mapped without edges or acts, or not mapped with them")
        _require(record[s.INCIDENT] == incident[user], f"user {user}: incident count {record[s.INCIDENT]}")
        _require(known or not any(record), f"user {user}: unused but not zero")
        counts = (record[s.BLOCKING], record[s.MUTING])
        _require(
            counts == (in_force[user, int(s.BLOCK)], in_force[user, int(s.MUTE)]),
            f"user {user}: blocks, mutes {counts}",
        )
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


def _check_edges(
    graph: s.Graph,
) -> tuple[dict[tuple[int, int], tuple[int, int]], Counter[int], set[tuple[int, int, int]]]:
    """Follow edges with their sequences, how many edges name each user, and the blocks and mutes in force."""
    restrictions: set[tuple[int, int, int]] = set()
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
            _require(graph.follow_moment[at] == 0, f"edge {source}→{target} is no follow but has its time")
        restrictions |= {(source, target, int(flag)) for flag in (s.BLOCK, s.MUTE) if flags & flag}
    _require(not graph.sequences[graph.edges == 0].any(), "an empty table slot has a sequence")
    _require(not graph.follow_moment[graph.edges == 0].any(), "an empty table slot has a time")
    return follows, incident, restrictions


def _check_acts(graph: s.Graph, restrictions: set[tuple[int, int, int]], incident: Counter[int]) -> None:
    """Check rows, table and both lists of acts; adds to ``incident`` how many rows name each user."""
    acts, header = graph.acts, graph.header
    rows = np.flatnonzero(acts.keys).tolist()
    _require(np.count_nonzero(acts.table) == len(rows), f"{len(rows)} acts, not in the table")
    free, row = 0, int(header[s.ACTS_FREE]) - 1
    while row >= 0:
        free += 1
        _require(free <= len(acts.keys) and acts.keys[row] == 0, "the free acts are in use, or have a cycle")
        row = int(acts.links[row, a.OLDER]) - 1
    _require(free + len(rows) == header[s.ACTS_TOP], f"{free} free acts and {len(rows)} in use")
    held: set[tuple[int, int, int]] = set()
    undone: list[int] = []
    for row in rows:
        source, target, flag = int(a.source_of(graph, row)), int(a.target_of(graph, row)), int(a.flag_of(graph, row))
        _require(a.find_act(graph, source, target, flag) == row, f"act {row} cannot be found")
        incident.update((source, target))
        on, first_off, last_off = acts.moments[row].tolist()
        if flag != s.FOLLOW and on >= last_off:
            held.add((source, target, flag))
            _require(not acts.links[row].any(), f"act {row} is in force and among the undone ones")
        else:
            undone.append(row)
            _require(flag == s.FOLLOW or on < first_off <= last_off, f"act {row}: times {on} {first_off} {last_off}")
    _require(held == restrictions, f"blocks and mutes in force: {held ^ restrictions}")
    _require(header[s.RESTRICTIONS] == len(held), f"{len(held)} blocks and mutes")
    listed = _chain(graph, int(header[s.UNDONE_OLDEST]), int(header[s.UNDONE_NEWEST]), a.OLDER, a.NEWER)
    _require(sorted(listed) == undone, "the undone acts are not those of the list")
    _require(header[s.UNDONE_NOW] == len(undone) <= graph.limits[s.UNDONE_MAX], f"{len(undone)} undone acts")
    by_person: dict[int, list[int]] = {}
    for row in listed:
        by_person.setdefault(int(a.source_of(graph, row)), []).append(row)
    for user, record in enumerate(graph.users[:, s.UNDONE : s.UNDONE_LAST + 1].tolist()):
        count, first, last = record
        own = by_person.get(user, [])
        _require(_chain(graph, first, last, a.OWN_OLDER, a.OWN_NEWER) == own, f"user {user}: list of undone acts")
        _require(count == len(own) <= graph.limits[s.UNDONE_EACH], f"user {user}: {len(own)} undone acts")


def _chain(graph: s.Graph, first: int, last: int, older: int, newer: int) -> list[int]:
    """The rows of a doubly linked list, oldest first."""
    rows: list[int] = []
    while first > 0:
        row = first - 1
        _require(len(rows) < len(graph.acts.keys), "a list of acts has a cycle")
        _require(
            graph.acts.links[row, older] == (rows[-1] + 1 if rows else 0), f"act {row} does not name the one before"
        )
        rows.append(row)
        first = int(graph.acts.links[row, newer])
    _require(last == (rows[-1] + 1 if rows else 0), "a list of acts has another end")
    return rows


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
