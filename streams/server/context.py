"""What the handlers share: one context per application."""

import asyncio
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry

from config.serving import ServingConfig
from streams.live.service import FeedService
from streams.server.answers import Answers
from streams.server.auth import Authenticator
from streams.server.connections import Connections
from streams.server.feeds import Feeds
from streams.server.intake import EventIntake
from streams.server.limits import Clock
from streams.server.metrics import ServingMetrics
from streams.server.notices import Notices
from streams.server.pushes import Pushes
from streams.server.served_log import ServedLog
from streams.server.shares import Shares
from streams.server.tcp_guard import TcpGuard


@dataclasses.dataclass(kw_only=True)
class Context:
    """The parts of a server. ``clock`` is monotonic seconds; ``new_id`` makes unique 64-bit ids."""

    config: ServingConfig
    service: FeedService
    intake: EventIntake
    served: ServedLog
    metrics: ServingMetrics
    registry: CollectorRegistry
    config_view: Mapping[str, Any]
    auth: Authenticator
    feeds: Feeds
    answers: Answers
    connections: Connections
    notices: Notices
    pushes: Pushes
    shares: Shares
    tcp_guard: TcpGuard
    clock: Clock
    new_id: Callable[[], int]
    draining: bool = False
    http_in_flight: int = 0
    http_idle: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)
    background: list[asyncio.Task[None]] = dataclasses.field(default_factory=list)


CONTEXT = web.AppKey("CONTEXT", Context)
