"""The society's world: who knows whom, which tweets there are, and how people react to them.

Every method gets its random generator and its times as arguments: nothing here reads a clock. State is bounded: the
tweets in ``RecentTweets``, the follow and block pairs, a table of seen pairs, and a short queue of regrets.
"""

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.batch import SNOWFLAKE_EPOCH_MS, Kind
from loadtest.society import behavior
from loadtest.society.events import EventColumns, make_columns
from loadtest.society.people import PairSet, People, draw_followees, make_followees
from loadtest.society.tweets import NewTweets, Recents, RecentTweets, SeenTable

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Ids = NDArray[np.uint64]

#: How people come across tweets when they browse: a followee's own tweet, a tweet that a followee liked or shared, a
#: popular tweet, a new tweet in one of their topics.
ROUTES = (0.45, 0.20, 0.15, 0.20)
_POPULAR_AMONG = 2048
_ENGAGEMENT_WEIGHTS = {Kind.FAVORITE: 1.0, Kind.REPLY: 1.0, Kind.RETWEET: 2.0, Kind.QUOTE: 2.0}
_REGRET_AFTER_MS = 20_000


class Looks(NamedTuple):
    """Meetings of people and tweets, as parallel arrays (n,): the tweet's ``number`` in the ring, its id and author
    (copied, because replies add tweets to the ring and may push old ones out), and the 0-based ``position``."""

    person: Ints
    number: Ints
    tweet_id: Ids
    author: Ints
    position: Ints
    timestamp_ms: Ints


