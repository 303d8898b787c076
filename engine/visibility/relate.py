"""Gathers all tweets that a tweet stands for: its original, and what it and its original quote and answer.

A tweet is one thing however it arrives: whoever is shown a retweet is shown its original, and whoever is shown a quote
or a reply is shown what it is about. So all of them decide together whether the tweet may be shown.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.kernels.id_map import find
from engine.kernels.jit import inlined, kernel
from engine.kernels.prefetch import prefetch
from engine.tweet_store.arrays import (
    CONVERSATION,
    CREATED,
    QUOTED,
    REPLY_TO,
    RETWEETED,
    ROW,
    STATE,
    ZERO,
    is_retweet,
    original_of,
    prefetch_id,
)
from engine.tweet_store.read_kernels import is_servable

#: Bits of ``Judged.hidden`` that are decided here; ``judge.Hidden`` names them.
BIT_UNHYDRATED, BIT_CONTEXT_MISSING = np.uint16(1), np.uint16(2)

#: The most other tweets that are looked at for one tweet, the nearest first.
RELATED_MAX = 24
#: So many links of a chain of retweets are looked at one by one; of a longer chain also the end.
CHAIN_NEAR = 8
#: A conversation's root is searched for over at most this many replies where the reply does not name it.
ANCESTORS_MAX = 8


class Related(NamedTuple):
    """The tweets that n tweets stand for, one entry each (m ≥ n).

    The first n entries are the n tweets themselves, in their order; the others follow by ascending ``row``. Every
    other entry's tweet was created and not deleted.

    ``row``: int32 (m), which of the n tweets the entry belongs to. ``slot``: int32 (m), place in the tweet store, -1
    where not created (only among the first n). ``author_id``: uint64 (m), 0 where not known.
    """

    row: NDArray[np.int32]
    slot: NDArray[np.int32]
    author_id: NDArray[np.uint64]


class Facts(NamedTuple):
    """What the tweet store knows of n tweets.

    ``hidden``: uint16, bits. ``created_ms``: int64. ``ids``: uint64 (4, n): the original, its author, the author of the
    tweet that this tweet answers, and the root of its conversation if it answers one. 0 where not known, or no reply.
    ``original_slot``: int32, the original's place in the tweet store; the tweet's own where the original is not known.
    """

    hidden: NDArray[np.uint16]
    created_ms: NDArray[np.int64]
    ids: NDArray[np.uint64]
    original_slot: NDArray[np.int32]


ORIGINAL, ORIGINAL_AUTHOR, ANSWERED_AUTHOR, ROOT = range(4)
#: Columns of ``Tweets.refs``.
REFERENCES = 4


@inlined
def _enter(s: Any, related: Any, row: Any, own: Any, begin: Any, end: Any, slot: Any) -> Any:
    """Add a tweet's slot to the entries ``begin`` … ``end`` of a row, unless it is there; returns the new end."""
    if slot == own or end - begin == RELATED_MAX:
        return end
    for at in range(begin, end):
        if related.slot[at] == slot:
            return end
    related.row[end] = row
    related.slot[end] = slot
    related.author_id[end] = s.author_id[slot]
    return end + 1


@inlined
def _servable_slot(s: Any, tweet_id: Any) -> Any:
    """The slot of a tweet that was created and not deleted, else -1."""
    slot = np.int64(find(s.ids, tweet_id))
    return slot if slot >= 0 and is_servable(s, slot) else np.int64(-1)


@kernel
def _enter_chain(s: Any, related: Any, facts: Any, row: Any, own: Any, begin: Any) -> Any:
    """Add a retweet's original and the links on the way to it; returns the new end, -1 if one of them is missing."""
    slot, original_id = original_of(s, own, s.ids.keys[own])
    if slot < 0 or not is_servable(s, slot):
        return np.int64(-1)
    facts.ids[ORIGINAL, row] = original_id
    facts.ids[ORIGINAL_AUTHOR, row] = s.author_id[slot]
    facts.original_slot[row] = slot
    end = _enter(s, related, row, own, begin, begin, slot)
    link = own
    for _ in range(CHAIN_NEAR):
        if s.refs[link, RETWEETED] == original_id:
            break
        link = _servable_slot(s, s.refs[link, RETWEETED])
        if link < 0 or not is_retweet(s, link):
            # The chain's stored end and its links agree, so this happens only where a link is missing.
            return np.int64(-1)
        end = _enter(s, related, row, own, begin, end, link)
    return end


