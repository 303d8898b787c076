"""Copies a smaller tweet store's tweets into a larger store."""

from typing import Any

import numpy as np

from engine.kernels.erasing import copy_queue
from engine.kernels.growth import copy_rows, enter_keys, grow_text
from engine.kernels.jit import kernel
from engine.tweet_store import acts, early, labels
from engine.tweet_store.arrays import (
    LISTED,
    NEWER,
    OLDER,
    POSITION,
    SIZE,
    STATE,
    TEXT_HEAD,
    TWEETS,
    Tweets,
    find_head,
)

_COLUMNS = ("author_id", "created_ms", "row", "refs", "original", "text_start", "edited_ms", "decayed", "weight")


def grow(target: Tweets, source: Tweets) -> None:
    """Fill the empty ``target``, whose arrays are at least as large.

    Slots are a ring by arrival: when a full ring becomes larger, its oldest arrival moves to slot 0, so that slots stay
    in the order of eviction.
    """
    size, slots = int(source.header[SIZE]), int(source.limits[TWEETS])
    turned = size == slots < target.limits[TWEETS]
    first = int(source.header[POSITION]) if turned else 0
    for name in _COLUMNS:
        copy_rows(getattr(target, name), getattr(source, name)[:slots], first)
    copy_rows(target.ids.keys, source.ids.keys[:slots], first)
    _grow_stubs(target, source)
    target.ids.header[0] = np.count_nonzero(target.ids.keys)
    enter_keys(target.ids.slots, target.ids.keys, np.int64(len(target.ids.keys)))
    target.header[:] = source.header
    if turned:
        target.header[POSITION] = size
        links = target.row[:size, [OLDER, NEWER]]
        target.row[:size, [OLDER, NEWER]] = np.where(links >= 0, (links - first) % size, links)
    written = int(source.header[TEXT_HEAD])
    grow_text(target.text, source.text, written)
    # Text that the smaller ring has overwritten must not look as if the larger ring still had it.
    lost = written - target.text_start[:size] > len(source.text)
    target.text_start[:size][lost] = written - len(target.text) - 1
    _enter_heads(target)
    copy_queue(target.erasing, source.erasing, len(target.author_id) + len(target.acts.places))
    early.grow(target.early, source.early)
    lost = target.early.content.any(axis=1) & (written - target.early.text_start > len(source.text))
    target.early.text_start[lost] = written - len(target.text) - 1
    labels.grow(target.labels, source.labels, first)
    acts.grow(target.acts, source.acts)
    acts.grow(target.looks, source.looks)


def _grow_stubs(target: Tweets, source: Tweets) -> None:
    """Copy the rings of stubs, oldest first. With more rings, the people of one ring are spread over several: its stubs
    go to these in turn, since nothing says which person made which."""
    old, new = source.limits[TWEETS], target.limits[TWEETS]
    rings, more = len(source.stub_heads), len(target.stub_heads)
    before, after = (len(source.created_ms) - old) // rings, (len(target.created_ms) - new) // more
    spread = more // rings
    for ring in range(rings):
        order = old + ring * before + (source.stub_heads[ring] + np.arange(before)) % before
        order = order[source.ids.keys[order] != 0][-spread * after :]
        turn = np.arange(len(order))
        places = new + (ring + rings * (turn % spread)) * after + turn // spread
        for name in _COLUMNS:
            getattr(target, name)[places] = getattr(source, name)[order]
        target.ids.keys[places] = source.ids.keys[order]
        for part in range(spread):
            target.stub_heads[ring + rings * part] = len(order[part::spread]) % after


@kernel
def _enter_heads(s: Any) -> None:
    """Enter every author's newest tweet into the empty table of heads."""
    for slot in range(s.header[SIZE]):
        if s.row[slot, STATE] & LISTED != 0 and s.row[slot, NEWER] < 0:
            s.heads[find_head(s, s.author_id[slot])] = slot + 1
