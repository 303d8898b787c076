"""``murmuration evaluate``: how good the feeds are on a recording."""

from pathlib import Path
from typing import Annotated

import typer

from streams.cli.common import Json


def evaluate(
    folder: Annotated[Path, typer.Argument(help="A recording: engagements.csv.gz (ts,user,item).")],
    window: Annotated[str, typer.Option(help="The graph's capacity in events, or all.")] = "all",
    events: Annotated[int, typer.Option(min=1, help="How many events to sample.")] = 1500,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sample and of the walks.")] = 1,
    walks: Annotated[int, typer.Option(min=1, max=100_000, help="Walks per request and pair of half-lives.")] = 10_000,
    report: Annotated[Path | None, typer.Option(help="Write quality.json and quality.svg here.")] = None,
    json: Json = False,
) -> None:
    """Replay a recording and measure how high the engine ranked the item of each sampled event beforehand."""
    from loadtest.quality.evaluate import EvaluateOptions, parse_window, run_evaluate

    options = EvaluateOptions(window=parse_window(window), events=events, seed=seed, walks=walks)
    run_evaluate(folder, options, json=json, report=report)
