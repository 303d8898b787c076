"""What every event log must do: one suite, run against each backend."""

import asyncio
import itertools
import random
import time

import pytest
from aiokafka.partitioner import murmur2

from config.serving import LogConfig
from streams.log import open_log
from streams.log.interface import (
    EventLog,
    Format,
    LogError,
    NewRecord,
    OffsetOutOfRangeError,
    RecordTooLargeError,
    TopicPartition,
)
from streams.log.sqlite import tail as sqlite_tail


async def test_what_was_acknowledged_is_read_back_at_its_offset(log: EventLog, helpers):
    """The log against a dictionary: random appends by several tasks, to several topics."""
    await log.ensure_topics({"a": 3, "b": 1})
    model: dict[tuple[str, int, int], bytes] = {}

    async def appender(seed: int) -> None:
        draw = random.Random(seed)
        for step in range(12):
            topic = draw.choice("ab")
            records = [
                NewRecord(f"{seed}-{step}-{i}".encode(), key=str(draw.randrange(9)).encode() * draw.randrange(2))
                for i in range(draw.choice((1, 2, 60)))
            ]
            placed = await log.append(topic, records)
            assert len(placed) == len(records)
            for (partition, offset), record in zip(placed, records, strict=True):
                assert (topic, partition, offset) not in model
                model[topic, partition, offset] = record.value
            for partition in {p for p, _ in placed}:
                offsets = [o for p, o in placed if p == partition]
                assert offsets == sorted(offsets)

    async with asyncio.TaskGroup() as tasks:
        for seed in range(4):
            tasks.create_task(appender(seed))
    async with await log.tail(await helpers.begin(log, "a", "b")) as tail:
        runs = await helpers.drain(tail, len(model), records_max=70)
        read = helpers.flat(runs)
        assert {(t, p, o): v for t, p, o, v in read} == model
        for partition in tail.positions:
            offsets = [o for t, p, o, _ in read if (t, p) == partition]
            assert offsets == list(range(len(offsets)))
            assert tail.positions[partition] == len(offsets)
        ends = {TopicPartition(t, p): o for t in "ab" for p, o in (await log.end_offsets(t)).items()}
        assert ends == tail.positions
        assert await log.written_offsets_of(["a", "b"]) == ends


async def test_the_key_chooses_the_partition_as_kafka_clients_do(log: EventLog):
    await log.ensure_topics({"a": 5})
    keys = [str(i * 7919).encode() for i in range(60)]
    many = await log.append("a", [NewRecord(b"x", key=key) for key in keys])
    one_by_one = [(await log.append("a", [NewRecord(b"x", key=key)]))[0] for key in keys[:6]]
    expected = [(murmur2(key) & 0x7FFFFFFF) % 5 for key in keys]
    assert [p for p, _ in many] == expected
    assert [p for p, _ in one_by_one] == expected[:6]


async def test_keyless_records_use_all_partitions(log: EventLog):
    await log.ensure_topics({"a": 3})
    placed = [(await log.append("a", [NewRecord(b"x")]))[0][0] for _ in range(9)]
    assert set(placed) == {0, 1, 2}


async def test_a_record_may_name_its_partition(log: EventLog, helpers):
    await log.ensure_topics({"a": 3})
    assert await log.append("a", helpers.json([1, 2], partition=2)) == [(2, 0), (2, 1)]
    with pytest.raises(LogError, match="no partition 3"):
        await log.append("a", [NewRecord(b"ok"), NewRecord(b"x", partition=3)])
    assert sum((await log.end_offsets("a")).values()) == 2


async def test_an_unknown_topic_is_an_error_and_stays_unknown(log: EventLog):
    await log.ensure_topics({"a": 1})
    for _ in range(2):
        with pytest.raises(LogError):
            await log.partitions("nowhere")
    with pytest.raises(LogError):
        await log.append("nowhere", [NewRecord(b"x")])
    with pytest.raises(LogError):
        await log.end_offsets("nowhere")
    with pytest.raises(LogError, match="nowhere"):
        await log.written_offsets_of(["a", "nowhere"])
    with pytest.raises(LogError):
        await log.tail({TopicPartition("nowhere", 0): 0})
    with pytest.raises(LogError):
        await log.tail({TopicPartition("a", 1): 0})
    with pytest.raises(LogError):
        await log.partitions("nowhere")


async def test_existing_topics_are_left_as_they_are(log: EventLog):
    await log.ensure_topics({"a": 2})
    await log.append("a", [NewRecord(b"x", partition=1)])
    await log.ensure_topics({"a": 5, "b": 3})
    assert (await log.partitions("a"), await log.partitions("b")) == (2, 3)
    assert await log.end_offsets("a") == {0: 0, 1: 1}


