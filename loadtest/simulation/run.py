"""One run per seed: the world is drawn, everybody acts, the weather calms, and everything is checked."""

import asyncio
import gc
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import structlog

from engine.feed import Feed
from loadtest.simulation.audits import check_audits
from loadtest.simulation.chance import Chance, Trace
from loadtest.simulation.checks import Checks
from loadtest.simulation.clock import VirtualLoop
from loadtest.simulation.faults import Rates, Weather
from loadtest.simulation.hostile import Hostile
from loadtest.simulation.lineage import CheckError
from loadtest.simulation.memory_disk import Platter
from loadtest.simulation.memory_log import Broker
from loadtest.simulation.operations import Operator
from loadtest.simulation.people import Producer, Viewer
from loadtest.simulation.process import Process
from loadtest.simulation.settings import draw_config, with_room_for_one_more
from loadtest.simulation.workload import EPOCH_MS, Workload, WorkloadConfig
from streams.events.json_types import TOPICS
from streams.log.interface import TopicPartition

#: Virtual seconds that a run may take to come to rest once the weather is calm.
REST_S_MAX = 1200.0
PRODUCERS = 3
#: Share of the seeds that have a hostile viewer.
HOSTILE_SHARE = 0.3


class Outcome(NamedTuple):
    """The result of a seed's run. ``failure`` is None if all is well; ``figures`` say how much was exercised."""

    seed: int
    failure: str | None
    trace: Trace
    state_digest: str
    figures: dict[str, int]


def simulate(seed: int) -> Outcome:
    """Run one seed. Deterministic: the same seed gives the same trace and the same state, on every machine."""
    trace = Trace()
    world = World(seed, trace)
    failure = None
    with _quiet(trace), _drawing(seed), asyncio.Runner(loop_factory=world.make_loop) as runner:
        runner.get_loop().set_exception_handler(lambda loop, context: None)
        try:
            runner.run(world.run())
        except Exception as error:
            failure = f"{type(error).__name__}: {error}"
            trace.note(f"failed: {failure}")
    digest, figures = world.state_digest, world.figures
    del world, runner
    # Engines lie in cycles: few objects, which Python collects late, but hundreds of megabytes.
    gc.collect()
    return Outcome(seed, failure, trace, digest, figures)


