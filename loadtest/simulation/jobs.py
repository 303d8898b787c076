"""Jobs in a run: there is no fork, so the work is done at once, and the fate of the imagined child is drawn."""

import asyncio
from collections.abc import Callable

from engine.state import EngineState
from loadtest.simulation.chance import Chance
from loadtest.simulation.faults import Rates, Weather
from loadtest.simulation.lineage import Lineage
from streams.jobs.computation import ResultTooLargeError

#: Longest time that a child works; sometimes longer than a job may take (``draw_config``).
CHILD_S_MAX = 8.0


class DrawnComputation:
    """A result that comes after a while, unless the child is killed, hangs, or its result is too large."""

    pause_s = 0.0

    def __init__(self, result: bytes, size_max: int, fate: str, chance: Chance) -> None:
        self._result, self._size_max, self._fate = result, size_max, fate
        self._works_s = chance.seconds(0.0, CHILD_S_MAX)
        self._killed = asyncio.Event()

    async def result(self) -> bytes:
        works_s = None if self._fate == "hangs" else self._works_s
        try:
            async with asyncio.timeout(works_s):
                await self._killed.wait()
        except TimeoutError:
            if self._fate == "too large":
                raise ResultTooLargeError(self._size_max) from None
            if self._fate == "well":
                return self._result
        raise OSError("simulated: the child was killed")

    def kill(self) -> None:
        self._killed.set()


class DrawnJobs:
    """Starts computations in one life of the process, and notes their results; the final checks compute them again."""

    def __init__(
        self, state: Callable[[], EngineState], lineage: Lineage, weather: Weather, rates: Rates, chance: Chance
    ) -> None:
        self._state, self._lineage, self._weather, self._rates = state, lineage, weather, rates
        self._chance = chance

    def start(self, work: Callable[[], bytes], size_max: int) -> DrawnComputation:
        """Do the work, and draw the fate of the child.

        Raises:
            OSError: the child could not be started.
        """
        fate = "well"
        if not self._weather.calm and self._chance.happens(self._rates.failing_jobs):
            fate = self._chance.choice(["not started", "killed", "hangs", "too large"])
        state = self._state()
        self._chance.note(f"a job begins at version {state.version}: {fate}")
        if fate == "not started":
            raise OSError("simulated: no more processes")
        result = work()
        self._lineage.saw_model(state.version, result)
        return DrawnComputation(result, size_max, fate, self._chance)
