"""Records of notifications: candidates, as motifs make them, and what people are told."""

from collections.abc import Sequence
from typing import TypeVar

import msgspec

from engine.errors import EventError
from engine.motifs.state import Motif
from streams.events.ids import hash64
from streams.events.json_types import Cause, Notification, NotificationCandidate
from streams.events.rules import check_event
from streams.events.units import TIMESTAMP_MS_MAX
from streams.log.interface import NewRecord

T = TypeVar("T", NotificationCandidate, Notification)

CANDIDATES, WISHES, NOTIFICATIONS = "notification-candidates", "notification-wishes", "notifications"

_candidates = msgspec.json.Decoder(NotificationCandidate)
_notifications = msgspec.json.Decoder(Notification)
_encode = msgspec.json.encode


def candidate_of(
    motif: Motif, actor_ids: Sequence[int], *, place: str, append_ms: int, visited_ms: int
) -> NotificationCandidate:
    """The candidate of a motif. The id follows from recipient, target and the ``place`` of the record that completed
    the motif, so that a second node, or a replay, makes the same one."""
    cause: Cause = "likes" if motif.author_id else "follows"
    return NotificationCandidate(
        v=1,
        type="notification_candidate",
        id=hash64(f"{cause}/{motif.recipient_id}/{motif.target_id}/{place}".encode()) or 1,
        timestamp_ms=max(append_ms, 1),
        user_id=motif.recipient_id,
        cause=cause,
        target_id=0 if motif.author_id else motif.target_id,
        tweet_id=motif.target_id if motif.author_id else 0,
        author_id=motif.author_id,
        actor_ids=tuple(actor_ids),
        visited_ms=visited_ms,
    )


def notification_of(candidate: NotificationCandidate, time_ms: int) -> Notification:
    """What its person is told of a candidate at a time; the id is the candidate's."""
    return Notification(
        v=1,
        type="notification",
        id=candidate.id,
        timestamp_ms=time_ms,
        user_id=candidate.user_id,
        cause=candidate.cause,
        target_id=candidate.target_id,
        tweet_id=candidate.tweet_id,
        author_id=candidate.author_id,
        actor_ids=candidate.actor_ids,
    )


def motif_of_event(event: NotificationCandidate | Notification) -> Motif:
    """The motif that a candidate or a notification tells of."""
    target = int(event.tweet_id or event.target_id)
    return Motif(int(event.user_id), target, int(event.author_id), tuple(map(int, event.actor_ids)))


def record_of(event: NotificationCandidate | Notification) -> NewRecord:
    """The record of a candidate or a notification."""
    return NewRecord(value=_encode(event), key=str(event.user_id).encode())


def decode_candidate(value: bytes) -> NotificationCandidate | None:
    """The candidate in a record; None if it cannot be used."""
    return _checked(_candidates, value)


def decode_notification(value: bytes) -> Notification | None:
    """The notification in a record; None if it cannot be used."""
    return _checked(_notifications, value)


def _checked(decoder: msgspec.json.Decoder[T], value: bytes) -> T | None:
    try:
        event = decoder.decode(value)
        check_event(event, TIMESTAMP_MS_MAX)
    except (msgspec.MsgspecError, UnicodeDecodeError, EventError):
        return None
    return event
