"""A client's call for a graph query over HTTP (docs/protocol.md, graph queries)."""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Final

import aiohttp
import orjson

from engine.errors import ConfigError
from streams.client.client import FeedClientError, UnreachableError

TIMEOUT_S: Final = 60.0


async def graph_query(urls: Sequence[str], name: str, terms: Mapping[str, str], token: str | None = None) -> bytes:
    """The answer's JSON, from the first of several servers (``http://host:port``) that can be reached.

    Raises:
        ConfigError: the query is wrong, or an address is not of the form http://host:port.
        FeedClientError: the server refuses for another reason.
        UnreachableError: no server answers.
    """
    addresses = [f"{url.rstrip('/')}/v1/graph/{name}" for url in urls]
    for address in addresses[:-1]:
        with contextlib.suppress(UnreachableError):
            return await _fetch(address, terms, token)
    return await _fetch(addresses[-1], terms, token)


async def _fetch(address: str, terms: Mapping[str, str], token: str | None) -> bytes:
    headers = {"Authorization": f"Bearer {token.strip()}"} if token else {}
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as http,
            http.get(address, params=terms, headers=headers) as response,
        ):
            body = await response.read()
            if response.status == 200:
                return body
    except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError):
        raise ConfigError(f"--url: {address.split('/v1/')[0]} is not of the form http://host:port") from None
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise UnreachableError(f"{address}: {str(error) or f'no answer within {TIMEOUT_S:g} s'}") from None
    try:
        problem = orjson.loads(body)
        name, message = str(problem["error"]), str(problem["message"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise UnreachableError(f"{address}: HTTP {response.status}, not a server of this kind") from None
    if response.status == 400:
        raise ConfigError(f"{name}: {message}")
    raise FeedClientError(name, message)
