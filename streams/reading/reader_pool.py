"""The threads that compute feeds, and the way of a call to them and of its result back to the event loop.

``ThreadPoolExecutor`` with ``run_in_executor`` makes two futures a call, chains them through callbacks, and takes
several locks for each: some 60 µs of CPU a feed. Here a call is one entry of a queue, and its result one call on the
loop.
"""

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, NamedTuple, Protocol, TypeVar

T = TypeVar("T")


class Pool(Protocol):
    """Where calls run: threads, or in a simulation the loop itself."""

    def run(self, work: Callable[[], T]) -> "asyncio.Future[T]":
        """Run ``work``; called on an event loop."""

    def close(self) -> None:
        """Finish what waits."""


class _Call(NamedTuple):
    work: Callable[[], Any]
    loop: asyncio.AbstractEventLoop
    future: "asyncio.Future[Any]"


class ReaderPool:
    """Threads that run calls, first come, first served. ``prepare`` runs on each of them when it starts."""

    def __init__(self, threads: int, prepare: Callable[[], None], *, name: str) -> None:
        self._prepare = prepare
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._run, name=f"{name}_{number}", daemon=True) for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def run(self, work: Callable[[], T]) -> "asyncio.Future[T]":
        """Run ``work`` on a thread; called on an event loop. A call whose future is cancelled before its turn is left
        out.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._calls.put(_Call(work, loop, future))
        return future

    def close(self) -> None:
        """Finish the calls that wait and end the threads."""
        for _ in self._threads:
            self._calls.put(None)
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        self._prepare()
        while (call := self._calls.get()) is not None:
            if not call.future.cancelled():
                _answer(call)
            del call  # a call holds its request and result, and the next one may be long in coming


def _answer(call: _Call) -> None:
    result, failure = None, None
    try:
        result = call.work()
    except BaseException as error:
        failure = error
    try:
        call.loop.call_soon_threadsafe(_settle, call.future, result, failure)
    except RuntimeError:
        pass  # the loop is closed, so nobody waits
    finally:
        # An error holds this frame by its traceback, and this frame must not hold the error.
        del failure


def _settle(future: "asyncio.Future[Any]", result: Any, failure: BaseException | None) -> None:
    if future.done():
        return  # cancelled meanwhile
    if failure is None:
        future.set_result(result)
    else:
        future.set_exception(failure)
