"""The events of a simulated world: those of a small society, and others that occur in the real world but not there.

Contains every kind of event in both formats, duplicates, late and very late times, and records that must become dead
letters. Everything follows from the seed.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple, get_args

import numpy as np
import orjson

from engine.batch import Kind, snowflake_id
from engine.models.specs import REPUTATION
from loadtest.simulation.chance import Chance
from loadtest.society.society import Event, Society, SocietyConfig, encode
from streams.events.json_types import EngagementType
from streams.events.models import TOPIC as MODELS
from streams.events.models import model_records
from streams.events.packed import make_rows, pack
from streams.log.interface import Format, NewRecord

#: Virtual time 0, in ms since the Unix epoch.
EPOCH_MS = 1_760_000_000_000
_HOUR_MS = 3_600_000
#: Ids of events made here begin at this number; the society's snowflake ids are below.
_FIRST_ID = 1 << 63
_ENGAGEMENTS = get_args(EngagementType)
_PEOPLE_ACTS = (
    "follow", "follow", "unfollow", "block", "unblock", "mute", "unmute", "report_user", "contact", "dismiss",
    "undismiss",
)  # fmt: skip


class Publication(NamedTuple):
    """Records that a producer appends to one topic in one call. ``event_ids``: ids of the events that can be applied.

    ``refused``: how many records (or rows of packed ones) must become dead letters.
    """

    topic: str
    records: list[NewRecord]
    event_ids: list[int]
    refused: int


class WorkloadConfig(NamedTuple):
    """Size of a run: ``acts`` made-up events in addition to the society's, over ``seconds`` of virtual time."""

    seconds: float
    people: int
    history: int
    acts: int


