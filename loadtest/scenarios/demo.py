"""``murmuration demo``: a society, the log, the engine and the page in one process.

The society acts by itself (``tick``), and some of its people read real feeds over real websockets and react to
them. All their events go through the log, as any publisher's do.
"""

import asyncio
import contextlib
import logging
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec
import typer

from config.schema import Config
from loadtest.society.society import Event, Society, SocietyConfig, encode
from loadtest.traffic.viewers import ViewerStats, run_viewers
from streams.durable.folder import durable_folder
from streams.events.publish import append_all
from streams.live.compilation import end_workers
from streams.live.wiring import wait_applied
from streams.log.interface import EventLog, LogUnavailableError, NewRecord
from streams.process.histogram import LATENCY_S, quantile
from streams.process.logs import configure_logging
from streams.process.signals import StopSignals, stop_signals
from streams.serve import Running, running

HISTORY_MS = 6 * 3_600_000
TICK_S = 0.05
READY_TIMEOUT_S = 120.0


class DemoOptions(NamedTuple):
    """The options of ``murmuration demo``."""

    seconds: float | None = None
    json: bool = False
    port: int | None = None
    people: int = 2000
    events_per_s: float = 200.0
    feeds_per_s: float = 20.0
    seed: int = 1
    log: str | None = None
    config_file: Path | None = None


def now_ms() -> int:
    """The wall clock."""
    return int(time.time() * 1000)


async def publish_events(event_log: EventLog, events: list[Event]) -> None:
    """Append the society's events, each to its topic."""
    records: dict[str, list[NewRecord]] = {}
    for event in events:
        records.setdefault(event.topic, []).append(NewRecord(value=encode(event), key=event.key))
    await append_all(event_log, records)


async def live(society: Society, event_log: EventLog, from_ms: int) -> None:
    """Let the society's time pass with the clock, for ever; events that the log cannot take are lost."""
    while True:
        await asyncio.sleep(TICK_S)
        until_ms = now_ms()
        events = society.tick(from_ms, until_ms)
        from_ms = until_ms
        if events:
            with contextlib.suppress(LogUnavailableError):
                await publish_events(event_log, events)


class Meter:
    """Figures for the status line and the summary."""

    def __init__(self, instance: Running, stats: ViewerStats) -> None:
        self.instance, self.stats = instance, stats
        self.started_s = self.last_s = time.monotonic()
        self.first_events = self.last_events = instance.engine.state.events
        self.last_feeds = 0
        self.first_buckets = self.last_buckets = instance.engine.metrics.append_freshness.snapshot()

    def line(self) -> str:
        """One status line, with figures since the last line."""
        now_s, events, feeds = time.monotonic(), self.instance.engine.state.events, self.stats.feeds_served
        buckets = self.instance.engine.metrics.append_freshness.snapshot()
        seconds = max(now_s - self.last_s, 1e-9)
        p99_ms = quantile(buckets - self.last_buckets, LATENCY_S, 0.99) * 1000
        events_per_s, feeds_per_s = (events - self.last_events) / seconds, (feeds - self.last_feeds) / seconds
        text = f"{events_per_s:7,.0f} events/s   {feeds_per_s:5,.1f} feeds/s   freshness p99 {p99_ms:5.1f} ms"
        self.last_s, self.last_events, self.last_feeds, self.last_buckets = now_s, events, feeds, buckets
        return text

    def summary(self) -> dict[str, object]:
        """Figures since the start."""
        buckets = self.instance.engine.metrics.append_freshness.snapshot() - self.first_buckets
        seconds = time.monotonic() - self.started_s
        return {
            "seconds": round(seconds, 3),
            "events_applied": self.instance.engine.state.events - self.first_events,
            "history_events": self.first_events,
            "freshness_p50_ms": round(quantile(buckets, LATENCY_S, 0.5) * 1000, 3),
            "freshness_p99_ms": round(quantile(buckets, LATENCY_S, 0.99) * 1000, 3),
            "version": self.instance.engine.version,
            **self.stats.summary(),
        }


