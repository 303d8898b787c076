"""When jobs run, on which version, and what becomes of those that fail."""

import asyncio
import contextlib
from functools import partial
from types import SimpleNamespace

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from streams.events.json_types import ModelCommit, ModelPart
from streams.jobs import runner as runner_module
from streams.jobs.computation import InlineComputation, ResultTooLargeError
from streams.jobs.job import Result
from streams.jobs.metrics import JobMetrics
from streams.jobs.runner import JobRunner
from streams.log.interface import LogUnavailableError
from streams.process.retry import Retries

INTERVAL_MS = 1000


class FakeModels:
    def __init__(self):
        self.in_force = {}

    def versions(self):
        return {name: str(version) for name, version in self.in_force.items()}


class CountingJob:
    """Its model says at which version of the state it was made."""

    schema = "a number"
    seconds_max = 0.2
    result_bytes_max = 100

    def __init__(self, name="reputation", interval_ms=INTERVAL_MS):
        self.name, self.interval_ms = name, interval_ms
        self.size = 1
        self.work = True

    def has_work(self, state):
        return self.work

    def compute(self, state):
        return Result(str(state.version).encode() * self.size, {"version": float(state.version)})


class FakeLog:
    """Puts a model in force as soon as its commit is appended."""

    def __init__(self, models):
        self.models, self.events, self.away = models, [], 0

    async def append(self, topic, records):
        assert topic == "models"
        if self.away:
            self.away -= 1
            raise LogUnavailableError("away")
        for record in records:
            event = msgspec.json.decode(record.value, type=ModelPart | ModelCommit)
            self.events.append(event)
            if isinstance(event, ModelCommit):
                self.models.in_force[event.model] = int(event.version)


class Hanging:
    """A computation that ends only when it is killed."""

    pause_s = 0.001

    def __init__(self):
        self.killed = asyncio.Event()

    async def result(self):
        await self.killed.wait()
        raise OSError("killed")

    def kill(self):
        self.killed.set()


class Failing:
    pause_s = 0.0

    def __init__(self, error):
        self.error = error

    async def result(self):
        raise self.error

    def kill(self):
        pass


class World:
    """A runner over a state that is a clock and a version."""

    def __init__(self, *jobs, version=0):
        self.models = FakeModels()
        if version:
            self.models.in_force["reputation"] = version
        self.state = SimpleNamespace(clock_ms=0, version=0, models=self.models)
        self.log = FakeLog(self.models)
        self.registry = CollectorRegistry()
        self.forks = asyncio.Lock()
        self.live = True
        self.start = InlineComputation
        self.starts = 0
        self.jobs = jobs or (CountingJob(),)
        self.runner = self.make()
        self.running = asyncio.ensure_future(self.runner.run())

    def make(self):
        async def call(work):
            work()

        def start(work, size_max):
            self.starts += 1
            return self.start(work, size_max)

        return JobRunner(
            self.jobs, self.state, self.log, JobMetrics(self.registry),
            start=start, live=lambda: self.live, call=call, forks=self.forks,
        )  # fmt: skip

    def piece(self, clock_ms):
        """A piece is applied, with events up to a time."""
        self.state.clock_ms = max(self.state.clock_ms, clock_ms)
        self.state.version += 1
        self.runner.between_pieces()

    async def rest(self, clock_ms=None):
        if clock_ms is not None:
            self.piece(clock_ms)
        for _ in range(100):
            await asyncio.sleep(0.005)
            if self.runner._idle:
                return
        raise AssertionError("the job does not end")

    def published(self):
        return [int(event.version) for event in self.log.events if isinstance(event, ModelCommit)]

    def contents(self):
        return [event.content for event in self.log.events if isinstance(event, ModelPart)]

    def failures(self):
        return {
            sample.labels["reason"]: sample.value
            for metric in self.registry.collect()
            for sample in metric.samples
            if sample.name == "murmuration_job_failures_total"
        }


@pytest.fixture
async def worlds(monkeypatch):
    monkeypatch.setattr(runner_module, "CHECK_INTERVAL_S", 0.01)
    monkeypatch.setattr(runner_module, "Retries", partial(Retries, wait_s_max=0.01))
    made = []

    def make(*jobs, **options):
        made.append(World(*jobs, **options))
        return made[-1]

    yield make
    for world in made:
        world.running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await world.running


async def test_a_job_runs_on_the_version_that_passes_its_due_time(worlds):
    world = worlds()
    for clock_ms in (10, 500, 999):
        await world.rest(clock_ms)
    assert world.published() == []
    world.piece(1000)
    world.piece(1001)
    await world.rest()
    world.piece(2500)
    await world.rest()
    assert world.published() == [1000, 2000]
    # Versions 4 and 6, though more had been applied when the results came.
    assert world.contents() == [b"4", b"6"]
    assert world.failures() == {}


async def test_due_times_that_were_slept_through_make_one_run(worlds):
    world = worlds()
    await world.rest(1000)
    await world.rest(7300)
    assert world.published() == [1000, 7000]


