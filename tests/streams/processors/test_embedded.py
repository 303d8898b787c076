"""Processors in the engine's process: saved with their positions, so that no crash counts anything twice."""

import asyncio
import contextlib
import errno
import sqlite3
import stat
import time

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from config.processors import ProcessorsConfig
from config.schema import Config
from config.serving import DurableConfig, LogConfig
from engine.errors import ConfigError
from streams.events.open_topics import running_log
from streams.log.interface import LogUnavailableError, TopicPartition
from streams.processors import embedded, metrics, saved_state
from streams.processors.embedded import EmbeddedProcessors, processors_beside
from streams.processors.saved_state import NotSavedError, SavedState

TIMEOUT_S = 60.0
WHERE = TopicPartition("served", 0)
NOW_MS = 1_760_000_000_000

keys = st.binary(min_size=1, max_size=2)
writes = st.lists(st.tuples(keys, st.none() | st.binary(max_size=3)), max_size=8)


@settings(max_examples=50)
@given(st.lists(st.tuples(writes, st.booleans()), max_size=6))
def test_a_saved_state_is_that_of_the_last_save(tmp_path_factory, rounds):
    path = tmp_path_factory.mktemp("state") / "folder" / "processors.db"
    model: dict[bytes, bytes] = {}
    for number, (changes, saved) in enumerate(rounds):
        with SavedState(path) as state:
            before = dict(model)
            assert dict(state) == model
            for key, value in changes:
                if value is None:
                    assert state.pop(key, None) == model.pop(key, None)
                else:
                    state[key] = model[key] = value
            if saved:
                state.save({WHERE: number})
                assert state.positions == {WHERE: number}
            else:  # a crash
                model = before
    with SavedState(path) as state:
        assert dict(state) == model


def test_a_file_that_cannot_be_written_says_so_and_loses_nothing(tmp_path):
    (tmp_path / "folder").write_text("")
    path = tmp_path / "folder" / "processors.db"
    with SavedState(path) as state:
        state[b"k"] = b"v"
        with pytest.raises(NotSavedError, match=r"processors\.db"):
            state.save({WHERE: 3})
        state[b"l"] = b"w"
        (tmp_path / "folder").unlink()
        state.save({WHERE: 4})
    with SavedState(path) as state:
        assert (dict(state), state.positions, state.problem) == ({b"k": b"v", b"l": b"w"}, {WHERE: 4}, None)
    assert [stat.S_IMODE(p.stat().st_mode) for p in (path, path.parent)] == [0o600, 0o700]


