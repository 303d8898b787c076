"""Writes snapshots and syncs the journal while the engine runs, and writes a last snapshot when it ends."""

import asyncio
import contextlib
import signal
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping

import structlog

from config.serving import DurableConfig
from streams.durable.journal import JournalError
from streams.durable.metrics import DurableMetrics
from streams.durable.snapshots import Pending, SnapshotInfo
from streams.durable.store import Store
from streams.live.state_thread import StateThread
from streams.log.interface import EventLog, LogUnavailableError
from streams.process.retry import Retries
from streams.recovery.recover import Recovered
from streams.recovery.replay import log_starts

log = structlog.get_logger("murmuration.snapshots")

#: Tells a serving process to write a snapshot now.
SNAPSHOT_SIGNAL = signal.SIGUSR1
#: So long a snapshot waits for candidates to be written before it is given up.
WRITTEN_TIMEOUT_S = 60.0


async def _at_once(timeout_s: float) -> bool:
    """Nothing is to be written."""
    return True


class Keeper:
    """Keeps on disk what the next start needs. Lives on the event loop; ``store`` None: nothing is kept.

    Concurrency: only the start of a snapshot runs on the writer thread (a fork; without forks, the whole snapshot).
    Everything else runs in threads of the loop's pool.
    """

    def __init__(
        self,
        store: Store | None,
        recovered: Recovered,
        state_thread: StateThread,
        config: DurableConfig,
        metrics: DurableMetrics,
        event_log: EventLog,
        *,
        rooms: Mapping[str, str],
        settled: Callable[[], bool] = lambda: True,
        written: Callable[[float], Awaitable[bool]] = _at_once,
    ) -> None:
        """``rooms``: the hash of each room. ``settled``: whether all dead letters of applied records are in the log.
        ``written``: waits, at most so many seconds, until all candidates for notifications of applied records are, and
        says whether they are.

        A snapshot must wait for both: the next start does not read these records again, so what was not written by then
        would be lost. Letters are rare, so a snapshot begins when none is left. Candidates may come all the time, so it
        begins at any time and is published when those are written that were found before.
        """
        self._event_log = event_log
        self._store = store
        self._recovered = recovered
        self._state_thread = state_thread
        self._config = config
        self._metrics = metrics
        self._rooms = rooms
        self._settled = settled
        self._written = written
        #: The version of the newest snapshot; -1 asks for a snapshot at once (a gap in the log was accepted).
        self._version = recovered.state.version if recovered.on_disk else -1
        #: Why the journal cannot be synced; None when all is well.
        self.problem: str | None = None
        self._syncs = Retries("the journal cannot be synced, nothing is applied", level="error", log=log)
        #: Held while a forked child works, for a snapshot or a job: two children would double the memory that is copied
        #: on write.
        self.forks = asyncio.Lock()
        self._pending: Pending | None = None
        metrics.gap_records.set(recovered.state.gap_records)
        metrics.skipped.set(len(recovered.journal.skipped) if recovered.journal is not None else 0)
        for room in recovered.state.parts:
            metrics.room_since.labels(room.name).set(recovered.state.since(room.name).time_ms / 1000.0)

    async def run(self) -> None:
        """Sync the journal and write snapshots as configured, for ever. What fails is tried again later."""
        if self._store is None:
            await asyncio.Event().wait()
        loop = asyncio.get_running_loop()
        due_s = loop.time() + (self._config.snapshot_interval_s if self._version >= 0 else 0.0)
        while True:
            await self._sync_journal()
            if loop.time() >= due_s and self._settled():
                due_s = loop.time() + self._config.snapshot_interval_s
                try:
                    await self.snapshot()
                except OSError as error:
                    log.error("no snapshot was written, the one before stays", error=str(error))
            await asyncio.sleep(self._config.journal_sync_interval_s)

    async def snapshot(self, *, again: bool = False) -> SnapshotInfo | None:
        """Write a snapshot of the current version, unless the newest snapshot has it (``again``: even then).

        Raises:
            OSError: it could not be written; the previous snapshot stays.
        """
        async with self.forks:
            if self._store is None or (self._recovered.state.version == self._version and not again):
                return None
            began = time.monotonic()
            try:
                pending = await self._state_thread.call(self._start)
                if pending is None:
                    log.warning("no snapshot now: dead letters wait for the log")
                    return None
                self._pending = pending
                if not await self._written(WRITTEN_TIMEOUT_S):
                    await self._discard(pending)
                    log.warning("no snapshot now: candidates for notifications wait for the log")
                    return None
                info = await asyncio.to_thread(pending.finish)
                await asyncio.to_thread(self._mend)
            except OSError:
                self._metrics.snapshot_failures.inc()
                raise
            self._version = info.version
            await self._prune()
            self._metrics.note_snapshot(info, time.monotonic() - began, pending.pause_s)
            log.info(
                "snapshot",
                version=info.version,
                bytes=info.bytes,
                seconds=round(time.monotonic() - began, 3),
                pause_ms=round(pending.pause_s * 1e3, 1),
            )
            return info

    async def _discard(self, pending: Pending) -> None:
        self._pending = None
        await asyncio.to_thread(pending.discard)

    def _mend(self) -> None:
        """Write files of the folder again that are gone; raises OSError."""
        assert self._store is not None
        for name in self._store.mend():
            log.error("a file of the durable folder was gone, and is written again", file=name)

    def _start(self) -> Pending | None:
        """Begin a snapshot. Runs on the writer thread, so that nothing changes until the fork is done."""
        if not self._settled():
            return None
        assert self._store is not None
        assert self._recovered.journal is not None
        self._recovered.journal.sync()
        assert self._recovered.snapshots is not None
        return self._recovered.snapshots.start(self._info(), self._recovered.state.arrays())

    def _info(self) -> SnapshotInfo:
        journal, state = self._recovered.journal, self._recovered.state
        assert journal is not None
        return SnapshotInfo(
            history=self._recovered.origin.history,
            version=state.version,
            clock_ms=state.clock_ms,
            positions=dict(self._state_thread.applier.positions),
            models=journal.state.models | state.models.versions(),
            incarnation=self._recovered.origin.incarnation,
            rooms=dict(self._rooms),
            gaps=journal.state.gaps,
            created_ms=int(time.time() * 1000),
        )

    async def _sync_journal(self) -> None:
        journal = self._recovered.journal
        if journal is None or self._config.journal_sync != "interval":
            return
        try:
            await asyncio.to_thread(journal.sync)
        except OSError as error:
            self._metrics.sync_failures.inc()
            self._syncs.failed(error)
            self.problem = f"the journal cannot be synced: {error}"
        else:
            self._syncs.succeeded()
            self.problem = None

    async def _prune(self) -> None:
        assert self._store is not None
        assert self._recovered.journal is not None
        try:
            starts = await log_starts(self._event_log)
            await asyncio.to_thread(self._store.prune, self._recovered.journal, starts)
        except LogUnavailableError:
            return  # the next snapshot tries again
        except OSError as error:
            log.error("files that are no longer needed could not be removed", error=str(error))

    async def close(self) -> None:
        """Write a last snapshot and close the journal. To be called after the writer thread has ended."""
        journal, snapshots = self._recovered.journal, self._recovered.snapshots
        if journal is None or snapshots is None:
            return
        try:
            written = await self._written(0.0)
            if self._pending is not None and not written:
                await self._discard(self._pending)
            if self._pending is not None:
                self._pending.abandon()
                with contextlib.suppress(OSError):
                    self._version = (await asyncio.to_thread(self._pending.finish)).version
            if (
                self._config.snapshot_at_stop
                and self._state_thread.healthy
                and self._settled()
                and written
                and self._recovered.state.version != self._version
            ):
                journal.sync()
                await asyncio.to_thread(snapshots.write, self._info(), self._recovered.state.arrays())
        except (OSError, JournalError) as error:
            log.error("no snapshot was written, the next start replays the journal", error=str(error))
        finally:
            try:
                await asyncio.to_thread(self._mend)
            except OSError as error:
                log.error("a file of the durable folder was gone, and cannot be written", error=str(error))
            try:
                await asyncio.to_thread(journal.close)
            except OSError as error:
                log.error("the journal could not be synced, a power loss may take its end", error=str(error))


