"""The invariants of real_graph, in plain Python (slow)."""

import numpy as np

from engine.errors import InvariantError
from engine.kernels.id_map import SIZE
from engine.real_graph import arrays as a


def _require(truth: object, message: str) -> None:
    if not truth:
        raise InvariantError(f"real_graph: {message}")


def check(t: a.Ties) -> None:
    """Verify people, pairs, features, table and order against each other.

    Raises:
        InvariantError: the first thing found that must not be.
    """
    held = np.flatnonzero(t.destinations).tolist()
    _require(t.header[a.PAIRS] == len(held), f"{t.header[a.PAIRS]} pairs counted, {len(held)} there")
    _require(sorted(t.table[t.table != 0].tolist()) == [pair + 1 for pair in held], "the table has other pairs")
    listed: list[int] = []
    for u, key in enumerate(t.ids.keys.tolist()):
        if not key:
            _require(not t.people[u].any(), f"person {u}: unused but not zero")
            continue
        own, pair = 0, int(t.people[u, a.FIRST_PAIR]) - 1
        while pair >= 0:
            own += 1
            _require(own <= len(t.pairs) and t.pairs[pair, a.SOURCE] == u, f"pair {pair} is not of person {u}")
            _require(t.destinations[pair] != t.ids.keys[u], f"person {u} is a pair with itself")
            found = a.find_pair(t, np.int64(u), t.destinations[pair])
            _require(found == pair, f"pair {pair} cannot be found")
            listed.append(pair)
            pair = int(t.pairs[pair, a.NEXT]) - 1
        _require(0 < own == t.people[u, a.PAIRS_OF] <= t.limits[0], f"person {u}: {own} pairs")
    _require(sorted(listed) == held, "a pair is in no chain, or in two")
    _check_pool(t.pairs[:, a.NEXT], t.header[a.PAIRS_FREE], t.header[a.PAIRS_HIGH], held, "pairs")
    _check_features(t, held)
    _check_order(t)


def _check_features(t: a.Ties, held: list[int]) -> None:
    used: list[int] = []
    for pair in held:
        before = -1
        f = int(t.pairs[pair, a.FEATURE]) - 1
        _require(f >= 0 or t.statuses[pair, a.FLAGS], f"pair {pair}: nothing in it")
        while f >= 0:
            used.append(f)
            code = int(t.feature_days[f, a.CODE])
            _require(before < code < a.FEATURES, f"pair {pair}: kinds are not in order")
            before = code
            _check_days(t, f)
            f = int(t.feature_next[f]) - 1
    _require(t.header[a.FEATURES_USED] == len(used), f"{len(used)} features in pairs")
    _check_pool(t.feature_next, t.header[a.FEATURES_FREE], t.header[a.FEATURES_HIGH], sorted(used), "features")


def _check_days(t: a.Ties, f: int) -> None:
    _, closed, first, newest, day_0, day_1 = t.feature_days[f].tolist()
    sums = t.feature_sums[f]
    _require(np.isfinite(sums).all() and (sums >= 0).all(), f"feature {f}: a sum is no number from 0 on")
    _require(closed or day_0, f"feature {f}: no day")
    _require((closed > 0) == (newest > 0), f"feature {f}: {closed} closed days, the newest {newest}")
    _require(day_0 > max(day_1, newest) or day_0 == 0, f"feature {f}: days {day_0} {day_1} {newest} out of order")
    _require(day_1 == 0 or day_1 > newest, f"feature {f}: an open day before a closed one")
    _require(first <= min(day for day in (newest, day_0, day_1) if day), f"feature {f}: first day {first}")
    _require((day_0 > 0) == (sums[a.TOTAL_0] > 0), f"feature {f}: total of {day_0}")
    _require((day_1 > 0) == (sums[a.TOTAL_1] > 0), f"feature {f}: total of {day_1}")
    marks = sum((int(t.feature_marks[f]) >> 2 * k) & 3 > 0 for k in range(32))
    _require(marks <= closed, f"feature {f}: {marks} days marked, {closed} closed")


def _check_pool(links: np.ndarray, free: int, high: int, used: list[int], name: str) -> None:
    """Free entries and used ones are all that were ever given out."""
    chain, at = [], int(free) - 1
    while at >= 0:
        chain.append(at)
        _require(len(chain) <= len(links), f"the free {name} have a cycle")
        at = int(links[at]) - 1
    _require(sorted(chain + used) == list(range(int(high))), f"free and used {name} are not all {name}")


def _check_order(t: a.Ties) -> None:
    people, at, before = 0, int(t.header[a.NEWEST]), 0
    while at:
        _require(t.people[at - 1, a.NEWER] == before, f"person {at - 1}: out of order")
        people, before, at = people + 1, at, int(t.people[at - 1, a.OLDER])
        _require(people <= len(t.people), "the order of people has a cycle")
    _require(before == t.header[a.OLDEST] and people == t.ids.header[SIZE], f"{people} people in order")
