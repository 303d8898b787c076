"""What the Kafka log does beyond the contract: brokers that are away, killed or hung, and the wire format."""

import asyncio
import os
import random
import re
import socket
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka import TopicPartition as KafkaPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.protocol.metadata import MetadataRequest

from config.schema import Config
from config.serving import LogConfig
from streams.durable.folder import durable_folder, opened_store
from streams.log import open_log
from streams.log.interface import (
    EventLog,
    Format,
    LogUnavailableError,
    NewRecord,
    OffsetOutOfRangeError,
    RecordTooLargeError,
    TopicPartition,
)
from streams.log.kafka import log as kafka
from streams.log.kafka import tail as kafka_tail
from streams.log.kafka.identity import TopicIdsRequest
from tests.support.kafka_operator import Operator

pytestmark = pytest.mark.kafka

#: For a busy machine; less than the defaults of what is given shorter times here.
SLACK_S = 10.0


@pytest.fixture
def config(kafka: str, request: pytest.FixtureRequest) -> LogConfig:
    return LogConfig(url=f"kafka://{kafka}", topic_prefix=f"k{os.urandom(5).hex()}.")


async def raised_within(seconds: float, call: Callable[[], Any]) -> LogUnavailableError:
    """The LogUnavailableError that the call ends with, in time."""
    began = time.monotonic()
    with pytest.raises(LogUnavailableError) as raised:
        await call()
    assert time.monotonic() - began < seconds + SLACK_S
    return raised.value


async def test_nobody_at_the_address():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        log = open_log(LogConfig(url=f"kafka://127.0.0.1:{port}", kafka={"open_timeout_s": 1.0}))
        for _ in range(2):
            error = await raised_within(2.5, log.open)
            assert f"kafka://127.0.0.1:{port}: no answer within 1 s; is Kafka running there" in str(error)
            assert "Connect call failed" in str(error)
        await log.close()


@pytest.mark.parametrize("count", [1, 3])
async def test_nobody_who_speaks_kafka(count: int):
    """Servers that take connections and say nothing."""

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    servers = [await asyncio.start_server(mute, "127.0.0.1", 0) for _ in range(count)]
    hosts = ",".join(f"127.0.0.1:{server.sockets[0].getsockname()[1]}" for server in servers)
    log = open_log(LogConfig(url=f"kafka://{hosts}", kafka={"open_timeout_s": 1.0}))
    error = await raised_within(2.5, log.open)
    assert re.fullmatch(rf"log kafka://{hosts}: no answer within 1 s; .* \(127\.0\.0\.1:\d+: no answer\)", str(error))
    for server in servers:
        server.close()
        await server.wait_closed()


async def test_a_broker_that_is_away_and_comes_back(kafka_node, helpers, monkeypatch):
    monkeypatch.setattr(kafka_tail, "_SILENCE_S", 0.7)
    config = LogConfig(
        url=f"kafka://{kafka_node.bootstrap}",
        topic_prefix="away-",
        kafka={"append_timeout_s": 1.0, "open_timeout_s": 1.5, "request_timeout_ms": 1000},
    )
    async with open_log(config) as log:
        await log.ensure_topics({"a": 1})
        await log.append("a", helpers.json(range(3)))
        async with await log.tail({TopicPartition("a", 0): 0}) as tail:
            await helpers.drain(tail, 2, records_max=2)
            for away, back in ((kafka_node.stop, kafka_node.restart), (kafka_node.pause, kafka_node.resume)):
                end = tail.positions[TopicPartition("a", 0)]
                await asyncio.to_thread(away)
                error = await raised_within(2.5, lambda: log.append("a", helpers.json(["lost?"])))
                assert kafka_node.bootstrap in str(error)
                await raised_within(4.0, lambda: log.end_offsets("a"))

                async def poll_until_unavailable(tail=tail) -> None:
                    while True:
                        await tail.poll(records_max=1, timeout_s=0.3)

                await raised_within(8.0, poll_until_unavailable)
                await raised_within(3.0, poll_until_unavailable)
                assert tail.positions[TopicPartition("a", 0)] >= end
                await asyncio.to_thread(back)
                placed = None
                deadline = time.monotonic() + 60
                while placed is None:
                    assert time.monotonic() < deadline
                    try:
                        placed = await log.append("a", helpers.json(["back"]))
                    except LogUnavailableError:
                        continue
                values = []
                while not values or values[-1] != b"back":
                    assert time.monotonic() < deadline
                    try:
                        values += [v for *_, v in helpers.flat(await tail.poll(records_max=10, timeout_s=1.0))]
                    except LogUnavailableError:
                        continue
                assert tail.positions[TopicPartition("a", 0)] == placed[0][1] + 1


