"""POST /v1/events: lines and arrays, results by line, limits, faults, and memory that stays bounded."""

import asyncio
import gzip
import hashlib
import io
import tracemalloc

import orjson
import pytest

from engine.errors import CapacityError
from streams.events.identity import identities
from streams.events.publish import classify
from streams.log.interface import LogUnavailableError
from streams.server import events_body, intake
from streams.server.context import CONTEXT


def event(number, **fields):
    made = {
        "v": 1,
        "id": str(number),
        "type": "favorite",
        "user_id": "1",
        "tweet_id": "2",
        "timestamp_ms": 1_760_000_000_000,
    }
    return orjson.dumps(made | fields)


async def test_lines_have_one_result_each_in_order(site):
    body = b"\n".join(
        [
            event(1),
            b"",
            event(2, type="nope"),
            b"  " + event(3) + b"\r",
            b"not json",
            b'{"v":1,"id":4,"type":"follow","user_id":1,"target_id":5,"timestamp_ms":1760000000000}',
            b"\xff\x00",
            event(5, timestamp_ms=7_000_000_000_000),
        ]
    )
    status, answer = await site.post(body)
    assert (status, answer["accepted"], answer["rejected"]) == (200, 3, 4)
    results = {result["line"]: result for result in answer["results"]}
    assert list(results) == [1, 3, 4, 5, 6, 7, 8]
    assert results[1] == {"line": 1, "status": "accepted", "topic": "engagements", "partition": 0, "offset": 0}
    assert results[3]["error"] == "unknown_type"
    assert results[4]["offset"] == 1
    assert (results[5]["status"], results[5]["error"]) == ("rejected", "malformed_json")
    assert results[6]["topic"] == "relationships"
    assert results[7]["error"] == "not_utf8"
    assert results[8]["error"] == "timestamp_in_future"
    assert [e["id"] for e in site.log.events("engagements")] == ["1", "3"]
    assert site.metric("events_received_total", result="accepted") == 3
    assert site.metric("events_received_total", result="unknown_type") == 1


async def test_what_events_name_is_in_the_log_before_them(site):
    create = b'{"v":1,"id":9,"type":"create","tweet_id":2,"author_id":1,"timestamp_ms":1760000000000,"text":"t"}'
    await site.post(event(1) + b"\n" + create)
    assert list(site.log.records) == ["tweets", "engagements"]


async def test_the_engines_own_topics_are_not_written_from_outside(site):
    own = {
        "models": {
            "type": "model_part",
            "model": "m",
            "version": "1",
            "part": 0,
            "sha256": hashlib.sha256(b"\0").hexdigest(),
            "content": "AA==",
        },
        "notifications": {
            "type": "notification",
            "user_id": 1,
            "tweet_id": 2,
            "author_id": 3,
            "cause": "likes",
            "actor_ids": [4],
        },
        "served": {
            "type": "served_feed",
            "user_id": 1,
            "request": {"viewer_id": 1, "request_id": 2, "time_ms": 1, "seed": 1},
            "version": 1,
            "config_hash": "c",
            "model_version": "m",
            "digest": "0" * 64,
            "entries": [],
        },
    }
    for number, (topic, fields) in enumerate(own.items(), 1):
        made = {"v": 1, "id": number, "timestamp_ms": 1_760_000_000_000} | fields
        _, answer = await site.post(orjson.dumps(made))
        assert [r["error"] for r in answer["results"]] == ["wrong_topic"]
        assert topic not in site.log.records


async def test_an_array(site):
    body = b'\n [ %s , {"a":[1,2]},\n %s ] ' % (event(1), event(2))
    status, answer = await site.post(body)
    assert (status, answer["accepted"], answer["rejected"]) == (200, 2, 1)
    assert [result["line"] for result in answer["results"]] == [1, 2, 3]


@pytest.mark.parametrize("body", [b"[", b"[1,2", b"[}", b"[]x", b"[" * 20_000])
async def test_an_array_that_is_none(site, body):
    status, answer = await site.post(body)
    assert (status, answer["error"]) == (400, "bad_request")


@pytest.mark.parametrize("body", [b"", b"\n\n", b"[]", b" \t\r\n"])
async def test_nothing_is_accepted_of_nothing(site, body):
    assert await site.post(body) == (200, {"accepted": 0, "rejected": 0, "duplicates": 0, "results": []})


async def pieces(count, size, data=b"x"):
    for _ in range(count):
        yield data * size


async def test_a_body_over_the_limit_is_refused_when_declared(start):
    site = await start(body_bytes_max=1000)
    status, answer = await site.post(b"\n" * 1001)
    assert (status, answer["error"]) == (413, "body_too_large")
    assert (await site.post(b"\n" * 1000))[0] == 200


async def test_a_hundred_megabytes_are_refused_without_being_held(site):
    line = event(1).ljust(4095) + b"\n"
    tracemalloc.start()
    try:
        status, answer = await site.post(pieces(1600, 16, line))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (status, answer["error"]) == (413, "body_too_large")
    # What fitted under the limit was taken; the fake log keeps its canonical events, which is most of the peak.
    assert 3000 < answer["accepted"] == len(site.log.records["engagements"]) <= 4096
    assert peak < 12_000_000
    assert (await site.get("/healthz"))[0] == 200


