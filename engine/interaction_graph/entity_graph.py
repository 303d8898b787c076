"""Which hashtags and URLs each tweet carries, in a sliding window.

An interaction graph whose left side is hashtags and URLs, identified by the 64-bit hash of their names
(docs/events.md). An edge leads from a hashtag or URL to a tweet that carries it. Window, capacity, late events and
deletes are the interaction graph's code (docs/interaction_graph.md).
"""

from collections.abc import Mapping
from enum import IntEnum
from typing import Annotated, Any, ClassVar

import numpy as np
from msgspec import Meta, Struct

from engine.batch import EventBatch, Kind, make_batch
from engine.interaction_graph import write_kernels
from engine.interaction_graph.arrays import DELETE_TWEET, ERASE_TWEET, IGNORE, NODES_MAX
from engine.interaction_graph.state import InteractionGraph, InteractionGraphConfig, interaction_graph_bytes
from engine.kernels import daily_share
from engine.kernels.daily_share import OVER_SHARE, daily_share_bytes, make_daily_share, share_of, take_share
from engine.kernels.jit import kernel
from engine.room import Share

_HASHTAG, _URL = int(Kind.HASHTAG), int(Kind.URL)
#: How many tweets an entity's list keeps, the newest: twice an author's default share of a day.
_ENTITY_DEGREE_MAX = 8192


class EntityType(IntEnum):
    """Types of entities that a tweet carries; the codes are GraphJet's."""

    HASHTAG = 0
    URL = 1


class EntityGraphConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Capacities and rules of the graph of tweets' hashtags and URLs.

    ``edges_max``: pairs of a tweet and an entity; when pairs, tweets or entities are full, the oldest pairs leave.
    ``late_ms_max``: a tweet older than the newest tweet by more than this is not stored, nor is a tweet outside the
    window. ``tweet_degree_max``: how many entities a tweet's list keeps, the last ones. ``author_entries_per_day_max``:
    how many pairs one author's tweets may bring per day (of a small room at most a quarter); more are not stored.
    """

    entities_max: Annotated[int, Meta(ge=1, le=NODES_MAX)] = 1 << 16
    tweets_max: Annotated[int, Meta(ge=1, le=NODES_MAX)] = 1 << 17
    edges_max: Annotated[int, Meta(ge=1, le=1 << 29)] = 1 << 18
    arena_slots_per_edge: Annotated[float, Meta(ge=2, le=64)] = 4.0
    window_ms: Annotated[int, Meta(ge=1000, le=1 << 41)] = 7 * 86_400_000
    late_ms_max: Annotated[int, Meta(ge=0)] = 7 * 86_400_000
    tweet_degree_max: Annotated[int, Meta(ge=1, le=1024)] = 64
    author_entries_per_day_max: Annotated[int, Meta(ge=1, le=1 << 29)] = 4096


@kernel
def _admit(spent: Any, kinds: Any, author_ids: Any, times_ms: Any, share: Any, admitted: Any) -> None:
    """Write which rows (n) are stored: deletes, and what is within its author's share."""
    for row in range(kinds.shape[0]):
        admitted[row] = True
        if kinds[row] == _HASHTAG or kinds[row] == _URL:
            admitted[row] = take_share(spent, author_ids[row], 1, share, times_ms[row])


def entity_graph_bytes(config: EntityGraphConfig) -> int:
    """Bytes of all arrays: those of an interaction graph, and the authors' shares."""
    return interaction_graph_bytes(_as_graph(config)) + daily_share_bytes(config.edges_max)


def _as_graph(config: EntityGraphConfig) -> InteractionGraphConfig:
    return InteractionGraphConfig(
        users_max=config.entities_max,
        tweets_max=config.tweets_max,
        edges_max=config.edges_max,
        arena_slots_per_edge=config.arena_slots_per_edge,
        window_ms=config.window_ms,
        late_ms_max=config.late_ms_max,
        user_degree_max=_ENTITY_DEGREE_MAX,
        tweet_degree_max=config.tweet_degree_max,
        user_entries_max=config.edges_max,
    )


class EntityGraph(InteractionGraph):
    """Hashtags and URLs of tweets: the arrays and methods named after users hold entities.

    A delete removes the tweet. An edit changes nothing: edits carry no hashtags or URLs (docs/events.md).
    """

    name: ClassVar[str] = "entity_graph"
    layout: ClassVar[int] = 5
    sides: ClassVar[tuple[str, str]] = ("entities", "tweets")
    shares: ClassVar[Mapping[str, Share]] = {
        "edges": Share(
            "`author_entries_per_day_max`, of the hashtags and URLs in the author's tweets",
            "the pair is not stored (`over_share`)",
        ),
        "entities": Share("as edges", "as edges"),
        "tweets": Share("as edges", "as edges"),
        "arena": Share("as edges", "as edges"),
    }

    def __init__(self, config: EntityGraphConfig) -> None:
        super().__init__(_as_graph(config))
        self._spent = make_daily_share(config.edges_max)
        self._share = np.int64(share_of(config.author_entries_per_day_max, config.edges_max))
        self._state_arrays = {**self._state_arrays, **{f"spent.{k}": v for k, v in self._spent._asdict().items()}}
        self._operations = np.full(256, IGNORE, np.uint8)
        self._operations[Kind.HASHTAG] = EntityType.HASHTAG
        self._operations[Kind.URL] = EntityType.URL
        self._operations[Kind.DELETE] = DELETE_TWEET
        self._operations[Kind.ERASED_TWEET] = ERASE_TWEET
        self._wanted = self._operations != IGNORE

    def apply(self, batch: EventBatch) -> None:
        """Apply a batch's hashtags, URLs and deletes (``Room.apply``)."""
        rows = np.flatnonzero(self._wanted[batch.kind])
        if len(rows):
            admitted = np.empty(len(rows), np.bool_)
            columns = batch.kind[rows], batch.author_id[rows], batch.timestamp_ms[rows]
            _admit(self._spent, *columns, self._share, admitted)
            rows = rows[admitted]
        if len(rows):
            write_kernels.ingest(
                self.state,
                self._limits,
                batch.context_id[rows],
                batch.subject_id[rows],
                batch.kind[rows],
                self._operations,
                batch.timestamp_ms[rows],
            )

    def counters(self) -> Mapping[str, int]:
        """As of an interaction graph; ``over_share`` counts the pairs that were more than their author's share."""
        return {**super().counters(), "over_share": int(self._spent.header[OVER_SHARE])}

    def grow_from(self, smaller: InteractionGraph) -> bool:
        """Copy the smaller graph's edges, and what its authors brought today (``Bounded.grow_from``)."""
        if not isinstance(smaller, EntityGraph) or not super().grow_from(smaller):
            return False
        daily_share.grow(self._spent, smaller._spent)
        return True


def warm() -> None:
    """Compile the room's own kernel on the real types."""
    room = EntityGraph(EntityGraphConfig(entities_max=1, tweets_max=1, edges_max=4, window_ms=10_000))
    room.apply(make_batch(kind=[Kind.HASHTAG], subject_id=[1], author_id=[1], context_id=[1], timestamp_ms=[1_000]))
