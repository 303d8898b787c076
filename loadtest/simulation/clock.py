"""An event loop whose time is virtual: when nothing is ready, the clock jumps to the next timer.

A run of minutes takes milliseconds, and the order in which callbacks run depends on nothing but the program. There
are no threads: what would go to an executor runs on the loop, after a delay that ``executor_delay_s`` draws.
"""

import asyncio
import selectors
from collections.abc import Callable, Mapping
from typing import Any, TypeVarTuple

from engine.errors import MurmurationError

Ts = TypeVarTuple("Ts")

#: So many rounds of callbacks without any time passing are a loop that waits for itself.
ROUNDS_AT_ONE_TIME_MAX = 1_000_000


class StuckError(MurmurationError):
    """Nothing will ever happen again: every task waits for another, or there are no more timers."""

    code = "simulation_stuck"


class _NoWaiting(selectors.BaseSelector):
    """Knows the loop's own wake-up socket (which nobody writes to) and turns waiting into passing of time."""

    def __init__(self) -> None:
        self._keys: dict[int, selectors.SelectorKey] = {}
        self.now_s = 0.0
        self._rounds = 0

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        fd = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        key = self._keys[fd] = selectors.SelectorKey(fileobj, fd, events, data)
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys.pop(fileobj if isinstance(fileobj, int) else fileobj.fileno())

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self.register(fileobj, events, data)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise StuckError("every task waits, and no timer is set")
        self._rounds = 0 if timeout > 0 else self._rounds + 1
        if self._rounds > ROUNDS_AT_ONE_TIME_MAX:
            raise StuckError("callbacks run for ever, and no time passes")
        self.now_s += max(0.0, timeout)
        return []

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._keys

    def close(self) -> None:
        self._keys.clear()


class VirtualLoop(asyncio.SelectorEventLoop):
    """The loop of a simulation; its time starts at 0. Raises ``StuckError`` where a real one would wait for ever."""

    def __init__(self, executor_delay_s: Callable[[], float] = lambda: 0.0) -> None:
        self._waiting = _NoWaiting()
        super().__init__(self._waiting)
        self._executor_delay_s = executor_delay_s

    def time(self) -> float:
        return self._waiting.now_s

    def run_in_executor(self, executor: Any, func: Callable[[*Ts], Any], *args: *Ts) -> asyncio.Future[Any]:
        """Run ``func`` on the loop, after the drawn delay; ``executor`` is not looked at."""
        done: asyncio.Future[Any] = self.create_future()

        def run() -> None:
            if done.cancelled():  # a thread would not have heard of it either, had it begun already
                return
            try:
                result = func(*args)
            except StopIteration as error:
                done.set_exception(RuntimeError(f"StopIteration: {error}"))
            except BaseException as error:
                done.set_exception(error)
            else:
                done.set_result(result)

        self.call_later(self._executor_delay_s(), run)
        return done

    def call_soon_threadsafe(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Any = None
    ) -> asyncio.Handle:
        """There is one thread: no wake-up is needed."""
        return self.call_soon(callback, *args, context=context)