async def test_appending_nothing(log: EventLog):
    await log.ensure_topics({"a": 1})
    assert await log.append("a", []) == []


async def test_tails_start_at_any_offset(log: EventLog, helpers):
    await log.ensure_topics({"a": 2})
    for part in range(10):
        await log.append("a", helpers.json(range(part * 3, part * 3 + 3), partition=part % 2))
    both = {p: [] for p in (0, 1)}
    async with await log.tail(await helpers.begin(log, "a")) as tail:
        for _, partition, offset, value in helpers.flat(await helpers.drain(tail, 30)):
            both[partition].append((offset, value))
    for first, second in ((0, 0), (1, 14), (7, 15), (15, 4), (15, 14)):
        async with await log.tail({TopicPartition("a", 0): first, TopicPartition("a", 1): second}) as tail:
            read = helpers.flat(await helpers.drain(tail, 30 - first - second, records_max=4))
            assert [(o, v) for _, p, o, v in read if p == 0] == both[0][first:]
            assert [(o, v) for _, p, o, v in read if p == 1] == both[1][second:]


async def test_a_tail_reads_only_its_partitions(log: EventLog, helpers):
    await log.ensure_topics({"a": 2, "b": 1})
    for i in range(5):
        await log.append("b", helpers.json([f"b{i}"]))
        await log.append("a", helpers.json([f"x{i}"], partition=0) + helpers.json([f"a{i}"], partition=1))
    async with await log.tail({TopicPartition("a", 1): 2}) as tail:
        assert [v for *_, v in helpers.flat(await helpers.drain(tail, 3))] == [b"a2", b"a3", b"a4"]
        assert await tail.poll(records_max=10, timeout_s=0.05) == []
        assert tail.positions == {TopicPartition("a", 1): 5}


async def test_a_tail_that_follows_new_partitions_begins_them_at_their_first_record(log: EventLog, helpers):
    await log.ensure_topics({"a": 3, "b": 2})
    for partition in range(3):
        await log.append("a", helpers.json(range(4), partition=partition))
    await log.append("b", helpers.json(range(4), partition=0))
    async with await log.tail({TopicPartition("a", 1): 2}, follow_new=True) as tail:
        assert tail.positions == {TopicPartition("a", 0): 0, TopicPartition("a", 1): 2, TopicPartition("a", 2): 0}
        read = helpers.flat(await helpers.drain(tail, 10, records_max=3))
        assert {(t, p, o) for t, p, o, _ in read} == {
            ("a", p, o) for p in range(3) for o in range(4) if p != 1 or o >= 2
        }


async def test_new_partitions_of_which_records_were_removed_are_named(log: EventLog, helpers):
    await log.ensure_topics({"a": 2})
    await log.append("a", helpers.json(range(5), partition=1))
    await asyncio.sleep(0.01)
    await log.apply_retention("a", before_ms=int(time.time() * 1000))
    async with await log.tail({TopicPartition("a", 0): 0}, follow_new=True) as tail:
        with pytest.raises(OffsetOutOfRangeError) as raised:
            await tail.poll(records_max=10, timeout_s=60.0)
        assert raised.value.partition == TopicPartition("a", 1)
        assert (raised.value.position, raised.value.earliest) == (0, 5)


async def test_an_idle_tail_waits_without_work(log: EventLog, helpers):
    await log.ensure_topics({"a": 2})
    async with await log.tail(await helpers.begin(log, "a")) as tail:
        await tail.poll(records_max=10, timeout_s=0.2)
        wall, cpu = time.monotonic(), time.process_time()
        assert await tail.poll(records_max=10, timeout_s=1.0) == []
        assert time.monotonic() - wall >= 0.95
        assert time.process_time() - cpu < 0.2


async def test_a_waiting_tail_is_woken(log: EventLog, helpers, monkeypatch):
    monkeypatch.setattr(sqlite_tail, "_LOOK_AGAIN_S", 600.0)  # it must not depend on looking by itself
    await log.ensure_topics({"a": 2})
    async with await log.tail(await helpers.begin(log, "a")) as tail:
        for i in range(15):
            polling = asyncio.create_task(tail.poll(records_max=10, timeout_s=60.0))
            await asyncio.sleep(0.02)
            assert not polling.done()
            await log.append("a", helpers.json([i]))
            assert helpers.flat(await polling)[0][3] == str(i).encode()


