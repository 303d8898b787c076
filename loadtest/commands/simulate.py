"""``murmuration simulate``: the whole engine on a virtual clock, with faults drawn from seeds (docs/simulation.md)."""

from typing import Annotated

import typer


def simulate(
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds to run.")] = 100,
    first_seed: Annotated[int, typer.Option(min=0, help="The first seed.")] = 0,
    seed: Annotated[int | None, typer.Option(min=0, help="Run this seed only.")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Print the trace of every run.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Run the engine through faults drawn from seeds, and check that nothing is lost, doubled or different.

    A failing seed prints its trace; the same seed fails again. Exit code 1 if any seed fails.
    """
    from loadtest.simulation.report import run_seeds

    numbers = range(first_seed, first_seed + seeds) if seed is None else range(seed, seed + 1)
    if run_seeds(numbers, verbose=verbose, json=json):
        raise typer.Exit(1)
