"""``murmuration serve``: the engine and the server, until SIGTERM or Ctrl-C."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

import structlog

from config.schema import Config
from streams.events.publish import classify
from streams.live.compilation import end_workers
from streams.live.live_engine import LiveEngine
from streams.live.room_memory import require_memory
from streams.live.wiring import running_engine, shown_config
from streams.log.interface import EventLog
from streams.process.ending import end_tasks, force_end_after
from streams.process.garbage import Garbage, GarbagePauses
from streams.process.huge_pages import keep_huge
from streams.process.logs import configure_logging
from streams.process.memory import release_unused
from streams.process.signals import StopSignals, stop_signals
from streams.process.version import VERSION
from streams.server.application import build_app, start_server
from streams.server.auth import check_serving

#: Time for the end after the drain: a last snapshot on a slow disk, and closing the log while its broker is away.
CLOSE_TIMEOUT_S = 120.0

log = structlog.get_logger("murmuration.serve")


class Running(NamedTuple):
    """A live instance: the engine, its log, and the server's address."""

    engine: LiveEngine
    event_log: EventLog
    url: str


@asynccontextmanager
async def running(
    config: Config, *, accept_gap: bool = False, progress: Callable[[str], None] = lambda line: None
) -> AsyncIterator[Running]:
    """Engine and server; leaving the block drains connections first, then ends the rest.

    Raises:
        ConfigError: the configuration cannot be served (a busy port, open mode beyond loopback).
        LogUnavailableError: the log cannot be reached.
        LogGapError, LogBehindError, JournalError: see ``running_engine``.
    """
    check_serving(config.serving)
    future_ms_max = config.ingest.future_ms_max

    def judge(raw: bytes) -> tuple[str, bytes, bytes]:
        return classify(raw, time_ms_max=int(time.time() * 1000) + future_ms_max)

    async with (
        running_engine(config, accept_gap=accept_gap, progress=progress) as (engine, event_log),
        asyncio.TaskGroup() as tasks,
    ):
        app = build_app(
            config.serving,
            engine,
            event_log,
            classify=judge,
            registry=engine.metrics.registry,
            config_view=shown_config(config),
        )
        server = await start_server(app)
        watch = tasks.create_task(server.wait_failed(), name="server")
        try:
            yield Running(engine, event_log, server.url)
        finally:
            watch.cancel()
            await server.stop()


async def serve_forever(config: Config, *, accept_gap: bool = False) -> None:
    """Run until told to stop, then drain; within a bounded time (``ending.force_end_after``). A signal that comes
    during the start ends the process at once."""
    configure_logging()
    log.info("starting", version=VERSION, log=config.log.url)
    log.info(require_memory(config))
    with stop_signals(end_workers) as signals:
        async with running(config, accept_gap=accept_gap, progress=lambda line: log.info(line)) as instance:
            log.info(
                "serving",
                url=instance.url,
                config_hash=instance.engine.config_hash,
                state_bytes=instance.engine.state.bytes_max,
            )
            name = await _until_told(signals, instance.engine)
            force_end_after(config.serving.drain_timeout_s + CLOSE_TIMEOUT_S)
            log.info("draining", signal=name)
        log.info("stopped")


async def _until_told(signals: StopSignals, engine: LiveEngine) -> str:
    """Keep the process's memory in order until it is told to stop; returns the signal's name."""
    release_unused()
    pauses = GarbagePauses()
    engine.metrics.registry.register(pauses)
    with Garbage(pauses) as garbage:
        forks = asyncio.Lock() if engine.keeper is None else engine.keeper.forks
        rounds = [
            asyncio.create_task(garbage.run(), name="garbage"),
            asyncio.create_task(keep_huge(forks), name="huge pages"),
        ]
        try:
            return await signals.told()
        finally:
            await end_tasks(rounds)