async def test_many_appenders_at_once(log: EventLog, helpers):
    await log.ensure_topics({"a": 4})

    async def appender(name: int) -> list[tuple[int, int]]:
        return [(await log.append("a", helpers.json([f"{name}-{i}"], key=b"%d" % name)))[0] for i in range(8)]

    placed = await asyncio.gather(*(appender(name) for name in range(40)))
    flat = list(itertools.chain(*placed))
    assert len(set(flat)) == len(flat) == 320
    for one in placed:
        assert len({p for p, _ in one}) == 1
        assert [o for _, o in one] == sorted(o for _, o in one)
    assert sum((await log.end_offsets("a")).values()) == 320


async def test_two_handles_share_the_log(log: EventLog, log_config: LogConfig, helpers, monkeypatch):
    monkeypatch.setattr(sqlite_tail, "_LOOK_AGAIN_S", 600.0)
    await log.ensure_topics({"a": 2})
    async with open_log(log_config) as other, await other.tail(await helpers.begin(other, "a")) as tail:
        polling = asyncio.create_task(tail.poll(records_max=10, timeout_s=60.0))
        await asyncio.sleep(0.1)
        assert not polling.done()
        await log.append("a", helpers.json(["hello"]))
        assert helpers.flat(await polling)[0][3] == b"hello"
        await other.append("a", helpers.json(["back"], partition=0))
        assert sum((await log.end_offsets("a")).values()) == 2


async def test_offsets_for_a_time(log: EventLog, helpers):
    await log.ensure_topics({"a": 2})
    for step in range(6):
        await log.append("a", helpers.json(range(3), partition=step % 2))
        await asyncio.sleep(0.004)
    times: dict[int, list[int]] = {0: [], 1: []}
    async with await log.tail(await helpers.begin(log, "a")) as tail:
        for run in await helpers.drain(tail, 18):
            times[run.partition] += run.append_ms
    everything = sorted(times[0] + times[1])
    assert abs(everything[-1] - time.time() * 1000) < 10_000
    for moment in {t + d for t in everything for d in (-1, 0, 1)} | {0, everything[-1] + 1000}:
        expected = {p: next((o for o, t in enumerate(ts) if t >= moment), len(ts)) for p, ts in times.items()}
        assert await log.offsets_for_time("a", moment) == expected


async def test_retention_removes_what_is_older(log: EventLog, helpers):
    await log.ensure_topics({"a": 2})
    await log.append("a", helpers.json(range(10), partition=0) + helpers.json(range(4), partition=1))
    await asyncio.sleep(0.01)
    middle_ms = int(time.time() * 1000)
    await asyncio.sleep(0.01)
    await log.append("a", helpers.json(range(10, 13), partition=0))
    assert await log.apply_retention("a", before_ms=0) == {0: 0, 1: 0}
    assert await log.apply_retention("a", before_ms=middle_ms) == {0: 10, 1: 4}
    assert await log.start_offsets("a") == {0: 10, 1: 4}
    assert await log.end_offsets("a") == {0: 13, 1: 4}
    async with await log.tail(await helpers.begin(log, "a")) as tail:
        assert [(o, v) for *_, o, v in helpers.flat(await helpers.drain(tail, 3))] == [
            (10, b"10"),
            (11, b"11"),
            (12, b"12"),
        ]
    await asyncio.sleep(0.01)
    await log.apply_retention("a", before_ms=int(time.time() * 1000))
    assert await log.start_offsets("a") == await log.end_offsets("a") == {0: 13, 1: 4}
    assert await log.append("a", helpers.json(["next"], partition=1)) == [(1, 4)]


@pytest.mark.parametrize("position", [0, 3, 11])
async def test_a_position_outside_the_log_is_named(log: EventLog, helpers, position):
    await log.ensure_topics({"a": 1})
    await log.append("a", helpers.json(range(5)))
    await asyncio.sleep(0.01)
    await log.apply_retention("a", before_ms=int(time.time() * 1000))
    await log.append("a", helpers.json(range(5)))
    async with await log.tail({TopicPartition("a", 0): position}) as tail:
        for _ in range(2):
            with pytest.raises(OffsetOutOfRangeError) as raised:
                await tail.poll(records_max=10, timeout_s=60.0)
            assert raised.value.partition == TopicPartition("a", 0)
            assert (raised.value.position, raised.value.earliest) == (position, 5)
        assert tail.positions == {TopicPartition("a", 0): position}


async def test_an_oversized_record_writes_nothing(log: EventLog, helpers):
    await log.ensure_topics({"a": 1})
    with pytest.raises(RecordTooLargeError, match=r"record 1 of 2 .*log\.record_bytes_max"):
        await log.append("a", [NewRecord(b"small"), NewRecord(b"x" * 99_999, key=b"ab")])
    assert await log.end_offsets("a") == {0: 0}
    largest = NewRecord(b"y" * 99_998, key=b"ab")
    assert await log.append("a", [NewRecord(b"small"), largest]) == [(0, 0), (0, 1)]
    async with await log.tail(await helpers.begin(log, "a")) as tail:
        assert helpers.flat(await helpers.drain(tail, 2))[1][3] == largest.value


