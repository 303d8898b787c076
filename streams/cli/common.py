"""Shared by the commands: options, the configuration, the event loop."""

import asyncio
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from engine.errors import ConfigError
from streams.process.signals import interrupt_on_ctrl_c

ConfigFile = Annotated[
    Path | None, typer.Option("--config", "-c", help="TOML file; MURMURATION__SECTION__KEY overrides it.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Urls = Annotated[
    list[str],
    typer.Option(
        "--url", help="A server's address; for several, repeat the option or use commas.", envvar="MURMURATION_URL"
    ),
]


def parse_urls(values: Sequence[str]) -> list[str]:
    """The distinct addresses in ``values``; a value may hold several, separated by commas.

    Raises:
        ConfigError: no address is given.
    """
    urls = [url.strip() for value in values for url in value.split(",") if url.strip()]
    if not urls:
        raise ConfigError("--url: no address")
    return list(dict.fromkeys(urls))


def interruptible() -> None:
    """From now on Ctrl-C is a KeyboardInterrupt, so that a command can clean up; before, it ended the process."""
    interrupt_on_ctrl_c()


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """Run on uvloop; Ctrl-C ends it with 130."""
    from streams.process.loop import new_event_loop

    interruptible()
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(work)


def load_config(path: Path | None, *, log: str | None = None) -> Any:
    """The configuration, with the log's URL replaced where one is given on the command line."""
    import msgspec

    from config.load import load

    settings = load(path)
    if log is not None:
        settings = msgspec.structs.replace(settings, log=msgspec.structs.replace(settings.log, url=log))
    return settings
