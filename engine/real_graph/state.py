"""real_graph: how strongly each person is tied to each other person, from what was done day by day.

A room of state (docs/real_graph.md). ``apply`` is called by one thread under the write side of the state lock,
everything else by readers under the read side.
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar, NamedTuple

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from engine.batch import Change, EventBatch, Kind, make_batch
from engine.kernels.erasing import QUEUE_SIZE, copy_queue
from engine.kernels.growth import copy_rows, grow_id_map
from engine.kernels.handle import handle
from engine.kernels.id_map import SIZE, id_map_bytes, lookup
from engine.kernels.jit import kernel
from engine.kernels.top_k import top_k
from engine.real_graph import arrays, column_kernels, read_kernels, write_kernels
from engine.real_graph.check import check
from engine.room import Room, Share, only_grew

Ids = NDArray[np.uint64]


class RealGraphConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Capacities.

    A pair is one person's acts toward another, a feature one kind of them; two features a pair are usual. A person
    keeps at most ``pairs_per_person_max`` pairs, and an eighth of all pairs.
    """

    people_max: Annotated[int, Meta(ge=2, le=1 << 28)] = 1 << 14
    pairs_max: Annotated[int, Meta(ge=8, le=1 << 29)] = 1 << 17
    features_max: Annotated[int, Meta(ge=16, le=1 << 30)] = 5 << 16
    pairs_per_person_max: Annotated[int, Meta(ge=1, le=1 << 20)] = 2000


class Ties(NamedTuple):
    """Others and how strongly somebody is tied to them, the strongest first: uint64 (n), float32 (n) in [0, 1)."""

    user_ids: Ids
    scores: NDArray[np.float32]


#: Cumulative counters by name.
COUNTERS = {
    "counted": arrays.COUNTED,
    "taken_back": arrays.TAKEN_BACK,
    "late": arrays.LATE,
    "people_evicted": arrays.EVICTED_PEOPLE,
    "pairs_evicted": arrays.EVICTED_PAIRS,
    "pairs_lapsed": arrays.LAPSED_PAIRS,
    "dropped_full": arrays.DROPPED_FULL,
    "without_person": arrays.WITHOUT_PERSON,
    "toward_self": arrays.TOWARD_SELF,
}


def real_graph_bytes(config: RealGraphConfig) -> int:
    """Bytes of all arrays: 24 a pair and its table, 44 a feature, 16 a person and the id map."""
    pairs = 24 * config.pairs_max + 4 * arrays.table_size(config.pairs_max)
    people = 16 * config.people_max + id_map_bytes(config.people_max)
    return pairs + 44 * config.features_max + people + 8 * (arrays.HEADER_SIZE + QUEUE_SIZE)


