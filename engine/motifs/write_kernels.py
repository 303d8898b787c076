"""The writer of the room ``motifs``: acts into rings, and the walk that finds who follows several of a ring's actors.

The walk is MagicRecs' threshold intersection: of each actor the newest followers are read, and whoever is among those
of enough actors is found. Followers are read for all actors who are new since the ring's last walk, and of the others
only those who are also there are counted. A ring with few actors is walked at each new one; a ring with many waits
until a quarter as many are new, so that an act on a popular target costs little. Events of all kinds earn the followers
that walks may read; a ring that finds none left is walked at a later act.
"""

from typing import Any

import numpy as np

from engine.batch import Change, Kind
from engine.kernels.daily_share import take_share
from engine.kernels.erasing import PLACE, bits_of, drop_done, enter, is_full, is_waiting, may_wait, pass_places, waits
from engine.kernels.erasing import places_left as left_of
from engine.kernels.id_map import CAPACITY, SIZE, find, find_or_add, prefetch_slot
from engine.kernels.jit import inlined, kernel
from engine.kernels.prefetch import prefetch
from engine.kernels.recency import link_newest, touch
from engine.kernels.rng import mix64
from engine.motifs.arrays import (
    ACTORS,
    ACTORS_MIN,
    AUTHOR,
    CLOCK_MS,
    CREDIT,
    CREDIT_MAX,
    DROPPED_FULL,
    EVICTED,
    FIRST,
    FOLLOWERS_MAX,
    FOUND,
    FOUND_WORDS,
    FRESH,
    LATE,
    NEWER,
    NEWEST,
    NOTED,
    OLDEST,
    OVER_FANOUT,
    OVER_SHARE,
    POSTPONED,
    READ_EACH,
    RECIPIENT,
    RECIPIENTS_MAX,
    RETWEETED,
    TARGET,
    TARGETS_EACH,
    TWEET_AGE_MS_MAX,
    WALK_COST,
    WALKS,
    WINDOW_MS,
    ZERO,
    clear_place,
    drop_ring,
)
from engine.social_graph.arrays import (
    BLOCK,
    ENTRIES,
    FOLLOW,
    FOLLOWERS_AT,
    LIVE,
    MUTE,
    START,
    USER_COLUMNS,
    edge_flags,
)

#: Rows whose targets are looked up together, so that their cache misses overlap.
AHEAD_ROWS = 32
#: An ERASE row looks for erased people in so many rings of each kind.
RINGS_PER_ROW = 1 << 9
#: A ring is walked when at least its actors, divided by this, are new.
NEW_SHARE = 4

FOLLOW_KIND, UNFOLLOW_KIND = int(Kind.FOLLOW), int(Kind.UNFOLLOW)
FAVORITE, UNFAVORITE = int(Kind.FAVORITE), int(Kind.UNFAVORITE)
RETWEET, UNRETWEET = int(Kind.RETWEET), int(Kind.UNRETWEET)
DELETE, ERASE, ERASED_TWEET, USER = int(Kind.DELETE), int(Kind.ERASE), int(Kind.ERASED_TWEET), int(Kind.USER)
BEGINS, ENDS = np.uint8(Change.BEGINS), np.uint8(Change.ENDS)

#: What a row is to this room, by kind.
NOTHING, ACT, OTHER = 0, 1, 2
_KINDS = np.zeros(256, np.uint8)
_KINDS[[FOLLOW_KIND, UNFOLLOW_KIND, FAVORITE, UNFAVORITE, RETWEET, UNRETWEET]] = ACT
_KINDS[[DELETE, ERASE, ERASED_TWEET, USER]] = OTHER


# --- rings ------------------------------------------------------------------------------------------------------