class Workload:
    """The events of one run."""

    def __init__(self, config: WorkloadConfig, chance: Chance) -> None:
        self.config = config
        self._chance = chance
        self._next_id = _FIRST_ID
        self._society = Society(
            SocietyConfig(
                seed=chance.integer(1, 1 << 30),
                people=config.people,
                mean_followees=5,
                history_events=config.history,
                events_per_s=1.5,
                tweets_max=1024,
                seen_max=1024,
                step_ms_max=5000,
            )
        )
        self._tweets: list[tuple[int, int]] = []
        self._model_version = 0

    def history(self) -> list[Publication]:
        """The content of the log before the engine's first start."""
        publications: list[Publication] = []
        for events in self._society.bootstrap(EPOCH_MS, 6 * _HOUR_MS):
            publications += self._publications(events)
        return publications

    def live(self) -> Iterator[tuple[float, Publication]]:
        """Publications, each with the virtual second in which it is made."""
        edges = np.linspace(0.0, self.config.seconds, 12)
        acts = max(1, self.config.acts // 11)
        for begin_s, end_s in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            events = self._society.tick(EPOCH_MS + int(begin_s * 1000), EPOCH_MS + int(end_s * 1000))
            for publication in self._publications(events):
                yield self._chance.seconds(begin_s, end_s), publication
            made = 0
            while made < acts:
                time_s = self._chance.seconds(begin_s, end_s)
                publication = self._act(EPOCH_MS + int(time_s * 1000))
                made += max(1, len(publication.event_ids))
                yield time_s, publication

    def reactions(self, viewer_id: int, entries: list[dict[str, Any]], now_ms: int, request_id: int) -> Publication:
        """A viewer's reactions to a feed: impressions, and sometimes more."""
        events = self._society.react(viewer_id, entries, now_ms, request_id)
        engagements = [event for event in events if event.topic == "engagements"]
        return _publication("engagements", engagements)

    def _publications(self, events: list[Event]) -> Iterator[Publication]:
        """Publications of the events in their order; each has a few consecutive events of one topic."""
        group: list[Event] = []
        size = self._chance.integer(1, 30)
        for event in events:
            if event.topic == "tweets":
                self._tweets.append((int(event.body["tweet_id"]), int(event.body["author_id"])))
            if group and (event.topic != group[0].topic or len(group) >= size):
                yield _publication(group[0].topic, group)
                group, size = [], self._chance.integer(1, 30)
            group.append(event)
        if group:
            yield _publication(group[0].topic, group)

    # Events that the society does not emit

    def _act(self, now_ms: int) -> Publication:
        make = self._chance.weighted(
            (
                (self._engagement, 5.0),
                (self._packed_engagements, 1.5),
                (self._between_people, 3.0),
                (self._tweet, 1.5),
                (self._change_of_tweet, 2.0),
                (self._profile, 0.5),
                (self._refused, 1.0),
                (self._model, 1.2),
            )
        )
        return make(self._happened_ms(now_ms))

    def _happened_ms(self, now_ms: int) -> int:
        """Event time: mostly now; sometimes late, by at most three hours or by more than any window."""
        late = self._chance.weighted((("not", 0.85), ("late", 0.1), ("far", 0.05)))
        if late == "late":
            return now_ms - self._chance.integer(1000, 3 * _HOUR_MS)
        return now_ms - self._chance.integer(60, 200) * _HOUR_MS if late == "far" else now_ms

    def _engagement(self, time_ms: int) -> Publication:
        kind = self._chance.choice(_ENGAGEMENTS)
        tweet_id, author_id = self.some_tweet()
        fields: dict[str, Any] = {"type": kind, "tweet_id": str(tweet_id), "author_id": str(author_id)}
        if kind in ("dwell", "impression"):
            fields["value"] = self._chance.integer(0, 30)
        return self._json("engagements", "user_id", self._person(), time_ms, fields)

    def _packed_engagements(self, time_ms: int) -> Publication:
        size = self._chance.integer(1, 12)
        tweets = [self.some_tweet() for _ in range(size)]
        ids = [self._id() for _ in range(size)]
        kinds = [Kind.FAVORITE, Kind.UNFAVORITE, Kind.RETWEET, Kind.CLICK, Kind.IMPRESSION, Kind.NOT_INTERESTED]
        rows = make_rows(
            size,
            id=np.array(ids, np.uint64),
            user_id=np.array([self._person() for _ in range(size)], np.uint64),
            subject_id=np.array([tweet for tweet, _ in tweets], np.uint64),
            author_id=np.array([author for _, author in tweets], np.uint64),
            timestamp_ms=time_ms,
            kind=np.array([self._chance.choice(kinds) for _ in range(size)], np.uint8),
        )
        refused = [i for i in range(size) if self._chance.happens(0.05)]
        rows["user_id"][refused] = 0
        (value,) = pack(rows)
        used = [event_id for i, event_id in enumerate(ids) if i not in refused]
        record = NewRecord(value, key=b"packed", format=Format.PACKED)
        return Publication("engagements", [record], used, len(refused))

    def _between_people(self, time_ms: int) -> Publication:
        one = self._person()
        if self._chance.happens(0.1):
            fields = {"type": "mute_word", "word": self._chance.choice(["rain", "pier", "tea"])}
        else:
            other = self._chance.choice([p for p in range(1, self.config.people + 1) if p != one])
            fields = {"type": self._chance.choice(_PEOPLE_ACTS), "target_id": str(other)}
        return self._json("relationships", "user_id", one, time_ms, fields)

    def _tweet(self, time_ms: int) -> Publication:
        author = self._person()
        tweet_id = snowflake_id(time_ms, self._chance.integer(0, 1 << 22))
        fields: dict[str, Any] = {"type": "create", "tweet_id": str(tweet_id), "text": "as the rain said", "lang": "en"}
        other, _ = self.some_tweet()
        relation = self._chance.choice(["", "", "reply_to_id", "quoted_id", "retweeted_id"])
        if relation:
            fields[relation] = str(other)
        if self._chance.happens(0.5):
            fields |= {"mentions": [str(self._person())], "hashtags": ["rain"], "urls": ["https://example.org/a"]}
        if self._chance.happens(0.3):
            fields |= {"media": ["photo"], "media_tags": [str(self._person())]}
        self._tweets.append((tweet_id, author))
        return self._json("tweets", "author_id", author, time_ms, fields)

    def _change_of_tweet(self, time_ms: int) -> Publication:
        tweet_id, author = self.some_tweet()
        kind = self._chance.choice(["edit", "delete", "label", "unlabel"])
        fields: dict[str, Any] = {"type": kind, "tweet_id": str(tweet_id)}
        if kind == "edit":
            fields |= {"text": "as the pier said", "lang": "en"}
        elif kind != "delete":
            fields["label"] = self._chance.choice(["spam", "nsfw"])
        return self._json("tweets", "author_id", author, time_ms, fields)

    def _profile(self, time_ms: int) -> Publication:
        fields = {
            "type": "user",
            "protected": self._chance.happens(0.5),
            "state": self._chance.choice(["active", "active", "suspended", "deactivated"]),
        }
        return self._json("users", "user_id", self._person(), time_ms, fields)

    def _refused(self, time_ms: int) -> Publication:
        """A good record, and after it a record that cannot be used; sometimes a second bad one."""
        good = self._engagement(time_ms)
        body = orjson.loads(good.records[0].value)
        bad = self._chance.choice(
            [
                b"\xff\xfe",
                b"{",
                orjson.dumps(body | {"id": "0"}),
                orjson.dumps(body | {"v": 2}),
                orjson.dumps(body | {"type": "create"}),
                orjson.dumps(body | {"id": str(self._id()), "timestamp_ms": EPOCH_MS + 30 * _HOUR_MS}),
            ]
        )
        records = [*good.records, NewRecord(bad, key=good.records[0].key)]
        if self._chance.happens(0.3):
            records.append(NewRecord(b"MURM" + self._chance.bytes(40), key=b"packed", format=Format.PACKED))
        return Publication("engagements", records, good.event_ids, len(records) - 1)

    def _model(self, time_ms: int) -> Publication:
        """A version of a model: mostly newer than the last and whole; else with one of several faults."""
        self._model_version += self._chance.choice([1, 1, 1, 2, 0, -1])
        people = self._chance.integer(0, self.config.people)
        payload = people.to_bytes(8, "little") + self._chance.bytes(13 * people)
        wrong = ("lost", "digest", "schema", "name", "large", "size")
        fault = self._chance.weighted((("none", 8.0), *((way, 1.0) for way in wrong)))
        name = "nobody" if fault == "name" else REPUTATION.name
        schema = "another" if fault == "schema" else REPUTATION.schema
        payload += {"large": bytes(1 << 13), "size": b"more"}.get(fault, b"")
        version = max(1, self._model_version)
        records = model_records(name, version, schema, payload, {"people": people}, time_ms)
        if fault == "lost":
            del records[0]
        elif fault == "digest":
            # The part has other bytes than those that the commit's digest covers.
            records[0] = model_records(name, version, schema, payload[:-1] + b"!", {}, time_ms)[0]
        return Publication(MODELS, records, [int(orjson.loads(record.value)["id"]) for record in records], 0)

    def _json(self, topic: str, key: str, who: int, time_ms: int, fields: dict[str, Any]) -> Publication:
        event_id = self._id()
        body = {"v": 1, "id": str(event_id), key: str(who), "timestamp_ms": time_ms, **fields}
        return Publication(topic, [NewRecord(orjson.dumps(body), key=str(who).encode())], [event_id], 0)

    def _id(self) -> int:
        self._next_id += 1
        return self._next_id

    def _person(self) -> int:
        return self._chance.integer(1, self.config.people)

    def some_tweet(self) -> tuple[int, int]:
        """A tweet and its author; sometimes a tweet that does not exist."""
        if not self._tweets or self._chance.happens(0.03):
            return snowflake_id(EPOCH_MS, self._chance.integer(0, 1 << 22)), self._person()
        return self._chance.choice(self._tweets[-60:])


def _publication(topic: str, events: list[Event]) -> Publication:
    records = [NewRecord(encode(event), key=event.key) for event in events]
    return Publication(topic, records, [int(event.body["id"]) for event in events], 0)
