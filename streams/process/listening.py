"""Listening for HTTP at a configured address, with an error that says which setting to change."""

import errno

from aiohttp import web

from engine.errors import ConfigError


async def listen(runner: web.AppRunner, host: str, port: int, *, setting: str, backlog: int = 128) -> int:
    """Set the runner up and listen; returns the port (for port 0, the free port that was found).

    ``setting`` is the prefix of the two settings' names: "serving." for serving.host and serving.port. If the address
    cannot be used, the runner is cleaned up.

    Raises:
        ConfigError: the address cannot be used; the message names the setting.
    """
    try:
        await runner.setup()
        site = web.TCPSite(runner, host, port, backlog=backlog)
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
