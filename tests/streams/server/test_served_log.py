"""The served log: bounded, patient while the log is away, counted where it gives up."""

import asyncio
import contextlib

import pytest
from prometheus_client import CollectorRegistry

from engine.feed import Request
from streams.log.interface import LogUnavailableError
from streams.server.metrics import ServingMetrics
from streams.server.served_log import ServedLog


class Bench:
    def __init__(self, fake_log, feed_of, **options):
        self.registry = CollectorRegistry()
        self.log, self.feed_of = fake_log, feed_of
        options.setdefault("retry_s_min", 0.001)
        self.served = ServedLog(fake_log, self.encode, ServingMetrics(self.registry), **options)

    def encode(self, feed, request):
        assert request.viewer_id == feed.viewer_id
        if feed.viewer_id == 13:
            raise ZeroDivisionError
        return str(feed.viewer_id).encode()

    def offer(self, *viewers, tweets=(1,)):
        for viewer in viewers:
            request = Request(viewer_id=viewer, request_id=viewer, time_ms=1, seed=1)
            self.served.offer(self.feed_of(request, 1, list(tweets)), request)

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
        return [int(record.value) for record in self.log.records.get("served", [])]


@pytest.fixture
def bench(fake_log, feed_of):
    return lambda **options: Bench(fake_log, feed_of, **options)


async def test_everything_offered_arrives_once_in_order_and_in_batches(bench):
    b = bench()
    b.offer(*range(100, 700))
    async with b.running():
        await b.served.drain(5)
    assert b.values == list(range(100, 700))
    assert b.log.appends == 10


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
    b.log.record_bytes_max = 2
    async with b.running():
        b.offer(13, 20)
        await b.served.drain(5)
        assert (b.values, b.dropped("refused")) == ([20], 1)
        b.offer(999)
        await b.served.drain(5)
        assert b.dropped("refused") == 2
        b.offer(21)
        await b.served.drain(5)
    assert b.values == [20, 21]


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
