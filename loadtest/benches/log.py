"""Append and tail rates of an event log, the first step on the path from event to state."""

import asyncio
import secrets
import time
from collections.abc import Iterator

from config.serving import LogConfig
from streams.log import open_log
from streams.log.interface import EventLog, Format, NewRecord, TopicPartition

_APPEND_RECORDS = 2000
_APPENDERS = 4
_POLL_RECORDS = 4000
_PACKED_BYTES = 256 * 32


def _json_records(count: int) -> Iterator[NewRecord]:
    """Records like engagements: about 150 bytes of JSON, keyed by user."""
    for i in range(count):
        user = 1_000_000_000 + i * 7919 % 50_000
        value = (
            f'{{"v":1,"id":"{i + 10**17}","type":"favorite","user_id":"{user}","tweet_id":"{17 * 10**17 + i}",'
            f'"author_id":"{user * 31 % 10**10}","timestamp_ms":{1_760_000_000_000 + i}}}'
        )
        yield NewRecord(value.encode(), key=str(user).encode())


def _packed_records(count: int) -> Iterator[NewRecord]:
    """Packed batches of 256 fixed-width events."""
    for i in range(count):
        yield NewRecord(i.to_bytes(8, "little") * (_PACKED_BYTES // 8), key=str(i).encode(), format=Format.PACKED)


async def run(
    url: str, *, json_records: int = 200_000, packed_records: int = 4000, partitions: int = 4
) -> dict[str, float]:
    """Append, then tail, through one log; rates in records per second, CPU (whole process) in µs per record.

    On Kafka the CPU figures do not include the broker's work. The topics stay in the log: use a separate log.
    """
    topics = {name: f"bench-{name}-{secrets.token_hex(4)}" for name in ("json", "packed")}
    figures: dict[str, float] = {}
    async with open_log(LogConfig(url=url)) as log:
        await log.ensure_topics(dict.fromkeys(topics.values(), partitions))
        for name, records in (
            ("json", list(_json_records(json_records))),
            ("packed", list(_packed_records(packed_records))),
        ):
            topic = topics[name]
            wall, cpu = time.perf_counter(), time.process_time()
            await _append(log, topic, records)
            _note(figures, f"append_{name}", len(records), wall, cpu)
            wall, cpu = time.perf_counter(), time.process_time()
            await _tail(log, topic, partitions, len(records))
            _note(figures, f"tail_{name}", len(records), wall, cpu)
    return figures


async def _append(log: EventLog, topic: str, records: list[NewRecord]) -> None:
    async def appender(mine: int) -> None:
        step = _APPEND_RECORDS * _APPENDERS
        for first in range(mine * _APPEND_RECORDS, len(records), step):
            await log.append(topic, records[first : first + _APPEND_RECORDS])

    async with asyncio.TaskGroup() as tasks:
        for mine in range(_APPENDERS):
            tasks.create_task(appender(mine))


async def _tail(log: EventLog, topic: str, partitions: int, count: int) -> None:
    async with await log.tail({TopicPartition(topic, p): 0 for p in range(partitions)}) as tail:
        while count > 0:
            runs = await tail.poll(records_max=_POLL_RECORDS, timeout_s=10.0)
            if not runs:
                raise TimeoutError(f"{count} records of {topic} did not arrive")
            count -= sum(len(run.offsets) for run in runs)


def _note(figures: dict[str, float], name: str, count: int, wall: float, cpu: float) -> None:
    figures[f"{name}_records_per_s"] = count / (time.perf_counter() - wall)
    figures[f"{name}_cpu_us"] = (time.process_time() - cpu) / count * 1e6
