"""Nodes that share an order, on a virtual clock and a log that is late, loses answers and reads as it likes."""

import asyncio
import random
from functools import partial

import pytest
from prometheus_client import CollectorRegistry

from config.serving import IngestConfig, LogConfig
from loadtest.simulation.clock import VirtualLoop
from loadtest.simulation.memory_log import Broker, MemoryLog, NoFaults
from streams.durable.journal import Entry, Run
from streams.events.json_types import APPLIED_TOPICS
from streams.log.interface import (
    EventLog,
    LogIdentity,
    LogUnavailableError,
    NewRecord,
    TopicMadeAgainError,
    TopicPartition,
)
from streams.ordering import shared_source
from streams.ordering.line import LineLostError, find_line
from streams.ordering.metrics import OrderMetrics
from streams.ordering.pieces import Piece, Pieces, runs_of
from streams.ordering.proposals import ORDER, Genesis, Proposal, ProposedRun, encode, line_id, of_rooms
from streams.ordering.shared_source import SharedSource
from streams.ordering.waiting import ReplayError

ROOMS = "00112233aabbccdd"
INGEST = IngestConfig(poll_records_max=20, batch_events_max=8, poll_timeout_s=0.5)
NODES = 3


class Faults(NoFaults):
    """Drawn from a seed; none once the world is calm."""

    def __init__(self, seed: str):
        self.chance, self.calm = random.Random(seed), False
        self.lost, self.latency_s = self.chance.choice([0.0, 0.05]), self.chance.choice([0.0, 0.02, 0.3])

    async def _travel(self, what: str):
        await asyncio.sleep(0 if self.calm else self.chance.uniform(0, self.latency_s))
        if not self.calm and self.chance.random() < self.lost:
            raise LogUnavailableError(f"{what} is lost")

    reach = answer = _travel

    def skipped(self):
        return self.chance.choice([0, 0, 0, 2])

    def poll_order(self, partitions, available):
        order = [(i, self.chance.randint(1, n)) for i, n in enumerate(available)]
        self.chance.shuffle(order)
        return order[: self.chance.randint(1, len(order))]


async def starts(log: EventLog) -> dict[TopicPartition, int]:
    return {TopicPartition(t, p): at for t in APPLIED_TOPICS for p, at in (await log.start_offsets(t)).items()}


class Node:
    """One that lives, dies and comes back with what it had kept: a snapshot of some version, a journal behind it."""

    def __init__(self, number: int, broker: Broker, faults: Faults):
        self.number, self.faults = number, faults
        self.log = MemoryLog(broker, faults)
        self.lives = 0
        self.forget()

    def forget(self):
        self.line = ""
        self.journal: list[list[Run]] = []
        #: By version, from 0.
        self.positions: list[dict[TopicPartition, int]] = []
        self.version = self.snapshot = 0

    async def live(self):
        self.lives += 1
        while True:
            try:
                async with self.log:
                    await self._live()
            except LogUnavailableError:
                await asyncio.sleep(0.1)

    async def _live(self):
        number = self.number * 1000 + self.lives
        if not self.line:
            line = await find_line(self.log, ROOMS, number=number, start=partial(starts, self.log), replace=False)
            self.line, self.positions = line.id, [line.start]
        self.version = self.snapshot
        source = await SharedSource.open(
            self.log,
            LogConfig(),
            INGEST,
            OrderMetrics(CollectorRegistry()),
            line=self.line,
            node=number,
            positions=self.positions[self.version],
            entries=iter([Entry(0, tuple(runs)) for runs in self.journal[self.version :]]),
        )
        try:
            while True:
                try:
                    given = await source.next()
                except LogUnavailableError:
                    await asyncio.sleep(0.1)
                    continue
                for piece in given.pieces:
                    self.apply(piece, given.journaled)
        finally:
            await source.close()

    def apply(self, piece: Piece, journaled: bool):
        assert journaled == (self.version < len(self.journal))
        if not journaled:
            after = {TopicPartition(run.topic, run.partition): run.offsets[-1] + 1 for run in piece}
            self.journal.append(runs_of(piece))
            self.positions.append(self.positions[self.version] | after)
        self.version += 1

    def die(self, chance: random.Random):
        """What stays is a snapshot, and the journal at least up to there; or nothing."""
        if chance.random() < 0.2:
            self.forget()
            return
        self.snapshot = self.version = chance.randint(self.snapshot, self.version)
        lost = chance.choice([0, 0, 1, 5])
        del self.journal[max(self.snapshot, len(self.journal) - lost) :]
        del self.positions[len(self.journal) + 1 :]


