"""Sees erasing through: as long as something of an erased person is left, records are appended that go on with it.

Each record is a piece of bounded work (engine/kernels/erasing.py). It comes through the log, so a replay, an audit and
other nodes do the same work at the same place, and nothing depends on whether anything else is published. The next
record is appended when the last one has been applied, at most ``1 / PACE_S`` a second. Where nodes read one log each of
them appends: the work is then done sooner.
"""

import asyncio

import structlog

from streams.events.erasing import TOPIC, go_on_record
from streams.live.applier import Applier
from streams.log.interface import EventLog, LogError, TopicPartition
from streams.process.retry import Retries
from streams.reading.metrics import EngineMetrics

log = structlog.get_logger("murmuration.erasing")

#: Time between two records, so that other pieces and readers come in between; and between looks when nobody is erased.
PACE_S, IDLE_S = 0.02, 0.25


async def see_erasing_through(event_log: EventLog, applier: Applier, metrics: EngineMetrics) -> None:
    """For ever: append the next record where erasing goes on. While the log is away, wait for it."""
    retries = Retries("erasing waits for the log", log=log)
    last: tuple[TopicPartition, int] | None = None
    while True:
        # While the backlog of the start is applied, the records that went on with the erasing may still come.
        erasing = applier.live and applier.is_erasing
        if erasing and (last is None or applier.positions.get(last[0], 0) > last[1]):
            try:
                ((partition, offset),) = await event_log.append(TOPIC, [go_on_record()])
            except LogError as error:
                metrics.log_failures.labels("append").inc()
                await retries.wait(error)
                continue
            retries.succeeded()
            last = TopicPartition(TOPIC, partition), offset
        await asyncio.sleep(PACE_S if erasing else IDLE_S)
