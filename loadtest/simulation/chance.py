"""Where a simulation's faults come from: named streams of draws from one seed, and the trace of what happened.

Each part of the world draws from a stream of its own, so that a change of one part moves the others' faults as little
as possible. Everything drawn that matters is noted with its virtual time: a trace is what a failing seed is read by,
and two runs of one seed must give the same one.
"""

import hashlib
import random
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


class Trace:
    """What happened in a run, line by line, in virtual time."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        #: The virtual time, set by whoever makes the loop.
        self.time_s: Callable[[], float] = lambda: 0.0

    def note(self, what: str) -> None:
        """Add a line."""
        self.lines.append(f"{self.time_s():10.3f} {what}")

    def digest(self) -> str:
        """SHA-256 of all lines: equal digests mean that the same things happened."""
        return hashlib.sha256("\n".join(self.lines).encode()).hexdigest()


class Chance:
    """One stream of draws: the same seed and name give the same numbers on every machine."""

    def __init__(self, seed: int, name: str, trace: Trace) -> None:
        self.name = name
        self.trace = trace
        self._seed = seed
        self._random = random.Random(f"{seed}/{name}")

    def stream(self, name: str) -> "Chance":
        """A stream of its own, by name."""
        return Chance(self._seed, f"{self.name}/{name}", self.trace)

    def note(self, what: str) -> None:
        """Add a line to the trace under this stream's name."""
        self.trace.note(f"{self.name}: {what}")

    def happens(self, probability: float) -> bool:
        """True with this probability."""
        return self._random.random() < probability

    def integer(self, low: int, high: int) -> int:
        """A whole number from ``low`` to ``high``, both included."""
        return self._random.randint(low, high)

    def seconds(self, low: float, high: float) -> float:
        """A time between the two, mostly nearer to ``low``."""
        return low + (high - low) * self._random.random() ** 2

    def choice(self, items: Sequence[T]) -> T:
        """One of the items."""
        return self._random.choice(items)

    def weighted(self, weights: Sequence[tuple[T, float]]) -> T:
        """One of the items, by their weights."""
        items, shares = zip(*weights, strict=True)
        picked: T = self._random.choices(items, shares)[0]
        return picked

    def sample(self, items: Sequence[T], count: int) -> list[T]:
        """So many different items, or all when there are fewer, in drawn order."""
        return self._random.sample(items, min(count, len(items)))

    def bytes(self, count: int) -> bytes:
        """Random bytes."""
        return self._random.randbytes(count)
