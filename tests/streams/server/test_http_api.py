"""The HTTP calls: answers, errors by name and status, health, metrics, configuration, the page."""

import asyncio
import socket as sockets

import orjson
import pytest

from engine.errors import BadCursorError, CapacityError, ConfigError, RequestError, SafetyError
from streams.server import static


async def test_a_feed(site):
    status, feed = await site.get(
        "/v1/users/18446744073709551615/feed?product=following&limit=2&cursor=c&explain=entries&seed=3"
        "&time_ms=1760000000000&exclude=101,7"
    )
    assert status == 200
    assert [entry["tweet_id"] for entry in feed["entries"]] == ["102", "103"]
    request = site.service.requests[0]
    assert (request.product, request.limit, request.cursor, request.explain) == ("following", 2, "c", "entries")
    assert (request.seed, request.time_ms, request.exclude) == (3, 1_760_000_000_000, (101, 7))
    await site.until(lambda: "served" in site.log.records)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/users/0/feed", "/v1/users/x/feed", "/v1/users/18446744073709551616/feed", "/v1/users/1/feed?limit=0",
        "/v1/users/1/feed?limit=x", "/v1/users/1/feed?limit=1.5", "/v1/users/1/feed?limit=" + "9" * 30,
        "/v1/users/1/feed?product=x", "/v1/users/1/feed?explain=x", "/v1/users/1/feed?exclude=1,x",
        "/v1/users/1/feed?seed=-1", "/v1/users/1/feed?time_ms=0", "/v1/users/1/feed?nope=1",
        "/v1/users/1/feed?limit=1&limit=2", "/v1/users?limit=0", "/v1/users?limit=1001", "/v1/users?x=1",
        "/v1/users/1/feed?exclude=" + ",".join(["1"] * 1001), "/v1/users/%D9%A3/feed",
    ],
)  # fmt: skip
async def test_bad_requests_are_named(site, path):
    status, body = await site.get(path)
    assert (status, body["error"]) == (400, "bad_request"), body
    assert not site.service.requests


@pytest.mark.parametrize(
    ("failure", "status", "name"),
    [
        (BadCursorError("no"), 400, "bad_cursor"),
        (RequestError("no"), 400, "bad_request"),
        (SafetyError("no"), 503, "safety_unavailable"),
        (CapacityError("no"), 503, "overloaded"),
        (RuntimeError("a secret"), 500, "internal"),
    ],
)
async def test_what_the_engine_raises_has_a_status(site, failure, status, name):
    site.service.fail = failure
    got, body = await site.get("/v1/users/42/feed")
    assert (got, body["error"]) == (status, name)
    assert "secret" not in body["message"]
    assert site.metric("errors_sent_total", way="http", error=name) == 1


async def test_not_ready_and_too_fast(start):
    now_s = 5.0
    site = await start(clock=lambda: now_s, requests_per_s_max=2)
    site.service.is_ready = False
    assert (await site.get("/v1/users/42/feed"))[0] == 503
    site.service.is_ready = True
    assert (await site.get("/v1/users/42/feed"))[0] == 200
    status, body = await site.get("/v1/users/42/feed")
    assert (status, body["error"]) == (429, "too_fast")
    assert (await site.get("/v1/users/43/feed"))[0] == 200
    now_s += 0.5
    assert (await site.get("/v1/users/42/feed"))[0] == 200
    assert site.metric("rate_limited_total", way="http") == 1


async def test_models_say_what_is_in_force(site):
    assert await site.get("/v1/models") == (
        200,
        [
            {
                "model": "reputation",
                "version": "18446744073709551615",
                "size_bytes": 34,
                "sha256": "ab" * 32,
                "created_ms": 1_760_000_000_000,
                "committed_ms": 1_760_000_000_005,
                "evaluation": {"residual": 0.5},
            }
        ],
    )
    assert (await site.get("/v1/models?x=1"))[0] == 400


async def test_aggregates_of_an_author(site):
    assert await site.get("/v1/users/18446744073709551615/aggregates") == (
        200,
        {
            "user_id": "18446744073709551615",
            "time_ms": 1_760_000_000_000,
            "half_life_ms": {"short": 1_800_000, "long": 86_400_000},
            "short": {"favorite": 1.5, "report": 0.0},
            "long": {"favorite": 2.5},
            "version": 7,
        },
    )
    assert (await site.get("/v1/users/0/aggregates"))[0] == 400
    assert (await site.get("/v1/users/1/aggregates?x=1"))[0] == 400


async def test_viewers(site):
    status, viewers = await site.get("/v1/users?limit=2")
    assert (status, viewers[0]) == (200, {"user_id": "18446744073709551615", "followees": 3, "engagements": 9})
    assert len(viewers) == 2
    assert len((await site.get("/v1/users"))[1]) == 50


