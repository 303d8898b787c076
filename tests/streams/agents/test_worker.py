"""An agent's worker without Kafka: what it counts is what the log holds beyond the positions in its table."""

import asyncio
import time

import pytest
from faust.types import TP
from prometheus_client import CollectorRegistry

from config.processors import ProcessorsConfig
from config.schema import Config
from config.serving import LogConfig
from streams.agents.table import partition_of, position_key
from streams.agents.worker import Worker
from streams.events.open_topics import running_log
from streams.log.interface import LogUnavailableError, NewRecord
from streams.processors.exposures import Label, totals

NOW_MS = 1_760_000_000_000
PARTITIONS = 3


class Table(dict):
    """A table whose writes are acknowledged when it is told to wait for them."""

    def __init__(self, *args):
        super().__init__(*args)
        self.acknowledged = dict(self)

    async def written(self):
        self.acknowledged = dict(self)


@pytest.fixture
async def event_log(tmp_path):
    async with running_log(LogConfig(url=f"sqlite:///{tmp_path}/log.db", partitions_default=PARTITIONS)) as log:
        yield log


@pytest.fixture
def start(event_log, tmp_path):
    """Makes a worker that owns all partitions, over a table of somebody before it."""

    def start(table=None, **options):
        config = Config(
            log=LogConfig(url="kafka://127.0.0.1:1"), processors=ProcessorsConfig(batch_feeds_max=7, **options)
        )
        worker = Worker(config, event_log, CollectorRegistry(), partitions=PARTITIONS, folder=str(tmp_path))
        worker._table = Table(table or {})
        worker._owned = list(range(PARTITIONS))
        return worker

    return start


def exposures(worker):
    found = totals(worker._table)
    return sum(found.get(Label("24h", "all", "control", bucket), 0) for bucket in "01")


def feeds(make, first, last):
    return [make.feed(i, i, NOW_MS, [1]) for i in range(first, last)]


async def test_it_counts_to_the_end_and_goes_on_from_there(start, event_log, make):
    await event_log.append("served", feeds(make, 1, 101))
    worker = start()
    await worker.advance()
    assert exposures(worker) == 100
    ends = await event_log.end_offsets("served")
    assert {p: int(worker._table[position_key(p)]) for p in ends} == ends
    await event_log.append("served", feeds(make, 101, 121))
    await worker.advance()
    assert exposures(worker) == 120
    # Everything that it wrote, the position last, belongs to a partition and is acknowledged.
    assert worker._table.acknowledged == dict(worker._table)
    assert {partition_of(key) for key in worker._table} == set(range(PARTITIONS))


async def test_the_next_one_goes_on_from_whatever_was_acknowledged(start, event_log, make, monkeypatch):
    """A worker dies at an acknowledgement: what it had before is what the next one finds."""
    await event_log.append("served", feeds(make, 1, 101))
    table: dict[bytes, bytes] = {}
    # The values of a batch are acknowledged first, then its positions: both are places to die at.
    for left in (0, 1, 2, 3, 4, 5):
        worker = start(table)

        async def written(worker=worker):
            nonlocal left
            left -= 1
            if left < 0:
                raise ConnectionError
            worker._table.acknowledged = dict(worker._table)

        worker._table.written = written
        with pytest.raises(ConnectionError):
            await worker.advance()
        table = worker._table.acknowledged
    worker = start(table)
    await worker.advance()
    assert exposures(worker) == 100
    assert sum(1 for key in table if key.startswith(b"@")) > 0


async def test_positions_are_written_after_the_values_are_acknowledged(start, event_log, make):
    await event_log.append("served", feeds(make, 1, 6))
    worker = start()

    async def written():
        raise ConnectionError

    worker._table.written = written
    with pytest.raises(ConnectionError):
        await worker.advance()
    assert worker._table
    assert not any(key.startswith(b"@") for key in worker._table)


async def test_it_takes_over_what_the_changelog_of_its_partitions_holds(event_log, tmp_path):
    config = Config(log=LogConfig(url="kafka://127.0.0.1:1", topic_prefix="t."))
    worker = Worker(config, event_log, CollectorRegistry(), partitions=PARTITIONS, folder=str(tmp_path))
    # Faust never reads a table that is not registered.
    assert not worker.app.tables
    assert worker._table.changelog_topic_name == "t." + worker.changelog
    await event_log.ensure_topics({worker.changelog: PARTITIONS})
    changes = [(0, b"0/7", b"old"), (0, b"0/7", b"new"), (0, b"@0", b"5"), (1, b"1/7", b"x"), (2, b"2/7", b"y")]
    changes += [(2, b"2/8", b"z"), (2, b"2/7", b"")]
    await event_log.append(worker.changelog, [NewRecord(v, key=k, partition=p) for p, k, v in changes])
    worker._table.data[b"1/9"] = b"of an earlier assignment"

    def assigned(*partitions):
        return {TP("t.served", partition) for partition in partitions} | {TP("t.other", 1)}

    await worker._take_over(worker.app, assigned(2, 0), signal=None)
    assert worker.partitions == [0, 2]
    assert dict(worker._table) == {b"0/7": b"new", b"@0": b"5", b"2/8": b"z"}
    await worker._give_up()
    await worker._take_over(worker.app, assigned(), signal=None)
    assert worker.partitions == []
    assert not worker._table


async def test_a_log_that_goes_away_in_the_middle_costs_nothing(start, event_log, make, monkeypatch):
    await event_log.append("served", feeds(make, 1, 41))
    worker = start()
    failures = iter([LogUnavailableError("away"), None, LogUnavailableError("away")])
    catch_up = worker._groups.catch_up

    async def failing():
        if (error := next(failures, None)) is not None:
            raise error
        await catch_up()

    monkeypatch.setattr(worker._groups, "catch_up", failing)
    for _ in range(3):
        await worker.advance()
    assert exposures(worker) == 40


async def test_what_retention_took_is_left_out(start, event_log, make):
    worker = start()
    await event_log.append("served", feeds(make, 1, 21))
    await worker.advance()
    before = dict(worker._table)
    await event_log.append("served", feeds(make, 21, 41))
    await event_log.apply_retention("served", before_ms=int(time.time() * 1000) + 10_000)
    await event_log.append("served", feeds(make, 41, 61))
    worker = start(before)
    for _ in range(PARTITIONS + 1):
        await worker.advance()
    assert exposures(worker) == 40


async def test_nothing_is_counted_of_what_was_given_up(start, event_log, make):
    worker = start()
    await event_log.append("served", feeds(make, 1, 21))
    await worker._give_up()
    assert worker.partitions is None
    await worker.advance()
    assert exposures(worker) == 0


async def test_partitions_are_given_up_between_two_batches(start, event_log, make):
    worker = start()
    await event_log.append("served", feeds(make, 1, 101))
    reached, go_on = asyncio.Event(), asyncio.Event()
    plain = worker._table.written

    async def written():
        reached.set()
        await go_on.wait()
        await plain()

    worker._table.written = written
    counting = asyncio.create_task(worker.advance())
    await reached.wait()
    giving_up = asyncio.create_task(worker._give_up())
    await asyncio.sleep(0.01)
    assert not giving_up.done()
    go_on.set()
    await asyncio.gather(counting, giving_up)
    assert exposures(worker) < 100
    assert worker._table.acknowledged == dict(worker._table)
