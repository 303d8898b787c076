"""``murmuration train MODEL``: fits a model from the log and publishes it to topic ``models`` (docs/real_graph.md)."""

from typing import Annotated

import typer

from streams.cli.common import ConfigFile, Json, load_config, run

train = typer.Typer(help="Fit a model from the log, and publish it.", no_args_is_help=True)


@train.callback()
def models() -> None:
    """Fit a model from the log, and publish it."""


@train.command("real-graph")
def real_graph(
    config: ConfigFile = None,
    log: Annotated[str | None, typer.Option(help="Read and write this log instead of the configured one.")] = None,
    days: Annotated[int, typer.Option(min=1, max=400, help="Learn from at most this many days, the last.")] = 30,
    pairs: Annotated[int, typer.Option(min=100, max=10_000_000, help="Pairs of a day, at most; drawn.")] = 50_000,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of the draws.")] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Measure the model, and publish nothing.")] = False,
    json: Json = False,
) -> None:
    """Fit tie strength to what was done on the next day, and publish it where it is as good as what is in force."""
    import msgspec
    from rich.console import Console
    from rich.progress import Progress

    from streams.events.open_topics import existing_log, running_log
    from streams.training.train_ties import Trained, TrainOptions
    from streams.training.train_ties import train as fit_and_publish

    settings = load_config(config, log=log)
    options = TrainOptions(days_max=days, pairs_max=pairs, seed=seed, publish=not dry_run)

    async def work() -> Trained:
        async with (existing_log if dry_run else running_log)(settings.log) as event_log:
            with Progress(console=Console(stderr=True)) as bar:
                task = bar.add_task("reading the log", total=None)
                return await fit_and_publish(
                    settings, event_log, options, lambda done, total: bar.update(task, completed=done, total=total)
                )

    found = run(work())
    if json:
        typer.echo(msgspec.json.encode(found._asdict()).decode())
        return
    for name, value in found.figures.items():
        typer.echo(f"{name:<24} {value:.4f}" if value < 1.5 else f"{name:<24} {value:.0f}")
    said = f"published as version {found.version}" if found.published else "not published"
    typer.echo(f"{found.size_bytes} bytes, {said}")
