"""The arrays of the room ``motifs``: for each target, who lately acted on it.

A ring holds the newest actors of one target, each once. Rings are kept in the order of their last act; a new target
takes the place of the one that was acted on longest ago.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.kernels.daily_share import DailyShare, daily_share_bytes, make_daily_share
from engine.kernels.erasing import QUEUE_SIZE, make_queue
from engine.kernels.id_map import IdMap, id_map_bytes, make_id_map, remove
from engine.kernels.jit import kernel
from engine.kernels.recency import unlink

#: Bits of ``Rings.acts``: the actor's acts on the target (a follow or a like; a retweet), and whether followers of the
#: actor were not looked at since.
FIRST, RETWEETED, FRESH = np.uint8(1), np.uint8(2), np.uint8(128)
#: Columns of ``Rings.links`` and places of ``Rings.ends`` (engine/kernels/recency.py).
NEWER, NEWEST, OLDEST = 0, 0, 1

#: Indices of ``Motifs.header``: the newest time of an act, how many followers may be read, then counters.
CLOCK_MS, CREDIT, NOTED, LATE, OVER_SHARE, EVICTED, WALKS, POSTPONED, FOUND, OVER_FANOUT, DROPPED_FULL = range(11)
HEADER_SIZE = 11
#: Most followers that may be read at once after a time of few walks, and what a walk costs beside those that it reads.
CREDIT_MAX, WALK_COST = 1 << 17, 64

#: Indices of ``Motifs.limits``.
WINDOW_MS, ACTORS_MIN, FOLLOWERS_MAX, RECIPIENTS_MAX, TWEET_AGE_MS_MAX, TARGETS_EACH, READ_EACH = range(7)
LIMITS = 7

ZERO = np.uint64(0)


class Rings(NamedTuple):
    """The rings of t targets, with places for r actors each.

    ``targets``: target ids to indices. ``author``: uint64 (t,), whose tweet the target is; 0 where it is a person.
    ``actor``: uint64 (t, r), 0 empty; the places in use come first. ``time_ms``: int64 (t, r). ``acts``: uint8 (t, r).
    ``links``: int32 (t, 2) and ``ends``: int64 (2,), the order of the last acts.
    """

    targets: IdMap
    author: NDArray[np.uint64]
    actor: NDArray[np.uint64]
    time_ms: NDArray[np.int64]
    acts: NDArray[np.uint8]
    links: NDArray[np.int32]
    ends: NDArray[np.int64]


class Motifs(NamedTuple):
    """All arrays of the room.

    ``follows``: targets are people. ``engagements``: targets are tweets. ``spent``: how many targets each person
    brought in on the day. ``erasing``: uint64, who is still to be looked for in the rings (engine/kernels/erasing.py).
    ``header``: int64 scalars. ``limits``: int64, not state: the configuration, by the indices above.
    """

    follows: Rings
    engagements: Rings
    spent: DailyShare
    erasing: NDArray[np.uint64]
    header: NDArray[np.int64]
    limits: NDArray[np.int64]


class Scratch(NamedTuple):
    """What one walk needs, and what a piece found; nothing of it is state.

    ``slots``: int32 (power of two), a user's index in the social graph + 1, 0 empty; all 0 between walks. ``masks``:
    uint32, by slot the places of the ring whose actors the user follows. ``used``: int32, the slots in use.
    ``actors``: int64 (r,), the actors' indices. ``rows``: int64 (f,) and ``found``: uint64 (f, FOUND_WORDS + r), by
    found motif the row of the batch, and recipient, target, author, number of actors, and the actors' ids.
    """

    slots: NDArray[np.int32]
    masks: NDArray[np.uint32]
    used: NDArray[np.int32]
    actors: NDArray[np.int64]
    rows: NDArray[np.int64]
    found: NDArray[np.uint64]


#: Words of ``Scratch.found`` before the actors.
RECIPIENT, TARGET, AUTHOR, ACTORS = range(4)
FOUND_WORDS = 4
#: Most motifs found in one piece.
FOUND_MAX = 1 << 10


def make_rings(targets_max: int, actors_max: int) -> Rings:
    """Empty rings."""
    return Rings(
        targets=make_id_map(targets_max),
        author=np.zeros(targets_max, np.uint64),
        actor=np.zeros((targets_max, actors_max), np.uint64),
        time_ms=np.zeros((targets_max, actors_max), np.int64),
        acts=np.zeros((targets_max, actors_max), np.uint8),
        links=np.zeros((targets_max, 2), np.int32),
        ends=np.zeros(2, np.int64),
    )


def make_motifs(targets_max: int, actors_max: int, limits: NDArray[np.int64]) -> Motifs:
    """Nobody has done anything."""
    header = np.zeros(HEADER_SIZE, np.int64)
    header[CREDIT] = CREDIT_MAX
    return Motifs(
        follows=make_rings(targets_max, actors_max),
        engagements=make_rings(targets_max, actors_max),
        spent=make_daily_share(targets_max),
        erasing=make_queue(),
        header=header,
        limits=limits,
    )


def make_scratch(actors_max: int, followers_max: int) -> Scratch:
    """Scratch for walks over the followers of a whole ring."""
    looked_at = actors_max * followers_max
    slots = 1 << (2 * looked_at - 1).bit_length()
    return Scratch(
        slots=np.zeros(slots, np.int32),
        masks=np.zeros(slots, np.uint32),
        used=np.zeros(looked_at, np.int32),
        actors=np.zeros(actors_max, np.int64),
        rows=np.zeros(FOUND_MAX, np.int64),
        found=np.zeros((FOUND_MAX, FOUND_WORDS + actors_max), np.uint64),
    )


def motifs_array_bytes(targets_max: int, actors_max: int) -> int:
    """Bytes of the state's arrays: 16 + 17 · actors_max and an id map's a target, twice; shares, queue, header."""
    rings = (16 + 17 * actors_max) * targets_max + id_map_bytes(targets_max) + 16
    return 2 * rings + daily_share_bytes(targets_max) + 8 * (QUEUE_SIZE + HEADER_SIZE)


@kernel
def clear_place(rings: Any, ring: Any, place: Any) -> None:
    """Take an actor out of a ring: the ring's last actor takes the place."""
    last = place
    while last + 1 < rings.actor.shape[1] and rings.actor[ring, last + 1] != ZERO:
        last += 1
    rings.actor[ring, place] = rings.actor[ring, last]
    rings.time_ms[ring, place] = rings.time_ms[ring, last]
    rings.acts[ring, place] = rings.acts[ring, last]
    rings.actor[ring, last] = ZERO
    rings.time_ms[ring, last] = 0
    rings.acts[ring, last] = 0


@kernel
def drop_ring(rings: Any, ring: Any) -> None:
    """Forget a target with all its actors."""
    for place in range(rings.actor.shape[1]):
        rings.actor[ring, place] = ZERO
        rings.time_ms[ring, place] = 0
        rings.acts[ring, place] = 0
    rings.author[ring] = ZERO
    unlink(rings.links, NEWER, rings.ends, NEWEST, ring)
    rings.links[ring, 0] = 0
    rings.links[ring, 1] = 0
    remove(rings.targets, rings.targets.keys[ring])
