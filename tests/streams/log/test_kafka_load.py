"""The Kafka log under load: brokers killed, partitions added, long backlogs; nothing lost, nothing twice."""

import asyncio
import gc
import logging
import secrets
import tracemalloc
from collections.abc import Awaitable, Callable

import pytest

from config.serving import LogConfig
from streams.log import open_log
from streams.log.interface import (
    EventLog,
    LogUnavailableError,
    NewRecord,
    OffsetOutOfRangeError,
    Tail,
    TopicPartition,
)
from streams.log.kafka import tail as kafka_tail

pytestmark = pytest.mark.kafka

#: Ample on a slow machine: only a test that fails waits so long.
PATIENCE_S = 120
APPENDERS = 4


class Load:
    """Appenders that keep what was acknowledged, beside a tail that must see each of it, and nothing twice.

    Somebody measures the lag all the while: the ends of the log are unknown at times, but never wrong.
    """

    def __init__(self, log: EventLog, tail: Tail, helpers) -> None:
        self.log, self.tail, self.helpers = log, tail, helpers
        self.acknowledged: dict[tuple[int, int], bytes] = {}
        self.seen: dict[tuple[int, int], bytes] = {}
        self._newest: dict[int, int] = {}
        self._ending, self._changed = asyncio.Event(), asyncio.Event()

    async def run(self, disturb: Callable[["Load"], Awaitable[None]]) -> None:
        """Disturb while the load runs, then let the tail read what is left, and compare."""
        async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as tasks:
            appending = [tasks.create_task(self._append(name)) for name in range(APPENDERS)]
            watching = [tasks.create_task(self._read()), tasks.create_task(self._measure())]
            await self.acknowledges(200)
            await disturb(self)
            self._ending.set()
            await asyncio.wait(appending)
            await self.until(lambda: len(self.seen) >= len(self.acknowledged))
            for task in watching:
                task.cancel()
        assert self.seen == self.acknowledged
        assert len(set(self.seen.values())) == len(self.seen)

    async def acknowledges(self, more: int) -> None:
        """Wait until so many more records are acknowledged."""
        enough = len(self.acknowledged) + more
        await self.until(lambda: len(self.acknowledged) >= enough)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that appenders or the tail bring about."""
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    async def _append(self, name: int) -> None:
        step = 0
        while not self._ending.is_set():
            values = [f"{name}-{step}-{i}" for i in range(20)]
            placed = await self.log.append("a", self.helpers.json(values))
            self.acknowledged.update({p: v.encode() for p, v in zip(placed, values, strict=True)})
            for partition, offset in placed:
                self._newest[partition] = max(offset, self._newest.get(partition, -1))
            step += 1
            self._changed.set()
            await asyncio.sleep(0.001)

    async def _read(self) -> None:
        while True:
            try:
                runs = await self.tail.poll(records_max=1000, timeout_s=0.5)
            except LogUnavailableError:  # a slow restart
                continue
            for _, partition, offset, value in self.helpers.flat(runs):
                assert (partition, offset) not in self.seen
                self.seen[partition, offset] = value
            self._changed.set()

    async def _measure(self) -> None:
        while True:
            newest = dict(self._newest)
            try:
                ends = await self.log.end_offsets("a")
            except LogUnavailableError:
                continue
            assert all(end > newest.get(partition, -1) for partition, end in ends.items())
            await asyncio.sleep(0.02)

    async def lag_is_gone(self) -> None:
        """Wait until the tail's positions are the ends of the log, as they must be once all of it is read."""
        async with asyncio.timeout(PATIENCE_S):
            ends = {TopicPartition("a", p): end for p, end in (await self.log.end_offsets("a")).items()}
            while self.tail.positions != ends:
                assert await self.tail.poll(records_max=1, timeout_s=0.1) == []


@pytest.fixture
def config(kafka: str) -> LogConfig:
    prefix = f"l{secrets.token_hex(5)}."
    return LogConfig(url=f"kafka://{kafka}", topic_prefix=prefix, kafka={"metadata_max_age_ms": 200})