async def test_closing_while_the_broker_is_away_takes_bounded_time(kafka_node, helpers):
    config = LogConfig(url=f"kafka://{kafka_node.bootstrap}", topic_prefix="close-", kafka={"append_timeout_s": 1.0})
    log = open_log(config)
    await log.open()
    await log.ensure_topics({"a": 2})
    await log.append("a", helpers.json([1]))
    tail = await log.tail({TopicPartition("a", 0): 0})
    await asyncio.to_thread(kafka_node.kill)
    appends = [asyncio.create_task(log.append("a", helpers.json([i]))) for i in range(5)]
    await asyncio.sleep(0.1)
    began = time.monotonic()
    await log.close()
    assert time.monotonic() - began < 30
    results = await asyncio.gather(*appends, return_exceptions=True)
    assert all(isinstance(r, LogUnavailableError) for r in results)
    with pytest.raises(LogUnavailableError):
        await tail.poll(records_max=1, timeout_s=0.1)


async def test_partitions_that_are_added_are_seen_and_used(config: LogConfig, helpers, monkeypatch):
    monkeypatch.setattr("streams.log.kafka.log._COUNTS_MAX_AGE_S", 0.1)
    async with open_log(config) as log:
        await log.ensure_topics({"a": 1})
        await log.append("a", helpers.json([0]))
        assert await log.end_offsets("a") == {0: 1}
        await helpers.add_partitions(config, "a", 3)
        async with asyncio.timeout(60):
            while await log.partitions("a") != 3:
                await asyncio.sleep(0.02)
        await log.end_offsets("a")  # waits for the leaders
        assert {(await log.append("a", helpers.json([i])))[0][0] for i in range(6)} == {0, 1, 2}
        assert sum((await log.end_offsets("a")).values()) == 7


async def test_records_deleted_under_an_open_tail(config: LogConfig, helpers):
    small = LogConfig(
        url=config.url,
        topic_prefix=config.topic_prefix,
        kafka={"max_partition_fetch_bytes": 65_536, "fetch_max_bytes": 65_536},
    )
    async with open_log(small) as log:
        await log.ensure_topics({"a": 1})
        for _ in range(40):
            await log.append("a", [NewRecord(bytes(100_000), partition=0) for _ in range(2)])
        async with await log.tail({TopicPartition("a", 0): 0}) as tail:
            await helpers.drain(tail, 1, records_max=1)
            await asyncio.sleep(0.05)
            middle_ms = int(time.time() * 1000)
            await asyncio.sleep(0.05)
            await log.append("a", helpers.json(["kept"]))
            await log.apply_retention("a", before_ms=middle_ms)
            earliest = (await log.start_offsets("a"))[0]
            assert earliest == 80

            async def read_on() -> None:
                for _ in range(100):
                    await tail.poll(records_max=1, timeout_s=2.0)

            with pytest.raises(OffsetOutOfRangeError) as raised:
                await read_on()
            # What was fetched already may still come; after it, the gap is named.
            assert 1 <= raised.value.position == tail.positions[TopicPartition("a", 0)] < 80
            assert raised.value.earliest == 80


