"""Signals: what each viewer did, was shown and rejected lately.

A room of state (docs/signals.md), the role of a user signal service. ``apply`` is called by one thread under the
write side of the state lock, everything else by readers under the read side.
"""

from collections.abc import Collection, Iterable, Mapping
from enum import IntFlag
from typing import Annotated, ClassVar, NamedTuple

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from engine.batch import MS_PER_HOUR, EventBatch, Kind, make_batch
from engine.errors import ConfigError
from engine.kernels.erasing import QUEUE_SIZE, copy_queue
from engine.kernels.growth import copy_rows, grow_id_map
from engine.kernels.handle import handle
from engine.kernels.id_map import HIGH, id_map_bytes, lookup
from engine.kernels.top_k import top_k
from engine.room import InOrder, Room, Share, only_grew
from engine.signals import arrays, read_kernels, write_kernels
from engine.signals.check import check

Ids = NDArray[np.uint64]
PerUser = Annotated[int, Meta(ge=1, le=arrays.LIST_ENTRIES_MAX)]
AgeMs = Annotated[int, Meta(ge=0, le=1 << 48)]


class SignalsConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Capacities, and which acts are kept.

    A list keeps its newest ``…_per_user`` entries. All viewers share ``blocks_max`` blocks of 128 bytes (5 acts or 7
    looks). A dwell shorter than ``dwell_s_min`` is no sign of interest and is not kept.
    """

    users_max: Annotated[int, Meta(ge=1, le=1 << 28)] = 1 << 18
    blocks_max: Annotated[int, Meta(ge=5, le=1 << 30)] = 1 << 20
    engagements_per_user: PerUser = 128
    implicit_per_user: PerUser = 128
    negatives_per_user: PerUser = 128
    seen_per_user: PerUser = 2048
    served_per_user: PerUser = 512
    dwell_s_min: Annotated[float, Meta(ge=0.0, le=3600.0)] = 2.0


class SignalAges(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How long an impression, a served tweet and a rejection of an author count."""

    seen_age_ms_max: AgeMs = 48 * MS_PER_HOUR
    served_age_ms_max: AgeMs = 10 * 60_000
    rejection_age_ms_max: AgeMs = 14 * 24 * MS_PER_HOUR

    def since_ms(self, time_ms: int) -> NDArray[np.int64]:
        """The oldest times (int64, 3) that count at ``time_ms``: of impressions, served tweets and rejections."""
        ages = (self.seen_age_ms_max, self.served_age_ms_max, self.rejection_age_ms_max)
        return np.array([time_ms - age for age in ages], np.int64)


class ViewerFlag(IntFlag):
    """Bits of ``Signals.flags``: four about the tweet, then two about its author."""

    SEEN = 1
    SERVED = 2
    ENGAGED = 4
    REJECTED = 8
    AUTHOR_NOT_INTERESTED = 16
    AUTHOR_REJECTED = 32


class Acts(NamedTuple):
    """A viewer's acts, newest first: uint64, uint8 (``Kind``), int64, uint64 (0 = unknown), all (n)."""

    tweet_ids: Ids
    kinds: NDArray[np.uint8]
    times_ms: NDArray[np.int64]
    author_ids: Ids


#: Cumulative counters by name.
COUNTERS = {
    "engagements": arrays.STORED + arrays.ENGAGEMENTS,
    "implicit": arrays.STORED + arrays.IMPLICIT,
    "negatives": arrays.STORED + arrays.NEGATIVES,
    "seen": arrays.STORED + arrays.SEEN,
    "served": arrays.STORED + arrays.SERVED,
    "taken_back": arrays.TAKEN_BACK,
    "nothing_to_take_back": arrays.NOTHING_TO_TAKE_BACK,
    "repeated": arrays.REPEATED,
    "short_dwells": arrays.SHORT_DWELLS,
    "without_user": arrays.WITHOUT_USER,
    "without_subject": arrays.WITHOUT_SUBJECT,
    "evicted_users_full": arrays.EVICTED_USERS_FULL,
    "evicted_blocks_full": arrays.EVICTED_BLOCKS_FULL,
    "entries_evicted": arrays.EVICTED_ENTRIES,
    "entries_dropped_list_full": arrays.DROPPED_LIST_FULL,
}


def signals_bytes(config: SignalsConfig) -> int:
    """Bytes of all arrays: 72 per viewer, the id map, 128 per block."""
    users = (4 * arrays.VIEWER_COLUMNS + 8) * config.users_max + id_map_bytes(config.users_max)
    return users + 8 * arrays.BLOCK_WORDS * config.blocks_max + 8 * (arrays.HEADER_SIZE + QUEUE_SIZE)


def _one_signature(ids: Ids) -> Ids:
    """Ids as uint64, C-contiguous and writable, so that kernels have one signature; a copy only if necessary."""
    flags = ids.flags
    return ids if ids.dtype == np.uint64 and flags.c_contiguous and flags.writeable else np.array(ids, np.uint64)