async def test_a_hundred_megabytes_without_a_newline(site):
    status, answer = await site.post(pieces(1600, 65_536))
    assert (status, answer["error"]) == (413, "body_too_large")


async def test_a_line_over_the_limit_is_one_rejected_line(site):
    long = b'{"v":1,"text":"' + b"x" * events_body.LINE_BYTES_MAX
    _, answer = await site.post(io.BytesIO(event(1) + b"\n" + long + b'"}\n' + event(2) + b"\n" + long))
    assert [r.get("error") for r in answer["results"]] == [None, "record_too_large", None, "record_too_large"]


async def test_too_many_lines(site, monkeypatch):
    monkeypatch.setattr(events_body, "LINES_MAX", 10)
    assert (await site.post(b"\n".join([event(i) for i in range(1, 11)])))[0] == 200
    status, answer = await site.post(b"\n".join([event(i) for i in range(1, 12)]))
    assert (status, answer["error"]) == (413, "body_too_large")


async def test_results_take_memory_of_their_own_size_only(site):
    body = io.BytesIO(b"{}\n" * 10_000)
    tracemalloc.start()
    try:
        async with site.http.post(site.url + "/v1/events", data=body) as response:
            answer = await response.read()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert answer.startswith(b'{"accepted":0,"rejected":10000,')
    # The results, their copy on the way out and the client's own.
    assert peak < 4 * len(answer) + 3_000_000


async def test_an_array_over_its_own_limit(site, monkeypatch):
    monkeypatch.setattr(events_body, "ARRAY_BYTES_MAX", 1000)
    status, answer = await site.post(pieces(5, 65_536, b"["))
    assert (status, answer["error"]) == (413, "body_too_large")


async def test_a_record_the_log_refuses_is_one_rejected_line(site):
    site.log.record_bytes_max = 300
    body = [event(i, **({"request_id": "1" * 20, "id": "9" * 19} if i == 3 else {})) for i in range(1, 6)]
    site.log.record_bytes_max = min(map(len, body)) + 10
    _, answer = await site.post(b"\n".join(body))
    assert [r["line"] for r in answer["results"] if r["status"] == "rejected"] == [3]
    assert answer["results"][2]["error"] == "record_too_large"
    assert len(site.log.records["engagements"]) == 4


async def test_a_log_that_goes_away_in_the_middle(site, monkeypatch):
    monkeypatch.setattr(events_body, "CHUNK_EVENTS_MAX", 2)
    append = site.log.append

    async def append_twice(topic, records):
        if site.log.appends == 2:
            raise LogUnavailableError("away")
        return await append(topic, records)

    monkeypatch.setattr(site.log, "append", append_twice)
    status, answer = await site.post(b"\n".join([event(i) for i in range(1, 8)]))
    assert (status, answer["error"], answer["accepted"]) == (503, "log_unavailable", 4)


async def test_a_body_that_stands_still_is_given_up(site, monkeypatch):
    monkeypatch.setattr(events_body, "IDLE_S", 0.05)

    async def stalled():
        yield event(1) + b"\n"
        await asyncio.sleep(0.5)

    status, answer = await site.post(stalled())
    assert (status, answer["error"]) == (408, "request_timeout")


async def test_unknown_parameters_are_refused(site):
    assert (await site.post(event(1), "/v1/events?dry_run=1"))[0] == 400


async def test_bodies_at_once_are_bounded(site):
    site.log.hold = asyncio.Event()
    waiting = [asyncio.create_task(site.post(event(i))) for i in range(1, 17)]
    await site.until(lambda: site.metric("bodies") == 16)
    status, answer = await site.post(event(99))
    assert (status, answer["error"]) == (503, "overloaded")
    site.log.hold.set()
    assert {status for status, _ in await asyncio.gather(*waiting)} == {200}


def test_impression_ids_differ_and_are_never_none():
    ids = {intake.impression_id(v, r, t) for v in range(1, 9) for r in range(1, 9) for t in range(1, 9)}
    assert len(ids) == 512
    assert 0 not in ids


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
async def test_compressed_bodies_are_refused_and_never_unpacked(site, encoding):
    for body in (gzip.compress(b" " * 40_000_000, mtime=0), b"not compressed at all"):
        tracemalloc.start()
        try:
            status, answer = await site.post(body, headers={"Content-Encoding": encoding})
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert (status, answer["error"]) == (400, "bad_request")
        assert peak < 4_000_000
    assert (await site.post(event(1), headers={"Content-Encoding": "identity"}))[1]["accepted"] == 1


async def test_a_body_that_breaks_off_leaves_nothing_behind(site):
    _, writer = await asyncio.open_connection("127.0.0.1", site.server.port)
    head = b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"
    writer.write(head + event(1) + b"\n" + event(2))
    context = site.server._app[CONTEXT]
    await site.until(lambda: context.http_in_flight == 1)
    writer.transport.abort()
    await site.until(lambda: context.http_in_flight == 0)
    assert (await site.post(event(3)))[1]["accepted"] == 1


