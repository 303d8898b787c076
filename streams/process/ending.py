"""How tasks and processes end: every wait is bounded and logged, and a process that is told to stop always ends."""

import asyncio
import faulthandler
import sys
from collections.abc import Collection
from types import FrameType
from typing import Any, Final

import structlog

#: How long a cancelled task may take to end.
END_TIMEOUT_S: Final = 10.0
#: Seconds before the forced end at which the tasks' places are logged, while the event loop still runs.
_TELL_S: Final = 5.0

log = structlog.get_logger("murmuration.ending")


async def end_tasks(tasks: Collection[asyncio.Task[Any]], *, timeout_s: float = END_TIMEOUT_S) -> None:
    """Cancel tasks and wait until they have ended. A task that takes longer than ``timeout_s`` is logged, with the
    place where it waits, and no longer waited for."""
    for task in tasks:
        task.cancel()
    await wait_ended(tasks, timeout_s=timeout_s)


async def wait_ended(tasks: Collection[asyncio.Task[Any]], *, timeout_s: float = END_TIMEOUT_S) -> None:
    """Wait for tasks that are about to end. One that takes longer than ``timeout_s`` is handled as in ``end_tasks``."""
    if not tasks:
        return
    _, left = await asyncio.wait(tasks, timeout=timeout_s)
    for task in left:
        log.error("a task does not end", task=task.get_name(), waited_s=timeout_s, at=standing(task))


def standing(task: asyncio.Task[Any]) -> list[str]:
    """Where a task stands: file, line and function, from its own coroutine to the innermost one."""
    places = []
    step: Any = task.get_coro()
    while step is not None:
        frame: FrameType | None = getattr(step, "cr_frame", None) or getattr(step, "gi_frame", None)
        if frame is not None:
            places.append(f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}")
        step = getattr(step, "cr_await", None) or getattr(step, "gi_yieldfrom", None)
    return places


def force_end_after(timeout_s: float) -> None:
    """Make this process end within ``timeout_s``. If it has not ended by itself then, the stacks of its tasks and
    threads are written to standard error and it exits with code 1. Call it on the event loop; it cannot be undone."""
    asyncio.get_running_loop().call_later(max(0.0, timeout_s - _TELL_S), _tell)
    # faulthandler's C thread works even while something holds the interpreter, and during its shutdown.
    faulthandler.dump_traceback_later(timeout_s, exit=True, file=sys.__stderr__ or 2)


def _tell() -> None:
    for task in asyncio.all_tasks():
        log.error("still there, though told to stop", task=task.get_name(), at=standing(task))
