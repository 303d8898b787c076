"""The log's file vanishes, is exchanged, cut or overwritten under the process: nothing is acknowledged into nowhere."""

import asyncio
import os
import shutil
import sqlite3
import time
from pathlib import Path

import pytest

from config.serving import LogConfig
from streams.log import open_log
from streams.log.interface import LogUnavailableError, TopicPartition
from streams.log.sqlite import file as sqlite_file
from streams.log.sqlite import log as sqlite_log_module
from streams.log.sqlite import writer as sqlite_writer
from streams.log.sqlite.write_ahead import only_row

PATIENCE_S = 60.0


def path_of(config: LogConfig) -> Path:
    return sqlite_file.parse_address(config.url).path


async def other_log(path: Path, helpers, records: int = 0) -> Path:
    """Another log, closed, of as many records."""
    async with open_log(LogConfig(url=f"sqlite:///{path}")) as log:
        await log.ensure_topics({"a": 1})
        if records:
            await log.append("a", helpers.json(range(records)))
    return path


def vanish(path: Path, other: Path) -> None:
    path.rename(path.with_name("away"))


def exchange(path: Path, other: Path) -> None:
    os.replace(other, path)


def copy_over(path: Path, other: Path) -> None:
    path.write_bytes(other.read_bytes())


def cut(path: Path, other: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def lose_the_newest(path: Path, other: Path) -> None:
    path.with_name(f"{path.name}-wal").unlink()


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (vanish, "the file is gone"),
        (exchange, "another file was put in its place"),
        (copy_over, "the file was overwritten"),
        (cut, "the file was cut from"),
        (lose_the_newest, "-wal, which holds its newest records, is gone"),
    ],
)
async def test_a_file_that_is_not_the_log_any_more(sqlite_config: LogConfig, helpers, tmp_path, harm, words):
    path = path_of(sqlite_config)
    other = await other_log(tmp_path / "other.db", helpers, records=2000)
    async with open_log(sqlite_config) as log:
        await log.ensure_topics({"a": 1})
        await log.append("a", helpers.json(["before"]))
        async with await log.tail({TopicPartition("a", 0): 0}) as tail:
            await helpers.drain(tail, 1)
            harm(path, other)
            listed = set(os.listdir(path.parent))
            for call in (
                lambda: log.append("a", helpers.json(["lost"])),
                lambda: tail.poll(records_max=1, timeout_s=0.0),
                lambda: log.end_offsets("a"),
            ):
                with pytest.raises(LogUnavailableError, match=words):
                    await call()
            assert words in str(log.append_problem())
            assert set(os.listdir(path.parent)) == listed  # SQLite made no new file


@pytest.mark.parametrize("cut_short", [True, False])
async def test_an_older_copy_in_its_place_byte_for_byte_as_large(sqlite_config: LogConfig, helpers, cut_short):
    """The log's id, name and size are what they were; without the check everything would go on, and be lost."""
    path = path_of(sqlite_config)
    async with open_log(sqlite_config) as log, await opened_copy(log, path, helpers) as tail:
        older = path.read_bytes()
        await log.append("a", helpers.json(["newer"]))
        await helpers.drain(tail, 1)
        checkpoint(path)
        assert len(path.read_bytes()) == len(older)
        await log.end_offsets("a")
        path.write_bytes(older) if cut_short else overwrite(path, older)
        for call in (
            lambda: log.append("a", helpers.json(["lost"])),
            lambda: tail.poll(records_max=1, timeout_s=0.0),
            lambda: log.end_offsets("a"),
        ):
            with pytest.raises(LogUnavailableError, match="overwritten by an older copy"):
                await call()
        assert "overwritten by an older copy" in str(log.append_problem())


async def opened_copy(log, path: Path, helpers):
    """A tail of a log whose records are all in the file itself."""
    await log.ensure_topics({"a": 1})
    await log.append("a", helpers.json(["before"]))
    checkpoint(path)
    tail = await log.tail({TopicPartition("a", 0): 0})
    await helpers.drain(tail, 1)
    return tail


def checkpoint(path: Path) -> None:
    """Bring everything from the write-ahead file into the log's file."""
    beside = sqlite3.connect(path)
    beside.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    beside.close()


def overwrite(path: Path, data: bytes) -> None:
    with path.open("r+b") as file:
        file.write(data)


def cut_it(wal: Path, older: bytes) -> None:
    os.truncate(wal, wal.stat().st_size - 1)


def empty_it(wal: Path, older: bytes) -> None:
    wal.write_bytes(b"")


def copy_older_over(wal: Path, older: bytes) -> None:
    wal.write_bytes(older)


def copy_older_into(wal: Path, older: bytes) -> None:
    overwrite(wal, older)


def zero_its_end(wal: Path, older: bytes) -> None:
    size = wal.stat().st_size
    wal.write_bytes(wal.read_bytes()[: size - 4120] + bytes(4120))


