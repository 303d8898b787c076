"""Copies a smaller tweet store's tweets into a larger store."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.kernels import daily_share
from engine.kernels.erasing import copy_queue
from engine.kernels.growth import enter_keys, grow_text
from engine.kernels.jit import kernel
from engine.tweet_store import acts, early, labels
from engine.tweet_store.arrays import (
    HASHTAG_BYTES,
    LISTED,
    NEWER,
    OLDER,
    POSITION,
    SIZE,
    STATE,
    STUB,
    TEXT_BYTES,
    Limit,
    Tweets,
    find_head,
)
from engine.tweet_store.texts import LOST, RING_SHIFT

Places = NDArray[np.int64]
#: How many forgotten acts on a stub are passed over at most between two that are held.
_FORGOTTEN_MAX = 64
_STUBS_FROM = int(Limit.STUBS_FROM)

_COLUMNS = ("author_id", "created_ms", "row", "refs", "original", "text_start", "edited_ms", "decayed", "weight")


def grow(target: Tweets, source: Tweets) -> None:
    """Fill the empty ``target``, whose arrays are at least as large.

    Slots are a ring by arrival: when a full ring becomes larger, its oldest arrival moves to slot 0, so that slots stay
    in the order of eviction.
    """
    size, slots = int(source.header[SIZE]), int(source.limits[Limit.TWEETS])
    turned = size == slots < target.limits[Limit.TWEETS]
    first = int(source.header[POSITION]) if turned else 0
    order = (first + np.arange(slots)) % slots
    moved = np.full(len(source.created_ms), -1, np.int64)
    moved[order] = np.arange(slots)
    _grow_rings(moved, target, source, "crowd_heads", Limit.TWEETS)
    _grow_rings(moved, target, source, "stub_heads", Limit.STUBS_FROM)
    old = np.flatnonzero(moved >= 0)
    for name in (*_COLUMNS, "ids.keys"):
        _column(target, name)[moved[old]] = _column(source, name)[old]
    target.ids.header[0] = np.count_nonzero(target.ids.keys)
    enter_keys(target.ids.slots, target.ids.keys, np.int64(len(target.ids.keys)))
    target.header[:] = source.header
    if turned:
        target.header[POSITION] = size
    _grow_links(target, moved, _grow_acts(target, source))
    _grow_texts(target, source)
    _enter_heads(target)
    copy_queue(target.erasing, source.erasing, len(target.author_id) + len(target.acts.places))
    known = old[old < len(source.labels.bits)]
    labels.grow(target.labels, source.labels, moved[known], known)
    acts.grow(target.looks, source.looks)
    for own, held in ((target.tweets_spent, source.tweets_spent), (target.text_spent, source.text_spent)):
        daily_share.grow(own, held)


def _column(tweets: Tweets, name: str) -> Any:
    return tweets.ids.keys if name == "ids.keys" else getattr(tweets, name)


def _grow_rings(moved: Places, target: Tweets, source: Tweets, heads: str, begin: Limit) -> None:
    """Enter into ``moved`` where the slots of many small rings go, oldest first. With more rings, the authors or people
    of one ring are spread over several: its slots go to these in turn, since nothing says which of them made which."""
    ends = {Limit.TWEETS: Limit.STUBS_FROM}
    held, own = getattr(source, heads), getattr(target, heads)
    rings, more = len(held), len(own)

    def places(tweets: Tweets, count: int) -> tuple[int, int]:
        end = int(tweets.limits[ends[begin]]) if begin in ends else len(tweets.created_ms)
        return int(tweets.limits[begin]), (end - int(tweets.limits[begin])) // count

    (old, before), (new, after) = places(source, rings), places(target, more)
    spread = more // rings
    for ring in range(rings):
        order = old + ring * before + (held[ring] + np.arange(before)) % before
        order = order[source.ids.keys[order] != 0][-spread * after :]
        turn = np.arange(len(order))
        moved[order] = new + (ring + rings * (turn % spread)) * after + turn // spread
        for part in range(spread):
            own[ring + rings * part] = len(order[part::spread]) % after


def _grow_acts(target: Tweets, source: Tweets) -> Places:
    """Copy who did what; returns by place of an act the new place, -1 where none was held."""
    places = source.acts.places
    order = (int(source.acts.header[acts.POSITION]) + np.arange(len(places))) % len(places)
    order = order[places[order, acts.OWNER] != 0]
    moved = np.full(len(places), -1, np.int64)
    moved[order] = np.arange(len(order))
    acts.grow(target.acts, source.acts)
    for place in order[source.of_stub[order] > 0].tolist():
        further = int(source.of_stub[place]) - 1
        # An act may be forgotten between two others on the same stub; what is far behind it is given up.
        for _ in range(_FORGOTTEN_MAX):
            if further < 0 or moved[further] >= 0:
                break
            further = int(source.of_stub[further]) - 1
        target.of_stub[moved[place]] = moved[further] + 1 if further >= 0 else 0
    return moved


def _grow_links(target: Tweets, moved: Places, of_acts: Places) -> None:
    """Let the links between an author's tweets lead to their new slots, and those of stubs to their acts' places."""
    links = target.row[:, [OLDER, NEWER]].astype(np.int64)
    listed = target.row[:, STATE] & LISTED != 0
    between = listed[:, None] & (links >= 0)
    target.row[:, [OLDER, NEWER]] = np.where(between, moved[np.where(between, links, 0)], links)
    stubs = (target.row[:, STATE] & STUB != 0) & (links[:, 0] >= 0)
    target.row[stubs, OLDER] = of_acts[links[stubs, 0]]


def _grow_texts(target: Tweets, source: Tweets) -> None:
    """Copy the rings of text. What a smaller ring has overwritten must not look as if the larger ring still had it."""
    same = len(target.text_heads) == len(source.text_heads)
    early.grow(target.early, source.early)
    target.text_heads[: len(source.text_heads)] = source.text_heads
    if not same:
        target.text_heads[1:] = 0
    written = target.row[:, [TEXT_BYTES, HASHTAG_BYTES]].any(axis=1), target.early.content.any(axis=1)
    for starts, has_text in zip((target.text_start, target.early.text_start), written, strict=True):
        rings = starts >> RING_SHIFT
        heads = source.text_heads[np.maximum(rings, 0)]
        sizes = np.where(rings == 0, source.limits[Limit.TEXT_SHARED], source.limits[Limit.TEXT_SMALL])
        gone = heads - (starts & ((1 << RING_SHIFT) - 1)) > sizes
        starts[has_text & (gone | ((rings > 0) & (not same)))] = LOST
    for ring in range(len(source.text_heads) if same else 1):
        grow_text(_ring(target, ring), _ring(source, ring), int(source.text_heads[ring]))


def _ring(tweets: Tweets, ring: int) -> NDArray[np.uint8]:
    shared, small = (int(tweets.limits[at]) for at in (Limit.TEXT_SHARED, Limit.TEXT_SMALL))
    return tweets.text[:shared] if ring == 0 else tweets.text[shared + (ring - 1) * small : shared + ring * small]


@kernel
def _enter_heads(s: Any) -> None:
    """Enter every author's newest tweet into the empty table of heads."""
    for slot in range(s.limits[_STUBS_FROM]):
        if s.row[slot, STATE] & LISTED != 0 and s.row[slot, NEWER] < 0:
            s.heads[find_head(s, s.author_id[slot])] = slot + 1
