"""Which hashtags and URLs tweets carry, in a sliding window: from a tweet to them.

An interaction graph whose left side are hashtags and URLs, by the 64-bit hash of their names (docs/events.md), and
whose edges are theirs to the tweets that carry them: window, capacity, late events and deletes are the same code
(docs/interaction_graph.md).
"""

from enum import IntEnum
from typing import Annotated, ClassVar

import numpy as np
from msgspec import Meta, Struct

from engine.batch import EventBatch, Kind
from engine.interaction_graph import write_kernels
from engine.interaction_graph.arrays import DELETE_TWEET, IGNORE, NODES_MAX
from engine.interaction_graph.state import InteractionGraph, InteractionGraphConfig

#: Nobody asks which tweets carry an entity: its own list has only its newest.
_ENTITY_DEGREE_MAX = 1


class EntityType(IntEnum):
    """What a tweet carries; the codes are GraphJet's."""

    HASHTAG = 0
    URL = 1


class EntityGraphConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Capacities and rules of the graph of tweets' hashtags and URLs.

    ``edges_max``: pairs of a tweet and what it carries; when they, the tweets or the entities are full, the oldest
    tweets' leave. ``late_ms_max``: a tweet further behind the newest one than this is not stored, nor is one outside
    the window. ``tweet_degree_max``: the last so many entities of a tweet count.
    """

    entities_max: Annotated[int, Meta(ge=1, le=NODES_MAX)] = 1 << 16
    tweets_max: Annotated[int, Meta(ge=1, le=NODES_MAX)] = 1 << 17
    edges_max: Annotated[int, Meta(ge=1, le=1 << 29)] = 1 << 18
    arena_slots_per_edge: Annotated[float, Meta(ge=2, le=64)] = 4.0
    window_ms: Annotated[int, Meta(ge=1000, le=1 << 41)] = 7 * 86_400_000
    late_ms_max: Annotated[int, Meta(ge=0)] = 7 * 86_400_000
    tweet_degree_max: Annotated[int, Meta(ge=1, le=1024)] = 64


class EntityGraph(InteractionGraph):
    """Hashtags and URLs of tweets: where storage says users, it is entities.

    A delete takes the tweet out. An edit changes nothing: it carries no hashtags or URLs of its own (docs/events.md).
    """

    name: ClassVar[str] = "entity_graph"
    layout: ClassVar[int] = 1
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
            )
        )
        self._operations = np.full(256, IGNORE, np.uint8)
        self._operations[Kind.HASHTAG] = EntityType.HASHTAG
        self._operations[Kind.URL] = EntityType.URL
        self._operations[Kind.DELETE] = DELETE_TWEET
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
