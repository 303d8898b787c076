"""The private parts of aiokafka that giving a producer up reaches into: a release that changes them is noticed here.

aiokafka has no public way to stop an idempotent producer that still has batches in hand: its ``stop`` sends them for
ever. What happens with a real broker is tested in test_kafka.py (a broker that is away when the log is closed).
"""

import asyncio

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.producer.message_accumulator import MessageAccumulator

from streams.log.kafka.producer import _abandon


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
