"""The interaction graph: which user engaged with which tweet, how and when, in a sliding window, both directions.

A room of state (docs/interaction_graph.md). ``apply`` and ``ingest`` are called by one thread under the write side
of the state lock, everything else by readers under the read side.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from engine.batch import UNDOES, Change, EventBatch, Kind, make_batch
from engine.interaction_graph import act_kernels, growth, read_kernels, write_kernels
from engine.interaction_graph.arrays import (
    ACT,
    DELETE_TWEET,
    ERASE_TWEET,
    ERASE_USER,
    IGNORE,
    NODES_MAX,
    PUBLISH,
    REPLACE,
    TAKE_BACK,
    EdgeType,
    GraphArrays,
    Limit,
    Scalar,
)
from engine.interaction_graph.check import check
from engine.interaction_graph.named_kernels import refuse_named
from engine.kernels import calendar_log, id_map, ring_slices
from engine.kernels.daily_share import DAY_MS, daily_share_bytes, make_daily_share
from engine.kernels.erasing import QUEUE_SIZE, make_queue
from engine.kernels.handle import handle
from engine.room import InOrder, Room, Share, only_grew

__all__ = ["EdgeType", "InteractionGraph", "InteractionGraphConfig", "interaction_graph_bytes"]

Ids = NDArray[np.uint64]
EdgeKind = Literal[
    "favorite",
    "retweet",
    "reply",
    "quote",
    "create",
    "mention",
    "media_tag",
    "click",
    "dwell",
    "video_50",
    "share",
    "bookmark",
    "photo_expand",
    "profile_click",
]

_TYPE_OF_KIND = {
    Kind.CLICK: EdgeType.CLICK,
    Kind.FAVORITE: EdgeType.FAVORITE,
    Kind.RETWEET: EdgeType.RETWEET,
    Kind.REPLY: EdgeType.REPLY,
    Kind.CREATE: EdgeType.TWEET,
    Kind.MENTION: EdgeType.IS_MENTIONED,
    Kind.MEDIA_TAG: EdgeType.IS_MEDIA_TAGGED,
    Kind.QUOTE: EdgeType.QUOTE,
    Kind.DWELL: EdgeType.DWELL,
    Kind.VIDEO_50: EdgeType.VIDEO_50,
    Kind.SHARE: EdgeType.SHARE,
    Kind.BOOKMARK: EdgeType.BOOKMARK,
    Kind.PHOTO_EXPAND: EdgeType.PHOTO_EXPAND,
    Kind.PROFILE_CLICK: EdgeType.PROFILE_CLICK,
}
#: What others make for a user may take one of so many of the user's places.
_NAMED_SHARE = 32
#: What one user takes back may take one of so many places for undos per day; in a small room, so many.
_UNDOS_SHARE, _UNDOS_LEAST = 16, 64
_UNDO_OF_KIND = {kind: undo for undo, kind in UNDOES.items()}


class InteractionGraphConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Capacities and rules; the defaults suit a small machine.

    ``edge_kinds``: the events that make edges. ``late_ms_max``: an event older than the newest event by more than this
    is not stored, nor is an event outside the window. ``undos_max``: how many undos and deletes the room remembers, to
    refuse older acts that arrive after their undo, one user's at most 1/16 of them per day, or 64 if that is more.
    ``*_degree_max``: how many edges a node's list keeps, the newest.
    ``user_entries_max``: how many of the ``edges_max`` places one user may take, edges taken back or replaced included
    (they keep their places until they leave the window); what others make for a user (mentions, tags) may take the
    first 1/32 of them, what one author makes half of that in a window. ``arena_slots_per_edge``: for both lists of an
    edge together; slices are powers of two, so 3.2 is tight, 4 ample.
    """

    users_max: Annotated[int, Meta(ge=1, le=NODES_MAX)] = 1 << 18
    tweets_max: Annotated[int, Meta(ge=1, le=NODES_MAX)] = 1 << 18
    edges_max: Annotated[int, Meta(ge=1, le=1 << 29)] = 1 << 20
    arena_slots_per_edge: Annotated[float, Meta(ge=2, le=64)] = 4.0
    window_ms: Annotated[int, Meta(ge=1000, le=1 << 41)] = 48 * 3_600_000
    late_ms_max: Annotated[int, Meta(ge=0)] = 48 * 3_600_000
    undos_max: Annotated[int, Meta(ge=1, le=1 << 24)] = 1 << 14
    user_degree_max: Annotated[int, Meta(ge=1, lt=1 << 26)] = 1024
    tweet_degree_max: Annotated[int, Meta(ge=1, lt=1 << 26)] = 8192
    user_entries_max: Annotated[int, Meta(ge=1, le=1 << 29)] = 4096
    edge_kinds: tuple[EdgeKind, ...] = (
        "favorite",
        "retweet",
        "reply",
        "quote",
        "create",
        "mention",
        "media_tag",
        "share",
        "bookmark",
        "video_50",
    )


