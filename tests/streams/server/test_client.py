"""The websocket client: answers, pushes, reconnects over several addresses; and feeds on a terminal."""

import asyncio
import io
import socket as sockets

import pytest
from rich.console import Console

from engine.errors import ConfigError
from engine.feed import Explain, Request
from engine.home_mixer.config import HomeMixerConfig
from streams.cli.common import parse_urls
from streams.cli.render_feed import age, plain, render_feed
from streams.client.client import FeedClient, FeedClientError, UnreachableError
from streams.events.feed_fields import feed_fields
from streams.server.drop_words import drop_words

SECRET = "a secret of more than thirty-two bytes"


async def test_feed_and_engage(site):
    async with FeedClient(site.url, viewer_id=42) as client:
        assert client.hello["viewer_id"] == "42"
        feed = await client.feed(limit=2, explain="all", exclude=["101"])
        assert [entry["tweet_id"] for entry in feed["entries"]] == ["102", "103"]
        ack = await client.engage({"type": "favorite", "tweet_id": "102"})
        assert (ack["topic"], ack["offset"]) == ("engagements", 0)
        feeds = await asyncio.gather(*(client.feed(request_id=i) for i in range(1, 20)))
        assert [feed["request_id"] for feed in feeds] == [str(i) for i in range(1, 20)]


async def test_named_errors_are_raised_and_the_connection_stays(site):
    async with FeedClient(site.url, viewer_id=42) as client:
        with pytest.raises(FeedClientError, match=r"^bad_request: limit") as error:
            await client.feed(limit=0)
        assert error.value.name == "bad_request"
        with pytest.raises(FeedClientError, match=r"^bad_event: missing_field"):
            await client.engage({"type": "favorite"})
        assert (await client.feed())["type"] == "feed"
        assert client.reconnects == 0


async def test_tokens(start):
    site = await start(auth="token", token_key=SECRET)
    async with FeedClient(site.url, token=site.token("42")) as client:
        assert (await client.feed())["viewer_id"] == "42"
    with pytest.raises(FeedClientError, match="unauthorized"):
        await FeedClient(site.url, token=site.token(expires_s=-60)).connect()
    with pytest.raises(FeedClientError, match="wrong_viewer"):
        await FeedClient(site.url, viewer_id=43, token=site.token("42")).connect()


async def test_nobody_there_is_one_clear_line():
    with sockets.socket() as free:
        free.bind(("127.0.0.1", 0))
        urls = [f"http://127.0.0.1:{free.getsockname()[1]}"] * 2
        with pytest.raises(UnreachableError, match=urls[0]):
            await FeedClient(urls, viewer_id=1).connect()


async def test_an_address_that_refuses_is_named(site):
    with pytest.raises(FeedClientError, match="HTTP 400"):
        await FeedClient(site.url).connect()


async def test_no_answer_in_time(site):
    site.service.gate = asyncio.Event()
    async with FeedClient(site.url, viewer_id=42) as client:
        with pytest.raises(UnreachableError, match=r"no answer within 0.05 s"):
            await client.feed(timeout_s=0.05)
        site.service.gate.set()
        assert (await client.feed())["type"] == "feed"


async def test_pushes_merge_what_a_slow_consumer_missed(site):
    async with FeedClient(site.url, viewer_id=42) as client:
        pushes = client.subscribe(interval_ms=10)
        assert (await anext(pushes))["new"] == ["101", "102", "103"]
        for step, tweets in enumerate(([1, 101], [2, 1, 101], [3, 2, 101]), 1):
            site.service.change(tweets)
            await site.until(lambda sent=step + 1: site.metric("pushes_total") == sent)
        await site.until(lambda: client._push is not None and client._push["seq"] == 4)
        push = await anext(pushes)
        assert (push["seq"], push["new"]) == (4, ["3", "2"])
        await pushes.aclose()
        await site.until(lambda: site.metric("subscriptions") == 0)


async def test_a_refused_subscription_is_raised_and_the_client_lives(site):
    async with FeedClient(site.url, viewer_id=42) as client:
        with pytest.raises(FeedClientError, match="bad_request"):
            await anext(client.subscribe(limit=0))
        assert (await client.feed())["type"] == "feed"


