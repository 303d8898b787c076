"""Trying again: waits that grow, with jitter, and one line in the log when an outage begins and one when it is over."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any, Final

import structlog

RETRY_S_MIN: Final = 0.1
RETRY_S_MAX: Final = 1.0

_log = structlog.get_logger("murmuration.retry")


class Retries:
    """The tries of one thing that can fail for a while. For one thread or event loop.

    ``outage`` is what the log says once when the first try fails ("" = nothing), at ``level``; it says once when a try
    succeeds again. Waits double from ``wait_s_min`` to ``wait_s_max``, each shortened by up to half at random: those
    who wait for the same thing do not come back in step. ``sleep`` and ``uniform`` are the event loop's and chance's.
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
        #: Tries that have failed since the last that succeeded, and the seconds to be waited for after them.
        self.failures = 0
        self._waited_s = 0.0

    def failed(self, error: object, *, at_least_s: float = 0.0, **more: Any) -> float:
        """A try has failed; returns the seconds to wait before the next, for who waits by themselves.

        ``at_least_s`` is the shortest wait before jitter; ``more`` goes into the log's line.
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
        """A try has failed: wait before the next. A cancellation ends the wait."""
        await self._sleep(self.failed(error, **more))

    def succeeded(self) -> None:
        """A try has succeeded: the next failure begins a new outage."""
        if self._outage and self.failures:
            self._tell_over("over", outage=self._outage, failures=self.failures, waited_s=round(self._waited_s, 3))
        self.failures, self._waited_s = 0, 0.0