@contextmanager
def _log_url(options: DemoOptions) -> Iterator[tuple[str, StopSignals]]:
    """The demo's log, the given one or a new one that is deleted when the demo ends, and the signals that end it."""
    if options.log is not None:
        with stop_signals(end_workers) as signals:
            yield options.log, signals
        return
    with tempfile.TemporaryDirectory(prefix="murmuration-demo-") as folder:

        def clear() -> None:
            end_workers()
            shutil.rmtree(folder, ignore_errors=True)

        with stop_signals(clear) as signals:
            yield f"sqlite:///{Path(folder) / 'events.db'}", signals


async def run_demo(config: Config, options: DemoOptions) -> None:
    """Run until ``options.seconds`` are over or Ctrl-C is pressed."""
    # The demo prints its own lines; the log adds what goes wrong.
    configure_logging(level=logging.WARNING)

    def say(line: str) -> None:
        typer.echo(line, err=options.json)

    async with AsyncExitStack() as stack:
        url, signals = stack.enter_context(_log_url(options))
        config = msgspec.structs.replace(config, log=msgspec.structs.replace(config.log, url=url))
        if options.port is not None:
            config = msgspec.structs.replace(config, serving=msgspec.structs.replace(config.serving, port=options.port))
        say("starting the engine")
        instance = await stack.enter_async_context(running(config, progress=say))
        society = Society(SocietyConfig(seed=options.seed, people=options.people, events_per_s=options.events_per_s))
        say(f"{options.people:,} people, six hours of their past …")
        began_ms = now_ms()
        for events in society.bootstrap(began_ms, HISTORY_MS):
            await publish_events(instance.event_log, events)
        await wait_applied(instance.engine, instance.event_log, timeout_s=READY_TIMEOUT_S)
        say(f"\n  open {instance.url}/\n")
        for line in await _ways_in(instance, config, options):
            say(line)
        say("\n  Ctrl-C ends it\n")
        await _run(instance, society, options, began_ms, say, signals)


async def _ways_in(instance: Running, config: Config, options: DemoOptions) -> list[str]:
    """Commands that look at the running demo from another terminal, ready to be copied; none where nothing is kept."""
    folder = durable_folder(config, await instance.event_log.identity())
    if folder is None or instance.engine.keeper is None:
        return []
    # With a snapshot of the past the state can be rebuilt in two ways: from it, and from the whole log.
    await instance.engine.keeper.snapshot(again=True)
    command = sys.argv[0] if Path(sys.argv[0]).name == "murmuration" else "murmuration"
    own = "" if options.config_file is None else f" --config {shlex.quote(str(options.config_file.absolute()))}"
    return [
        "  in another terminal, in this folder:",
        f"    export MURMURATION__LOG__URL={shlex.quote(config.log.url)}",
        f"    {command} audit --sample 20{own}    # feeds that were served, computed again",
        f"    {command} recover --check{own}      # the state rebuilt in two ways, and compared",
        f"    {command} inspect {shlex.quote(str(folder))}",
    ]


async def _run(
    instance: Running,
    society: Society,
    options: DemoOptions,
    began_ms: int,
    say: Callable[[str], None],
    signals: StopSignals,
) -> None:
    stats = ViewerStats()
    stop = asyncio.Event()
    meter = Meter(instance, stats)

    async def publish(events: list[Event]) -> None:
        await publish_events(instance.event_log, events)

    async def status() -> None:
        while True:
            await asyncio.sleep(1.0)
            say(meter.line())

    async with asyncio.TaskGroup() as tasks:
        background = [
            tasks.create_task(live(society, instance.event_log, began_ms), name="society"),
            tasks.create_task(status(), name="status"),
        ]
        viewers = None
        if options.feeds_per_s > 0:
            address = instance.url.replace("http", "ws", 1) + "/v1/feed"
            viewers = tasks.create_task(
                run_viewers(
                    address,
                    society,
                    options.feeds_per_s,
                    stop,
                    publish=publish,
                    now_ms=now_ms,
                    stats=stats,
                ),
                name="viewers",
            )
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(options.seconds):
                await signals.told()
        stop.set()
        if viewers is not None:
            await viewers
        for task in background:
            task.cancel()
    if options.json:
        typer.echo(msgspec.json.encode(meter.summary()).decode())
    else:
        say("ended")
