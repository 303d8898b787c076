"""The social graph: who follows, blocks and mutes whom, in both directions.

A room of state (docs/social_graph.md). ``apply`` is called by one thread under the write side of the state lock,
everything else by readers under the read side.
"""

from collections.abc import Mapping
from enum import IntEnum
from typing import Annotated, ClassVar

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from engine.batch import EventBatch, Kind, make_batch
from engine.kernels.id_map import id_map_bytes
from engine.room import Room, only_grew
from engine.social_graph import arrays, growth, read_kernels, write_kernels
from engine.social_graph.check import check

Ids = NDArray[np.uint64]


class SocialGraphConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Capacities. One eighth of users and edges is reserved for blocks and mutes.

    ``edges_max`` counts pairs (who, whom) with any of follow, block, mute. ``list_entries_max`` bounds the arena of
    the lists: every follow is in two lists, whose slices are powers of two; five entries per follow are plenty.
    """

    users_max: Annotated[int, Meta(ge=2, le=1 << 28)] = 1 << 18
    edges_max: Annotated[int, Meta(ge=2, le=1 << 30)] = 1 << 21
    list_entries_max: Annotated[int, Meta(ge=8, lt=1 << 31)] = 10 << 20


class Relation(IntEnum):
    """Bits of ``SocialGraph.relation``, from the viewer's side."""

    FOLLOWS = 1
    FOLLOWED_BY = 2
    BLOCKS = 4
    BLOCKED_BY = 8
    MUTES = 16
    MUTED_BY = 32


#: Cumulative counters by name.
COUNTERS = {
    "follows": arrays.FOLLOWS,
    "unfollows": arrays.UNFOLLOWS,
    "blocks": arrays.BLOCKS,
    "mutes": arrays.MUTES,
    "blocks_and_mutes_lifted": arrays.LIFTED,
    "repeated": arrays.REPEATED,
    "absent": arrays.ABSENT,
    "follows_cut_by_block": arrays.CUT_BY_BLOCK,
    "refused_self": arrays.REFUSED_SELF,
    "refused_blocked": arrays.REFUSED_BLOCKED,
    "dropped_users_full": arrays.DROPPED_USERS,
    "dropped_edges_full": arrays.DROPPED_EDGES,
    "dropped_lists_full": arrays.DROPPED_LISTS,
    "without_user": arrays.WITHOUT_USER,
}


def social_graph_bytes(config: SocialGraphConfig) -> int:
    """Bytes of all arrays: 16 per table slot, 64 per user, the id map, 4 per list entry."""
    users = 4 * arrays.USER_COLUMNS * config.users_max + id_map_bytes(config.users_max)
    scalars = 8 * (arrays.CLASSES + arrays.HEADER_SIZE)
    return 16 * arrays.table_size(config.edges_max) + users + 4 * config.list_entries_max + scalars


class SocialGraph(Room):
    """Follow, block and mute edges between users.

    Writers: ``apply``, one thread. Readers hold the read side of the state lock. Nothing is ever evicted: an edge that
    does not fit is dropped and counted.
    """

    name: ClassVar[str] = "social_graph"
    constants: ClassVar[frozenset[str]] = frozenset({"limits"})
    counted: ClassVar[Mapping[str, int]] = COUNTERS

    def __init__(self, config: SocialGraphConfig) -> None:
        self.config = config
        self._graph = arrays.make_graph(config.users_max, config.edges_max, config.list_entries_max)
        super().__init__(self._graph, self._graph.header)

    @property
    def graph(self) -> arrays.Graph:
        """The room's arrays, for kernels that read the whole graph."""
        return self._graph

    @property
    def follow_count(self) -> int:
        """How many follows there are."""
        return int(self._graph.header[arrays.FOLLOWS_NOW])

    def apply(self, batch: EventBatch) -> None:
        """Apply follow, unfollow, block, unblock, mute and unmute rows in order; other kinds are skipped."""
        write_kernels.apply(self._graph, batch.kind, batch.user_id, batch.subject_id)

    def followees(self, user_id: int, limit: int) -> Ids:
        """Whom the user follows: uint64, newest follow first (in the order of the log), at most ``limit``."""
        return self._newest(user_id, arrays.FOLLOWEES_AT, limit)

    def followers(self, user_id: int, limit: int) -> Ids:
        """Who follows the user: uint64, newest follow first (in the order of the log), at most ``limit``."""
        return self._newest(user_id, arrays.FOLLOWERS_AT, limit)

    def followee_count(self, user_id: int) -> int:
        """How many people the user follows."""
        return int(read_kernels.live_count(self._graph, np.uint64(user_id), arrays.FOLLOWEES_AT))

    def follower_count(self, user_id: int) -> int:
        """How many people follow the user."""
        return int(read_kernels.live_count(self._graph, np.uint64(user_id), arrays.FOLLOWERS_AT))

    def relation(self, viewer_id: int, other_ids: Ids) -> NDArray[np.uint8]:
        """``Relation`` bits between the viewer and each of ``other_ids`` (uint64, n; 0 and unknown ids give 0)."""
        out = np.empty(len(other_ids), np.uint8)
        ids = np.ascontiguousarray(other_ids, np.uint64)
        read_kernels.relation(self._graph, np.uint64(viewer_id), ids, np.empty(len(ids), np.int32), out)
        return out

    def relations(self, viewer_id: int, other_ids: Ids, more_ids: Ids) -> NDArray[np.uint8]:
        """``relation`` of two columns of users (uint64, n) at once: uint8 (2, n). Both C-contiguous and writable."""
        out = np.empty((2, len(other_ids)), np.uint8)
        indices = np.empty(len(other_ids), np.int32)
        read_kernels.relations(self._graph, np.uint64(viewer_id), other_ids, more_ids, indices, out)
        return out

    def _newest(self, user_id: int, at: np.int64, limit: int) -> Ids:
        count = int(read_kernels.live_count(self._graph, np.uint64(user_id), at))
        out = np.empty(max(0, min(limit, count)), np.uint64)
        read_kernels.newest(self._graph, np.uint64(user_id), at, out)
        return out

    def usage(self) -> Mapping[str, tuple[int, int]]:
        """Users, edges and list entries."""
        header = self._graph.header
        return {
            "users": (int(self._graph.ids.header[0]), self.config.users_max),
            "edges": (int(header[arrays.EDGES]), self.config.edges_max),
            "list_entries": (int(header[arrays.ARENA_USED]), self.config.list_entries_max),
        }

    def check(self) -> None:
        """Verify table, lists, arena and counts against each other.

        Raises:
            InvariantError: state that must not exist.
        """
        check(self._graph)

    def grow_from(self, smaller: "SocialGraph") -> bool:
        """Copy the smaller graph's edges and lists (``Bounded.grow_from``)."""
        if not only_grew(smaller.config, self.config, capacities=("users_max", "edges_max", "list_entries_max")):
            return False
        growth.grow(self._graph, smaller._graph)
        return True


def warm() -> None:
    """Compile the kernels on a tiny batch of the real dtypes."""
    graph = SocialGraph(SocialGraphConfig(users_max=4, edges_max=8, list_entries_max=16))
    graph.apply(make_batch(kind=[Kind.FOLLOW, Kind.FOLLOW], user_id=[1, 2], subject_id=[2, 1]))
    graph.followees(1, 1)
    ids = np.array([1, 2], np.uint64)
    graph.relation(1, ids)
    graph.relations(1, ids, ids)
