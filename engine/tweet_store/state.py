"""The tweet store: tweets' text, authors and references, and how people engage with them.

A room of state (docs/tweet_store.md). ``apply`` is called by one thread under the write side of the state lock,
everything else by readers under the read side.
"""

from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import Annotated, ClassVar

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from engine.batch import MS_PER_HOUR, EventBatch, Kind, make_batch
from engine.effects import Effect, EffectKind, Effects, make_effects
from engine.errors import ConfigError
from engine.kernels.daily_share import OVER_SHARE, daily_share_bytes, share_of
from engine.kernels.erasing import QUEUE_SIZE
from engine.kernels.handle import handle
from engine.kernels.id_map import id_map_bytes
from engine.room import InOrder, Room, Share, only_grew
from engine.tweet_store import act_kernels, acts, arrays, early, growth, labels, read_kernels, texts, write_kernels
from engine.tweet_store.check import check
from engine.tweet_store.read_kernels import TweetColumns, make_columns

Ids = NDArray[np.uint64]
Slots = NDArray[np.int32]
Weight = Annotated[float, Meta(ge=-1e6, le=1e6)]
HalfLife = Annotated[int, Meta(ge=1000, le=10**11)]


class Counter(IntEnum):
    """Columns of ``totals`` and ``decayed``.

    CLICK: click, photo expand, profile click, half a video and dwell; SHARE: share and bookmark; NEGATIVE: not
    interested, see fewer and report.
    """

    FAVORITE = act_kernels.FAVORITE
    RETWEET = act_kernels.RETWEET
    REPLY = act_kernels.REPLY
    QUOTE = act_kernels.QUOTE
    CLICK = act_kernels.CLICK
    SHARE = act_kernels.SHARE
    IMPRESSION = act_kernels.IMPRESSION
    NEGATIVE = act_kernels.NEGATIVE


