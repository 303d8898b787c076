"""The writer thread's work as a task of the loop: the same jobs, the same order, no thread."""

import asyncio
import queue
from collections.abc import Callable
from typing import Any

from loadtest.simulation.life import Life
from loadtest.simulation.lineage import CheckError
from loadtest.simulation.witness import Witness
from streams.durable.store import Store
from streams.live.applier import Applier
from streams.live.state_thread import Call, StateThread
from streams.ordering.pieces import Piece


class _Jobs(queue.SimpleQueue[Any]):
    """A queue that sets ``bell`` at every put."""

    def __init__(self) -> None:
        self.bell = asyncio.Event()

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        super().put(item)
        self.bell.set()


class InlineStateThread(StateThread):
    """The writer's work as a task, with pauses of ``pause_s`` between pieces."""

    def __init__(
        self,
        applier: Applier,
        *,
        witness: Witness,
        life: Life,
        pause_s: Callable[[], float],
        store: Store,
        **options: Any,
    ) -> None:
        super().__init__(applier, **options)
        #: Waiting reads, one snapshot, and the end.
        self._jobs_max = options["queue_max"] + 2
        self._jobs: _Jobs = _Jobs()
        self._witness, self._life, self._pause_s = witness, life, pause_s
        self._replayed_to = witness.began(applier, store)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = self._loop.create_task(self._work())

    async def stop(self) -> None:
        if self._task is not None:
            self._stopping.set()
            self._jobs.put(None)
            await self._task

    def alive(self) -> bool:
        return self._task is not None and not self._task.done()

    def attempt(self, piece: Piece, journaled: bool) -> bool:
        self._life.check()
        done = super().attempt(piece, journaled)
        if done:
            self._witness.applied(self.applier, piece)
            state = self.applier.state
            if journaled and state.version == self._replayed_to and not state.gap_records:
                self._witness.lineage.saw_state(state.version, state.digest(), "what was replayed")
        return done

    async def _work(self) -> None:
        try:
            while (job := await self._next()) is not None:
                if isinstance(job, Call):
                    self._answer(job)
                    continue
                for piece in job.pieces:
                    await asyncio.sleep(self._pause_s())
                    while not self.attempt(piece, job.journaled):
                        if self.gives_up():
                            return
                        await asyncio.sleep(self.retry_s)
                self._room.release()
        except BaseException as error:
            self._on_failed(error)

    async def _next(self) -> Any:
        if self._jobs.qsize() > self._jobs_max:
            raise CheckError(f"{self._jobs.qsize()} jobs wait for the writer")
        while self._jobs.empty():
            self._jobs.bell.clear()
            await self._jobs.bell.wait()
        return self._jobs.get_nowait()
