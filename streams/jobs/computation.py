"""A job's computation: in a forked child; where processes cannot fork, at once on the caller's thread."""

import asyncio
import errno
import mmap
import os
from collections.abc import Callable
from typing import Protocol

from streams.durable.fork import CAN_FORK, Child

_HEAD_BYTES = 9
_RESULT, _ERROR = 1, 2
_ERROR_BYTES_MAX = 1000


class ResultTooLargeError(OSError):
    """A job's result has more bytes than allowed."""

    def __init__(self, size_max: int) -> None:
        super().__init__(errno.EFBIG, f"the result has more than {size_max} bytes")


class Computation(Protocol):
    """Work under way. ``pause_s``: how long the start blocked the caller."""

    pause_s: float

    async def result(self) -> bytes:
        """Wait for the result.

        Raises:
            ResultTooLargeError: the result is too large.
            OSError: the work failed or was killed.
        """

    def kill(self) -> None:
        """End the work now; ``result`` then raises. Harmless after the work has ended."""


#: Starts work, given with the most bytes that its result may have. Called on the writer thread.
Start = Callable[[Callable[[], bytes], int], Computation]


class ForkedComputation:
    """Work in a forked child, which sees the memory as of the fork; the result comes back through shared memory.

    The shared memory holds one byte (whether a result or an error came), eight bytes with its length, then its bytes.
    """

    def __init__(self, work: Callable[[], bytes], size_max: int) -> None:
        """Start the child.

        Raises:
            OSError: the system has no process or memory left.
        """
        self._size_max = size_max
        self._shared = mmap.mmap(-1, _HEAD_BYTES + max(size_max, _ERROR_BYTES_MAX))
        try:
            self._child = Child(lambda: self._run(work))
        except OSError:
            self._shared.close()
            raise
        self.pause_s = self._child.pause_s

    def _run(self, work: Callable[[], bytes]) -> None:
        """In the child."""
        try:
            result = work()
        except Exception as error:
            self._write(_ERROR, f"{type(error).__name__}: {error}".encode()[:_ERROR_BYTES_MAX])
            raise
        if len(result) > self._size_max:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        self._write(_RESULT, result)

    def _write(self, what: int, content: bytes) -> None:
        self._shared[_HEAD_BYTES : _HEAD_BYTES + len(content)] = content
        self._shared[:_HEAD_BYTES] = bytes([what]) + len(content).to_bytes(_HEAD_BYTES - 1, "little")

    async def result(self) -> bytes:
        try:
            await asyncio.to_thread(self._child.wait)
        except OSError as error:
            if error.errno == errno.EFBIG:
                raise ResultTooLargeError(self._size_max) from None
            if self._shared[0] == _ERROR:
                raise OSError(self._content().decode(errors="replace")) from None
            raise
        else:
            return self._content()
        finally:
            self._shared.close()

    def _content(self) -> bytes:
        size = int.from_bytes(self._shared[1:_HEAD_BYTES], "little")
        return self._shared[_HEAD_BYTES : _HEAD_BYTES + size]

    def kill(self) -> None:
        self._child.kill()


class InlineComputation:
    """Work that was done on the caller's thread, before the start returned."""

    pause_s = 0.0

    def __init__(self, work: Callable[[], bytes], size_max: int) -> None:
        self._size_max = size_max
        self._error: Exception | None = None
        try:
            self._result = work()
        except Exception as error:
            self._error = error

    async def result(self) -> bytes:
        if self._error is not None:
            raise OSError(f"{type(self._error).__name__}: {self._error}") from self._error
        if len(self._result) > self._size_max:
            raise ResultTooLargeError(self._size_max)
        return self._result

    def kill(self) -> None:
        pass


def start_computation(work: Callable[[], bytes], size_max: int) -> Computation:
    """Start the work in a child; where processes cannot fork, do all of it here, which blocks the caller.

    Raises:
        OSError: the work cannot be started.
    """
    return ForkedComputation(work, size_max) if CAN_FORK else InlineComputation(work, size_max)