async def test_the_wire_carries_kafkas_usual_things(config: LogConfig, kafka: str):
    async with open_log(config) as log:
        await log.ensure_topics({"a": 1})
        await log.append("a", [NewRecord(b"{}", key=b"7"), NewRecord(b"\x01", format=Format.PACKED)])
        await log.append("a", [NewRecord(b"", key=b"7")])
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, auto_offset_reset="earliest")
    await consumer.start()
    partition = KafkaPartition(f"{config.topic_prefix}a", 0)
    consumer.assign([partition])
    consumer.seek(partition, 0)
    first, second, third = [await consumer.getone() for _ in range(3)]
    await consumer.stop()
    assert (first.key, first.value, first.headers) == (b"7", b"{}", ())
    assert (third.key, third.value, third.headers) == (b"7", None, ())
    assert (second.key, second.value) == (None, b"\x01")
    assert second.headers == (("content-type", b"application/vnd.murmuration.packed"),)
    assert first.timestamp_type == 1  # LogAppendTime
    assert abs(first.timestamp - time.time() * 1000) < 10_000


async def test_records_of_other_producers_are_read(config: LogConfig, kafka: str, helpers):
    async with open_log(config) as log:
        await log.ensure_topics({"a": 1})
        producer = AIOKafkaProducer(bootstrap_servers=kafka, compression_type="gzip")
        await producer.start()
        topic = f"{config.topic_prefix}a"
        await producer.send_and_wait(topic, b"json", headers=[("content-type", b"application/json"), ("x", b"y")])
        await producer.send_and_wait(topic, None, key=b"tombstone")
        packed = [("trace", b"1"), ("content-type", b"application/vnd.murmuration.packed")]
        await producer.send_and_wait(topic, b"packed", headers=packed)
        await producer.stop()
        async with await log.tail({TopicPartition("a", 0): 0}) as tail:
            runs = await helpers.drain(tail, 3)
        rows = [row for r in runs for row in zip(r.keys, r.values, r.formats, strict=True)]
        assert rows == [
            (b"", b"json", Format.JSON),
            (b"tombstone", b"", Format.JSON),
            (b"", b"packed", Format.PACKED),
        ]


async def test_times_that_producers_claim_are_doubted_and_those_of_the_broker_are_not(config, kafka, helpers):
    later_ms = 7_226_582_400_000  # 2199
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    claimed = {"message.timestamp.type": "CreateTime", "message.timestamp.after.max.ms": str(2**63 - 1)}
    await admin.create_topics([NewTopic(f"{config.topic_prefix}a", 1, 1, topic_configs=claimed)])
    await admin.close()
    async with open_log(config) as log:
        await log.ensure_topics({"a": 1, "b": 1})
        producer = AIOKafkaProducer(bootstrap_servers=kafka)
        await producer.start()
        for topic in ("a", "b"):
            for time_ms in (int(time.time() * 1000), later_ms, 0):
                await producer.send_and_wait(config.topic_prefix + topic, b"x", timestamp_ms=time_ms)
        await producer.stop()
        async with await log.tail({TopicPartition("a", 0): 0, TopicPartition("b", 0): 0}) as tail:
            runs = await helpers.drain(tail, 6)
    by_topic = {topic: [run for run in runs if run.topic == topic] for topic in ("a", "b")}
    assert [t for run in by_topic["a"] for t in run.append_ms][1:] == [later_ms, 0]
    assert set().union(*(run.doubted for run in by_topic["a"])) == {1, 2}
    assert set().union(*(run.doubted for run in by_topic["b"])) == set()


async def test_aborted_transactions_are_not_read(config: LogConfig, kafka: str, helpers):
    async with open_log(config) as log:
        await log.ensure_topics({"a": 1})
        producer = AIOKafkaProducer(bootstrap_servers=kafka, transactional_id=config.topic_prefix)
        await producer.start()
        for commit in (False, True):
            await producer.begin_transaction()
            await producer.send_and_wait(f"{config.topic_prefix}a", b"committed" if commit else b"aborted")
            await (producer.commit_transaction() if commit else producer.abort_transaction())
        await producer.stop()
        async with await log.tail({TopicPartition("a", 0): 0}) as tail:
            assert [v for *_, v in helpers.flat(await helpers.drain(tail, 1))] == [b"committed"]
            # The markers at the end are no records: the tail is at the end, and says so without holding anything up.
            began = time.monotonic()
            assert await tail.poll(records_max=1, timeout_s=0.3) == []
            assert time.monotonic() - began < 1.0
            assert tail.positions == {TopicPartition("a", 0): 4}
        assert await log.end_offsets("a") == {0: 4}


