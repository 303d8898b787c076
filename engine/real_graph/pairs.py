"""Makes and forgets people, pairs and features: pools, the table of pairs, and the order of people's activity."""

from typing import Any

import numpy as np

from engine.kernels import recency
from engine.kernels.id_map import find, find_or_add, remove
from engine.kernels.jit import inlined, kernel
from engine.kernels.top_k import top_k
from engine.real_graph import daily
from engine.real_graph.arrays import (
    CODE,
    DROPPED_FULL,
    EVICTED_PAIRS,
    EVICTED_PEOPLE,
    FEATURE,
    FEATURES_FREE,
    FEATURES_HIGH,
    FEATURES_USED,
    FIRST_PAIR,
    FLAGS,
    NEWER,
    NEWEST,
    NEXT,
    OLDEST,
    PAIRS,
    PAIRS_FREE,
    PAIRS_HIGH,
    PAIRS_OF,
    SOURCE,
    UNFOLLOW_DAY,
    UNFOLLOWED_DAYS,
    Feature,
    Status,
    find_feature,
    find_pair,
    home_of,
)

_ZERO, _LOW_OF_PAIRS = np.uint64(0), np.uint64(0x5555555555555555)
_INSPECTED, _DWELL_S = int(Feature.INSPECTED), int(Feature.DWELL_S)
_UNFOLLOWED = int(Status.UNFOLLOWED)
#: When a person has as many pairs as one may have, this share of them is forgotten, the weakest first.
FORGOTTEN_SHARE = 8
#: Days that the strength of a pair for eviction looks back.
_RECENT_DAYS = daily.MARKED_DAYS - 2


# --- order of activity ------------------------------------------------------------------------------------------


@inlined
def touch(t: Any, u: Any) -> None:
    """This person acted last."""
    recency.touch(t.people, NEWER, t.header, NEWEST, u)


# --- features ---------------------------------------------------------------------------------------------------


@kernel
def _free_features(t: Any, pair: Any) -> None:
    """Give all features of a pair back."""
    f = np.int64(t.pairs[pair, FEATURE]) - 1
    while f >= 0:
        following = np.int64(t.feature_next[f]) - 1
        daily.start(t, f, 0, 0)
        t.feature_next[f] = t.header[FEATURES_FREE]
        t.header[FEATURES_FREE] = f + 1
        t.header[FEATURES_USED] -= 1
        f = following
    t.pairs[pair, FEATURE] = 0


@kernel
def drop_feature(t: Any, pair: Any, feature: Any) -> None:
    """Give one feature of a pair back."""
    before, f = np.int64(-1), np.int64(t.pairs[pair, FEATURE]) - 1
    while f != feature:
        before, f = f, np.int64(t.feature_next[f]) - 1
    if before < 0:
        t.pairs[pair, FEATURE] = t.feature_next[f]
    else:
        t.feature_next[before] = t.feature_next[f]
    daily.start(t, f, 0, 0)
    t.feature_next[f] = t.header[FEATURES_FREE]
    t.header[FEATURES_FREE] = f + 1
    t.header[FEATURES_USED] -= 1


# --- pairs ------------------------------------------------------------------------------------------------------


@kernel
def _leave_table(t: Any, pair: Any) -> None:
    """Remove a pair from the table, closing the gap."""
    mask = t.table.shape[0] - 1
    hole = home_of(t, np.int64(t.pairs[pair, SOURCE]), t.destinations[pair])
    while t.table[hole] != pair + 1:
        hole = (hole + 1) & mask
    at = hole
    while True:
        at = (at + 1) & mask
        if t.table[at] == 0:
            break
        other = np.int64(t.table[at]) - 1
        home = home_of(t, np.int64(t.pairs[other, SOURCE]), t.destinations[other])
        if ((at - home) & mask) >= ((at - hole) & mask):
            t.table[hole] = t.table[at]
            hole = at
    t.table[hole] = 0


@kernel
def _free_pair(t: Any, pair: Any) -> None:
    """Forget a pair that its source's chain does not name any more."""
    _leave_table(t, pair)
    _free_features(t, pair)
    t.people[t.pairs[pair, SOURCE], PAIRS_OF] -= 1
    t.destinations[pair] = _ZERO
    t.pairs[pair, SOURCE] = 0
    t.statuses[pair, 0] = t.statuses[pair, 1] = 0
    t.pairs[pair, NEXT] = t.header[PAIRS_FREE]
    t.header[PAIRS_FREE] = pair + 1
    t.header[PAIRS] -= 1


