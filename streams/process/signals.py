"""The signals that tell a process to stop, SIGTERM and SIGINT, at every moment of its life.

A process that serves drains first (``StopSignals.told``). At any other moment it ends at once, with the exit code that
shells give a process that a signal ended: 128 + the signal's number. That is as safe as a kill, because everything on
disk is made for kills; and it needs no default handlers, which a process in a container (process 1) does not have.
"""

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

import structlog

STOPPING: Final = (signal.SIGTERM, signal.SIGINT)

_log = structlog.get_logger("murmuration.ending")


def end_at_once(number: int, frame: FrameType | None = None) -> None:
    """Handle a signal by ending the process, without a word."""
    os._exit(128 + number)


def end_on_signals() -> None:
    """From now on ``STOPPING`` end the process at once. To be called on the main thread."""
    for number in STOPPING:
        signal.signal(number, end_at_once)


def interrupt_on_ctrl_c() -> None:
    """From now on Ctrl-C is a KeyboardInterrupt, so that the work that begins can clean up.

    On another thread than the main one, which no signal reaches, nothing changes.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)


class StopSignals:
    """``STOPPING`` on the running loop; made by ``stop_signals``."""

    def __init__(self, clear: Callable[[], None]) -> None:
        self._clear = clear
        self._told: asyncio.Future[str] | None = None

    async def told(self) -> str:
        """Wait for the first signal; returns its name. The next one then ends the process at once."""
        self._told = asyncio.get_running_loop().create_future()
        return await self._told

    def heard(self, number: signal.Signals) -> None:
        """Handle a signal."""
        if self._told is not None and not self._told.done():
            self._told.set_result(number.name)
            return
        when = "during the start" if self._told is None else "while it ends"
        _log.info(f"told to stop {when}: ends at once", signal=number.name)
        self._clear()
        os._exit(128 + number)


@contextmanager
def stop_signals(clear: Callable[[], None] = lambda: None) -> Iterator[StopSignals]:
    """Handle ``STOPPING`` while the block runs; after it they end the process at once.

    ``clear`` is called before the process ends at once, to end its children.
    """
    loop = asyncio.get_running_loop()
    signals = StopSignals(clear)
    for number in STOPPING:
        loop.add_signal_handler(number, signals.heard, number)
    try:
        yield signals
    finally:
        for number in STOPPING:
            loop.remove_signal_handler(number)
        end_on_signals()