async def test_any_bytes_and_both_formats(log: EventLog, helpers):
    await log.ensure_topics({"a": 1})
    every = bytes(range(256))
    records = [
        NewRecord(every * 3, key=every, format=Format.PACKED),
        NewRecord(b"{}", key=b""),
        NewRecord(b"", key=b"k"),
        NewRecord(b"\x00", key=b"\xff", format=Format.PACKED),
    ]
    await log.append("a", records)
    await log.append("a", records[:2])
    async with await log.tail(await helpers.begin(log, "a")) as tail:
        runs = await helpers.drain(tail, 6)
    columns = [list(itertools.chain(*(getattr(r, c) for r in runs))) for c in ("keys", "values", "formats")]
    assert list(zip(*columns, strict=True)) == [(r.key, r.value, r.format) for r in records + records[:2]]
    assert all(isinstance(format, Format) for format in columns[2])


async def test_a_prefix_separates_logs_and_stays_out_of_names(log_config: LogConfig, helpers):
    one = LogConfig(url=log_config.url, topic_prefix=log_config.topic_prefix + "one-")
    two = LogConfig(url=log_config.url, topic_prefix=log_config.topic_prefix + "two-")
    async with open_log(one) as first, open_log(two) as second:
        await first.ensure_topics({"a": 1})
        with pytest.raises(LogError):
            await second.partitions("a")
        await second.ensure_topics({"a": 2})
        await first.append("a", helpers.json(["first"]))
        assert await second.end_offsets("a") == {0: 0, 1: 0}
        async with await first.tail({TopicPartition("a", 0): 0}) as tail:
            assert helpers.flat(await helpers.drain(tail, 1)) == [("a", 0, 0, b"first")]


async def test_a_log_goes_on_where_it_was_closed(log_config: LogConfig, helpers):
    async with open_log(log_config) as log:
        await log.ensure_topics({"a": 1})
        await log.append("a", helpers.json(range(7)))
        async with await log.tail(await helpers.begin(log, "a")) as tail:
            await helpers.drain(tail, 4, records_max=4)
            positions = dict(tail.positions)
    assert positions == {TopicPartition("a", 0): 4}
    async with open_log(log_config) as log:
        assert await log.append("a", helpers.json([7])) == [(0, 7)]
        async with await log.tail(positions) as tail:
            assert [o for *_, o, _ in helpers.flat(await helpers.drain(tail, 4))] == [4, 5, 6, 7]


async def test_a_cancelled_poll_loses_and_doubles_nothing(log: EventLog, helpers):
    await log.ensure_topics({"a": 2})
    draw = random.Random(4)
    total = 300

    async def appender() -> None:
        for i in range(0, total, 5):
            await log.append("a", helpers.json(range(i, i + 5)))
            await asyncio.sleep(0.002)

    seen = []
    appending = asyncio.create_task(appender())
    async with await log.tail(await helpers.begin(log, "a")) as tail:
        cancelled = 0
        deadline = time.monotonic() + 60
        while len(seen) < total and time.monotonic() < deadline:
            polling = asyncio.create_task(tail.poll(records_max=4, timeout_s=0.2))
            for _ in range(draw.randrange(6)):
                await asyncio.sleep(0)
            if draw.random() < 0.7:
                polling.cancel()
            try:
                seen += helpers.flat(await polling)
            except asyncio.CancelledError:
                cancelled += 1
    await appending
    assert cancelled > 3
    assert sorted(int(v) for *_, v in seen) == list(range(total))


async def test_closing_twice_and_using_a_closed_log(log_config: LogConfig, helpers):
    log = open_log(log_config)
    await log.open()
    await log.ensure_topics({"a": 1})
    tail = await log.tail({TopicPartition("a", 0): 0})
    await tail.close()
    await tail.close()
    left_open = await log.tail({TopicPartition("a", 0): 0})
    await log.close()
    await log.close()
    with pytest.raises(LogError):
        await log.end_offsets("a")
    with pytest.raises(LogError):
        await log.append("a", helpers.json([1]))
    with pytest.raises(LogError):
        await left_open.poll(records_max=1, timeout_s=0.1)


async def test_a_log_is_the_same_however_often_it_is_opened(log: EventLog, log_config: LogConfig):
    await log.ensure_topics({"a": 1})
    identity = await log.identity()
    async with open_log(log_config) as other:
        assert await other.identity() == identity
    assert identity.log.partition(":")[0] == log_config.url.partition(":")[0]