@kernel
def _open(m: Any, rings: Any, target_id: Any, author_id: Any, actor_id: Any, time_ms: Any) -> Any:
    """The ring of a target that has none; -1 where the actor has brought in enough targets today. When there is no
    room, the target that was acted on longest ago is forgotten."""
    if not take_share(m.spent, actor_id, np.int64(1), m.limits[TARGETS_EACH], time_ms):
        m.header[OVER_SHARE] += 1
        return np.int64(-1)
    if rings.targets.header[SIZE] == rings.targets.header[CAPACITY]:
        drop_ring(rings, np.int64(rings.ends[OLDEST]) - 1)
        m.header[EVICTED] += 1
    ring = np.int64(find_or_add(rings.targets, target_id))
    rings.author[ring] = author_id
    link_newest(rings.links, NEWER, rings.ends, NEWEST, ring)
    return ring


@kernel
def _enter(m: Any, rings: Any, ring: Any, actor_id: Any, time_ms: Any, act: Any) -> Any:
    """Put an actor into a ring; False if that makes no new actor of it. A full ring gives up its oldest actor."""
    oldest, size = np.int64(0), np.int64(rings.actor.shape[1])
    for place in range(size):
        if rings.actor[ring, place] == actor_id:
            again = rings.time_ms[ring, place] < time_ms - m.limits[WINDOW_MS]
            rings.time_ms[ring, place] = max(rings.time_ms[ring, place], time_ms)
            rings.acts[ring, place] |= act | FRESH if again else act
            return again
        if rings.actor[ring, place] == ZERO:
            oldest = np.int64(place)
            break
        if rings.time_ms[ring, place] < rings.time_ms[ring, oldest]:
            oldest = np.int64(place)
    if rings.actor[ring, oldest] != ZERO and rings.time_ms[ring, oldest] >= time_ms:
        return False
    rings.actor[ring, oldest] = actor_id
    rings.time_ms[ring, oldest] = time_ms
    rings.acts[ring, oldest] = act | FRESH
    m.header[NOTED] += 1
    return True


@kernel
def _take_back(rings: Any, target_id: Any, actor_id: Any, act: Any) -> None:
    """An act ended: the actor leaves the ring, unless another act of theirs on the target holds."""
    ring = np.int64(find(rings.targets, target_id))
    if ring < 0:
        return
    for place in range(rings.actor.shape[1]):
        if rings.actor[ring, place] == ZERO:
            break
        if rings.actor[ring, place] == actor_id:
            rings.acts[ring, place] &= ~act
            if rings.acts[ring, place] & (FIRST | RETWEETED) == 0:
                clear_place(rings, ring, np.int64(place))
            break
    if rings.actor[ring, 0] == ZERO:
        drop_ring(rings, ring)


# --- the walk ---------------------------------------------------------------------------------------------------


@inlined
def _is_due(m: Any, rings: Any, ring: Any, time_ms: Any) -> Any:
    """Whether enough actors are within the window, and enough of them new since the last walk."""
    since_ms, actors, fresh = time_ms - m.limits[WINDOW_MS], np.int64(0), np.int64(0)
    for place in range(rings.actor.shape[1]):
        if rings.actor[ring, place] == ZERO:
            break
        if rings.time_ms[ring, place] >= since_ms:
            actors += 1
            fresh += np.int64(rings.acts[ring, place] >> 7)
    return actors >= m.limits[ACTORS_MIN] and fresh >= actors // NEW_SHARE


@inlined
def _slot_of(scratch: Any, user: Any) -> Any:
    """The slot of a user's index, or the empty one where it would be."""
    mask = np.uint64(scratch.slots.shape[0] - 1)
    at = np.int64(mix64(np.uint64(user)) & mask)
    while scratch.slots[at] != 0 and scratch.slots[at] != user + 1:
        at = (at + 1) & np.int64(mask)
    return at