@kernel
def forget_person(t: Any, user_id: Any) -> None:
    """Forget what a person did toward others. O(pairs of the person)."""
    u = np.int64(find(t.ids, user_id))
    if u < 0:
        return
    pair = np.int64(t.people[u, FIRST_PAIR]) - 1
    while pair >= 0:
        following = np.int64(t.pairs[pair, NEXT]) - 1
        _free_pair(t, pair)
        pair = following
    recency.unlink(t.people, NEWER, t.header, NEWEST, u)
    for column in range(t.people.shape[1]):
        t.people[u, column] = 0
    remove(t.ids, user_id)


@kernel
def drop_pair(t: Any, pair: Any) -> None:
    """Forget one pair; its source is forgotten with the last. O(pairs of the source)."""
    u = np.int64(t.pairs[pair, SOURCE])
    before, at = np.int64(-1), np.int64(t.people[u, FIRST_PAIR]) - 1
    while at != pair:
        before, at = at, np.int64(t.pairs[at, NEXT]) - 1
    if before < 0:
        t.people[u, FIRST_PAIR] = t.pairs[pair, NEXT]
    else:
        t.pairs[before, NEXT] = t.pairs[pair, NEXT]
    _free_pair(t, pair)
    if t.people[u, FIRST_PAIR] == 0:
        forget_person(t, t.ids.keys[u])


@kernel
def leave_empty(t: Any, u: Any, pair: Any) -> None:
    """Forget a pair (-1 none) in which nothing is left, and a person without pairs."""
    if pair >= 0 and t.pairs[pair, FEATURE] == 0 and t.statuses[pair, FLAGS] == 0:
        drop_pair(t, pair)
    elif t.people[u, FIRST_PAIR] == 0:
        forget_person(t, t.ids.keys[u])


@inlined
def is_look(code: Any) -> Any:
    """Whether a kind is a look only."""
    return code in (_INSPECTED, _DWELL_S)


@kernel
def has_lapsed(t: Any, pair: Any, day: Any) -> Any:
    """Whether nothing counts in a pair by the end of a day: features lapsed or only looks, and no status."""
    flags = np.int64(t.statuses[pair, FLAGS])
    if flags == _UNFOLLOWED and day - np.int64(t.statuses[pair, UNFOLLOW_DAY]) >= UNFOLLOWED_DAYS:
        flags = np.int64(0)
    f = np.int64(t.pairs[pair, FEATURE]) - 1
    lapsed = flags == 0
    while f >= 0 and lapsed:
        code = t.feature_days[f, CODE]
        lapsed = is_look(code) or daily.has_lapsed(t, f, day)
        f = np.int64(t.feature_next[f]) - 1
    return lapsed


@kernel
def all_lapsed(t: Any, pair: Any, day: Any) -> Any:
    """``has_lapsed``, and looks have lapsed too: until then a pair with looks alone may become more."""
    f = np.int64(t.pairs[pair, FEATURE]) - 1
    while f >= 0:
        if not daily.has_lapsed(t, f, day):
            return False
        f = np.int64(t.feature_next[f]) - 1
    return has_lapsed(t, pair, day)


@kernel
def active_days(t: Any, pair: Any, day: Any) -> Any:
    """On which of the 30 days up to ``day`` anything was done: uint64, bit 2k for the day k days before."""
    marks, f = _ZERO, np.int64(t.pairs[pair, FEATURE]) - 1
    while f >= 0:
        marks |= daily.days_marked(t, f, day)
        f = np.int64(t.feature_next[f]) - 1
    return recent(marks)


@inlined
def recent(marks: Any) -> Any:
    """Of marked days those of the 30 up to now."""
    return marks & np.uint64((1 << (2 * _RECENT_DAYS)) - 1)


@inlined
def count_days(marks: Any) -> Any:
    """How many days are marked."""
    count = np.int64(0)
    while marks != _ZERO:
        marks &= marks - np.uint64(1)
        count += 1
    return count