async def test_catching_up_keeps_topics_at_one_pace(config: LogConfig, helpers):
    """A quiet topic beside a busy one: no poll goes back behind the time that an earlier one has reached."""
    async with open_log(config) as log:
        await log.ensure_topics({"busy": 2, "quiet": 1})
        draw = random.Random(3)
        count = 0
        for i in range(120):
            await log.append("busy", [NewRecord(draw.randbytes(150), key=b"%d" % j) for j in range(100)])
            count += 100
            if i % 6 == 0:
                await log.append("quiet", helpers.json([i]))
                count += 1
        newest = 0
        quiet_at = []
        async with await log.tail(await helpers.begin(log, "busy", "quiet")) as tail:
            read = 0
            while read < count:
                runs = await tail.poll(records_max=500, timeout_s=5.0)
                assert runs
                assert min(t for r in runs for t in r.append_ms) >= newest
                newest = max(t for r in runs for t in r.append_ms)
                quiet_at += [read / count for r in runs if r.topic == "quiet" for _ in r.offsets]
                read += sum(len(r.offsets) for r in runs)
        assert len(quiet_at) == 20
        # Evenly spread, as they were appended; read topic by topic they would all be at one end.
        assert all(abs(at - i / 20) < 0.15 for i, at in enumerate(quiet_at)), quiet_at


async def test_a_broker_with_a_lower_limit(config: LogConfig, helpers, monkeypatch):
    async with open_log(config) as log:
        await log.ensure_topics({"a": 1})
    looser = LogConfig(url=config.url, topic_prefix=config.topic_prefix, record_bytes_max=3_000_000)
    async with open_log(looser) as log:
        with pytest.raises(RecordTooLargeError, match=r"max\.message\.bytes of topic"):
            await log.append("a", [NewRecord(b"x" * 2_000_000)])
        monkeypatch.setitem(log._batch_bytes_max, f"{config.topic_prefix}a", 3_000_000)  # as where it is not told
        with pytest.raises(RecordTooLargeError, match=r"over the broker's limit: lower log\.record_bytes_max"):
            await log.append("a", [NewRecord(b"x" * 2_000_000)])
        # The refused batch leaves a gap in the producer's numbers; the next append must not trip over it.
        assert await log.append("a", helpers.json([1])) == [(0, 0)]


async def test_large_records_where_they_are_allowed(config: LogConfig, helpers):
    large = LogConfig(url=config.url, topic_prefix=config.topic_prefix, record_bytes_max=3_000_000)
    async with open_log(large) as log:
        await log.ensure_topics({"a": 1})
        values = [os.urandom(2_900_000), b"small", os.urandom(2_000_000)]
        await log.append("a", [NewRecord(v) for v in values])
        async with await log.tail({TopicPartition("a", 0): 0}) as tail:
            assert [v for *_, v in helpers.flat(await helpers.drain(tail, 3))] == values


@pytest.mark.parametrize("compression", ["gzip", "snappy", "lz4", "zstd"])
async def test_compressed_batches(config: LogConfig, compression: str, helpers):
    packed = LogConfig(url=config.url, topic_prefix=config.topic_prefix, kafka={"compression_type": compression})
    async with open_log(packed) as log:
        await log.ensure_topics({"a": 1})
        await log.append("a", helpers.json(range(500)))
        async with await log.tail({TopicPartition("a", 0): 0}) as tail:
            assert [v for *_, v in helpers.flat(await helpers.drain(tail, 500))] == [b"%d" % i for i in range(500)]


async def test_users_are_compacted_and_kept(config: LogConfig, kafka: str, helpers):
    async with open_log(config) as log:
        await log.ensure_topics({"users": 1, "tweets": 1})
        await log.append("users", [NewRecord(b"{}", key=b"1")])
        await asyncio.sleep(0.01)
        assert await log.apply_retention("users", before_ms=int(time.time() * 1000)) == {0: 0}
    configs = kafka_log(config)._topic_config("users")
    assert configs["cleanup.policy"] == "compact"
    assert "cleanup.policy" not in kafka_log(config)._topic_config("tweets")