@kernel
def _read_followers(m: Any, g: Any, scratch: Any, user: Any, place: Any, used: Any, adds: Any) -> Any:
    """Mark the newest followers of the actor at a place of the ring: all of them if ``adds``, else those who are marked
    already. Returns how many users are marked."""
    start, bit = np.int64(g.users[user, FOLLOWERS_AT + START]), np.uint32(1) << np.uint32(place)
    left = m.limits[FOLLOWERS_MAX]
    for i in range(np.int64(g.users[user, FOLLOWERS_AT + ENTRIES]) - 1, -1, -1):
        follower = np.int64(g.arena[start + i])
        if follower < 0:
            continue
        at = _slot_of(scratch, follower)
        if scratch.slots[at] != 0:
            scratch.masks[at] |= bit
        elif adds:
            scratch.slots[at] = follower + 1
            scratch.masks[at] = bit
            scratch.used[used] = at
            used += 1
        left -= 1
        if left == 0:
            break
    m.header[CREDIT] -= m.limits[FOLLOWERS_MAX] - left
    return used


@inlined
def _bits_in(mask: Any) -> Any:
    """How many bits of a uint32 are set."""
    count = np.int64(0)
    while mask != np.uint32(0):
        mask &= mask - np.uint32(1)
        count += 1
    return count


@inlined
def _may_tell(g: Any, rings: Any, ring: Any, user: Any, person: Any, target_id: Any) -> Any:
    """Whether a user may be told as far as is known here: not the target, its author or one of the actors; does not
    follow the person who is the target; no block or mute of the user, and no block of the other side."""
    user_id = g.ids.keys[user]
    if user_id == target_id or user_id == rings.author[ring]:
        return False
    for place in range(rings.actor.shape[1]):
        if rings.actor[ring, place] == user_id:
            return False
    if person < 0:
        return True
    ties = BLOCK | MUTE
    if rings.author[ring] == ZERO:
        ties |= FOLLOW
    return edge_flags(g, user, person) & ties == 0 and edge_flags(g, person, user) & BLOCK == 0


@kernel
def _find_actors(m: Any, rings: Any, g: Any, ring: Any, person: Any, time_ms: Any, scratch: Any) -> Any:
    """Write the indices of the ring's actors, -1 for those who do not count: out of the window, unknown to the graph,
    or who do not follow the person any more. Returns how many count."""
    actors, users = np.int64(0), g.users.reshape(-1)
    for place in range(rings.actor.shape[1]):
        scratch.actors[place] = -1
        actor_id = rings.actor[ring, place]
        if actor_id == ZERO or rings.time_ms[ring, place] < time_ms - m.limits[WINDOW_MS]:
            continue
        user = np.int64(find(g.ids, actor_id))
        if user < 0:
            continue
        if rings.author[ring] == ZERO and (person < 0 or edge_flags(g, user, person) & FOLLOW == 0):
            continue
        scratch.actors[place] = user
        prefetch(users, user * USER_COLUMNS)
        actors += 1
    return actors


@kernel
def _walk(m: Any, rings: Any, g: Any, ring: Any, time_ms: Any, row: Any, scratch: Any, found: Any) -> Any:
    """Find who follows enough of a ring's actors, one of the new ones among them; returns how many are found in all.

    ``found``: int64, how many motifs of the piece stand in ``scratch`` already.
    """
    if m.header[CREDIT] <= 0:
        m.header[POSTPONED] += 1
        return found
    m.header[WALKS] += 1
    m.header[CREDIT] -= WALK_COST
    target_id, author_id = rings.targets.keys[ring], rings.author[ring]
    person = np.int64(find(g.ids, target_id if author_id == ZERO else author_id))
    used, size = np.int64(0), np.int64(rings.actor.shape[1])
    if _find_actors(m, rings, g, ring, person, time_ms, scratch) >= m.limits[ACTORS_MIN]:
        for adds in (True, False):
            for place in range(size):
                user, fresh = scratch.actors[place], rings.acts[ring, place] & FRESH != 0
                if user >= 0 and fresh == adds and (adds or used > 0) and g.users[user, FOLLOWERS_AT + LIVE] > 0:
                    used = np.int64(_read_followers(m, g, scratch, user, np.int64(place), used, adds))
    for place in range(size):
        rings.acts[ring, place] &= ~FRESH
    told = np.int64(0)
    for i in range(used):
        at = np.int64(scratch.used[i])
        user, mask = np.int64(scratch.slots[at]) - 1, scratch.masks[at]
        scratch.slots[at] = 0
        actors = _bits_in(mask)
        if actors < m.limits[ACTORS_MIN] or not _may_tell(g, rings, ring, user, person, target_id):
            continue
        if told == m.limits[RECIPIENTS_MAX]:
            m.header[OVER_FANOUT] += 1
        elif found == scratch.rows.shape[0]:
            m.header[DROPPED_FULL] += 1
        else:
            out, at = scratch.found[found], np.int64(FOUND_WORDS)
            scratch.rows[found] = row
            out[RECIPIENT], out[TARGET] = g.ids.keys[user], target_id
            out[AUTHOR], out[ACTORS] = author_id, np.uint64(actors)
            for place in range(size):
                if mask >> np.uint32(place) & np.uint32(1):
                    out[at] = rings.actor[ring, place]
                    at += 1
            for rest in range(at, out.shape[0]):
                out[rest] = ZERO
            found += 1
            told += 1
    m.header[FOUND] += told
    return found