async def test_health_and_readiness(site):
    assert (await site.get("/healthz"))[0] == 200
    assert await site.get("/readyz") == (
        200,
        {"ready": True, "reason": "caught up", "version": 7, "lag_records": {"tweets-0": 12}},
    )
    site.service.is_ready = False
    status, body = await site.get("/readyz")
    assert (status, body["reason"]) == (503, "12 records behind")
    site.service.is_alive = False
    assert (await site.get("/healthz"))[0] == 503


async def test_a_background_task_that_dies_is_unhealthy_and_reported(site, monkeypatch):
    def boom(timeout_s):
        raise ZeroDivisionError

    monkeypatch.setattr(site.service, "wait_concern", boom)
    site.service.change()
    with pytest.raises(ExceptionGroup):
        await asyncio.wait_for(site.server.wait_failed(), 60)
    status, body = await site.get("/healthz")
    assert (status, body["reason"]) == (503, "stopped: pushes")


async def test_metrics_have_no_ids_and_base_units(site):
    async with site.socket("?viewer=987654321") as socket:
        await socket.ask(type="feed")
        async with site.http.get(site.url + "/metrics") as response:
            text = await response.text()
            assert response.headers["Content-Type"].startswith("text/plain")
    assert "murmuration_connections 1.0" in text
    assert 'murmuration_feed_request_seconds_bucket{le="0.0005",product="for_you"}' in text
    assert "murmuration_sent_bytes_total" in text
    assert "987654321" not in text


async def test_the_configuration_is_shown_as_handed_in(site):
    status, body = await site.get("/config")
    assert (status, body["config"]["serving"]["token_key"]) == (200, "***")


@pytest.mark.parametrize(
    ("method", "path", "status", "name"),
    [
        ("GET", "/nothing", 404, "not_found"),
        ("GET", "/v2/feed", 404, "not_found"),
        ("GET", "/../app.py", 404, "not_found"),
        ("GET", "/%2e%2e%2fapp.py", 404, "not_found"),
        ("POST", "/healthz", 405, "method_not_allowed"),
        ("GET", "/v1/events", 405, "method_not_allowed"),
        ("PUT", "/v1/events", 405, "method_not_allowed"),
    ],
)
async def test_what_is_not_there_is_named(site, method, path, status, name):
    async with site.http.request(method, site.url + path) as response:
        assert response.status == status
        assert orjson.loads(await response.read())["error"] == name


async def test_the_page_has_a_strict_policy(start, tmp_path, monkeypatch):
    web = tmp_path / "web"
    web.mkdir()
    (web / "index.html").write_text("<!doctype html>")
    (web / "app.js").write_text("1")
    (web / "secret.key").write_text("1")
    monkeypatch.setattr(static, "files", lambda package: tmp_path)
    site = await start()
    async with site.http.get(site.url + "/") as response:
        assert await response.text() == "<!doctype html>"
        assert response.content_type == "text/html"
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    async with site.http.get(site.url + "/app.js") as response:
        assert response.content_type == "text/javascript"
        etag = response.headers["ETag"]
    async with site.http.get(site.url + "/app.js", headers={"If-None-Match": etag}) as response:
        assert response.status == 304
    assert (await site.get("/secret.key"))[0] == 404


async def test_a_busy_port_is_one_clear_line(start):
    with sockets.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"^serving.port: 127.0.0.1:{port} is in use"):
            await start(port=port)


async def test_an_address_of_another_machine_is_one_clear_line(start):
    with pytest.raises(ConfigError, match=r"^serving.host: cannot listen on 203.0.113.7:0: "):
        await start(host="203.0.113.7", auth="token", token_key="x" * 32)


async def test_listening_on_ipv6(start):
    try:
        site = await start(host="::1")
    except ConfigError:
        pytest.skip("this machine has no IPv6 loopback")
    assert site.url.startswith("http://[::1]:")
    async with site.socket() as socket:
        assert (await socket.ask(type="feed"))["type"] == "feed"


@pytest.mark.parametrize(
    "path", ["/v1/users/42/feed?time_ms=", "/v1/graph/salsa?user=1&time_ms=", "/v1/graph/similar?tweet=1&time_ms="]
)
@pytest.mark.parametrize(
    ("time", "unit"), [("1760000000", "seconds"), ("1760000000000000", "microseconds"), ("1760000000000000000", "nano")]
)
async def test_a_requests_time_in_another_unit_is_refused_by_name(site, path, time, unit):
    status, answer = await site.get(path + time)
    assert (status, answer["error"]) == (400, "bad_request")
    assert unit in answer["message"]


async def test_feeds_go_on_when_the_log_goes_away_before_anybody_asked(site):
    site.service.is_ready = False
    assert (await site.get("/v1/users/42/feed"))[0] == 503
    site.service.caught_up = True
    assert (await site.get("/readyz"))[0] == 503
    assert (await site.get("/v1/users/42/feed"))[0] == 200
