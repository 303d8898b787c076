"""Rate limits: token buckets with an injected clock, a single one and one per key."""

from collections import OrderedDict
from collections.abc import Callable, Hashable

Clock = Callable[[], float]


class TokenBucket:
    """Allows ``rate_per_s`` on average and ``burst`` at once. ``clock`` gives monotonic seconds."""

    __slots__ = ("_burst", "_clock", "_rate_per_s", "_tokens", "_updated_s")

    def __init__(self, *, rate_per_s: float, burst: float, clock: Clock) -> None:
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._tokens = burst
        self._clock = clock
        self._updated_s = clock()

    def take(self) -> bool:
        """Take one token; False when the bucket is empty."""
        now_s = self._clock()
        self._tokens = min(self._burst, self._tokens + max(0.0, now_s - self._updated_s) * self._rate_per_s)
        self._updated_s = now_s
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


class KeyedBuckets:
    """One bucket per key, for the ``keys_max`` most recently used keys (an idle key's bucket would be full anyway)."""

    def __init__(self, *, rate_per_s: float, burst: float, keys_max: int, clock: Clock) -> None:
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._keys_max = keys_max
        self._clock = clock
        self._buckets: OrderedDict[Hashable, TokenBucket] = OrderedDict()

    def take(self, key: Hashable) -> bool:
        """Take one of the key's tokens; False when its bucket is empty."""
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = TokenBucket(rate_per_s=self._rate_per_s, burst=self._burst, clock=self._clock)
            self._buckets[key] = bucket
            if len(self._buckets) > self._keys_max:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(key)
        return bucket.take()