# --- erasing ----------------------------------------------------------------------------------------------------


@kernel
def _sweep_rings(rings: Any, queue: Any, bits: Any, first: Any, end: Any) -> None:
    """Take erased people out of the rings from ``first`` to ``end``."""
    for ring in range(first, end):
        if rings.targets.keys[ring] == ZERO:
            continue
        place = np.int64(0)
        while place < rings.actor.shape[1] and rings.actor[ring, place] != ZERO:
            if may_wait(bits, rings.actor[ring, place]) and waits(queue, rings.actor[ring, place]):
                clear_place(rings, np.int64(ring), place)
            else:
                place += 1
        if rings.actor[ring, 0] == ZERO:
            drop_ring(rings, np.int64(ring))


@kernel
def _sweep(m: Any, rings_max: Any) -> None:
    """Go on to take erased people out of the next so many rings of each kind."""
    queue, size = m.erasing, np.int64(m.follows.actor.shape[0])
    bits, left = bits_of(queue), min(np.int64(rings_max), np.int64(left_of(queue)))
    passed = np.int64(0)
    while passed < left:
        first = (np.int64(queue[PLACE]) + passed) % size
        end = min(size, first + left - passed)
        _sweep_rings(m.follows, queue, bits, first, end)
        _sweep_rings(m.engagements, queue, bits, first, end)
        passed += end - first
    pass_places(queue, left, size)
    drop_done(queue)


@kernel
def _erase(m: Any, user_id: Any) -> None:
    """ERASE: forget a person as a target at once, and as an actor ring by ring. 0: go on with those who wait."""
    if user_id != ZERO:
        ring = np.int64(find(m.follows.targets, user_id))
        if ring >= 0:
            drop_ring(m.follows, ring)
        if is_full(m.erasing):
            _sweep(m, np.int64(m.follows.actor.shape[0]))
        enter(m.erasing, user_id, np.int64(m.follows.actor.shape[0]))
    if is_waiting(m.erasing):
        _sweep(m, np.int64(RINGS_PER_ROW))


# --- rows -------------------------------------------------------------------------------------------------------


@inlined
def _look_ahead(m: Any, batch: Any, first: Any, end: Any) -> None:
    """Prefetch what the acts of rows from ``first`` to ``end`` are about."""
    actors, times = m.engagements.actor.reshape(-1), m.engagements.time_ms.reshape(-1)
    size = np.int64(m.engagements.actor.shape[1])
    for row in range(first, end):
        if _KINDS[batch.kind[row]] == ACT:
            if batch.kind[row] >= FOLLOW_KIND:
                prefetch_slot(m.follows.targets, batch.subject_id[row])
            else:
                prefetch_slot(m.engagements.targets, batch.original_id[row])
    for row in range(first, end):
        if _KINDS[batch.kind[row]] == ACT and batch.kind[row] < FOLLOW_KIND:
            ring = np.int64(find(m.engagements.targets, batch.original_id[row]))
            if ring >= 0:
                prefetch(actors, ring * size)
                prefetch(times, ring * size)


