"""What is no HTTP and no websocket frame is refused by name; the log says so without a byte of it, rarely."""

import asyncio
import contextlib
import itertools
import logging
import random

import orjson
import pytest
from aiohttp import WebSocketError, WSCloseCode
from aiohttp._websocket.reader import WebSocketDataQueue, WebSocketReader
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from streams.server.context import CONTEXT
from streams.server.malformed import LINES_BURST, MaskedFrames

PATIENCE_S = 60.0
SECRET = b"very-secret"
HOST = b"Host: 127.0.0.1\r\n"
GET = b"GET /healthz HTTP/1.1\r\n" + HOST
POST = b"POST /v1/events HTTP/1.1\r\n" + HOST
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
UPGRADE = (
    b"GET /v1/feed?viewer=1 HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)

MALFORMED = {
    "no HTTP": (b"\x00\x01" + SECRET + b"\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + SECRET, 400),
    "an unknown method": (b"FOO /?" + SECRET + b" HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "an unknown version": (b"GET / HTTP/9.9\r\n" + HOST + b"\r\n", 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "bare line feeds": (b"GET /healthz HTTP/1.1\nHost: x\n\n", 400),
    "a name with a space": (GET + b"Bad Name: " + SECRET + b"\r\n\r\n", 400),
    "a value with a zero": (GET + b"Cookie: " + SECRET + b"\x00\r\n\r\n", 400),
    "a folded value": (GET + b"Cookie: a\r\n " + SECRET + b"\r\n\r\n", 400),
    "a space before the colon": (GET + b"Cookie : " + SECRET + b"\r\n\r\n", 400),
    "no host": (b"GET /healthz HTTP/1.1\r\n\r\n", 400),
    "two hosts": (GET + HOST + b"\r\n", 400),
    "an address that is none": (b"GET http://[" + SECRET + b" HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a long address": (b"GET /" + SECRET * 20_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414),
    "a long header": (GET + b"Authorization: Bearer " + SECRET * 20_000 + b"\r\n\r\n", 431),
    "many headers": (GET + b"".join(b"X-%d: %b\r\n" % (n, SECRET) for n in range(2000)) + b"\r\n", 431),
    "a negative length": (POST + b"Content-Length: -1\r\n\r\n", 400),
    "a signed length": (POST + b"Content-Length: +5\r\n\r\n{}", 400),
    "two lengths": (POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400),
    "a list of lengths": (POST + b"Content-Length: 2, 2\r\n\r\n{}", 400),
    "a length too large": (POST + b"Content-Length: 99999999999999999999\r\n\r\n", 400),
    "length and chunks": (POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "an unknown encoding": (POST + b"Transfer-Encoding: " + SECRET + b"\r\n\r\n0\r\n\r\n", 400),
    "chunked, and more": (POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400),
    "a chunk without a size": (CHUNKED + SECRET + b"\r\n{}\r\n0\r\n\r\n", 400),
    "a chunk longer than its size": (CHUNKED + b"1\r\n" + SECRET + b"\r\n0\r\n\r\n", 400),
}
REFUSED = {
    "another method": (b"PUT /healthz HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n", 405, "method_not_allowed"),
    "a path above": (b"GET /../x HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n", 404, "not_found"),
    "a zero in the path": (b"GET /%00 HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n", 404, "not_found"),
    "an expectation": (GET + b"Expect: " + SECRET + b"\r\n\r\n", 417, "bad_request"),
    "no upgrade": (b"GET /v1/feed?viewer=1 HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n", 400, "bad_request"),
}


async def talk(site, *parts: bytes) -> bytes:
    """Say this, and hear everything until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", site.server.port)
    try:
        for part in parts:
            with contextlib.suppress(ConnectionError):
                writer.write(part)
                await writer.drain()
            await asyncio.sleep(0.01)
        async with asyncio.timeout(PATIENCE_S):
            return await reader.read()
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)


def answer(heard: bytes) -> tuple[int, str]:
    head, _, body = heard.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), orjson.loads(body)["error"]


@pytest.fixture
def logged(caplog):
    """What is logged, by structlog and otherwise, as one text."""
    with capture_logs() as lines, caplog.at_level(logging.DEBUG):
        yield lambda: f"{lines}{caplog.text}"


async def test_malformed_requests_are_named_and_logged_without_what_they_hold(site, logged):
    for name, (said, status) in MALFORMED.items():
        site.server._app[CONTEXT].tcp_guard.malformed._bucket._tokens = 1  # lines are limited: let this one through
        before = logged().count("malformed request")
        assert answer(await talk(site, said)) == (status, "bad_request"), name
        assert logged().count("malformed request") == before + 1, name
    for name, (said, status, error) in REFUSED.items():
        assert answer(await talk(site, said)) == (status, error), name
    assert SECRET.decode() not in logged()
    assert "Traceback" not in logged()
    assert "internal" not in logged()
    assert (await site.get("/healthz"))[0] == 200


async def test_a_body_that_breaks_in_the_middle_is_answered_at_once(site, logged):
    heard = await talk(site, CHUNKED + b"3\r\n{}\n\r\n", SECRET + b"\r\n\r\n")
    assert answer(heard) == (400, "bad_request")
    assert logged().count("malformed request") == 1
    assert heard.count(b"HTTP/1.") == 1
    assert SECRET.decode() not in logged()


async def test_many_malformed_requests_are_few_lines(site, logged):
    for _ in range(LINES_BURST * 4):
        await talk(site, b"nothing\r\n\r\n")
    assert LINES_BURST <= logged().count("malformed request") < LINES_BURST * 4


def frame(payload: bytes, *, mask: bool = True, opcode: int = 1, fin: bool = True) -> bytes:
    size = len(payload)
    if size < 126:
        length = bytes([size])
    else:
        length = b"\x7e" + size.to_bytes(2, "big") if size < 1 << 16 else b"\x7f" + size.to_bytes(8, "big")
    key = b"\x01\x02\x03\x04"
    head = bytes([opcode | (0x80 if fin else 0), length[0] | (0x80 if mask else 0)]) + length[1:]
    return head + (key + bytes(b ^ key[i % 4] for i, b in enumerate(payload)) if mask else payload)


@pytest.mark.parametrize("with_the_head", [True, False])
@pytest.mark.parametrize("bad", [frame(b"{}", mask=False), frame(b"", mask=False, opcode=9), b"GET / HTTP/1.1\r\n"])
async def test_a_frame_without_a_mask_closes_with_1002(site, logged, with_the_head, bad):
    good = frame(b'{"type":"ping"}')
    said = (UPGRADE + good + bad,) if with_the_head else (UPGRADE, good + bad)
    heard = await talk(site, *said)
    assert b"101 Switching" in heard
    assert heard.endswith(b"\x88\x02\x03\xea")
    assert "Traceback" not in logged()


async def received(chunks: list[bytes], *, guarded: bool) -> tuple[list[object], object]:
    """What aiohttp's reader makes of these bytes, and its error."""

    class Quiet:
        _reading_paused = False

        def pause_reading(self) -> None: ...

    queue = WebSocketDataQueue(Quiet(), 2**20, loop=asyncio.get_running_loop())
    inner = WebSocketReader(queue, 2**20, compress=False, decode_text=True)
    parser = MaskedFrames(inner) if guarded else inner
    for chunk in chunks:
        parser.feed_data(chunk)
    messages: list[object] = []
    try:
        while True:
            async with asyncio.timeout(0.001):
                messages.append((await queue.read()).data)
    except TimeoutError:
        return messages, None
    except WebSocketError as error:
        return messages, error.code


sizes = st.lists(st.sampled_from([0, 1, 125, 126, 70_000]), max_size=4)


@given(sizes, st.none() | st.integers(0, 4), st.integers(0, 2**32))
def test_frames_are_read_as_they_come_up_to_one_without_a_mask(sent, bad_at, seed):
    texts = [b"a" * size for size in sent]
    frames = [frame(text) for text in texts]
    if bad_at is not None:
        frames.insert(bad_at, frame(b"x" * 200, mask=False))
    data, draw = b"".join(frames), random.Random(seed)
    cuts = sorted({0, len(data), *(draw.randrange(len(data) + 1) for _ in range(draw.randrange(12)))})
    chunks = [data[a:b] for a, b in itertools.pairwise(cuts)]
    messages, code = asyncio.run(received(chunks, guarded=True))
    assert messages == [text.decode() for text in (texts if bad_at is None else texts[:bad_at])]
    assert code == (None if bad_at is None else WSCloseCode.PROTOCOL_ERROR)
