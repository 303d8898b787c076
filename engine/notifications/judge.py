"""The one place that judges whether a person may be notified: asked when a motif is found and when it is told.

Safety is the visibility's (``engine/visibility``): what a person may not see or be named is not told either. Nobody is
told what they know: a tweet that they have seen or acted on, somebody whom they follow or do not want to be suggested.
"""

from enum import StrEnum
from typing import NamedTuple

import numpy as np

from engine.motifs.state import Motif
from engine.profiles.bits import GONE
from engine.rooms import Rooms
from engine.signals.state import SignalAges, ViewerFlag
from engine.social_graph.state import Relation
from engine.visibility.judge import Visibility

_KNOWN = (
    ViewerFlag.SEEN | ViewerFlag.ENGAGED | ViewerFlag.REJECTED
    | ViewerFlag.AUTHOR_NOT_INTERESTED | ViewerFlag.AUTHOR_REJECTED
)  # fmt: skip
_BARRED = Relation.BLOCKS | Relation.BLOCKED_BY | Relation.MUTES | Relation.MUTED_BY


class Verdict(StrEnum):
    """Whether a person may be notified, and why not."""

    ALLOWED = "allowed"
    RECIPIENT_GONE = "recipient_gone"
    TOO_FEW_ACTORS = "too_few_actors"
    HIDDEN = "hidden"
    KNOWN = "known"
    DISMISSED = "dismissed"


class Judged(NamedTuple):
    """``actor_ids``: those actors who may be named; ``visited_ms``: when the person was last served a feed, 0 if that
    is not known; ``text``: the tweet's, if it is about one and allowed."""

    verdict: Verdict
    actor_ids: tuple[int, ...] = ()
    visited_ms: int = 0
    text: str = ""


class NotificationJudge:
    """Judges motifs over the rooms of a state. Callers hold the read side of the state lock."""

    def __init__(self, rooms: Rooms, *, actors_min: int, ages: SignalAges) -> None:
        """``actors_min``: a motif needs so many actors who may be named. ``ages``: as for feeds."""
        self._rooms = rooms
        self._visibility = Visibility(rooms)
        self._actors_min = actors_min
        self._ages = ages

    def judge(self, motif: Motif, time_ms: int) -> Judged:
        """Judge one motif as of ``time_ms``."""
        rooms, recipient = self._rooms, motif.recipient_id
        people = np.array([*motif.actor_ids, motif.author_id or motif.target_id, recipient], np.uint64)
        if int(rooms.profiles.standings(people[-1:])[0]) & GONE:
            return Judged(Verdict.RECIPIENT_GONE)
        relation = rooms.social_graph.relation(recipient, people)
        named = self._visibility.may_name(recipient, people, relation)
        follows = relation & np.uint8(Relation.FOLLOWS) != 0
        actors = tuple(people[:-2][named[:-2] & follows[:-2]].tolist())
        if len(actors) < self._actors_min:
            return Judged(Verdict.TOO_FEW_ACTORS)
        if motif.author_id:
            verdict = self._of_tweet(motif, relation[-2], time_ms)
        else:
            verdict = self._of_person(motif, bool(named[-2]), bool(follows[-2]), time_ms)
        visited_ms = rooms.signals.last_served_ms(recipient)
        text = self._text(motif.target_id) if motif.author_id and verdict is Verdict.ALLOWED else ""
        return Judged(verdict, actors, visited_ms, text)

    def _of_person(self, motif: Motif, named: bool, follows: bool, time_ms: int) -> Verdict:
        if not named or motif.target_id == motif.recipient_id:
            return Verdict.HIDDEN
        if follows:
            return Verdict.KNOWN
        suggested = self._rooms.suggestions.of(motif.recipient_id, time_ms)
        dismissed = suggested.people[suggested.dismissed]
        return Verdict.DISMISSED if (dismissed == motif.target_id).any() else Verdict.ALLOWED

    def _of_tweet(self, motif: Motif, relation: np.uint8, time_ms: int) -> Verdict:
        tweet, author = np.array([motif.target_id], np.uint64), np.array([motif.author_id], np.uint64)
        if motif.author_id == motif.recipient_id or int(relation) & _BARRED:
            return Verdict.HIDDEN
        if not self._visibility.may_see(motif.recipient_id, tweet)[0]:
            return Verdict.HIDDEN
        flags = self._rooms.signals.flags(motif.recipient_id, tweet, author, time_ms, self._ages)
        return Verdict.KNOWN if int(flags[0]) & _KNOWN else Verdict.ALLOWED

    def _text(self, tweet_id: int) -> str:
        (slot,) = self._rooms.tweet_store.lookup(np.array([tweet_id], np.uint64))
        return self._rooms.tweet_store.text(int(slot))
