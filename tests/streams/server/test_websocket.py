"""The conversation: hello, feeds, engagements, heartbeats, and every error after which the connection stays."""

import asyncio

import aiohttp
import orjson
import pytest

from engine.errors import BadCursorError, CapacityError, RequestError, SafetyError
from streams.events.packed import HEADER, ROW
from streams.events.served_records import decode_served
from streams.log.interface import LogUnavailableError, RecordTooLargeError


async def test_hello_comes_first_and_says_the_limits(site):
    async with site.socket(hello=False) as socket:
        hello = await socket.receive()
        assert socket.ws.protocol == "murmuration.v1.json"
    session = hello.pop("session")
    assert len(session) == 16
    assert hello == {
        "type": "hello",
        "viewer_id": "42",
        "version": 7,
        "heartbeat_s": 20.0,
        "limits": {
            "frame_bytes": 65_536,
            "limit": 100,
            "exclude": 1000,
            "seen": 500,
            "connections": 16,
            "events_per_s": 50,
            "events_burst": 1000,
        },
    }


async def test_a_client_without_a_subprotocol_gets_the_default_and_unknown_ones_are_refused(site):
    async with site.socket(protocols=()) as socket:
        assert (await socket.ask(type="feed"))["type"] == "feed"
    async with site.socket(protocols=("other.v9", "murmuration.v1.json")) as socket:
        assert socket.ws.protocol == "murmuration.v1.json"
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with site.socket(protocols=("other.v9",)):
            pass
    assert refused.value.status == 400


@pytest.mark.parametrize(
    "query",
    [
        "",
        "?viewer=0",
        "?viewer=18446744073709551616",
        "?viewer=x",
        "?viewer=-1",
        "?viewer=42&v=1",
        "?viewer=1&viewer=2",
    ],
)
async def test_a_bad_query_is_refused_before_the_upgrade(site, query):
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with site.socket(query):
            pass
    assert refused.value.status == 400
    status, body = await site.get("/v1/feed" + query)
    assert (status, body["error"]) == (400, "bad_request")


async def test_a_plain_get_is_told_to_upgrade(site):
    status, body = await site.get("/v1/feed?viewer=42")
    assert (status, body["error"]) == (400, "bad_request")
    assert "upgrade" in body["message"]


async def test_compression_is_not_negotiated(site):
    async with site.socket(compress=15) as socket:
        assert not socket.ws.compress


async def test_a_feed_request_reaches_the_engine_whole(site):
    async with site.socket("?viewer=18446744073709551615") as socket:
        feed = await socket.ask(
            type="feed",
            request_id="18446744073709551615",
            product="following",
            limit=2,
            cursor="c",
            exclude=["102", 7],
            explain="all",
            seed="0",
            time_ms=site.service.time_ms - 5,
        )
    request = site.service.requests[0]
    assert (request.viewer_id, request.request_id, request.seed) == (2**64 - 1, 2**64 - 1, 0)
    assert (request.product, request.limit, request.cursor, request.explain) == ("following", 2, "c", "all")
    assert (request.exclude, request.time_ms) == ((102, 7), site.service.time_ms - 5)
    assert feed["request_id"] == "18446744073709551615"
    assert [entry["tweet_id"] for entry in feed["entries"]] == ["101", "103"]
    assert feed["dropped"] == [{"tweet_id": "55", "filter": "seen", "sources": ["followees"]}]
    assert site.metric("feed_requests_total", product="following", way="websocket", result="ok") == 1
    assert site.metric("feed_request_seconds_count", product="following") == 1


async def test_defaults_are_filled_in_by_the_server(site):
    async with site.socket() as socket:
        first, second = await socket.ask(type="feed"), await socket.ask(type="feed")
    assert int(first["request_id"]) > 0
    assert first["request_id"] != second["request_id"]
    assert first["seed"] == second["seed"]
    assert first["time_ms"] == site.service.time_ms
    assert "dropped" not in first
    assert "why" not in first["entries"][0]
    assert site.service.requests[0].limit == 20


async def test_seen_tweets_become_one_batch_of_impressions_and_are_excluded(site):
    async with site.socket() as socket:
        feed = await socket.ask(type="feed", request_id="5", seen=["101", 103, "101"], exclude=["102", "103"])
    assert feed["entries"] == []
    assert site.service.requests[0].exclude == (102, 103, 101)
    (record,) = site.log.records["engagements"]
    rows = record_rows(record)
    assert rows["subject_id"].tolist() == [101, 103]
    assert set(rows["user_id"].tolist()) == {42}
    assert set(rows["kind"].tolist()) == {14}
    assert set(rows["context_id"].tolist()) == {5}
    assert record.key == b"42"


