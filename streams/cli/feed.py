"""``murmuration feed``: a viewer's feed in the terminal."""

import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

import orjson
import typer
from rich.console import Console

from engine.errors import ConfigError, EventError
from engine.feed import Product
from streams.cli.common import parse_urls
from streams.cli.render_feed import render_entries, render_feed
from streams.client.client import FeedClient, FeedClientError, Frame, UnreachableError
from streams.client.entry_list import EntryList
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
        by_entry = {"pushes": "entries"} if options.product == Product.FOLLOWING and not options.explain else {}
        shown = _Shown(client, options)
        async for push in client.subscribe(product=options.product, limit=options.limit, explain=explain, **by_entry):
            show(push) if options.json else await shown.take(push)
    return 0


class _Shown:
    """What ``--follow`` prints for people: a whole feed with what was left out of it, then single entries."""

    def __init__(self, client: FeedClient, options: FeedOptions) -> None:
        self._client = client
        self._options = options
        self._list = EntryList(options.limit)
        self._console = Console()

    async def take(self, push: Frame) -> None:
        """Print a push."""
        self._list.take(push)
        if push["type"] == "new_entries":
            self._console.print(render_entries(push, self._list))
            return
        # A push does not say what was left out, so the feed is asked for again; it may be newer than the push.
        try:
            feed = await self._client.feed(product=self._options.product, limit=self._options.limit, explain="all")
        except (FeedClientError, UnreachableError):
            feed = push
        feed["new"] = push["new"]
        self._console.print(render_feed(feed, explain=self._options.explain))


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
