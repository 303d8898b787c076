"""An event loop whose time is virtual: when nothing is ready, the clock jumps to the next timer.

A run of minutes takes milliseconds, and the order of callbacks depends only on the program. There are no threads: a
function given to an executor runs on the loop, after a delay that ``executor_delay_s`` draws.
"""

import asyncio
import selectors
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, TypeVarTuple

from engine.errors import MurmurationError

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

#: If no time passes in this many rounds of callbacks, the loop is considered stuck.
ROUNDS_AT_ONE_TIME_MAX = 1_000_000


class StuckError(MurmurationError):
    """Nothing more can happen: every task waits for another and no timer is set, or no time passes any more."""

    code = "simulation_stuck"


class _NoWaiting(selectors.BaseSelector):
    """A selector that never waits: it moves the virtual time forward instead. No registered socket is ever ready."""

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


class LoopPool:
    """A pool of readers without threads: calls run on the virtual loop, each after a drawn delay."""

    def run(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """See ``streams.reading.reader_pool.Pool``."""
        return asyncio.get_running_loop().run_in_executor(None, work)

    def close(self) -> None:
        """Nothing waits once the loop has ended."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """The loop of a simulation; its time starts at 0. Raises ``StuckError`` where a real loop would wait for ever."""

    def __init__(self, executor_delay_s: Callable[[], float] = lambda: 0.0) -> None:
        self._waiting = _NoWaiting()
        super().__init__(self._waiting)
        self._executor_delay_s = executor_delay_s

    def time(self) -> float:
        return self._waiting.now_s

    def run_in_executor(self, executor: Any, func: Callable[[*Ts], Any], *args: *Ts) -> asyncio.Future[Any]:
        """Run ``func`` on the loop, after the drawn delay; ``executor`` is ignored."""
        done: asyncio.Future[Any] = self.create_future()

        def run() -> None:
            if done.cancelled():  # cancelled before it began, as an executor's queued work can be
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
        """As ``call_soon``: there is only one thread, so no wake-up is needed."""
        return self.call_soon(callback, *args, context=context)