async def test_the_same_seen_frame_twice_has_the_same_event_ids(site):
    async with site.socket() as socket:
        for _ in range(2):
            await socket.ask(type="feed", request_id="5", seen=["101"])
        await socket.ask(type="feed", request_id="6", seen=["101"])
    first, again, other = (record_rows(record)["id"][0] for record in site.log.records["engagements"])
    assert first == again != other


async def test_engage_is_completed_appended_and_acknowledged(site):
    async with site.socket() as socket:
        ack = await socket.ask(type="engage", request_id="9", event={"type": "favorite", "tweet_id": "101", "id": "77"})
        assert ack == {
            "type": "ack",
            "request_id": "9",
            "event_id": "77",
            "topic": "engagements",
            "partition": 0,
            "offset": 0,
        }
        other = await socket.ask(type="engage", event={"type": "follow", "target_id": "8"})
    assert other["topic"] == "relationships"
    assert "request_id" not in other
    (event,) = site.log.events("engagements")
    assert str(event["user_id"]) == "42"
    assert event["timestamp_ms"] == site.service.time_ms
    assert str(site.log.events("relationships")[0]["id"]) == other["event_id"]
    assert site.metric("events_received_total", result="accepted") == 2


async def test_ping_and_the_clock_give_heartbeats(start):
    site = await start(heartbeat_s=0.05)
    async with site.socket() as socket:
        beats = [await socket.receive(heartbeats=True) for _ in range(2)]
        assert beats[0] == {"type": "heartbeat", "version": 7, "time_ms": site.service.time_ms}
    site = await start()
    async with site.socket() as socket:
        await socket.send(type="ping")
        assert (await socket.receive(heartbeats=True))["type"] == "heartbeat"


async def test_protocol_pings_are_answered(site):
    async with site.http.ws_connect(f"{site.url}/v1/feed?viewer=42", autoping=False) as ws:
        await ws.receive()
        await ws.ping(b"there?")
        message = await ws.receive(5)
        assert (message.type, message.data) == (aiohttp.WSMsgType.PONG, b"there?")


BAD_FRAMES = [
    "", "x", "[]", "5", '"a"', "null", "{}", '{"type":5}', '{"type":"nope"}', '{"type":"feed","x":1}',
    '{"type":"feed","limit":"5"}', '{"type":"feed","limit":1.5}', '{"type":"feed","limit":null', '{"type":"feed"',
    '{"type":"feed","exclude":[0]}', '{"type":"feed","exclude":["1x"]}', '{"type":"feed","exclude":[1.0]}',
    '{"type":"feed","seen":["-1"]}', '{"type":"feed","seen":[18446744073709551616]}', '{"type":"feed","seed":-1}',
    '{"type":"feed","request_id":0}', '{"type":"feed","request_id":true}', '{"type":"feed","request_id":" 1"}',
    '{"type":"feed","request_id":"٣"}', '{"type":"feed","request_id":' + "9" * 400 + "}",
    '{"type":"subscribe","cursor":"c"}', '{"type":"engage"}', '{"type":"auth","token":"t"}',
    '{"type":"feed","x":' + "[" * 5000 + "}",
]  # fmt: skip


async def test_bad_frames_are_named_and_the_connection_stays(site):
    async with site.socket() as socket:
        for text in BAD_FRAMES:
            await socket.ws.send_str(text)
            error = await socket.receive()
            assert (error["type"], error["error"]) == ("error", "bad_frame"), text
            await asyncio.sleep(0.021)
        await socket.ws.send_bytes(b'{"type":"feed"}')
        assert (await socket.receive())["error"] == "bad_frame"
        # How deep is too deep for the JSON reader depends on the Python version; then the event's own check refuses it.
        await socket.ws.send_str('{"type":"engage","event":' + "[" * 9000 + "]" * 9000 + "}")
        assert (await socket.receive())["error"] in ("bad_frame", "bad_event")
        assert (await socket.ask(type="feed"))["type"] == "feed"
    assert site.metric("errors_sent_total", way="websocket", error="internal") == 0


async def test_an_error_carries_the_request_it_answers(site):
    async with site.socket() as socket:
        error = await socket.ask(type="feed", request_id="12", wrong=1)
        assert (error["error"], error["request_id"]) == ("bad_frame", "12")
        assert "wrong" in error["message"]
        assert "request_id" not in await socket.ask(type="feed", request_id="x", wrong=1)