def kafka_log(config: LogConfig) -> kafka.KafkaLog:
    log: EventLog = open_log(config)
    assert isinstance(log, kafka.KafkaLog)
    return log


async def test_a_cluster_is_known_at_every_address_and_a_topic_made_again_is_another(config):
    port = config.url.rpartition(":")[2]
    elsewhere = msgspec.structs.replace(config, url=f"kafka://localhost:{port},127.0.0.1:{port}")
    async with open_log(config) as log, open_log(elsewhere) as other:
        await log.ensure_topics({"a": 1, "b": 2})
        identity = await log.identity()
        assert identity.topics.keys() == {"a", "b"}
        assert len(set(identity.topics.values())) == 2
        assert await other.identity() == identity
        admin = AIOKafkaAdminClient(bootstrap_servers=f"127.0.0.1:{port}")
        await admin.start()
        try:
            await admin.delete_topics([f"{config.topic_prefix}a"])
            async with asyncio.timeout(60):
                while "a" in (await log.identity()).topics:
                    await asyncio.sleep(0.1)
        finally:
            await admin.close()
    async with open_log(config) as log:
        await log.ensure_topics({"a": 1})
        again = await log.identity()
    assert again.log == identity.log
    assert again.topics["a"] != identity.topics["a"]
    assert again.topics["b"] == identity.topics["b"]


async def test_a_deleted_topic_is_not_made_again_by_those_who_read_it(config):
    """The broker makes topics that it is asked about, unless the question forbids it (auto.create.topics.enable)."""
    port = config.url.rpartition(":")[2]
    operator = Operator(f"127.0.0.1:{port}")
    stored = f"{config.topic_prefix}a"
    async with open_log(config) as log:
        await log.ensure_topics({"a": 1})
        await log.append("a", [NewRecord(b"1")])
        async with await log.tail({TopicPartition("a", 0): 0}) as tail:
            await asyncio.to_thread(operator.delete, stored)
            for client in (tail._consumer._client, log._client._offsets._client):
                client.add_topic(stored)
                for _ in range(3):
                    await client.force_metadata_update()
            # The broker makes topics some time after the question: a question that allows it is asked after ours.
            allowed = MetadataRequest([f"{stored}-allowed"], allow_auto_topic_creation=True)
            await client.send(client.get_random_node(), allowed)
            while f"{stored}-allowed" not in (topics := await asyncio.to_thread(operator.topics)):
                await asyncio.sleep(0.05)
            assert stored not in topics


async def test_a_broker_that_tells_no_topic_ids_is_known_by_its_cluster(config, monkeypatch):
    def old(self, versions):
        raise NotImplementedError

    async with open_log(config) as log:
        identity = await log.identity()
        monkeypatch.setattr(TopicIdsRequest, "prepare", old)
        assert await log.identity() == (identity.log, {})


async def test_the_folder_of_a_cluster_is_found_from_every_address(config, tmp_path, monkeypatch):
    """The folder that an older version named after the address is found, and named after the cluster."""
    monkeypatch.chdir(tmp_path)
    port = config.url.rpartition(":")[2]
    settings = Config(log=config)
    before = durable_folder(settings)
    before.mkdir(parents=True)
    (before / "current").write_text("x")
    async with open_log(config) as log:
        identity = await log.identity()
    for url in (config.url, f"kafka://localhost:{port}", f"kafka://127.0.0.1:{port},localhost:{port}"):
        elsewhere = Config(log=msgspec.structs.replace(config, url=url))
        with opened_store(elsewhere, identity, writable=False) as store:
            assert bytes(store.disk.view("current")) == b"x"
        with opened_store(elsewhere, identity) as store:
            assert bytes(store.disk.view("current")) == b"x"
    assert not before.exists()
    assert durable_folder(settings, identity).exists()
