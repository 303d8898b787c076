"""The writer thread: pieces in, applied one by one under the write side of the state lock.

The thread talks to the event loop only through ``call_soon_threadsafe``.
"""

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import structlog

from streams.live.applier import ROOMS_SHOWN_S, Applier
from streams.ordering.pieces import Piece, Pieces
from streams.process.retry import Retries

log = structlog.get_logger("murmuration.state")
T = TypeVar("T")

#: A journal that cannot be written (a full disk) is tried again after this long.
JOURNAL_RETRY_S_MAX = 0.5


class Call(NamedTuple):
    """Work to be done between two pieces."""

    work: Callable[[], object]
    done: asyncio.Future[object]


class StateThread:
    """Runs the applier. ``put`` and ``call`` are called on the event loop, ``on_applied`` is called back there."""

    def __init__(
        self,
        applier: Applier,
        *,
        queue_max: int,
        on_applied: Callable[[], None],
        on_failed: Callable[[BaseException], None],
    ) -> None:
        self.applier = applier
        #: False once the thread has died of an error; the state may be half changed then.
        self.healthy = True
        #: Why nothing is applied now (the journal cannot be written); None when all is well.
        self.problem: str | None = None
        self._journal = Retries(
            "the journal cannot be written, nothing is applied", wait_s_max=JOURNAL_RETRY_S_MAX, level="error", log=log
        )
        #: Seconds to wait before a piece is tried again.
        self.retry_s = 0.0
        #: Called on the thread after every piece: jobs start here, on exactly the version that makes them due.
        self.between_pieces: Callable[[], None] = lambda: None
        self._on_applied, self._on_failed = on_applied, on_failed
        self._jobs: queue.SimpleQueue[Pieces | Call | None] = queue.SimpleQueue()
        self._room = asyncio.Semaphore(queue_max)
        self._loop = asyncio.get_running_loop()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="murmuration-state", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    async def put(self, pieces: Pieces) -> None:
        """Queue the pieces that a source gave; waits while the queue is full."""
        await self._room.acquire()
        self._jobs.put(pieces)

    async def call(self, work: Callable[[], T]) -> T:
        """Run ``work`` on the writer thread between two pieces, so that the state does not change meanwhile.

        Raises:
            Exception: what ``work`` raised.
        """
        done: asyncio.Future[T] = self._loop.create_future()
        self._jobs.put(Call(work, done))  # type: ignore[arg-type]
        return await done

    async def stop(self) -> None:
        """Apply the queued pieces, as far as the journal can be written, and end the thread."""
        if self._thread.is_alive():
            self._stopping.set()
            self._jobs.put(None)
            await asyncio.to_thread(self._thread.join)

    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def _run(self) -> None:
        try:
            while (job := self._take()) is not None:
                if isinstance(job, Call):
                    self._answer(job)
                    continue
                if not all(self._apply(piece, job.journaled) for piece in job.pieces):
                    return
                self._loop.call_soon_threadsafe(self._room.release)
        except BaseException as error:
            self.healthy = False
            log.exception("state thread died")
            self._loop.call_soon_threadsafe(self._on_failed, error)

    def _take(self) -> Pieces | Call | None:
        if not self.applier.rooms_shown:
            try:
                return self._jobs.get(timeout=ROOMS_SHOWN_S)
            except queue.Empty:
                self.applier.show_rooms()
        return self._jobs.get()

    def _apply(self, piece: Piece, journaled: bool) -> bool:
        while not self.attempt(piece, journaled):
            if self.gives_up():
                return False
            self._stopping.wait(self.retry_s)
        return True

    def gives_up(self) -> bool:
        """After a failed attempt: whether this thread is to end without applying what it was given."""
        if self._stopping.is_set():
            log.error("told to stop while the journal cannot be written: the next start applies what is left")
        return self._stopping.is_set()

    def attempt(self, piece: Piece, journaled: bool) -> bool:
        """Apply a piece; False when the journal cannot be written and the piece is to be tried again."""
        try:
            self.applier.apply(piece, journaled=journaled)
        except OSError as error:
            # A piece that is not in the journal is not applied. Feeds go on at the current version.
            self.retry_s = self._journal.failed(error)
            self.problem = f"the journal cannot be written: {error}"
            return False
        self.problem = None
        self._journal.succeeded()
        self._loop.call_soon_threadsafe(self._on_applied)
        self.between_pieces()
        return True

    def _answer(self, call: Call) -> None:
        def settle(result: object, error: BaseException | None) -> None:
            if call.done.cancelled():
                return
            if error is None:
                call.done.set_result(result)
            else:
                call.done.set_exception(error)

        try:
            result, failure = call.work(), None
        except Exception as error:
            result, failure = None, error
        self._loop.call_soon_threadsafe(settle, result, failure)
