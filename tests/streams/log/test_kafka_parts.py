"""The private parts of aiokafka that our client reaches into: a release that changes them is noticed here.

aiokafka has no public way to stop an idempotent producer that still has batches in hand: its ``stop`` sends them for
ever. What happens with a real broker is tested in test_kafka.py (a broker that is away when the log is closed).
"""

import asyncio
from types import SimpleNamespace

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.producer.message_accumulator import MessageAccumulator

from config.serving import LogConfig
from streams.log.interface import LogUnavailableError
from streams.log.kafka import client as client_module
from streams.log.kafka.client import KafkaClient
from streams.log.kafka.options import parse_options
from streams.log.kafka.producer import _abandon

BROKERS = 5


async def test_a_producer_with_batches_in_hand_is_given_up_in_bounded_time():
    producer = AIOKafkaProducer(bootstrap_servers="127.0.0.1:9", acks="all", enable_idempotence=True)
    accumulator = producer._message_accumulator
    assert isinstance(accumulator, MessageAccumulator)
    batch = producer.create_batch()
    batch.append(timestamp=None, key=None, value=b"x")
    batch.close()
    acknowledged = await accumulator.add_batch(batch, TopicPartition("a", 0), 5.0)
    (queued,) = accumulator._batches[TopicPartition("a", 0)]
    assert not acknowledged.done()
    assert isinstance(accumulator._pending_batches, set)
    async with asyncio.timeout(15.0):
        await _abandon(producer)
    assert acknowledged.done()
    assert queued.future.result() is None
    assert not accumulator._batches


async def asked(answering: set[int]) -> int:
    """Ask a cluster of whose brokers only these answer; the number of the one that did."""
    options = parse_options(LogConfig(url="kafka://127.0.0.1:9", kafka={"open_timeout_s": 1.5}))
    client = KafkaClient(options)
    cluster = SimpleNamespace(brokers=lambda: [SimpleNamespace(nodeId=number) for number in range(BROKERS)])
    client._admin, client._offsets = SimpleNamespace(_client=SimpleNamespace(cluster=cluster)), object()

    async def question() -> int:
        node = client._answering_node()
        if node not in answering:
            await asyncio.Event().wait()
        return node

    return await client._ask(question)


async def test_one_broker_that_answers_is_enough(monkeypatch):
    """Whichever it is, and however many silent ones are asked before."""
    monkeypatch.setattr(client_module, "_TRY_S_MIN", 0.01)
    monkeypatch.setattr(client_module, "_RETRY_S_MAX", 0.01)
    numbers = range(BROKERS)
    assert await asyncio.gather(*(asked({number}) for number in numbers for _ in range(8))) == sorted([*numbers] * 8)
    with pytest.raises(LogUnavailableError, match=r"^log kafka://127\.0\.0\.1:9: does not answer \(.*\)$"):
        await asked(set())
