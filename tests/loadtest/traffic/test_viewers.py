"""The viewers against a small server that speaks docs/protocol.md: what they ask, count and publish."""

import asyncio
import json
import time
from collections import Counter

import pytest
from aiohttp import WSMsgType, web
from aiohttp.test_utils import TestServer

from loadtest.traffic.viewers import SUBPROTOCOL, ViewersConfig, ViewerStats, run_viewers

#: A busy machine is no failure.
PATIENCE_S = 60.0


class FakeFeeds:
    """Answers every feed frame with the same entries; ``behave`` may be told to do otherwise."""

    def __init__(self, entries) -> None:
        self.entries = entries
        self.behave = "serve"
        self.asked: Counter[str] = Counter()
        self.headers: list[str | None] = []
        self.frames: list[dict] = []
        self.stalled = asyncio.Event()

    async def handle(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=(SUBPROTOCOL,))
        await socket.prepare(request)
        self.headers.append(request.headers.get("Authorization"))
        viewer = request.query.get("viewer", "?")
        await socket.send_json({"type": "hello", "viewer_id": viewer})
        async for message in socket:
            if message.type != WSMsgType.TEXT:
                break
            frame = json.loads(message.data)
            self.frames.append(frame)
            self.asked[viewer] += 1
            if self.behave == "refuse":
                answer = {"type": "error", "error": "overloaded", "message": "", "request_id": frame["request_id"]}
            elif self.behave == "cut":
                await socket.close(code=1011)
                break
            elif self.behave == "silent":
                continue
            else:
                if self.behave == "stall":
                    await self.stalled.wait()
                answer = {"type": "feed", "request_id": frame["request_id"], "version": 5, "entries": self.entries}
            await socket.send_json(answer)
        return socket


@pytest.fixture
async def feeds(make_society, now_ms):
    """The server's behaviour, its url, and a society whose tweets it serves."""
    society = make_society(people=50)
    tweets = [event.body for event in society.tick(now_ms, now_ms + 4000) if event.topic == "tweets"]
    fake = FakeFeeds([{"tweet_id": t["tweet_id"], "author_id": t["author_id"]} for t in tweets[:20]])
    app = web.Application()
    app.router.add_get("/v1/feed", fake.handle)
    async with TestServer(app) as server:
        yield fake, str(server.make_url("/v1/feed")), society


async def run_until(enough, feeds, feeds_per_s, *, first=None, **options) -> tuple[ViewerStats, list]:
    """Let viewers come until ``enough(stats)``; ``first``: a condition of the same kind, and what is done then."""
    _, url, society = feeds
    published: list = []
    stop, stats = asyncio.Event(), ViewerStats()

    async def publish(events) -> None:
        published.extend(events)

    options = {"publish": publish, "now_ms": lambda: 1_760_000_005_000, **options}
    task = asyncio.create_task(run_viewers(url, society, feeds_per_s, stop, stats=stats, **options))
    async with asyncio.timeout(PATIENCE_S):
        for condition, act in (*([first] if first else []), (enough, stop.set)):
            while not condition(stats):
                await asyncio.sleep(0.005)
            act()
        await task
    return stats, published


async def test_feeds_are_asked_for_and_answered(feeds):
    started = time.monotonic()
    stats, published = await run_until(
        lambda stats: stats.feeds_served >= 100, feeds, 100.0, config=ViewersConfig(connections=8)
    )
    fake, _, society = feeds
    due = 100 * (time.monotonic() - started)
    assert stats.feeds_served <= due + 5 * due**0.5
    assert stats.feeds_served * 20 == stats.entries_seen
    assert not stats.errors
    assert stats.version == 5
    assert set(fake.asked) == {str(viewer) for viewer in society.viewer_ids(50)[42:]}, "the most active are spared"
    assert stats.reactions == len(published) > stats.feeds_served
    asked = {frame["request_id"] for frame in fake.frames}
    assert len(asked) == len(fake.frames)
    reactions = [event for event in published if event.topic == "engagements"]
    assert {event.body["request_id"] for event in reactions} <= asked
    assert {event.body["user_id"] for event in reactions} <= set(fake.asked)
    assert 0 < stats.latency_ms(50) <= stats.latency_ms(99)
    assert stats.summary()["feeds_served"] == stats.feeds_served