_CAPACITIES = (
    "users_max",
    "tweets_max",
    "edges_max",
    "arena_slots_per_edge",
    "window_ms",
    "undos_max",
    "user_degree_max",
    "tweet_degree_max",
)


def _named_per_day(config: InteractionGraphConfig) -> int:
    """How often one author may name one person per day: in a window, half of what there is for all authors."""
    days = -(-config.window_ms // DAY_MS)
    return max(1, config.user_entries_max // (2 * _NAMED_SHARE * days))


def _arena_slots(config: InteractionGraphConfig) -> int:
    return min(ring_slices.ARENA_SLOTS_MAX, max(64, int(config.edges_max * config.arena_slots_per_edge) // 4 * 4))


def interaction_graph_bytes(config: InteractionGraphConfig) -> int:
    """Bytes of all arrays, by the formula in docs/interaction_graph.md."""
    nodes = config.users_max + config.tweets_max
    return (
        id_map.id_map_bytes(config.users_max)
        + id_map.id_map_bytes(config.tweets_max)
        + 12 * nodes
        + ring_slices.arena_bytes(_arena_slots(config))
        + calendar_log.calendar_bytes(config.edges_max, config.window_ms // 1000)
        + id_map.id_map_bytes(config.undos_max)
        + 8 * (config.undos_max + 1)
        + 8 * QUEUE_SIZE
        + daily_share_bytes(config.undos_max)
        + daily_share_bytes(config.users_max)
        + 8 * len(Scalar)
    )


def operations_for(edge_kinds: tuple[EdgeKind, ...]) -> NDArray[np.uint8]:
    """The operation of ``act_kernels.ingest_changes`` for each event kind: (256,) uint8."""
    operations = np.full(256, IGNORE, np.uint8)
    for name in edge_kinds:
        kind = Kind[name.upper()]
        if kind == Kind.CREATE:
            operations[kind] = PUBLISH
        elif kind in (Kind.MENTION, Kind.MEDIA_TAG):
            operations[kind] = REPLACE + _TYPE_OF_KIND[kind]
        else:
            operations[[kind, _UNDO_OF_KIND.get(kind, kind)]] = ACT + _TYPE_OF_KIND[kind]
    operations[Kind.DELETE] = DELETE_TWEET
    operations[Kind.ERASE] = ERASE_USER
    operations[Kind.ERASED_TWEET] = ERASE_TWEET
    return operations


class InteractionGraph(Room):
    """A bipartite graph of users and tweets with typed, timed edges; of one user, tweet and type ``apply`` keeps one.

    Writers: ``apply`` and ``ingest``, one thread. Readers hold the read side of the state lock. The window holds
    the edges of the last ``window_ms`` before the newest event, at most ``edges_max``; the oldest edge always leaves
    first. Times are kept to the second.
    """

    name: ClassVar[str] = "interaction_graph"
    layout: ClassVar[int] = 5
    shares: ClassVar[Mapping[str, Share]] = {
        "edges": Share(
            "`user_entries_max`; mentions and tags of a person, 1/32 of it, by one author half of that in "
            "a window; undos and deletes, 1/16 of `undos_max` "
            "per day, or 64 if that is more",
            "the edge is not stored (`over_share`), the undo not remembered",
        ),
        "users": Share("1", "–"),
        "tweets": Share("as edges", "as edges"),
        "arena": Share(
            "the lists of these edges, `user_degree_max` at most", "the list's oldest edge leaves (`capped_user`)"
        ),
    }
    config: InteractionGraphConfig
    #: docs/interaction_graph.md explains each counter.
    counted: ClassVar[Mapping[str, int]] = {s.name.lower(): s for s in Scalar if s is not Scalar.WATERMARK_S}
    #: Names of the two sides' nodes.
    sides: ClassVar[tuple[str, str]] = ("users", "tweets")

    def __init__(self, config: InteractionGraphConfig) -> None:
        self.config = config
        scalars = np.zeros(len(Scalar), np.int64)
        scalars[Scalar.WATERMARK_S] = -1
        self.state = handle(
            GraphArrays(
                users=id_map.make_id_map(config.users_max),
                tweets=id_map.make_id_map(config.tweets_max),
                user_records=np.zeros(config.users_max, np.int64),
                tweet_records=np.zeros(config.tweets_max, np.int64),
                user_skips=np.zeros(config.users_max, np.int32),
                tweet_skips=np.zeros(config.tweets_max, np.int32),
                arena=ring_slices.make_arena(_arena_slots(config)),
                log=calendar_log.make_calendar_log(config.edges_max, config.window_ms // 1000),
                undone=id_map.make_id_map(config.undos_max),
                undone_seconds=np.zeros(config.undos_max, np.int64),
                undone_next=np.zeros(1, np.int64),
                erasing=make_queue(),
                undos_spent=make_daily_share(config.undos_max),
                named_spent=make_daily_share(config.users_max),
                scalars=scalars,
            )
        )
        super().__init__(self.state, scalars)
        #: The arrays that reading kernels take: views of the state, not copies.
        self.read_arrays = handle(read_kernels.read_arrays(self.state))
        self._limits = np.zeros(len(Limit), np.int64)
        self._limits[Limit.WINDOW_S] = config.window_ms // 1000
        self._limits[Limit.LATE_S] = config.late_ms_max // 1000
        self._limits[Limit.USER_DEGREE] = config.user_degree_max
        self._limits[Limit.TWEET_DEGREE] = config.tweet_degree_max
        self._limits[Limit.USER_ENTRIES] = config.user_entries_max
        self._limits[Limit.NAMED_ENTRIES] = max(1, config.user_entries_max // _NAMED_SHARE)
        self._limits[Limit.NAMED_PER_DAY] = _named_per_day(config)
        self._limits[Limit.UNDOS_PER_DAY] = max(_UNDOS_LEAST, config.undos_max // _UNDOS_SHARE)
        self._operations = operations_for(config.edge_kinds)
        self._types = np.full(256, IGNORE, np.uint8)
        self._types[:16] = np.arange(16)
        self._types[EdgeType.UNFAVORITE] = TAKE_BACK + EdgeType.FAVORITE
        self._types[EdgeType.UNRETWEET] = TAKE_BACK + EdgeType.RETWEET

    def apply(self, batch: EventBatch) -> None:
        """Apply a batch's engagements and tweets (``Room.apply``); other kinds are ignored.

        Engagements count for the original of their tweet, those of its author not at all.
        """
        engaged = (batch.kind < Kind.CREATE) & (batch.original_id != 0)
        own = (batch.original_author_id == batch.user_id) & (batch.change != Change.ENDS)
        kinds, share = batch.kind.copy(), self._limits[Limit.NAMED_PER_DAY]
        self.state.scalars[Scalar.OVER_SHARE] += refuse_named(
            self.state.named_spent, kinds, batch.author_id, batch.user_id, batch.timestamp_ms, share
        )
        columns: list[NDArray[Any]] = [
            batch.user_id,
            np.where(engaged, batch.original_id, batch.subject_id),
            kinds,
            batch.timestamp_ms,
            np.where(own, np.uint8(Change.NOTHING), batch.change),
            batch.replaced_ms,
        ]
        # What is taken back of a retweet's original may have been done when nobody knew that it is a retweet.
        carried = np.flatnonzero(engaged & (batch.change == Change.ENDS) & (batch.original_id != batch.subject_id))
        if len(carried):
            columns = [np.insert(column, carried, column[carried]) for column in columns]
            columns[1][carried + np.arange(len(carried))] = batch.subject_id[carried]
        users, tweets, kinds, times_ms, changes, replaced_ms = columns
        act_kernels.ingest_changes(
            self.state, self._limits, users, tweets, kinds, self._operations, times_ms, changes, replaced_ms
        )

    def ingest(self, user_ids: Ids, tweet_ids: Ids, types: NDArray[np.uint8], times_ms: NDArray[np.int64]) -> None:
        """Apply n typed edges in order (UNFAVORITE and UNRETWEET remove edges); ``types`` by ``EdgeType``.

        All arrays (n,), C-contiguous, writable, of exactly these dtypes.

        Raises:
            ValueError: columns of unequal length.
        """
        if not len(user_ids) == len(tweet_ids) == len(types) == len(times_ms):
            raise ValueError("columns of unequal length")
        write_kernels.ingest(self.state, self._limits, user_ids, tweet_ids, types, self._types, times_ms)

    def in_order(self) -> Iterable[InOrder]:
        """``Bounded.in_order``: the entries of the log; the arena, which gives its first free slots away first."""
        arena, log = self.state.arena, self.state.log
        yield InOrder("arena.entries", ring_slices.slots_in_use(arena), len(arena.entries))
        yield InOrder("log.entries", int(log.header[calendar_log.HIGH]), len(log.entries))

    def usage(self) -> Mapping[str, tuple[int, int]]:
        """Entries of the log, indices of both sides, slots of the arena."""
        state = self.state
        slots = state.arena.entries.shape[0]
        return {
            "edges": (int(state.log.header[calendar_log.COUNT]), self.config.edges_max),
            self.sides[0]: (int(state.users.header[id_map.SIZE]), self.config.users_max),
            self.sides[1]: (int(state.tweets.header[id_map.SIZE]), self.config.tweets_max),
            "arena": (slots - int(state.arena.header[ring_slices.FREE_SLOTS]), slots),
        }

    @property
    def watermark_ms(self) -> int:
        """The newest event time applied, to the second; -1000 before the first."""
        return int(self.state.scalars[Scalar.WATERMARK_S]) * 1000

    def check(self) -> None:
        """Verify the invariants (``Room.check``).

        Raises:
            InvariantError: state that must not exist.
        """
        check(self.state, self._limits)

    def grow_from(self, smaller: "InteractionGraph") -> bool:
        """Copy the smaller graph's edges (``Bounded.grow_from``); a longer window fills as new events come."""
        if not only_grew(
            smaller.config, self.config, capacities=_CAPACITIES, rules=("late_ms_max", "user_entries_max")
        ):
            return False
        growth.grow(self.state, smaller.state)
        return True

    def user_degree(self, user_id: int) -> int:
        """How many edges the user's list has (parallel edges count); 0 for an unknown user."""
        return read_kernels.degree_of(self.state.users, self.state.user_records, user_id)

    def tweet_degree(self, tweet_id: int) -> int:
        """How many edges the tweet's list has (parallel edges count); 0 for an unknown tweet."""
        return read_kernels.degree_of(self.state.tweets, self.state.tweet_records, tweet_id)

    def neighbors_of_user(self, user_id: int, limit: int) -> tuple[Ids, NDArray[np.uint8], NDArray[np.int64]]:
        """The user's newest edges, newest first: tweet ids, types, times in ms (to the second)."""
        state = self.state
        return read_kernels.neighbors_of(state.users, state.user_records, state.tweets, state.arena, user_id, limit)

    def neighbors_of_tweet(self, tweet_id: int, limit: int) -> tuple[Ids, NDArray[np.uint8], NDArray[np.int64]]:
        """The tweet's newest edges, newest first: user ids, types, times in ms (to the second)."""
        state = self.state
        return read_kernels.neighbors_of(state.tweets, state.tweet_records, state.users, state.arena, tweet_id, limit)

    def top_users(self, limit: int) -> tuple[Ids, NDArray[np.int64]]:
        """The users with most edges, and their degrees: greatest degree first, then by id. O(users)."""
        return read_kernels.top_nodes(self.state.users, self.state.user_records, limit)


def warm() -> None:
    """Compile the room's writing and look-up kernels on the real types."""
    graph = InteractionGraph(
        InteractionGraphConfig(users_max=4, tweets_max=4, edges_max=4, window_ms=10_000, user_degree_max=2)
    )
    ids = np.ones(1, np.uint64)
    for edge_type, time_ms in ((1, 1_000), (1, 50_000), (1, 49_000), (8, 50_000)):
        graph.ingest(ids, ids.copy(), np.array([edge_type], np.uint8), np.array([time_ms], np.int64))
    kinds = [Kind.FAVORITE, Kind.CREATE, Kind.MENTION, Kind.UNFAVORITE, Kind.DELETE]
    graph.apply(make_batch(kind=kinds, user_id=[1] * 5, subject_id=[1] * 5, timestamp_ms=[50_000] * 5))
    graph.neighbors_of_user(1, 1)
    graph.top_users(1)
