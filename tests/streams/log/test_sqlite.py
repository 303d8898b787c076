"""What the embedded log does beyond the contract: one global order, group commit, and every way a file can be bad."""

import asyncio
import os
import random
import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.serving import LogConfig
from streams.log import open_log
from streams.log.interface import (
    EventLog,
    LogUnavailableError,
    NewRecord,
    OffsetOutOfRangeError,
    TopicPartition,
)
from streams.log.sqlite import file as sqlite_file
from streams.log.sqlite import writer as sqlite_writer
from streams.log.sqlite.log import SqliteLog


def path_of(config: LogConfig) -> Path:
    return sqlite_file.parse_address(config.url).path


async def test_tails_return_the_order_of_appending_from_everywhere(sqlite_log: EventLog, helpers):
    """The order between partitions and topics is part of the log, whatever the size of the polls."""
    draw = random.Random(7)
    await sqlite_log.ensure_topics({"a": 3, "b": 2})
    appended = []
    for i in range(120):
        topic, partition = draw.choice("ab"), draw.randrange(2)
        values = [f"{i}-{j}" for j in range(draw.choice((1, 1, 5)))]
        for (p, o), v in zip(
            await sqlite_log.append(topic, helpers.json(values, partition=partition)), values, strict=True
        ):
            appended.append((topic, p, o, v.encode()))
    positions = await helpers.begin(sqlite_log, "a", "b")
    for taken in (0, 1, 50, len(appended) - 1):
        start = dict(positions)
        for topic, partition, offset, _ in appended[:taken]:
            start[TopicPartition(topic, partition)] = offset + 1
        for records_max in (1, 3, 1000):
            async with await sqlite_log.tail(start) as tail:
                runs = await helpers.drain(tail, len(appended) - taken, records_max=records_max)
                assert helpers.flat(runs) == appended[taken:]


async def test_waiting_appends_share_a_commit(sqlite_log: EventLog, helpers, monkeypatch):
    commits = []
    transaction = sqlite_writer.SqliteWriter._transaction
    all_here = threading.Event()

    def counted(self, connection, work):
        commits.append(len(work))
        assert all_here.wait(60)  # a slow disk: the others gather meanwhile
        return transaction(self, connection, work)

    await sqlite_log.ensure_topics({"a": 4})
    await sqlite_log.append("a", helpers.json(["the topic is known"]))
    monkeypatch.setattr(sqlite_writer.SqliteWriter, "_transaction", counted)
    appends = [asyncio.create_task(sqlite_log.append("a", helpers.json([i]))) for i in range(200)]
    while not commits or sum(commits) + len(sqlite_log._writer._waiting) < 200:
        await asyncio.sleep(0.001)
    all_here.set()
    placed = await asyncio.gather(*appends)
    assert len({p for part in placed for p in part}) == 200
    assert len(commits) <= 2, commits


async def test_an_idle_tail_hardly_reads(sqlite_log: EventLog, helpers, monkeypatch):
    await sqlite_log.ensure_topics({"a": 2})
    reads = []
    read = SqliteLog.read

    async def counted(self, question):
        reads.append(question)
        return await read(self, question)

    async with await sqlite_log.tail(await helpers.begin(sqlite_log, "a")) as tail:
        await tail.poll(records_max=1, timeout_s=0.01)
        monkeypatch.setattr(SqliteLog, "read", counted)
        assert await tail.poll(records_max=1, timeout_s=0.7) == []
        assert len(reads) <= 2


async def test_retention_under_an_open_tail(sqlite_log: EventLog, helpers):
    await sqlite_log.ensure_topics({"a": 1})
    for _ in range(600):  # more blocks than retention removes at a time
        await sqlite_log.append("a", helpers.json(range(3)))
    async with await sqlite_log.tail({TopicPartition("a", 0): 0}) as tail:
        await helpers.drain(tail, 4, records_max=4)
        await asyncio.sleep(0.005)
        assert await sqlite_log.apply_retention("a", before_ms=int(time.time() * 1000)) == {0: 1800}

        async def read_on() -> None:
            for _ in range(600):
                await tail.poll(records_max=100, timeout_s=1.0)

        # What was in memory already may still come; after it, the gap is named.
        with pytest.raises(OffsetOutOfRangeError) as raised:
            await read_on()
        assert raised.value.position == tail.positions[TopicPartition("a", 0)] >= 4
        assert raised.value.earliest == 1800


