"""``murmuration audit``: computes served feeds again and compares (docs/audit.md)."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streams.cli.common import ConfigFile, Json, load_config, run

if TYPE_CHECKING:
    from config.schema import Config
    from streams.audit.auditor import Audited

PROGRESS_INTERVAL_S = 2.0


def audit(
    request_id: Annotated[
        str, typer.Argument(metavar="REQUEST_ID", help="The feed's request id, as the feed has it.")
    ] = "",
    sample: Annotated[int, typer.Option(min=0, help="Instead: a sample of this many served feeds.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sample: the same seed draws the same feeds.")] = 1,
    viewer: Annotated[
        str, typer.Option(help="Only this viewer's feed: two viewers may have used the same request id.")
    ] = "",
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Compute a served feed again and compare; exit code 1 when it differs or cannot be computed any more."""
    if bool(request_id) == bool(sample) or (sample and viewer):
        raise typer.BadParameter("give a REQUEST_ID (with --viewer if wanted) or --sample N")
    settings = load_config(config)
    if sample:
        raise typer.Exit(run(audit_sample(settings, sample, seed, json=json)))
    raise typer.Exit(run(audit_request(settings, _id(request_id), _id(viewer) if viewer else None, json=json)))


def _id(text: str) -> int:
    from engine.errors import EventError
    from streams.events.ids import parse_id

    try:
        return parse_id(text)
    except EventError as error:
        raise typer.BadParameter(error.detail) from None


async def audit_request(config: "Config", request_id: int, viewer_id: int | None, *, json: bool) -> int:
    """Audit the feeds of a request; returns the exit code.

    Raises:
        ConfigError, LogUnavailableError: the log or the folder cannot be opened.
    """
    from streams.audit.auditor import Outcome
    from streams.audit.records import find_served

    began_s = time.monotonic()
    async with _opened(config) as (event_log, auditor, progress):
        progress("looking for the request")
        audited = await auditor.audit(await find_served(event_log, request_id, viewer_id=viewer_id))
    outcomes = {feed.outcome for feed in audited} or {Outcome.UNKNOWN_REQUEST}
    if json:
        _print({"request_id": str(request_id), "outcomes": sorted(outcomes), "feeds": audited}, began_s)
    elif not audited:
        typer.echo(f"{Outcome.UNKNOWN_REQUEST}: the log has no served feed of request {request_id}")
    for feed in audited if not json else ():
        typer.echo(_line(feed))
    return 0 if outcomes == {Outcome.IDENTICAL} else 1


async def audit_sample(config: "Config", size: int, seed: int, *, json: bool) -> int:
    """Audit a sample of all feeds in the log; returns the exit code: 1 also when nothing could be checked.

    Feeds that cannot be computed any more are only counted.

    Raises:
        ConfigError, LogUnavailableError: the log or the folder cannot be opened.
    """
    from streams.audit.auditor import Outcome
    from streams.audit.records import sample_served

    began_s = time.monotonic()
    async with _opened(config) as (event_log, auditor, progress):
        progress("drawing the sample")
        audited = await auditor.audit(await sample_served(event_log, size, seed))
    counts = Counter(feed.outcome for feed in audited)
    identical, different = counts.pop(Outcome.IDENTICAL, 0), counts.pop(Outcome.DIFFERENT, 0)
    differing = [feed for feed in audited if feed.outcome is Outcome.DIFFERENT]
    if json:
        figures: dict[str, Any] = {"audited": identical + different, "identical": identical, "different": different}
        figures["unavailable"] = dict(sorted(counts.items()))
        _print(figures | {"differences": differing}, began_s)
    else:
        for feed in differing:
            typer.echo(_line(feed))
        unavailable = "".join(f", {count} {outcome}" for outcome, count in sorted(counts.items()))
        typer.echo(f"{identical} identical, {different} different{unavailable}")
        if not identical + different:
            typer.echo("nothing was checked: the log has no served feed that can be computed again", err=True)
    return 0 if identical and not different else 1


def _print(figures: dict[str, Any], began_s: float) -> None:
    import msgspec

    timed = figures | {"seconds": round(time.monotonic() - began_s, 3)}
    typer.echo(msgspec.json.format(msgspec.json.encode(timed)).decode())


def _line(feed: "Audited") -> str:
    line = f"request {feed.request_id} of viewer {feed.viewer_id}, version {feed.version}: {feed.outcome}"
    if feed.difference is not None:
        found = feed.difference
        line += f", first at {found.where or 'the feed'}: recorded {found.recorded}, computed again {found.recomputed}"
    return f"{line} ({feed.reason})" if feed.reason else line


@asynccontextmanager
async def _opened(config: "Config") -> AsyncIterator[tuple[Any, Any, Callable[[str], None]]]:
    """The log, an auditor of the durable folder (which a server may be using), and a function that shows progress."""
    from streams.audit.auditor import Auditor
    from streams.durable.folder import opened_store
    from streams.events.open_topics import existing_log
    from streams.live.compilation import compile_kernels

    async with _telling() as progress, existing_log(config.log) as event_log:
        with opened_store(config, await event_log.identity(), writable=False) as store:
            await asyncio.to_thread(compile_kernels, progress)
            yield event_log, Auditor(config, store, event_log, progress=progress), progress


@asynccontextmanager
async def _telling() -> AsyncIterator[Callable[[str], None]]:
    """A function that takes progress lines; every two seconds the last line is printed on standard error."""
    lines: list[str] = []

    async def tell() -> None:
        began_s = time.monotonic()
        while True:
            await asyncio.sleep(PROGRESS_INTERVAL_S)
            if lines:
                typer.echo(f"{lines[-1]} ({time.monotonic() - began_s:.0f} s)", err=True)
                lines.clear()

    task = asyncio.create_task(tell(), name="progress")
    try:
        yield lines.append
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
