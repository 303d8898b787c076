"""Runs many seeds one after the other: shows progress, traces of failing seeds, and totals."""

import logging
import sys
import time
from collections import Counter
from collections.abc import Sequence

import orjson
import structlog
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from loadtest.simulation.run import Outcome, simulate
from streams.live.compilation import compile_kernels

#: At most this many failing seeds have their traces printed.
TRACES_MAX = 3


def run_seeds(seeds: Sequence[int], *, verbose: bool, json: bool) -> list[int]:
    """Run seeds and print the results; returns the seeds that failed."""
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    console = Console(stderr=True)
    began = time.monotonic()
    failed: list[int] = []
    totals: Counter[str] = Counter()
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console
    ) as progress:
        bar = progress.add_task("kernels", total=len(seeds))
        compile_kernels(lambda line: progress.update(bar, description=line))
        for seed in seeds:
            progress.update(bar, description=f"seed {seed}")
            outcome = simulate(seed)
            totals.update(outcome.figures)
            if outcome.failure is not None:
                failed.append(seed)
            if verbose or (outcome.failure is not None and len(failed) <= TRACES_MAX):
                progress.console.print(describe(outcome), markup=False, highlight=False, soft_wrap=True)
            progress.advance(bar)
    figures = {
        "seeds": len(seeds),
        "failed": len(failed),
        "failed_seeds": failed,
        "seconds": round(time.monotonic() - began, 3),
        **totals,
    }
    if json:
        typer.echo(orjson.dumps(figures, option=orjson.OPT_INDENT_2).decode())
    else:
        for name, value in figures.items():
            typer.echo(f"{name:<16}  {value}")
    return failed


def describe(outcome: Outcome) -> str:
    """A run as text: its trace, its result, and the command that repeats it."""
    result = outcome.failure if outcome.failure is not None else "all is well"
    return "\n".join(
        [
            *outcome.trace.lines,
            f"seed {outcome.seed}: {result}",
            f"again: murmuration simulate --seed {outcome.seed} --verbose",
            "",
        ]
    )