async def world(seed: int):
    chance = random.Random(seed)
    loop = asyncio.get_running_loop()
    broker = Broker(lambda: int(loop.time() * 1000))
    broker.create_topics({topic: chance.randint(1, 3) for topic in APPLIED_TOPICS})
    faults = [Faults(f"{seed}/{n}") for n in range(NODES)]
    nodes = [Node(n, broker, faults[n]) for n in range(NODES)]
    tasks = [asyncio.create_task(node.live()) for node in nodes]
    async with MemoryLog(broker, NoFaults()) as producer:
        for _ in range(chance.randint(5, 60)):
            await asyncio.sleep(chance.random() ** 4 * 5)
            topic = chance.choice(APPLIED_TOPICS)
            values = [NewRecord(value=b"%d" % n, key=b"%d" % n) for n in range(chance.choice([1, 3, 40]))]
            await producer.append(topic, values)
            if chance.random() < 0.03:
                broker.add_partition(chance.choice(APPLIED_TOPICS))
            if chance.random() < 0.15:
                n = chance.randrange(NODES)
                await end(tasks[n])
                nodes[n].die(chance)
                await asyncio.sleep(chance.random() * 3)
                tasks[n] = asyncio.create_task(nodes[n].live())
        for each in faults:
            each.calm = True
        mortal = chance.randrange(NODES)  # one that never comes back: the others order what is left
        await end(tasks.pop(mortal))
        nodes.pop(mortal)
        ends = {
            TopicPartition(topic, p): end
            for topic in APPLIED_TOPICS
            for p, end in (await producer.end_offsets(topic)).items()
        }
        late = Node(7, broker, Faults("late"))
        late.faults.calm = True
        nodes.append(late)
        tasks.append(asyncio.create_task(late.live()))
        deadline_s = loop.time() + 300.0
        while not all(node.line and reaches(node.positions[node.version], ends) for node in nodes):
            assert loop.time() < deadline_s
            assert not any(task.done() for task in tasks)
            await asyncio.sleep(1.0)
        await asyncio.sleep(2.0)
    for task in tasks:
        await end(task)
    first = nodes[0]
    for node in nodes:
        assert (node.line, node.journal, node.version) == (first.line, first.journal, len(first.journal))
    check_complete(first.journal, broker)
    return first.journal


def reaches(positions, ends) -> bool:
    return all(positions.get(where, 0) >= end for where, end in ends.items())


def check_complete(journal: list[list[Run]], broker: Broker):
    """Every record once, in the order of its partition."""
    for topic, number, partition in broker.applied_partitions():
        where, counted = TopicPartition(topic, number), 0
        runs = [run for runs in journal for run in runs if run.partition == where]
        offsets = [record.offset for record in partition.records]
        for run in runs:
            assert offsets[counted] == run.first
            counted += run.count
            assert offsets[counted - 1] == run.last
        assert counted == len(offsets)
    assert all(runs[-1].partition == ORDER for runs in journal)


async def end(task: asyncio.Task):
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()


def simulate(work):
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)


@pytest.mark.parametrize("seeds", [range(n, n + 15) for n in range(0, 60, 15)], ids=lambda seeds: f"{seeds[0]}")
def test_nodes_agree_through_deaths_and_a_bad_log(seeds):
    for seed in seeds:
        simulate(world(seed))


def test_a_seed_is_a_run():
    assert simulate(world(3)) == simulate(world(3))


# Which line


class Place:
    """A log with one partition of each topic, without faults."""

    def __init__(self):
        self.broker = Broker(lambda: int(asyncio.get_running_loop().time() * 1000))
        self.broker.create_topics(dict.fromkeys(APPLIED_TOPICS, 1))
        self.log = MemoryLog(self.broker, NoFaults())

    async def find(self, number: int, rooms: str = ROOMS, *, replace: bool = False):
        return await find_line(self.log, rooms, number=number, start=partial(starts, self.log), replace=replace)


async def test_the_first_genesis_of_the_rooms_makes_the_line():
    place = Place()
    async with place.log as log:
        await log.append("tweets", [NewRecord(value=b"1")])
        first = await place.find(1)
        assert of_rooms(first.id, ROOMS)
        assert first.start == await starts(log) | {ORDER: 1}
        assert await place.find(2) == first
        others = await place.find(3, "another" + ROOMS)
        assert others.id != first.id
        # Two that found nothing at the same time: what stands first in the log counts for both.
        fresh = Place()
        async with fresh.log as log:
            one, two = Genesis(line_id(ROOMS, 1), ()), Genesis(line_id(ROOMS, 2), ())
            await log.ensure_topics({ORDER.topic: 1})
            await log.append(ORDER.topic, [NewRecord(value=b"noise"), encode(two), encode(one)])
            assert (await fresh.find(3)).id == two.line


async def test_a_line_of_a_topic_that_was_made_again_is_followed_by_nobody(monkeypatch: pytest.MonkeyPatch):
    place, ids = Place(), {"tweets": "a", "users": "b", "another": "c"}

    async def identity() -> LogIdentity:
        return LogIdentity("memory", dict(ids))

    monkeypatch.setattr(place.log, "identity", identity)
    async with place.log:
        line = await place.find(1)
        assert line.topics == {"tweets": "a", "users": "b"}
        ids["another"] = "d"
        del ids["users"]  # not told at present
        assert await place.find(2, replace=True) == await place.find(2) == line
        ids["tweets"] = "e"
        with pytest.raises(TopicMadeAgainError, match="tweets"):
            await place.find(3)
        new = await place.find(4, replace=True)
        assert new.id != line.id
        assert new.topics["tweets"] == "e"
        assert await place.find(5) == await place.find(6, replace=True) == new


