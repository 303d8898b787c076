"""Retries: growing waits with jitter, and one log line when an outage begins and one when it ends."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any, Final

import structlog

RETRY_S_MIN: Final = 0.1
RETRY_S_MAX: Final = 1.0

_log = structlog.get_logger("murmuration.retry")


class Retries:
    """The tries of one operation that may fail for a while. For one thread or event loop.

    ``outage``: the message logged once, at ``level``, when the first try fails ("" logs nothing). Another line is
    logged once a try succeeds again. Waits double from ``wait_s_min`` to ``wait_s_max``; each is shortened at random by
    up to half, so that processes that wait for the same thing do not all retry at once. ``sleep`` and ``uniform`` are
    asyncio's and random's functions, unless a test gives others.
    """

    def __init__(
        self,
        outage: str,
        *,
        wait_s_min: float = RETRY_S_MIN,
        wait_s_max: float = RETRY_S_MAX,
        level: str = "warning",
        log: Any = _log,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._outage, self._tell, self._tell_over = outage, getattr(log, level), log.info
        self._wait_s_min, self._wait_s_max = min(wait_s_min, wait_s_max), wait_s_max
        self._sleep, self._uniform = sleep, uniform
        #: How many tries have failed since the last success, and the seconds to wait after them.
        self.failures = 0
        self._waited_s = 0.0

    def failed(self, error: object, *, at_least_s: float = 0.0, **more: Any) -> float:
        """Note a failed try; returns the seconds to wait before the next one, for callers that do the waiting.

        ``at_least_s`` is the shortest wait before jitter; ``more`` is added to the log line.
        """
        if self._outage and not self.failures:
            self._tell(self._outage, error=str(error), **more)
        # The exponent is bounded: 2.0 ** 1024 is an error.
        wait_s = min(self._wait_s_min * 2.0 ** min(self.failures, 64), self._wait_s_max)
        wait_s = max(wait_s, at_least_s) * self._uniform(0.5, 1.0)
        self.failures += 1
        self._waited_s += wait_s
        return wait_s

    async def wait(self, error: object, **more: Any) -> None:
        """Note a failed try and wait before the next one. A cancellation ends the wait."""
        await self._sleep(self.failed(error, **more))

    def succeeded(self) -> None:
        """Note a success: the next failure begins a new outage."""
        if self._outage and self.failures:
            self._tell_over("over", outage=self._outage, failures=self.failures, waited_s=round(self._waited_s, 3))
        self.failures, self._waited_s = 0, 0.0
