"""The processor of notifications in the engine's process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from prometheus_client import CollectorRegistry

from config.schema import Config
from streams.log.interface import EventLog, LogError
from streams.process.ending import end_tasks
from streams.process.retry import Retries
from streams.processors.metrics import NotificationMetrics
from streams.processors.notifier import Notifier

log = structlog.get_logger("murmuration.notifications")


async def notify(notifier: Notifier) -> None:
    """Decide about candidates for ever. While the log is away, wait for it."""
    retries = Retries("the log is away, waiting", log=log)
    try:
        while True:
            try:
                await notifier.step()
                retries.succeeded()
            except LogError as error:
                await retries.wait(error)
    finally:
        await notifier.close()


@asynccontextmanager
async def notifications_beside(config: Config, event_log: EventLog, registry: CollectorRegistry) -> AsyncIterator[None]:
    """Notify people while the block runs, if that is done in the engine's process (``processors.run_in``)."""
    run_in = config.processors.run_in
    elsewhere = run_in == "agents" or (run_in == "auto" and config.log.url.lower().startswith("kafka:"))
    if elsewhere or not config.notifications.enabled:
        yield
        return
    notifier = Notifier(config.notifications, event_log, NotificationMetrics(registry))
    await notifier.own(None)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(notify(notifier), name="notifications")
        try:
            yield
        finally:
            await end_tasks([task])
