"""How things end: no task is waited for without bound or without a word, and a process that was told to stop does."""

import asyncio
import faulthandler
import sys
from collections.abc import Collection
from types import FrameType
from typing import Any, Final

import structlog

#: What a cancelled task may still take to leave in good order.
END_TIMEOUT_S: Final = 10.0
#: So long before the force: what the tasks wait for is logged while there still is a loop to ask.
_TELL_S: Final = 5.0

log = structlog.get_logger("murmuration.ending")


async def end_tasks(tasks: Collection[asyncio.Task[Any]], *, timeout_s: float = END_TIMEOUT_S) -> None:
    """Cancel tasks and wait until they have ended. One that has not within ``timeout_s`` is named in the log, with
    what it waits for, and left behind."""
    for task in tasks:
        task.cancel()
    await wait_ended(tasks, timeout_s=timeout_s)


async def wait_ended(tasks: Collection[asyncio.Task[Any]], *, timeout_s: float = END_TIMEOUT_S) -> None:
    """Wait until tasks that are about to end have; else as ``end_tasks``."""
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
    """From now on this process ends within ``timeout_s``: by itself, or with exit code 1 after every task and thread
    that is still there was written to standard error. Call it on the event loop; nothing calls it off."""
    asyncio.get_running_loop().call_later(max(0.0, timeout_s - _TELL_S), _tell)
    # A thread of C's own: it works whatever holds the interpreter, and while it shuts down, too.
    faulthandler.dump_traceback_later(timeout_s, exit=True, file=sys.__stderr__ or 2)


def _tell() -> None:
    for task in asyncio.all_tasks():
        log.error("still there, though told to stop", task=task.get_name(), at=standing(task))
