"""Signals on read: what a person lately did, by type of signal, each with its window (docs/signals.md has the table).

The types and windows are those of Twitter's user signal service, as far as events of this engine express them. A
reading room over signals, the tweet store, the social graph and real_graph. Callers hold the read side of the lock.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.batch import Kind, TweetFlag
from engine.real_graph.arrays import Status
from engine.rooms import Rooms
from engine.signals.state import Acts
from engine.social_graph.state import Relation
from engine.tie_strength import TieStrength
from engine.tweet_store.state import Counter

Ids = NDArray[np.uint64]
DAY_MS: Final = 86_400_000
#: Most targets of one signal.
TARGETS_MAX: Final = 200
#: A favorite or retweet is a signal of its own only of a tweet that so many people favorited.
FAVORITES_MIN: Final = 10
#: So many of the newest follows, and of the strongest ties, are looked at.
_FOLLOWS_MAX, _TIES_MAX, _ACTS_MAX, _TWEETS_MAX = 10_000, 1000, 10_000, 200
_OF_OTHERS = TweetFlag.REPLY | TweetFlag.QUOTE | TweetFlag.RETWEET


class Signal(NamedTuple):
    """A type of signal.

    ``source``: the events it comes from. ``target``: tweet or user. ``days``: its window, 0 for any age. ``positive``:
    whether it says that the person wants more of it.
    """

    name: str
    source: str
    target: str
    days: int
    positive: bool
    rule: str = ""


_POPULAR: Final = f"only of tweets that at least {FAVORITES_MIN} people favorited"
_ACTIVE: Final = "only where the newest such act is that young"
#: Every type, in the order in which answers have them.
SIGNALS: Final = (
    Signal("tweet_favorite", "favorite", "tweet", 540, True, _POPULAR),
    Signal("tweet_favorite_90d", "favorite", "tweet", 90, True, _ACTIVE),
    Signal("retweet", "retweet", "tweet", 540, True, _POPULAR),
    Signal("retweet_90d", "retweet", "tweet", 90, True, _ACTIVE),
    Signal("original_tweet", "create", "tweet", 540, True, "neither a reply, a quote nor a retweet"),
    Signal("original_tweet_90d", "create", "tweet", 90, True, f"the same, {_ACTIVE}"),
    Signal("reply", "reply", "tweet", 540, True),
    Signal("reply_90d", "reply", "tweet", 90, True, _ACTIVE),
    Signal("quote", "quote", "tweet", 90, True),
    Signal("share", "share", "tweet", 14, True),
    Signal("bookmark", "bookmark", "tweet", 90, True),
    Signal("good_tweet_click", "dwell", "tweet", 0, True, "dwells of `rooms.signals.dwell_s_min` (2 s) or longer"),
    Signal("video_view_50", "video_50", "tweet", 90, True),
    Signal("follow", "follow", "user", 90, True, f"followed now; the newest {TARGETS_MAX}"),
    Signal("repeated_profile_visit_14d", "profile_click", "user", 14, True, "at least 2 tweets of the person"),
    Signal("repeated_profile_visit_90d", "profile_click", "user", 90, True, "at least 6 tweets of the person"),
    Signal("repeated_profile_visit_180d", "profile_click", "user", 180, True, "at least 6 tweets of the person"),
    Signal("tie_out_of_network", "all acts toward people", "user", 0, True, "a tie, not followed, nothing negative"),
    Signal("negative_tweet", "not_interested, see_fewer, report", "tweet", 90, False),
    Signal("negative_user", "these, report_user, block, mute, unfollow", "user", 90, False),
    Signal("block", "block", "user", 0, False, f"at most {TARGETS_MAX}"),
    Signal("mute", "mute", "user", 0, False, f"at most {TARGETS_MAX}"),
    Signal("dont_like", "not_interested", "tweet", 90, False),
    Signal("see_fewer", "see_fewer", "tweet", 90, False),
    Signal("report", "report", "tweet", 90, False),
)
NAMES: Final = tuple(signal.name for signal in SIGNALS)
BY_NAME: Final = {signal.name: signal for signal in SIGNALS}
_KIND_OF: Final = {
    "tweet_favorite": Kind.FAVORITE, "retweet": Kind.RETWEET, "reply": Kind.REPLY, "quote": Kind.QUOTE,
    "share": Kind.SHARE, "bookmark": Kind.BOOKMARK, "good_tweet_click": Kind.DWELL, "video_view_50": Kind.VIDEO_50,
    "dont_like": Kind.NOT_INTERESTED, "see_fewer": Kind.SEE_FEWER, "report": Kind.REPORT,
}  # fmt: skip
_VISITS_MIN: Final = {14: 2, 90: 6, 180: 6}


class Targets(NamedTuple):
    """Targets of a signal: ``ids`` uint64, ``times_ms`` int64 (0 where the time is not kept), ``author_ids`` uint64 (of
    users themselves); newest first, of equal times the greater id first."""

    ids: Ids
    times_ms: NDArray[np.int64]
    author_ids: Ids


class Group(NamedTuple):
    """One target of several signals: how many of them, the newest time, and their names."""

    target_id: int
    score: int
    time_ms: int
    signals: tuple[str, ...]


def _targets(ids: Ids, times_ms: NDArray[np.int64], author_ids: Ids, most: int = TARGETS_MAX) -> Targets:
    order = np.lexsort((ids, times_ms))[::-1][:most]
    return Targets(ids[order], times_ms[order], author_ids[order])


def _of(acts: Acts, kept: NDArray[np.bool_]) -> Acts:
    return Acts(acts.tweet_ids[kept], acts.kinds[kept], acts.times_ms[kept], acts.author_ids[kept])


class UserSignals:
    """Reads the signals of people from the rooms of a state."""

    def __init__(self, rooms: Rooms) -> None:
        self._signals, self._tweet_store = rooms.signals, rooms.tweet_store
        self._social_graph, self._real_graph = rooms.social_graph, rooms.real_graph
        self._strength = TieStrength(rooms)

    def of(self, user_id: int, time_ms: int, names: Iterable[str] = NAMES) -> dict[str, Targets]:
        """The targets of each named signal of a person at a time, in the order of ``SIGNALS``.

        Raises:
            KeyError: no such signal.
        """
        wanted = {BY_NAME[name].name for name in names}
        return {signal.name: self._one(signal, user_id, time_ms) for signal in SIGNALS if signal.name in wanted}

    def _one(self, signal: Signal, user_id: int, time_ms: int) -> Targets:
        since_ms = time_ms - signal.days * DAY_MS if signal.days else np.iinfo(np.int64).min
        base = signal.name.removesuffix("_90d")
        if base == "original_tweet":
            return self._originals(user_id, since_ms)
        if base == "follow":
            return self._follows(user_id, since_ms)
        if base.startswith("repeated_profile_visit"):
            return self._visits(user_id, signal.days, since_ms)
        if base == "tie_out_of_network":
            return self._ties(user_id, time_ms)
        if base in ("block", "mute"):
            return self._barred(user_id, time_ms, base)
        if base == "negative_tweet":
            acts = self._since(self._signals.recent_negatives(user_id, _ACTS_MAX), since_ms)
            return self._distinct(acts.tweet_ids, acts.times_ms, acts.author_ids)
        if base == "negative_user":
            return self._negative_people(user_id, time_ms, since_ms)
        acts = self._acts(user_id, _KIND_OF[base])
        if signal.name == base:
            acts = self._since(acts, since_ms)
        elif not len(acts.times_ms) or acts.times_ms[0] < since_ms:
            acts = self._since(acts, np.iinfo(np.int64).max)  # no act is young enough
        found = self._distinct(acts.tweet_ids, acts.times_ms, acts.author_ids)
        return self._popular(found) if signal.rule == _POPULAR else found

    def _acts(self, user_id: int, kind: Kind) -> Acts:
        """The person's acts of a kind, newest first."""
        if kind in (Kind.NOT_INTERESTED, Kind.SEE_FEWER, Kind.REPORT):
            acts = self._signals.recent_negatives(user_id, _ACTS_MAX)
        elif kind in (Kind.DWELL, Kind.VIDEO_50, Kind.PROFILE_CLICK):
            acts = self._signals.recent_implicit(user_id, _ACTS_MAX)
        else:
            acts = self._signals.recent_engagements(user_id, _ACTS_MAX)
        return _of(acts, acts.kinds == kind)

    @staticmethod
    def _since(acts: Acts, since_ms: int) -> Acts:
        return _of(acts, acts.times_ms >= since_ms)

    @staticmethod
    def _distinct(ids: Ids, times_ms: NDArray[np.int64], author_ids: Ids) -> Targets:
        """Each target once, at its newest time; columns are newest first. 0 is no target."""
        _, first = np.unique(ids, return_index=True)
        first = first[ids[first] != 0]
        return _targets(ids[first], times_ms[first], author_ids[first])

    def _popular(self, found: Targets) -> Targets:
        slots = self._tweet_store.lookup(found.ids)
        favorites = np.zeros(len(slots), np.int64)
        favorites[slots >= 0] = self._tweet_store.columns(slots[slots >= 0]).totals[:, Counter.FAVORITE]
        kept = favorites >= FAVORITES_MIN
        return Targets(found.ids[kept], found.times_ms[kept], found.author_ids[kept])

    def _originals(self, user_id: int, since_ms: int) -> Targets:
        author = np.array([user_id], np.uint64)
        ids, created_ms, slots = self._tweet_store.recent_of_authors(author, max(0, since_ms), _TWEETS_MAX, _TWEETS_MAX)
        own = self._tweet_store.columns(slots).flags & np.uint16(_OF_OTHERS) == 0
        ids = ids[own]
        return _targets(ids, created_ms[own].astype(np.int64), np.full(len(ids), user_id, np.uint64))

    def _follows(self, user_id: int, since_ms: int) -> Targets:
        ids = self._social_graph.followees(user_id, _FOLLOWS_MAX)
        times_ms = self._social_graph.followed_ms(np.full(len(ids), user_id, np.uint64), ids)
        young = times_ms >= since_ms
        return _targets(ids[young], times_ms[young], ids[young])

    def _visits(self, user_id: int, days: int, since_ms: int) -> Targets:
        acts = self._since(self._acts(user_id, Kind.PROFILE_CLICK), since_ms)
        people, first, counts = np.unique(acts.author_ids, return_index=True, return_counts=True)
        often = (counts >= _VISITS_MIN[days]) & (people != 0)
        return _targets(people[often], acts.times_ms[first[often]], people[often])

    def _ties(self, user_id: int, time_ms: int) -> Targets:
        ids = self._strength.out_of_network(user_id, time_ms, _TIES_MAX).user_ids
        barred = np.uint8(Relation.FOLLOWS | Relation.BLOCKS | Relation.MUTES)
        ids = ids[self._social_graph.relation(user_id, ids) & barred == 0][:TARGETS_MAX]
        return Targets(ids, np.zeros(len(ids), np.int64), ids)

    def _barred(self, user_id: int, time_ms: int, name: str) -> Targets:
        ids, _ = self._real_graph.negatives(user_id, time_ms)
        bit = np.uint8(Relation.BLOCKS if name == "block" else Relation.MUTES)
        ids = ids[self._social_graph.relation(user_id, ids) & bit != 0][:TARGETS_MAX]
        return Targets(ids, np.zeros(len(ids), np.int64), ids)

    def _negative_people(self, user_id: int, time_ms: int, since_ms: int) -> Targets:
        acts = self._since(self._signals.recent_negatives(user_id, _ACTS_MAX), since_ms)
        ids, flags = self._real_graph.negatives(user_id, time_ms)
        ids = ids[flags & np.uint8(Status.BLOCKED | Status.MUTED | Status.UNFOLLOWED) != 0]
        people = np.concatenate([acts.author_ids, ids])
        times_ms = np.concatenate([acts.times_ms, np.zeros(len(ids), np.int64)])
        return self._distinct(people, times_ms, people)


def grouped(found: dict[str, Targets], by: str) -> list[Group]:
    """Targets of positive signals added up: by ``tweet`` those of tweets, by ``author`` also the tweets' authors.

    Score = how many signals name the target (each weighs 1), time = the newest; greatest (score, time) first, then the
    greater id.
    """
    groups: dict[int, list[tuple[str, int]]] = {}
    for name, targets in found.items():
        signal = BY_NAME[name]
        if not signal.positive or (by == "tweet" and signal.target != "tweet"):
            continue
        ids = targets.ids if by == "tweet" else targets.author_ids
        newest: dict[int, int] = {}
        for target, time_ms in zip(ids.tolist(), targets.times_ms.tolist(), strict=True):
            if target:
                newest[target] = max(newest.get(target, 0), time_ms)
        for target, time_ms in newest.items():
            groups.setdefault(target, []).append((name, time_ms))
    made = [
        Group(target, len(named), max(time_ms for _, time_ms in named), tuple(name for name, _ in named))
        for target, named in groups.items()
    ]
    return sorted(made, key=lambda group: (-group.score, -group.time_ms, -group.target_id))