def test_whatever_byte_of_the_file_is_damaged_it_is_read_right_or_not_at_all(tmp_path):
    path = tmp_path / "processors.db"
    values = {b"%d" % n: bytes([n]) * 40 for n in range(1, 30)}
    with SavedState(path) as state:
        state.update(values)
        state.save({WHERE: 3})
    sound = path.read_bytes()
    unread = 0
    for at in (*range(0, 100, 3), *range(100, len(sound), 61)):
        path.write_bytes(sound[:at] + bytes([sound[at] ^ 0xFF]) + sound[at + 1 :])
        with SavedState(path) as state:
            unread += state.problem is not None
            assert (dict(state), state.positions) == (({}, {}) if state.problem else (values, {WHERE: 3})), at
            state[b"new"] = b"1"
            with contextlib.suppress(NotSavedError):  # not all damage shows when the file is read
                state.save({WHERE: 6})
            state.save({WHERE: 7})
        with SavedState(path) as again:
            assert (again[b"new"], again.positions, again.problem) == (b"1", {WHERE: 7}, None)
    assert unread > 10
    for other in (b"", b"no database, but long enough to be one" * 100, sound[: len(sound) // 2]):
        path.write_bytes(other)
        with SavedState(path) as state:
            assert not state
            state.save({WHERE: 1})


def test_a_file_that_is_damaged_while_it_is_in_use_is_replaced(tmp_path):
    path = tmp_path / "processors.db"
    with SavedState(path) as state:
        state[b"k"] = b"v"
        state.save({WHERE: 1})
        state._forget_file()  # so that no page is cached
        path.write_bytes(b"x" * 20_000)
        state[b"l"] = b"w"
        with pytest.raises(NotSavedError, match="not a database"):
            state.save({WHERE: 2})
        state.save({WHERE: 2})
    with SavedState(path) as state:
        assert (dict(state), state.positions) == ({b"k": b"v", b"l": b"w"}, {WHERE: 2})


def remove(path):
    path.unlink()


def empty_it(path):
    path.write_bytes(b"")


def put_an_older_one(path):
    older = path.with_name("older")
    with SavedState(older) as state:
        state.save({WHERE: 1})
    older.replace(path)


def overwrite_in_place(path):
    path.write_bytes(bytes(path.stat().st_size))


def cut_its_newest_rows(path):
    path.with_name(f"{path.name}-wal").write_bytes(b"")


@pytest.mark.parametrize("harm", [remove, empty_it, put_an_older_one, overwrite_in_place, cut_its_newest_rows])
def test_a_file_that_somebody_else_changes_while_it_is_in_use_is_written_anew(tmp_path, harm):
    path = tmp_path / "processors.db"
    with SavedState(path) as state:
        state[b"k"] = b"v"
        state.save({WHERE: 1})
        assert (state.disturbed(), state.unsaved) == (None, False)
        harm(path)
        assert "processors.db: was " in state.disturbed()
        assert (state.disturbed(), state.unsaved) == (None, True)  # it is said once
        state.save({WHERE: 2})
        assert (state.disturbed(), state.unsaved) == (None, False)
    with SavedState(path) as state:
        assert (dict(state), state.positions, state.problem) == ({b"k": b"v"}, {WHERE: 2}, None)


def test_a_reader_of_the_file_is_no_disturbance(tmp_path):
    path = tmp_path / "processors.db"
    with SavedState(path) as state:
        state[b"k"] = b"v"
        state.save({WHERE: 1})
        with contextlib.closing(sqlite3.connect(path)) as reader:
            assert reader.execute("SELECT count(*) FROM state").fetchone() == (1,)
        assert state.disturbed() is None


def test_rows_of_different_saves_are_noticed(tmp_path):
    """Each row is whole, but one of them is older than the others."""
    path = tmp_path / "processors.db"
    with SavedState(path) as state:
        state.update({b"%d" % n: b"old" for n in range(3)})
        state.save({WHERE: 1})
        older = sqlite3.connect(path).execute("SELECT * FROM state WHERE key = ?", (b"1",)).fetchone()
        state.update({b"%d" % n: b"newer" for n in range(3)})
        del state[b"2"]
        state.save({WHERE: 2})
    with SavedState(path) as state:
        assert (dict(state), state.problem) == ({b"0": b"newer", b"1": b"newer"}, None)
    with contextlib.closing(sqlite3.connect(path)) as file, file:
        file.execute("INSERT OR REPLACE INTO state VALUES (?, ?, ?)", older)
    with SavedState(path) as state:
        assert (dict(state), state.positions) == ({}, {})
        assert "rows are of different saves" in state.problem


def test_a_file_of_the_format_before_is_read_and_written_anew(tmp_path):
    path = tmp_path / "processors.db"
    with SavedState(path) as state:
        state[b"k"] = b"v"
        state.save({WHERE: 1})
    with contextlib.closing(sqlite3.connect(path)) as file, file:
        file.execute("DROP TABLE sums")
        file.execute("PRAGMA user_version = 2")
    for unsaved in (True, False):
        with SavedState(path) as state:
            assert (dict(state), state.problem, state.unsaved) == ({b"k": b"v"}, None, unsaved)
            state.save({WHERE: 1})


def test_without_a_folder_nothing_is_kept():
    with SavedState(None) as state:
        state[b"k"] = b"v"
        state.save({WHERE: 3})
    with SavedState(None) as state:
        assert (dict(state), state.positions) == ({}, {})


class Bench:
    """An engine's log and processors that can be started, awaited and broken off."""

    def __init__(self, config, event_log, folder):
        self.config, self.log, self.folder = config, event_log, folder
        self.registry = CollectorRegistry()

    @contextlib.asynccontextmanager
    async def running(self):
        self.registry = CollectorRegistry()
        task = asyncio.create_task(EmbeddedProcessors(self.config, self.log, self.registry, self.folder).run())
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.wait([task])

    def exposures(self, group="all", window="24h"):
        """Both buckets' together."""
        found = [
            sample.value
            for family in self.registry.collect()
            for sample in family.samples
            if sample.name == "murmuration_exposures"
            and (sample.labels["group"], sample.labels["window"]) == (group, window)
        ]
        return int(sum(found))

    def feeds(self, result):
        labels = {"processor": "exposures", "result": result}
        return int(self.registry.get_sample_value("murmuration_processor_feeds_total", labels) or 0)

    def failures(self, what):
        return self.registry.get_sample_value("murmuration_processor_state_failures_total", {"what": what}) or 0

    async def until(self, condition):
        deadline = time.monotonic() + TIMEOUT_S
        while not condition():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)


@pytest.fixture
async def bench(tmp_path, monkeypatch):
    monkeypatch.setattr(metrics, "SHOW_INTERVAL_S", 0.02)
    monkeypatch.setattr(embedded, "POLL_TIMEOUT_S", 0.05)
    config = Config(
        log=LogConfig(url=f"sqlite:///{tmp_path}/log.db", partitions_default=2),
        processors=ProcessorsConfig(batch_feeds_max=7),
    )
    async with running_log(config.log) as event_log:
        yield Bench(config, event_log, tmp_path / "state")


async def test_what_is_served_is_counted_by_group(bench, make):
    await bench.log.append("users", [make.user(1, NOW_MS - 1000, ["press"]), make.user(2, NOW_MS + 1000, ["press"])])
    async with bench.running():
        await bench.log.append("served", [make.feed(i, i, NOW_MS + i, [1, 2, 0]) for i in range(1, 41)])
        await bench.until(lambda: bench.exposures() == 120)
        assert (bench.exposures("press"), bench.exposures("press", "1h")) == (40, 40)
        # A profile counts for the feeds after it, although author 2 was shown before.
        await bench.log.append("served", [make.feed(50, 1, NOW_MS + 2000, [2])])
        await bench.until(lambda: bench.exposures() == 121)
        assert bench.exposures("press") == 41


async def test_what_is_no_served_feed_is_refused_and_the_rest_goes_on(bench, make):
    future = make.feed(1, 1, int(time.time() * 1000) + 10**9, [1])
    bad = [msgspec.structs.replace(make.feed(1, 1, 1, [1]), value=value) for value in (b"{", b"{}", b"\xff", b"[1]")]
    async with bench.running():
        await bench.log.append("served", [future, *bad, make.feed(2, 1, NOW_MS, [1])])
        await bench.until(lambda: bench.exposures() == 1)
    assert (bench.feeds("refused"), bench.feeds("applied")) == (5, 1)


async def test_a_restart_goes_on_where_it_stopped(bench, make):
    await bench.log.append("served", [make.feed(i, i, NOW_MS, [1]) for i in range(1, 101)])
    async with bench.running():
        await bench.until(lambda: bench.feeds("applied") == 100)
    await bench.log.append("served", [make.feed(i, i, NOW_MS, [1]) for i in range(96, 121)])
    async with bench.running():
        await bench.until(lambda: bench.exposures() == 120)
        assert (bench.feeds("applied"), bench.feeds("duplicate")) == (20, 5)


async def test_broken_off_anywhere_it_counts_nothing_twice(bench, make, monkeypatch):
    """Every third save fails before it is written: the run dies with the batch counted, and the next one reads it."""
    saves = 0
    save = SavedState.save

    def failing(self, positions):
        nonlocal saves
        saves += 1
        if saves % 3 == 0:
            raise sqlite3.OperationalError("disk full")
        save(self, positions)

    monkeypatch.setattr(SavedState, "save", failing)
    await bench.log.append("served", [make.feed(i, i, NOW_MS, [1, 2]) for i in range(1, 101)])
    deaths, finished = 0, False
    while not finished:
        async with bench.running() as task:
            await bench.until(lambda task=task: task.done() or bench.exposures() == 200)
            finished = not task.done()
            deaths += task.done()
    assert deaths >= 3
    assert bench.exposures() == 200


async def test_without_a_folder_a_start_counts_what_the_log_holds(bench, make):
    bench.folder = None
    await bench.log.append("served", [make.feed(i, i, NOW_MS, [1]) for i in range(1, 31)])
    for _ in range(2):
        async with bench.running():
            await bench.until(lambda: bench.exposures() == 30)


async def test_a_damaged_state_is_counted_anew_and_a_full_disk_waited_for(bench, make, monkeypatch):
    monkeypatch.setattr(embedded, "SAVE_RETRY_S_MAX", 0.0)
    path = bench.folder / "processors.db"
    bench.folder.mkdir()
    path.write_bytes(b"no database, but long enough to be one" * 100)
    await bench.log.append("served", [make.feed(i, i, NOW_MS, [1]) for i in range(1, 31)])
    connect, full = saved_state._connect, True

    def refusing(where):
        if full:
            raise OSError(errno.ENOSPC, "no space left on device")
        return connect(where)

    monkeypatch.setattr(saved_state, "_connect", refusing)
    async with bench.running() as task:
        await bench.until(lambda: bench.exposures() == 30)
        assert (bench.failures("damaged"), bench.failures("unsaved") > 0, task.done()) == (1, True, False)
        full = False
        await bench.log.append("served", [make.feed(i, i, NOW_MS, [1]) for i in range(31, 41)])
        await bench.until(lambda: bench.exposures() == 40)
    with SavedState(path) as state:
        assert sum(state.positions.values()) == 40
    async with bench.running():
        await bench.until(lambda: bench.exposures() == 40)
    assert (bench.failures("damaged"), bench.feeds("applied")) == (0, 0)


async def test_a_file_that_is_removed_is_written_anew_although_nothing_is_served(bench, make):
    path = bench.folder / "processors.db"
    await bench.log.append("served", [make.feed(i, i, NOW_MS, [1]) for i in range(1, 31)])
    async with bench.running():
        await bench.until(lambda: bench.exposures() == 30)
        path.unlink()
        await bench.until(lambda: bench.failures("disturbed") == 1 and path.exists() and path.stat().st_size)
        await bench.log.append("served", [make.feed(31, 31, NOW_MS, [1])])
        await bench.until(lambda: bench.exposures() == 31)
    with SavedState(path) as state:
        assert (sum(state.positions.values()), state.problem) == (31, None)
    assert bench.failures("disturbed") == 1


async def test_another_log_is_counted_from_its_beginning(bench, make):
    with SavedState(bench.folder / "processors.db") as state:
        state[b"0"] = b"99999999"
        state.save({WHERE: 10**6})
    await bench.log.append("served", [make.feed(1, 1, NOW_MS, [1])])
    async with bench.running():
        await bench.until(lambda: bench.exposures() == 1)


async def test_a_log_that_is_away_is_waited_for(bench, make, monkeypatch):
    answers = iter([LogUnavailableError("away")] * 3)
    ends = bench.log.end_offsets

    async def end_offsets(topic):
        if (error := next(answers, None)) is not None:
            raise error
        return await ends(topic)

    monkeypatch.setattr(bench.log, "end_offsets", end_offsets)
    await bench.log.append("served", [make.feed(1, 1, NOW_MS, [1])])
    async with bench.running():
        await bench.until(lambda: bench.exposures() == 1)


async def test_records_removed_before_they_were_counted_are_left_out(bench, make):
    await bench.log.append("served", [make.feed(i, i, NOW_MS, [1]) for i in range(1, 21)])
    async with bench.running():
        await bench.until(lambda: bench.exposures() == 20)
    await bench.log.append("served", [make.feed(i, i, NOW_MS, [1]) for i in range(21, 41)])
    await bench.log.apply_retention("served", before_ms=int(time.time() * 1000) + 10_000)
    await bench.log.append("served", [make.feed(i, i, NOW_MS, [1]) for i in range(41, 51)])
    async with bench.running():
        await bench.until(lambda: bench.exposures() == 30)


@pytest.mark.parametrize(
    ("run_in", "url", "here"),
    [("auto", "sqlite", True), ("auto", "kafka", False), ("serve", "kafka", True), ("agents", "sqlite", False)],
)
async def test_where_they_run(bench, monkeypatch, run_in, url, here):
    ran = asyncio.Event()

    async def run(self):
        ran.set()

    monkeypatch.setattr(EmbeddedProcessors, "run", run)
    config = Config(
        log=LogConfig(url="kafka://127.0.0.1:1") if url == "kafka" else bench.config.log,
        processors=ProcessorsConfig(run_in=run_in),
        durable=DurableConfig(folder="none"),
    )
    async with processors_beside(config, bench.log, CollectorRegistry()):
        await asyncio.sleep(0.01)
        assert ran.is_set() == here


async def test_their_death_ends_what_they_run_beside(bench, monkeypatch):
    async def run(self):
        raise ConfigError("broken")

    monkeypatch.setattr(EmbeddedProcessors, "run", run)
    with pytest.raises(ExceptionGroup) as raised:
        async with processors_beside(bench.config, bench.log, CollectorRegistry()):
            await asyncio.sleep(TIMEOUT_S)
    assert raised.group_contains(ConfigError)
