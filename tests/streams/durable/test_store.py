"""The folder: one writer, histories, what is pruned, and what ``inspect`` says of it."""

import subprocess
import sys

import numpy as np
import orjson
import pytest
from typer.testing import CliRunner

from streams.cli.main import app
from streams.durable.disk import FolderBusyError, RealDisk
from streams.durable.inspect_folder import inspect
from streams.durable.journal import JournalError, Run
from streams.durable.snapshot_file import name_positions
from streams.durable.snapshots import SnapshotInfo
from streams.durable.store import HistoryInfo, Store, StoreError
from streams.log.interface import TopicPartition

TWEETS, FOLLOWS = TopicPartition("tweets", 0), TopicPartition("relationships", 3)
START = {TWEETS: 100, FOLLOWS: 0}


def begin(store, history="00000000deadbeef", created_ms=1000, rooms_hash="rooms1"):
    info = HistoryInfo(
        id=history,
        rooms_hash=rooms_hash,
        log="sqlite:1",
        start=name_positions(START),
        created_ms=created_ms,
    )
    store.prepare(info)
    store.put_in_force(history)
    return info


def fill(store, info, versions, snapshots_at=()):
    """Versions of ten tweets each; returns the journal."""
    journal, snapshots = store.journal(info), store.snapshots(info)
    for _ in range(versions):
        position = journal.state.positions[TWEETS]
        version = journal.append([Run(TWEETS, position, position + 9, 10)])
        if version in snapshots_at:
            state = journal.state
            snapshots.write(
                SnapshotInfo(
                    history=info.id,
                    version=version,
                    clock_ms=0,
                    positions=state.positions,
                    models={},
                    incarnation=None,
                    rooms={"room": "1"},
                    created_ms=version,
                ),
                [("room.x", np.arange(version * 1000))],
            )
    return journal


def test_a_history_that_is_begun_is_in_force(memory_disk):
    disk = memory_disk()
    store = Store.open(disk)
    assert store.current is None
    assert not store.histories()
    first = begin(store)
    second = begin(store, "00000000deadbee0", created_ms=2000, rooms_hash="rooms2")
    again = Store.open(disk)
    assert again.current == second
    assert again.histories() == [first, second]
    assert first.start_positions == START
    assert again.journal(first).positions_at(0) == START


def test_whatever_crash_leaves_a_history_in_force_or_none(memory_disk, crash):
    outcomes = set()
    for nth in range(25):
        disk = memory_disk()
        first = begin(Store.open(disk), "1" * 16)
        disk.fail_at(nth, crash())
        try:
            second = begin(Store.open(disk), "2" * 16)
            outcomes.add("whole")
        except crash:
            outcomes.add("crashed")
        disk.heal()
        store = Store.open(disk)
        assert store.current in (first, second if "whole" in outcomes else first)
        assert not [name for name in disk.names() if name.endswith(".tmp")]
        fill(store, store.current, 3)
        begin(store, "3" * 16)
        assert not inspect(store).problems
    assert outcomes == {"whole", "crashed"}


def test_configurations_are_kept_as_they_were_first(memory_disk):
    disk = memory_disk()
    store = Store.open(disk)
    store.save_config("abc", {"rooms": {"x": 1}})
    store.save_config("abc", {"rooms": {"x": 2}})
    assert store.config("abc") == {"rooms": {"x": 1}}
    assert store.configs() == ["abc"]
    with pytest.raises(StoreError, match=r"configs/def.json: not there"):
        store.config("def")
    disk.files["configs/abc.json"] = bytearray(b"{")
    with pytest.raises(StoreError, match=r"configs/abc.json: cannot be read"):
        store.config("abc")


def test_damaged_descriptions_are_named(memory_disk):
    disk = memory_disk()
    store = Store.open(disk)
    info = begin(store)
    name = f"{info.id}/history.json"
    disk.files[name] = bytearray(bytes(disk.files[name]).replace(b'"format": 1', b'"format": 2'))
    with pytest.raises(StoreError, match=f"{info.id}: format 2"):
        assert store.current
    disk.files["current"] = bytearray(b"\xffnobody")
    with pytest.raises(StoreError, match="nobody"):
        assert store.current


SECOND = """
import sys
from pathlib import Path
from streams.durable.disk import FolderBusyError, RealDisk
from streams.durable.store import Store
try:
    Store.open(RealDisk(Path(sys.argv[1])))
except FolderBusyError as error:
    sys.exit(str(error))
"""