@pytest.mark.parametrize("harm", [cut_it, empty_it, copy_older_over, copy_older_into, zero_its_end])
@pytest.mark.parametrize("begun_anew", [True, False])
async def test_a_write_ahead_file_that_is_cut_or_overwritten(sqlite_config: LogConfig, helpers, harm, begun_anew):
    """SQLite reads its pages without a look at their checksums."""
    path = path_of(sqlite_config)
    wal = path.with_name(f"{path.name}-wal")
    async with open_log(sqlite_config) as log, await opened_copy(log, path, helpers) as tail:
        await log.append("a", helpers.json(range(1)))
        older = wal.read_bytes()
        assert older
        if begun_anew:
            checkpoint(path)
        await log.append("a", helpers.json(range(300)))
        await helpers.drain(tail, 301)
        if harm is copy_older_into and not begun_anew:
            return  # it holds what the file begins with
        harm(wal, older)
        for call in (
            lambda: log.append("a", helpers.json(["lost"])),
            lambda: tail.poll(records_max=1, timeout_s=0.0),
            lambda: log.end_offsets("a"),
        ):
            with pytest.raises(LogUnavailableError, match="-wal was cut or overwritten; stop this process"):
                await call()


async def crashed_log(path: Path, helpers, *, rounds: int) -> list[bytes]:
    """A log whose process died: its write-ahead file stays. Returns what that file held in each round."""
    held = []
    config = LogConfig(url=f"sqlite:///{path}")
    wal = path.with_name(f"{path.name}-wal")
    async with open_log(config) as log:
        await log.ensure_topics({"a": 1})
        for _ in range(rounds):
            checkpoint(path)
            await log.append("a", helpers.json(range(20)))
            held.append(wal.read_bytes())
        shutil.copy(path, path.with_name("whole"))
    path.with_name("whole").replace(path)
    wal.write_bytes(held[-1])
    return held


async def test_an_older_write_ahead_file_beside_a_log_that_nobody_uses(tmp_path, helpers):
    path = tmp_path / "log.db"
    wal = path.with_name(f"{path.name}-wal")
    older, _, newest = await crashed_log(path, helpers, rounds=3)
    config = LogConfig(url=f"sqlite:///{path}")
    data = path.read_bytes()
    wal.write_bytes(older)
    for writable in (True, False):
        with pytest.raises(
            LogUnavailableError, match=r"log\.db-wal beside it is older than the log; put the right one"
        ):
            async with open_log(config, writable=writable):
                pass
    assert (path.read_bytes(), wal.read_bytes()) == (data, older)
    wal.write_bytes(newest)
    async with open_log(config) as log:
        assert await log.end_offsets("a") == {0: 60}


async def test_the_row_that_tells_an_older_copy_is_read_as_sqlite_reads_it(tmp_path):
    path = tmp_path / "rows.db"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("CREATE TABLE log (id INTEGER PRIMARY KEY, a INTEGER, b INTEGER, c INTEGER)")
    connection.execute("INSERT INTO log VALUES (1, 0, 0, 0)")
    for value in (0, 1, 2, 127, 128, 32767, 32768, 1 << 23, 1 << 31, 1 << 40, 1 << 47, 1 << 62):
        connection.execute("UPDATE log SET a = ?, b = 0, c = ?", (value, value + 1))
        assert only_row(path.read_bytes()[4096:8192]) == (0, value, 0, value + 1)
    connection.execute("INSERT INTO log VALUES (2, 0, 0, 0)")
    assert only_row(path.read_bytes()[4096:8192]) == ()
    assert only_row(b"") == ()
    connection.close()


async def test_a_log_that_goes_on_never_seems_to_go_back(sqlite_config: LogConfig, helpers):
    """Two processes' worth of connections append, look and bring pages into the file, all at once."""
    path = path_of(sqlite_config)
    async with open_log(sqlite_config) as log, open_log(sqlite_config) as other:
        await log.ensure_topics({"a": 1})
        for round_ in range(20):
            await asyncio.gather(
                *(each.append("a", helpers.json(range(50))) for each in (log, other)),
                *(each.end_offsets("a") for each in (log, other)),
                asyncio.to_thread(checkpoint, path),
            )
            if round_ % 5 == 0:
                await log.apply_retention("a", before_ms=int(time.time() * 1000))
        assert await log.end_offsets("a") == {0: 2000}


async def test_a_file_that_comes_back_is_gone_on_with(sqlite_config: LogConfig, helpers):
    path = path_of(sqlite_config)
    async with open_log(sqlite_config) as log:
        await log.ensure_topics({"a": 1})
        await log.append("a", helpers.json(["before"]))
        vanish(path, path)
        with pytest.raises(LogUnavailableError):
            await log.append("a", helpers.json(["refused"]))
        path.with_name("away").rename(path)
        assert await log.append("a", helpers.json(["after"])) == [(0, 1)]
        async with await log.tail({TopicPartition("a", 0): 0}) as tail:
            assert [v for *_, v in helpers.flat(await helpers.drain(tail, 2))] == [b"before", b"after"]
    async with open_log(sqlite_config) as log:
        assert await log.end_offsets("a") == {0: 2}


