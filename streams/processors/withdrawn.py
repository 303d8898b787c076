"""What happened lately that forbids a notification: blocks, mutes, deletes, and people who are not shown any more.

The engine judges a motif when it finds it. Whatever comes into the log after that, and up to the moment at which the
notification is sent, is looked for here. What is remembered reaches back as far as a candidate may be old, so it does
not matter how far the engine was when it judged. A block or mute that was lifted since forbids the notification, too.
"""

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np

from engine.batch import Kind
from engine.errors import EventError
from streams.events.erasing import erased_person
from streams.events.ids import parse_id
from streams.events.json_types import NotificationCandidate
from streams.events.packed import HEADER, ROW, open_record
from streams.log.interface import Format, Records

_PAIR_TYPES: Final = frozenset({"block", "mute", "report_user", "dismiss"})
_TWEET_TYPES: Final = frozenset({"delete", "label"})
_PAIR_KINDS: Final = (Kind.BLOCK, Kind.MUTE, Kind.REPORT_USER, Kind.DISMISS)


class _Relationship(msgspec.Struct, gc=False):
    type: str
    user_id: int | str
    target_id: int | str = 0


class _Tweet(msgspec.Struct, gc=False):
    type: str
    tweet_id: int | str


class _User(msgspec.Struct, gc=False):
    user_id: int | str
    state: str = "active"
    protected: bool = False
    recommendable: bool = True


_relationship = msgspec.json.Decoder(_Relationship).decode
_tweet = msgspec.json.Decoder(_Tweet).decode
_user = msgspec.json.Decoder(_User).decode
_BAD: Final = (msgspec.MsgspecError, UnicodeDecodeError, EventError)

Change = tuple[str, int, int]


class Withdrawn:
    """The changes of the last while, each with the time of its append. Bounded by ``changes_max``."""

    def __init__(self, changes_max: int) -> None:
        self._changes_max = changes_max
        #: ("pair", smaller id, larger id), ("tweet", tweet, 0), ("person", person, 0).
        self._changes: dict[Change, int] = {}
        #: ("follow", who, whom). That somebody is told of a follow they have made is no harm: the oldest give way.
        self._follows: dict[Change, int] = {}
        #: Up to when something was forgotten for want of room; candidates that are not later are forbidden.
        self.forgotten_ms = 0

    def __len__(self) -> int:
        return len(self._changes) + len(self._follows)

    def forbids(self, candidate: NotificationCandidate) -> bool:
        """Whether a change may forbid the candidate."""
        if candidate.timestamp_ms <= self.forgotten_ms:
            return True
        recipient, person = int(candidate.user_id), int(candidate.target_id or candidate.author_id)
        people = [person, *map(int, candidate.actor_ids)]
        changes = self._changes
        if ("person", recipient, 0) in changes or (
            candidate.target_id and ("follow", recipient, person) in self._follows
        ):
            return True
        if any(("person", one, 0) in changes or _pair(recipient, one) in changes for one in people):
            return True
        return ("tweet", int(candidate.tweet_id), 0) in changes

    def learn(self, run: Records) -> None:
        """Learn from a run of ``relationships``, ``tweets`` or ``users``."""
        for format_, key, value, append_ms in zip(run.formats, run.keys, run.values, run.append_ms, strict=True):
            try:
                for change in _changes_in(run.topic, format_, key, value):
                    known = self._follows if change[0] == "follow" else self._changes
                    known.pop(change, None)
                    known[change] = append_ms
            except _BAD:
                continue  # the engine refuses it, too

    def forget(self, before_ms: int) -> None:
        """Forget what is older, and what finds no room."""
        self._forget_in(self._follows, before_ms)
        self.forgotten_ms = max(self.forgotten_ms, self._forget_in(self._changes, before_ms))

    def _forget_in(self, known: dict[Change, int], before_ms: int) -> int:
        """Forget the first entries; returns when the last one of those was that found no room, 0 if all do."""
        over_ms = 0
        while known:
            change = next(iter(known))
            over = len(known) > self._changes_max
            if known[change] >= before_ms and not over:
                break
            append_ms = known.pop(change)
            if append_ms >= before_ms:
                over_ms = max(over_ms, append_ms)
        return over_ms


def _pair(one: int, other: int) -> Change:
    return "pair", min(one, other), max(one, other)


def _changes_in(topic: str, format_: Format, key: bytes, value: bytes) -> Sequence[Change]:
    if topic == "users":
        return _of_user(key, value)
    if not value:
        return ()
    if format_ is Format.PACKED:
        return _of_rows(topic, value)
    if topic == "tweets":
        tweet = _tweet(value)
        return [("tweet", parse_id(tweet.tweet_id), 0)] if tweet.type.lower() in _TWEET_TYPES else ()
    event = _relationship(value)
    type_ = event.type.lower()
    if type_ in _PAIR_TYPES:
        return [_pair(parse_id(event.user_id), parse_id(event.target_id))]
    return [("follow", parse_id(event.user_id), parse_id(event.target_id))] if type_ == "follow" else ()


def _of_user(key: bytes, value: bytes) -> Sequence[Change]:
    if not value:
        return [("person", erased_person(key), 0)]
    user = _user(value)
    shown = user.state.lower() == "active" and not user.protected and user.recommendable
    return () if shown else [("person", parse_id(user.user_id), 0)]


def _of_rows(topic: str, value: bytes) -> Sequence[Change]:
    rows = np.frombuffer(value, ROW, open_record(value), HEADER.size)
    if topic == "tweets":
        return [("tweet", tweet, 0) for tweet in rows["subject_id"][rows["kind"] == Kind.DELETE].tolist()]
    changes: list[Change] = []
    pairs = rows[np.isin(rows["kind"], _PAIR_KINDS)]
    changes += [_pair(*ids) for ids in zip(pairs["user_id"].tolist(), pairs["subject_id"].tolist(), strict=True)]
    follows = rows[rows["kind"] == Kind.FOLLOW]
    ids = zip(follows["user_id"].tolist(), follows["subject_id"].tolist(), strict=True)
    return [*changes, *(("follow", who, whom) for who, whom in ids)]
