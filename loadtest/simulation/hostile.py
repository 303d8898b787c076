"""A hostile viewer: floods the log with whatever one person may send, and must change nothing for anybody else.

``bystanders.py`` compares the world with the same world without that person.
"""

from collections.abc import Iterator
from typing import Any, Final, get_args

import orjson

from loadtest.simulation.chance import Chance
from loadtest.simulation.lineage import MADE_UP
from loadtest.simulation.workload import EPOCH_MS, Publication, Workload
from streams.events.erasing import erase_record
from streams.events.json_types import EngagementType, RelationshipType
from streams.log.interface import NewRecord

#: The viewer's id. Nobody follows it, and nobody's id of a run chooses the same ring of stubs.
HOSTILE: Final = 1 << 62
HOSTILE_KEY: Final = str(HOSTILE).encode()
_FIRST_ID: Final = 3 << 62
#: What a flood consists of; a flood has one kind, or all of them. ``erase``: the null value that erases the viewer.
_FLOODS: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("engagements", get_args(EngagementType)),
    ("relationships", get_args(RelationshipType)),
    ("relationships", ("mute_word", "unmute_word")),
    ("tweets", ("create", "edit", "delete")),
    ("tweets", ("create",)),
    ("tweets", ("label", "unlabel")),
    ("users", ("user",)),
    ("users", ("user", "erase")),
)
#: Acts on the viewer's own tweets find the first ones again.
_OWN_MAX: Final = 20
_LONG: Final = "whatever the hostile viewer has to say, and at length. " * 4


class Hostile:
    """Makes the floods of one run: of tweets and people that exist and of others that nobody ever heard of."""

    def __init__(self, workload: Workload, chance: Chance) -> None:
        self._workload = workload
        self._chance = chance
        self._made = 0
        self._own: list[int] = []

    def floods(self, seconds: float) -> Iterator[tuple[float, Publication]]:
        """Publications, each with the virtual second in which it is made, in the order of these."""
        count = self._chance.integer(2, 5)
        for time_s in sorted(self._chance.seconds(0.0, seconds) for _ in range(count)):
            topic, kinds = self._chance.choice(_FLOODS)
            kinds = (self._chance.choice(kinds),) if self._chance.happens(0.5) else kinds
            size = self._chance.integer(20, 120)
            self._chance.note(f"a flood of {size} events: {', '.join(kinds)}")
            now_ms = EPOCH_MS + int(time_s * 1000)
            publication = Publication(topic, [], [], 0)
            for _ in range(size):
                self._add(publication, self._chance.choice(kinds), now_ms)
            yield time_s, publication

    def _add(self, publication: Publication, kind: str, time_ms: int) -> None:
        if kind == "erase":
            publication.records.append(erase_record(HOSTILE))
            return
        self._made += 1
        who = "author_id" if publication.topic == "tweets" else "user_id"
        event: dict[str, Any] = {"v": 1, "id": str(_FIRST_ID + self._made), "type": kind, who: str(HOSTILE)}
        event["timestamp_ms"] = time_ms + self._chance.integer(-1000, 1000)
        make = {"tweets": self._tweet, "users": self._profile, "relationships": self._relationship}
        event |= make.get(publication.topic, self._engagement)(kind, self._chance.happens(0.3))
        publication.event_ids.append(_FIRST_ID + self._made)
        publication.records.append(NewRecord(orjson.dumps(event), key=HOSTILE_KEY))

    # Fields by topic. ``real``: about something that exists.

    def _engagement(self, kind: str, real: bool) -> dict[str, Any]:
        tweet_id, author_id = self._workload.some_tweet() if real else (MADE_UP + self._made, 0)
        fields: dict[str, Any] = {"tweet_id": str(tweet_id)}
        if author_id:
            fields["author_id"] = str(author_id)
        if kind in ("dwell", "impression"):
            fields["value"] = self._chance.integer(0, 30)
        return fields

    def _relationship(self, kind: str, real: bool) -> dict[str, Any]:
        if kind in ("mute_word", "unmute_word"):
            return {"word": self._chance.choice(["rain", "pier"]) if real else f"word{self._made}"}
        if kind == "interests":
            return {"interests": [f"tag{self._made}x{i}" for i in range(self._chance.integer(0, 9))]}
        return {"target_id": str(self._someone() if real else MADE_UP + self._made)}

    def _profile(self, kind: str, real: bool) -> dict[str, Any]:
        return {"state": self._chance.choice(["active", "suspended", "deactivated"]), "protected": real}

    def _tweet(self, kind: str, real: bool) -> dict[str, Any]:
        """Of the viewer's own tweets; or an edit or delete of somebody else's, which is refused.

        Whoever labels a tweet hides it, so only services label: these are labels of tweets that nobody else wrote. A
        create that takes the id of a tweet before its author does is for whoever gives out ids to prevent.
        """
        if kind in ("label", "unlabel"):
            label = self._chance.choice(["Spam", "Nsfw", f"label{self._made}"])
            return {"tweet_id": str(self._own_tweet(real)), "label": label}
        of_others = kind != "create" and real and self._chance.happens(0.5)
        tweet_id = self._workload.some_tweet()[0] if of_others else self._own_tweet(kind != "create" or real)
        fields: dict[str, Any] = {"tweet_id": str(tweet_id)}
        if kind == "delete":
            return fields
        fields |= {"text": self._chance.choice(["short", _LONG]), "lang": "en"}
        if self._chance.happens(0.5):
            fields["hashtags"] = [f"tag{self._made}x{i}" for i in range(self._chance.integer(1, 30))]
            fields["mentions"] = [str(self._someone())]
        if kind == "create" and self._chance.happens(0.3):
            relation = self._chance.choice(["reply_to_id", "quoted_id", "retweeted_id"])
            # Whoever likes a retweet likes the original: others' own acts would differ if these retweeted others.
            retweeted = MADE_UP + self._chance.integer(1, self._made)
            other = retweeted if relation == "retweeted_id" else self._workload.some_tweet()[0]
            if other != tweet_id:
                fields[relation] = str(other)
        return fields

    def _own_tweet(self, known: bool) -> int:
        """A tweet of the viewer: one of the first ones, or a new one."""
        if known and self._own:
            return self._chance.choice(self._own)
        tweet_id = MADE_UP + self._made
        if len(self._own) < _OWN_MAX:
            self._own.append(tweet_id)
        return tweet_id

    def _someone(self) -> int:
        return self._chance.integer(1, self._workload.config.people)