@pytest.fixture(autouse=True)
def counts_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Appenders go to added partitions without waiting half a minute."""
    monkeypatch.setattr("streams.log.kafka.log._COUNTS_MAX_AGE_S", 0.1)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
async def test_a_broker_killed_under_load_loses_and_doubles_nothing(kafka_node, helpers, caplog):
    """kill -9 and restart, three times; before the second, partitions are added that nobody knows of yet."""
    caplog.set_level(logging.WARNING)
    config = LogConfig(
        url=f"kafka://{kafka_node.bootstrap}",
        topic_prefix=f"l{secrets.token_hex(5)}.",
        kafka={"append_timeout_s": 60.0, "metadata_max_age_ms": 500},
    )

    async def kill_and_restart(load: Load) -> None:
        for turn in range(3):
            if turn == 1:
                await helpers.add_partitions(config, "a", 4)
            await asyncio.to_thread(kafka_node.kill)
            await asyncio.to_thread(kafka_node.restart)
            await load.acknowledges(400)
        await load.until(lambda: {p for p, _ in load.seen} == {0, 1, 2, 3})

    async with open_log(config) as log:
        await log.ensure_topics({"a": 3})
        async with await log.tail(await helpers.begin(log, "a"), follow_new=True) as tail:
            load = Load(log, tail, helpers)
            await load.run(kill_and_restart)
            await load.lag_is_gone()
    noise = [r for r in caplog.records if r.name.startswith("aiokafka") and r.levelno >= logging.ERROR]
    assert noise == []
    # A start that a deadline cancels leaves aiokafka's first connection to its finalizer: let it run here.
    gc.collect()


async def test_partitions_added_under_load_lose_and_double_nothing(config: LogConfig, helpers):
    async def add(load: Load) -> None:
        for count in (2, 5):
            await helpers.add_partitions(config, "a", count)
            await load.until(lambda count=count: {p for p, _ in load.seen} == set(range(count)))
            await load.acknowledges(200)

    async with open_log(config) as log:
        await log.ensure_topics({"a": 1, "b": 1})
        before = await helpers.begin(log, "a", "b")
        async with await log.tail(before, follow_new=True) as tail, await log.tail(before) as fixed:
            load = Load(log, tail, helpers)
            await load.run(add)
            assert fixed.positions.keys() == before.keys()
            ends = {TopicPartition(t, p): o for t in "ab" for p, o in (await log.end_offsets(t)).items()}
            assert tail.positions == ends
        # Positions from before the partitions came: what a restart from an old snapshot goes on from.
        async with await log.tail(before, follow_new=True) as again:
            read = helpers.flat(await helpers.drain(again, len(load.seen), timeout_s=PATIENCE_S))
            assert {(p, o): v for _, p, o, v in read} == load.seen
        async with await log.tail(before) as fixed:
            mine = sum(1 for p, _ in load.seen if p == 0)
            assert {p for _, p, *_ in helpers.flat(await helpers.drain(fixed, mine))} == {0}


@pytest.mark.parametrize("disturbance", ["a partition is added", "the connection is lost"])
async def test_a_tail_that_catches_up_is_not_disturbed(config: LogConfig, helpers, disturbance, monkeypatch):
    """What is buffered stays, what the consumer held is fetched again, and the order by time holds throughout."""
    monkeypatch.setattr(kafka_tail, "_HOLD_S", float(PATIENCE_S))  # however slow the broker answers
    async with open_log(config) as log:
        await log.ensure_topics({"a": 2})
        for partition in range(2):
            for _ in range(30):
                await log.append("a", [NewRecord(bytes(2000), partition=partition)] * 100)
            await asyncio.sleep(0.01)  # for another millisecond: order within one is open
        expected = [3000, 3000]
        async with await log.tail(await helpers.begin(log, "a"), follow_new=True) as tail, asyncio.timeout(PATIENCE_S):
            polls = []
            # Until the second partition's records wait here for those of the first that are not read yet.
            while tail._merge.empty(TopicPartition("a", 1)):
                polls.append(await tail.poll(records_max=10, timeout_s=1.0))
            if disturbance == "a partition is added":
                expected.append(100)
                await helpers.add_partitions(config, "a", 3)
                while await log.partitions("a") != 3:
                    await asyncio.sleep(0.02)
                await log.end_offsets("a")
                await log.append("a", [NewRecord(b"new", partition=2)] * 100)
                while len(tail._consumer.partitions_for_topic(f"{config.topic_prefix}a")) != 3:
                    await asyncio.sleep(0.02)
            else:
                consumer, tail._consumer = tail._consumer, None
                await consumer.stop()
            while sum(tail.positions.values()) < sum(expected):
                polls.append(await tail.poll(records_max=5000, timeout_s=1.0))
        read = [(p, o) for runs in polls for _, p, o, _ in helpers.flat(runs)]
        assert read == [(p, o) for p, count in enumerate(expected) for o in range(count)]


async def test_an_added_partition_whose_records_are_gone_is_named(config: LogConfig, helpers):
    async with open_log(config) as log:
        await log.ensure_topics({"a": 1})
        before = await helpers.begin(log, "a")
        async with await log.tail(before, follow_new=True) as tail:
            await helpers.add_partitions(config, "a", 2)
            async with asyncio.timeout(PATIENCE_S):
                while await log.partitions("a") != 2:
                    await asyncio.sleep(0.02)
            await log.end_offsets("a")
            await log.append("a", helpers.json(range(5), partition=1))
            await asyncio.sleep(0.01)
            assert (await log.apply_retention("a", before_ms=1 << 45))[1] == 5
            with pytest.raises(OffsetOutOfRangeError) as raised:
                await tail.poll(records_max=10, timeout_s=PATIENCE_S)
            assert (raised.value.partition, raised.value.position, raised.value.earliest) == (("a", 1), 0, 5)


async def test_a_long_backlog_is_read_in_bounded_memory(config: LogConfig, helpers):
    """Partition after partition was filled, so the later ones wait, full, for the first: the most a tail can hold."""
    partitions, each = 4, 75_000
    async with open_log(config) as log:
        await log.ensure_topics({"a": partitions})
        value = b'{"v":1,"type":"favorite"}' + bytes(75)
        for partition in range(partitions):
            for _ in range(each // 5000):
                await log.append("a", [NewRecord(value, partition=partition)] * 5000)
        gc.collect()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            async with await log.tail(await helpers.begin(log, "a")) as tail:
                read = held = 0
                while read < partitions * each:
                    runs = await tail.poll(records_max=2000, timeout_s=PATIENCE_S)
                    assert runs
                    read += sum(len(r.offsets) for r in runs)
                    held = max(held, sum(tail._merge.bytes(p) for p in tail.positions))
                assert await tail.poll(records_max=1, timeout_s=0.0) == []
            taken = tracemalloc.get_traced_memory()[1] - before
        finally:
            tracemalloc.stop()
    # A fetch brings 256 KiB as stored, some 110 bytes a record of 100; decoded such a record takes 284.
    fetch = (256 << 10) * 284 // 110
    assert kafka_tail._BUFFER_BYTES_MAX * (partitions - 1) < held, "the buffers were never full"
    assert held <= partitions * (kafka_tail._BUFFER_BYTES_MAX + fetch)
    # Beside it up to two fetches each in the consumer, what they are decoded from, and the runs returned last.
    assert taken <= partitions * (kafka_tail._BUFFER_BYTES_MAX + 5 * fetch) + 2000 * 284


async def test_a_broker_that_comes_while_the_log_is_being_opened(kafka_node, helpers):
    await asyncio.to_thread(kafka_node.kill)
    config = LogConfig(
        url=f"kafka://{kafka_node.bootstrap}",
        topic_prefix=f"l{secrets.token_hex(5)}.",
        kafka={"open_timeout_s": float(PATIENCE_S)},
    )
    log = open_log(config)
    opening = asyncio.create_task(log.open())
    await asyncio.sleep(0.5)
    assert not opening.done()
    await asyncio.to_thread(kafka_node.restart)
    await opening
    try:
        await log.ensure_topics({"a": 1})
        assert await log.append("a", helpers.json(["first"])) == [(0, 0)]
        async with await log.tail({TopicPartition("a", 0): 0}) as tail:
            assert helpers.flat(await helpers.drain(tail, 1, timeout_s=PATIENCE_S)) == [("a", 0, 0, b"first")]
    finally:
        await log.close()
