"""The social graph: who follows, blocks and mutes whom, in both directions.

A room of state (docs/social_graph.md). ``apply`` is called by one thread under the write side of the state lock,
everything else by readers under the read side.
"""

from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import Annotated, ClassVar

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from engine.batch import EventBatch, Kind, make_batch
from engine.effects import Effect, EffectKind, Effects, make_effects
from engine.kernels.handle import handle
from engine.kernels.id_map import HIGH, IdMap
from engine.kernels.id_sets import id_map_of
from engine.room import InOrder, Room, Share, only_grew
from engine.social_graph import arrays, audience_kernels, circle_kernels, growth, read_kernels, sizes, write_kernels
from engine.social_graph.check import check

Ids = NDArray[np.uint64]


class SocialGraphConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Capacities, and what one person may have. One eighth of users and edges is reserved for blocks and mutes.

    ``edges_max`` counts pairs (who, whom) with any of follow, block, mute. ``list_entries_max`` bounds the arena of
    the lists: every follow is in two lists, whose slices are powers of two; five entries per follow are plenty.
    ``…_per_person_max``: one person follows, blocks and mutes at most as many; of what a person undid, as much is
    remembered in case that an older act comes later. In small rooms a person's share is smaller (``sizes.make_graph``).
    """

    users_max: Annotated[int, Meta(ge=2, le=1 << 28)] = 1 << 18
    edges_max: Annotated[int, Meta(ge=2, le=1 << 30)] = 1 << 21
    list_entries_max: Annotated[int, Meta(ge=8, lt=1 << 31)] = 10 << 20
    follows_per_person_max: Annotated[int, Meta(ge=1, le=1 << 30)] = 10_000
    blocks_per_person_max: Annotated[int, Meta(ge=1, le=1 << 30)] = 5000
    mutes_per_person_max: Annotated[int, Meta(ge=1, le=1 << 30)] = 5000
    undone_per_person_max: Annotated[int, Meta(ge=4, le=1 << 20)] = 1000


class Relation(IntEnum):
    """Bits of ``SocialGraph.relation``, from the viewer's side."""

    FOLLOWS = 1
    FOLLOWED_BY = 2
    BLOCKS = 4
    BLOCKED_BY = 8
    MUTES = 16
    MUTED_BY = 32


class Refusal(IntEnum):
    """Why a follow, a block or a mute is refused."""

    TOO_MANY_FOLLOWS = write_kernels.TOO_MANY_FOLLOWS
    TOO_MANY_BLOCKS = write_kernels.TOO_MANY_BLOCKS
    TOO_MANY_MUTES = write_kernels.TOO_MANY_MUTES
    SOCIAL_GRAPH_FULL = write_kernels.FULL


#: Cumulative counters by name.
COUNTERS = {
    "follows": arrays.FOLLOWS,
    "unfollows": arrays.UNFOLLOWS,
    "blocks": arrays.BLOCKS,
    "mutes": arrays.MUTES,
    "blocks_and_mutes_lifted": arrays.LIFTED,
    "repeated": arrays.REPEATED,
    "absent": arrays.ABSENT,
    "late": arrays.LATE,
    "follows_cut_by_block": arrays.CUT_BY_BLOCK,
    "refused_self": arrays.REFUSED_SELF,
    "refused_blocked": arrays.REFUSED_BLOCKED,
    "refused_too_many_follows": arrays.REFUSED_FOLLOWS,
    "refused_too_many_blocks": arrays.REFUSED_BLOCKS,
    "refused_too_many_mutes": arrays.REFUSED_MUTES,
    "dropped_users_full": arrays.DROPPED_USERS,
    "dropped_edges_full": arrays.DROPPED_EDGES,
    "dropped_lists_full": arrays.DROPPED_LISTS,
    "dropped_restrictions_full": arrays.DROPPED_RESTRICTIONS,
    "undone_forgotten": arrays.FORGOTTEN,
    "blocks_and_mutes_not_kept": arrays.UNKEPT,
    "without_user": arrays.WITHOUT_USER,
}


