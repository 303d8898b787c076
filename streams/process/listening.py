"""Listening for HTTP at a configured address, with an error that says which setting to change."""

import asyncio
import errno
import resource
from collections.abc import Callable

from aiohttp import web

from engine.errors import ConfigError

#: Makes the protocol of a connection to a server.
Protocol = Callable[[web.Server], asyncio.Protocol]


class _Site(web.BaseSite):
    """A listening address whose connections get a protocol of the caller's choice."""

    def __init__(self, runner: web.AppRunner, host: str, port: int, *, backlog: int, protocol: Protocol | None) -> None:
        super().__init__(runner, backlog=backlog)
        server = runner.server
        assert server is not None
        self._factory = server if protocol is None else lambda: protocol(server)
        self._host = host
        self.port = port

    @property
    def name(self) -> str:
        return f"http://{self._host}:{self.port}"

    async def start(self) -> None:
        await super().start()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._factory, self._host or None, self.port, backlog=self._backlog)
        self.port = self._server.sockets[0].getsockname()[1]


def allow_files(count: int) -> int:
    """Let the process open ``count`` files if it may; returns how many it may open now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= count:
        return count
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):
        return soft
    return wanted


async def listen(
    runner: web.AppRunner,
    host: str,
    port: int,
    *,
    setting: str,
    backlog: int = 128,
    protocol: Protocol | None = None,
) -> int:
    """Set the runner up and listen; returns the port (for port 0, the free port that was found).

    ``setting`` is the prefix of the two settings' names: "serving." for serving.host and serving.port. ``protocol``
    makes the protocol of each connection; by default the runner's server does. If the address cannot be used, the
    runner is cleaned up.

    Raises:
        ConfigError: the address cannot be used; the message names the setting.
    """
    try:
        await runner.setup()
        site = _Site(runner, host, port, backlog=backlog, protocol=protocol)
        await site.start()
    except OSError as error:
        await runner.cleanup()
        raise ConfigError(_problem(host, port, setting, error)) from None
    except BaseException:
        await runner.cleanup()
        raise
    return int(site.port)


def _problem(host: str, port: int, setting: str, error: OSError) -> str:
    address = f"{host}:{port}"
    if error.errno == errno.EADDRINUSE:
        return f"{setting}port: {address} is in use by another program; choose another port (0: any free one)"
    if error.errno == errno.EACCES:
        return f"{setting}port: not allowed to listen on {address}; choose a port from 1024 on"
    return f"{setting}host: cannot listen on {address}: {error.strerror or error}"