class World:
    """State of the society. Person index p has user id p + 1."""

    def __init__(
        self,
        people: People,
        follows: Ints,
        *,
        tweets_max: int,
        seen_max: int,
        half_life_ms: float,
        persistence: float,
    ) -> None:
        self.people = people
        self.count, self.topics = people.interests.shape
        self.follows = PairSet(follows)
        self.blocks = PairSet(np.empty(0, np.int64))
        self.tweets = RecentTweets(tweets_max)
        self._half_life_ms = half_life_ms
        self._persistence = persistence
        self._seen = SeenTable(seen_max)
        self._written = Recents(self.count, 4)
        self._shared = Recents(self.count, 4)
        self._by_topic = Recents(self.topics, 256)
        self._regrets: deque[tuple[int, int, int, int]] = deque(maxlen=1024)
        self._serial = 0
        self._activity = np.cumsum(people.activity)
        self._productivity = np.cumsum(people.productivity)
        # Rows sum to 1, so in the running sum over all rows person p's topics lie in (p, p + 1].
        self._interest_ladder = np.cumsum(people.interests.ravel())
        self._followees = make_followees(self.follows.keys(), people.productivity)

    def make_ids(self, timestamp_ms: Ints) -> Ids:
        """New snowflake ids for these times, unique in this society."""
        size = timestamp_ms.shape[0]
        serial = (np.arange(self._serial, self._serial + size) & 0x3FFFFF).astype(np.uint64)
        self._serial += size
        return ((timestamp_ms - SNOWFLAKE_EPOCH_MS).astype(np.uint64) << np.uint64(22)) | serial

    def match(self, person: Ints, slot: Ints) -> Floats:
        """How well tweets meet people's interests, pair by pair."""
        tweets, interests = self.tweets, self.people.interests
        pair = np.stack([interests[person, tweets.topic[slot]], interests[person, tweets.second[slot]]], axis=1)
        return behavior.match(pair, self.people.interest_max[person], tweets.mix[slot])

    def affinity(self, person: Ints, slot: Ints) -> Floats:
        """Ground truth of how much people would like tweets, pair by pair; 0 for own tweets and across a block."""
        author = self.tweets.author[slot]
        tie = self.follows.contains(person * self.count + author)
        affine = behavior.affinity(self.match(person, slot), self.tweets.quality[slot], tie)
        affine[self._apart(person, author)] = 0.0
        return affine

    def unseen(self, person: Ints, number: Ints) -> NDArray[np.bool_]:
        """Which people have not met which tweets yet, pair by pair."""
        return self._seen.unseen(person, number)

    def _apart(self, person: Ints, author: Ints) -> NDArray[np.bool_]:
        """Whether both are the same person, or one has blocked the other; pair by pair."""
        apart = self.blocks.contains(person * self.count + author) | self.blocks.contains(author * self.count + person)
        apart |= person == author
        return apart

    def _draw_topic(self, rng: np.random.Generator, person: Ints) -> Ints:
        drawn = np.searchsorted(self._interest_ladder, person + rng.random(person.shape[0]), side="right")
        topic: Ints = np.clip(drawn - person * self.topics, 0, self.topics - 1)
        return topic

    def write(self, rng: np.random.Generator, size: int, from_ms: int, to_ms: int) -> EventColumns:
        """``size`` new tweets at random times of [from, to)."""
        author = np.searchsorted(self._productivity, rng.random(size) * self._productivity[-1], side="right")
        created = np.sort(rng.integers(from_ms, to_ms, size))
        topic = self._draw_topic(rng, author)
        second = self._draw_topic(rng, author)
        mix = np.where(second == topic, 1.0, rng.uniform(0.6, 1.0, size))
        quality = np.clip(0.7 * self.people.skill[author] + 0.3 * rng.random(size), 0.0, 1.0)
        ids = self.make_ids(created)
        numbers = self.tweets.add(NewTweets(ids, author, created, topic, second, mix, quality, ids))
        self._written.push(author, numbers)
        self._by_topic.push(topic, numbers)
        return self._creates(rng, numbers)

    def _creates(
        self, rng: np.random.Generator, numbers: Ints, answer: int | Ints = 0, parent: int | Ids = 0
    ) -> EventColumns:
        """The create events of tweets just added."""
        tweets, slot = self.tweets, numbers % self.tweets.capacity
        author = tweets.author[slot] + 1
        created = tweets.created_ms[slot]
        return make_columns(
            Kind.CREATE,
            id=self.make_ids(created),
            user_id=author,
            author_id=author,
            subject_id=tweets.tweet_id[slot],
            timestamp_ms=created,
            topic=tweets.topic[slot],
            second=tweets.second[slot],
            mix=tweets.mix[slot],
            quality=tweets.quality[slot],
            variant=rng.integers(0, 2**63, numbers.shape[0]),
            conversation_id=tweets.conversation_id[slot],
            answer=answer,
            parent_id=parent,
        )

    def look(self, rng: np.random.Generator, size: int, from_ms: int, to_ms: int) -> Looks:
        """At most ``size`` meetings from people's own browsing in [from, to). Pairs that are blocked or have met before
        are left out."""
        person = np.searchsorted(self._activity, rng.random(size) * self._activity[-1], side="right")
        timestamp = np.sort(rng.integers(from_ms, to_ms, size))
        route = np.searchsorted(np.cumsum(ROUTES)[:-1], rng.random(size), side="right")
        draws: tuple[Callable[[Ints], Ints], ...] = (
            lambda who: self._written.draw(rng, draw_followees(rng, self._followees, who)),
            lambda who: self._shared.draw(rng, draw_followees(rng, self._followees, who)),
            lambda who: self._draw_popular(rng, who.shape[0], from_ms),
            lambda who: self._by_topic.draw(rng, self._draw_topic(rng, who)),
        )
        number = np.full(size, -1, np.int64)
        for code, draw in enumerate(draws):
            rows = np.flatnonzero(route == code)
            number[rows] = draw(person[rows])
        # Fewer viewers reach positions further down: the positions of looks follow a geometric distribution.
        position = rng.geometric(1.0 - self._persistence, size) - 1
        slot = np.maximum(number, 0) % self.tweets.capacity
        keep = self.tweets.held(number) & ~self._apart(person, self.tweets.author[slot])
        keep &= self.tweets.created_ms[slot] <= timestamp
        keep[keep] &= self._seen.unseen(person[keep], number[keep])
        rows = np.flatnonzero(keep)
        _, first = np.unique((person[rows] << 40) | number[rows], return_index=True)
        rows = rows[np.sort(first)]
        return self.meet(person[rows], number[rows], position[rows], timestamp[rows])

    def meet(self, person: Ints, number: Ints, position: Ints, timestamp_ms: Ints) -> Looks:
        """Meetings as ``Looks``; the tweets must be held."""
        slot = number % self.tweets.capacity
        return Looks(person, number, self.tweets.tweet_id[slot], self.tweets.author[slot], position, timestamp_ms)

    def _draw_popular(self, rng: np.random.Generator, size: int, now_ms: int) -> Ints:
        recent = self.tweets.newest(_POPULAR_AMONG)
        if not recent.shape[0]:
            return np.full(size, -1, np.int64)
        slot = recent % self.tweets.capacity
        fresh = behavior.freshness(now_ms - self.tweets.created_ms[slot], self._half_life_ms)
        ladder = np.cumsum((0.2 + self.tweets.engagements[slot]) * fresh)
        at = np.searchsorted(ladder, rng.random(size) * ladder[-1], side="right")
        chosen: Ints = recent[np.minimum(at, recent.shape[0] - 1)]
        return chosen

    def answer(
        self, rng: np.random.Generator, looks: Looks, *, request_id: int = 0, impressions: float = 1.0
    ) -> list[EventColumns]:
        """The events of people who look at tweets for the first time. ``impressions``: share of the looks without an
        engagement that emit an impression (looks with an engagement always do)."""
        size = looks.person.shape[0]
        tweets, slot = self.tweets, looks.number % self.tweets.capacity
        matched, affine = self.match(looks.person, slot), self.affinity(looks.person, slot)
        tie = self.follows.contains(looks.person * self.count + looks.author)
        near = ~self._apart(looks.person, looks.author)
        fresh = behavior.freshness(looks.timestamp_ms - tweets.created_ms[slot], self._half_life_ms)
        self._seen.add(looks.person, looks.number)

        acts = {
            kind: np.flatnonzero(rng.random(size) < behavior.engagement(rate, affine, fresh))
            for kind, rate in behavior.RATES
        }
        bored = (rng.random(size) < behavior.NOT_INTERESTED_RATE * (1.0 - matched)) & near
        acts[Kind.NOT_INTERESTED] = np.flatnonzero(bored)
        told = np.flatnonzero(rng.random(size) < impressions)
        acts = {Kind.IMPRESSION: np.unique(np.concatenate([told, *acts.values()])), **acts}

        parts = [self._engage(kind, looks, rows, request_id) for kind, rows in acts.items() if rows.shape[0]]
        for kind, weight in _ENGAGEMENT_WEIGHTS.items():
            np.add.at(tweets.engagements, slot[acts[kind]], weight)
        for kind in (Kind.FAVORITE, Kind.RETWEET):
            self._shared.push(looks.person[acts[kind]], looks.number[acts[kind]])
        self._regret(rng, looks, acts[Kind.FAVORITE])
        if acts[Kind.REPLY].shape[0] or acts[Kind.QUOTE].shape[0]:
            parts.append(self._respond(rng, looks, acts[Kind.REPLY], acts[Kind.QUOTE]))
        liked = np.zeros(size, np.bool_)
        liked[acts[Kind.FAVORITE]] = True
        parts += self._relate(rng, Kind.FOLLOW, looks, behavior.FOLLOW_RATE * affine * (liked & ~tie))
        parts += self._relate(rng, Kind.UNFOLLOW, looks, behavior.UNFOLLOW_RATE * (1.0 - affine) * (near & tie))
        parts += self._relate(rng, Kind.BLOCK, looks, behavior.BLOCK_RATE * (1.0 - affine) * (near & ~tie))
        return parts

    def _engage(self, kind: Kind, looks: Looks, rows: Ints, request_id: int) -> EventColumns:
        timestamp = looks.timestamp_ms[rows]
        return make_columns(
            kind,
            id=self.make_ids(timestamp),
            user_id=looks.person[rows] + 1,
            subject_id=looks.tweet_id[rows],
            author_id=looks.author[rows] + 1,
            timestamp_ms=timestamp,
            context_id=request_id,
            value=looks.position[rows] if kind == Kind.IMPRESSION else 0,
        )

    def _respond(self, rng: np.random.Generator, looks: Looks, replies: Ints, quotes: Ints) -> EventColumns:
        """The create events of replies and quotes. Browsing never leads to replies (they are read in conversations,
        which the society does not model), but it leads to quotes like to any tweet of the author."""
        rows = np.concatenate([replies, quotes])
        is_quote = np.arange(rows.shape[0]) >= replies.shape[0]
        tweets, slot = self.tweets, looks.number[rows] % self.tweets.capacity
        author, created = looks.person[rows], looks.timestamp_ms[rows]
        ids = self.make_ids(created)
        numbers = tweets.add(
            NewTweets(
                tweet_id=ids,
                author=author,
                created_ms=created,
                topic=tweets.topic[slot],
                second=tweets.second[slot],
                mix=tweets.mix[slot],
                quality=np.clip(0.7 * self.people.skill[author] + 0.3 * rng.random(rows.shape[0]), 0.0, 1.0),
                conversation_id=np.where(is_quote, ids, tweets.conversation_id[slot]),
            )
        )
        self._written.push(author[is_quote], numbers[is_quote])
        answer = np.where(is_quote, Kind.QUOTE, Kind.REPLY)
        return self._creates(rng, numbers, answer, looks.tweet_id[rows])

    def _relate(self, rng: np.random.Generator, kind: Kind, looks: Looks, chance: Floats) -> list[EventColumns]:
        """Follow, unfollow or block the author of each look's tweet, each with its chance."""
        drawn = np.flatnonzero(rng.random(chance.shape[0]) < chance)
        chosen: list[int] = []
        pairs, present = (self.blocks, True) if kind == Kind.BLOCK else (self.follows, kind == Kind.FOLLOW)
        for row in drawn.tolist():
            key = int(looks.person[row]) * self.count + int(looks.author[row])
            if pairs.has(key) == present:
                continue
            chosen.append(row)
            if pairs.put(key, present) and pairs is self.follows:
                self._followees = make_followees(self.follows.keys(), self.people.productivity)
        if not chosen:
            return []
        timestamp = looks.timestamp_ms[chosen]
        return [
            make_columns(
                kind,
                id=self.make_ids(timestamp),
                user_id=looks.person[chosen] + 1,
                subject_id=looks.author[chosen] + 1,
                timestamp_ms=timestamp,
            )
        ]

    def _regret(self, rng: np.random.Generator, looks: Looks, rows: Ints) -> None:
        """Choose the favorites that will be taken back, and queue them."""
        for row in rows[rng.random(rows.shape[0]) < behavior.UNFAVORITE_SHARE].tolist():
            due = int(looks.timestamp_ms[row]) + _REGRET_AFTER_MS
            who, author = int(looks.person[row]) + 1, int(looks.author[row]) + 1
            self._regrets.append((due, who, int(looks.tweet_id[row]), author))

    def regret(self, from_ms: int, to_ms: int) -> list[EventColumns]:
        """The favorites taken back in [from, to)."""
        due = []
        while self._regrets and self._regrets[0][0] < to_ms:
            due.append(self._regrets.popleft())
        if not due:
            return []
        times, person, tweet, author = (list(column) for column in zip(*due, strict=True))
        timestamp = np.maximum(np.array(times, np.int64), from_ms)
        ids = self.make_ids(timestamp)
        return [
            make_columns(
                Kind.UNFAVORITE, id=ids, user_id=person, subject_id=tweet, author_id=author, timestamp_ms=timestamp
            )
        ]
