"""``murmuration demo``: a society, the log, the engine and the page on one machine."""

from typing import Annotated

import typer

from streams.cli.common import ConfigFile, Json, load_config, run


def demo(
    config: ConfigFile = None,
    seconds: Annotated[float | None, typer.Option(help="Stop after this many seconds.")] = None,
    json: Json = False,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port of the page (default 8400).")] = None,
    people: Annotated[int, typer.Option(min=10, help="How many people the society has.")] = 2000,
    events_per_s: Annotated[float, typer.Option(min=1, help="Events per second of the society.")] = 200.0,
    feeds_per_s: Annotated[float, typer.Option(min=0, help="Feeds per second that its people read.")] = 20.0,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same society.")] = 1,
    log: Annotated[str | None, typer.Option(help="Use this log (sqlite:///… or kafka://…), and keep it.")] = None,
) -> None:
    """A society, the log, the engine and the page on one machine; Ctrl-C ends it."""
    from loadtest.scenarios.demo import DemoOptions, run_demo

    options = DemoOptions(
        seconds=seconds,
        json=json,
        port=port,
        people=people,
        events_per_s=events_per_s,
        feeds_per_s=feeds_per_s,
        seed=seed,
        log=log,
        config_file=config,
    )
    run(run_demo(load_config(config), options))