async def test_pages_of_removed_records_are_used_again(sqlite_config: LogConfig):
    async with open_log(sqlite_config) as log:
        await log.ensure_topics({"a": 1})
        sizes = []
        for _ in range(6):
            for _ in range(8):
                await log.append("a", [NewRecord(os.urandom(50_000))])
            await asyncio.sleep(0.003)
            await log.apply_retention("a", before_ms=int(time.time() * 1000))
            with sqlite3.connect(path_of(sqlite_config)) as connection:
                sizes.append(connection.execute("PRAGMA page_count").fetchone()[0])
            connection.close()
        assert sizes[-1] <= sizes[1] * 1.2


async def test_append_times_never_go_back(sqlite_log: EventLog, helpers, monkeypatch):
    clock = iter([2_000_000_000_000, 1_999_999_000_000, 1_999_999_000_001, 2_000_000_000_005])
    monkeypatch.setattr(sqlite_writer.time, "time", lambda: next(clock) / 1000)
    await sqlite_log.ensure_topics({"a": 1})
    for i in range(4):
        await sqlite_log.append("a", helpers.json([i]))
    async with await sqlite_log.tail({TopicPartition("a", 0): 0}) as tail:
        times = [t for run in await helpers.drain(tail, 4) for t in run.append_ms]
    assert times == [2_000_000_000_000] * 3 + [2_000_000_000_005]


async def test_a_large_append_is_cut_into_blocks(sqlite_log: EventLog, sqlite_config: LogConfig, helpers):
    await sqlite_log.ensure_topics({"a": 1})
    values = [b"x" * 900_000, b"y" * 900_000, *[b"%d" % i for i in range(9000)]]
    await sqlite_log.append("a", [NewRecord(v) for v in values])
    with sqlite3.connect(path_of(sqlite_config)) as connection:
        blocks = connection.execute("SELECT records, length(body) FROM blocks ORDER BY seq").fetchall()
    connection.close()
    assert [n for n, _ in blocks][:2] == [1, 4096]
    assert sum(n for n, _ in blocks) == len(values)
    assert all(size <= 1 << 20 for _, size in blocks)
    async with await sqlite_log.tail({TopicPartition("a", 0): 0}) as tail:
        assert [v for *_, v in helpers.flat(await helpers.drain(tail, len(values)))] == values


async def test_missing_folders_are_made(tmp_path: Path, helpers):
    async with open_log(LogConfig(url=f"sqlite:///{tmp_path}/not/yet/log.db")) as log:
        await log.ensure_topics({"a": 1})
        assert await log.append("a", helpers.json([1])) == [(0, 0)]
    assert (tmp_path / "not/yet/log.db").is_file()


async def refused(url: str, match: str) -> None:
    """Opening fails with this line, leaves no thread behind, and may be tried again."""
    log = open_log(LogConfig(url=url))
    for _ in range(2):
        with pytest.raises(LogUnavailableError, match=match):
            await log.open()
    deadline = time.monotonic() + 2
    while any(t.name.startswith("murmuration-log") for t in threading.enumerate()):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def test_bad_places(tmp_path: Path):
    await refused(f"sqlite:///{tmp_path}", "is a folder; name a file in it")
    (tmp_path / "file").write_text("")
    await refused(f"sqlite:///{tmp_path}/file/log.db", "its folder cannot be created")
    await refused("sqlite:////proc/log.db", "cannot be opened or created; check that its folder can be written to")


async def test_files_that_are_no_log(tmp_path: Path):
    (tmp_path / "text").write_text("not a database at all, " * 100)
    await refused(f"sqlite:///{tmp_path}/text", "is damaged, or no log at all; restore it, or move it away")
    with sqlite3.connect(tmp_path / "other") as connection:
        connection.execute("CREATE TABLE t (x)")
    connection.close()
    await refused(f"sqlite:///{tmp_path}/other", "is another program's database; name another file")


