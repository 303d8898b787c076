"""Brings notifications to the websockets of the people whom they are for.

Each server reads topic ``notifications`` from its present end on. Before a notification is shown it is judged once
more, at the newest version: a block, a delete or a suspension since it was sent keeps it back. Whoever is not connected
gets no frame; other programs read the topic (docs/notifications.md).
"""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final

import structlog

from engine.notifications.judge import Judged, Verdict
from streams.events.json_types import Notification
from streams.events.notifications import NOTIFICATIONS, decode_notification, motif_of_event
from streams.live.service import FeedService
from streams.log.interface import EventLog, LogError, Tail, TopicPartition
from streams.process.retry import Retries
from streams.server.connections import Connections
from streams.server.encode import encode
from streams.server.metrics import ServingMetrics

#: Notifications read, and judged under one hold of the state lock, at a time.
TOGETHER_MAX: Final = 16
POLL_TIMEOUT_S: Final = 1.0
#: Ids of notifications that came last: one that is in the log twice is shown once.
SHOWN_MAX: Final = 1 << 14

_log = structlog.get_logger(__name__)


class Notices:
    """Reads notifications and sends frames. One task."""

    def __init__(
        self, event_log: EventLog, service: FeedService, connections: Connections, metrics: ServingMetrics
    ) -> None:
        self._event_log = event_log
        self._service = service
        self._connections = connections
        self._metrics = metrics
        self._shown: OrderedDict[int, None] = OrderedDict()
        self._retries = Retries("notifications wait for the log", log=_log)
        #: Set once what comes from now on is shown.
        self.following = asyncio.Event()

    async def run(self) -> None:
        """Show what comes, until cancelled."""
        while True:
            try:
                async with await self._open() as tail:
                    self.following.set()
                    while True:
                        await self._read(tail)
                        self._retries.succeeded()
            except LogError as error:
                await self._retries.wait(error)

    async def _open(self) -> Tail:
        ends = await self._event_log.end_offsets(NOTIFICATIONS)
        places = {TopicPartition(NOTIFICATIONS, partition): end for partition, end in ends.items()}
        return await self._event_log.tail(places, follow_new=True)

    async def _read(self, tail: Tail) -> None:
        runs = await tail.poll(records_max=TOGETHER_MAX, timeout_s=POLL_TIMEOUT_S)
        read = [decode_notification(value) for run in runs for value in run.values]
        wanted = [one for one in read if one is not None and self._is_wanted(one)]
        if wanted:
            judged = await self._service.judge_motifs([motif_of_event(one) for one in wanted])
            for one, verdict in zip(wanted, judged, strict=True):
                self._show(one, verdict)

    def _is_wanted(self, notification: Notification) -> bool:
        """Whether it may be shown here: new, to somebody who is connected, and what may be shown is known."""
        result = ""
        if int(notification.id) in self._shown:
            result = "duplicate"
        elif not self._connections.of_viewer(int(notification.user_id)):
            result = "not_connected"
        elif not self._service.readiness().caught_up:
            result = "not_ready"
        if result:
            self._metrics.notifications.labels(result).inc()
        return not result

    def _show(self, notification: Notification, judged: Judged) -> None:
        result = "shown" if judged.verdict is Verdict.ALLOWED else str(judged.verdict)
        self._metrics.notifications.labels(result).inc()
        if judged.verdict is not Verdict.ALLOWED:
            return
        self._shown[int(notification.id)] = None
        while len(self._shown) > SHOWN_MAX:
            self._shown.popitem(last=False)
        frame = encode(notification_frame(notification, judged, version=self._service.version))
        for connection in self._connections.of_viewer(int(notification.user_id)):
            if not connection.ending:
                connection.outbox.answer(frame)


def notification_frame(notification: Notification, judged: Judged, *, version: int) -> Mapping[str, Any]:
    """A notification as the protocol's frame; the actors are those who may be named."""
    frame: dict[str, Any] = {
        "type": "notification",
        "id": str(notification.id),
        "cause": notification.cause,
        "time_ms": notification.timestamp_ms,
        "version": version,
        "actor_ids": [str(actor) for actor in judged.actor_ids],
    }
    if notification.cause == "follows":
        return {**frame, "target_id": str(notification.target_id)}
    return {
        **frame,
        "tweet_id": str(notification.tweet_id),
        "author_id": str(notification.author_id),
        "text": judged.text,
    }
