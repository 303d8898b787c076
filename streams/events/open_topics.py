"""Opens the configured log: every command uses this. Who only reads makes neither a file nor topics."""

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


@asynccontextmanager
async def existing_log(config: LogConfig) -> AsyncIterator[EventLog]:
    """Open a log that is there already, in order to read it; changes nothing, also on a disk that cannot be written.

    Raises:
        ConfigError, LogUnavailableError: the log cannot be opened; the message says what to do.
    """
    async with open_log(config, writable=False) as event_log:
        yield event_log