@pytest.mark.parametrize(
    "frame",
    [
        {"type": "feed", "limit": 0},
        {"type": "feed", "limit": 101},
        {"type": "feed", "limit": -5},
        {"type": "feed", "product": "best"},
        {"type": "feed", "explain": "some"},
        {"type": "feed", "exclude": list(range(1, 1002))},
        {"type": "feed", "seen": list(range(1, 502))},
        {"type": "feed", "time_ms": 0},
        {"type": "feed", "time_ms": 1_760_000_300_001},
        {"type": "subscribe", "interval_ms": 9},
        {"type": "subscribe", "interval_ms": 10**9},
        {"type": "subscribe", "product": "best"},
        {"type": "subscribe", "explain": "all"},
        {"type": "subscribe", "limit": 101},
    ],
)
async def test_what_is_out_of_bounds_is_a_bad_request(site, frame):
    async with site.socket() as socket:
        assert (await socket.ask(**frame))["error"] == "bad_request"
        assert (await socket.ask(type="feed"))["type"] == "feed"
    assert len(site.service.requests) == 1


async def test_the_bounds_themselves_are_allowed(site):
    async with site.socket() as socket:
        feed = await socket.ask(
            type="feed", limit=100, exclude=list(range(1, 1001)), seen=list(range(1, 501)), time_ms=1_760_000_300_000
        )
        assert feed["type"] == "feed"


@pytest.mark.parametrize(
    ("failure", "name"),
    [
        (BadCursorError("the cursor is of another viewer"), "bad_cursor"),
        (RequestError("no such thing"), "bad_request"),
        (SafetyError("blocks"), "safety_unavailable"),
        (CapacityError("full"), "overloaded"),
        (ZeroDivisionError("a secret"), "internal"),
    ],
)
async def test_what_the_engine_raises_is_named(site, failure, name):
    async with site.socket() as socket:
        site.service.fail = failure
        error = await socket.ask(type="feed", request_id="3")
        assert (error["error"], error["request_id"]) == (name, "3")
        assert "secret" not in error["message"]
        site.service.fail = None
        assert (await socket.ask(type="feed"))["type"] == "feed"
    assert site.metric("feed_requests_total", product="for_you", way="websocket", result=name) == 1


async def test_long_cursors_are_taken_by_both_ways_and_endless_ones_by_none(site):
    async with site.socket() as socket:
        assert (await socket.ask(type="feed", cursor="c" * 32_768))["type"] == "feed"
        assert (await socket.ask(type="feed", cursor="c" * 32_769))["error"] == "bad_cursor"
    assert (await site.get("/v1/users/42/feed?cursor=" + "c" * 32_768))[0] == 200
    assert (await site.get("/v1/users/42/feed?cursor=" + "c" * 32_769))[1]["error"] == "bad_cursor"


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ({"type": "favorite"}, "missing_field"),
        ({"type": "like", "tweet_id": "1"}, "unknown_type"),
        ({"type": "favorite", "tweet_id": "1", "x": 1}, "unknown_field"),
        ({"type": "favorite", "tweet_id": "1", "user_id": "8"}, "unknown_field"),
        ({"type": "favorite", "tweet_id": "1", "timestamp_ms": 5}, "unknown_field"),
        ({"type": "favorite", "tweet_id": "1", "v": 1}, "unknown_field"),
        ({"type": "favorite", "tweet_id": "0"}, "id_out_of_range"),
        ({"type": "favorite", "tweet_id": 1.5}, "wrong_type"),
        ({"type": "favorite", "tweet_id": "1", "id": 0}, "id_out_of_range"),
        ({"type": "favorite", "tweet_id": "1", "id": [1]}, "wrong_type"),
        ({"type": "follow", "target_id": "42"}, "self_target"),
        ([1, 2], "foreign_format"),
        (5, "wrong_type"),
    ],
)
async def test_an_engagement_that_would_be_a_dead_letter_is_refused_with_its_reason(site, event, reason):
    async with site.socket() as socket:
        error = await socket.ask(type="engage", request_id="4", event=event)
        assert (error["error"], error["request_id"]) == ("bad_event", "4")
        assert error["message"].startswith(reason)
    assert not site.log.records
    assert site.metric("events_received_total", result=reason) == 1


async def test_tweets_cannot_be_written_by_engaging(site):
    async with site.socket() as socket:
        for event in ({"type": "delete", "tweet_id": "1", "author_id": "42"}, {"type": "user", "created_ms": 1}):
            assert (await socket.ask(type="engage", event=event))["error"] == "bad_event"
    assert not site.log.records


