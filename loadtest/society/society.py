"""An agent-based society with ground truth: the events of people who follow, write, look and react.

Why a society and not random events: a feed can only be judged, by eye or by figures, when there is something to
find. Here people have interests and follow those who share them. How they react to a tweet depends on their interest
and on the tweet's quality, age and position (``behavior``). So it is known exactly which tweets a good feed would show.

Pure and seeded: no clock, no I/O; the same seed and the same calls give the same events.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta

from engine.batch import Kind
from loadtest.society.behavior import examination
from loadtest.society.events import Event, EventColumns, encode, join, make_columns, to_events
from loadtest.society.people import make_follows, make_people
from loadtest.society.text import TOPICS
from loadtest.society.world import World

__all__ = ["Event", "EventColumns", "Society", "SocietyConfig", "encode", "to_events"]

Share = Annotated[float, Meta(ge=0, le=1)]

_CHUNK_EVENTS = 2000
_MS_PER_YEAR = 31_557_600_000


class SocietyConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A society. ``tweet_share``: share of plain tweets among all events (replies and quotes come on top of it).
    ``impressions_told``: share of the looks without an engagement that emit an impression."""

    seed: Annotated[int, Meta(ge=0)] = 1
    people: Annotated[int, Meta(ge=10, le=200_000)] = 2000
    topics: Annotated[int, Meta(ge=2, le=len(TOPICS))] = len(TOPICS)
    mean_followees: Annotated[float, Meta(ge=1)] = 40.0
    #: Exponent of the in-degree density's power-law tail.
    degree_exponent: Annotated[float, Meta(gt=1.5, le=4)] = 2.3
    homophily: Share = 0.8
    reciprocity: Share = 0.3
    events_per_s: Annotated[float, Meta(gt=0)] = 200.0
    tweet_share: Share = 0.1
    impressions_told: Share = 0.1
    history_events: Annotated[int, Meta(ge=0)] = 20_000
    freshness_half_life_ms: Annotated[int, Meta(ge=1)] = 1_800_000
    #: The chance that a viewer goes on from one entry of a feed to the next.
    persistence: Annotated[float, Meta(gt=0, lt=1)] = 0.9
    tweets_max: Annotated[int, Meta(ge=1024)] = 16_384
    seen_max: Annotated[int, Meta(ge=1024)] = 1_048_576
    step_ms_max: Annotated[int, Meta(ge=1)] = 250


