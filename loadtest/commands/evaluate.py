"""``murmuration evaluate``: how good the feeds are on a recording, or tie strength in societies."""

from pathlib import Path
from typing import Annotated

import typer

from streams.cli.common import Json


def evaluate(
    folder: Annotated[Path | None, typer.Argument(help="A recording: engagements.csv.gz (ts,user,item).")] = None,
    window: Annotated[str, typer.Option(help="The graph's capacity in events, or all.")] = "all",
    events: Annotated[int, typer.Option(min=1, help="How many events to sample.")] = 1500,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sample and of the walks.")] = 1,
    walks: Annotated[int, typer.Option(min=1, max=100_000, help="Walks per request and pair of half-lives.")] = 10_000,
    report: Annotated[Path | None, typer.Option(help="Write quality.json and quality.svg here.")] = None,
    ties: Annotated[
        bool, typer.Option("--ties", help="Instead: how well ties predict the next day, in societies.")
    ] = False,
    seeds: Annotated[int, typer.Option(min=1, max=100, help="With --ties: how many societies.")] = 5,
    people: Annotated[int, typer.Option(min=50, max=20_000, help="With --ties: people in each.")] = 600,
    days: Annotated[int, typer.Option(min=12, max=200, help="With --ties: days that each lives.")] = 24,
    json: Json = False,
) -> None:
    """Replay a recording and measure how high the engine ranked the item of each sampled event beforehand."""
    if ties == (folder is not None):
        raise typer.BadParameter("give a FOLDER, or --ties")
    if ties:
        from loadtest.quality.ties import TiesOptions, run_evaluate_ties

        options = TiesOptions(seeds=seeds, people=people, days=days, events_a_day=20 * people)
        run_evaluate_ties(options, json=json)
        return
    from loadtest.quality.evaluate import EvaluateOptions, parse_window, run_evaluate

    assert folder is not None
    run_evaluate(
        folder,
        EvaluateOptions(window=parse_window(window), events=events, seed=seed, walks=walks),
        json=json,
        report=report,
    )