@kernel
def _forget_weakest(t: Any, u: Any, day: Any, keys: Any, scores: Any, chosen: Any) -> None:
    """Forget the eighth of a person's pairs with the fewest active days; among equals, the longest without acts.

    ``keys`` uint64, ``scores`` float64, ``chosen`` int32, all (2, pairs of one person): scratch.
    """
    n, pair = np.int64(0), np.int64(t.people[u, FIRST_PAIR]) - 1
    while pair >= 0:
        marks, newest = active_days(t, pair, day), np.int64(0)
        f = np.int64(t.pairs[pair, FEATURE]) - 1
        while f >= 0:
            newest = max(newest, daily.newest_day(t, f))
            f = np.int64(t.feature_next[f]) - 1
        keys[n] = np.uint64(pair)
        scores[n] = -np.float64(count_days(marks) * 65536 + newest)
        n += 1
        pair = np.int64(t.pairs[pair, NEXT]) - 1
    count = top_k(scores, keys, n, max(np.int64(1), n // FORGOTTEN_SHARE), chosen)
    for i in range(count):
        # Marked by a column that a pair of a chain uses otherwise.
        t.pairs[np.int64(keys[chosen[i]]), SOURCE] = -1 - u
    before, pair = np.int64(-1), np.int64(t.people[u, FIRST_PAIR]) - 1
    while pair >= 0:
        following = np.int64(t.pairs[pair, NEXT]) - 1
        if t.pairs[pair, SOURCE] < 0:
            if before < 0:
                t.people[u, FIRST_PAIR] = following + 1
            else:
                t.pairs[before, NEXT] = following + 1
        else:
            before = pair
        pair = following
    for i in range(count):
        pair = np.int64(keys[chosen[i]])
        t.pairs[pair, SOURCE] = u
    for i in range(count):
        _free_pair(t, np.int64(keys[chosen[i]]))
    t.header[EVICTED_PAIRS] += count


# --- room for more ----------------------------------------------------------------------------------------------


@kernel
def _forget_idle(t: Any, but: Any) -> Any:
    """Forget the person who acted longest ago, unless it is ``but``; returns whether anybody was."""
    u = t.header[OLDEST] - 1
    if u < 0 or u == but:
        return False
    t.header[EVICTED_PEOPLE] += 1
    forget_person(t, t.ids.keys[u])
    return True


@kernel
def enter_person(t: Any, user_id: Any) -> Any:
    """The index of a person, who is known from now on."""
    u = np.int64(find(t.ids, user_id))
    if u >= 0:
        return u
    u = np.int64(find_or_add(t.ids, user_id))
    if u < 0:
        _forget_idle(t, np.int64(-1))
        u = np.int64(find_or_add(t.ids, user_id))
    recency.link_newest(t.people, NEWER, t.header, NEWEST, u)
    return u


@kernel
def enter_pair(t: Any, u: Any, destination: Any, day: Any, keys: Any, scores: Any, chosen: Any) -> Any:
    """The pair of a person with another, made if necessary; -1 if there is no room."""
    pair = find_pair(t, u, destination)
    if pair >= 0:
        return pair
    if t.people[u, PAIRS_OF] >= t.limits[0]:
        _forget_weakest(t, u, day, keys, scores, chosen)
    while t.header[PAIRS_FREE] == 0 and t.header[PAIRS_HIGH] == t.destinations.shape[0]:
        if not _forget_idle(t, u):
            t.header[DROPPED_FULL] += 1
            return np.int64(-1)
    pair = t.header[PAIRS_FREE] - 1
    if pair >= 0:
        t.header[PAIRS_FREE] = t.pairs[pair, NEXT]
    else:
        pair = t.header[PAIRS_HIGH]
        t.header[PAIRS_HIGH] += 1
    t.header[PAIRS] += 1
    t.destinations[pair] = destination
    t.pairs[pair, SOURCE] = u
    t.pairs[pair, FEATURE] = 0
    t.pairs[pair, NEXT] = t.people[u, FIRST_PAIR]
    t.people[u, FIRST_PAIR] = pair + 1
    t.people[u, PAIRS_OF] += 1
    at, mask = home_of(t, u, destination), t.table.shape[0] - 1
    while t.table[at] != 0:
        at = (at + 1) & mask
    t.table[at] = pair + 1
    return pair


@kernel
def enter_feature(t: Any, u: Any, pair: Any, code: Any, day: Any) -> Any:
    """The feature of a kind in a pair, made if necessary; -1 if there is no room."""
    f = find_feature(t, pair, code)
    if f >= 0:
        return f
    while t.header[FEATURES_FREE] == 0 and t.header[FEATURES_HIGH] == t.feature_next.shape[0]:
        if not _forget_idle(t, u):
            t.header[DROPPED_FULL] += 1
            return np.int64(-1)
    f = t.header[FEATURES_FREE] - 1
    if f >= 0:
        t.header[FEATURES_FREE] = t.feature_next[f]
    else:
        f = t.header[FEATURES_HIGH]
        t.header[FEATURES_HIGH] += 1
    t.header[FEATURES_USED] += 1
    daily.start(t, f, code, day)
    _link_feature(t, pair, f, code)
    return f


@kernel
def _link_feature(t: Any, pair: Any, feature: Any, code: Any) -> None:
    """Put a feature into a pair's chain, which goes by kind: sums along it do not depend on what came first."""
    before, following = np.int64(-1), np.int64(t.pairs[pair, FEATURE]) - 1
    while following >= 0 and t.feature_days[following, CODE] < code:
        before, following = following, np.int64(t.feature_next[following]) - 1
    t.feature_next[feature] = following + 1
    if before < 0:
        t.pairs[pair, FEATURE] = feature + 1
    else:
        t.feature_next[before] = feature + 1
