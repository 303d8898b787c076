"""Fixtures of the event log's tests: one configuration a backend, and small helpers."""

import secrets
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions

from config.serving import LogConfig
from streams.log import open_log
from streams.log.interface import EventLog, NewRecord, Records, Tail, TopicPartition


@pytest.fixture(params=["sqlite", pytest.param("kafka", marks=pytest.mark.kafka)])
def log_config(request: pytest.FixtureRequest, tmp_path: Path) -> LogConfig:
    """A log of the test's own: a file, or a topic prefix on the session's Kafka."""
    if request.param == "sqlite":
        return LogConfig(url=f"sqlite:///{tmp_path}/log.db", record_bytes_max=100_000)
    kafka = request.getfixturevalue("kafka")
    return LogConfig(url=f"kafka://{kafka}", topic_prefix=f"t{secrets.token_hex(6)}.", record_bytes_max=100_000)


@pytest.fixture
def sqlite_config(tmp_path: Path) -> LogConfig:
    return LogConfig(url=f"sqlite:///{tmp_path}/log.db")


@pytest.fixture
async def log(log_config: LogConfig) -> AsyncIterator[EventLog]:
    async with open_log(log_config) as opened:
        yield opened


@pytest.fixture
async def sqlite_log(sqlite_config: LogConfig) -> AsyncIterator[EventLog]:
    async with open_log(sqlite_config) as opened:
        yield opened


class Helpers:
    """What several test files need (the tests are no package, so it comes as a fixture)."""

    @staticmethod
    def json(values: Sequence[object], **fields: object) -> list[NewRecord]:
        return [NewRecord(str(value).encode(), **fields) for value in values]  # type: ignore[arg-type]

    @staticmethod
    async def begin(log: EventLog, *topics: str) -> dict[TopicPartition, int]:
        return {TopicPartition(t, p): o for t in topics for p, o in (await log.start_offsets(t)).items()}

    @staticmethod
    async def drain(tail: Tail, count: int, *, records_max: int = 1000, timeout_s: float = 60.0) -> list[Records]:
        """Poll until ``count`` records have come; fails when they do not."""
        runs: list[Records] = []
        while count > 0:
            polled = await tail.poll(records_max=records_max, timeout_s=timeout_s)
            assert polled, f"{count} records did not arrive"
            assert sum(len(run.offsets) for run in polled) <= records_max
            for run in polled:
                lengths = {len(c) for c in (run.offsets, run.append_ms, run.formats, run.keys, run.values)}
                assert lengths == {len(run.offsets)}
                assert run.offsets
            runs += polled
            count -= sum(len(run.offsets) for run in polled)
        assert count == 0, "more records than were appended"
        return runs

    @staticmethod
    async def add_partitions(config: LogConfig, topic: str, count: int) -> None:
        """Raise a Kafka topic's partitions to so many, as an operator does."""
        admin = AIOKafkaAdminClient(bootstrap_servers=config.url.removeprefix("kafka://"))
        await admin.start()
        await admin.create_partitions({config.topic_prefix + topic: NewPartitions(count)})
        await admin.close()

    @staticmethod
    def flat(runs: Sequence[Records]) -> list[tuple[str, int, int, bytes]]:
        """(topic, partition, offset, value) of each record, in the order returned."""
        return [(r.topic, r.partition, o, v) for r in runs for o, v in zip(r.offsets, r.values, strict=True)]


@pytest.fixture
def helpers() -> type[Helpers]:
    return Helpers