async def test_a_line_whose_beginning_is_gone_is_followed_by_nobody_new():
    place = Place()
    async with place.log as log:
        line = await place.find(1)
        await log.append(ORDER.topic, [encode(Proposal(line.id, 1, (ProposedRun("tweets", 0, 0, 0, 1),)))])
        place.broker.topics[ORDER.topic][0].remove(1)
        with pytest.raises(LineLostError, match=line.id):
            await place.find(2)
        assert (await place.find(3, "another" + ROOMS)).start[ORDER] == 3
        new = await place.find(4, replace=True)
        assert new.id == line_id(ROOMS, 4)
        assert await place.find(5) == new
        assert await place.find(6, replace=True) == new


async def test_a_line_whose_records_are_gone_is_replaced_when_told_to():
    place = Place()
    async with place.log as log:
        await log.append("tweets", [NewRecord(value=b"1"), NewRecord(value=b"2")])
        line = await place.find(1)
        place.broker.topics["tweets"][0].remove(1)
        assert await place.find(2) == line
        new = await place.find(3, replace=True)
        assert (new.id, new.start[TopicPartition("tweets", 0)]) == (line_id(ROOMS, 3), 1)
        assert await place.find(4) == new


# What must not be


async def open_source(place: Place, line, *, patience_s: float = 0.01, **options) -> SharedSource:
    options = {"entries": iter(()), "positions": line.start} | options
    return await SharedSource.open(
        place.log, LogConfig(order_patience_s=patience_s), INGEST, OrderMetrics(CollectorRegistry()),
        line=line.id, node=1, **options,
    )  # fmt: skip


async def some_pieces(source: SharedSource) -> list[Piece]:
    while not (given := await source.next()).pieces:
        pass
    return given.pieces


async def test_a_journal_of_another_order_is_refused():
    place = Place()
    async with place.log as log:
        line = await place.find(1)
        await log.append("users", [NewRecord(value=b"1"), NewRecord(value=b"2")])
        source = await open_source(place, line)
        (piece,) = await some_pieces(source)
        await source.close()
        again = await open_source(place, line, entries=iter([Entry(1, tuple(runs_of(piece)))]))
        assert await again.next() == Pieces([piece], journaled=True)
        await again.close()
        wrong = Entry(1, (Run(TopicPartition("users", 0), 0, 0, 1), Run(ORDER, 1, 1, 1)))
        other = await open_source(place, line, entries=iter([wrong]))
        with pytest.raises(ReplayError, match="version 1"):
            await other.next()
        await other.close()


async def test_ordered_records_that_are_gone_are_named():
    place = Place()
    async with place.log as log:
        line = await place.find(1)
        await log.append("tweets", [NewRecord(value=b"%d" % n) for n in range(3)])
        await log.append(ORDER.topic, [encode(Proposal(line.id, 2, (ProposedRun("tweets", 0, 0, 1, 2),)))])
        del place.broker.topics["tweets"][0].records[1]
        source = await open_source(place, line)
        with pytest.raises(ReplayError, match="tweets/0"):
            await some_pieces(source)
        await source.close()


async def test_lag_passes_over_offsets_of_no_record_only_when_all_is_given():
    place = Place()
    async with place.log as log:
        line = await place.find(1)
        source = await open_source(place, line)
        assert dict(source.positions) == {where: 0 for where in line.start if where != ORDER}
        await log.append("tweets", [NewRecord(value=b"1")])
        pieces = await some_pieces(source)
        assert [run.topic for run in pieces[0]] == ["tweets", "order"]
        assert source.positions[TopicPartition("tweets", 0)] == 1
        await source.close()


async def test_what_waits_is_bounded_but_for_what_the_order_needs(monkeypatch):
    monkeypatch.setattr(shared_source, "_WAITING_BYTES_MAX", 10_000)
    place = Place()
    async with place.log as log:
        line = await place.find(1)
        await log.append("engagements", [NewRecord(value=b"x" * 100) for _ in range(1000)])
        await log.append("users", [NewRecord(value=b"u")])
        source = await open_source(place, line, patience_s=1e9)
        for _ in range(3):
            assert not (await source.next()).pieces
        assert 10_000 <= source._order.waiting.bytes < 20_000
        # What is ordered next comes behind all that waits.
        await log.append(ORDER.topic, [encode(Proposal(line.id, 2, (ProposedRun("users", 0, 0, 0, 1),)))])
        (piece,) = await some_pieces(source)
        assert [run.topic for run in piece] == ["users", "order"]
        await source.close()
