"""``murmuration backup``: a whole copy that opens like the original, or nothing."""

import os
import resource
import stat
from pathlib import Path

import numpy as np
import orjson
import pytest

from config.schema import Config
from config.serving import LogConfig
from engine.errors import ConfigError
from streams.cli.backup import BackupError, back_up
from streams.durable.disk import RealDisk
from streams.durable.inspect_folder import inspect
from streams.durable.journal import Run
from streams.durable.snapshot_file import name_positions
from streams.durable.snapshots import SnapshotInfo
from streams.durable.store import HistoryInfo, Store
from streams.events.open_topics import running_log
from streams.log.interface import NewRecord, TopicPartition

TWEETS = TopicPartition("tweets", 0)
HISTORY = "00000000deadbeef"


def config_of(path: Path) -> Config:
    return Config(log=LogConfig(url=f"sqlite:///{path}", partitions_default=1))


async def made(folder: Path) -> tuple[Config, Store]:
    """A log of 60 records, applied in versions of ten; snapshots of versions 2 and 4. The store is open to write."""
    config = config_of(folder / "events.db")
    async with running_log(config.log) as event_log:
        await event_log.append("tweets", [NewRecord(b"%d" % number) for number in range(60)])
        identity = await event_log.identity()
    store = Store.open(RealDisk(folder / "events.state"))
    info = HistoryInfo(
        id=HISTORY, rooms_hash="r", log=identity.log, start=name_positions({TWEETS: 0}), created_ms=1,
        rooms={"room": "1"},
    )  # fmt: skip
    store.prepare(info)
    store.put_in_force(info.id)
    store.save_config("abc", {"rooms": {}})
    journal, snapshots = store.journal(info), store.snapshots(info)
    for version in range(1, 6):
        journal.append([Run(TWEETS, 10 * version - 10, 10 * version - 1, 10)])
        if version in (2, 4):
            taken = SnapshotInfo(
                history=HISTORY, version=version, clock_ms=0, positions=journal.state.positions, models={},
                incarnation=None, rooms={"room": "1"},
            )  # fmt: skip
            snapshots.write(taken, [("room.x", np.arange(version * 100_000))])
    journal.close()
    return config, store


async def records_of(config: Config) -> list[bytes]:
    async with running_log(config.log) as event_log, await event_log.tail({TWEETS: 0}) as tail:
        return [value for run in await tail.poll(records_max=1000, timeout_s=5.0) for value in run.values]


@pytest.mark.parametrize("made_before", [False, True])
async def test_a_copy_is_whole_and_opens_like_the_original(tmp_path, capsys, made_before):
    config, store = await made(tmp_path)
    target = tmp_path / "backups" / "monday"
    if made_before:
        target.mkdir(parents=True)
    async with running_log(config.log) as event_log:  # as while a server runs
        assert await back_up(config, target, json=True) == 0
        await event_log.append("tweets", [NewRecord(b"later")])
    assert stat.S_IMODE((tmp_path / "events.db").stat().st_mode) == 0o600
    answer = orjson.loads(capsys.readouterr().out)
    assert (answer["version"], answer["snapshot_version"]) == (5, 4)
    assert sorted(path.name for path in target.iterdir()) == ["events.db", "events.state"]
    assert [path.name for path in target.parent.iterdir()] == ["monday"]
    for path in target.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    copy = Store.open(RealDisk(target / "events.state"))
    info = copy.current
    assert info == store.current
    assert not inspect(copy).problems
    assert list(copy.journal(info, cut=False).entries(0)) == list(store.journal(info, cut=False).entries(0))
    assert copy.snapshots(info).versions() == [4]
    assert (copy.snapshots(info).load(4)[1]["room.x"] == np.arange(400_000)).all()
    assert copy.configs() == ["abc"]
    copied = config_of(target / "events.db")
    async with running_log(copied.log) as there:
        assert (await there.identity()).log == info.log
    assert await records_of(copied) == [b"%d" % number for number in range(60)]
    copy.close()
    store.close()


async def test_a_damaged_snapshot_is_not_what_a_backup_relies_on(tmp_path, capsys):
    config, store = await made(tmp_path)
    path = tmp_path / "events.state" / HISTORY / f"snapshot-{4:020}"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert await back_up(config, tmp_path / "copy", json=True) == 0
    assert orjson.loads(capsys.readouterr().out)["snapshot_version"] == 2
    store.close()


async def test_what_cannot_be_backed_up_says_why_and_leaves_nothing(tmp_path):
    config, store = await made(tmp_path)
    used = tmp_path / "used"
    used.mkdir()
    (used / "file").write_text("mine")
    with pytest.raises(ConfigError, match=r"used is there already and not an empty folder"):
        await back_up(config, used, json=True)
    with pytest.raises(ConfigError, match=r"TARGET: .*cannot be made"):
        await back_up(config, used / "file" / "copy", json=True)
    with pytest.raises(ConfigError, match="no embedded log"):
        await back_up(Config(log=LogConfig(url="kafka://localhost:1")), tmp_path / "copy", json=True)
    before = sorted(tmp_path.glob("[!e]*"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for size in (200, 100_000):  # as a disk that fills up sooner or later
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
        try:
            with pytest.raises(BackupError, match="copy"):
                await back_up(config, tmp_path / "copy", json=True)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert sorted(tmp_path.glob("[!e]*")) == before == [used]
        assert (used / "file").read_text() == "mine"
    assert os.listdir(used) == ["file"]
    store.close()
