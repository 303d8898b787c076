"""Token buckets against a count by hand; connection limits; frames that are too large; clients that do not read."""

import asyncio
import base64
import os
import socket as sockets
import struct

import aiohttp
import orjson
import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from streams.server.limits import KeyedBuckets, TokenBucket


@given(
    rate=st.integers(1, 50),
    burst=st.integers(1, 50),
    steps_ms=st.lists(st.integers(0, 500), min_size=1, max_size=200),
)
def test_a_bucket_never_gives_more_than_burst_and_rate(rate, burst, steps_ms):
    now_s = 0.0
    bucket = TokenBucket(rate_per_s=rate, burst=burst, clock=lambda: now_s)
    times = []
    for step_ms in steps_ms:
        now_s += step_ms / 1000
        if bucket.take():
            times.append(now_s)
    for i, first in enumerate(times):
        for j in range(i, len(times)):
            assert j - i + 1 <= burst + (times[j] - first) * rate + 1e-6


def test_a_bucket_gives_its_burst_then_its_rate():
    now_s = 0.0
    bucket = TokenBucket(rate_per_s=10, burst=5, clock=lambda: now_s)
    assert [bucket.take() for _ in range(6)] == [True] * 5 + [False]
    now_s = 0.25
    assert [bucket.take() for _ in range(3)] == [True, True, False]
    now_s = 0.2  # a clock that steps back gives nothing and breaks nothing
    assert not bucket.take()


def test_keyed_buckets_are_apart_and_bounded():
    buckets = KeyedBuckets(rate_per_s=1, burst=1, keys_max=2, clock=lambda: 0.0)
    assert [buckets.take(k) for k in "aabb"] == [True, False, True, False]
    assert buckets.take("c")
    assert not buckets.take("b")
    assert buckets.take("a")  # the least recently used was forgotten
    assert len(buckets._buckets) == 2


async def test_connections_in_all_are_limited(start):
    site = await start(connections_max=2)
    async with site.socket("?viewer=1"), site.socket("?viewer=2"):
        async with site.socket("?viewer=3", hello=False) as third:
            assert (await third.receive())["error"] == "too_many_connections"
            assert await third.close_code() == 1013
        assert site.metric("connections") == 2
    await site.until(lambda: site.metric("connections") == 0)
    async with site.socket("?viewer=3"):
        assert site.metric("connections") == 1


async def test_connections_of_a_viewer_are_limited(start):
    site = await start(connections_per_viewer_max=2)
    async with site.socket("?viewer=1"), site.socket("?viewer=1"):
        async with site.socket("?viewer=1", hello=False) as third:
            assert (await third.receive())["error"] == "too_many_connections"
            assert await third.close_code() == 1013
        async with site.socket("?viewer=2"):
            pass
    await site.until(lambda: site.metric("connections") == 0)
    async with site.socket("?viewer=1"), site.socket("?viewer=1"):
        pass


@pytest.mark.parametrize("size", [65_537, 1_000_000, 20_000_000])
async def test_a_frame_over_the_limit_is_named_and_closed(site, size):
    async with site.socket() as socket, site.socket("?viewer=43") as other:
        sending = asyncio.create_task(socket.ws.send_str("x" * size))
        error = await socket.receive()
        assert (error["error"], error["type"]) == ("frame_too_large", "error")
        assert await socket.close_code() == 1009
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        assert (await other.ask(type="feed"))["type"] == "feed"
    assert site.metric("errors_sent_total", way="websocket", error="frame_too_large") == 1


async def test_a_frame_of_the_limit_itself_is_read(site):
    async with site.socket() as socket:
        frame = orjson.dumps({"type": "feed", "cursor": ""})
        await socket.ws.send_str(frame.decode().replace('""', '"' + "c" * (65_536 - len(frame)) + '"'))
        assert (await socket.receive())["error"] == "bad_cursor"