async def test_a_write_that_lands_in_a_lost_file_is_not_acknowledged(sqlite_config: LogConfig, helpers, monkeypatch):
    transaction = sqlite_writer.SqliteWriter._transaction

    def slow(self, connection, work):
        done = transaction(self, connection, work)
        path.unlink(missing_ok=True)  # the last moment before the acknowledgement
        return done

    path = path_of(sqlite_config)
    async with open_log(sqlite_config) as log:
        await log.ensure_topics({"a": 1})
        monkeypatch.setattr(sqlite_writer.SqliteWriter, "_transaction", slow)
        with pytest.raises(LogUnavailableError, match="the file is gone"):
            await log.append("a", helpers.json(["lost"]))


async def until(look) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not look():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def test_a_log_nobody_appends_to_finds_out_that_it_takes_no_writes(sqlite_config, monkeypatch):
    """Locked by another process, the disk full, and well again; it says so without an append."""
    monkeypatch.setattr(sqlite_log_module, "_TRY_S", 0.0)
    monkeypatch.setattr(sqlite_log_module, "_STUCK_S", 0.0)
    connect = sqlite_file.connect
    opened = []

    def remembered(address):
        opened.append(connect(address))
        return opened[-1]

    monkeypatch.setattr(sqlite_writer, "connect", remembered)
    async with open_log(sqlite_config) as log:
        await log.ensure_topics({"a": 1})
        holder = sqlite3.connect(path_of(sqlite_config), isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        await until(lambda: "has not ended for" in str(log.append_problem()))
        holder.execute("ROLLBACK")
        holder.close()
        monkeypatch.setattr(sqlite_log_module, "_STUCK_S", PATIENCE_S)
        await until(lambda: log.append_problem() is None)

        # A disk that is full, as SQLite sees it; with little space the log tries by writing something.
        monkeypatch.setattr(sqlite_log_module, "_free_bytes", lambda path: 0)
        full = sqlite_file.unavailable(path_of(sqlite_config), sqlite3.OperationalError("database or disk is full"))
        monkeypatch.setattr(sqlite_writer.SqliteWriter, "_transaction", lambda *_: (_ for _ in ()).throw(full))
        await until(lambda: "the disk is full" in str(log.append_problem()))
        monkeypatch.undo()
        monkeypatch.setattr(sqlite_log_module, "_TRY_S", 0.0)
        await until(lambda: log.append_problem() is None)
        before = await log.end_offsets("a")
        assert before == {0: 0}


def everything(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


async def test_reading_creates_and_changes_nothing(sqlite_config: LogConfig, helpers):
    path = path_of(sqlite_config)
    with pytest.raises(LogUnavailableError, match="nothing was published or served yet"):
        async with open_log(sqlite_config, writable=False):
            pass
    assert not list(path.parent.iterdir())
    await other_log(path, helpers, records=10)
    before = everything(path.parent)
    async with open_log(sqlite_config, writable=False) as log:
        async with await log.tail({TopicPartition("a", 0): 0}) as tail:
            assert len(helpers.flat(await helpers.drain(tail, 10))) == 10
        with pytest.raises(LogUnavailableError, match="open for reading only"):
            await log.append("a", helpers.json([1]))
    assert everything(path.parent) == before


async def test_reading_beside_a_process_that_writes(sqlite_config: LogConfig, helpers):
    async with open_log(sqlite_config) as log, open_log(sqlite_config, writable=False) as reading:
        await log.ensure_topics({"a": 1})
        await log.append("a", helpers.json(range(3)))
        assert await reading.end_offsets("a") == {0: 3}
        await log.append("a", helpers.json(range(2)))
        assert await reading.end_offsets("a") == {0: 5}


async def test_a_log_on_a_disk_that_cannot_be_written_is_read(sqlite_config: LogConfig, helpers, monkeypatch):
    path = path_of(sqlite_config)
    await other_log(path, helpers, records=4)
    connect = sqlite3.connect

    def on_read_only_disk(name, **options):
        if "mode=rw" in str(name):
            raise sqlite3.OperationalError("unable to open database file")
        return connect(name, **options)

    monkeypatch.setattr(sqlite3, "connect", on_read_only_disk)
    async with open_log(sqlite_config, writable=False) as log:
        assert await log.end_offsets("a") == {0: 4}
    # Records that only the write-ahead file has would be left out: then it is refused.
    shutil.copy(path, path.with_name(f"{path.name}-wal"))
    with pytest.raises(LogUnavailableError, match="cannot be opened"):
        async with open_log(sqlite_config, writable=False):
            pass
