"""The one place that judges what a viewer may see: every feed, push, query and proof asks here.

A tweet is judged together with all that it stands for (``relate.py``). What is not known is not safe.
"""

from enum import IntFlag
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from engine.pipeline.scratch import Buffers
from engine.rooms import Rooms
from engine.tweet_store.acts import make_acts
from engine.tweet_store.arrays import CREATED, DELETED, make_tweets
from engine.tweet_store.early import make_early
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
    """What was found out about n tweets for a viewer; m entries of what they stand for.

    ``hidden``: uint16 (n), ``Hidden`` bits. ``relation``: uint8 (n), ``Relation`` bits of viewer and author;
    ``related_relation``: uint8 (n), these bits of all authors of what the tweet stands for, together. Of retweets the
    author and time are the retweet's own.
    """

    related: Related
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


class PeopleCheck(Protocol):
    """Judges people, wherever they appear: as authors of what a tweet stands for, and where they are named."""

    def mark(
        self,
        viewer_id: int,
        user_ids: Ids,
        relation: Bits,
        row: NDArray[np.int32],
        original_author_ids: Ids,
        hidden: Marks,
    ) -> None:
        """Set bits in ``hidden`` (n) at the ``row`` (m) of those of ``user_ids`` (m) who are not to be shown to the
        viewer; ``relation`` (m) has their ``Relation`` bits, ``original_author_ids`` (n) the author of each row's
        original. The first n entries are the rows' own. Viewer 0 is nobody in particular."""


class TweetCheck(Protocol):
    """Judges tweets by what they are or say, each together with what it stands for."""

    def mark(self, viewer_id: int, related: Related, relation: Bits, hidden: Marks) -> None:
        """Set bits in ``hidden`` (n) at the rows of entries that are not to be shown to the viewer;
        ``relation`` (m) has the ``Relation`` bits of the entries' authors."""


class BlocksAndMutes:
    """A block or a mute between viewer and person, in either direction."""

    def mark(
        self,
        viewer_id: int,
        user_ids: Ids,
        relation: Bits,
        row: NDArray[np.int32],
        original_author_ids: Ids,
        hidden: Marks,
    ) -> None:
        """See ``PeopleCheck``."""
        kernels.mark_blocks_and_mutes(relation, row, hidden)


class Visibility:
    """Judges tweets and people for viewers, over the rooms of a state. Callers hold the read side of the state lock."""

    def __init__(self, rooms: Rooms) -> None:
        self._social_graph = rooms.social_graph
        self._tweet_store = rooms.tweet_store
        self._people_checks: tuple[PeopleCheck, ...] = (BlocksAndMutes(), standing.Standings(rooms.profiles))
        self._tweet_checks: tuple[TweetCheck, ...] = (
            words.WordsCheck(rooms.muted_words, rooms.tweet_store),
            labels.LabelsCheck(rooms.tweet_store, rooms.profiles),
        )

    def judge(self, viewer_id: int, tweet_ids: Ids, buffers: Buffers) -> Judged:
        """Judge tweets (uint64, n; C-contiguous). The result's arrays are good until ``buffers`` are used again here.

        A tweet is judged with its original, the links between, what these quote and answer, and what that quotes and
        answers: the nearest ``RELATED_MAX`` of them.
        """
        n = len(tweet_ids)
        entries = n * (1 + RELATED_MAX)
        whole = Related(
            buffers.take("visibility.row", np.int32, entries),
            buffers.take("visibility.slot", np.int32, entries),
            buffers.take("visibility.author_id", np.uint64, entries),
        )
        ids = buffers.take("visibility.ids", np.uint64, 4, n)
        facts = Facts(np.empty(n, np.uint16), np.empty(n, np.int64), ids, np.empty(n, np.int32))
        m = int(relate.relate(self._tweet_store.tweets, tweet_ids, whole, facts))
        related = Related(whole.row[:m], whole.slot[:m], whole.author_id[:m])
        relation = self._social_graph.relation(viewer_id, related.author_id)
        for people in self._people_checks:
            people.mark(
                viewer_id, related.author_id, relation, related.row, facts.ids[relate.ORIGINAL_AUTHOR], facts.hidden
            )
        for tweets in self._tweet_checks:
            tweets.mark(viewer_id, related, relation, facts.hidden)
        joined = np.empty(n, np.uint8)
        kernels.join_bits(relation, related.row, joined)
        slots, authors = related.slot[:n], related.author_id[:n]
        known = (relation[:n], joined, slots, authors, facts.created_ms, *facts.ids, facts.original_slot)
        return Judged(related, facts.hidden, *known)

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
        """Which people (uint64, n) may be named to the viewer, by the checks that judge authors.

        ``relation``: uint8 (n), their ``Relation`` bits if the caller has them; no check asks for ``FOLLOWED_BY``.
        """
        n = len(user_ids)
        hidden, row = np.zeros(n, np.uint16), np.arange(n, dtype=np.int32)
        if relation is None:
            relation = self._social_graph.relation(viewer_id, user_ids)
        for people in self._people_checks:
            people.mark(viewer_id, user_ids, relation, row, user_ids, hidden)
        named: NDArray[np.bool_] = hidden == 0
        return named


def warm() -> None:
    """Compile the kernels on tiny arrays of the real dtypes."""
    tweets = make_tweets(
        1, 1, 1, [1.0] * 8, (1.0, 1.0), 1, (make_acts(1, 1, 0), make_acts(1, 1, 0)), 0.0, make_early(1)
    )
    row, bits = np.zeros(1, np.int32), np.ones(1, np.uint8)
    related = Related(row, row.copy(), np.zeros(1, np.uint64))
    facts = Facts(np.zeros(1, np.uint16), np.zeros(1, np.int64), np.zeros((4, 1), np.uint64), np.zeros(1, np.int32))
    relate.relate(tweets, np.ones(1, np.uint64), related, facts)
    words.warm()
    labels.warm()
    kernels.mark_blocks_and_mutes(bits, row, facts.hidden)
    kernels.join_bits(bits, row, bits.copy())
