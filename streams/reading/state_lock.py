"""A phase-fair read–write lock: readers and the writer take turns, so neither can starve the other.

With a plain condition variable, a busy writer takes the lock again before a woken reader runs, and readers starve
(docs/decisions/0003-state-lock.md has the measurement). Here the end of a write hands the lock to all waiting readers:
they hold it before they wake. Readers that come while a writer waits go after the writer. So a reader waits for at most
one write, and a writer for at most one batch of reads.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class PhaseFairLock:
    """One writer at a time, any number of readers, in alternating phases. Not reentrant."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._readers_may_go = threading.Condition(self._mutex)
        self._writer_may_go = threading.Condition(self._mutex)
        self._reading = 0
        self._writing = False
        self._writers_waiting = 0
        self._readers_waiting = 0
        self._phase = 0

    def acquire_read(self) -> None:
        """Wait for the current or pending write phase, if any, and hold the lock for reading."""
        with self._mutex:
            if not self._writing and not self._writers_waiting:
                self._reading += 1
                return
            phase = self._phase
            self._readers_waiting += 1
            while self._phase == phase:
                self._readers_may_go.wait()
            # release_write has counted this reader already.

    def release_read(self) -> None:
        """Release; the last reader lets a waiting writer in."""
        with self._mutex:
            self._reading -= 1
            if not self._reading and self._writers_waiting:
                self._writer_may_go.notify()

    def acquire_write(self) -> None:
        """Wait until nobody reads or writes, and hold the lock alone."""
        with self._mutex:
            self._writers_waiting += 1
            while self._writing or self._reading:
                self._writer_may_go.wait()
            self._writers_waiting -= 1
            self._writing = True

    def release_write(self) -> None:
        """Release, and hand the lock to all waiting readers."""
        with self._mutex:
            self._writing = False
            self._phase += 1
            self._reading += self._readers_waiting
            if self._readers_waiting:
                self._readers_waiting = 0
                self._readers_may_go.notify_all()
            elif self._writers_waiting:
                self._writer_may_go.notify()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Hold the lock for reading."""
        self.acquire_read()
        try:
            yield
        finally:
            self.release_read()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the lock for writing."""
        self.acquire_write()
        try:
            yield
        finally:
            self.release_write()