class World:
    """Everything in a run."""

    def __init__(self, seed: int, trace: Trace) -> None:
        self._chance = Chance(seed, "world", trace)
        self._trace = trace
        self._rates = Rates.draw(self._chance.stream("rates"))
        self.state_digest = ""
        self.figures: dict[str, int] = {}

    def make_loop(self) -> asyncio.AbstractEventLoop:
        """The virtual loop of the run."""
        delays = self._chance.stream("threads")
        loop = VirtualLoop(lambda: delays.seconds(0.0, self._rates.executor_delay_s))
        self._trace.time_s = loop.time
        return loop

    async def run(self) -> None:
        """Do the whole run.

        Raises:
            CheckError: a check fails.
        """
        chance, rates, loop = self._chance, self._rates, asyncio.get_running_loop()
        seconds = chance.choice([15.0, 30.0, 60.0])
        chance.note(f"{seconds} s, {rates}")
        config = draw_config(chance.stream("config"))
        chance.note(f"{config.ingest} {config.durable}")
        weather = Weather(rates, seconds, chance.stream("weather"), loop.time)
        broker = Broker(lambda: EPOCH_MS + int(loop.time() * 1000))
        broker.create_topics({topic: chance.integer(1, 3) for topic in TOPICS})
        workload = Workload(
            WorkloadConfig(seconds, people=chance.integer(10, 24), history=chance.integer(0, 120), acts=80),
            chance.stream("workload"),
        )
        hostile = Hostile(workload, chance.stream("hostile")) if chance.happens(HOSTILE_SHARE) else None
        config = with_room_for_one_more(config) if hostile is not None else config
        platter = Platter(chance.stream("platter"))
        process = Process(config, broker, weather, rates, chance.stream("life"), platter)
        acknowledged: Counter[int] = Counter()
        feeds: list[Feed] = []
        living = asyncio.create_task(process.run(), name="process")
        busy = [
            asyncio.create_task(work) for work in self._people(workload, process, weather, acknowledged, feeds, seconds)
        ]
        if hostile is not None:
            producer = Producer(broker, weather, rates, chance.stream("hostile producer"), acknowledged)
            busy.append(asyncio.create_task(producer.work(hostile.floods(seconds))))
        operator = Operator(broker, platter, chance.stream("operator"))
        busy.append(asyncio.create_task(operator.work(seconds)))
        busy.append(asyncio.create_task(process.losses.work(seconds)))
        await _all(living, busy)
        process.calm()
        chance.note("the weather calms")
        await self._rest(living, process, broker)
        witness = process.witness
        checks = Checks(witness.configs, broker, workload.config.people if hostile is not None else 0)
        self.state_digest = checks.run(witness.lineage, witness.lost, acknowledged)
        audited = await check_audits(
            config,
            broker,
            platter,
            witness.lineage,
            log_lost=broker.removed_any(),
            files_lost=witness.ever_lost_files,
            chance=chance.stream("audits"),
        )
        self.figures = {
            "lives": process.lives,
            "changes": witness.changes,
            "versions": witness.lineage.version,
            "observed": checks.observed,
            "bystanders": checks.bystanders,
            "feeds": len(feeds),
            "audited": audited["identical"],
            "audited_lost": audited["lost_version"],
            "events": checks.events,
            "duplicates": checks.duplicates,
            "models": checks.models.commits,
            "models_refused": checks.models.refused,
            "virtual_s": int(loop.time()),
        }
        chance.note(f"all is well: {self.figures}")

    def _people(
        self,
        workload: Workload,
        process: Process,
        weather: Weather,
        acknowledged: Counter[int],
        feeds: list[Feed],
        seconds: float,
    ) -> Iterator[Any]:
        """The work of all producers and viewers, as coroutines."""
        chance, broker = self._chance, process.broker
        producers = [
            Producer(broker, weather, self._rates, chance.stream(f"producer {i}"), acknowledged)
            for i in range(PRODUCERS)
        ]
        parts: list[list[Any]] = [[(0.0, publication) for publication in workload.history()], [], []]
        for i, timed in enumerate(sorted(workload.live(), key=lambda timed: timed[0])):
            parts[i % PRODUCERS].append(timed)
        for producer, part in zip(producers, parts, strict=True):
            yield producer.work(part)
        for person in range(1, 4):
            viewer_chance = chance.stream(f"viewer {person}")
            producer = Producer(broker, weather, self._rates, viewer_chance.stream("log"), acknowledged)
            viewer = Viewer(person, process, producer, workload, viewer_chance, feeds)
            yield viewer.look(seconds / 5, seconds)

    async def _rest(self, living: asyncio.Task[None], process: Process, broker: Broker) -> None:
        """Wait until a life has applied everything, then stop it."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + REST_S_MAX
        while not await self._at_rest(process, broker):
            if living.done():
                living.result()
            if loop.time() > deadline_s:
                engine = process.engine
                raise CheckError(f"no rest: {engine.readiness() if engine is not None else 'no engine runs'}")
            await asyncio.sleep(0.5)
        engine = process.engine
        if engine is not None:
            engine.state.check()
            process.witness.lineage.saw_state(engine.version, engine.state.digest(), "the state at the end")
        process.stop()
        await _all(living, [])

    @staticmethod
    async def _at_rest(process: Process, broker: Broker) -> bool:
        """Whether every record is applied, and every served feed is in the log."""
        engine, served = process.engine, process.served
        if engine is None or served is None or not engine.readiness().ready:
            return False
        await served.drain(60.0)
        if process.engine is not engine or process.life.dead:
            return False
        return all(
            engine.positions.get(TopicPartition(topic, number), 0) >= partition.end
            for topic, number, partition in broker.applied_partitions()
        )


async def _all(living: asyncio.Task[None], busy: list[asyncio.Task[Any]]) -> None:
    """Wait until all busy tasks are done; a failure of the process ends the wait."""
    pending = set(busy) or {living}
    while pending:
        done, _ = await asyncio.wait({*pending, living}, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        if living.done() and busy:
            raise CheckError("the process ended before its time")
        pending -= done


@contextmanager
def _drawing(seed: int) -> Iterator[None]:
    """Seed Python's global generator, from which retries draw their waiting times."""
    before = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(before)


@contextmanager
def _quiet(trace: Trace) -> Iterator[None]:
    """Send the engine's log lines to the trace."""

    def take(logger: Any, name: str, event: dict[str, Any]) -> Any:
        trace.note(f"log: {name} {event.get('event')}")
        raise structlog.DropEvent

    before = structlog.get_config()["processors"]
    processors = list(before)
    before[:] = [take]
    try:
        yield
    finally:
        before[:] = processors
