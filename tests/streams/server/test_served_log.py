"""The served log: bounded, patient while the log is away, counted where it gives up."""

import asyncio
import contextlib

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from engine.feed import Request
from streams.events.served_feed import EncodedFeed
from streams.events.served_records import decode_served
from streams.log.interface import LogUnavailableError
from streams.log.placement import partitions_of
from streams.server import served_log
from streams.server.answers import part_of
from streams.server.metrics import ServingMetrics
from streams.server.served_log import ServedLog


class Bench:
    def __init__(self, fake_log, feed_of, **options):
        self.registry = CollectorRegistry()
        self.log, self.feed_of = fake_log, feed_of
        options.setdefault("retry_s_min", 0.001)
        options.setdefault("linger_s", 0.001)
        self.served = ServedLog(fake_log, ServingMetrics(self.registry), **options)

    def offer(self, *viewers, tweets=(1,)):
        for viewer in viewers:
            request = Request(viewer_id=viewer, request_id=viewer, time_ms=1, seed=1)
            feed = self.feed_of(request, 1, list(tweets))
            # No record has a feed of request -1.
            if viewer == 13:
                feed = msgspec.structs.replace(feed, request_id=-1)
            self.served.offer(part_of(EncodedFeed(feed), request, "", 1))

    def dropped(self, reason):
        return self.registry.get_sample_value("murmuration_served_dropped_total", {"reason": reason}) or 0

    @contextlib.asynccontextmanager
    async def running(self):
        task = asyncio.create_task(self.served.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    @property
    def values(self):
        return [viewer for record in self.records for viewer in viewers_in(record)]

    @property
    def records(self):
        return self.log.records.get("served", [])


def viewers_in(record):
    return [int(feed.user_id) for feed in decode_served(record.format, record.value)]


@pytest.fixture
def bench(fake_log, feed_of):
    return lambda **options: Bench(fake_log, feed_of, **options)


async def test_everything_offered_arrives_once_in_order_and_in_batches(bench):
    b = bench()
    b.offer(*range(100, 700))
    async with b.running():
        await b.served.drain(5)
    assert b.values == list(range(100, 700))
    assert b.log.appends == 3


async def test_feeds_gather_for_the_linger_and_are_one_record(bench):
    b = bench(linger_s=0.5)
    async with b.running():
        for viewer in range(20, 30):
            b.offer(viewer)
            await asyncio.sleep(0)
        assert b.values == []
        async with asyncio.timeout(5):
            while not b.values:
                await asyncio.sleep(0.005)
    assert b.values == list(range(20, 30))
    assert len(b.records) == b.log.appends == 1


async def test_a_drain_waits_for_no_linger(bench):
    b = bench(linger_s=60.0)
    async with b.running():
        b.offer(20)
        await asyncio.sleep(0.01)
        b.offer(21)
        await b.served.drain(5)
        assert b.values == [20, 21]


async def test_a_feed_lies_in_the_partition_of_its_viewers_key(bench):
    b = bench()
    b.log.partition_count = 4
    b.offer(*range(100, 200))
    async with b.running():
        await b.served.drain(5)
    assert len(b.records) == 4
    for record in b.records:
        viewers = viewers_in(record)
        assert viewers == sorted(viewers)
        assert set(partitions_of([str(v).encode() for v in viewers], 4, 0)) == {record.partition}


async def test_records_are_bounded_by_entries_and_by_bytes(bench, monkeypatch):
    monkeypatch.setattr(served_log, "RECORD_ENTRIES_MAX", 25)
    b = bench()
    b.offer(*range(100, 110), tweets=range(1, 11))
    b.offer(110, tweets=range(1, 41))
    async with b.running():
        await b.served.drain(5)
        assert [len(viewers_in(record)) for record in b.records] == [2, 2, 2, 2, 2, 1]
        monkeypatch.setattr(served_log, "RECORD_BYTES_MAX", 1)
        b.offer(120, 121)
        await b.served.drain(5)
    assert [len(viewers_in(record)) for record in b.records[-2:]] == [1, 1]


async def test_a_full_queue_drops_the_new_and_counts_them(bench):
    b = bench(feeds_max=5)
    b.offer(*range(20, 28))
    assert b.dropped("queue_full") == 3
    async with b.running():
        await b.served.drain(5)
        b.offer(99)
        await b.served.drain(5)
    assert b.values == [20, 21, 22, 23, 24, 99]


async def test_a_log_that_is_away_is_waited_for(bench):
    b = bench()
    b.log.fail = LogUnavailableError("away")
    async with b.running():
        b.offer(20, 21)
        await asyncio.sleep(0.02)
        assert b.values == []
        b.log.fail = None
        await b.served.drain(5)
    assert b.values == [20, 21]


async def test_the_bound_counts_what_is_being_appended(bench):
    b = bench(feeds_max=3)
    b.log.hold = asyncio.Event()
    async with b.running():
        b.offer(20, 21)
        await asyncio.sleep(0.01)
        b.offer(22, 23)
        assert b.dropped("queue_full") == 1
        b.log.hold.set()
        await b.served.drain(5)
    assert b.values == [20, 21, 22]


async def test_what_cannot_be_packed_or_is_refused_is_counted_and_the_rest_goes_on(bench):
    b = bench()
    async with b.running():
        b.offer(13, 20)
        await b.served.drain(5)
        assert (b.values, b.dropped("refused")) == ([20], 1)
        # One is too large for the log: those beside it are recorded all the same.
        b.log.record_bytes_max = 700
        b.offer(21)
        b.offer(22, tweets=range(1, 100))
        b.offer(23)
        await b.served.drain(5)
    assert b.dropped("refused") == 2
    assert b.values == [20, 21, 23]


async def test_an_empty_feed_is_recorded_too(bench):
    b = bench()
    b.offer(20, tweets=())
    async with b.running():
        await b.served.drain(5)
    assert b.values == [20]


async def test_what_is_left_at_the_end_is_counted(bench):
    b = bench()
    b.log.fail = LogUnavailableError("away")
    async with b.running():
        b.offer(*range(20, 30))
        await b.served.drain(0.02)
    assert b.dropped("closing") == 10
