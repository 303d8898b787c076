"""Engagement aggregates: how much people engage with an author's tweets, and a viewer with an author's, decayed.

A derived room (docs/engagement_aggregates.md), the role of the real-time aggregates of a feed's ranker. ``apply`` is
called by one thread under the write side of the state lock, everything else by readers under the read side.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, ClassVar

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from engine.batch import EventBatch, Kind, make_batch
from engine.engagement_aggregates import arrays, read_kernels, write_kernels
from engine.engagement_aggregates.arrays import Label, PairLabel
from engine.engagement_aggregates.check import check
from engine.errors import ConfigError
from engine.kernels.erasing import QUEUE_SIZE, copy_queue
from engine.kernels.growth import copy_rows, grow_id_map
from engine.kernels.handle import handle
from engine.kernels.id_map import HIGH, SIZE, id_map_bytes
from engine.room import DerivedRoom, InOrder, Share, only_grew
from engine.social_graph.state import SocialGraph, SocialGraphConfig

Ids = NDArray[np.uint64]
Rows = NDArray[np.int32]
Counts = NDArray[np.float32]
HalfLife = Annotated[int, Meta(ge=1000, le=10**11)]


class EngagementAggregatesConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Capacities and half-lives.

    A viewer keeps counts with the ``pairs_per_viewer`` authors of the newest acts. A dwell shorter than
    ``dwell_s_min`` is no sign of interest and is not counted.
    """

    authors_max: Annotated[int, Meta(ge=1, le=1 << 28)] = 1 << 15
    viewers_max: Annotated[int, Meta(ge=1, le=1 << 28)] = 1 << 13
    pairs_per_viewer: Annotated[int, Meta(ge=1, le=256)] = 16
    half_life_short_ms: HalfLife = 1_800_000
    half_life_long_ms: HalfLife = 86_400_000
    dwell_s_min: Annotated[float, Meta(ge=0.0, le=3600.0)] = 2.0


#: Cumulative counters by name.
COUNTERS = {
    "counted": arrays.COUNTED,
    "authors_evicted": arrays.EVICTED_AUTHORS,
    "viewers_evicted": arrays.EVICTED_VIEWERS,
    "pairs_evicted": arrays.EVICTED_PAIRS,
    "impressions_without_pair": arrays.IMPRESSIONS_WITHOUT_PAIR,
    "unknown_author": arrays.UNKNOWN_AUTHOR,
    "without_author": arrays.WITHOUT_AUTHOR,
    "without_user": arrays.WITHOUT_USER,
    "own_tweets": arrays.OWN_TWEETS,
    "unchanged": arrays.UNCHANGED,
    "short_dwells": arrays.SHORT_DWELLS,
    "taken_back": arrays.TAKEN_BACK,
}


def engagement_aggregates_bytes(config: EngagementAggregatesConfig) -> int:
    """Bytes of all arrays: 177 an author, 136 a pair, 1 a viewer, and two id maps."""
    vector = 4 * arrays.HALF_LIVES
    authors = (vector * len(Label) + 17) * config.authors_max + id_map_bytes(config.authors_max)
    pairs = (vector * len(PairLabel) + 32) * config.viewers_max * config.pairs_per_viewer
    return (
        authors + pairs + config.viewers_max + id_map_bytes(config.viewers_max) + 8 * (arrays.HEADER_SIZE + QUEUE_SIZE)
    )


