"""``murmuration bench``: one command per benchmark."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from streams.cli.common import Json, interruptible

bench = typer.Typer(help="Measure: every command prints figures, with --json as JSON.", no_args_is_help=True)


def show(figures: Mapping[str, float], *, json: bool) -> None:
    """Print figures, one per line or as JSON."""
    if json:
        import orjson

        typer.echo(orjson.dumps(dict(figures), option=orjson.OPT_INDENT_2).decode())
        return
    width = max(map(len, figures))
    for name, value in figures.items():
        typer.echo(
            f"{name:<{width}}  {value:>16,.3f}" if isinstance(value, float) else f"{name:<{width}}  {value:>16,}"
        )


def with_status(work: Callable[[Callable[[str], None]], Any]) -> Any:
    """Run ``work`` with a status line on standard error."""
    from rich.console import Console

    interruptible()
    with Console(stderr=True).status("measuring") as status:
        return work(status.update)


@bench.command()
def path(
    log: Annotated[
        str | None, typer.Option(help="sqlite:///… or kafka://…; default: a temporary embedded log.")
    ] = None,
    json: Json = False,
    json_events: Annotated[int, typer.Option(min=10_000)] = 400_000,
    packed_events: Annotated[int, typer.Option(min=100_000)] = 4_000_000,
) -> None:
    """Events from the log into every room: rate, and CPU µs per event by step."""
    from loadtest.benches.path import run

    figures = with_status(
        lambda progress: asyncio.run(run(log, json_events=json_events, packed_events=packed_events, progress=progress))
    )
    show(figures, json=json)


@bench.command()
def freshness(
    json: Json = False,
    events_per_s: Annotated[int, typer.Option(min=1)] = 5000,
    feeds_per_s: Annotated[int, typer.Option(min=1)] = 20,
    seconds: Annotated[float, typer.Option(min=5)] = 30.0,
    log: Annotated[str | None, typer.Option(help="kafka://… ; default: a temporary embedded log.")] = None,
) -> None:
    """From an event's append to the first feed that shows it, while events come in and feeds go out."""
    from loadtest.benches.freshness import run

    figures = with_status(
        lambda progress: asyncio.run(
            run(events_per_s=events_per_s, feeds_per_s=feeds_per_s, seconds=seconds, log_url=log, progress=progress)
        )
    )
    show(figures, json=json)


@bench.command(name="compile")
def compile_(json: Json = False) -> None:
    """Compile time of the kernels by module, and a cold and a warm start (takes two minutes)."""
    from loadtest.benches.compile import run

    show(with_status(lambda progress: run(progress=progress)), json=json)


@bench.command()
def feed(json: Json = False) -> None:
    """The cost of a feed: over websockets at rising rates against a server with 20,000 people, and alone.

    Takes two minutes on two cores, and one minute more the first time (to make the people and their day).
    """
    from loadtest.benches.feed import run

    show(with_status(lambda progress: asyncio.run(run(progress=progress))), json=json)


@bench.command()
def pushes(
    json: Json = False,
    subscribers: Annotated[int, typer.Option(min=1, max=9000, help="Websockets, one viewer each.")] = 5000,
) -> None:
    """A tweet to thousands of subscribers who follow its author, and what one unrelated event a second costs.

    Takes three minutes on two cores, and one minute more the first time (to make the people and their day).
    """
    from loadtest.benches.pushes import PushBench, run

    bench = PushBench(subscribers=subscribers)
    show(with_status(lambda progress: asyncio.run(run(progress, bench))), json=json)


@bench.command()
def lock(json: Json = False, seconds: Annotated[float, typer.Option(min=1)] = 3.0) -> None:
    """The state lock and the interpreter's switch interval: a writer beside readers, in several combinations."""
    from loadtest.benches.lock import run

    show(with_status(lambda progress: run(seconds=seconds, progress=progress)), json=json)


@bench.command()
def erase(json: Json = False) -> None:
    """How long pieces that erase people hold the write lock, in full rooms of the default sizes (two minutes)."""
    from config.schema import Config
    from loadtest.benches.erasing import run

    show(with_status(lambda progress: run(Config(), progress=progress)), json=json)


@bench.command()
def graph(
    edges: Annotated[Path, typer.Option(help="An edge list, as `bench make-edges` writes it.")],
    json: Json = False,
) -> None:
    """Ingest and queries of the interaction graph on an edge list, and where a walk's time goes."""
    from loadtest.benches.graph import run

    if not edges.is_file():
        raise typer.BadParameter(f"{edges} is not there", param_hint="--edges")
    try:
        figures = with_status(lambda progress: run(edges, progress=progress))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--edges") from None
    show(figures, json=json)


