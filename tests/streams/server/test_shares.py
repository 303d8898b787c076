"""Fair shares: a viewer's events over websocket and HTTP together, and bodies in progress."""

import asyncio
import contextlib

import aiohttp
import orjson
import pytest

from config.serving import ServingConfig
from engine.errors import ConfigError
from streams.server.auth import check_serving
from streams.server.limits import Slots, TokenBucket
from tests.streams.server.conftest import SECRET

T0 = 1_760_000_000_000


def event(number, viewer="42"):
    fields = {"v": 1, "id": number, "type": "favorite", "user_id": viewer, "tweet_id": 2, "timestamp_ms": T0}
    return orjson.dumps(fields)


def lines(count, first=1, viewer="42"):
    return b"\n".join(event(number, viewer) for number in range(first, first + count))


class Clock:
    now_s = 100.0

    def __call__(self):
        return self.now_s


@pytest.fixture
async def token_site(start):
    """A server in token mode: ten events a second and ten at once, on a clock of its own."""
    clock = Clock()
    site = await start(
        clock,
        auth="token",
        token_key=SECRET,
        events_per_s_max=10,
        events_burst=10,
        seen_max=10,
        requests_per_s_max=1000,
    )
    site.clock = clock
    return site


def bearer(site, sub="42", **claims):
    return site.bearer(site.token(sub, **claims))


def engage(number):
    return {"type": "engage", "request_id": str(number), "event": {"type": "favorite", "tweet_id": "2"}}


async def test_events_are_counted_over_websocket_and_http_together(token_site):
    site = token_site
    async with site.socket("", headers=bearer(site)) as one, site.socket("", headers=bearer(site)) as two:
        for number in range(1, 4):
            assert (await one.ask(**engage(number)))["type"] == "ack"
            assert (await two.ask(**engage(number + 10)))["type"] == "ack"
        status, answer = await site.post(lines(6), headers=bearer(site))
        assert (status, answer["error"]) == (429, "rate_limited")
        assert (answer["accepted"], answer["rejected"], answer["line"]) == (4, 0, 5)
        assert 100 <= answer["retry_after_ms"] <= 202
        refused = await one.ask(**engage(99))
        assert (refused["error"], refused["request_id"]) == ("rate_limited", "99")
        assert 100 <= refused["retry_after_ms"] <= 102
        # Feeds go on, but not those that report what was seen.
        assert (await one.ask(type="feed"))["type"] == "feed"
        assert (await one.ask(type="feed", seen=["7"]))["error"] == "rate_limited"
        # The time that the refusal names is enough.
        site.clock.now_s += refused["retry_after_ms"] / 1000
        assert (await two.ask(**engage(100)))["type"] == "ack"
        assert (await two.ask(**engage(101)))["error"] == "rate_limited"
    assert len(site.log.records["engagements"]) == 11
    assert site.metric("events_received_total", result="rate_limited") == 2 + 1 + 1 + 1
    assert site.metric("errors_sent_total", way="websocket", error="rate_limited") == 3


async def test_a_refused_body_goes_on_at_the_line_that_the_refusal_names(token_site):
    site = token_site
    sent, first = lines(25).split(b"\n"), 1
    for _ in range(10):
        status, answer = await site.post(b"\n".join(sent[first - 1 :]), headers=bearer(site))
        if status == 200:
            break
        first += answer["line"] - 1
        site.clock.now_s += answer["retry_after_ms"] / 1000
    assert [e["id"] for e in site.log.events("engagements")] == list(range(1, 26))


async def test_every_row_counts_and_each_viewer_has_a_bucket_of_their_own(token_site):
    site = token_site
    # Events that are refused count as well: they cost as much to read.
    status, answer = await site.post(b"nonsense\n" * 12, headers=bearer(site))
    assert (status, answer["error"], answer["rejected"], answer["line"]) == (429, "rate_limited", 10, 11)
    async with site.socket("", headers=bearer(site, "43")) as other:
        frame = {"type": "feed", "seen": [str(i) for i in range(1, 9)]}
        assert (await other.ask(**frame))["type"] == "feed"
        refused = await other.ask(**frame)
        assert (refused["error"], refused["retry_after_ms"]) == ("rate_limited", 601)
        assert (await other.ask(**engage(1)))["type"] == "ack"
    status, answer = await site.post(lines(10, viewer="44"), headers=bearer(site, "44"))
    assert (status, answer["accepted"]) == (200, 10)


async def test_an_answer_429_says_when_to_come_again(token_site):
    site = token_site
    async with site.http.post(f"{site.url}/v1/events", data=lines(40), headers=bearer(site)) as response:
        assert response.status == 429
        assert int(response.headers["Retry-After"]) * 1000 >= orjson.loads(await response.read())["retry_after_ms"]


@pytest.mark.parametrize("sub", [None, "42"])
async def test_publishers_are_trusted_with_volume(token_site, sub):
    site = token_site
    headers = bearer(site, sub, scope="publish")
    status, answer = await site.post(lines(300), headers=headers)
    assert (status, answer["accepted"]) == (200, 300)
    if sub is not None:
        async with site.socket("", headers=headers) as socket:
            assert [(await socket.ask(**engage(n)))["type"] for n in range(1, 20)] == ["ack"] * 19


async def test_open_mode_is_trusted_with_volume(start):
    site = await start(events_per_s_max=1, events_burst=1, seen_max=1)
    _, answer = await site.post(lines(300))
    assert answer["accepted"] == 300
    async with site.socket() as socket:
        assert [(await socket.ask(**engage(n)))["type"] for n in range(1, 20)] == ["ack"] * 19