async def test_a_subscription_waits_until_the_server_is_ready(site):
    site.service.is_ready = False
    async with FeedClient(site.url, viewer_id=42) as client:
        pushes = client.subscribe(interval_ms=10)
        first = asyncio.ensure_future(anext(pushes))
        await site.until(lambda: site.metric("errors_sent_total", way="websocket", error="not_ready"))
        site.service.is_ready = True
        assert (await first)["seq"] == 1
        await pushes.aclose()


async def test_when_a_server_dies_the_next_address_serves(start):
    one, two = await start(drain_timeout_s=0.2), await start()
    two.service.tweets = [7]
    async with FeedClient([one.url, two.url], viewer_id=42, backoff_s_min=0.01) as client:
        pushes = client.subscribe(interval_ms=10)
        assert (await anext(pushes))["new"] == ["101", "102", "103"]
        one.service.gate = asyncio.Event()
        in_flight = asyncio.create_task(client.feed(request_id=5))
        await one.until(lambda: one.service.running)
        await one.server.stop()
        assert (await in_flight)["entries"][0]["tweet_id"] == "7"
        assert (await anext(pushes))["new"] == ["7"]
        assert client.url == two.url
        assert client.reconnects == 1
        await pushes.aclose()
        one.service.gate.set()


async def test_an_engagement_in_flight_is_sent_again_under_the_same_id(start):
    one, two = await start(drain_timeout_s=0.2), await start()
    one.log.hold = asyncio.Event()
    async with FeedClient([one.url, two.url], viewer_id=42, backoff_s_min=0.01) as client:
        sending = asyncio.create_task(client.engage({"type": "favorite", "tweet_id": "1", "id": "99"}))
        await asyncio.sleep(0.05)
        await one.server.stop()
        assert (await sending)["event_id"] == "99"
    assert [event["id"] for event in two.log.events("engagements")] == ["99"]


async def test_a_closed_client_answers_nobody(site):
    site.service.gate = asyncio.Event()
    client = FeedClient(site.url, viewer_id=42)
    await client.connect()
    waiting = asyncio.create_task(client.feed())
    await site.until(lambda: site.service.running)
    await client.close()
    with pytest.raises(UnreachableError):
        await waiting
    with pytest.raises(UnreachableError):
        await client.feed(timeout_s=0.1)
    site.service.gate.set()


def rendered(feed, **options):
    out = io.StringIO()
    Console(file=out, width=100, color_system="truecolor", force_terminal=True).print(render_feed(feed, **options))
    return out.getvalue()


@pytest.fixture
def feed(feed_of):
    request = Request(viewer_id=1, request_id=2, time_ms=1_760_000_000_000, seed=3, explain=Explain.ALL)
    made = feed_of(request, 5, [7, 8], "hello [bold]world[/] \x1b[31mred\x07\u202e end")
    return feed_fields(made, with_dropped=True) | {"dropped_in_words": drop_words(made, HomeMixerConfig())}


def test_a_feed_on_a_terminal(feed):
    text = rendered(feed)
    assert "hello [bold]world[/] [31mred end" in text
    assert "\x07" not in text
    assert "\u202e" not in text
    assert "3 favorite" in text
    assert "followees" not in text
    assert "version 5" in text


def test_an_explained_feed_says_why(feed):
    text = rendered(feed, explain=True)
    for part in ("followees #1 (0.5)", "recency 0.500 + walk 0.250", "× author_diversity 0.5", "favorite by 9"):
        assert part in text
    assert "1 tweet was seen by the viewer before" in text


def test_what_was_left_out_is_said_in_words(feed):
    assert "left out: 1 tweet was seen by the viewer before" in rendered(feed)
    lower = {"filter": "not_selected", "count": 9, "words": "9 tweets ranked lower than what is shown"}
    assert "ranked lower" not in rendered(feed | {"dropped_in_words": [lower]})
    assert "9 tweets ranked lower" in rendered(feed | {"dropped_in_words": [lower]}, explain=True)
    assert "1 tweet was seen by the viewer before" in rendered(feed | {"entries": []})


def test_an_empty_feed_and_a_push(feed):
    assert "nothing to show" in rendered({**feed, "entries": []})
    push = {key: feed[key] for key in ("product", "version", "entries")} | {
        "type": "new_tweets",
        "new": ["7"],
        "seq": 1,
    }
    assert "hello" in rendered(push)


