"""A ``murmuration serve`` process to start, wait for, end or kill. For benchmarks and crash tests."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import aiohttp

from engine.errors import MurmurationError

START_TIMEOUT_S = 120.0
#: The last lines of standard error that are kept for the message when a process fails.
_LINES_MAX = 200


def free_port() -> int:
    """A TCP port that is unused at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ServerProcess:
    """A server process; made by ``spawn``."""

    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        self.url = url
        self.pid = process.pid
        self._process = process
        self._lines: deque[str] = deque(maxlen=_LINES_MAX)
        self._listening = asyncio.create_task(self._listen())

    @classmethod
    async def spawn(cls, environment: Mapping[str, str], *words: str, port: int | None = None) -> "ServerProcess":
        """Start ``murmuration serve`` with these variables (MURMURATION__…) and further arguments."""
        port = free_port() if port is None else port
        variables = os.environ | dict(environment) | {"MURMURATION__SERVING__PORT": str(port)}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "streams.cli", "serve", *words, env=variables, stderr=asyncio.subprocess.PIPE
        )
        return cls(process, f"http://127.0.0.1:{port}")

    async def _listen(self) -> None:
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            self._lines.append(line.decode("utf-8", "replace"))

    @property
    def ended(self) -> bool:
        """Whether the process has ended."""
        return self._process.returncode is not None

    @property
    def output(self) -> str:
        """The last lines of the process's standard error."""
        return "".join(self._lines)

    async def until_ready(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Wait until ``/readyz`` answers 200.

        Raises:
            MurmurationError: the process ended or was not ready in time; the message has its last lines of output.
        """
        deadline = time.monotonic() + timeout_s
        async with aiohttp.ClientSession() as session:
            while time.monotonic() < deadline:
                if self.ended:
                    await self._listening
                    raise MurmurationError(f"the server ended: {self.output[-4000:]}")
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.get(f"{self.url}/readyz") as answer:
                        if answer.status == 200:
                            return
                await asyncio.sleep(0.02)
        raise MurmurationError(f"the server was not ready within {timeout_s:.0f} s: {self.output[-4000:]}")

    async def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, wait for the end of the process, and return the exit code."""
        if not self.ended:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)
        code = await self._process.wait()
        await self._listening
        return code


@asynccontextmanager
async def server_process(environment: Mapping[str, str]) -> AsyncIterator[ServerProcess]:
    """A ready server; it gets SIGTERM when the block ends."""
    server = await ServerProcess.spawn(environment)
    try:
        await server.until_ready()
        yield server
    finally:
        await server.end()