def test_a_second_process_is_refused_by_name(tmp_path):
    folder = tmp_path / "new" / "state"
    store = Store.open(RealDisk(folder))
    begin(store)
    with pytest.raises(FolderBusyError, match="used by another process"):
        Store.open(RealDisk(folder))
    command = [sys.executable, "-c", SECOND, str(folder)]
    second = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert second.returncode == 1
    assert f"{folder} is used by another process (pid" in second.stderr
    assert Store.open(RealDisk(folder), writable=False).current == store.current, "looking is always allowed"
    store.close()
    store.close()
    assert subprocess.run(command, timeout=60, check=False).returncode == 0


def test_pruned_is_what_nothing_can_be_rebuilt_from(memory_disk):
    disk = memory_disk()
    store = Store.open(disk, segment_bytes=50, snapshots_keep=2)
    old, older = begin(store, "0" * 16), begin(store, "1" * 16, created_ms=1)
    fill(store, old, 20, snapshots_at=(12,)).close()
    fill(store, older, 5).close()
    info = begin(store, "2" * 16, created_ms=2000)
    journal = fill(store, info, 60, snapshots_at=(10, 20, 40))
    whole = disk.names()
    store.prune(journal, START)
    assert disk.names() == whole, "the log still has everything: any version can be rebuilt from it"
    store.prune(journal, {TWEETS: 100 + 10 * 12, FOLLOWS: 0})
    assert store.histories() == [old, info], "a history without a snapshot needs the log's beginning"
    assert 10 < journal.first_version <= 21
    assert len(list(journal.entries(20))) == 40
    store.prune(journal, {TWEETS: 100 + 10 * 12 + 1, FOLLOWS: 0})
    assert store.histories() == [info]
    assert not [name for name in disk.names() if name.startswith((old.id, older.id))]
    store.prune(journal, {TWEETS: 10_000, FOLLOWS: 9})
    assert store.current == info, "what is in force stays"
    assert len(list(journal.entries(20))) == 40


def run_inspect(folder, *options):
    result = CliRunner().invoke(app, ["inspect", str(folder), *options])
    return result.exit_code, result.output


def test_inspect_says_what_is_there_and_what_is_damaged(tmp_path):
    store = Store.open(RealDisk(tmp_path))
    for options in ((), ("--json",)):
        code, output = run_inspect(tmp_path, *options)
        assert code == 2
        assert "holds no history of an engine" in " ".join(output.split())
    store.save_config("abc", {"rooms": {}})
    begin(store, "1" * 16)
    info = begin(store, "2" * 16, created_ms=2000)
    journal = fill(store, info, 100, snapshots_at=(30, 70))
    before = {name: bytes(store.disk.view(name)) for name in store.disk.names()}
    code, output = run_inspect(tmp_path, "--json")
    report = orjson.loads(output)
    assert code == 0
    assert report["problems"] == []
    assert report["configs"] == ["abc"]
    (_, current) = report["histories"]
    assert (current["id"], current["current"], current["log"]) == (info.id, True, "sqlite:1")
    assert current["journal"]["first_version"] == 1
    assert current["journal"]["version"] == 100
    assert current["journal"]["bytes"] == journal.size_bytes
    assert before == {name: bytes(store.disk.view(name)) for name in store.disk.names()}, "it writes nothing"
    journal.close()
    before = {name: bytes(store.disk.view(name)) for name in store.disk.names()}
    assert 0 < current["journal"]["bytes_per_version"] <= 10
    assert [(s["version"], s["created_ms"], s["problem"]) for s in current["snapshots"]] == [
        (70, 70, None),
        (30, 30, None),
    ]
    (name,) = store.disk.names(f"{info.id}/journal-")
    with open(tmp_path / name, "ab") as file:
        file.write(b"torn")
    code, output = run_inspect(tmp_path)
    assert code == 0
    assert "a torn tail of 4 bytes" in output
    assert "everything is whole" in output
    (tmp_path / name).write_bytes(before[name])
    for name, data in before.items():
        if name.endswith((".json", "lock")):
            continue
        (tmp_path / name).write_bytes(data[: len(data) // 2] + b"\xff" + data[len(data) // 2 + 1 :])
        code, output = run_inspect(tmp_path, "--json")
        assert code == 1, name
        assert len(orjson.loads(output)["problems"]) == 1
        assert "DAMAGED" in run_inspect(tmp_path)[1]
        (tmp_path / name).write_bytes(data)
    assert run_inspect(tmp_path)[0] == 0
    assert run_inspect(tmp_path / "nowhere")[0] == 2


def test_a_history_in_force_without_a_journal_is_damaged(memory_disk):
    disk = memory_disk()
    info = begin(Store.open(disk))
    for name in disk.names(f"{info.id}/journal-"):
        disk.remove(name)
    with pytest.raises(JournalError, match="no journal"):
        Store.open(disk).journal(info)
    assert inspect(Store.open(disk, writable=False)).problems == [f"{info.id} is in force and has no journal"]
