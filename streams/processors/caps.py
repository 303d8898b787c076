"""The limits on notifications: how many, how far apart, and at which hours. Plain functions of what was sent.

Every window is one of the times of sending. A clock that is set back does not open a window again: a notification is
never sent earlier than the one before it.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Final, NamedTuple

from config.notifications import NotificationsConfig
from streams.events.json_types import NotificationCandidate
from streams.processors.wishes import Wish, hour_at, zone

MINUTE_MS: Final = 60_000
DAY_MS: Final = 86_400_000


class Result(StrEnum):
    """What became of a candidate."""

    SENT = "sent"
    REFUSED = "refused"
    DUPLICATE = "duplicate"
    LATE = "late"
    WITHDRAWN = "withdrawn"
    OPTED_OUT = "opted_out"
    WANTS_LESS = "wants_less"
    REPEATED = "repeated"
    VISITED = "visited"
    QUIET_HOURS = "quiet_hours"
    TOO_SOON = "too_soon"
    CAPPED = "capped"
    FULL = "full"


class Sent(NamedTuple):
    """A notification that was sent: when, its id, and of whom or what."""

    time_ms: int
    id: int
    cause: str
    target_id: int


def decide(
    candidate: NotificationCandidate, sent: Sequence[Sent], wish: Wish, now_ms: int, config: NotificationsConfig
) -> tuple[Result, int]:
    """Whether a candidate's person is notified now, and the time of sending.

    Args:
        candidate: neither withdrawn nor malformed.
        sent: what was sent to the person, oldest first.
        wish: the person's wishes.
        now_ms: the present time.
    """
    time_ms = max(now_ms, sent[-1].time_ms) if sent else now_ms
    if any(one.id == int(candidate.id) for one in sent):
        return Result.DUPLICATE, time_ms
    if time_ms - candidate.timestamp_ms > config.age_minutes_max * MINUTE_MS:
        return Result.LATE, time_ms
    if not wish.notify:
        return Result.OPTED_OUT, time_ms
    less_ms = time_ms - wish.less_ms if wish.less_ms else None
    if less_ms is not None and less_ms < config.less_days * DAY_MS:
        return Result.WANTS_LESS, time_ms
    about = candidate.cause, int(candidate.tweet_id or candidate.target_id)
    repeat_ms = time_ms - config.repeat_days * DAY_MS
    if any((one.cause, one.target_id) == about and one.time_ms > repeat_ms for one in sent):
        return Result.REPEATED, time_ms
    if candidate.visited_ms and abs(time_ms - candidate.visited_ms) < config.visit_minutes * MINUTE_MS:
        return Result.VISITED, time_ms
    if is_quiet(time_ms, wish.time_zone, config):
        return Result.QUIET_HOURS, time_ms
    if sent and time_ms - sent[-1].time_ms < config.spacing_minutes_min * MINUTE_MS:
        return Result.TOO_SOON, time_ms
    reduced = less_ms is not None and less_ms < config.less_reduced_days * DAY_MS
    most = min(config.less_per_24h_max, config.per_24h_max) if reduced else config.per_24h_max
    if sum(time_ms - one.time_ms < DAY_MS for one in sent) >= most:
        return Result.CAPPED, time_ms
    return Result.SENT, time_ms


def is_quiet(time_ms: int, time_zone: str, config: NotificationsConfig) -> bool:
    """Whether it is night for somebody in a time zone."""
    first, end = config.quiet_from_hour, config.quiet_to_hour
    hour = hour_at(time_ms, zone(time_zone, config.time_zone_default))
    return first <= hour < end if first < end else first != end and (hour >= first or hour < end)
