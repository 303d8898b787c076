"""Settings of notifications (docs/notifications.md)."""

from typing import Annotated

from msgspec import Meta, Struct

from config.serving import Positive

Hour = Annotated[int, Meta(ge=0, le=23)]
Minutes = Annotated[int, Meta(ge=0, le=44_640)]


class NotificationsConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How often and when people are notified. Times are those at which a notification is sent."""

    #: False: nobody is notified, and motifs make no candidates.
    enabled: bool = True
    #: Most notifications of one person within any 24 hours.
    per_24h_max: Positive = 5
    #: Time between two notifications of one person.
    spacing_minutes_min: Minutes = 60
    #: Who was shown a feed within this time is not notified.
    visit_minutes: Minutes = 20
    #: Nobody is notified from the first of these hours on until the second, in the time zone of the person's profile
    #: (``time_zone_default`` where it names none). The same hour twice: there are no quiet hours.
    quiet_from_hour: Hour = 22
    quiet_to_hour: Hour = 8
    time_zone_default: str = "UTC"
    #: What is older is no news: nobody is notified of it.
    age_minutes_max: Annotated[int, Meta(ge=1, le=1440)] = 60
    #: A person is notified of the same person or tweet once within this time, as far back as ``notifications`` reaches.
    repeat_days: Annotated[int, Meta(ge=1, le=365)] = 30
    #: Who wants fewer notifications gets none for the first of these times, and until the end of the second only
    #: ``less_per_24h_max`` within any 24 hours.
    less_days: Annotated[int, Meta(ge=0, le=365)] = 7
    less_reduced_days: Annotated[int, Meta(ge=0, le=365)] = 30
    less_per_24h_max: Positive = 1
    #: People whose notifications are remembered, and people whose wishes are (a time zone, none, fewer). While there
    #: are more, only those are notified.
    people_max: Positive = 1_000_000
    #: Blocks, mutes, deletes and profiles of the last ``age_minutes_max`` that are remembered; what was found before
    #: one that was forgotten makes no notification.
    changes_max: Positive = 200_000
    #: Candidates decided about at a time.
    batch_candidates_max: Positive = 200
