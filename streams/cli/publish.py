"""``murmuration publish``: appends lines or a CSV folder to the log, with a progress bar."""

import sys
import time
from io import BufferedIOBase
from pathlib import Path
from typing import NamedTuple

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from config.schema import Config
from engine.errors import ConfigError
from streams.events.open_topics import running_log
from streams.events.publish import PublishResult, publish_file
from streams.recordings.read_csv import require_engagements
from streams.recordings.replay import Coverage, Replayer, ReplayOptions, replay

HOUR_MS = 3_600_000


class CsvOptions(NamedTuple):
    """The options of ``--csv``."""

    folder: Path
    engagement: str
    speed: float | None
    keep_times: bool
    packed: bool
    ids: Path | None
    squeeze_h: float | None


def now_ms() -> int:
    """The wall clock."""
    return int(time.time() * 1000)


def _progress(total_bytes: int | None) -> Progress:
    columns = [TextColumn("{task.description}"), BarColumn()]
    tail = [DownloadColumn(), TimeRemainingColumn()] if total_bytes else [TaskProgressColumn()]
    return Progress(*columns, *tail, TextColumn("{task.fields[counts]}"), console=Console(stderr=True), transient=True)


async def publish_lines(config: Config, source: str, *, json: bool) -> int:
    """Publish NDJSON; returns the exit code."""
    file, size = _open(source)
    started = time.perf_counter()
    with file, _progress(size) as bar:
        task = bar.add_task("publishing", total=size, counts="")

        def show(result: PublishResult, taken: int) -> None:
            bar.update(task, completed=taken, counts=f"{result.accepted:,} accepted, {result.rejected:,} refused")

        async with running_log(config.log) as event_log:
            result = await publish_file(
                file,
                event_log,
                now_ms=now_ms,
                future_ms_max=config.ingest.future_ms_max,
                record_bytes_max=config.log.record_bytes_max,
                on_progress=show,
            )
    return report(result, time.perf_counter() - started, json=json)


def _open(source: str) -> tuple[BufferedIOBase, int | None]:
    if source == "-":
        assert isinstance(sys.stdin.buffer, BufferedIOBase)
        return sys.stdin.buffer, None
    path = Path(source)
    try:
        return path.open("rb"), path.stat().st_size
    except OSError as error:
        raise ConfigError(f"{source}: {error.strerror or error}") from error


def report(result: PublishResult, seconds: float, *, json: bool) -> int:
    """Print what was published; 1 when anything was refused."""
    if json:
        fields = {**msgspec.to_builtins(result), "seconds": round(seconds, 3)}
        typer.echo(msgspec.json.encode(fields).decode())
    else:
        rate = result.accepted / seconds if seconds else 0.0
        typer.echo(f"{result.accepted:,} accepted, {result.rejected:,} refused in {seconds:.1f} s ({rate:,.0f}/s)")
        if result.dated:
            typer.echo(f"{result.dated:,} without timestamp_ms happened now")
        for error in result.first_errors:
            typer.echo(f"line {error.line}: {error.reason}: {error.detail}", err=True)
        if result.rejected > len(result.first_errors):
            typer.echo(f"… and {result.rejected - len(result.first_errors):,} more", err=True)
    return 1 if result.rejected else 0


async def publish_csv(config: Config, options: CsvOptions, *, json: bool) -> int:
    """Replay a CSV folder; returns the exit code."""
    require_engagements(options.folder)
    started = time.perf_counter()
    with _progress(None) as bar:
        task = bar.add_task(f"replaying {options.folder.name}", total=None, counts="")

        def show(result: PublishResult, done: int) -> None:
            bar.update(task, completed=done, counts=f"{result.accepted:,} events")

        age_ms_max = config.home_mixer.for_you.age_ms_max

        def tell(replayer: Replayer, began_ms: int) -> None:
            typer.echo(coverage_words(replayer.coverage(began_ms, age_ms_max), age_ms_max), err=True)

        async with running_log(config.log) as event_log:
            result = await replay(
                ReplayOptions(
                    folder=options.folder,
                    engagement=options.engagement,
                    speed=options.speed,
                    keep_times=options.keep_times,
                    packed=options.packed,
                    ids=options.ids,
                    squeeze_ms=None if options.squeeze_h is None else int(options.squeeze_h * HOUR_MS),
                ),
                event_log,
                now_ms=now_ms,
                on_progress=show,
                on_start=tell,
            )
    return report(result, time.perf_counter() - started, json=json)


def coverage_words(found: Coverage, age_ms_max: int) -> str:
    """What share of a recording For You can show, and what to do where it is little."""
    words = (
        f"of {found.items:,} tweets {found.items_young / found.items:.1%} and of {found.rows:,} rows"
        f" {found.rows_young / found.rows:.1%} fall into the last {age_ms_max / HOUR_MS:g} h, which For You shows"
    )
    if found.items_young * 2 >= found.items:
        return words
    hint = f"--squeeze {age_ms_max / HOUR_MS / 2:g} brings all of them into half of that, in their order"
    return f"{words}; the recording spans {found.span_ms / HOUR_MS / 24:,.1f} days: {hint}"
