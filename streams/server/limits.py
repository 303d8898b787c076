"""Limits per key: token buckets with an injected clock, and slots for what may be in progress at once."""

import contextlib
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterator

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

    def take(self, count: int = 1) -> bool:
        """Take ``count`` tokens; False, and none is taken, when the bucket has fewer."""
        self._fill()
        if self._tokens < count:
            return False
        self._tokens -= count
        return True

    def take_up_to(self, count: int) -> int:
        """Take as many whole tokens as there are, at most ``count``; returns how many."""
        self._fill()
        taken = min(count, int(self._tokens))
        self._tokens -= taken
        return taken

    def wait_s(self, count: int = 1) -> float:
        """Seconds until the bucket has ``count`` tokens (or is full, if it never has so many), if none is taken."""
        self._fill()
        return max(0.0, min(count, self._burst) - self._tokens) / self._rate_per_s

    def _fill(self) -> None:
        now_s = self._clock()
        self._tokens = min(self._burst, self._tokens + max(0.0, now_s - self._updated_s) * self._rate_per_s)
        self._updated_s = now_s


class KeyedBuckets:
    """One bucket per key, for the ``keys_max`` most recently used keys (an idle key's bucket would be full anyway)."""

    def __init__(self, *, rate_per_s: float, burst: float, keys_max: int, clock: Clock) -> None:
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._keys_max = keys_max
        self._clock = clock
        self._buckets: OrderedDict[Hashable, TokenBucket] = OrderedDict()

    def of(self, key: Hashable) -> TokenBucket:
        """The key's bucket."""
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = TokenBucket(rate_per_s=self._rate_per_s, burst=self._burst, clock=self._clock)
            self._buckets[key] = bucket
            if len(self._buckets) > self._keys_max:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(key)
        return bucket

    def take(self, key: Hashable) -> bool:
        """Take one of the key's tokens; False when its bucket is empty."""
        return self.of(key).take()


class Slots:
    """What may be in progress at once: ``most`` in all, and at most so many of each key as the caller says."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0
        self._by_key: Counter[Hashable] = Counter()

    @property
    def full(self) -> bool:
        """Whether nothing more fits."""
        return self._held >= self._most

    def of(self, key: Hashable) -> int:
        """How many of the key are in progress."""
        return self._by_key[key]

    @contextlib.contextmanager
    def hold(self, *keys: Hashable) -> Iterator[None]:
        """Hold one slot, counted for each of ``keys``; the caller has checked the limits."""
        self._held += 1
        self._by_key.update(keys)
        try:
            yield
        finally:
            self._held -= 1
            for key in keys:
                self._by_key[key] -= 1
                if not self._by_key[key]:
                    del self._by_key[key]