class SnapshotListener:
    """Writes a snapshot on ``SNAPSHOT_SIGNAL``. A signal during the start takes effect once the engine runs."""

    def __init__(self) -> None:
        self._keeper: Keeper | None = None
        self._early = False
        self._writing: set[asyncio.Task[None]] = set()

    def ready(self, keeper: Keeper) -> None:
        """The engine runs now; write the snapshot of a signal that came during the start."""
        self._keeper = keeper
        if self._early:
            self.heard()

    def heard(self) -> None:
        """Handle the signal."""
        if self._keeper is None:
            self._early = True
            return
        task = asyncio.create_task(self._write(self._keeper), name="snapshot on signal")
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def _write(self, keeper: Keeper) -> None:
        try:
            await keeper.snapshot(again=True)
        except OSError as error:
            log.error("no snapshot was written, the one before stays", error=str(error))


@contextlib.contextmanager
def snapshots_on_signal() -> Iterator[SnapshotListener]:
    """Handle ``SNAPSHOT_SIGNAL`` while the block runs. Without a handler the signal would end the process."""
    listener, loop = SnapshotListener(), asyncio.get_running_loop()
    loop.add_signal_handler(SNAPSHOT_SIGNAL, listener.heard)
    try:
        yield listener
    finally:
        loop.remove_signal_handler(SNAPSHOT_SIGNAL)
