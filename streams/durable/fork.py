"""Work in a forked child: the child sees memory as it was at the fork, while the parent goes on changing its own.

Forking a process with threads is safe here because the child runs only ``work``, which uses files and arrays. The child
takes no lock, logs nothing, imports nothing, frees nothing of the parent's, and ends by ``os._exit``.
"""

import contextlib
import ctypes
import gc
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1
#: The lowest of the normal priorities: feeds come first, yet the child is never starved.
_NICENESS = 19
_FAILED = 255
#: Instead of the system's limit, which is a billion in some containers: without close_range(2) every one costs a call.
_DESCRIPTORS_MAX = 1 << 20
#: Loaded before any fork, because loading a library takes locks.
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None

CAN_FORK = hasattr(os, "fork")


class Child:
    """A running child. ``pause_s`` is how long the fork blocked the caller."""

    def __init__(self, work: Callable[[], None]) -> None:
        """Start ``work`` in a child, at a lower priority.

        On Linux the system kills the child when the *thread* that made it ends, so that thread must live long enough.

        Raises:
            OSError: the system has no process or memory left.
        """
        started = time.perf_counter()
        self._pid = _fork(work)
        self.pause_s = time.perf_counter() - started
        self._reaping = threading.Lock()
        self._status: int | None = None

    def wait(self) -> None:
        """Wait until the child is done. Callable from any thread.

        Raises:
            OSError: ``work`` raised it in the child, or the child was killed.
        """
        with self._reaping:
            if self._status is None:
                self._status = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        if self._status < 0:
            raise OSError(f"the child process was ended by {signal.Signals(-self._status).name}")
        if self._status == _FAILED:
            raise OSError("the child process failed")
        if self._status:
            raise OSError(self._status, os.strerror(self._status))

    def kill(self) -> None:
        """Kill the child; ``wait`` then raises. Does nothing when the child has ended."""
        if self._status is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)


def _fork(work: Callable[[], None]) -> int:
    parent = os.getpid()
    # A garbage collection in the child would run finalizers that close what belongs to the parent.
    collecting = gc.isenabled()
    gc.disable()
    try:
        with warnings.catch_warnings():
            # Python 3.12 warns that other threads may hold locks at a fork: the child takes none (see above).
            warnings.filterwarnings("ignore", message=".*fork.*", category=DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            _run(work, parent)
        return pid
    finally:
        if collecting:
            gc.enable()


def _run(work: Callable[[], None], parent: int) -> None:
    """Run the child from start to exit. Its exit code is 0, the errno of an OSError, or 255."""
    code = _FAILED
    try:
        _detach(parent)
        work()
        code = 0
    except OSError as error:
        code = error.errno if error.errno and 0 < error.errno < _FAILED else _FAILED
    finally:
        os._exit(code)


def die_with(parent: int) -> None:
    """Let the system kill this process when its parent ends, or end here if that has happened already. Does something
    on Linux only."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(_FAILED)


def _detach(parent: int) -> None:
    """Cut the child off from the parent: signals, sockets, locks and priority; and die when the parent dies."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets Ctrl-C as well, and decides about the child
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    die_with(parent)
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(nothing, standard)
    os.closerange(3, _DESCRIPTORS_MAX)
    os.nice(_NICENESS)
    if hasattr(os, "SCHED_BATCH"):
        # A batch process never preempts a thread that has just woken up.
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