class DeafClient:
    """A websocket client that shakes hands, sends, and never reads."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, site):
        sock = sockets.socket()
        sock.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", site.server.port))
        reader, writer = await asyncio.open_connection(sock=sock, limit=1024)
        key = base64.b64encode(os.urandom(16)).decode()
        head = (
            f"GET /v1/feed?viewer=66 HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        writer.write(head.encode())
        assert b"101" in await reader.readline()
        return cls(reader, writer)

    def send(self, **frame):
        data = orjson.dumps(frame)
        self.writer.write(struct.pack("!BB", 0x81, 0x80 | len(data)) + b"\0\0\0\0" + data)

    def ping(self, count):
        self.writer.write((struct.pack("!BB", 0x89, 0x80 | 125) + b"\0\0\0\0" + b"p" * 125) * count)

    async def __aenter__(self):
        return self

    async def __aexit__(self, *error):
        self.writer.transport.abort()
        await asyncio.sleep(0)


async def test_a_subscriber_that_never_reads_is_cut_and_others_go_on(start):
    site = await start(send_timeout_s=0.3, send_buffer_bytes_max=200_000)
    site.service.text = "x" * 200_000
    async with await DeafClient.connect(site) as deaf, site.socket("?viewer=43") as other:
        deaf.send(type="subscribe", interval_ms=10)
        tweets = 1
        while not site.metric("slow_readers_total"):
            tweets += 1
            site.service.change([tweets])
            await asyncio.sleep(0.005)
        await site.until(lambda: site.metric("connections") == 1)
        site.service.text = "short"
        assert (await other.ask(type="feed"))["type"] == "feed"
    assert site.metric("slow_readers_total") == 1
    assert site.metric("errors_sent_total", way="websocket", error="consumer_too_slow") == 1
    assert site.metric("pushes_superseded_total") > 1
    assert site.metric("subscriptions") == 0


@pytest.mark.parametrize("scenario", ["never_reads", "comes_back"])
def test_slow_readers_on_uvloop(open_sites, scenario):
    test = {
        "never_reads": test_a_subscriber_that_never_reads_is_cut_and_others_go_on,
        "comes_back": test_a_slow_reader_that_comes_back_is_told_why,
    }[scenario]

    async def run():
        async with open_sites() as start:
            await test(start)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


async def test_answers_to_a_client_that_never_reads_are_cut_not_dropped(start):
    site = await start(send_timeout_s=0.3, send_buffer_bytes_max=200_000, requests_per_s_max=100_000)
    site.service.text = "x" * 50_000
    async with await DeafClient.connect(site) as deaf:
        while not site.metric("slow_readers_total"):
            deaf.send(type="feed")
            await asyncio.sleep(0.001)
        await site.until(lambda: site.metric("connections") == 0)
    assert site.metric("slow_readers_total") == 1


async def test_pings_of_a_client_that_never_reads_take_no_memory(start):
    site = await start(send_timeout_s=0.3, send_buffer_bytes_max=200_000)
    async with await DeafClient.connect(site) as deaf:
        (connection,) = context_of(site).connections._open
        for _ in range(100):
            deaf.ping(1000)
            await asyncio.sleep(0.002)
            assert connection._transport.get_write_buffer_size() < 200_000
            if site.metric("slow_readers_total"):
                break


async def test_a_slow_reader_that_comes_back_is_told_why(start):
    site = await start(send_timeout_s=0.2, send_buffer_bytes_max=100_000)
    site.service.text = "x" * 200_000
    async with await DeafClient.connect(site) as deaf:
        deaf.send(type="subscribe", interval_ms=10)
        tweets = 1
        while not site.metric("slow_readers_total"):
            tweets += 1
            site.service.change([tweets])
            await asyncio.sleep(0.005)
        received = b""
        while piece := await deaf.reader.read(1 << 16):
            received = received[-500:] + piece
    assert b'"error":"consumer_too_slow"' in received
    assert struct.pack("!H", 4408) + b"consumer_too_slow" in received


async def test_a_client_that_vanishes_leaves_nothing(site):
    deaf = await DeafClient.connect(site)
    deaf.send(type="subscribe", interval_ms=10)
    await site.until(lambda: site.metric("subscriptions") == 1)
    deaf.writer.transport.abort()
    await site.until(lambda: site.metric("connections") == 0 and site.metric("subscriptions") == 0)


async def test_a_dead_peer_is_noticed_by_its_missing_pong(start):
    site = await start(heartbeat_s=0.1)
    async with site.http.ws_connect(f"{site.url}/v1/feed?viewer=42", autoping=False) as ws:
        await ws.receive()
        await site.until(lambda: site.metric("connections") == 0)
        assert ws.close_code is None or ws.close_code == aiohttp.WSCloseCode.ABNORMAL_CLOSURE


def context_of(site):
    from streams.server.context import CONTEXT

    return site.server._app[CONTEXT]