@pytest.mark.parametrize("array", [False, True])
async def test_a_byte_order_mark_before_body_and_lines_is_taken(site, array):
    mark = b"\xef\xbb\xbf"
    body = b"[" + event(1) + b"," + event(2) + b"]" if array else event(1) + b"\r\n" + mark + event(2) + b"\r\n\r\n"
    status, answer = await site.post(mark + body)
    assert (status, answer["accepted"], answer["rejected"]) == (200, 2, 0)
    assert [e["id"] for e in site.log.events("engagements")] == ["1", "2"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (event(1).decode().encode("utf-16"), "UTF-16"),
        (event(1).decode().encode("utf-16-be"), "UTF-16"),
        (event(1).decode().encode("utf-32"), "UTF-32"),
        (gzip.compress(event(1), mtime=0), "gzip"),
        (b"\x28\xb5\x2f\xfd" + bytes(20), "zstd"),
    ],
)
async def test_a_body_in_another_encoding_is_refused_with_its_name(site, body, words):
    status, answer = await site.post(body)
    assert (status, answer["error"]) == (400, "bad_request")
    assert words in answer["message"]


async def test_the_log_gets_the_documented_form_of_what_was_meant(site):
    written = event(1, author_id=None, type="Favorite", timestamp_ms="1760000000000")
    _, answer = await site.post(written)
    assert answer["accepted"] == 1
    assert site.log.events("engagements") == [orjson.loads(event(1))]


async def test_lines_in_a_foreign_format_say_what_it_looks_like(site):
    body = b"\n".join(
        [event(1, timestamp_ms=1_760_000_000), orjson.dumps({"specversion": "1.0", "source": "x"}), b"[1]"]
    )
    _, answer = await site.post(b"\n" + body)
    assert [result["error"] for result in answer["results"]] == [
        "timestamp_out_of_range",
        "foreign_format",
        "foreign_format",
    ]
    assert "looks like seconds" in answer["results"][0]["message"]
    assert "CloudEvents" in answer["results"][1]["message"]


async def test_a_repeated_event_is_said_to_be_a_duplicate(site):
    applied, _, canonical = classify(event(7))
    site.service.applied = set(identities(applied, [canonical]).as_tuples())
    # Applied before; new; repeated within the body; the same id of another kind, and about another tweet.
    kinds = [event(7), event(8), event(8), event(8, type="share"), event(8, tweet_id="3")]
    status, answer = await site.post(b"\n".join(kinds))
    assert [r["status"] for r in answer["results"]] == ["duplicate", "accepted", "duplicate", "accepted", "accepted"]
    assert (status, answer["accepted"], answer["duplicates"], answer["rejected"]) == (200, 5, 2, 0)
    # Sending everything again is safe, also before it is applied.
    _, again = await site.post(b"\n".join(kinds))
    assert {r["status"] for r in again["results"]} == {"duplicate"}
    assert site.metric("events_received_total", result="duplicate") == 7
    _, promoted = await site.post(
        b'{"v":1,"id":1,"type":"withdraw","tweet_id":2,"author_id":3,"timestamp_ms":1760000000000}\n' * 2
    )
    assert {r["status"] for r in promoted["results"]} == {"accepted"}


async def test_a_full_queue_of_the_engine_refuses_no_event(site, monkeypatch):
    async def full(events):
        raise CapacityError("full")

    monkeypatch.setattr(site.server._app[CONTEXT].intake, "_known", full)
    _, answer = await site.post(event(1) + b"\n" + event(1))
    assert [r["status"] for r in answer["results"]] == ["accepted", "duplicate"]


async def test_what_was_not_appended_is_no_duplicate_later(site):
    site.log.fail = LogUnavailableError("away")
    status, _ = await site.post(event(1))
    assert status == 503
    site.log.fail = None
    _, answer = await site.post(event(1))
    assert answer["results"][0]["status"] == "accepted"


async def test_the_events_that_are_remembered_are_bounded(site, monkeypatch):
    monkeypatch.setattr(intake, "RECENT_MAX", 3)
    await site.post(b"\n".join(event(i) for i in range(1, 6)))
    _, answer = await site.post(b"\n".join(event(i) for i in range(1, 6)))
    assert [r["status"] for r in answer["results"]] == ["accepted"] * 2 + ["duplicate"] * 3


async def test_an_engagement_that_is_sent_again_is_acknowledged_as_a_duplicate(site):
    async with site.socket() as socket:
        frame = {"type": "engage", "event": {"id": "5", "type": "favorite", "tweet_id": "2"}}
        first, second = await socket.ask(**frame), await socket.ask(**frame)
        assert "duplicate" not in first
        assert second["duplicate"] is True
        del frame["event"]["id"]
        assert "duplicate" not in await socket.ask(**frame)
        assert "duplicate" not in await socket.ask(**frame)
