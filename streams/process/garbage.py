"""Runs Python's garbage collector on a plan, so that no collection stops all threads for long.

A full collection visits every container object: some 200,000 after a start, 100 ms in which nothing else runs. So
automatic full collections are off. Instead, rounds collect the objects made since the last round and freeze the
survivors (``gc.freeze``: no collection visits them any more), once at the end of the start and then at intervals.
Frozen objects that later die in cycles are found by a thorough round, which comes when twice as many objects are frozen
as after the last thorough round.
"""

import asyncio
import gc
import time
from collections.abc import Iterable
from typing import Any, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

#: A young collection comes when this many more objects were made than freed; a middle one after this many young ones.
YOUNG_OBJECTS: Final = 10_000
MIDDLE_ROUNDS: Final = 10
_NEVER: Final = 1_000_000
INTERVAL_S: Final = 30.0
#: At least this many more objects may be frozen before a thorough round, however few were frozen before.
FROZEN_LEAST: Final = 100_000
_GENERATIONS: Final = 3


class GarbagePauses(Collector):
    """How long collections took, by generation. The Prometheus client counts them itself (``python_gc_*``)."""

    def __init__(self) -> None:
        self.seconds = [0.0] * _GENERATIONS
        self.longest_s = [0.0] * _GENERATIONS
        self._began_s = 0.0

    def __call__(self, phase: str, info: dict[str, Any]) -> None:
        """A callback of ``gc``. It may run inside any code, so it must not take a lock."""
        if phase == "start":
            self._began_s = time.perf_counter()
            return
        took_s, generation = time.perf_counter() - self._began_s, info["generation"]
        self.seconds[generation] += took_s
        self.longest_s[generation] = max(self.longest_s[generation], took_s)

    def collect(self) -> Iterable[Metric]:
        total = CounterMetricFamily(
            "murmuration_gc_seconds", "Time in garbage collections since the start", labels=("generation",)
        )
        longest = GaugeMetricFamily(
            "murmuration_gc_longest_seconds", "Longest collection since the start", labels=("generation",)
        )
        for generation in range(_GENERATIONS):
            total.add_metric((str(generation),), self.seconds[generation])
            longest.add_metric((str(generation),), self.longest_s[generation])
        yield from (total, longest)


class Garbage:
    """Plans the collections while its block runs. At most one per process."""

    def __init__(self, pauses: GarbagePauses) -> None:
        self._pauses = pauses
        self._frozen_max = 0
        self._thresholds = gc.get_threshold()

    def __enter__(self) -> "Garbage":
        gc.set_threshold(YOUNG_OBJECTS, MIDDLE_ROUNDS, _NEVER)
        self._thorough_round()
        gc.callbacks.append(self._pauses)
        return self

    def __exit__(self, *exception: object) -> None:
        gc.callbacks.remove(self._pauses)
        gc.set_threshold(*self._thresholds)
        gc.unfreeze()

    async def run(self) -> None:
        """Run a round at every interval, for ever."""
        while True:
            await asyncio.sleep(INTERVAL_S)
            self.round()

    def round(self) -> None:
        """Collect new objects and freeze the survivors; a thorough round if many were frozen since the last one."""
        if gc.get_freeze_count() > self._frozen_max:
            self._thorough_round()
        else:
            gc.collect()
            gc.freeze()

    def _thorough_round(self) -> None:
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        self._frozen_max = 2 * gc.get_freeze_count() + FROZEN_LEAST
