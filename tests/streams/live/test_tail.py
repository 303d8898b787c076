"""What an engine does about a log that it cannot read."""

import asyncio
import re
from collections.abc import Mapping
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from config.serving import IngestConfig, LogConfig
from loadtest.simulation.memory_log import Broker, MemoryLog, NoFaults
from streams.live.tail import Ingest
from streams.log.interface import (
    LogError,
    LogUnavailableError,
    OffsetOutOfRangeError,
    TopicMadeAgainError,
    TopicPartition,
)
from streams.ordering.pieces import Pieces
from streams.process.ending import end_tasks
from streams.reading.metrics import EngineMetrics


class _Source:
    """Fails as it is told; gives no pieces."""

    def __init__(self) -> None:
        self.error: LogError | None = None
        self.asked = asyncio.Event()
        self.positions: Mapping[TopicPartition, int] = {}

    async def next(self) -> Pieces:
        self.asked.set()
        if self.error is not None:
            raise self.error
        await asyncio.sleep(0)
        return Pieces([], False)


@pytest.mark.parametrize(
    ("error", "at_a_loss", "words"),
    [
        (LogUnavailableError("nobody is there"), False, "nobody is there"),
        (TopicMadeAgainError("tweets", "kafka://a:1"), True, "deleted and made again.*--accept-gap"),
        (OffsetOutOfRangeError(TopicPartition("tweets", 2), 7, 9), True, "tweets/2.* 7 .* 9; .*removed.*--accept-gap"),
    ],
)
async def test_what_cannot_be_read_ends_nothing_and_is_said(error: LogError, at_a_loss: bool, words: str) -> None:
    source: Any = _Source()
    state_thread: Any = None
    log = MemoryLog(Broker(lambda: 0), NoFaults())
    ingest = Ingest(log, IngestConfig(), LogConfig(), EngineMetrics(CollectorRegistry()))
    reading = asyncio.create_task(ingest.run(state_thread, source))

    async def asked(times: int) -> None:
        for _ in range(times):
            source.asked.clear()
            await source.asked.wait()

    source.error = error
    await asked(3)
    assert not reading.done()
    assert ingest.at_a_loss is at_a_loss
    assert re.search(words, ingest.problem or "")
    source.error = None
    await asked(2)
    assert not ingest.at_a_loss
    assert ingest.problem == "the log was not read yet"  # what the lag says
    await end_tasks([reading])
