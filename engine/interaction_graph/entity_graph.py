"""Which hashtags and URLs each tweet carries, in a sliding window.

An interaction graph whose left side is hashtags and URLs, identified by the 64-bit hash of their names
(docs/events.md). An edge leads from a hashtag or URL to a tweet that carries it. Window, capacity, late events and
deletes are the interaction graph's code (docs/interaction_graph.md).
"""

from enum import IntEnum
from typing import Annotated, ClassVar

import numpy as np
from msgspec import Meta, Struct

from engine.batch import EventBatch, Kind
from engine.interaction_graph import write_kernels
from engine.interaction_graph.arrays import DELETE_TWEET, ERASE_TWEET, IGNORE, NODES_MAX
from engine.interaction_graph.state import InteractionGraph, InteractionGraphConfig

#: No query asks which tweets carry an entity, so an entity's list keeps only the newest.
_ENTITY_DEGREE_MAX = 1


class EntityType(IntEnum):
    """Types of entities that a tweet carries; the codes are GraphJet's."""

    HASHTAG = 0
    URL = 1


class EntityGraphConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Capacities and rules of the graph of tweets' hashtags and URLs.

    ``edges_max``: pairs of a tweet and an entity; when pairs, tweets or entities are full, the oldest pairs leave.
    ``late_ms_max``: a tweet older than the newest tweet by more than this is not stored, nor is a tweet outside the
    window. ``tweet_degree_max``: how many entities a tweet's list keeps, the last ones.
    """

    entities_max: Annotated[int, Meta(ge=1, le=NODES_MAX)] = 1 << 16
    tweets_max: Annotated[int, Meta(ge=1, le=NODES_MAX)] = 1 << 17
    edges_max: Annotated[int, Meta(ge=1, le=1 << 29)] = 1 << 18
    arena_slots_per_edge: Annotated[float, Meta(ge=2, le=64)] = 4.0
    window_ms: Annotated[int, Meta(ge=1000, le=1 << 41)] = 7 * 86_400_000
    late_ms_max: Annotated[int, Meta(ge=0)] = 7 * 86_400_000
    tweet_degree_max: Annotated[int, Meta(ge=1, le=1024)] = 64


class EntityGraph(InteractionGraph):
    """Hashtags and URLs of tweets: the arrays and methods named after users hold entities.

    A delete removes the tweet. An edit changes nothing: edits carry no hashtags or URLs (docs/events.md).
    """

    name: ClassVar[str] = "entity_graph"
    layout: ClassVar[int] = 2
    sides: ClassVar[tuple[str, str]] = ("entities", "tweets")

    def __init__(self, config: EntityGraphConfig) -> None:
        super().__init__(
            InteractionGraphConfig(
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
        )
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
            write_kernels.ingest(
                self.state,
                self._limits,
                batch.context_id[rows],
                batch.subject_id[rows],
                batch.kind[rows],
                self._operations,
                batch.timestamp_ms[rows],
            )
