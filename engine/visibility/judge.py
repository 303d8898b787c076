"""The one place that judges what a viewer may see: every feed, push, query and proof asks here.

A tweet is judged together with all that it stands for (``relate.py``). What is not known is not safe.
"""

from enum import IntFlag
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.pipeline.scratch import Buffers
from engine.rooms import Rooms, small_rooms
from engine.tweet_store.arrays import CREATED, DELETED
from engine.visibility import kernels, labels, relate, standing, words
from engine.visibility.relate import RELATED_MAX, Facts, Related

Ids = NDArray[np.uint64]
Bits = NDArray[np.uint8]
Marks = NDArray[np.uint16]


class Hidden(IntFlag):
    """Why a viewer may not see a tweet. A tweet without any bit may be seen."""

    UNHYDRATED = int(relate.BIT_UNHYDRATED)
    CONTEXT_MISSING = int(relate.BIT_CONTEXT_MISSING)
    BLOCKED = int(kernels.BIT_BLOCKED)
    MUTED = int(kernels.BIT_MUTED)
    AUTHOR_SUSPENDED = int(standing.BIT_SUSPENDED)
    AUTHOR_DEACTIVATED = int(standing.BIT_DEACTIVATED)
    AUTHOR_UNKNOWN = int(standing.BIT_UNKNOWN)
    AUTHOR_PROTECTED = int(standing.BIT_PROTECTED)
    OPTED_OUT = int(standing.BIT_OPTED_OUT)
    MUTED_WORD = int(words.BIT_MUTED_WORD)
    UNSAFE_LABEL = int(labels.BIT_UNSAFE)
    LABEL_FOR_FOLLOWERS = int(labels.BIT_FOR_FOLLOWERS)
    LABEL_NOT_RECOMMENDED = int(labels.BIT_NOT_RECOMMENDED)
    SENSITIVE_MEDIA = int(labels.BIT_SENSITIVE)


class Judged(NamedTuple):
    """What was found out about n tweets for a viewer.

    ``hidden``: uint16 (n), ``Hidden`` bits. ``relation``: uint8 (n), ``Relation`` bits of viewer and author;
    ``related_relation``: uint8 (n), these bits of all authors of what the tweet stands for, together. Of retweets the
    author and time are the retweet's own.
    """

    hidden: Marks
    relation: Bits
    related_relation: Bits
    slot: NDArray[np.int32]
    author_id: Ids
    created_ms: NDArray[np.int64]
    original_id: Ids
    original_author_id: Ids
    answered_author_id: Ids
    root_id: Ids
    original_slot: NDArray[np.int32]


class Visibility:
    """Judges tweets and people for viewers, over the rooms of a state. Callers hold the read side of the state lock."""

    def __init__(self, rooms: Rooms) -> None:
        self._social_graph = rooms.social_graph
        self._tweet_store = rooms.tweet_store
        self._profiles = rooms.profiles
        self._words = words.WordsCheck(rooms.muted_words, rooms.tweet_store)

    def judge(self, viewer_id: int, tweet_ids: Ids, buffers: Buffers) -> Judged:
        """Judge tweets (uint64, n; C-contiguous). The result's arrays are good until ``buffers`` are used again here.

        A tweet is judged with its original, the links between, what these quote and answer, and what that quotes and
        answers: the nearest ``RELATED_MAX`` of them.
        """
        n = len(tweet_ids)
        entries = n * (1 + RELATED_MAX)
        whole = Related(
            buffers.at_least("visibility.row", np.int32, entries),
            buffers.at_least("visibility.slot", np.int32, entries),
            buffers.at_least("visibility.author_id", np.uint64, entries),
        )
        relation = buffers.at_least("visibility.relation", np.uint8, entries)
        numbers = buffers.at_least("visibility.numbers", np.int32, entries)
        ids, joined = buffers.take("visibility.ids", np.uint64, 4, n), np.empty(n, np.uint8)
        facts = Facts(np.empty(n, np.uint16), np.empty(n, np.int64), ids, np.empty(n, np.int32))
        rooms = (self._tweet_store.tweets, self._social_graph.graph, self._profiles.profiles)
        bits = (relation, joined, numbers)
        m = int(kernels.judge(*rooms, np.uint64(viewer_id), tweet_ids, whole, facts, bits))
        self._words.mark(viewer_id, whole, m, facts.hidden)
        slots, authors = whole.slot[:n], whole.author_id[:n]
        known = (relation[:n], joined, slots, authors, facts.created_ms, *facts.ids, facts.original_slot)
        return Judged(facts.hidden, *known)

    def may_see(self, viewer_id: int, tweet_ids: Ids) -> NDArray[np.bool_]:
        """Which tweets (uint64, n) the viewer may see; viewer 0: anybody may see them."""
        ids = np.ascontiguousarray(tweet_ids, np.uint64)
        seen: NDArray[np.bool_] = self.judge(viewer_id, ids, Buffers()).hidden == 0
        return seen

    def may_mention(self, viewer_id: int, tweet_ids: Ids) -> NDArray[np.bool_]:
        """Which tweets (uint64, n) may be named by their ids alone: those that the viewer may see, and those that were
        never created here, of which nothing is known that could be shown."""
        ids = np.ascontiguousarray(tweet_ids, np.uint64)
        judged = self.judge(viewer_id, ids, Buffers())
        never_created = self._tweet_store.columns(judged.slot).state & np.uint8(CREATED | DELETED) == 0
        hidden = judged.hidden & ~np.where(never_created, np.uint16(Hidden.UNHYDRATED), np.uint16(0))
        mentioned: NDArray[np.bool_] = hidden == 0
        return mentioned

    def may_name(self, viewer_id: int, user_ids: Ids, relation: Bits | None = None) -> NDArray[np.bool_]:
        """Which people (uint64, n) may be named to the viewer, by what judges authors.

        ``relation``: uint8 (n), their ``Relation`` bits if the caller has them; no check asks for ``FOLLOWED_BY``.
        """
        if relation is None:
            relation = self._social_graph.relation(viewer_id, user_ids)
        named: NDArray[np.bool_] = self.judge_people(viewer_id, user_ids, relation) == 0
        return named

    def judge_people(self, viewer_id: int, user_ids: Ids, relation: Bits) -> Marks:
        """Why people (uint64, n) may not be named to the viewer: ``Hidden`` bits, uint16 (n), 0 where they may be;
        ``relation``: uint8 (n), their ``Relation`` bits, as of ``may_name``."""
        ids, n = np.ascontiguousarray(user_ids, np.uint64), len(user_ids)
        hidden, row = np.empty(n, np.uint16), np.empty(n, np.int32)
        kernels.judge_people(self._profiles.profiles, np.uint64(viewer_id), ids, relation, row, hidden)
        return hidden


def warm() -> None:
    """Compile the kernels on a tiny state of the real dtypes."""
    visibility = Visibility(Rooms(small_rooms(64)))
    visibility.may_see(1, np.ones(1, np.uint64))
    visibility.may_name(1, np.ones(1, np.uint64))
    words.warm()
