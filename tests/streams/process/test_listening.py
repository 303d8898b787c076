"""Listening: the port that was found, and errors that name the setting."""

import aiohttp
import pytest
from aiohttp import web

from engine.errors import ConfigError
from streams.process.listening import listen


def runner():
    return web.AppRunner(web.Application())


async def test_a_free_port_is_found_and_answers():
    first = runner()
    try:
        port = await listen(first, "127.0.0.1", 0, setting="serving.")
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/") as answer:
            assert answer.status == 404
    finally:
        await first.cleanup()


async def test_an_address_that_cannot_be_used_names_its_setting():
    first = runner()
    try:
        port = await listen(first, "127.0.0.1", 0, setting="serving.")
        with pytest.raises(ConfigError, match=rf"^processors.agents_port: 127.0.0.1:{port} is in use"):
            await listen(runner(), "127.0.0.1", port, setting="processors.agents_")
    finally:
        await first.cleanup()
    with pytest.raises(ConfigError, match=r"^serving.host: cannot listen on 203.0.113.7:0: "):
        await listen(runner(), "203.0.113.7", 0, setting="serving.")
