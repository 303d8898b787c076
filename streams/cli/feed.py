"""``murmuration feed``: a viewer's feed in the terminal."""

import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

import orjson
import typer
from rich.console import Console

from engine.errors import ConfigError, EventError
from streams.cli.common import parse_urls
from streams.cli.render_feed import render_feed
from streams.client.client import FeedClient, Frame
from streams.events.ids import parse_id


class FeedOptions(NamedTuple):
    """The options of ``murmuration feed``."""

    user: str
    #: Addresses; a value may hold several, separated by commas.
    urls: Sequence[str]
    product: str
    limit: int
    follow: bool
    explain: bool
    token: str | None
    json: bool


async def show_feed(options: FeedOptions) -> int:
    """Ask once, or follow until Ctrl-C; returns the exit code.

    Raises:
        ConfigError: the user is not an id, or no address was given.
        UnreachableError: no server answers.
        FeedClientError: the server refuses.
    """
    try:
        viewer = parse_id(options.user)
    except EventError as error:
        raise ConfigError(f"USER: {error.detail}") from None
    show = _as_json if options.json else _as_text(options.explain)
    explain = "entries" if options.explain else "none"
    # The text says what was left out and why; JSON has that where an explanation is asked for.
    explain_once = "all" if options.explain or not options.json else "none"
    open_mode = options.token is None
    client = FeedClient(parse_urls(options.urls), viewer_id=viewer if open_mode else None, token=options.token)
    if options.follow and len(client.urls) > 1:
        client.on_connect = _say_where(client)
    async with client:
        if not options.follow:
            show(await client.feed(product=options.product, limit=options.limit, explain=explain_once))
            return 0
        async for frame in client.subscribe(product=options.product, limit=options.limit, explain=explain):
            show(frame)
    return 0


def _say_where(client: FeedClient) -> Callable[[Frame], Awaitable[None]]:
    async def say(hello: Frame) -> None:
        typer.echo(f"connected to {client.url}", err=True)

    return say


def _as_json(frame: Frame) -> None:
    typer.echo(orjson.dumps(frame).decode())
    sys.stdout.flush()


def _as_text(explain: bool) -> Callable[[Frame], None]:
    console = Console()

    def show(frame: Frame) -> None:
        console.print(render_feed(frame, explain=explain))

    return show
