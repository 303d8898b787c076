"""Fair shares at the entrance: what one viewer may send, over websocket and HTTP together.

Viewers' tokens have a bucket of events and few bodies at once. Whoever publishes for many people (scope ``publish``,
open mode, Kafka) is trusted with volume; the rooms bound what one person may do to others all the same.
"""

import contextlib
from collections.abc import Iterator
from typing import Final

from config.serving import ServingConfig
from streams.server.error_names import ProtocolError
from streams.server.limits import Clock, KeyedBuckets, Slots, TokenBucket
from streams.server.metrics import ServingMetrics

#: Viewers whose buckets are kept, about 250 bytes each. A viewer that is forgotten begins with a full bucket.
BUCKETS_MAX: Final = 65_536


class Shares:
    """The buckets and slots of all viewers. A viewer is None where the sender is trusted with volume."""

    def __init__(self, config: ServingConfig, metrics: ServingMetrics, clock: Clock) -> None:
        self._config = config
        self._metrics = metrics
        self._events = KeyedBuckets(
            rate_per_s=config.events_per_s_max, burst=config.events_burst, keys_max=BUCKETS_MAX, clock=clock
        )
        rate = config.requests_per_s_max
        self._requests = KeyedBuckets(rate_per_s=rate, burst=rate, keys_max=BUCKETS_MAX, clock=clock)
        # Publishers have slots of their own, so that viewers cannot keep them out.
        self._viewers_bodies = Slots(config.bodies_max)
        self._publishers_bodies = Slots(config.bodies_max)

    def requests(self, viewer_id: int) -> TokenBucket:
        """The viewer's bucket of requests: frames and HTTP requests."""
        return self._requests.of(viewer_id)

    def take_request(self, viewer_id: int, bucket: TokenBucket | None = None, *, way: str) -> None:
        """Take one request from the viewer's bucket, or from ``bucket``.

        Raises:
            ProtocolError: ``too_fast``.
        """
        bucket = bucket or self.requests(viewer_id)
        if not bucket.take():
            self._metrics.rate_limited.labels(way).inc()
            limit = self._config.requests_per_s_max
            raise ProtocolError("too_fast", f"at most {limit} requests a second", retry_after_ms=_ms(bucket.wait_s()))

    def take_events(self, viewer_id: int | None, count: int) -> None:
        """Take ``count`` events from the viewer's bucket.

        Raises:
            ProtocolError: ``rate_limited``; none was taken.
        """
        if viewer_id is not None and not self._events.of(viewer_id).take(count):
            raise self.too_many_events(viewer_id, count)

    def take_events_up_to(self, viewer_id: int | None, count: int) -> int:
        """Take as many events as the viewer's bucket has, at most ``count``; returns how many."""
        return count if viewer_id is None else self._events.of(viewer_id).take_up_to(count)

    def too_many_events(self, viewer_id: int, count: int, **extra: int) -> ProtocolError:
        """The refusal of ``count`` events (``rate_limited``), which it counts. ``extra``: further fields over HTTP."""
        self._metrics.events_received.labels("rate_limited").inc(count)
        config = self._config
        text = f"at most {config.events_per_s_max} events a second, and {config.events_burst} at once"
        wait_ms = _ms(self._events.of(viewer_id).wait_s(count))
        return ProtocolError("rate_limited", text, retry_after_ms=wait_ms, **extra)

    @contextlib.contextmanager
    def body(self, viewer_id: int | None, address: str) -> Iterator[None]:
        """Count a body of events in progress.

        Raises:
            ProtocolError: ``too_many_bodies`` of the viewer or the address, or ``overloaded`` by bodies of others.
        """
        config = self._config
        slots = self._publishers_bodies if viewer_id is None else self._viewers_bodies
        keys: list[tuple[str, int | str]] = []
        if viewer_id is not None:
            keys = [("viewer", viewer_id), ("address", address)]
            for key, most in zip(keys, (config.bodies_per_viewer_max, config.bodies_per_address_max), strict=True):
                if most and slots.of(key) >= most:
                    raise ProtocolError("too_many_bodies", f"this {key[0]} sends {most} bodies of events already")
        if slots.full:
            raise ProtocolError("overloaded", "too many bodies of events at once; send again later")
        with slots.hold(*keys), self._metrics.bodies.track_inprogress():
            yield


def _ms(seconds: float) -> int:
    """Whole milliseconds, rounded up: a client that waits so long finds its tokens."""
    return max(1, int(seconds * 1000) + 1)