class Society:
    """People with user ids 1 … ``people``, who act in event time; the caller moves time forward.

    Used by one thread. ``tick`` and ``react`` draw from separate random streams.
    Memory: 96 bytes per person (interests), 24 bytes per follow, about 200 bytes per held tweet, 8 bytes per seen pair.
    """

    def __init__(self, config: SocietyConfig) -> None:
        self.config = config
        seeds = np.random.SeedSequence(config.seed).spawn(3)
        birth, self._tick_rng, self._react_rng = (np.random.Generator(np.random.PCG64(seed)) for seed in seeds)
        people = make_people(birth, config.people, config.topics, config.degree_exponent)
        self._joined_years = birth.uniform(0.1, 12.0, config.people)
        self._world = World(
            people,
            make_follows(birth, people, config.mean_followees, config.homophily, config.reciprocity),
            tweets_max=config.tweets_max,
            seen_max=config.seen_max,
            half_life_ms=config.freshness_half_life_ms,
            persistence=config.persistence,
        )
        self._owed = 0.0
        self._tweets_owed = 0.0
        self._events_a_look = 0.5

    @property
    def world(self) -> World:
        """The state, for tests and quality checks."""
        return self._world

    def viewer_ids(self, limit: int) -> list[int]:
        """The user ids of the people who look most, most active first."""
        order = np.argsort(-self._world.people.activity, kind="stable")
        return [int(p) + 1 for p in order[:limit]]

    def interests(self, viewer_id: int) -> dict[str, float]:
        """A person's interests by topic name, greatest first; they sum to 1.

        Raises:
            ValueError: nobody has this user id.
        """
        row = self._world.people.interests[self._person(viewer_id)]
        return {TOPICS[t].name: float(row[t]) for t in np.argsort(-row, kind="stable").tolist() if row[t] > 0}

    def affinity(self, viewer_id: int, tweet_id: int) -> float:
        """Ground truth: how much the viewer would like the tweet, 0..1, regardless of its age and position.

        Raises:
            ValueError: nobody has this user id.
            KeyError: the tweet is not among the recent tweets.
        """
        person = self._person(viewer_id)
        number = self._world.tweets.find(tweet_id)
        if number < 0:
            raise KeyError(tweet_id)
        slot = np.array([number % self._world.tweets.capacity])
        return float(self._world.affinity(np.array([person]), slot)[0])

    def bootstrap(self, now_ms: int, history_ms: int) -> Iterator[list[Event]]:
        """The society up to now, in lists of a few thousand events in time order: everybody's profile, everybody's
        follows, then ``history_events`` events over the last ``history_ms``, denser towards now.

        Call it once, before the first ``tick``.
        """
        start_ms = now_ms - history_ms
        yield from self.found(start_ms)
        steps = max(1, self.config.history_events // 100)
        ages = history_ms * (1.0 - np.arange(steps + 1) / steps) ** 2
        edges = np.unique((now_ms - ages).astype(np.int64)).tolist()
        pending: list[Event] = []
        for from_ms, to_ms in pairwise(edges):
            pending += to_events(self._step(from_ms, to_ms, self.config.history_events / (len(edges) - 1)))
            if len(pending) >= _CHUNK_EVENTS:
                yield pending
                pending = []
        if pending:
            yield pending

    def found(self, start_ms: int) -> Iterator[list[Event]]:
        """Everybody's profile and everybody's follows, in lists of a few thousand events, before ``start_ms``.

        Call it once, before the first ``tick``; ``bootstrap`` includes it.
        """
        yield from self._profiles(start_ms - 60_000)
        yield from self._follows(start_ms - 50_000, start_ms)

    def tick(self, from_ms: int, to_ms: int) -> list[Event]:
        """The events of people's own browsing in [from, to), in time order: about ``events_per_s`` per second.

        People see tweets that their followees wrote or shared, popular tweets, and new tweets in their topics.
        """
        return to_events(self.tick_columns(from_ms, to_ms))

    def tick_columns(self, from_ms: int, to_ms: int) -> EventColumns:
        """``tick`` as columns: the same state changes, but no text is composed. For packed load."""
        parts = []
        while from_ms < to_ms:
            until_ms = min(to_ms, from_ms + self.config.step_ms_max)
            parts.append(self._step(from_ms, until_ms, self.config.events_per_s * (until_ms - from_ms) / 1000.0))
            from_ms = until_ms
        return join(parts)

    def react(
        self, viewer_id: int, entries: Sequence[Mapping[str, Any]], now_ms: int, request_id: int = 0
    ) -> list[Event]:
        """A viewer's reaction to a feed: impressions of the examined entries, and the engagements that follow.

        ``entries`` are those of a ``feed`` frame, in order (``tweet_id``, ``author_id``). Tweets that this society does
        not hold get an impression only, and so do tweets that the viewer has met before.

        Raises:
            ValueError: nobody has this user id.
        """
        person, world, rng = self._person(viewer_id), self._world, self._react_rng
        position = np.arange(len(entries))
        looked = np.flatnonzero(rng.random(len(entries)) < examination(position, self.config.persistence))
        number = np.array([world.tweets.find(int(entries[i]["tweet_id"])) for i in looked.tolist()], np.int64)
        known = number >= 0
        fresh = np.zeros(number.shape[0], np.bool_)
        fresh[known] = world.unseen(np.full(int(known.sum()), person), number[known])
        _, first = np.unique(number, return_index=True)
        fresh &= np.isin(np.arange(number.shape[0]), first)
        again = looked[~fresh]
        parts = [
            make_columns(
                Kind.IMPRESSION,
                id=world.make_ids(np.full(again.shape[0], now_ms)),
                user_id=viewer_id,
                subject_id=np.array([int(entries[i]["tweet_id"]) for i in again.tolist()], np.uint64),
                author_id=np.array([int(entries[i]["author_id"]) for i in again.tolist()], np.uint64),
                timestamp_ms=now_ms,
                context_id=request_id,
                value=again,
            )
        ]
        size = int(fresh.sum())
        looks = world.meet(np.full(size, person), number[fresh], looked[fresh], np.full(size, now_ms))
        return to_events(join([*parts, *world.answer(rng, looks, request_id=request_id)]))

    def _person(self, viewer_id: int) -> int:
        if not 1 <= viewer_id <= self.config.people:
            raise ValueError(f"nobody has user id {viewer_id}: they go from 1 to {self.config.people}")
        return viewer_id - 1

    def _step(self, from_ms: int, to_ms: int, events: float) -> EventColumns:
        """About ``events`` events in [from, to). How many events a look leads to is known only afterwards, so the
        number of looks follows a running mean, and the difference carries over to the next step."""
        rng, world = self._tick_rng, self._world
        self._owed = min(self._owed + events, 4.0 * events + 100.0)
        self._tweets_owed += events * self.config.tweet_share
        tweets = int(self._tweets_owed)
        self._tweets_owed -= tweets
        parts = world.regret(from_ms, to_ms)
        looks = max(0, int((self._owed - tweets) / self._events_a_look))
        if looks:
            met = world.look(rng, looks, from_ms, to_ms)
            answered = world.answer(rng, met, impressions=self.config.impressions_told)
            got = sum(part.size for part in answered) / looks
            self._events_a_look = max(0.1, 0.95 * self._events_a_look + 0.05 * got)
            parts += answered
        if tweets:
            parts.append(world.write(rng, tweets, from_ms, to_ms))
        step = join(parts)
        self._owed -= step.size
        return step

    def _profiles(self, timestamp_ms: int) -> Iterator[list[Event]]:
        people = self.config.people
        ids = self._world.make_ids(np.full(people, timestamp_ms)).tolist()
        created = (timestamp_ms - self._joined_years * _MS_PER_YEAR).astype(np.int64).tolist()
        verified = (self._world.people.attraction > np.quantile(self._world.people.attraction, 0.98)).tolist()
        events = []
        for p in range(people):
            body = {
                "v": 1,
                "id": str(ids[p]),
                "type": "user",
                "user_id": str(p + 1),
                "timestamp_ms": timestamp_ms,
                "created_ms": created[p],
                "verified": verified[p],
                "protected": False,
                "state": "active",
                "languages": ["en"],
            }
            events.append(Event("users", str(p + 1).encode(), body))
        for start in range(0, people, _CHUNK_EVENTS):
            yield events[start : start + _CHUNK_EVENTS]

    def _follows(self, from_ms: int, to_ms: int) -> Iterator[list[Event]]:
        keys = self._world.follows.keys()
        follower, followee = np.divmod(keys, self.config.people)
        timestamp = np.linspace(from_ms, to_ms - 1, keys.shape[0]).astype(np.int64)
        for start in range(0, keys.shape[0], _CHUNK_EVENTS):
            rows = slice(start, start + _CHUNK_EVENTS)
            yield to_events(
                make_columns(
                    Kind.FOLLOW,
                    id=self._world.make_ids(timestamp[rows]),
                    user_id=follower[rows] + 1,
                    subject_id=followee[rows] + 1,
                    timestamp_ms=timestamp[rows],
                )
            )
