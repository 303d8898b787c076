"""Who lately followed, mentioned or tagged whom, in a sliding window.

An interaction graph whose right side is users, too: storage, window, caps, undo and late events are the interaction
graph's code (docs/interaction_graph.md). The social graph knows who follows whom now; this graph also knows since when.
"""

from collections.abc import Mapping
from enum import IntEnum
from typing import Annotated, ClassVar

import numpy as np
from msgspec import Meta, Struct

from engine.batch import EventBatch, Kind
from engine.interaction_graph import act_kernels
from engine.interaction_graph.arrays import ACT, ERASE_BOTH, IGNORE, NODES_MAX, REPLACE, TAKE_BACK, Limit
from engine.interaction_graph.state import InteractionGraph, InteractionGraphConfig
from engine.room import Share


class UserEdgeType(IntEnum):
    """Types of edges between users; the codes are GraphJet's."""

    FOLLOW = 0
    MENTION = 1
    MEDIA_TAG = 2


class UserGraphConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Capacities and rules of the graph of follows, mentions and media tags.

    ``users_max``: for each of the two sides, users who act and users who are followed or named. ``late_ms_max``: an
    event older than the newest event by more than this is not stored, nor is an event outside the window.
    ``degree_max``: how many edges a user's list keeps on either side, the newest. ``user_entries_max``: how many of the
    ``edges_max`` places one user's follows, mentions and tags of others may take.
    """

    users_max: Annotated[int, Meta(ge=1, le=NODES_MAX)] = 1 << 16
    edges_max: Annotated[int, Meta(ge=1, le=1 << 29)] = 1 << 18
    arena_slots_per_edge: Annotated[float, Meta(ge=2, le=64)] = 4.0
    window_ms: Annotated[int, Meta(ge=1000, le=1 << 41)] = 7 * 86_400_000
    late_ms_max: Annotated[int, Meta(ge=0)] = 7 * 86_400_000
    degree_max: Annotated[int, Meta(ge=1, lt=1 << 26)] = 1024
    user_entries_max: Annotated[int, Meta(ge=1, le=1 << 29)] = 4096


class UserGraph(InteractionGraph):
    """Follows, mentions and media tags as typed, timed edges: arrays and methods named after tweets hold users.

    An unfollow removes the follow; a block removes the follows both ways. A person's mentions of another are one edge.
    """

    name: ClassVar[str] = "user_graph"
    layout: ClassVar[int] = 4
    sides: ClassVar[tuple[str, str]] = ("users", "users_named")
    shares: ClassVar[Mapping[str, Share]] = {
        "edges": Share(
            "`user_entries_max`; undos, 1/16 of what is remembered per day, or 64",
            "the edge is not stored (`over_share`), the undo not remembered",
        ),
        "users": Share("1", "–"),
        "users_named": Share("as edges", "as edges"),
        "arena": Share(
            "the lists of these edges, `degree_max` at most", "the list's oldest edge leaves (`capped_user`)"
        ),
    }

    def __init__(self, config: UserGraphConfig) -> None:
        super().__init__(
            InteractionGraphConfig(
                users_max=config.users_max,
                tweets_max=config.users_max,
                edges_max=config.edges_max,
                arena_slots_per_edge=config.arena_slots_per_edge,
                window_ms=config.window_ms,
                late_ms_max=config.late_ms_max,
                user_degree_max=config.degree_max,
                tweet_degree_max=config.degree_max,
                user_entries_max=config.user_entries_max,
            )
        )
        self._operations = np.full(256, IGNORE, np.uint8)
        self._operations[[Kind.FOLLOW, Kind.UNFOLLOW]] = ACT + UserEdgeType.FOLLOW
        self._operations[Kind.MENTION] = REPLACE + UserEdgeType.MENTION
        self._operations[Kind.MEDIA_TAG] = REPLACE + UserEdgeType.MEDIA_TAG
        self._operations[Kind.ERASE] = ERASE_BOTH
        self._operations[Kind.BLOCK] = TAKE_BACK + UserEdgeType.FOLLOW
        # Whoever mentions makes the edge, so there is no smaller share for what others make.
        self._limits[Limit.NAMED_ENTRIES] = self._limits[Limit.USER_ENTRIES]
        self._wanted = self._operations != IGNORE

    def apply(self, batch: EventBatch) -> None:
        """Apply a batch's follows, unfollows, blocks, mentions and media tags (``Room.apply``)."""
        rows = np.flatnonzero(self._wanted[batch.kind])
        if not len(rows):
            return
        kind = batch.kind[rows]
        # In rows of mentions and media tags ``user_id`` is the person named.
        named = kind < Kind.FOLLOW
        source = np.where(named, batch.author_id[rows], batch.user_id[rows])
        target = np.where(named, batch.user_id[rows], batch.subject_id[rows])
        columns = [source, target, kind, batch.timestamp_ms[rows], batch.change[rows], batch.replaced_ms[rows]]
        blocks = np.flatnonzero(kind == Kind.BLOCK)
        if len(blocks):
            # A block ends the follows both ways.
            columns = [np.insert(column, blocks, column[blocks]) for column in columns]
            again = blocks + np.arange(len(blocks))
            columns[0][again], columns[1][again] = target[blocks], source[blocks]
        source, target, kind, times_ms, changes, replaced_ms = columns
        act_kernels.ingest_changes(
            self.state, self._limits, source, target, kind, self._operations, times_ms, changes, replaced_ms
        )