class EngagementWeights(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The weight of one event of each counter in a tweet's popularity."""

    favorite: Weight = 1.0
    retweet: Weight = 2.0
    reply: Weight = 2.0
    quote: Weight = 2.0
    click: Weight = 0.1
    share: Weight = 1.0
    impression: Weight = 0.0
    negative: Weight = -5.0


class TweetStoreConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Capacities, half-lives, weights, and how long it is remembered who did what.

    ``acts_max``: acts of people (and their undos) that are remembered, so that a person counts once and the later act
    wins; ``looks_max``: the same of impressions. ``person_acts_max``: of each of both, the most of one person; beyond
    it, an act counts only where it can replace one that is older than ``person_span_ms``. A dwell shorter than
    ``dwell_s_min`` is no act.

    ``early_changes_max``: deletes and edits that are remembered of tweets whose create has not come; of one author at
    most 64.
    ``stubs_max``: tweets of which only engagements are known so far.

    ``author_tweets_per_day_max``, ``author_text_bytes_per_day_max``: what one author may put into the rings that all
    share; the rest goes to rings of its own kind (of small rooms at most a quarter).

    ``author_late_tweets_max``: a tweet that arrives when its author has more newer tweets than this stays out of the
    author's list (it can still be looked up and be popular).
    """

    tweets_max: Annotated[int, Meta(ge=1, le=1 << 28)] = 1 << 18
    stubs_max: Annotated[int, Meta(ge=1, le=1 << 26)] = 1 << 14
    text_bytes_max: Annotated[int, Meta(ge=1, le=1 << 40)] = 1 << 25
    half_life_short_ms: HalfLife = 1_800_000
    half_life_long_ms: HalfLife = 86_400_000
    weights: EngagementWeights = EngagementWeights()
    author_late_tweets_max: Annotated[int, Meta(ge=0, le=1_000_000)] = 512
    author_tweets_per_day_max: Annotated[int, Meta(ge=1, le=1 << 28)] = 1 << 12
    author_text_bytes_per_day_max: Annotated[int, Meta(ge=1, le=1 << 40)] = 1 << 21
    #: Labels of all tweets together, those that were taken off among them.
    labels_max: Annotated[int, Meta(ge=1, le=1 << 28)] = 1 << 16
    acts_max: Annotated[int, Meta(ge=1, le=1 << 30)] = 1 << 19
    looks_max: Annotated[int, Meta(ge=1, le=1 << 30)] = 1 << 18
    person_acts_max: Annotated[int, Meta(ge=1, le=1 << 30)] = 1 << 10
    person_span_ms: Annotated[int, Meta(ge=0, le=1 << 48)] = 48 * MS_PER_HOUR
    dwell_s_min: Annotated[float, Meta(ge=0.0, le=3600.0)] = 2.0
    early_changes_max: Annotated[int, Meta(ge=1, le=1 << 28)] = 1 << 16


#: Reason and detail of the dead letter of a row that is refused.
_REFUSAL = "not_the_author\nonly its author creates, edits and deletes a tweet, and the tweet is another's"

#: Cumulative counters by name.
COUNTERS = {
    "creates": arrays.CREATES,
    "creates_repeated": arrays.REPEATED,
    "creates_after_delete": arrays.AFTER_DELETE,
    "stubs": arrays.STUBS,
    "stubs_filled": arrays.STUBS_FILLED,
    "edits": arrays.EDITS,
    "edits_early": arrays.EDITS_EARLY,
    "edits_superseded": arrays.EDITS_SUPERSEDED,
    "edits_unknown": arrays.EDITS_UNKNOWN,
    "deletes": arrays.DELETES,
    "deletes_unknown": arrays.DELETES_UNKNOWN,
    "not_the_author": arrays.NOT_AUTHORS,
    "labels_before_tweet": arrays.LABELS_BEFORE_TWEET,
    "engagements": arrays.ENGAGEMENTS,
    "undone": arrays.UNDONE,
    "undone_unknown": arrays.UNDONE_UNKNOWN,
    "without_tweet": arrays.WITHOUT_TWEET,
    "without_person": arrays.WITHOUT_PERSON,
    "evicted": arrays.EVICTED,
    "stubs_evicted": arrays.STUBS_EVICTED,
    "unlisted_late": arrays.UNLISTED,
    "text_too_large": arrays.TEXT_TOO_LARGE,
}

#: Cumulative counters of labels, by name.
LABEL_COUNTERS = {
    "put": labels.PUT,
    "taken_off": labels.TAKEN,
    "superseded": labels.SUPERSEDED,
    "others_dropped": labels.OTHERS_DROPPED,
    "dropped_full": labels.DROPPED_FULL,
}

#: Cumulative counters of acts, and of looks, by name.
ACT_COUNTERS = {
    "remembered": acts.ENTERED,
    "stale": acts.STALE,
    "repeated": acts.REPEATED,
    "forgotten": acts.FORGOTTEN,
    "over_share": acts.OVER_SHARE,
}


def tweet_store_bytes(config: TweetStoreConfig) -> int:
    """Bytes of all arrays: 280 per slot (``tweets_max``, a 64th of it, ``stubs_max``), 12 per tweet's slot, the id map,
    4 per slot of the author table, the text and a 64th of it, 32 per label, who did what, 4 more per act, early deletes
    and edits, and the authors' shares."""
    stubs_from, slots = arrays.slots_of(config.tweets_max, config.stubs_max)
    rings, small = texts.small_text_rings(config.text_bytes_max)
    per_tweet = (8 + 8 + 4 * arrays.ROW + 4 * 8 + 8 + 8 + 8 + 8 * 16 + 8 * 2) * slots
    maps = id_map_bytes(slots) + early.early_bytes(config.early_changes_max)
    tables = maps + 4 * arrays.heads_size(config.tweets_max)
    marked = labels.labels_bytes(stubs_from, config.labels_max)
    people = acts.acts_bytes(config.acts_max) + acts.acts_bytes(config.looks_max) + 4 * config.acts_max
    heads = arrays.stub_rings(config.stubs_max) + arrays.crowd_slots(config.tweets_max)[0] + 1 + rings
    scalars = 8 * (arrays.HEADER_SIZE + QUEUE_SIZE + heads) + 2 * daily_share_bytes(config.tweets_max)
    return per_tweet + tables + people + config.text_bytes_max + rings * small + scalars + marked


class TweetStore(Room):
    """The newest ``tweets_max`` tweets by arrival, with counters and authors' lists; the oldest arrival is evicted.

    Writers: ``apply``, one thread. Readers hold the read side of the state lock; a slot is valid while they hold it.
    """

    name: ClassVar[str] = "tweet_store"
    layout: ClassVar[int] = 7
    shares: ClassVar[Mapping[str, Share]] = {
        "tweets": Share(
            "`author_tweets_per_day_max`; all tweets that are labeled before their create together have one share",
            "the tweet goes to a small ring that the author's id chooses (`tweets_over_share`)",
        ),
        "tweets_over_share": Share(
            "one of 64 rings", "the oldest tweet of the ring is evicted, of this author or another over the share"
        ),
        "stubs": Share("one of 64 rings", "the oldest stub of the ring is evicted (`stubs_evicted`)"),
        "text_bytes": Share(
            "`author_text_bytes_per_day_max`, of creates and edits",
            "the text goes to a small ring of text that the author's id chooses (`texts_over_share`)",
        ),
        "acts": Share(
            "`person_acts_max` in `person_span_ms`",
            "an older act of the person gives way, or the new one does not count (`acts_over_share`)",
        ),
        "looks": Share("as acts", "as acts (`looks_over_share`)"),
        "early_changes": Share("64", "the author's oldest gives way"),
        "labels": Share(
            "per tweet, one entry of each known label and 8 others; labels are put by services, not by people",
            "the label is not kept; if it has a meaning, the tweet is shown to nobody (`labels_dropped_full`)",
        ),
    }
    constants: ClassVar[frozenset[str]] = frozenset(
        {"weights", "half_lives_ms", "known_names", "known_bits", "limits", "dwell_s_min"}
    )
    counted: ClassVar[Mapping[str, int]] = COUNTERS

    def __init__(self, config: TweetStoreConfig) -> None:
        if config.half_life_long_ms < config.half_life_short_ms:
            raise ConfigError("tweet_store.half_life_long_ms: shorter than half_life_short_ms")
        self.config = config
        self._tweets = handle(
            arrays.make_tweets(
                config.tweets_max,
                config.stubs_max,
                (config.text_bytes_max, *texts.small_text_rings(config.text_bytes_max)),
                [getattr(config.weights, counter.name.lower()) for counter in Counter],
                (config.half_life_short_ms, config.half_life_long_ms),
                config.author_late_tweets_max,
                (
                    acts.make_acts(config.acts_max, config.person_acts_max, config.person_span_ms),
                    acts.make_acts(config.looks_max, config.person_acts_max, config.person_span_ms),
                ),
                config.dwell_s_min,
                early.make_early(config.early_changes_max),
                config.labels_max,
                shares=(
                    share_of(config.author_tweets_per_day_max, config.tweets_max),
                    share_of(config.author_text_bytes_per_day_max, config.text_bytes_max, least=1 << 16),
                ),
            )
        )
        super().__init__(self._tweets, self._tweets.header)
        self._erased = np.empty(0, np.int64), np.empty(0, np.uint64), np.zeros(1, np.int64)

    def apply(self, batch: EventBatch) -> Effects | None:
        """Apply tweet and engagement rows in order, and resolve every row that names a tweet (docs/tweet_store.md).

        Writes the batch's ``author_id``, ``original_id``, ``original_author_id``, ``created_ms``, ``change`` and
        ``replaced_ms`` as of right after the row, so they do not depend on where batches are cut. A create, edit or
        delete of another's tweet is refused (``not_the_author``); it and other rows that no room may use get kind
        REFUSED.
        """
        refused = np.empty(batch.size, np.bool_)
        # Each tweet is erased once, and a batch has at most so many new ones.
        erases = self._tweets.erasing[0] != 0 or (batch.kind == Kind.ERASE).any()
        most = len(self._tweets.author_id) + batch.size if erases else 0
        self._erased = np.empty(most, np.int64), np.empty(most, np.uint64), np.zeros(1, np.int64)
        if not write_kernels.apply(self._tweets, batch, refused, self._erased):
            return None
        rows = np.flatnonzero(refused).tolist()
        return make_effects([Effect(EffectKind.REFUSED, row, text=_REFUSAL) for row in rows])

    def take_erased(self) -> tuple[NDArray[np.int64], Ids]:
        """The tweets that the last batch erased: after which rows (int64, k, ascending), and their ids."""
        rows, tweet_ids, count = self._erased
        self._erased = rows[:0], tweet_ids[:0], np.zeros(1, np.int64)
        return rows[: count[0]].copy(), tweet_ids[: count[0]].copy()

    def lookup(self, tweet_ids: Ids) -> Slots:
        """Slots (int32, k) of tweet ids (uint64, k), -1 where unknown."""
        slots = np.empty(len(tweet_ids), np.int32)
        read_kernels.lookup(self._tweets, np.ascontiguousarray(tweet_ids, np.uint64), slots)
        return slots

    def columns(self, slots: Slots) -> TweetColumns:
        """All columns of slots (int32, k) except text and decayed counters."""
        out = make_columns(len(slots))
        read_kernels.gather(self._tweets, slots, out)
        return out

    @property
    def tweets(self) -> arrays.Tweets:
        """The room's arrays, for kernels that read them."""
        return self._tweets

    def originals(self, tweet_ids: Ids) -> Ids:
        """The tweets (uint64, k) that the given ones (uint64, k) stand for: the ends of their chains of retweets; the
        tweet itself where it is not held, retweets nothing, or is in a circle."""
        out = np.empty(len(tweet_ids), np.uint64)
        read_kernels.originals(self._tweets, np.ascontiguousarray(tweet_ids, np.uint64), out)
        return out

    def carriers(self, tweet_ids: Ids) -> tuple[Ids, Ids]:
        """Those of the tweets (uint64, n; C-contiguous) that stand for another, and the originals that they stand
        for: uint64 (k) each."""
        n = len(tweet_ids)
        found = np.empty((2, n), np.uint64)
        count = int(read_kernels.carriers(self._tweets, tweet_ids, np.empty(n, np.int32), found[0], found[1]))
        return found[0, :count], found[1, :count]

    def show(
        self, slots: Slots, counted: Slots, counters: NDArray[np.int64], text_bytes: int
    ) -> tuple[bytes, NDArray[np.int64], NDArray[np.int32]]:
        """Texts of slots (int32, k), UTF-8 end to end, and where each ends (int64, k); and the totals of some counters
        (int64, c, by ``Counter``) of the slots where their acts are counted (int32, k): int32 (k, c).

        ``text_bytes``: how much room for the texts is tried first.
        """
        n = len(slots)
        ends, totals = np.empty(n, np.int64), np.empty((n, len(counters)), np.int32)
        text = np.empty(text_bytes, np.uint8)
        while (size := int(read_kernels.show(self._tweets, slots, counted, counters, ends, totals, text))) > len(text):
            text = np.empty(size, np.uint8)
        return text[:size].tobytes(), ends, totals

    def decayed(self, slots: Slots, time_ms: int) -> NDArray[np.float64]:
        """Decayed counters at ``time_ms``: float64 (k, 8, 2) by slot, ``Counter``, half-life (short, long)."""
        out = np.empty((len(slots), arrays.COUNTERS, arrays.HALF_LIVES))
        read_kernels.decayed(self._tweets, slots, np.int64(time_ms), out)
        return out

    def popularity(self, slots: Slots, time_ms: int, half_life: int = 0) -> NDArray[np.float64]:
        """Weighted sum of the decayed counters at ``time_ms`` (float64, k); half-life 0 short, 1 long."""
        out = np.empty(len(slots))
        read_kernels.popularity(self._tweets, slots, np.int64(time_ms), np.int64(half_life), out)
        return out

    def popular(
        self, time_ms: int, half_life: int, count: int, since_ms: int, language: int = 0
    ) -> tuple[Ids, NDArray[np.float64]]:
        """The ``count`` most popular servable tweets created at or after ``since_ms``, in a language (its code; 0:
        any): ids and scores, best first.

        Exact over all tweets, in one scan. Scores are ``popularity``, and positive; equal scores by smaller id.
        """
        keys, ties, slots = self._heap(count)
        times = (np.int64(time_ms), np.int64(half_life), np.int64(since_ms))
        size = len(keys) and int(read_kernels.popular(self._tweets, *times, np.int64(language), keys, ties, slots))
        return ties[:size], keys[:size]

    def recent_of_authors(
        self, author_ids: Ids, since_ms: int, per_author_max: int, total_max: int
    ) -> tuple[Ids, NDArray[np.float64], Slots]:
        """The authors' newest servable tweets created at or after ``since_ms``, newest first over all.

        At most ``per_author_max`` per author, then ``total_max`` in all; equal times by greater id. Exact, except for
        tweets that came too late to be listed (``author_late_tweets_max``).

        Args:
            author_ids: uint64, without repeats.

        Returns:
            Tweet ids (uint64), creation times (float64, exact, ms), slots (int32).
        """
        n, authors = len(author_ids), np.ascontiguousarray(author_ids, np.uint64)
        people = (np.empty(n, np.int64), np.empty(n, np.uint64), np.empty(n, np.int32), np.empty(n, np.int32))
        created_ms, ids, slots = self._heap(total_max)
        out = (ids, created_ms, slots)
        size = int(
            read_kernels.recent(self._tweets, authors, np.int64(since_ms), np.int64(per_author_max), people, out)
        )
        return ids[:size], created_ms[:size], slots[:size]

    def recent_counts(self, author_ids: Ids, since_ms: int, most: int) -> NDArray[np.int32]:
        """How many servable tweets each author (uint64, n) created at or after ``since_ms``, at most ``most`` of each:
        int32 (n). Of the same tweets as ``recent_of_authors``."""
        authors, slots = np.array(author_ids, np.uint64), np.empty(len(author_ids), np.int32)
        out = np.empty(len(authors), np.int32)
        read_kernels.recent_counts(self._tweets, authors, np.int64(since_ms), np.int64(most), slots, out)
        return out

    def text(self, slot: int) -> str:
        """The tweet's text; empty when the tweet has none or was deleted, or newer text has overwritten it."""
        slots = np.array([slot], np.int32)
        return self.show(slots, slots, np.empty(0, np.int64), 1024)[0].decode("utf-8", "replace")

    def _heap(self, count: int) -> tuple[NDArray[np.float64], Ids, Slots]:
        k = max(0, min(count, self.config.tweets_max))
        return np.empty(k), np.empty(k, np.uint64), np.empty(k, np.int32)

    def in_order(self) -> Iterable[InOrder]:
        """``Bounded.in_order``: the rings that all share, of tweets (the slots beyond the shares and those of stubs
        come after them), of text (the small rings come after it), and of acts and looks."""
        tweets = self._tweets
        used = int(max(tweets.header[arrays.POSITION], tweets.header[arrays.SIZE]))
        for name in ("row", "refs", "decayed"):
            yield InOrder(name, used, int(tweets.limits[arrays.Limit.TWEETS]))
        yield InOrder("text", int(tweets.text_heads[0]), int(tweets.limits[arrays.Limit.TEXT_SHARED]))
        for name, ring in (("acts.places", tweets.acts), ("looks.places", tweets.looks)):
            yield InOrder(name, int(max(ring.header[acts.POSITION], ring.header[acts.SIZE])), len(ring.places))

    def usage(self) -> Mapping[str, tuple[int, int]]:
        """Slots and text; both are rings and stay full once they are full."""
        header = self._tweets.header
        stubs_from = self._tweets.limits[arrays.Limit.STUBS_FROM]
        crowded = self._tweets.ids.keys[self.config.tweets_max : stubs_from]
        return {
            "tweets": (int(header[arrays.SIZE]), self.config.tweets_max),
            "tweets_over_share": (int(np.count_nonzero(crowded)), len(crowded)),
            "stubs": (int(np.count_nonzero(self._tweets.ids.keys[stubs_from:])), self.config.stubs_max),
            "text_bytes": (int(self._tweets.text_heads[0]), self.config.text_bytes_max),
            "acts": (int(self._tweets.acts.header[acts.SIZE]), self.config.acts_max),
            "early_changes": (int(self._tweets.early.acts.header[acts.SIZE]), self.config.early_changes_max),
            "looks": (int(self._tweets.looks.header[acts.SIZE]), self.config.looks_max),
            "labels": (int(self._tweets.labels.header[labels.IN_USE]), self.config.labels_max),
        }

    def counters(self) -> Mapping[str, int]:
        """``Bounded.counters`` of the tweets, those of labels, acts and looks, and what was over an author's share."""
        found = dict(super().counters())
        for name, at in LABEL_COUNTERS.items():
            found[f"labels_{name}"] = int(self._tweets.labels.header[at])
        for name, at in ACT_COUNTERS.items():
            found[f"acts_{name}"] = int(self._tweets.acts.header[at])
            found[f"looks_{name}"] = int(self._tweets.looks.header[at])
        found["tweets_over_share"] = int(self._tweets.tweets_spent.header[OVER_SHARE])
        found["texts_over_share"] = int(self._tweets.text_spent.header[OVER_SHARE])
        return found

    def check(self) -> None:
        """Verify slots, chains, heads and weights against each other.

        Raises:
            InvariantError: state that must not exist.
        """
        check(self._tweets)

    def grow_from(self, smaller: "TweetStore") -> bool:
        """Copy the smaller store's tweets and their text (``Bounded.grow_from``)."""
        of_people = ("acts_max", "looks_max", "person_acts_max")
        capacities = ("tweets_max", "stubs_max", "text_bytes_max", *of_people, "early_changes_max", "labels_max")
        rules = (
            "author_late_tweets_max",
            "person_span_ms",
            "dwell_s_min",
            "author_tweets_per_day_max",
            "author_text_bytes_per_day_max",
        )
        if not only_grew(smaller.config, self.config, capacities=capacities, rules=rules):
            return False
        growth.grow(self._tweets, smaller._tweets)
        return True


def warm() -> None:
    """Compile the kernels on tiny arrays of the real dtypes."""
    store = TweetStore(
        TweetStoreConfig(tweets_max=2, stubs_max=1, text_bytes_max=16, author_late_tweets_max=1, early_changes_max=1)
    )
    kinds = [Kind.RETWEET, Kind.CREATE, Kind.UNRETWEET, Kind.IMPRESSION, Kind.FOLLOW]
    store.apply(make_batch(kind=kinds, user_id=[3] * 5, subject_id=[1] * 5, author_id=[2] * 5))
    read_kernels.warm_on(store._tweets)