@kernel
def _enter_context(s: Any, related: Any, facts: Any, row: Any, own: Any, begin: Any, end: Any) -> Any:
    """Add what a row's tweets quote and answer, and what those do in turn, nearest first; returns the new end. Marks
    the row if one of them is missing."""
    at, chain_end = begin - 1, end
    while at < end:
        slot = own if at < begin else np.int64(related.slot[at])
        for reference in (QUOTED, REPLY_TO, CONVERSATION, RETWEETED):
            tweet_id = s.refs[slot, reference]
            if tweet_id != ZERO and (reference != RETWEETED or at >= chain_end):
                other = _servable_slot(s, tweet_id)
                if other < 0:
                    facts.hidden[row] = BIT_CONTEXT_MISSING
                else:
                    end = _enter(s, related, row, own, begin, end, other)
        if at >= chain_end and is_retweet(s, slot):
            other, _ = original_of(s, slot, s.ids.keys[slot])
            if other < 0 or not is_servable(s, other):
                facts.hidden[row] = BIT_CONTEXT_MISSING
            else:
                end = _enter(s, related, row, own, begin, end, other)
        at += 1
    return end


@kernel
def _place_reply(s: Any, facts: Any, row: Any, own: Any) -> None:
    """Write whom a reply answers, and the root of its conversation."""
    parent = np.int64(find(s.ids, s.refs[own, REPLY_TO]))
    if parent >= 0:
        facts.ids[ANSWERED_AUTHOR, row] = s.author_id[parent]
    root = s.refs[own, CONVERSATION]
    if root == ZERO:
        root = s.refs[own, REPLY_TO]
        for _ in range(ANCESTORS_MAX):
            slot = np.int64(find(s.ids, root))
            if slot < 0 or s.refs[slot, REPLY_TO] == ZERO:
                break
            root = s.refs[slot, REPLY_TO]
    facts.ids[ROOT, row] = root


@inlined
def _prefetch_references(s: Any, slots: Any) -> None:
    """Prefetch the tweets that those of the slots (int32, n; -1 for none) refer to, first their places, then these."""
    for i in range(slots.shape[0]):
        if slots[i] >= 0:
            for reference in range(REFERENCES):
                if s.refs[slots[i], reference] != ZERO:
                    prefetch_id(s, s.refs[slots[i], reference])
    for i in range(slots.shape[0]):
        if slots[i] >= 0:
            for reference in range(REFERENCES):
                other = np.int64(find(s.ids, s.refs[slots[i], reference]))
                if other >= 0:
                    prefetch(s.row, other * ROW)
                    prefetch(s.refs, other * REFERENCES)
                    prefetch(s.author_id, other)


@kernel
def relate(s: Any, tweet_ids: Any, related: Any, facts: Any) -> Any:
    """Write what tweets (uint64, n) stand for into ``related``, whose arrays have n · (1 + RELATED_MAX) entries, and
    what is known of them into ``facts``; returns how many entries there are.

    A tweet that is not known, or whose original is not, gets BIT_UNHYDRATED; one that quotes or answers what is not
    known gets BIT_CONTEXT_MISSING. Not known: never created, fallen out of the store, deleted.
    """
    n = tweet_ids.shape[0]
    for i in range(n):
        prefetch_id(s, tweet_ids[i])
    for i in range(n):
        slot = np.int64(find(s.ids, tweet_ids[i]))
        if slot >= 0 and s.row[slot, STATE] & CREATED == 0:
            slot = np.int64(-1)
        related.row[i] = i
        related.slot[i] = slot
        if slot >= 0:
            prefetch(s.row, slot * ROW)
            prefetch(s.refs, slot * REFERENCES)
            prefetch(s.author_id, slot)
            prefetch(s.created_ms, slot)
    _prefetch_references(s, related.slot[:n])
    end = np.int64(n)
    for i in range(n):
        slot = np.int64(related.slot[i])
        known = slot >= 0
        author_id = s.author_id[slot] if known else ZERO
        related.author_id[i] = author_id
        facts.created_ms[i] = s.created_ms[slot] if known else 0
        facts.ids[ORIGINAL, i] = tweet_ids[i]
        facts.ids[ORIGINAL_AUTHOR, i] = author_id
        facts.original_slot[i] = slot
        facts.ids[ANSWERED_AUTHOR, i] = facts.ids[ROOT, i] = ZERO
        facts.hidden[i] = 0
        if not known or not is_servable(s, slot):
            facts.hidden[i] = BIT_UNHYDRATED
        elif s.refs[slot, 0] | s.refs[slot, 1] | s.refs[slot, 2] | s.refs[slot, 3] != ZERO:
            if s.refs[slot, REPLY_TO] != ZERO:
                _place_reply(s, facts, np.int64(i), slot)
            chain_end = end
            if is_retweet(s, slot):
                chain_end = _enter_chain(s, related, facts, np.int64(i), slot, end)
            if chain_end < 0:
                facts.hidden[i] = BIT_UNHYDRATED
            else:
                end = _enter_context(s, related, facts, np.int64(i), slot, end, chain_end)
    return end
