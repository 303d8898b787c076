"""The simulated process: the engine wired as in a server, on a faulty log and disk, through all its lives.

It differs from a real process in one way: the work of the writer thread, the reader threads and the thread pool runs on
the loop.
"""

import asyncio
from typing import Any

from prometheus_client import CollectorRegistry

from config.schema import Config
from engine.state import EngineState
from loadtest.simulation.chance import Chance
from loadtest.simulation.clock import LoopPool
from loadtest.simulation.faults import ClientFaults, ProcessFaults, Rates, Weather
from loadtest.simulation.jobs import DrawnJobs
from loadtest.simulation.life import Crash, Life
from loadtest.simulation.lineage import CheckError
from loadtest.simulation.losses import Losses
from loadtest.simulation.memory_disk import FaultyDisk, Platter
from loadtest.simulation.memory_log import Broker, MemoryLog
from loadtest.simulation.settings import change_config
from loadtest.simulation.witness import Witness
from loadtest.simulation.workload import EPOCH_MS
from loadtest.simulation.writer import InlineStateThread
from streams.durable.journal import JournalError
from streams.durable.store import FolderError, Store, StoreError
from streams.events.json_types import TOPICS
from streams.live.applier import Applier
from streams.live.live_engine import LiveEngine
from streams.live.state_thread import StateThread
from streams.live.wiring import following_engine
from streams.log.interface import LogUnavailableError
from streams.recovery.replay import LogGapError
from streams.server.metrics import ServingMetrics
from streams.server.served_log import ServedLog

#: Longest time that a life may take to end after it is asked to stop.
STOP_S_MAX = 300.0
SERVED_MAX = 64