async def test_a_restart_does_not_run_what_has_its_model(worlds):
    world = worlds(version=5000)
    await world.rest(5400)
    assert world.starts == 0
    await world.rest(6001)
    assert world.published() == [6000]


async def test_a_restart_makes_up_for_what_was_not_published(worlds):
    world = worlds(version=4000)
    world.live = False
    world.piece(5400)
    world.live = True
    # Nothing more is applied: the runner looks by itself.
    for _ in range(100):
        await asyncio.sleep(0.01)
        if world.published():
            break
    assert world.published() == [5000]


async def test_nothing_runs_while_the_backlog_is_replayed(worlds):
    world = worlds()
    world.live = False
    for clock_ms in range(0, 9000, 300):
        world.piece(clock_ms)
    await asyncio.sleep(0.1)
    assert world.starts == 0


async def test_nothing_runs_beside_a_snapshot(worlds):
    world = worlds()
    async with world.forks:
        world.piece(1000)
        await asyncio.sleep(0.05)
        assert world.starts == 0
    for _ in range(100):
        await asyncio.sleep(0.01)
        if world.published():
            break
    assert world.published() == [1000]


async def test_a_running_job_keeps_snapshots_waiting(worlds):
    world = worlds()
    world.start = lambda work, size_max: Hanging()
    world.piece(1000)
    await asyncio.sleep(0.05)
    assert world.forks.locked()


async def test_one_job_at_a_time(worlds):
    world = worlds(CountingJob(), CountingJob("other", 700))
    computations = []

    def start(work, size_max):
        computations.append(Hanging())
        return computations[-1]

    world.start = start
    world.piece(1500)
    world.piece(1600)
    await asyncio.sleep(0.05)
    assert world.starts == 1
    computations[0].kill()
    await asyncio.sleep(0.1)
    assert world.starts == 2


async def test_a_job_without_work_waits_for_it(worlds):
    world = worlds()
    world.jobs[0].work = False
    await world.rest(1200)
    await world.rest(1300)
    assert world.starts == 0
    world.jobs[0].work = True
    await world.rest(1400)
    assert world.published() == [1000]


async def test_a_job_without_interval_never_runs(worlds):
    world = worlds(CountingJob(interval_ms=0))
    await world.rest(10**12)
    assert world.starts == 0


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        (lambda work, size_max: Failing(OSError("the child process was ended by SIGKILL")), "failed"),
        (lambda work, size_max: Failing(ResultTooLargeError(100)), "too_large"),
        (lambda work, size_max: Hanging(), "overdue"),
    ],
)
async def test_a_failure_is_counted_and_the_next_due_time_tries_again(worlds, start, reason):
    world = worlds()
    world.start = start
    await world.rest(1000)
    await world.rest(1500)
    await asyncio.sleep(0.05)
    assert world.starts == 1
    assert world.failures() == {reason: 1}
    world.start = InlineComputation
    await world.rest(2000)
    assert world.published() == [2000]
    assert world.failures() == {reason: 1}


async def test_too_large_a_result_is_not_published(worlds):
    world = worlds()
    world.jobs[0].size = 1000
    await world.rest(1000)
    assert world.failures() == {"too_large": 1}
    assert world.published() == []


async def test_what_cannot_be_started_is_counted(worlds):
    def start(work, size_max):
        raise OSError("no more processes")

    world = worlds()
    world.start = start
    await world.rest(1000)
    await asyncio.sleep(0.02)
    assert world.failures() == {"not_started": 1}
    world.start = InlineComputation
    await world.rest(2000)
    assert world.published() == [2000]


async def test_a_log_that_is_away_is_waited_for_until_the_job_is_due_again(worlds):
    world = worlds()
    world.log.away = 3
    await world.rest(1000)
    assert world.published() == [1000]
    world.log.away = 10**6
    world.piece(2000)
    await asyncio.sleep(0.05)
    world.state.clock_ms = 3000
    await world.rest()
    assert world.failures() == {"not_published": 1}


async def test_what_another_node_has_published_is_not_published_again(worlds):
    world = worlds()
    computations = []

    class Slow(InlineComputation):
        async def result(self):
            await asyncio.sleep(0.05)
            return await super().result()

    world.start = lambda work, size_max: computations.append(Slow(work, size_max)) or computations[-1]
    world.piece(1000)
    world.models.in_force["reputation"] = 1000
    await world.rest()
    assert world.log.events == []
    assert world.failures() == {}


async def test_two_nodes_publish_the_same_records(worlds):
    one, other = worlds(), worlds()
    for world in (one, other):
        for clock_ms in (400, 1200):
            world.piece(clock_ms)
        await world.rest()
    assert one.log.events == other.log.events != []


async def test_a_stop_ends_the_computation(worlds):
    world = worlds()
    hanging = Hanging()
    world.start = lambda work, size_max: hanging
    world.jobs[0].seconds_max = 600.0
    world.piece(1000)
    await asyncio.sleep(0.05)
    world.running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await world.running
    assert hanging.killed.is_set()
