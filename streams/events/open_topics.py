"""Opens the configured log and creates its topics; every command uses this."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from config.serving import LogConfig
from streams.events.json_types import TOPICS
from streams.log import open_log
from streams.log.interface import EventLog


@asynccontextmanager
async def running_log(config: LogConfig) -> AsyncIterator[EventLog]:
    """Open the log and create missing topics.

    Raises:
        ConfigError, LogUnavailableError: the log cannot be opened; the message says what to do.
    """
    async with open_log(config) as event_log:
        partitions, default = config.partitions, config.partitions_default
        await event_log.ensure_topics({topic: partitions.get(topic, default) for topic in TOPICS})
        yield event_log