def social_graph_bytes(config: SocialGraphConfig) -> int:
    """Bytes of all arrays."""
    return sizes.graph_bytes(config.users_max, config.edges_max, config.list_entries_max)


class SocialGraph(Room):
    """Follow, block and mute edges between users.

    Writers: ``apply``, one thread. Readers hold the read side of the state lock. What is in force is never evicted: a
    follow, block or mute that does not fit, or is more than one person may have, is refused by name. A person whose
    block or mute found no room is noted, and ``relation`` then takes everybody for blocked or muted whom that concerns.
    """

    name: ClassVar[str] = "social_graph"
    layout: ClassVar[int] = 4
    shares: ClassVar[Mapping[str, Share]] = {
        "users": Share("as edges", "as edges"),
        "edges": Share(
            "`follows_per_person_max`, `blocks_per_person_max`, `mutes_per_person_max`",
            "refused by name: `too_many_follows`, `too_many_blocks`, `too_many_mutes`; at the entrance where possible",
        ),
        "list_entries": Share("as follows", "as follows"),
        "blocks_and_mutes": Share("as edges", "as edges"),
        "undone": Share("`undone_per_person_max`", "the person's first is forgotten (`undone_forgotten`)"),
        "people_not_kept": Share("1", "–"),
    }
    constants: ClassVar[frozenset[str]] = frozenset({"limits"})
    counted: ClassVar[Mapping[str, int]] = COUNTERS

    def __init__(self, config: SocialGraphConfig) -> None:
        self.config = config
        self._graph = handle(
            sizes.make_graph(
                config.users_max,
                config.edges_max,
                config.list_entries_max,
                follows_each=config.follows_per_person_max,
                blocks_each=config.blocks_per_person_max,
                mutes_each=config.mutes_per_person_max,
                undone_each=config.undone_per_person_max,
            )
        )
        super().__init__(self._graph, self._graph.header)

    @property
    def graph(self) -> arrays.Graph:
        """The room's arrays, for kernels that read the whole graph."""
        return self._graph

    @property
    def follow_count(self) -> int:
        """How many follows there are."""
        return int(self._graph.header[arrays.FOLLOWS_NOW])

    def apply(self, batch: EventBatch) -> Effects | None:
        """Apply follow, unfollow, block, unblock, mute and unmute rows in order; other kinds are skipped.

        Returns:
            A REFUSED effect for each follow, block and mute that one person may not have or that found no room.
        """
        columns = (batch.kind, batch.user_id, batch.subject_id, batch.timestamp_ms)
        refused = np.empty((batch.size, 2), np.int64)
        count = write_kernels.apply(self._graph, *columns, refused)
        if not count:
            return None
        return make_effects(
            [
                Effect(EffectKind.REFUSED, row, text=f"{self.reason(Refusal(why))}\n{self.explain(Refusal(why))}")
                for row, why in refused[:count].tolist()
            ]
        )

    def refusals(
        self,
        kind: NDArray[np.uint8],
        user_id: Ids,
        subject_id: Ids,
        group: NDArray[np.int64],
        waiting: NDArray[np.int64],
    ) -> NDArray[np.uint8]:
        """Why each of n events would be refused if they were applied now, one after the other; changes no state.

        The entrances refuse what is refused here; by ``SOCIAL_GRAPH_FULL`` already a little before the room is full.

        Args:
            kind: uint8 (n), with the two people, uint64 (n); kinds that are never refused may be among them.
            group: int64 (n), a number for each person and kind.
            waiting: int64 (groups), how many events that add one were accepted but are not applied yet; overwritten.

        Returns:
            uint8 (2, n): ``Refusal``, 0 for most; and 1 where the event adds one to what its person has.
        """
        out = np.empty((2, kind.shape[0]), np.uint8)
        read_kernels.refusals(self._graph, kind, user_id, subject_id, group, waiting, out)
        return out

    @staticmethod
    def reason(why: Refusal) -> str:
        """The stable name of a refusal, for answers and dead letters."""
        return why.name.lower()

    def explain(self, why: Refusal) -> str:
        """One line for people."""
        limits = self._graph.limits
        if why == Refusal.SOCIAL_GRAPH_FULL:
            return "the social graph has no room left; raise rooms.social_graph.users_max or edges_max"
        name, at = {
            Refusal.TOO_MANY_FOLLOWS: ("follows", arrays.FOLLOWS_EACH),
            Refusal.TOO_MANY_BLOCKS: ("blocks", arrays.BLOCKS_EACH),
            Refusal.TOO_MANY_MUTES: ("mutes", arrays.MUTES_EACH),
        }[why]
        return f"one person {name} at most {int(limits[at])} people (rooms.social_graph.{name}_per_person_max)"

    @property
    def problem(self) -> str | None:
        """Why blocks and mutes cannot be relied on, in one line; None when all is well. Needs no lock."""
        graph = self._graph
        header, limits = graph.header, graph.limits
        people = int(graph.unkept.ids.header[0])
        if header[arrays.UNKEPT_ALL] or people:
            many = "more people than can be noted" if header[arrays.UNKEPT_ALL] else f"{people} people"
            return f"blocks or mutes of {many} found no room in rooms.social_graph; they see no tweets"
        if header[arrays.RESTRICTIONS] >= limits[arrays.RESTRICTIONS_MAX]:
            return "no room for further blocks and mutes: raise rooms.social_graph.edges_max"
        if graph.ids.header[0] >= limits[arrays.ALL_USERS]:
            return "no room for further people who block or mute: raise rooms.social_graph.users_max"
        return None

    def followees(self, user_id: int, limit: int) -> Ids:
        """Whom the user follows: uint64, newest follow first (in the order of the log), at most ``limit``."""
        return self._newest(user_id, arrays.FOLLOWEES_AT, limit)

    def followees_with_relation(self, user_id: int, limit: int) -> tuple[Ids, NDArray[np.uint8]]:
        """``followees``, and their ``relation`` to the user (uint8) except for ``FOLLOWED_BY``, which is left out."""
        ids, relation = np.empty(max(0, limit), np.uint64), np.empty(max(0, limit), np.uint8)
        indices = np.empty(len(ids), np.int32)
        count = int(read_kernels.followees(self._graph, np.uint64(user_id), indices, ids, relation))
        return ids[:count], relation[:count]

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

    def followed_ms(self, user_ids: Ids, other_ids: Ids) -> NDArray[np.int64]:
        """When users (uint64, n) last followed others (uint64, n), pair by pair: int64 (n), ms; -1 for those not
        followed now. Both C-contiguous and writable."""
        out = np.empty(len(other_ids), np.int64)
        read_kernels.followed_ms(self._graph, user_ids, other_ids, np.empty(len(other_ids), np.int32), out)
        return out

    def followers_among(self, author_ids: Ids, audience: IdMap, fewest: NDArray[np.int32]) -> None:
        """Lower ``fewest`` (int32, k), by index of the audience's map (0 … k-1), for everybody who follows one of the
        authors (uint64): to how many of the audience follow that author, the least of them."""
        audience_kernels.followers_among(self._graph, author_ids, audience, np.empty(len(fewest), np.int32), fewest)

    def followed_by(self, people_ids: Ids, author_ids: Ids, most: int) -> tuple[Ids, NDArray[np.int32]]:
        """Who of some people follows each author, and how many of them do.

        Args:
            people_ids: uint64 (k), without repeats, in the order in which they are to be named.
            author_ids: uint64 (n), C-contiguous and writable; 0 and unknown authors have no followers.
            most: how many are named.

        Returns:
            uint64 (n, most), 0 where there are fewer; int32 (n). Of authors with more than 512 followers it is only
            known which of the first 128 people follow them.
        """
        slots = 1 << max(1, (2 * len(people_ids) - 1).bit_length())
        named, counts = np.zeros((len(author_ids), most), np.uint64), np.empty(len(author_ids), np.int32)
        table = (np.empty(slots, np.int64), np.empty(slots, np.int32), np.empty(most, np.int64))
        ids = np.ascontiguousarray(people_ids, np.uint64)
        circle_kernels.followed_by(self._graph, ids, author_ids, table, named, counts)
        return named, counts

    def _newest(self, user_id: int, at: np.int64, limit: int) -> Ids:
        count = int(read_kernels.live_count(self._graph, np.uint64(user_id), at))
        out = np.empty(max(0, min(limit, count)), np.uint64)
        read_kernels.newest(self._graph, np.uint64(user_id), at, out)
        return out

    def in_order(self) -> Iterable[InOrder]:
        """``Bounded.in_order``: users by index, the lists' arena, and the pool of acts."""
        graph = self._graph
        yield InOrder("users", int(graph.ids.header[HIGH]), len(graph.users))
        yield InOrder("arena", int(graph.header[arrays.ARENA_TOP]), len(graph.arena))
        for name, pool in (("acts.moments", graph.acts.moments), ("acts.links", graph.acts.links)):
            yield InOrder(name, int(graph.header[arrays.ACTS_TOP]), len(pool))

    def usage(self) -> Mapping[str, tuple[int, int]]:
        """Users, edges, list entries; blocks and mutes; undone acts; people whose blocks or mutes found no room."""
        header = self._graph.header
        return {
            "users": (int(self._graph.ids.header[0]), self.config.users_max),
            "edges": (int(header[arrays.EDGES]), self.config.edges_max),
            "list_entries": (int(header[arrays.ARENA_USED]), self.config.list_entries_max),
            "blocks_and_mutes": (int(header[arrays.RESTRICTIONS]), int(self._graph.limits[arrays.RESTRICTIONS_MAX])),
            "undone": (int(header[arrays.UNDONE_NOW]), int(self._graph.limits[arrays.UNDONE_MAX])),
            "people_not_kept": (int(self._graph.unkept.ids.header[0]), sizes.UNKEPT_PEOPLE),
        }

    def check(self) -> None:
        """Verify table, lists, arena and counts against each other.

        Raises:
            InvariantError: state that must not exist.
        """
        check(self._graph)

    def grow_from(self, smaller: "SocialGraph") -> bool:
        """Copy the smaller graph's edges and lists (``Bounded.grow_from``)."""
        capacities = ("users_max", "edges_max", "list_entries_max")
        rules = [name for name in self.config.__struct_fields__ if name.endswith("_per_person_max")]
        if not only_grew(smaller.config, self.config, capacities=capacities, rules=rules):
            return False
        growth.grow(self._graph, smaller._graph)
        return True


def warm() -> None:
    """Compile the kernels on a tiny batch of the real dtypes."""
    graph = SocialGraph(SocialGraphConfig(users_max=4, edges_max=8, list_entries_max=16))
    graph.apply(make_batch(kind=[Kind.FOLLOW, Kind.FOLLOW], user_id=[1, 2], subject_id=[2, 1]))
    graph.followees(1, 1)
    graph.followees_with_relation(1, 1)
    ids = np.array([1, 2], np.uint64)
    graph.relation(1, ids)
    graph.followed_ms(ids, ids)
    graph.relations(1, ids, ids)
    circle_kernels.warm_on(graph.graph)
    graph.followers_among(ids, id_map_of(ids), np.zeros(2, np.int32))
    graph.refusals(np.zeros(2, np.uint8), ids, ids, np.zeros(2, np.int64), np.zeros(1, np.int64))
