"""``murmuration notifications``: what a person was told, read from the log."""

import msgspec
import typer

from config.schema import Config
from streams.events.json_types import Notification
from streams.events.notifications import NOTIFICATIONS, decode_notification
from streams.events.open_topics import existing_log
from streams.log.interface import TopicPartition
from streams.log.placement import partitions_of

POLL_RECORDS_MAX = 1000
POLL_TIMEOUT_S = 0.5


async def show_notifications(config: Config, user_id: int, *, follow: bool, json: bool) -> None:
    """Print a person's notifications, oldest first; with ``follow`` also what comes, until Ctrl-C."""
    async with existing_log(config.log) as event_log:
        starts, ends = await event_log.start_offsets(NOTIFICATIONS), await event_log.end_offsets(NOTIFICATIONS)
        (partition,) = partitions_of([b"%d" % user_id], len(starts), 0)
        place = TopicPartition(NOTIFICATIONS, partition)
        async with await event_log.tail({place: starts[partition]}) as tail:
            while follow or tail.positions[place] < ends[partition]:
                for run in await tail.poll(records_max=POLL_RECORDS_MAX, timeout_s=POLL_TIMEOUT_S):
                    for key, value in zip(run.keys, run.values, strict=True):
                        notification = decode_notification(value) if key == b"%d" % user_id else None
                        if notification is not None:
                            typer.echo(msgspec.json.encode(notification).decode() if json else in_words(notification))


def in_words(notification: Notification) -> str:
    """A notification as a line for people."""
    actors = ", ".join(str(actor) for actor in notification.actor_ids)
    if notification.cause == "follows":
        what = f"followed {notification.target_id}"
    else:
        what = f"liked or reposted {notification.tweet_id} by {notification.author_id}"
    return f"{notification.timestamp_ms} {notification.id}: {actors} {what}"