async def test_a_stalled_server_is_charged_for_everybody_who_came(feeds):
    """Open loop: arrivals go on while nothing is answered, and their latencies count from when they were due."""
    fake = feeds[0]
    fake.behave = "stall"
    config = ViewersConfig(connections=4, arrivals="constant")
    started = time.monotonic()
    stats, _ = await run_until(
        lambda stats: stats.feeds_served >= 40,
        feeds,
        100.0,
        config=config,
        first=(lambda stats: time.monotonic() - started > 0.5, fake.stalled.set),
    )
    # Fifty came meanwhile, and waited half a second to nothing. Of the forty answered first none came after them.
    assert stats.latency_ms(50) > 150
    assert stats.latency_ms(100) > 350


async def test_too_many_waiting_are_shed_and_counted(feeds):
    fake = feeds[0]
    fake.behave = "stall"
    config = ViewersConfig(in_flight_max=3)
    stats, _ = await run_until(lambda stats: stats.errors["shed"] >= 15, feeds, 100.0, config=config)
    assert stats.feeds_served == 0


@pytest.mark.parametrize(
    ("behave", "error"), [("refuse", "overloaded"), ("cut", "disconnected"), ("silent", "timeout")]
)
async def test_failures_are_counted_by_name_and_pass(feeds, behave, error):
    fake = feeds[0]
    fake.behave = behave

    def recover() -> None:
        fake.behave = "serve"

    config = ViewersConfig(connections=2, timeout_s=0.3 if behave == "silent" else PATIENCE_S)
    stats, _ = await run_until(
        lambda stats: stats.feeds_served >= 10,
        feeds,
        60.0,
        config=config,
        first=(lambda stats: stats.errors[error] >= 10, recover),
    )
    assert set(stats.errors) == {error}
    assert (stats.reconnects > 0) == (behave == "cut")


async def test_nobody_there_is_counted_not_raised(make_society, unused_tcp_port):
    url = f"ws://127.0.0.1:{unused_tcp_port}/v1/feed"
    feeds = None, url, make_society(people=20)
    stats, published = await run_until(lambda stats: stats.errors["disconnected"] >= 10, feeds, 50.0)
    assert set(stats.errors) == {"disconnected"}
    assert stats.feeds_served == 0
    assert stats.latency_ms(99) == 0.0
    assert published == []


async def test_a_log_that_fails_is_counted(feeds):
    async def publish(events) -> None:
        raise RuntimeError("log away")

    stats, _ = await run_until(lambda stats: stats.feeds_served > 5, feeds, 50.0, publish=publish)
    assert stats.errors.keys() == {"publish"}
    assert stats.reactions == 0


async def test_tokens_replace_the_named_viewer(feeds):
    config = ViewersConfig(connections=1)
    await run_until(
        lambda stats: stats.feeds_served >= 5,
        feeds,
        50.0,
        config=config,
        token=lambda viewer: f"t{viewer}",
        viewer_ids=[9],
    )
    assert feeds[0].headers == ["Bearer t9"]
    assert set(feeds[0].asked) == {"?"}


async def test_every_connection_gets_its_feeds(make_society, now_ms):
    """More connections than an HTTP client keeps open by default: none may wait for another to end."""
    fake = FakeFeeds([])
    app = web.Application()
    app.router.add_get("/v1/feed", fake.handle)
    async with TestServer(app) as server:
        feeds = fake, str(server.make_url("/v1/feed")), make_society(people=200)
        config = ViewersConfig(connections=150, spared=0, arrivals="constant", timeout_s=PATIENCE_S)
        stats, _ = await run_until(lambda stats: len(fake.asked) > 130, feeds, 200.0, config=config)
    assert not stats.errors
