"""The source of a simulation's faults: named random streams from one seed, and the trace of a run.

Each part of the world draws from its own stream, so that changing one part changes the faults of the others as little
as possible. Every draw that matters is noted with its virtual time. People read the trace to understand a failing seed,
and two runs of one seed must give the same trace.
"""

import hashlib
import random
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


class Trace:
    """The events of a run, one line each, with their virtual times."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        #: The virtual time; the code that makes the loop sets it.
        self.time_s: Callable[[], float] = lambda: 0.0

    def note(self, what: str) -> None:
        """Add a line."""
        self.lines.append(f"{self.time_s():10.3f} {what}")

    def digest(self) -> str:
        """SHA-256 of all lines: equal digests mean equal runs."""
        return hashlib.sha256("\n".join(self.lines).encode()).hexdigest()


class Chance:
    """One stream of draws: the same seed and name give the same numbers on every machine."""

    def __init__(self, seed: int, name: str, trace: Trace) -> None:
        self.name = name
        self.trace = trace
        self._seed = seed
        self._random = random.Random(f"{seed}/{name}")

    def stream(self, name: str) -> "Chance":
        """An independent stream with this name."""
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
        """A time from ``low`` to ``high``, mostly nearer to ``low``."""
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
        """``count`` different items in drawn order; all items if there are fewer."""
        return self._random.sample(items, min(count, len(items)))

    def bytes(self, count: int) -> bytes:
        """Random bytes."""
        return self._random.randbytes(count)