@bench.command()
def make_edges(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where the list goes; its folder is made.")],
    edges: Annotated[int, typer.Option(min=10_000, max=1_000_000_000, help="How many edges.")] = 10_000_000,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes.")] = 20161,
) -> None:
    """Write the power-law edge list that the other benchmarks take as --edges (16 bytes an edge)."""
    from loadtest.benches.edge_list import write_list

    try:
        with_status(lambda progress: write_list(file, edges, seed))
    except OSError as error:
        raise typer.BadParameter(f"{file}: {error.strerror or error}", param_hint="FILE") from None
    typer.echo(f"{file}: {edges:,} edges of seed {seed}")


@bench.command()
def estimators(
    edges: Annotated[
        Path | None,
        typer.Option(help="As for graph; edges spread evenly over 48 hours. Default: a synthetic list."),
    ] = None,
    recording: Annotated[
        Path | None, typer.Option(help="A folder with engagements.csv.gz; its times are used.")
    ] = None,
    newest: Annotated[int | None, typer.Option(min=1000, help="Use only this many of the newest engagements.")] = None,
    json: Json = False,
) -> None:
    """Two estimators of a time-aware walk's last step: their variance and time."""
    from loadtest.benches.estimators import edges_of, run

    try:
        columns = edges_of(edges, recording, newest)
        figures = with_status(lambda progress: run(*columns, progress=progress))
    except (ValueError, OSError) as error:
        raise typer.BadParameter(str(error)) from None
    show(figures, json=json)


@bench.command()
def recovery(
    edges: Annotated[
        Path | None, typer.Option(help="An edge list, as `bench make-edges` writes it; default: a made-up one.")
    ] = None,
    made_edges: Annotated[int, typer.Option(min=10_000, help="Edges of the synthetic list.")] = 10_000_000,
    tail_events: Annotated[int, typer.Option(min=1000, help="JSON events after the snapshot.")] = 1_000_000,
    seconds: Annotated[float, typer.Option(min=1, help="How long feeds are timed, with and without snapshots.")] = 30.0,
    json: Json = False,
) -> None:
    """Snapshots beside feeds, recovery after a kill, and one audit, on a state of many edges."""
    from loadtest.benches.recovery import edges_of, run

    try:
        users, tweets = edges_of(edges, made_edges)
    except (ValueError, OSError) as error:
        raise typer.BadParameter(str(error), param_hint="--edges") from None
    figures = with_status(
        lambda progress: asyncio.run(run(users, tweets, tail_events=tail_events, seconds=seconds, progress=progress))
    )
    show(figures, json=json)


@bench.command()
def sizing() -> None:
    """Memory and cores for a number of daily users, by the rooms' formulas: the table of docs/scaling.md."""
    from loadtest.benches.sizing import table

    typer.echo(table(), nl=False)


@bench.command()
def graph_scaling(json: Json = False) -> None:
    """How the graph's costs grow from 1 M to 30 M edges (takes minutes, and 2 GB)."""
    from loadtest.benches.graph_scaling import run

    show(with_status(lambda progress: run(progress=progress)), json=json)


@bench.command()
def reputation(
    json: Json = False,
    follows: Annotated[int, typer.Option(min=10_000, help="Follows of the synthetic graph.")] = 10_000_000,
    accounts: Annotated[int, typer.Option(min=1000)] = 1_000_000,
    seconds: Annotated[
        float, typer.Option(min=0, help="How long traffic is timed, alone and beside the job; 0: not at all.")
    ] = 30.0,
) -> None:
    """Reputation of all accounts: from nothing, after 1 % of the follows changed, and beside running traffic."""
    from loadtest.benches.reputation import run

    figures = with_status(
        lambda progress: asyncio.run(run(follows=follows, accounts=accounts, seconds=seconds, progress=progress))
    )
    show(figures, json=json)


@bench.command()
def people(
    json: Json = False,
    follows: Annotated[int, typer.Option(min=10_000, help="Follows of the synthetic graph.")] = 10_000_000,
    accounts: Annotated[int, typer.Option(min=1000)] = 1_000_000,
) -> None:
    """Follows while many are held, a viewer's followees and their tweets, circles that two share, tie strength."""
    from loadtest.benches.people import run

    show(with_status(lambda progress: run(follows=follows, accounts=accounts, progress=progress)), json=json)
