"""Asking Kafka servers whether they answer, all at once, and finding out what is wrong with those that do not.

Only the first bytes of Kafka's protocol are spoken: the question for the versions that a broker knows, and the one for
its cluster, which a broker that wants a password does not answer.
"""

import asyncio
import ssl
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

_API_VERSIONS: Final = b"\x00\x12\x00\x00\x00\x00\x00\x01\xff\xff"
_METADATA: Final = b"\x00\x03\x00\x01\x00\x00\x00\x02\xff\xff\x00\x00\x00\x00"
#: A longer answer is none of Kafka's.
_ANSWER_BYTES_MAX: Final = 64 << 20
#: How long the second question, in the other way of speaking, may take.
_SECOND_S: Final = 1.0


class Found(NamedTuple):
    """The servers that answer (``host:port``), and why the first of the others does not.

    ``useless``: none will ever answer, as long as nobody changes something.
    """

    answering: list[str]
    why: str
    useless: bool


class _WrongWayError(Exception):
    """The server is there, but wants to be spoken to in another way."""


async def probe(client: Mapping[str, Any], *, until: float, silent_s: float) -> Found:
    """Ask all bootstrap servers of aiokafka's options ``client`` at once.

    Once a server has answered, the others are given ``silent_s`` more; before that they are waited for until the
    loop's time ``until``.
    """
    loop = asyncio.get_running_loop()
    asked = {
        asyncio.create_task(_ask(server, client), name=f"probe {server}"): server
        for server in client["bootstrap_servers"].split(",")
    }
    try:
        pending = set(asked)
        while pending:
            done, pending = await asyncio.wait(
                pending, timeout=until - loop.time(), return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                break
            if any(task.exception() is None for task in done):
                until = min(until, loop.time() + silent_s)
    finally:
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
    problems = {server: _problem(task) for task, server in asked.items()}
    answering = [server for server, problem in problems.items() if problem is None]
    wrong = [problem for problem in problems.values() if isinstance(problem, _WrongWayError)]
    first = next((f"{server}: {_words(problem)}" for server, problem in problems.items() if problem is not None), "")
    return Found(answering, first, not answering and len(wrong) == len(problems))


def _problem(task: "asyncio.Task[None]") -> BaseException | None:
    return TimeoutError() if task.cancelled() else task.exception()


def _words(problem: BaseException) -> str:
    return "no answer" if isinstance(problem, TimeoutError) else str(problem) or type(problem).__name__


async def _ask(server: str, client: Mapping[str, Any]) -> None:
    """Return once the server has answered; raises OSError, ``_WrongWayError``."""
    host, _, port = server.rpartition(":")
    address = (host.strip("[]"), int(port))
    protocol = client.get("security_protocol", "PLAINTEXT")
    context: ssl.SSLContext | None = client.get("ssl_context") if protocol.endswith("SSL") else None
    questions = [_API_VERSIONS] if protocol.startswith("SASL") else [_API_VERSIONS, _METADATA]
    answered, broken = 0, ""
    try:
        answered = await _talk(address, context, questions)
    except ssl.SSLCertVerificationError as error:
        raise _WrongWayError(f"its certificate is not accepted ({error.verify_message}): ssl_cafile") from None
    except ssl.SSLError as error:
        broken = f"no TLS is possible ({error.reason or error})"
    except (ConnectionResetError, BrokenPipeError):
        pass
    if answered == len(questions):
        return
    if answered:
        raise _WrongWayError(f"asks for a password (SASL), but {_now(protocol)}")
    if context is None and await _speaks(address, _any_certificate()):
        raise _WrongWayError(f"speaks TLS only, but {_now(protocol)}")
    if context is not None and await _speaks(address, None):
        raise _WrongWayError(f"speaks no TLS, but {_now(protocol)}")
    if broken:
        raise _WrongWayError(broken)
    raise ConnectionResetError("the connection was closed: is this a Kafka broker?")


def _now(protocol: str) -> str:
    return f"log.kafka.security_protocol is {protocol}"


async def _talk(address: tuple[str, int], context: ssl.SSLContext | None, questions: list[bytes]) -> int:
    """The number of questions that were answered before the server closed the connection; raises OSError."""
    reader, writer = await asyncio.open_connection(*address, ssl=context)
    answered = 0
    try:
        for question in questions:
            writer.write(len(question).to_bytes(4, "big") + question)
            size = int.from_bytes(await reader.readexactly(4), "big")
            if size > _ANSWER_BYTES_MAX:
                break
            await reader.readexactly(size)
            answered += 1
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.transport.abort()
    return answered


async def _speaks(address: tuple[str, int], context: ssl.SSLContext | None) -> bool:
    """Whether the server answers when it is spoken to in this way."""
    try:
        async with asyncio.timeout(_SECOND_S):
            return await _talk(address, context, [_API_VERSIONS]) == 1
    except (OSError, TimeoutError):
        return False


def _any_certificate() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