@inlined
def _counts(m: Any, batch: Any, row: Any) -> Any:
    """Whether a beginning act may become part of a motif: it is recent, and on another's tweet that is young enough."""
    time_ms, header = batch.timestamp_ms[row], m.header
    header[CLOCK_MS] = max(header[CLOCK_MS], time_ms)
    if time_ms < header[CLOCK_MS] - m.limits[WINDOW_MS]:
        header[LATE] += 1
        return False
    if batch.kind[row] == FOLLOW_KIND:
        return batch.user_id[row] != batch.subject_id[row]
    author_id, created_ms = batch.original_author_id[row], batch.created_ms[row]
    known = author_id != ZERO and author_id != batch.user_id[row] and created_ms > 0
    return known and time_ms - created_ms <= m.limits[TWEET_AGE_MS_MAX]


@kernel
def _act(m: Any, rings: Any, g: Any, batch: Any, row: Any, scratch: Any, found: Any) -> Any:
    """Apply an act that begins or ends; returns how many motifs of the piece are found in all."""
    kind, actor_id = batch.kind[row], batch.user_id[row]
    target_id = batch.subject_id[row] if kind >= FOLLOW_KIND else batch.original_id[row]
    act = RETWEETED if kind in (RETWEET, UNRETWEET) else FIRST
    if target_id == ZERO or actor_id == ZERO:
        return found
    if batch.change[row] == ENDS:
        _take_back(rings, target_id, actor_id, act)
        return found
    if not _counts(m, batch, row):
        return found
    author_id = ZERO if kind == FOLLOW_KIND else batch.original_author_id[row]
    time_ms, ring = batch.timestamp_ms[row], np.int64(find(rings.targets, target_id))
    if ring < 0:
        ring = np.int64(_open(m, rings, target_id, author_id, actor_id, time_ms))
        if ring < 0:
            return found
    else:
        touch(rings.links, NEWER, rings.ends, NEWEST, ring)
    if _enter(m, rings, ring, actor_id, time_ms, act) and _is_due(m, rings, ring, time_ms):
        return _walk(m, rings, g, ring, time_ms, row, scratch, found)
    return found


@kernel
def apply(m: Any, g: Any, batch: Any, scratch: Any) -> Any:
    """Apply a piece; returns how many motifs were found (``scratch`` has them).

    ``m``: ``Motifs``. ``g``: the social graph as of the end of the piece. ``batch``: an ``EventBatch``, resolved.
    """
    ahead, found = np.int64(0), np.int64(0)
    m.header[CREDIT] = min(np.int64(CREDIT_MAX), m.header[CREDIT] + m.limits[READ_EACH] * batch.kind.shape[0])
    for row in range(batch.kind.shape[0]):
        if row >= ahead:
            ahead = min(np.int64(row + AHEAD_ROWS), np.int64(batch.kind.shape[0]))
            _look_ahead(m, batch, np.int64(row), ahead)
        what = _KINDS[batch.kind[row]]
        if what == ACT:
            if batch.change[row] == BEGINS or batch.change[row] == ENDS:
                rings = m.follows if batch.kind[row] >= FOLLOW_KIND else m.engagements
                found = np.int64(_act(m, rings, g, batch, np.int64(row), scratch, found))
        elif what == OTHER:
            kind = batch.kind[row]
            if kind == ERASE:
                _erase(m, batch.user_id[row])
            elif kind == USER:
                if is_waiting(m.erasing) and waits(m.erasing, batch.user_id[row]):
                    # What is done to the person after coming back must stay.
                    _sweep(m, np.int64(m.follows.actor.shape[0]))
            else:
                ring = np.int64(find(m.engagements.targets, batch.subject_id[row]))
                if ring >= 0:
                    drop_ring(m.engagements, ring)
    return found
