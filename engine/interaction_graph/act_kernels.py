"""The interaction graph's writer of resolved rows: an edge for each act that holds, one of a person, tweet and type.

What a row changes, the tweet store has found out (``EventBatch.change``): here an act that begins adds an edge, one
that is renewed moves it, one that ends removes it. So nothing depends on the order of arrival, and repeated acts add no
weight. A row at a time, in order: batches may be cut anywhere.
"""

from typing import Any

import numpy as np

from engine.batch import Change
from engine.interaction_graph.arrays import (
    ACT,
    DELETE_TWEET,
    ERASE_BOTH,
    ERASE_TWEET,
    ERASE_USER,
    IGNORE,
    NODE_BITS,
    NODE_MASK,
    PUBLISH,
    REPLACE,
    SECONDS_MAX,
    TAKE_BACK,
    EdgeType,
    Limit,
    Scalar,
)
from engine.interaction_graph.erase_kernels import erase_user
from engine.interaction_graph.write_kernels import (
    add,
    advance,
    delete_tweet,
    drop_exact,
    erase_tweet,
    find_edge,
    look_ahead,
    make_entry,
    take_back,
)
from engine.kernels import ring_slices
from engine.kernels.id_map import find
from engine.kernels.jit import inlined, kernel
from engine.kernels.ring_slices import degree, slot_of, time_of

NOTHING, RENEWED, ENDS, UNCOUNTED = (
    np.uint8(Change.NOTHING),
    np.uint8(Change.RENEWED),
    np.uint8(Change.ENDS),
    np.uint8(Change.UNCOUNTED),
)
TWEET = np.int64(EdgeType.TWEET)
_USER_ENTRIES, _NAMED_ENTRIES = int(Limit.USER_ENTRIES), int(Limit.NAMED_ENTRIES)
_REFUSED, _TAKEN_BACK, _UNMATCHED = int(Scalar.REFUSED), int(Scalar.TAKEN_BACK), int(Scalar.TAKE_BACK_UNMATCHED)
_OVER_SHARE, _RENEWED = int(Scalar.OVER_SHARE), int(Scalar.RENEWED)


@inlined
def _entries(g: Any, user: Any) -> Any:
    """How many of the log's entries are a user's; an unknown user (-1) has none."""
    if user < 0:
        return np.int64(0)
    return degree(g.user_records[user]) + np.int64(g.user_skips[user])


@kernel
def _remove(g: Any, user: Any, tweet: Any, edge_type: Any, second: Any) -> Any:
    """Remove one edge from both lists; returns how many lists had it. O(log degree + degree / 2 moves)."""
    taken = np.int64(0)
    if user >= 0 and tweet >= 0:
        taken += drop_exact(g.user_records, g.user_skips, g.arena, user, make_entry(second, edge_type, tweet))
        taken += drop_exact(g.tweet_records, g.tweet_skips, g.arena, tweet, make_entry(second, edge_type, user))
    return taken


