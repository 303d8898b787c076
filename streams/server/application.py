"""The server put together: build the application, listen, drain, stop."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final

import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry

from config.serving import IngestConfig, ServingConfig
from streams.events.publish import classify as classify_event
from streams.live.service import FeedService
from streams.log.interface import EventLog
from streams.process.ending import end_tasks
from streams.process.listening import listen
from streams.server import http_api
from streams.server.answers import Answers
from streams.server.auth import Authenticator, check_serving
from streams.server.connections import Connections
from streams.server.context import CONTEXT, Context
from streams.server.feeds import Feeds
from streams.server.graph_http import graph_query
from streams.server.intake import Classify, EventIntake, LogIntake
from streams.server.limits import Clock
from streams.server.metrics import ServingMetrics
from streams.server.notices import Notices
from streams.server.pushes import Pushes
from streams.server.served_log import ServedLog
from streams.server.shares import Shares
from streams.server.social_entrance import SocialEntrance
from streams.server.static import Page
from streams.server.tcp_guard import GuardedHandler, TcpGuard
from streams.server.websocket import feed_socket

#: Served feeds that may wait for the log; at least one per connection, since one tweet may be pushed to all.
SERVED_FEEDS_MAX: Final = 4096
_log = structlog.get_logger(__name__)


def random_id() -> int:
    """A random 64-bit id, never 0: unique even among servers that do not know each other."""
    return random.getrandbits(64) or 1


def judge(raw: bytes) -> tuple[str, bytes, bytes]:
    """``publish.classify`` with the default clock skew allowed.

    Raises:
        EventError: the event would be a dead letter.
    """
    return classify_event(raw, time_ms_max=time.time_ns() // 1_000_000 + IngestConfig().future_ms_max)


def build_app(
    config: ServingConfig,
    service: FeedService,
    event_log: EventLog,
    *,
    registry: CollectorRegistry,
    config_view: Mapping[str, Any],
    classify: Classify = judge,
    clock: Clock = time.monotonic,
    new_id: Callable[[], int] = random_id,
    intake: EventIntake | None = None,
) -> web.Application:
    """The application that serves docs/protocol.md.

    ``config_view`` is what ``/config`` shows; ``classify`` judges events (see ``intake.Classify``);
    ``clock`` is monotonic seconds; ``new_id`` makes unique ids.

    Raises:
        ConfigError: the settings would serve people unsafely.
    """
    check_serving(config)
    metrics = ServingMetrics(registry)
    if intake is None:
        social = SocialEntrance(service)
        known, now_ms = service.known, service.now_ms
        intake = LogIntake(event_log, classify, social=social, now_ms=now_ms, new_id=new_id, known=known)
    served = ServedLog(
        event_log, metrics, linger_s=config.served_linger_s, feeds_max=max(SERVED_FEEDS_MAX, config.connections_max)
    )
    answers = Answers(service)
    feeds = Feeds(config, service, intake, metrics, new_id)
    connections = Connections(config, metrics)
    context = Context(
        config=config,
        service=service,
        intake=intake,
        served=served,
        metrics=metrics,
        registry=registry,
        config_view=config_view,
        auth=Authenticator(config),
        feeds=feeds,
        answers=answers,
        connections=connections,
        notices=Notices(event_log, service, connections, metrics),
        pushes=Pushes(
            service,
            feeds,
            answers,
            served,
            metrics,
            workers=config.readers,
            refresh_share=config.push_refresh_share,
            interval_s_min=config.push_interval_ms_min / 1000,
        ),
        shares=Shares(config, metrics, clock),
        tcp_guard=TcpGuard(config, metrics),
        clock=clock,
        new_id=new_id,
    )
    app = web.Application(middlewares=[http_api.named_errors])
    app[CONTEXT] = context
    app.add_routes(_routes())
    app.cleanup_ctx.append(_background)
    app.on_shutdown.append(drain)
    return app


def _routes() -> list[web.RouteDef]:
    page = Page()
    routes = [
        web.get("/v1/feed", feed_socket, allow_head=False),
        web.get("/v1/users/{id}/feed", http_api.users_feed),
        web.get("/v1/users/{id}/who_to_follow", http_api.who_to_follow),
        web.get("/v1/users/{id}/reputation", http_api.reputation),
        web.get("/v1/users/{id}/aggregates", http_api.aggregates),
        web.get("/v1/users", http_api.users),
        web.get("/v1/models", http_api.models),
        web.post("/v1/events", http_api.events),
        web.get("/v1/graph/{query}", graph_query),
        web.get("/healthz", http_api.healthz),
        web.get("/readyz", http_api.readyz),
        web.get("/metrics", http_api.metrics),
        web.get("/config", http_api.config),
        web.get("/", page.handle),
        web.get("/{name}", page.handle),
    ]
    for route in routes:
        route.kwargs["expect_handler"] = http_api.expectation
    return routes


async def _background(app: web.Application) -> AsyncIterator[None]:
    context = app[CONTEXT]
    context.background = [
        asyncio.create_task(context.served.run(), name="served log"),
        asyncio.create_task(context.pushes.run(), name="pushes"),
        asyncio.create_task(context.notices.run(), name="notices"),
    ]
    for task in context.background:
        task.add_done_callback(_report_death)
    yield
    await end_tasks(context.background)


def _report_death(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        _log.critical("background task died", task=task.get_name(), exc_info=task.exception())


async def drain(app: web.Application) -> None:
    """End serving gracefully, within about ``serving.drain_timeout_s``. A second call does nothing.

    From now on the server is not ready and refuses new requests as ``shutting_down``. Every connection's requests in
    flight are answered; then the client is told when to reconnect, and the connection is closed with 1001. HTTP
    requests in flight finish, and served feeds are written to the log.
    """
    context = app[CONTEXT]
    if context.draining:
        return
    context.draining = True
    timeout_s = context.config.drain_timeout_s
    deadline_s = asyncio.get_running_loop().time() + timeout_s
    await context.connections.drain(timeout_s)
    try:
        async with asyncio.timeout_at(deadline_s):
            while context.http_in_flight:
                await context.http_idle.wait()
    except TimeoutError:
        _log.warning("http requests left after the drain", requests=context.http_in_flight)
    await context.served.drain(max(0.5, deadline_s - asyncio.get_running_loop().time()))


class RunningServer:
    """A server that listens. ``failed`` is done when a background task has died."""

    def __init__(self, runner: web.AppRunner, app: web.Application, host: str, port: int) -> None:
        self._runner = runner
        self._app = app
        self.host = host
        self.port = port

    @property
    def url(self) -> str:
        """The server's address, as people write it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    async def wait_failed(self) -> None:
        """Wait until a background task dies, and raise its error."""
        background = self._app[CONTEXT].background
        done, _ = await asyncio.wait(background, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    async def stop(self) -> None:
        """Drain, then close the port and every part."""
        await drain(self._app)
        await self._runner.cleanup()


async def start_server(app: web.Application) -> RunningServer:
    """Listen on ``serving.host`` and ``serving.port`` (0: any free one).

    Raises:
        ConfigError: the address cannot be used; the message names it.
    """
    config, guard = app[CONTEXT].config, app[CONTEXT].tcp_guard
    options: dict[str, Any] = {
        "access_log": None,
        "auto_decompress": False,  # a small body must not become a large one
        "max_line_size": config.frame_bytes_max,  # the address may carry a cursor as long as a frame may
        "keepalive_timeout": config.idle_timeout_s,
    }
    runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=1.0, **options)
    port = await listen(
        runner,
        config.host,
        config.port,
        setting="serving.",
        backlog=1024,
        protocol=lambda server: GuardedHandler(guard, server, **options),
    )
    return RunningServer(runner, app, config.host, port)
