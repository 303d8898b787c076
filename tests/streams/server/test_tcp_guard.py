"""Connections that say nothing, say half a head, or do not read are closed; limits keep honest clients in."""

import asyncio
import contextlib

import orjson
import pytest
import uvloop

from streams.server.tcp_guard import address_of

HEAD = b"GET /v1/users/42/feed HTTP/1.1\r\nHost: 127.0.0.1\r\n"


class Raw:
    """A TCP connection that says exactly what the test says."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    async def say(self, data):
        self.writer.write(data)
        with contextlib.suppress(ConnectionError):
            await self.writer.drain()

    async def hear(self):
        """All bytes until the server closes."""
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(30):
                return await self.reader.read()
        return b""

    async def answer(self):
        """One HTTP answer with a Content-Length."""
        async with asyncio.timeout(30):
            head = await self.reader.readuntil(b"\r\n\r\n")
            size = int(next(line.split(b":")[1] for line in head.split(b"\r\n") if line.startswith(b"Content-Length")))
            return head.split(b" ")[1], orjson.loads(await self.reader.readexactly(size))


@contextlib.asynccontextmanager
async def connected(site, count=1):
    raws = []
    try:
        raws.extend([Raw(*await asyncio.open_connection("127.0.0.1", site.server.port)) for _ in range(count)])
        yield raws if count > 1 else raws[0]
    finally:
        for raw in raws:
            raw.writer.transport.abort()
        await asyncio.sleep(0)


def cut(site, reason):
    return site.metric("tcp_connections_cut_total", reason=reason)


async def test_a_connection_that_says_nothing_is_closed(start):
    site = await start(head_timeout_s=0.2)
    async with connected(site) as raw:
        assert await raw.hear() == b""
    assert cut(site, "silent") == 1
    await site.until(lambda: site.metric("tcp_connections") == 0)


async def test_half_a_head_is_refused_by_name_and_closed_however_it_trickles(start):
    site = await start(head_timeout_s=0.3)
    async with connected(site) as raw:

        async def trickle():
            for byte in HEAD * 200:
                await raw.say(bytes([byte]))
                await asyncio.sleep(0.01)

        trickling = asyncio.create_task(trickle())
        heard = await raw.hear()
        trickling.cancel()
        await asyncio.gather(trickling, return_exceptions=True)
    assert heard.startswith(b"HTTP/1.1 408 ")
    assert orjson.loads(heard.split(b"\r\n\r\n")[1])["error"] == "request_timeout"
    assert cut(site, "half_request") == 1


async def test_a_second_head_must_come_whole_as_well_and_idle_connections_are_closed(start):
    site = await start(head_timeout_s=0.2, idle_timeout_s=30)
    async with connected(site) as raw:
        for _ in range(2):
            await raw.say(HEAD + b"\r\n")
            assert (await raw.answer())[0] == b"200"
        await asyncio.sleep(0.3)  # idle is not silent
        await raw.say(HEAD)
        assert (await raw.hear()).startswith(b"HTTP/1.1 408 ")
    site = await start(idle_timeout_s=0.3)
    async with connected(site) as raw:
        await raw.say(HEAD + b"\r\n")
        await raw.answer()
        assert await raw.hear() == b""


async def test_slow_answers_and_websockets_are_not_cut(start):
    site = await start(head_timeout_s=0.1, idle_timeout_s=0.1)
    site.service.gate = asyncio.Event()
    async with connected(site) as raw, site.socket() as socket:
        await raw.say(HEAD + b"\r\n")
        await asyncio.sleep(0.4)
        site.service.gate.set()
        assert (await raw.answer())[0] == b"200"
        assert (await socket.ask(type="feed"))["type"] == "feed"
        assert site.metric("tcp_connections") >= 1


async def test_silent_connections_of_an_address_give_way_and_busy_ones_do_not(start):
    site = await start(connections_per_address_max=4)
    async with connected(site, 4) as silent, connected(site) as honest:
        # The longest silent one gave way.
        await honest.say(HEAD + b"\r\n")
        assert (await honest.answer())[0] == b"200"
        assert await silent[0].hear() == b""
        assert cut(site, "gave_way") == 1
        assert site.metric("tcp_connections") == 4
        # Silent ones give way before idle ones, whoever came first.
        async with connected(site, 3) as others:
            for raw in others:
                await raw.say(HEAD + b"\r\n")
                assert (await raw.answer())[0] == b"200"
            await honest.say(HEAD + b"\r\n")
            assert (await honest.answer())[0] == b"200"
            # All are busy now: the next is refused by name.
            site.service.gate = asyncio.Event()
            for raw in (*others, honest):
                await raw.say(HEAD + b"\r\n")
            await site.until(lambda: site.service.running == 4)
            async with connected(site) as late:
                status, answer = await late.answer()
                assert (status, answer["error"]) == (b"503", "too_many_connections")
                assert await late.hear() == b""
            site.service.gate.set()
            for raw in (*others, honest):
                assert (await raw.answer())[0] == b"200"
    assert cut(site, "address_full") == 1
    await site.until(lambda: site.metric("tcp_connections") == 0)


async def test_a_flood_of_silent_connections_keeps_nobody_out(start):
    site = await start(tcp_connections_max=20, connections_per_address_max=0)
    async with connected(site, 60):
        async with site.socket() as socket:
            assert (await socket.ask(type="feed"))["type"] == "feed"
        status, _ = await site.get("/v1/users/42/feed")
        assert status == 200
        assert site.metric("tcp_connections") <= 20
    assert cut(site, "gave_way") >= 40


async def test_many_refused_connections_are_cut_without_words(start):
    site = await start(tcp_connections_max=1)
    site.service.gate = asyncio.Event()
    async with connected(site) as busy:
        await busy.say(HEAD + b"\r\n")
        await site.until(lambda: site.service.running == 1)
        async with connected(site, 100) as refused:
            heard = await asyncio.gather(*(raw.hear() for raw in refused))
        assert 1 <= sum(b"too_many_connections" in part for part in heard) <= 64
        site.service.gate.set()
        assert (await busy.answer())[0] == b"200"
    assert cut(site, "full") == 100


async def test_a_client_that_does_not_read_its_answer_is_cut(start):
    site = await start(send_timeout_s=0.3)
    site.service.text = "x" * 4_000_000
    async with connected(site) as raw:
        raw.writer.transport.pause_reading()
        await raw.say(HEAD + b"\r\n")
        await site.until(lambda: cut(site, "not_reading") == 1)
        await site.until(lambda: site.metric("tcp_connections") == 0)


@pytest.mark.parametrize(
    "scenario",
    [
        test_a_connection_that_says_nothing_is_closed,
        test_half_a_head_is_refused_by_name_and_closed_however_it_trickles,
        test_silent_connections_of_an_address_give_way_and_busy_ones_do_not,
        test_a_client_that_does_not_read_its_answer_is_cut,
        test_many_refused_connections_are_cut_without_words,
    ],
)
def test_on_uvloop(open_sites, scenario):
    async def run():
        async with open_sites() as start:
            await scenario(start)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


@pytest.mark.parametrize(
    ("peername", "address"),
    [
        (("192.0.2.7", 5), "192.0.2.7"),
        (("2001:db8:1:2:3:4:5:6", 5, 0, 0), "2001:db8:1:2::/64"),
        (("fe80::1%eth0", 5, 0, 3), "fe80::/64"),
        (("::ffff:192.0.2.7", 5, 0, 0), "192.0.2.7"),
        (("::1", 5, 0, 0), "::/64"),
        ("", ""),
        (None, ""),
    ],
)
def test_addresses(peername, address):
    assert address_of(peername) == address
