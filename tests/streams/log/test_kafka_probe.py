"""Finding out which bootstrap servers answer, and what is wrong with the others, without a broker."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from streams.log.kafka.probe import Found, probe
from tests.support.kafka_tls import certify

#: For a busy machine: what never comes is waited for this long.
SILENT_S = 0.3
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """As a broker: an empty answer to every question; what begins as TLS does is no question."""
    try:
        while (size := int.from_bytes(await reader.readexactly(4), "big")) < 1 << 20:
            await reader.readexactly(size)
            writer.write(b"\0\0\0\4\0\0\0\1")
    except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
        pass
    writer.close()


async def wants_a_password(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big"))
    writer.write(b"\0\0\0\4\0\0\0\1")
    await writer.drain()
    await reader.read(1)
    writer.close()


async def is_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()


async def speaks_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await writer.drain()
    writer.close()


class Servers:
    """Small servers on loopback."""

    def __init__(self, folder: Path) -> None:
        pem, self._authority = certify(folder)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(pem)
        self._open: list[asyncio.Server] = []

    async def start(self, serve: Serve, *, tls: bool = False) -> str:
        """A server; host:port."""
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=self._context if tls else None)
        self._open.append(server)
        return f"127.0.0.1:{server.sockets[0].getsockname()[1]}"

    def close(self) -> None:
        for server in self._open:
            server.close()

    async def ask(
        self, *servers: str, protocol: str = "PLAINTEXT", known: bool = True, within_s: float = 30.0
    ) -> Found:
        """Probe; ``known``: the certificate is."""
        client = {"bootstrap_servers": ",".join(servers), "security_protocol": protocol}
        if protocol.endswith("SSL"):
            client["ssl_context"] = ssl.create_default_context(cafile=str(self._authority) if known else None)  # type: ignore[assignment]
        return await probe(client, until=asyncio.get_running_loop().time() + within_s, silent_s=SILENT_S)


@pytest.fixture
async def servers(tmp_path: Path) -> AsyncIterator[Servers]:
    made = Servers(tmp_path)
    yield made
    made.close()


async def test_one_that_answers_among_those_that_do_not(servers: Servers):
    good = await servers.start(answers)
    others = [await servers.start(is_silent), await servers.start(speaks_http), "127.0.0.1:1"]
    began = time.monotonic()
    found = await servers.ask(others[0], good, *others[1:])
    assert time.monotonic() - began < 20.0  # not the 30 s that are there for all
    assert found.answering == [good]
    assert found.why == f"{others[0]}: no answer"
    assert not found.useless


@pytest.mark.parametrize(
    ("serve", "tls", "protocol", "words"),
    [
        (answers, True, "PLAINTEXT", "speaks TLS only, but log.kafka.security_protocol is PLAINTEXT"),
        (answers, True, "SASL_PLAINTEXT", "speaks TLS only, but log.kafka.security_protocol is SASL_PLAINTEXT"),
        (answers, False, "SSL", "speaks no TLS, but log.kafka.security_protocol is SSL"),
        (answers, False, "SASL_SSL", "speaks no TLS, but log.kafka.security_protocol is SASL_SSL"),
        (wants_a_password, False, "PLAINTEXT", "asks for a password (SASL), but"),
        (wants_a_password, True, "SSL", "asks for a password (SASL), but"),
    ],
)
async def test_the_wrong_way_of_speaking_is_named_at_once(
    servers: Servers, serve: Serve, tls: bool, protocol: str, words: str
):
    server = await servers.start(serve, tls=tls)
    found = await servers.ask(server, protocol=protocol)
    assert found.answering == []
    assert found.why.startswith(f"{server}: {words}")
    assert found.useless


async def test_an_unknown_certificate_is_named_at_once(servers: Servers):
    found = await servers.ask(await servers.start(answers, tls=True), protocol="SSL", known=False)
    assert "certificate is not accepted" in found.why
    assert found.useless


@pytest.mark.parametrize(("tls", "protocol"), [(False, "PLAINTEXT"), (False, "SASL_PLAINTEXT"), (True, "SSL")])
async def test_the_right_way_of_speaking_is_answered(servers: Servers, tls: bool, protocol: str):
    server = await servers.start(answers, tls=tls)
    assert await servers.ask(server, protocol=protocol) == Found([server], "", False)


@pytest.mark.parametrize("serve", [is_silent, speaks_http])
async def test_what_is_no_broker_now_may_become_one(servers: Servers, serve: Serve):
    found = await servers.ask(await servers.start(serve), within_s=0.3)
    assert found.answering == []
    assert found.why
    assert not found.useless