async def test_a_log_that_does_not_acknowledge_is_named(site):
    async with site.socket() as socket:
        site.log.fail = LogUnavailableError("broker at 10.0.0.1 away")
        error = await socket.ask(type="engage", request_id="1", event={"type": "favorite", "tweet_id": "1"})
        assert (error["error"], error["request_id"]) == ("log_unavailable", "1")
        assert "10.0.0.1" not in error["message"]
        assert (await socket.ask(type="feed", seen=["1"]))["error"] == "log_unavailable"
        assert (await socket.ask(type="feed"))["type"] == "feed"
        site.log.fail = RecordTooLargeError("too large")
        assert (await socket.ask(type="engage", event={"type": "favorite", "tweet_id": "1"}))["error"] == "bad_event"


async def test_not_ready_until_caught_up_once(site):
    site.service.is_ready = False
    async with site.socket() as socket:
        error = await socket.ask(type="feed")
        assert (error["error"], error["message"]) == ("not_ready", "12 records behind")
        assert (await socket.ask(type="subscribe"))["error"] == "not_ready"
        site.service.is_ready = True
        assert (await socket.ask(type="feed"))["type"] == "feed"
        site.service.is_ready = False
        assert (await socket.ask(type="feed"))["type"] == "feed"


async def test_too_fast_is_named_and_passes(start):
    now_s = 100.0
    site = await start(clock=lambda: now_s, requests_per_s_max=3)
    async with site.socket() as socket:
        answers = [await socket.ask(type="feed", request_id=i) for i in (1, 2, 3, 4)]
        assert [a["type"] for a in answers] == ["feed", "feed", "feed", "error"]
        assert (answers[3]["error"], answers[3]["request_id"]) == ("too_fast", "4")
        now_s += 0.34
        assert (await socket.ask(type="feed"))["type"] == "feed"
        assert (await socket.ask(type="feed"))["error"] == "too_fast"
    async with site.socket() as socket:
        assert (await socket.ask(type="feed"))["type"] == "feed"
    assert site.metric("rate_limited_total", way="websocket") == 2


async def test_few_requests_run_at_once_and_the_rest_is_bounded(site):
    site.service.gate = asyncio.Event()
    async with site.socket() as socket:
        for i in range(33):
            await socket.send(type="feed", request_id=i + 1)
        error = await socket.receive()
        assert (error["error"], error["request_id"]) == ("overloaded", "33")
        assert site.service.running_max == 4
        site.service.gate.set()
        answered = {(await socket.receive())["request_id"] for _ in range(32)}
    assert answered == {str(i + 1) for i in range(32)}
    assert site.service.running_max == 4


async def test_what_was_served_is_logged_behind_the_answer(site):
    site.log.hold = asyncio.Event()
    async with site.socket() as socket:
        feed = await socket.ask(type="feed", request_id="21")
        assert feed["type"] == "feed"
        assert "served" not in site.log.records
        site.log.hold.set()
        await site.until(lambda: "served" in site.log.records)
    (record,) = site.log.records["served"]
    (served,) = decode_served(record.format, record.value)
    assert [entry.tweet_id for entry in served.entries] == ["101", "102", "103"]
    assert (served.request, (served.history, served.incarnation)) == (site.service.requests[0], site.service.origin)
    assert record.key == b"42"


async def test_text_that_is_not_utf8_ends_the_connection_by_the_standard(site):
    async with site.socket() as socket, site.socket("?viewer=43") as other:
        await socket.ws._writer.send_frame(b"\xff\xfe", aiohttp.WSMsgType.TEXT)
        assert await socket.close_code() == 1007
        assert (await other.ask(type="feed"))["type"] == "feed"


async def test_unicode_comes_back_unharmed(site):
    site.service.text = 'ß 漢字 🐦 "\\ \u2028'
    async with site.socket() as socket:
        assert (await socket.ask(type="feed"))["entries"][0]["text"] == site.service.text


async def test_feeds_are_the_same_bytes_over_websocket_and_http(site):
    asked = {"request_id": "5", "seed": "9", "explain": "all"}
    async with site.socket() as socket:
        over_socket = await socket.ask(type="feed", **asked)
    _, over_http = await site.get("/v1/users/42/feed?seed=9&explain=all")
    over_http["request_id"] = "5"
    assert orjson.dumps(over_http) == orjson.dumps(over_socket)


def record_rows(record):
    import numpy as np

    return np.frombuffer(record.value, ROW, offset=HEADER.size)