async def test_requests_of_a_token_are_counted_over_all_its_connections(start):
    clock = Clock()
    site = await start(clock, auth="token", token_key=SECRET, requests_per_s_max=5)
    async with site.socket("", headers=bearer(site)) as one, site.socket("", headers=bearer(site)) as two:
        asked = [(await socket.ask(type="feed"))["type"] for socket in (one, two, one, two)]
        status, _ = await site.get("/v1/users/42/feed", headers=bearer(site))
        assert asked == ["feed"] * 4
        assert status == 200
        refused = await two.ask(type="feed")
        assert (refused["error"], refused["retry_after_ms"]) == ("too_fast", 201)
        status, answer = await site.get("/v1/users/42/feed", headers=bearer(site))
        assert (status, answer["error"], answer["retry_after_ms"]) == (429, "too_fast", 201)
        async with site.socket("", headers=bearer(site, "43")) as other:
            assert (await other.ask(type="feed"))["type"] == "feed"


def test_a_burst_that_holds_no_whole_frame_is_refused_at_the_start():
    with pytest.raises(ConfigError, match=r"events_burst.*seen_max"):
        check_serving(ServingConfig(events_burst=499))


class SlowBody:
    """A body of events that is sent piece by piece; ``tasks`` are requests in progress."""

    def __init__(self, site):
        self.site = site
        self.tasks = []

    async def begin(self, headers):
        """Begin a body that never ends; returns its request."""

        async def pieces():
            yield b"\n"
            await asyncio.Event().wait()

        before = self.site.metric("bodies")
        task = asyncio.create_task(self.site.post(pieces(), headers=headers))
        self.tasks.append(task)
        await self.site.until(lambda: self.site.metric("bodies") > before or task.done())
        return task

    async def end(self):
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.site.until(lambda: self.site.metric("bodies") == 0)


@contextlib.asynccontextmanager
async def slow_bodies(site):
    bodies = SlowBody(site)
    try:
        yield bodies
    finally:
        await bodies.end()


async def test_bodies_of_a_viewer_and_of_an_address_are_limited(start):
    site = await start(auth="token", token_key=SECRET, bodies_max=5, bodies_per_viewer_max=2, bodies_per_address_max=4)
    async with slow_bodies(site) as bodies:
        for viewer in ("42", "42", "43", "43"):
            await bodies.begin(bearer(site, viewer))
        status, answer = await site.post(lines(1), headers=bearer(site))
        assert (status, answer["error"], answer["message"]) == (
            429,
            "too_many_bodies",
            "this viewer sends 2 bodies of events already",
        )
        status, answer = await site.post(lines(1, viewer="44"), headers=bearer(site, "44"))
        assert (status, answer["error"]) == (429, "too_many_bodies")
        assert "address" in answer["message"]
        # Publishers have slots of their own.
        status, answer = await site.post(lines(1), headers=bearer(site, None, scope="publish"))
        assert (status, answer["accepted"]) == (200, 1)
    status, answer = await site.post(lines(1), headers=bearer(site))
    assert (status, answer["accepted"]) == (200, 1)


async def test_without_a_limit_per_address_bodies_are_limited_in_all(start):
    site = await start(auth="token", token_key=SECRET, bodies_max=3, bodies_per_viewer_max=1, bodies_per_address_max=0)
    async with slow_bodies(site) as bodies:
        for viewer in ("1", "2", "3"):
            await bodies.begin(bearer(site, viewer))
        status, answer = await site.post(lines(1, viewer="4"), headers=bearer(site, "4"))
        assert (status, answer["error"]) == (503, "overloaded")


async def test_a_body_that_trickles_is_refused(start):
    site = await start(auth="token", token_key=SECRET, body_timeout_s=0.4, body_bytes_per_s_min=100)

    async def trickle():
        for number in range(1, 1000):
            yield event(number) + b"\n" if number == 1 else b"\n"
            await asyncio.sleep(0.02)

    with contextlib.suppress(aiohttp.ClientConnectionError):
        status, answer = await site.post(trickle(), headers=bearer(site))
        assert (status, answer["error"], answer["accepted"]) == (408, "request_timeout", 0)
    assert site.metric("errors_sent_total", way="http", error="request_timeout") == 1

    async def steady():
        for number in range(1, 41):
            yield event(number) + b"\n"
            await asyncio.sleep(0.02)

    status, answer = await site.post(steady(), headers=bearer(site))
    assert (status, answer["accepted"]) == (200, 40)


def test_a_bucket_gives_what_it_has_and_says_when_it_has_more():
    now_s = 0.0
    bucket = TokenBucket(rate_per_s=10, burst=5, clock=lambda: now_s)
    assert bucket.take_up_to(3) == 3
    assert not bucket.take(3)
    assert bucket.wait_s(3) == pytest.approx(0.1)
    assert bucket.take_up_to(9) == 2
    assert bucket.wait_s(1000) == pytest.approx(0.5)
    now_s = 0.1
    assert bucket.take_up_to(9) == 1


def test_slots_are_free_again_after_any_end():
    slots = Slots(2)
    with contextlib.suppress(RuntimeError), slots.hold("a", "b"):
        assert (slots.of("a"), slots.of("b"), slots.full) == (1, 1, False)
        with slots.hold("a"):
            assert (slots.of("a"), slots.full) == (2, True)
        raise RuntimeError
    assert (slots.of("a"), slots.of("b"), slots.full) == (0, 0, False)