def test_ages_and_plain_text():
    assert [age(s) for s in (0, 999, 1000, 59_999, 60_000, 7_200_000, 10**9)] == [
        "now", "now", "1 s", "59 s", "1 min", "2 h", "11 d",
    ]  # fmt: skip
    assert plain("a\nb\tc\x1b\x9b\u2066d👩\u200d🚀") == "a b cd👩\u200d🚀"


# Several addresses


async def test_a_server_that_is_not_ready_is_left_for_one_that_is(start):
    one, two = await start(), await start()
    one.service.is_ready = False
    two.service.tweets = [7]
    async with FeedClient([one.url, two.url], viewer_id=42, backoff_s_min=0.01) as client:
        assert client.url == one.url
        assert (await client.feed())["entries"][0]["tweet_id"] == "7"
        assert client.url == two.url


async def test_a_subscription_leaves_a_server_that_is_not_ready(start):
    one, two = await start(), await start()
    one.service.is_ready = False
    two.service.tweets = [7]
    async with FeedClient([one.url, two.url], viewer_id=42, backoff_s_min=0.01) as client:
        pushes = client.subscribe(interval_ms=10)
        assert (await anext(pushes))["new"] == ["7"]
        assert client.url == two.url
        await pushes.aclose()


async def test_nobody_being_ready_is_asked_ever_less_often(start):
    sites = [await start(), await start()]
    for site in sites:
        site.service.is_ready = False
    async with FeedClient([site.url for site in sites], viewer_id=42, backoff_s_min=0.01) as client:
        with pytest.raises(UnreachableError, match=r"no answer within 0\.7 s"):
            await client.feed(timeout_s=0.7)
        assert 1 <= client.reconnects < 20
        asking = asyncio.create_task(client.feed(timeout_s=60))
        await asyncio.sleep(0.05)
        sites[1].service.is_ready = True
        assert (await asking)["type"] == "feed"


async def test_what_a_draining_server_does_not_take_any_more_is_asked_elsewhere(start):
    one, two = await start(drain_timeout_s=60.0), await start()
    two.service.tweets = [7]
    one.service.gate = asyncio.Event()
    async with FeedClient([one.url, two.url], viewer_id=42, backoff_s_min=0.01) as client:
        held = asyncio.create_task(client.feed(timeout_s=30))  # the drain waits for it
        await one.until(lambda: one.service.running)
        draining = asyncio.create_task(one.server.stop())
        while (await one.get("/readyz"))[1]["reason"] != "shutting down":
            await asyncio.sleep(0.01)
        asking = asyncio.create_task(client.feed(timeout_s=30))
        await asyncio.sleep(0.05)
        one.service.gate.set()
        assert (await held)["entries"][0]["tweet_id"] == "101"
        assert (await asking)["entries"][0]["tweet_id"] == "7"
        assert client.url == two.url
        await draining


async def test_what_one_server_was_told_was_seen_the_next_does_not_show(start):
    one, two = await start(drain_timeout_s=0.2), await start(exclude_max=3)
    async with FeedClient([one.url, two.url], viewer_id=42, backoff_s_min=0.01) as client:
        await client.feed(seen=[101, "102"], exclude=["7"])
        assert set(one.service.requests[-1].exclude) == {7, 101, 102}
        await one.server.stop()
        assert [entry["tweet_id"] for entry in (await client.feed())["entries"]] == ["103"]
        await client.feed(exclude=["5", "6"])
        assert two.service.requests[-1].exclude == (5, 6, 101)


async def test_a_refused_token_is_not_tried_elsewhere(start):
    one = await start(auth="token", token_key=SECRET)
    two = await start(auth="token", token_key=SECRET)
    client = FeedClient([one.url, two.url], token=one.token(expires_s=-60))
    with pytest.raises(FeedClientError, match="unauthorized"):
        await client.connect()
    assert client.url == one.url
    assert two.metric("frames_received_total") == 0


def test_addresses_with_commas_and_repeated():
    assert parse_urls(["http://a:1, http://b:2", "http://a:1"]) == ["http://a:1", "http://b:2"]
    with pytest.raises(ConfigError, match="--url"):
        parse_urls([" , "])