class EngagementAggregates(DerivedRoom):
    """Decayed counts of what people did, by author and by viewer and author; the longest untouched are evicted.

    Writers: ``apply``, one thread. Readers hold the read side of the state lock.
    """

    name: ClassVar[str] = "engagement_aggregates"
    layout: ClassVar[int] = 3
    shares: ClassVar[Mapping[str, Share]] = {
        "authors": Share("1, entered only by the author's own tweet", "–"),
        "viewers": Share("1", "–"),
        "pairs": Share("`pairs_per_viewer`", "the author whom the person engaged with longest ago (`pairs_evicted`)"),
    }
    constants: ClassVar[frozenset[str]] = frozenset({"half_lives_ms"})
    counted: ClassVar[Mapping[str, int]] = COUNTERS
    reads: ClassVar[tuple[str, ...]] = ("social_graph",)

    def __init__(self, config: EngagementAggregatesConfig, social_graph: SocialGraph) -> None:
        """Allocate everything.

        Raises:
            ConfigError: the long half-life is shorter than the short one.
        """
        if config.half_life_long_ms < config.half_life_short_ms:
            raise ConfigError("engagement_aggregates.half_life_long_ms: shorter than half_life_short_ms")
        self.config = config
        self._social_graph = social_graph
        self._aggregates = handle(
            arrays.make_aggregates(
                config.authors_max,
                config.viewers_max,
                config.pairs_per_viewer,
                (config.half_life_short_ms, config.half_life_long_ms),
            )
        )
        self._found = np.empty((write_kernels.AHEAD_ROWS, write_kernels.FOUND_COLUMNS), np.int64)
        super().__init__(self._aggregates, self._aggregates.header)

    def apply(self, batch: EventBatch) -> None:
        """Count the piece's acts; who follows whom is as of the end of the piece."""
        dwell_s_min = np.float64(self.config.dwell_s_min)
        write_kernels.apply(self._aggregates, self._social_graph.graph, batch, dwell_s_min, self._found)

    def of_authors(self, author_ids: Ids, time_ms: int) -> Counts:
        """What people did to authors' tweets and to the authors, decayed to ``time_ms``.

        Args:
            author_ids: uint64 (n); 0 and unknown authors give zeros.
            time_ms: the request's time; acts later than it count too.

        Returns:
            float32 (n, labels, 2), by ``Label`` and half-life (short, long).
        """
        out = np.empty((len(author_ids), len(Label), arrays.HALF_LIVES), np.float32)
        read_kernels.of_authors(self._aggregates, _one_signature(author_ids), np.int64(time_ms), out)
        return out

    def of_pairs(self, viewer_id: int, author_ids: Ids, time_ms: int) -> Counts:
        """What a viewer did to tweets of authors (uint64, n): float32 (n, pair labels, 2), as ``of_authors``."""
        out = np.empty((len(author_ids), len(PairLabel), arrays.HALF_LIVES), np.float32)
        ids = _one_signature(author_ids)
        read_kernels.of_pairs(self._aggregates, np.uint64(viewer_id), ids, np.int64(time_ms), out)
        return out

    def features(
        self, viewer_id: int, author_ids: Ids, rows: Rows, time_ms: int, labels: NDArray[np.int64], out: Counts, at: int
    ) -> None:
        """Counts of the long half-life, as ``of_authors`` and ``of_pairs`` have them, into the columns of a matrix.

        Args:
            author_ids: uint64 (n), C-contiguous and writable.
            rows: int32 (m), which of them.
            labels: int64: a ``Label`` of the author, then ``PairLabel``s of the viewer with the author.
            out: float32 (m, F), C-contiguous; the labels' columns begin at ``at``.
        """
        viewer, found = np.uint64(viewer_id), np.empty(len(rows), np.int32)
        read_kernels.features(self._aggregates, viewer, author_ids, rows, np.int64(time_ms), labels, found, out, at)

    def in_order(self) -> Iterable[InOrder]:
        """``Bounded.in_order``: the viewers' pairs."""
        store = self._aggregates
        yield InOrder("pair_counts", int(store.viewers.header[HIGH]), len(store.pair_counts))

    def usage(self) -> Mapping[str, tuple[int, int]]:
        """Authors, viewers and pairs."""
        config = self.config
        return {
            "authors": (int(self._aggregates.authors.header[SIZE]), config.authors_max),
            "viewers": (int(self._aggregates.viewers.header[SIZE]), config.viewers_max),
            "pairs": (int(self._aggregates.header[arrays.PAIRS]), config.viewers_max * config.pairs_per_viewer),
        }

    def check(self) -> None:
        """Verify keys, pairs and counts against each other.

        Raises:
            InvariantError: state that must not exist.
        """
        check(self._aggregates)

    def grow_from(self, smaller: "EngagementAggregates") -> bool:
        """Hold the same counts (``Bounded.grow_from``)."""
        capacities = ("authors_max", "viewers_max", "pairs_per_viewer")
        if not only_grew(smaller.config, self.config, capacities=capacities, rules=("dwell_s_min",)):
            return False
        own, held = self._aggregates, smaller._aggregates
        grow_id_map(own.authors, held.authors)
        grow_id_map(own.viewers, held.viewers)
        for name in ("author_counts", "author_ms", "author_since_ms", "author_touched", "viewer_touched", "header"):
            copy_rows(getattr(own, name), getattr(held, name))
        viewers, pairs = held.pair_author.shape
        for name in ("pair_author", "pair_ms", "pair_since_ms", "pair_act_ms", "pair_counts"):
            getattr(own, name)[:viewers, :pairs] = getattr(held, name)
        copy_queue(own.erasing, held.erasing, len(own.pair_author))
        return True


def _one_signature(ids: Ids) -> Ids:
    """Ids as kernels know them, uint64, C-contiguous and writable: themselves if they are, else a copy."""
    flags = ids.flags
    return ids if ids.dtype == np.uint64 and flags.c_contiguous and flags.writeable else np.array(ids, np.uint64)


def warm() -> None:
    """Compile the kernels on a tiny batch of the real dtypes."""
    graph = SocialGraph(SocialGraphConfig(users_max=2, edges_max=2, list_entries_max=8))
    room = EngagementAggregates(EngagementAggregatesConfig(authors_max=1, viewers_max=1, pairs_per_viewer=1), graph)
    kinds, ids = [Kind.CREATE, Kind.FAVORITE], np.array([1, 2], np.uint64)
    room.apply(make_batch(kind=kinds, user_id=ids, original_author_id=[1, 1]))
    room.of_authors(ids, 0)
    room.of_pairs(2, ids, 0)
    room.features(2, ids, np.zeros(1, np.int32), 0, np.zeros(2, np.int64), np.empty((1, 2), np.float32), 0)