async def test_a_newer_format_is_refused(sqlite_config: LogConfig):
    async with open_log(sqlite_config):
        pass
    with sqlite3.connect(path_of(sqlite_config)) as connection:
        connection.execute("PRAGMA user_version = 9")
    connection.close()
    await refused(sqlite_config.url, "has format 9, this version reads 1")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that another user can reach (pytest's own are private)."""
    folder = Path(tempfile.mkdtemp(prefix="murmuration-test-"))
    folder.chmod(0o777)
    yield folder
    folder.chmod(0o777)
    shutil.rmtree(folder)


@pytest.mark.parametrize("folder_mode", [0o555, 0o777])
async def test_a_read_only_file(open_folder: Path, folder_mode: int):
    url = f"sqlite:///{open_folder}/log.db"
    async with open_log(LogConfig(url=url)):
        pass
    os.chmod(open_folder / "log.db", 0o444)
    os.chmod(open_folder, folder_mode)
    user = os.geteuid()
    if user == 0:  # root may write anything, so somebody else tries
        os.seteuid(65534)
    try:
        await refused(url, "the file is read-only; make it and its folder writable")
    finally:
        os.seteuid(user)


async def test_damage_is_found_when_it_is_read(sqlite_config: LogConfig, helpers):
    async with open_log(sqlite_config) as log:
        await log.ensure_topics({"a": 1})
        await log.append("a", helpers.json(["before"]))
        await log.append("a", helpers.json(["to be damaged"]))
    raw = path_of(sqlite_config).read_bytes()
    assert raw.count(b"to be damaged") == 1
    path_of(sqlite_config).write_bytes(raw.replace(b"to be damaged", b"to be dAmaged"))
    async with open_log(sqlite_config) as log, await log.tail({TopicPartition("a", 0): 0}) as tail:
        assert [v for *_, v in helpers.flat(await tail.poll(records_max=1, timeout_s=1.0))] == [b"before"]
        with pytest.raises(LogUnavailableError, match="is damaged; restore it"):
            await tail.poll(records_max=1, timeout_s=1.0)


async def test_a_full_disk_refuses_and_writes_nothing(sqlite_config: LogConfig, monkeypatch):
    limit = [60]
    connect = sqlite_file.connect

    def small(address):
        connection = connect(address)
        connection.execute(f"PRAGMA max_page_count = {limit[0]}")
        return connection

    monkeypatch.setattr(sqlite_writer, "connect", small)
    records = [NewRecord(b"x" * 30_000, partition=i % 2) for i in range(4)]
    async with open_log(sqlite_config) as log:
        await log.ensure_topics({"a": 2})
        await log.append("a", records[:2])
        for _ in range(3):
            with pytest.raises(LogUnavailableError, match="the disk is full; free some space"):
                await log.append("a", records * 2)
        assert await log.end_offsets("a") == {0: 1, 1: 1}
        assert await log.append("a", [NewRecord(b"small", partition=0)]) == [(0, 1)]
    limit[0] = 4000
    async with open_log(sqlite_config) as log:
        assert await log.append("a", records) == [(0, 2), (1, 1), (0, 3), (1, 2)]


async def test_a_lock_that_is_held_too_long(sqlite_config: LogConfig, helpers, monkeypatch):
    monkeypatch.setattr(sqlite_file, "_BUSY_TIMEOUT_S", 0.1)
    async with open_log(sqlite_config) as log:
        await log.ensure_topics({"a": 1})
        holder = sqlite3.connect(path_of(sqlite_config), isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(LogUnavailableError, match="another process has held its write lock"):
            await log.append("a", helpers.json([1]))
        assert await log.end_offsets("a") == {0: 0}
        holder.execute("ROLLBACK")
        holder.close()
        assert await log.append("a", helpers.json([1])) == [(0, 0)]


async def test_a_burst_larger_than_memory_for_it_waits(sqlite_log: EventLog, monkeypatch):
    monkeypatch.setattr("streams.log.sqlite.log._PENDING_BYTES_MAX", 100_000)
    most = 0
    await sqlite_log.ensure_topics({"a": 2})

    async def append() -> None:
        nonlocal most
        await sqlite_log.append("a", [NewRecord(b"x" * 30_000)])

    tasks = [asyncio.create_task(append()) for _ in range(40)]
    while not all(t.done() for t in tasks):
        most = max(most, sqlite_log._pending_bytes)
        await asyncio.sleep(0)
    assert 0 < most <= 100_000
    assert sum((await sqlite_log.end_offsets("a")).values()) == 40
    assert sqlite_log._pending_bytes == 0


async def test_synchronous_is_full_unless_asked(tmp_path: Path):
    for query, level in (("", 2), ("?synchronous=normal", 1)):
        address = sqlite_file.parse_address(f"sqlite:///{tmp_path}/log.db{query}")
        connection = sqlite_file.connect(address)
        assert connection.execute("PRAGMA synchronous").fetchone() == (level,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        connection.close()


async def test_a_file_is_known_by_what_is_in_it(sqlite_config: LogConfig, tmp_path: Path):
    """A moved file is the same log, a new one at the old place is not; files from before have an id from now on."""
    async with open_log(sqlite_config) as log:
        identity = await log.identity()
    moved = tmp_path / "elsewhere.db"
    path_of(sqlite_config).rename(moved)
    async with open_log(LogConfig(url=f"sqlite:///{moved}")) as log:
        assert await log.identity() == identity
    async with open_log(sqlite_config) as log:
        assert await log.identity() != identity
    with sqlite3.connect(moved) as connection:
        connection.execute("DROP TABLE identity")
    connection.close()
    for _ in range(2):
        async with open_log(LogConfig(url=f"sqlite:///{moved}")) as log:
            found = await log.identity()
    assert found not in (identity, ("sqlite: ", {}))
