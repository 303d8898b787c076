"""Records of other producers on topics that the operator made, with the times and partitions that these chose."""

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from config.serving import LogConfig
from tests.support.front_door import HOUR, Front, World, settings

pytestmark = pytest.mark.kafka
YEAR_2199_MS = 7_226_582_400_000


@pytest.fixture
def w(kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A server on topics with CreateTime and two partitions."""
    monkeypatch.chdir(tmp_path)
    prefix = f"cases-{time.time_ns()}-"

    async def topics() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
        await admin.start()
        claimed = {"message.timestamp.type": "CreateTime", "message.timestamp.after.max.ms": str(2**63 - 1)}
        names = ("engagements", "tweets", "relationships")
        await admin.create_topics([NewTopic(prefix + name, 2, 1, topic_configs=claimed) for name in names])
        await admin.close()

    asyncio.run(topics())
    log = LogConfig(url=f"kafka://{kafka}", topic_prefix=prefix)
    door = Front(msgspec.structs.replace(settings(tmp_path), log=log))
    yield door.world()
    door.close()


@pytest.fixture
def produce(kafka: str, w: World) -> Callable[..., list[int]]:
    """Sends events as another producer would: (event, partition, record time); returns their offsets."""

    async def send(topic: str, *records: tuple[dict[str, Any], int, int]) -> list[int]:
        offsets = []
        async with AIOKafkaProducer(bootstrap_servers=kafka) as producer:
            for event, partition, time_ms in records:
                value = msgspec.json.encode(event)
                name = w.front.config.log.topic_prefix + topic
                sent = await producer.send_and_wait(name, value, partition=partition, timestamp_ms=time_ms)
                offsets.append(sent.offset)
        await w.front.applied()
        return offsets

    def do(topic: str, *records: tuple[dict[str, Any], int, int]) -> list[int]:
        for event, _, _ in records:
            w._events.remove(event)
        offsets: list[int] = w.front.do(send(topic, *records))
        return offsets

    return do


def test_the_far_future_is_refused_whatever_a_records_time_says(w: World, produce):
    w.follow(1, 2)
    w.create(100, by=2)
    w.publish()
    for record_ms in (YEAR_2199_MS, 0):
        future = w.event("favorite", user_id=5, tweet_id=100, at=YEAR_2199_MS - w.now)
        (offset,) = produce("engagements", (future, 1, record_ms))
        assert w.letter("engagements", (1, offset)).reason == "timestamp_in_future"
        good = w.event("favorite", user_id=6, tweet_id=100)
        produce("engagements", (good, 1, record_ms))
    assert w.entry(1, 100)["counts"]["favorite"] == 1
    assert w.front.engine.state.clock_ms < w.now + HOUR
    assert 6 in w.named(w.query("proof", tweets=[100], users=[6]))


@pytest.mark.parametrize("later", ["block", "unblock"])
def test_two_producers_that_partition_differently(w: World, produce, later: str):
    """Caught up in one piece, whatever the partitions' order: the act with the later time holds."""
    w.follow(1, 3)
    w.create(100, by=2, at=-HOUR)
    w.create(101, by=3, retweets=100, at=-HOUR)
    w.publish()
    block = w.event("block", user_id=1, target_id=2, at=2 if later == "block" else 1)
    unblock = w.event("unblock", user_id=1, target_id=2, at=1 if later == "block" else 2)
    w.front.stop()

    async def send() -> None:
        async with AIOKafkaProducer(bootstrap_servers=w.front.config.log.url.removeprefix("kafka://")) as producer:
            for event, partition in ((unblock, 0), (block, 1)):
                w._events.remove(event)
                topic = w.front.config.log.topic_prefix + "relationships"
                value = msgspec.json.encode(event)
                await producer.send_and_wait(topic, value, partition=partition, timestamp_ms=event["timestamp_ms"])

    w.front.do(send())
    w.front.start()
    assert (101 in w.shown(1, "following")) == (later == "unblock")
