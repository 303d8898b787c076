"""Notifications in a Faust worker: the candidates of the partitions that Faust assigns to it (docs/notifications.md).

Faust says which partitions those are, and when a candidate has come. What was sent before, by whichever worker, is read
from topic ``notifications``; a worker keeps nothing else, so none of it can be lost with the worker.
"""

import asyncio
from typing import Any, Final

import structlog
from prometheus_client import CollectorRegistry

from config.schema import Config
from streams.events.notifications import CANDIDATES
from streams.log.interface import EventLog, LogError
from streams.process.retry import Retries
from streams.processors.metrics import NotificationMetrics
from streams.processors.notifier import Notifier

log = structlog.get_logger("murmuration.notifications")

#: Candidates are gathered for this long and decided about together.
GATHER_S: Final = 0.25
#: Faust does not announce every record.
CHECK_INTERVAL_S: Final = 5.0


class NotifyAgent:
    """An agent of a Faust application that is not started yet."""

    def __init__(
        self, app: Any, config: Config, event_log: EventLog, registry: CollectorRegistry, *, partitions: int
    ) -> None:
        """``partitions``: of ``notification-candidates``."""
        self._most = config.notifications.batch_candidates_max
        self._notifier = Notifier(config.notifications, event_log, NotificationMetrics(registry))
        self._retries = Retries("the log is away, waiting", log=log)
        #: Held while candidates are decided about and while partitions move.
        self._busy = asyncio.Lock()
        self._stored = config.log.topic_prefix + CANDIDATES
        topic = app.topic(self._stored, key_type=bytes, value_type=bytes, partitions=partitions)
        app.agent(topic, name="notifications")(self._agent)
        app.on_partitions_revoked.connect(self._give_up, weak=False)
        app.on_partitions_assigned.connect(self._take_over, weak=False)

    async def _agent(self, stream: Any) -> None:
        async for _ in stream.take(self._most, within=GATHER_S):
            await self.advance()

    async def _give_up(self, *args: Any, **kwargs: Any) -> None:
        async with self._busy:
            await self._notifier.own(())

    async def _take_over(self, sender: Any, assigned: Any, **kwargs: Any) -> None:
        async with self._busy:
            await self._notifier.own({tp.partition for tp in assigned if tp.topic == self._stored})

    async def advance(self) -> None:
        """Decide about all candidates that the log holds at present."""
        async with self._busy:
            try:
                await self._notifier.catch_up()
                self._retries.succeeded()
            except LogError as error:
                self._retries.failed(error)  # the next check or record is the next try

    async def check(self) -> None:
        """Decide at intervals, for ever; when cancelled, end what is in hand."""
        try:
            while True:
                await asyncio.sleep(CHECK_INTERVAL_S)
                await self.advance()
        finally:
            await self._give_up()