class RealGraph(Room):
    """Daily statistics of what one person did toward another, and the strength of ties.

    Writers: ``apply``, one thread. Readers hold the read side of the state lock. A person's weakest pairs make room for
    the person's new ones; when the room is full, the person who acted longest ago is forgotten.
    """

    name: ClassVar[str] = "real_graph"
    layout: ClassVar[int] = 3
    shares: ClassVar[Mapping[str, Share]] = {
        "people": Share("1, and those of the person's pairs", "as pairs"),
        "pairs": Share("`pairs_per_person_max`, and an eighth of all", "the person's own pairs give way"),
        "features": Share("those of the person's pairs", "as pairs"),
    }
    constants: ClassVar[frozenset[str]] = frozenset({"limits"})
    counted: ClassVar[Mapping[str, int]] = COUNTERS

    def __init__(self, config: RealGraphConfig) -> None:
        self.config = config
        #: The most pairs of one person.
        self.pairs_each = max(1, min(config.pairs_per_person_max, config.pairs_max // 8))
        self._ties = handle(arrays.make_ties(config.people_max, config.pairs_max, config.features_max, self.pairs_each))
        each = self.pairs_each
        self._scratch = (np.empty(each, np.uint64), np.empty(each, np.float64), np.empty(each, np.int32))
        super().__init__(self._ties, self._ties.header)

    def apply(self, batch: EventBatch) -> None:
        """Count engagements, mentions, photo tags and contacts; note blocks, mutes, reports and unfollows."""
        write_kernels.apply(self._ties, batch, self._scratch)

    def strength(self, viewer_id: int, other_ids: Ids, time_ms: int) -> NDArray[np.float32]:
        """How strongly a viewer is tied to others, by the default score: an estimate of acts toward them tomorrow.

        Args:
            viewer_id: an unknown one gives zeros.
            other_ids: uint64 (n); 0 and unknown ids give 0.
            time_ms: the request's time.

        Returns:
            float32 (n) in [0, 1); 0 where nothing is known, and after a block, mute, report or recent unfollow.
        """
        ids = np.array(other_ids, np.uint64)
        out = np.empty(len(ids), np.float32)
        read_kernels.strength(self._ties, np.uint64(viewer_id), ids, _day(time_ms), out)
        return out

    def strength_between(self, source_ids: Ids, other_ids: Ids, time_ms: int) -> NDArray[np.float32]:
        """``strength`` of each source (uint64, n) toward the other (uint64, n) at its place."""
        sources, others = np.array(source_ids, np.uint64), np.array(other_ids, np.uint64)
        out = np.empty(len(others), np.float32)
        read_kernels.strength_between(self._ties, sources, others, _day(time_ms), out)
        return out

    def strongest(self, viewer_id: int, time_ms: int, limit: int) -> Ties:
        """Those to whom a viewer is tied most strongly, followed or not; among equals, the smaller id first."""
        ids, scores, _ = self._pairs(viewer_id, time_ms)
        count = int(np.count_nonzero(scores > 0))
        best = np.empty(max(0, min(limit, count)), np.int32)
        top_k(scores, ids, np.int64(len(ids)), np.int64(len(best)), best)
        return Ties(ids[best], scores[best].astype(np.float32))

    def negatives(self, viewer_id: int, time_ms: int, limit: int = 500) -> tuple[Ids, NDArray[np.uint8]]:
        """Whom a viewer blocked, muted, reported or lately unfollowed: ids (uint64) and ``Status`` bits (uint8), those
        with most kinds of it first."""
        ids, _, flags = self._pairs(viewer_id, time_ms)
        kinds = np.zeros(len(ids), np.float64)
        for bit in arrays.Status:
            if bit & arrays.NEGATIVE:
                kinds += flags & bit != 0
        best = np.empty(max(0, min(limit, int(np.count_nonzero(kinds)))), np.int32)
        top_k(kinds, ids, np.int64(len(ids)), np.int64(len(best)), best)
        return ids[best], flags[best] & np.uint8(arrays.NEGATIVE)

    def statuses_toward(self, source_ids: Ids, viewer_id: int, time_ms: int) -> NDArray[np.uint8]:
        """``Status`` bits of each source (uint64, n) toward the viewer: uint8 (n)."""
        ids = np.array(source_ids, np.uint64)
        out = np.empty(len(ids), np.uint8)
        read_kernels.statuses_toward(self._ties, ids, np.uint64(viewer_id), _day(time_ms), out)
        return out

    def statistics(self, viewer_id: int, other_ids: Ids, time_ms: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """The statistics of pairs as of the end of the day of ``time_ms``.

        Returns:
            float32 (n, features, 6) by ``Feature``: ewma, mean over days with acts, variance, days with acts, elapsed
            days, days since the newest (today is 1); zeros where a feature is missing. And uint8 (n): ``Status``.
        """
        ids = np.array(other_ids, np.uint64)
        out = np.empty((len(ids), arrays.FEATURES, read_kernels.STATISTICS), np.float32)
        flags, work = np.empty(len(ids), np.uint8), np.empty(3)
        read_kernels.statistics(self._ties, np.uint64(viewer_id), ids, _day(time_ms), flags, work, out)
        return out, flags

    def columns(
        self,
        source_ids: Ids,
        other_ids: Ids,
        followed_ms: NDArray[np.int64],
        tweets: NDArray[np.int32],
        time_ms: int,
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """The model's columns of pairs (uint64, n, both C-contiguous and writable) as of the end of a day.

        ``followed_ms`` (n): when the one followed the other, -1 not. ``tweets`` (n): what the other lately wrote.

        Returns:
            float64 (n, 8), zeros where a pair is no tie; bool (n): whether it is one.
        """
        out, tied = np.empty((len(other_ids), column_kernels.COLUMNS)), np.empty(len(other_ids), np.bool_)
        column_kernels.columns(self._ties, source_ids, other_ids, _day(time_ms), followed_ms, tweets, tied, out)
        return out, tied

    def labels(
        self, source_ids: Ids, other_ids: Ids, followed_ms: NDArray[np.int64], time_ms: int
    ) -> NDArray[np.uint8]:
        """What was done in pairs on the day of ``time_ms``: uint8 (n), ``ACTED`` and ``EXPLICITLY`` of
        engine/real_graph/column_kernels.py. As in ``columns``."""
        out = np.empty(len(other_ids), np.uint8)
        column_kernels.labels(self._ties, source_ids, other_ids, _day(time_ms), followed_ms, out)
        return out

    def all_pairs(self) -> tuple[Ids, Ids]:
        """Everybody's pairs: who, and toward whom; both uint64 (n)."""
        held = np.flatnonzero(self._ties.destinations)
        return self._ties.ids.keys[self._ties.pairs[held, arrays.SOURCE]], self._ties.destinations[held]

    def _pairs(self, viewer_id: int, time_ms: int) -> tuple[Ids, NDArray[np.float64], NDArray[np.uint8]]:
        """All pairs of a viewer in which something counts: others, scores, ``Status`` bits."""
        u = lookup(self._ties.ids, viewer_id)
        n = int(self._ties.people[u, arrays.PAIRS_OF]) if u >= 0 else 0
        ids, scores, flags = np.empty(n, np.uint64), np.empty(n, np.float64), np.empty(n, np.uint8)
        count = 0
        if n:
            count = int(read_kernels.destinations(self._ties, np.uint64(viewer_id), _day(time_ms), ids, scores, flags))
        return ids[:count], scores[:count], flags[:count]

    def usage(self) -> Mapping[str, tuple[int, int]]:
        """People, pairs and features."""
        config, header = self.config, self._ties.header
        return {
            "people": (int(self._ties.ids.header[SIZE]), config.people_max),
            "pairs": (int(header[arrays.PAIRS]), config.pairs_max),
            "features": (int(header[arrays.FEATURES_USED]), config.features_max),
        }

    def check(self) -> None:
        """Verify people, pairs, features, table and order against each other.

        Raises:
            InvariantError: state that must not exist.
        """
        check(self._ties)

    def grow_from(self, smaller: "RealGraph") -> bool:
        """Hold the same pairs (``Bounded.grow_from``)."""
        capacities = ("people_max", "pairs_max", "features_max", "pairs_per_person_max")
        if not only_grew(smaller.config, self.config, capacities=capacities):
            return False
        own, held = self._ties, smaller._ties
        grow_id_map(own.ids, held.ids)
        for name in ("people", "destinations", "pairs", "statuses", "header"):
            copy_rows(getattr(own, name), getattr(held, name))
        for name in ("feature_days", "feature_sums", "feature_marks", "feature_next"):
            copy_rows(getattr(own, name), getattr(held, name))
        copy_queue(own.erasing, held.erasing, len(own.destinations))
        _enter_pairs(own, np.int64(len(held.destinations)))
        return True


@kernel
def _enter_pairs(t: arrays.Ties, count: int) -> None:
    """Enter the first ``count`` pairs into the empty table."""
    mask = t.table.shape[0] - 1
    for pair in range(count):
        if t.destinations[pair] != 0:
            at = arrays.home_of(t, np.int64(t.pairs[pair, arrays.SOURCE]), t.destinations[pair])
            while t.table[at] != 0:
                at = (at + 1) & mask
            t.table[at] = pair + 1


def tie_weights(strength: NDArray[np.float32]) -> NDArray[np.float64]:
    """What ties of these strengths (n) in [0, 1] weigh: float64 (n) from 1, for no tie, to 2.97."""
    return 1.0 + read_kernels.WEIGHT_MORE * strength.astype(np.float64)


def _day(time_ms: int) -> np.int64:
    """``arrays.day_of``, without a call of a kernel."""
    return np.int64(min(max(1, time_ms // arrays.MS_PER_DAY), arrays.DAY_LAST))


def warm() -> None:
    """Compile the kernels on a tiny batch of the real dtypes."""
    room = RealGraph(RealGraphConfig(people_max=2, pairs_max=8, features_max=16, pairs_per_person_max=1))
    ids = np.array([1, 2], np.uint64)
    kinds = [Kind.FAVORITE, Kind.UNFAVORITE]
    room.apply(
        make_batch(
            kind=kinds,
            user_id=[1, 1],
            subject_id=[5, 5],
            original_id=[5, 5],
            original_author_id=[2, 2],
            change=[Change.BEGINS, Change.ENDS],
            replaced_ms=[-1, 0],
        )
    )
    room.strength(1, ids, 0)
    room.strength_between(ids, ids, 0)
    room.strongest(1, 0, 1)
    room.statistics(1, ids, 0)
    room.columns(ids, ids, np.zeros(2, np.int64), np.zeros(2, np.int32), 0)
    room.statuses_toward(ids, 1, 0)
    room._pairs(1, 0)
