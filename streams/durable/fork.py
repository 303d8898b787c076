"""Work in a forked child: it sees the memory as it was at the fork, while the parent goes on changing it.

What makes a fork of a process with threads safe here: the child runs only what ``work`` does with files and arrays.
It takes no lock, logs nothing, imports nothing, frees nothing of its parent's, and ends by ``os._exit``.
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
#: The least of the normal priorities: feeds come first, and yet the child is never starved.
_NICENESS = 19
_FAILED = 255
#: Not the system's limit, which is a billion in some containers: without close_range(2) each is a call.
_DESCRIPTORS_MAX = 1 << 20
#: Loaded before any fork: loading takes locks.
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None

CAN_FORK = hasattr(os, "fork")


class Child:
    """A running child. ``pause_s`` is how long the fork kept the caller."""

    def __init__(self, work: Callable[[], None]) -> None:
        """Start ``work`` in a child, at a lower priority.

        On Linux the child is killed when the *thread* that made it ends: make it from one that lasts.

        Raises:
            OSError: no more processes or memory.
        """
        started = time.perf_counter()
        self._pid = _fork(work)
        self.pause_s = time.perf_counter() - started
        self._reaping = threading.Lock()
        self._status: int | None = None

    def wait(self) -> None:
        """Wait until the child is done. Callable from any thread.

        Raises:
            OSError: its work raised that, or it was killed.
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
        """End the child now; ``wait`` then raises. Harmless when it has ended."""
        if self._status is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)


def _fork(work: Callable[[], None]) -> int:
    parent = os.getpid()
    # A collection in the child would run finalizers, which close what is the parent's.
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
    """The child's whole life. Its exit code is 0, the errno of an OSError, or 255."""
    code = _FAILED
    try:
        _detach(parent)
        work()
        code = 0
    except OSError as error:
        code = error.errno if error.errno and 0 < error.errno < _FAILED else _FAILED
    finally:
        os._exit(code)


def _detach(parent: int) -> None:
    """Keep nothing of the parent's: neither its end nor its signals, sockets, locks and priority."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the parent too, which then decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(_FAILED)
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(nothing, standard)
    os.closerange(3, _DESCRIPTORS_MAX)
    os.nice(_NICENESS)
    if hasattr(os, "SCHED_BATCH"):
        # Never takes a core from a thread that has just got something to do.
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
