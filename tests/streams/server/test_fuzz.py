"""Whatever a client sends, the server answers with a name or a close code of docs/protocol.md, and others go on."""

import asyncio

import aiohttp
import orjson
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

NAMES = {"bad_frame", "bad_request", "bad_cursor", "bad_event", "frame_too_large", "too_fast"}
CLOSES = {1002, 1007, 1009}

ids = st.one_of(st.integers(-5, 2**65), st.integers(0, 2**64).map(str), st.text(max_size=3), st.none(), st.floats())
json = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
near_frames = st.fixed_dictionaries(
    {"type": st.sampled_from(["feed", "engage", "subscribe", "unsubscribe", "ping", "auth", "hello", "Feed"])},
    optional={
        "request_id": ids,
        "product": st.sampled_from(["for_you", "following", "x", 1]),
        "limit": st.integers(-(2**63), 2**63) | json,
        "cursor": st.text(max_size=5) | json,
        "exclude": st.lists(ids, max_size=3) | json,
        "seen": st.lists(ids, max_size=3) | json,
        "explain": st.sampled_from(["none", "entries", "all", "x"]),
        "seed": ids,
        "time_ms": st.integers(-(2**63), 2**64 - 1),
        "interval_ms": st.integers(-5, 2**63) | json,
        "token": json,
        "event": st.fixed_dictionaries(
            {"type": st.sampled_from(["favorite", "follow", "create", "mute_word", "dwell", "served", ""])},
            optional={
                "tweet_id": ids,
                "target_id": ids,
                "id": ids,
                "author_id": ids,
                "value": json,
                "word": json,
                "user_id": ids,
            },
        )
        | json,
        "unknown": json,
    },
)


def dumps(value):
    # The standard library writes what orjson refuses: NaN, integers of any size, lone surrogates.
    import json as standard

    return standard.dumps(value).encode()


text_frames = st.one_of(
    near_frames.map(dumps),
    json.map(dumps),
    st.text(max_size=50).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.binary(max_size=50),
    st.tuples(near_frames.map(dumps), st.integers(0, 60), st.binary(max_size=3)).map(
        lambda t: t[0][: t[1]] + t[2] + t[0][t[1] :]
    ),
)
frames = st.tuples(
    st.sampled_from([aiohttp.WSMsgType.TEXT] * 8 + [aiohttp.WSMsgType.BINARY, aiohttp.WSMsgType.PONG]), text_frames
)


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(sent=st.lists(frames, min_size=1, max_size=6))
def test_any_frames(open_sites, sent):
    """One loop and server an example: what one frame leaves behind must not help the next."""
    asyncio.run(conversation(open_sites, sent))


async def conversation(open_sites, sent):
    async with open_sites() as start:
        site = await start(frame_bytes_max=4096)
        async with site.socket("?viewer=43") as other, site.socket() as socket:
            for kind, payload in sent:
                if kind is aiohttp.WSMsgType.PONG:
                    payload = payload[:125]
                if socket.ws.closed:
                    break
                await socket.ws._writer.send_frame(payload, kind)
            await answers(socket)
            assert (await other.ask(type="feed"))["type"] == "feed"
        assert site.metric("errors_sent_total", way="websocket", error="internal") == 0
        assert site.server._app[context_key(site)].connections is not None


async def answers(socket):
    """Everything up to the answer to a last, good frame, or the close."""
    await socket.ws.ping()
    try:
        await socket.send(type="feed", request_id="18446744073709551615", limit=1, seed="1", explain="entries")
    except ConnectionError:
        return
    while True:
        message = await socket.ws.receive(5)
        if message.type is not aiohttp.WSMsgType.TEXT:
            assert socket.ws.close_code in CLOSES
            return
        frame = orjson.loads(message.data)
        if frame["type"] == "error":
            assert frame["error"] in NAMES, frame
        else:
            assert frame["type"] in {"feed", "ack", "new_tweets", "heartbeat"}
            if frame["type"] == "feed" and frame["request_id"] == "18446744073709551615":
                return


def context_key(site):
    (key,) = site.server._app.keys()
    return key


lines = st.one_of(text_frames, st.sampled_from([b"", b"\r", b"\xef\xbb\xbf", b"[", b"[]", b"\x00", b"null"])).map(
    lambda line: line.replace(b"\n", b" ")
)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(sent=st.lists(lines, max_size=8), mark=st.booleans())
def test_any_bodies(open_sites, sent, mark):
    asyncio.run(bodies(open_sites, sent, mark))


async def bodies(open_sites, sent, mark):
    """Whatever a body holds: an answer for each line, everything accepted is in the log, and no defect."""
    async with open_sites() as start:
        site = await start()
        good = dumps(
            {"v": 1, "id": 5, "type": "favorite", "user_id": 1, "tweet_id": 2, "timestamp_ms": 1_760_000_000_000}
        )
        body = (b"\xef\xbb\xbf" if mark else b"") + b"\n".join([good, *sent, good])
        status, answer = await site.post(body)
        assert status == 200, answer
        numbers = [result["line"] for result in answer["results"]]
        assert numbers == [i for i, line in enumerate([good, *sent, good], 1) if line.strip()]
        assert answer["accepted"] + answer["rejected"] == len(numbers)
        assert answer["accepted"] == sum(len(records) for records in site.log.records.values())
        assert all(result.get("error") not in ("internal", "") for result in answer["results"])
        assert (answer["results"][0]["status"], answer["results"][-1]["status"]) == ("accepted", "duplicate")
        status, answer = await site.post(b"\n".join(sent) or b"\n")
        assert status in (200, 400), answer
        assert answer.get("error") in (None, "bad_request")