class Process:
    """Starts the engine again after each end. ``engine`` is the current one while it serves, else None."""

    def __init__(
        self, config: Config, broker: Broker, weather: Weather, rates: Rates, chance: Chance, platter: Platter
    ) -> None:
        self.config, self.broker = config, broker
        self.witness = Witness(config, chance.stream("witness"))
        self.platter = platter
        self.losses = Losses(
            platter, self.witness, rates, chance.stream("losses"), serving=lambda: self.engine is not None
        )
        self.engine: LiveEngine | None = None
        self.served: ServedLog | None = None
        self.life = Life(0)
        self.lives = 0
        self.deaths = 0
        self._weather, self._rates, self._chance = weather, rates, chance
        self._accept_gap = False
        #: How long the trace was when the process was told to stop.
        self._told_at = 0
        self._calm = asyncio.Event()
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Live until ``stop``; until ``calm``, each life ends as the seed says.

        Raises:
            CheckError: a life ended by an error that is no injected fault.
        """
        while True:
            self.lives += 1
            await self._live_and_die(Life(self.lives))
            if self._stop.is_set():
                return
            await asyncio.sleep(self._chance.seconds(0.1, 5.0))

    def calm(self) -> None:
        """Stop injecting faults."""
        self._weather.calm = True
        self._calm.set()

    def stop(self) -> None:
        """Make the current life the last."""
        self._stop.set()

    async def _live_and_die(self, life: Life) -> None:
        self.life = life
        if self.lives > 1 and self._chance.happens(self._rates.changes):
            self.config = change_config(self.config, self._chance)
            self.witness.configs.append(self.config)
        stormy = not self._weather.calm
        chance = self._chance.stream(str(life.number))
        mortal = not self._weather.calm and self.deaths < self._rates.deaths
        told = asyncio.Event()
        living = asyncio.create_task(self._live(life, chance, told, mortal=mortal), name=f"life {life.number}")
        try:
            if mortal:
                await _first(living, self._calm, timeout_s=chance.seconds(0.5, 40.0))
            last = not mortal or self._calm.is_set()
            if last:
                await _first(living, self._stop)
            if not living.done() and (last or chance.happens(0.3)):
                chance.note("is told to stop")
                self._told_at = len(chance.trace.lines)
                told.set()
                await asyncio.wait((living,), timeout=STOP_S_MAX)
            if not living.done():
                if last:
                    raise CheckError(f"life {life.number} does not stop")
                life.kill("kill -9")
                self.engine = self.served = None
                living.cancel()
                await asyncio.wait((living,))
        finally:
            self.engine = self.served = None
            living.cancel()
        self._bury(life, living, chance, stormy=stormy)

    def _bury(self, life: Life, living: asyncio.Task[None], chance: Chance, *, stormy: bool) -> None:
        """Judge the end of a life, and prepare the next. ``stormy``: the weather was not yet calm when it began.

        Raises:
            CheckError: the life ended by an error that is no injected fault.
        """
        error = None if living.cancelled() else living.exception()
        causes, struck = _causes(error), self.witness.struck
        careless = self.broker.careless or self.witness.ever_lost_files
        for cause in causes:
            if isinstance(cause, CheckError):
                raise cause
            if not _may_end(cause, stormy=stormy, careless=careless, struck=struck):
                raise CheckError(f"life {life.number} ended by {cause!r}") from cause
        if life.dead:
            self.deaths += 1
            chance.note(f"ends: {life.cause}")
            if chance.happens(self._rates.power_cuts):
                chance.note("the power is cut")
                self.platter.lose_power()
                self.witness.powered = False
        else:
            chance.note(f"ends: {causes[0] if causes else 'stopped'}")
            self._accept_gap = any(isinstance(cause, LogGapError) for cause in causes)
            if struck and any(isinstance(cause, JournalError | StoreError) for cause in causes):
                self.losses.move_folder_away()
        self.losses.ended(well=not life.dead and not causes and not self._errors())
        if not self._weather.calm:
            self.losses.between_lives()
        self.witness.kept_version = self.losses.kept_version()
        life.kill("it has ended")

    def _errors(self) -> bool:
        """Whether an error was logged since the process was told to stop; files that were written again are none."""
        lines = self._chance.trace.lines[self._told_at :]
        return any("log: error" in line and "written again" not in line for line in lines)

    async def _live(self, life: Life, chance: Chance, told: asyncio.Event, *, mortal: bool) -> None:
        config, durable = self.config, self.config.durable
        faults = ProcessFaults(self._weather, self._rates, chance.stream("disk"), mortal=mortal)
        disk = FaultyDisk(self.platter, faults, chance.stream("tears"), life, self.witness.synced)
        log = MemoryLog(self.broker, ClientFaults(self._weather, self._rates, chance.stream("log"), life))
        pauses = chance.stream("writer")
        slowness_s = pauses.choice([0.0, 0.01, 0.2])

        accept_gap, self._accept_gap = self._accept_gap, False
        self.witness.gap_accepted |= accept_gap
        states: list[EngineState] = []
        jobs = DrawnJobs(lambda: states[0], self.witness.lineage, self._weather, self._rates, chance.stream("jobs"))

        async with log:
            await log.ensure_topics(dict.fromkeys(TOPICS, config.log.partitions_default))
            store = Store.open(disk, segment_bytes=durable.journal_segment_bytes, snapshots_keep=durable.snapshots_keep)

            def writer(applier: Applier, **options: Any) -> StateThread:
                states.append(applier.state)
                return InlineStateThread(
                    applier,
                    witness=self.witness,
                    life=life,
                    pause_s=lambda: pauses.seconds(0.0, slowness_s),
                    store=store,
                    **options,
                )

            async with following_engine(
                config,
                log,
                store,
                incarnation=chance.integer(1, 1 << 60),
                now_ms=EPOCH_MS + int(asyncio.get_running_loop().time() * 1000),
                registry=CollectorRegistry(),
                accept_gap=accept_gap,
                state_thread=writer,
                start_job=jobs.start,
            ) as engine:
                await self._serve(engine, log, told)

    async def _serve(self, engine: LiveEngine, log: MemoryLog, told: asyncio.Event) -> None:
        engine.readers.run_on(LoopPool())
        served = ServedLog(log, ServingMetrics(CollectorRegistry()), linger_s=0.05, feeds_max=SERVED_MAX)
        running = asyncio.create_task(served.run())
        try:
            self.engine, self.served = engine, served
            watching = asyncio.create_task(_until_at_a_loss(engine), name="the operator watches")
            await _first(watching, told)
            watching.cancel()
            self.engine = None
            await served.drain(60.0)
        finally:
            running.cancel()


async def _until_at_a_loss(engine: LiveEngine) -> None:
    """The operator restarts a process that says that it can read no further."""
    while engine.ingest is None or not engine.ingest.at_a_loss:  # noqa: ASYNC110 - the operator looks now and then
        await asyncio.sleep(1.0)


async def _first(living: asyncio.Task[None], event: asyncio.Event, timeout_s: float | None = None) -> None:
    """Wait for the end of a life or an event, whichever comes first."""
    waiting = asyncio.create_task(event.wait())
    await asyncio.wait((living, waiting), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()


def _may_end(cause: BaseException, *, stormy: bool, careless: bool, struck: bool) -> bool:
    """True if the exception is an injected fault, so that the process may end by it. Anything else is a bug.

    ``careless``: the log may lack records that a start needs. ``struck``: files were lost since the last start that
    replayed its journal to the end, so one may refuse the folder by name.
    """
    if isinstance(cause, LogGapError):
        return careless
    if isinstance(cause, JournalError | StoreError):
        return struck or (stormy and isinstance(cause, JournalError))
    return stormy and isinstance(cause, FolderError | LogUnavailableError | OSError)


def _causes(error: BaseException | None) -> list[BaseException]:
    """The errors in an exception, with groups flattened and without Crash."""
    if error is None:
        return []
    if isinstance(error, BaseExceptionGroup):
        return [cause for part in error.exceptions for cause in _causes(part)]
    return [] if isinstance(error, Crash) else [error]