class Signals(Room):
    """Per viewer: engagements, implicit interest, negatives, seen tweets and served tweets.

    Writers: ``apply``, one thread. Readers hold the read side of the state lock. When viewers or blocks are full, the
    viewer idle for longest, in the order of the log, is forgotten with all lists.
    """

    name: ClassVar[str] = "signals"
    layout: ClassVar[int] = 3
    shares: ClassVar[Mapping[str, Share]] = {
        "users": Share("1", "–"),
        "blocks": Share(
            "five lists, each with its newest entries (`engagements_per_user` …)",
            "the oldest entry of the person's list leaves (`entries_dropped_list_full`)",
        ),
    }
    constants: ClassVar[frozenset[str]] = frozenset({"entries_max"})
    counted: ClassVar[Mapping[str, int]] = COUNTERS

    def __init__(self, config: SignalsConfig) -> None:
        """Allocate everything.

        Raises:
            ConfigError: ``blocks_max`` does not hold one viewer with full lists.
        """
        self.config = config
        entries_max = np.zeros(arrays.LISTS, np.int64)
        entries_max[arrays.ENGAGEMENTS] = config.engagements_per_user
        entries_max[arrays.IMPLICIT] = config.implicit_per_user
        entries_max[arrays.NEGATIVES] = config.negatives_per_user
        entries_max[arrays.SEEN] = config.seen_per_user
        entries_max[arrays.SERVED] = config.served_per_user
        needed = arrays.blocks_of_one_viewer(entries_max)
        if config.blocks_max < needed:
            raise ConfigError(f"signals.blocks_max: {config.blocks_max} is less than the {needed} of one full viewer")
        self._store = handle(arrays.make_store(config.users_max, config.blocks_max, entries_max))
        #: The most tweets of ``acted_on``.
        self.acted_on_max = int(entries_max[[arrays.ENGAGEMENTS, arrays.NEGATIVES, arrays.SEEN]].sum(dtype=np.int64))
        super().__init__(self._store, self._store.header)

    def apply(self, batch: EventBatch) -> None:
        """Apply engagements, REPORT_USER and SERVED rows in order; other kinds are skipped."""
        write_kernels.apply(self._store, batch, float(self.config.dwell_s_min))

    def recent_engagements(self, user_id: int, limit: int) -> Acts:
        """Favorites, retweets, replies, quotes, shares and bookmarks not taken back; newest event time first.

        At most ``limit``; among equal times, the later act in the log comes first.
        """
        return self._newest(user_id, arrays.ENGAGEMENTS, limit)

    def recently_engaged(self, user_id: int, kinds: Collection[Kind], acts_max: int, tweets_max: int) -> Ids:
        """The tweets (uint64, distinct) of those of the newest ``acts_max`` of ``recent_engagements`` that are of these
        kinds, newest act first; at most ``tweets_max``."""
        n, out = self.config.engagements_per_user, np.empty(tweets_max, np.uint64)
        cut = (np.empty(n, np.uint64), np.empty(n, np.uint8), np.empty(n, np.int64), np.empty(n, np.uint64))
        count = read_kernels.newest_tweets(
            self._store,
            np.uint64(user_id),
            arrays.ENGAGEMENTS,
            sum(1 << kind for kind in kinds),
            (acts_max, tweets_max),
            (*cut, np.empty(acts_max, np.int32)),
            out,
        )
        return out[:count]

    def recent_implicit(self, user_id: int, limit: int) -> Acts:
        """Clicks, photo expansions, half-watched videos, profile clicks, long dwells; as ``recent_engagements``."""
        return self._newest(user_id, arrays.IMPLICIT, limit)

    def recent_negatives(self, user_id: int, limit: int) -> Acts:
        """Not-interested, see-fewer, reports, and REPORT_USER with tweet 0; as ``recent_engagements``."""
        return self._newest(user_id, arrays.NEGATIVES, limit)

    def last_served_ms(self, user_id: int) -> int:
        """The newest time at which the viewer was served a tweet; 0 if none is kept."""
        times_ms = self._entries(lookup(self._store.ids, user_id), arrays.SERVED).times_ms
        return int(times_ms.max(initial=0))

    @property
    def store(self) -> arrays.Store:
        """The room's arrays, for kernels that read them."""
        return self._store

    def acted_on(self, user_id: int) -> Ids:
        """The tweets (uint64) of the viewer's engagements, then negatives, then impressions, each as in the log."""
        out = np.empty(self.acted_on_max, np.uint64)
        return out[: int(read_kernels.acted_on(self._store, np.uint64(user_id), out))]

    def flags(
        self, user_id: int, tweet_ids: Ids, author_ids: Ids, time_ms: int, ages: SignalAges
    ) -> NDArray[np.uint16]:
        """``ViewerFlag`` bits of the viewer for each tweet and its author, as of ``time_ms``.

        Args:
            user_id: the viewer; an unknown one gives zeros.
            tweet_ids: uint64 (n); duplicates are fine, 0 has no flags.
            author_ids: uint64 (n), 0 where unknown.
            time_ms: the request's time; entries later than it also count.
            ages: how long impressions, served tweets and rejections count.

        Returns:
            uint16 (n).

        Raises:
            ValueError: ids of unequal length.
        """
        tweets, authors = _one_signature(tweet_ids), _one_signature(author_ids)
        if tweets.shape != authors.shape:
            raise ValueError(f"{len(tweets)} tweets but {len(authors)} authors")
        n = len(tweets)
        out = np.zeros((2, n), np.uint16)
        v = lookup(self._store.ids, user_id)
        if v >= 0 and n:
            since_ms = ages.since_ms(time_ms)
            table = np.empty(1 << (2 * n - 1).bit_length(), np.int32)
            read_kernels.flags(self._store, np.int64(v), tweets, authors, since_ms, table, np.empty(n, np.int32), out)
        marks: NDArray[np.uint16] = out[0]
        return marks

    def activity(self, limit: int) -> tuple[Ids, NDArray[np.int64]]:
        """The most active viewers: user ids (uint64) and how often each viewer engaged, most first, then by id.

        Counts engagements and implicit interest since the room has known the viewer; O(viewers).
        """
        known = np.flatnonzero(self._store.ids.keys)
        users = self._store.ids.keys[known]
        counts = self._store.viewers[known, arrays.ACTIVITY].astype(np.int64)
        best = np.empty(max(0, min(limit, len(users))), np.int32)
        top_k(counts.astype(np.float64), users, np.int64(len(users)), np.int64(len(best)), best)
        return users[best], counts[best]

    def _newest(self, user_id: int, which: int, limit: int) -> Acts:
        acts = self._entries(lookup(self._store.ids, user_id), which)
        newest = np.argsort(acts.times_ms, kind="stable")[::-1][: max(0, limit)]
        tweet_ids, kinds, times_ms, author_ids = acts
        return Acts(tweet_ids[newest], kinds[newest], times_ms[newest], author_ids[newest])

    def _entries(self, v: int, which: int) -> Acts:
        """A list of viewer index ``v`` (-1: no viewer), in the order of the log."""
        at = which * arrays.LIST_COLUMNS + arrays.SPAN
        n = int(self._store.viewers[v, at]) >> arrays.COUNT_SHIFT if v >= 0 else 0
        acts = Acts(np.empty(n, np.uint64), np.empty(n, np.uint8), np.empty(n, np.int64), np.empty(n, np.uint64))
        if n:
            read_kernels.entries(self._store, np.int64(v), np.int64(which), *acts)
        return acts

    def in_order(self) -> Iterable[InOrder]:
        """``Bounded.in_order``: the pool of blocks, and the viewers by index."""
        store = self._store
        yield InOrder("viewers", int(store.ids.header[HIGH]), len(store.viewers))
        yield InOrder("blocks", int(store.header[arrays.BLOCKS_HIGH]), len(store.blocks))

    def usage(self) -> Mapping[str, tuple[int, int]]:
        """Viewers and blocks. When either is full, the viewers idle for longest are forgotten."""
        return {
            "users": (int(self._store.ids.header[0]), self.config.users_max),
            "blocks": (int(self._store.header[arrays.BLOCKS_USED]), self.config.blocks_max),
        }

    def check(self) -> None:
        """Verify viewers, chains, free blocks and the order of activity against each other.

        Raises:
            InvariantError: state that must not exist.
        """
        check(self._store)

    def grow_from(self, smaller: "Signals") -> bool:
        """Copy the smaller room's viewers and lists (``Bounded.grow_from``)."""
        lists = ("engagements", "implicit", "negatives", "seen", "served")
        capacities = ("users_max", "blocks_max", *(f"{name}_per_user" for name in lists))
        if not only_grew(smaller.config, self.config, capacities=capacities, rules=("dwell_s_min",)):
            return False
        store, held = self._store, smaller._store
        grow_id_map(store.ids, held.ids)
        for name in ("viewers", "order", "blocks", "header"):
            copy_rows(getattr(store, name), getattr(held, name))
        copy_queue(store.erasing, held.erasing, len(store.blocks))
        return True


def warm() -> None:
    """Compile the kernels on a tiny batch of the real dtypes."""
    lists = {f"{name}_per_user": 1 for name in ("engagements", "implicit", "negatives", "seen", "served")}
    signals = Signals(SignalsConfig(users_max=1, blocks_max=8, **lists))
    kinds = [Kind.FAVORITE, Kind.IMPRESSION, Kind.UNFAVORITE, Kind.IMPRESSION, Kind.FAVORITE]
    ones = np.ones(5, np.uint64)
    signals.apply(make_batch(kind=kinds, user_id=[1, 2, 2, 1, 1], subject_id=ones, author_id=ones))
    signals.flags(1, ones, ones, 0, SignalAges())
    signals.recent_engagements(1, 1)
    signals.acted_on(1)
