"""Real processes on small disks that fill up and become read-only: they go on, say so, and lose nothing."""

import asyncio
import json
import os
import signal
import stat
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from config.schema import Config
from config.serving import DurableConfig, LogConfig
from engine.rooms import small_rooms
from loadtest.traffic.server_process import ServerProcess
from streams.cli.backup import BackupError, back_up
from streams.durable.disk import RealDisk
from streams.durable.store import Store
from streams.events.open_topics import existing_log
from streams.live.wiring import running_engine, wait_applied
from streams.recovery.replay import forward, rebuild, restore_newest
from tests.support.small_disk import SmallDisk, small_disk

PATIENCE_S = 240.0
VIEWER, FRIEND = 1, 2
SNAPSHOT_FAILURES = "murmuration_snapshot_failures_total"
UNSAVED = 'murmuration_processor_state_failures_total{what="unsaved"}'


class Bench:
    """A server whose state and log lie on two small disks, and calls to it."""

    def __init__(self, folder: Path, state: SmallDisk, log: SmallDisk) -> None:
        self.state, self.log = state, log
        self.folder = state.folder / "state"
        durable = {
            "snapshot_interval_s": 0.5,
            "snapshots_keep": 2,
            "journal_sync_interval_s": 0.1,
            "journal_segment_bytes": 200,
        }
        self.config = Config(
            log=LogConfig(url=f"sqlite:///{log.folder / 'events.db'}"),
            durable=DurableConfig(folder=str(self.folder), **durable),
            rooms=small_rooms(),
        )
        self._file = folder / "small.toml"
        tables = {"rooms": msgspec.to_builtins(small_rooms()), "durable": durable | {"folder": str(self.folder)}}
        self._file.write_text("\n".join(as_toml(table, name) for name, table in tables.items()))
        self.environment = {"MURMURATION__LOG__URL": self.config.log.url}
        self.server: ServerProcess
        self.session: aiohttp.ClientSession
        #: The tweets that were acknowledged, oldest first.
        self.shown: list[str] = []

    async def start(self) -> None:
        self.server = await ServerProcess.spawn(self.environment, "-c", str(self._file))
        await self.server.until_ready(PATIENCE_S)

    async def run(self, *words: str, under: tuple[str, ...] = ()) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            *under, sys.executable, "-m", "streams.cli", *words, env=os.environ | self.environment,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await process.communicate()
        return process.returncode, output.decode()

    async def command(self, *words: str, under: tuple[str, ...] = ()) -> dict[str, Any]:
        code, output = await self.run(*words, "-c", str(self._file), "--json", under=under)
        assert code == 0, output
        return json.loads(output[output.index("{") : output.rindex("}") + 1])

    async def send(self, **event: Any) -> int:
        common = {"v": 1, "id": str(time.time_ns()), "timestamp_ms": int(time.time() * 1000)}
        async with self.session.post(f"{self.server.url}/v1/events", json=common | event) as answer:
            return answer.status

    async def tweet(self) -> int:
        """One tweet, which makes one version; remembered if it is acknowledged."""
        tweet_id = str(time.time_ns())
        status = await self.send(type="create", tweet_id=tweet_id, author_id=str(FRIEND), text="hello")
        if status == 200:
            self.shown.append(tweet_id)
        return status

    async def get(self, path: str) -> tuple[int, str]:
        async with self.session.get(self.server.url + path) as answer:
            return answer.status, await answer.text()

    async def metric(self, name: str) -> float:
        _, text = await self.get("/metrics")
        return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name))

    async def feed(self) -> list[str]:
        """The viewer's Following feed, oldest first."""
        url = f"{self.server.url}/v1/feed?viewer={VIEWER}"
        async with self.session.ws_connect(url, protocols=("murmuration.v1.json",)) as ws:
            await ws.send_json({"type": "feed", "product": "following", "limit": 100})
            while True:
                frame = await ws.receive_json(timeout=PATIENCE_S)
                assert frame["type"] != "error", frame
                if frame["type"] == "feed":
                    return sorted(entry["tweet_id"] for entry in frame["entries"])

    async def until(self, condition: Callable[[], Awaitable[bool]]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not await condition():
            assert time.monotonic() < deadline, self.server.output
            await asyncio.sleep(0.05)

    async def shows_all(self) -> bool:
        return await self.feed() == self.shown[-100:]


def as_toml(tables: dict[str, Any], prefix: str) -> str:
    lines = [f"[{prefix}]"]
    lines += [f"{key} = {json.dumps(value)}" for key, value in tables.items() if not isinstance(value, dict)]
    inner = [as_toml(value, f"{prefix}.{key}") for key, value in tables.items() if isinstance(value, dict)]
    return "\n".join([*lines, *inner])


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with ExitStack() as stack:
        disks = [stack.enter_context(small_disk(tmp_path / name, size)) for name, size in (("state", 48), ("log", 24))]
        yield Bench(tmp_path, *disks)


async def test_full_and_read_only_disks_end_nothing_and_lose_nothing(tmp_path: Path, bench: Bench):
    await bench.start()
    async with aiohttp.ClientSession() as bench.session:
        assert await bench.send(type="follow", user_id=str(VIEWER), target_id=str(FRIEND)) == 200
        for _ in range(5):
            assert await bench.tweet() == 200
        await bench.until(lambda: above(bench, "murmuration_snapshot_version ", 0))
        await the_disk_of_the_state_fills_up(bench)
        await the_disk_of_the_log_fills_up(bench)
        # Killed while the disk is full; what it left is whole, and a full replay gives the same state.
        bench.state.fill(bench.server.pid)
        await bench.tweet()
        await bench.server.end(signal.SIGKILL)
        bench.state.free(bench.server.pid)
        await snapshot_and_full_replay_agree(bench)
        await bench.start()
        await bench.until(bench.shows_all)
        await a_backup_of_the_running_engine_comes_back(tmp_path, bench)
        bench.state.fill(bench.server.pid)
        await bench.tweet()
    assert await bench.server.end(signal.SIGTERM) == 0, bench.server.output
    bench.state.free(bench.server.pid)
    for path in (bench.folder, *bench.folder.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    await read_only_disks_are_read(bench)


async def above(bench: Bench, metric: str, value: float) -> bool:
    return await bench.metric(metric) > value


async def the_disk_of_the_state_fills_up(bench: Bench) -> None:
    """First no snapshot can be written, then neither the journal nor the table of exposures."""
    server, mounted = bench.server, bench.state.mounted
    if mounted:
        before = await bench.metric(SNAPSHOT_FAILURES)
        bench.state.fill(server.pid, nearly=True)
        assert await bench.tweet() == 200
        await bench.until(lambda: above(bench, SNAPSHOT_FAILURES, before))
        await bench.until(bench.shows_all)
        await server.until_ready(PATIENCE_S)
    before = await bench.metric(UNSAVED)

    async def refused() -> bool:
        bench.state.fill(server.pid)  # again, for a snapshot that fails gives its room back
        # One request makes one version, so the journal soon needs another page of the disk.
        assert await bench.tweet() == (200 if mounted else 503)
        status, said = await bench.get("/readyz")
        return status == 503 and ("the journal cannot be written" in said or not mounted)

    async def unsaved() -> bool:
        bench.state.fill(server.pid)
        await bench.feed()
        return await above(bench, UNSAVED, before)

    await bench.until(refused)
    if mounted:  # else no feed can be logged, so none is counted
        await bench.until(unsaved)
        with pytest.raises(BackupError):
            await back_up(bench.config, bench.state.folder / "backup", json=True)
        assert not list(bench.state.folder.glob("backup*"))
    await says_once_and_goes_on(bench, bench.state, "the journal cannot be written, nothing is applied")


async def the_disk_of_the_log_fills_up(bench: Bench) -> None:
    """Events are refused by name, and none of them is half there."""
    bench.log.fill(bench.server.pid)

    async def refused() -> bool:
        return await bench.tweet() == 503

    await bench.until(refused)

    async def not_ready() -> bool:
        status, said = await bench.get("/readyz")
        return status == 503 and (("the disk is full" in said) or not bench.log.mounted)

    await bench.until(not_ready)
    await bench.feed()
    await says_once_and_goes_on(bench, bench.log, "")


async def says_once_and_goes_on(bench: Bench, disk: SmallDisk, words: str) -> None:
    assert not bench.server.ended, bench.server.output
    if words and disk.mounted:
        begun, over = (bench.server.output.count(f'"{key}": "{words}"') for key in ("event", "outage"))
        # One line when it begins and one when it ends, none for the tries between.
        assert begun in (over, over + 1), bench.server.output
        assert begun
    disk.free(bench.server.pid)
    await bench.server.until_ready(PATIENCE_S)
    await bench.until(bench.shows_all)
    assert await bench.tweet() == 200
    await bench.until(bench.shows_all)


async def snapshot_and_full_replay_agree(bench: Bench) -> None:
    store = Store.open(RealDisk(bench.folder), writable=False)
    info = store.current
    async with existing_log(bench.config.log) as event_log:
        with store.journal(info, cut=False) as journal:
            assert max(store.snapshots(info).versions()) > 0
            state, positions = restore_newest(bench.config, store.snapshots(info), journal, 0)
            assert state.version == 0
            await forward(state, positions, bench.config, journal, event_log, journal.version)
            newest = await rebuild(bench.config, store, event_log, info.id, journal.version)
    assert newest.version == state.version > 0
    assert newest.digest() == state.digest()


async def a_backup_of_the_running_engine_comes_back(tmp_path: Path, bench: Bench) -> None:
    copied = await bench.command("backup", str(tmp_path / "copy"))
    store = Store.open(RealDisk(bench.folder), writable=False)
    async with existing_log(bench.config.log) as event_log:
        original = await rebuild(bench.config, store, event_log, store.current.id, copied["version"])
    copy = msgspec.structs.replace(
        bench.config,
        log=LogConfig(url=f"sqlite:///{copied['log']}"),
        durable=msgspec.structs.replace(bench.config.durable, folder="auto"),
    )
    async with running_engine(copy) as (engine, event_log):
        await wait_applied(engine, event_log, timeout_s=PATIENCE_S)
        assert engine.version == original.version
        assert engine.state.digest() == original.digest()


async def read_only_disks_are_read(bench: Bench) -> None:
    under = {word for disk in (bench.state, bench.log) for word in disk.read_only()}
    words = tuple(sorted(under, reverse=True))
    checked, audited, inspected = await asyncio.gather(
        bench.command("recover", "--check", under=words),
        bench.command("audit", "--sample", "1000", under=words),
        bench.run("inspect", str(bench.folder), under=words),
    )
    assert checked["equal"] is True
    assert (audited["different"], audited["unavailable"]) == (0, {})
    assert audited["identical"] >= 5
    assert inspected[0] == 0, inspected[1]