@inlined
def _act(g: Any, limits: Any, ids: Any, edge_type: Any, second: Any, change: Any, at_ms: Any) -> None:
    """An act that begins, is renewed or ends; ``at_ms``: when the act was made that is renewed or ends, -1 unknown."""
    user_id, tweet_id = ids
    if change == ENDS and at_ms < 0:
        take_back(g, limits, user_id, tweet_id, edge_type, second)
        return
    if change in (ENDS, RENEWED):
        user, tweet = np.int64(find(g.users, user_id)), np.int64(find(g.tweets, tweet_id))
        if change == RENEWED:
            if at_ms // 1000 == second:
                return
            if _entries(g, user) >= limits[_USER_ENTRIES]:
                g.scalars[_OVER_SHARE] += 1
                return
        taken = _remove(g, user, tweet, edge_type, at_ms // 1000)
        if change == ENDS:
            g.scalars[_TAKEN_BACK if taken else _UNMATCHED] += max(np.int64(1), taken)
            return
        g.scalars[_RENEWED] += 1
    add(g, limits, user_id, tweet_id, edge_type, second)


@inlined
def _replace(g: Any, limits: Any, user_id: Any, tweet_id: Any, edge_type: Any, second: Any) -> None:
    """Add an edge that the user did not make (a mention, a tag), instead of an older one of this type.

    The user keeps most of their share of the log for own acts, whoever names them how often.
    """
    user, tweet = np.int64(find(g.users, user_id)), np.int64(find(g.tweets, tweet_id))
    if user >= 0 and tweet >= 0:
        record = g.user_records[user]
        at = find_edge(g.arena, record, tweet, edge_type, degree(record))
        if at >= 0:
            held = time_of(g.arena.entries[slot_of(record, at)])
            if held >= second or _entries(g, user) >= limits[_USER_ENTRIES]:
                return
            _remove(g, user, tweet, edge_type, held)
            g.scalars[_RENEWED] += 1
            add(g, limits, user_id, tweet_id, edge_type, second)
            return
    if _entries(g, user) >= limits[_NAMED_ENTRIES]:
        g.scalars[_OVER_SHARE] += 1
        return
    add(g, limits, user_id, tweet_id, edge_type, second)


@kernel
def _publish(g: Any, limits: Any, user_id: Any, tweet_id: Any, second: Any) -> None:
    """Add the edge of a tweet's author, once. What the author did to the tweet before its create arrived goes."""
    user, tweet = np.int64(find(g.users, user_id)), np.int64(find(g.tweets, tweet_id))
    if user >= 0 and tweet >= 0:
        at = degree(g.user_records[user]) - 1
        while at >= 0:
            entry = g.arena.entries[slot_of(g.user_records[user], at)]
            if entry & NODE_MASK == tweet:
                edge_type = (entry >> NODE_BITS) & 15
                if edge_type == TWEET:
                    return
                ring_slices.remove_at(g.user_records, user, g.arena, at)
                g.user_skips[user] += 1
                twin = make_entry(time_of(entry), edge_type, user)
                g.scalars[_TAKEN_BACK] += 1 + drop_exact(g.tweet_records, g.tweet_skips, g.arena, tweet, twin)
            at -= 1
    add(g, limits, user_id, tweet_id, TWEET, second)


@kernel
def ingest_changes(
    g: Any,
    limits: Any,
    user_ids: Any,
    tweet_ids: Any,
    codes: Any,
    operations: Any,
    times_ms: Any,
    changes: Any,
    replaced_ms: Any,
) -> None:
    """Apply n rows in order. As ``write_kernels.ingest``, whose arguments these are; besides, ``changes`` uint8 (n,)
    and ``replaced_ms`` int64 (n,) of the batch, for the operations from ``ACT`` on."""
    for i in range(user_ids.shape[0]):
        look_ahead(g, user_ids, tweet_ids, i)
        operation = np.int64(operations[codes[i]])
        if operation == IGNORE or (operation >= ACT and (changes[i] == NOTHING or changes[i] == UNCOUNTED)):
            continue
        second, user_id, tweet_id = times_ms[i] // 1000, user_ids[i], tweet_ids[i]
        # An erasing is as of its append, not of an event, so it does not move the watermark.
        if operation in (ERASE_USER, ERASE_BOTH):
            erase_user(g, user_id, operation == ERASE_BOTH)
            continue
        if operation == ERASE_TWEET:
            erase_tweet(g, tweet_id)
            continue
        if second < 0 or second >= SECONDS_MAX or tweet_id == 0 or (user_id == 0 and operation != DELETE_TWEET):
            g.scalars[_REFUSED] += 1
            continue
        advance(g, limits, second)
        if operation >= ACT:
            _act(g, limits, (user_id, tweet_id), operation - ACT, second, changes[i], replaced_ms[i])
        elif operation >= REPLACE:
            _replace(g, limits, user_id, tweet_id, operation - REPLACE, second)
        elif operation >= TAKE_BACK:
            take_back(g, limits, user_id, tweet_id, operation - TAKE_BACK, second)
        elif operation == PUBLISH:
            _publish(g, limits, user_id, tweet_id, second)
        elif operation == DELETE_TWEET:
            delete_tweet(g, limits, tweet_id, second, user_id)
        else:
            add(g, limits, user_id, tweet_id, operation, second)
