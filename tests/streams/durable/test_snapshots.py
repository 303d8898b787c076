"""Snapshots: what was there at the version comes back to the byte, or an error says why not."""

import errno
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from engine.batch import Kind, make_batch
from engine.state import EngineState
from streams.durable import snapshot_file
from streams.durable.disk import RealDisk
from streams.durable.segment import Gap
from streams.durable.snapshots import SnapshotError, SnapshotInfo, Snapshots
from streams.durable.store import Store
from streams.log.interface import TopicPartition

HISTORY = "00000000deadbeef"
ROOMS = {"a": "1"}
T0 = 1_760_000_000_000
linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and prctl")


def info_of(version):
    return SnapshotInfo(
        history=HISTORY,
        version=version,
        clock_ms=T0,
        positions={TopicPartition("tweets", 0): 5, TopicPartition("a/b", 12): 2**60},
        models={"ranker": "3"},
        incarnation=2**64 - 1,
        rooms=ROOMS,
        gaps=(Gap(2, TopicPartition("tweets", 0), 3, 5),),
        created_ms=T0,
    )


def arrays_of(version):
    return {
        "constant": np.full(1000, version, np.int64),
        "mixed": np.arange(700, dtype=np.int32) * version,
        "flags": np.array([[True, False], [False, version % 2 == 0]]),
        "empty": np.empty((0, 3), np.float64),
        "odd": np.zeros(13, np.uint8),
    }


def same(left, right):
    assert left.keys() == right.keys()
    for name, array in left.items():
        other = right[name]
        assert (array.dtype, array.shape) == (other.dtype, other.shape)
        assert array.tobytes() == other.tobytes()


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(snapshot_file, "CHUNK_BYTES", 64)


any_array = hnp.arrays(
    st.sampled_from(["|b1", "|u1", "<i4", "<u8", "<f8", "<f4", ">i2", "<c16"]),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=40),
    fill=st.just(0),
)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.text(max_size=6), any_array, max_size=4))
def test_any_arrays_come_back(memory_disk, arrays):
    snapshots = Snapshots(memory_disk(), HISTORY, keep=1)
    written = snapshots.write(info_of(3), arrays.items())
    info, loaded = snapshots.load(3)
    assert info == written
    assert (info.positions, info.gaps) == (info_of(3).positions, info_of(3).gaps)
    same(loaded, arrays)
    into = {name: np.full_like(array, 1) for name, array in arrays.items()}
    assert snapshots.load_into(3, into.items(), ROOMS) == info
    same(into, arrays)
    assert snapshots.check(3) == (info, {})


def test_columns_of_other_arrays_are_kept_too(memory_disk):
    snapshots = Snapshots(memory_disk(), HISTORY, keep=1)
    array = np.arange(600).reshape(20, 30)
    snapshots.write(info_of(1), [("columns", array[:, 3:7]), ("turned", array.T)])
    same(snapshots.load(1)[1], {"columns": array[:, 3:7], "turned": array.T})


def test_objects_are_refused(memory_disk):
    with pytest.raises(ValueError, match="cannot be kept"):
        Snapshots(memory_disk(), HISTORY, keep=1).write(info_of(1), [("x", np.array([None]))])


def test_constant_arrays_take_no_room(memory_disk, monkeypatch):
    monkeypatch.setattr(snapshot_file, "CHUNK_BYTES", 1 << 20)
    snapshots = Snapshots(memory_disk(), HISTORY, keep=1)
    assert snapshots.write(info_of(1), [("x", np.full(1 << 20, -1)), ("y", np.zeros(1 << 20))]).bytes < 2000


@pytest.mark.parametrize("entries", [1, 100, 1000, 20_000])
def test_a_table_of_few_entries_takes_what_they_take(memory_disk, monkeypatch, entries):
    monkeypatch.setattr(snapshot_file, "CHUNK_BYTES", 1 << 20)
    rng = np.random.default_rng(entries)
    table = np.zeros(1 << 19, np.uint64)
    table[rng.choice(len(table), entries, replace=False)] = rng.integers(1, 2**63, entries)
    snapshots = Snapshots(memory_disk(), HISTORY, keep=1)
    assert snapshots.write(info_of(1), [("table", table)]).bytes < 2000 + 12 * entries
    into = np.full_like(table, 7)
    snapshots.load_into(1, [("table", into)], ROOMS)
    assert np.array_equal(into, table)


def test_the_format_before_is_read(memory_disk, monkeypatch):
    """Without sparse chunks, a file is one of the format before."""
    monkeypatch.setattr(snapshot_file, "FORMAT", 2)
    monkeypatch.setattr(np, "count_nonzero", np.size)
    arrays = arrays_of(3) | {"sparse": np.eye(40)}
    disk = memory_disk()
    snapshots = Snapshots(disk, HISTORY, keep=1)
    snapshots.write(info_of(3), arrays.items())
    monkeypatch.undo()
    info, loaded = snapshots.load(3)
    assert info.format == 2
    same(loaded, arrays)


def written(disk, version=3):
    snapshots = Snapshots(disk, HISTORY, keep=3)
    snapshots.write(info_of(version), arrays_of(version).items())
    return snapshots, f"{HISTORY}/snapshot-{version:020}"


def test_every_cut_is_named(memory_disk):
    disk = memory_disk()
    snapshots, name = written(disk)
    full = bytes(disk.files[name])
    for size in range(len(full)):
        disk.files[name] = bytearray(full[:size])
        for read in (snapshots.load, snapshots.check):
            with pytest.raises(SnapshotError, match=name):
                read(3)
        assert not snapshots.infos()
        assert len(snapshots.problems()) == 1


def test_every_damaged_byte_is_named(memory_disk):
    disk = memory_disk()
    snapshots, name = written(disk)
    for at in range(disk.size(name)):
        disk.files[name][at] ^= 1 << at % 8
        with pytest.raises(SnapshotError, match=name):
            snapshots.load(3)
        disk.files[name][at] ^= 1 << at % 8
    same(snapshots.load(3)[1], arrays_of(3))


def test_blocks_that_change_places_are_named(memory_disk):
    disk = memory_disk()
    snapshots, name = written(disk)
    full = bytes(disk.files[name])
    rng = np.random.default_rng(1)
    for _ in range(300):
        a, b, c = sorted(rng.integers(12, len(full), 3))
        swapped = full[:a] + full[b:c] + full[a:b] + full[c:]
        disk.files[name] = bytearray(swapped)
        if swapped != full:
            with pytest.raises(SnapshotError, match=name):
                snapshots.load(3)


def test_another_format_is_refused_in_one_line(memory_disk):
    disk = memory_disk()
    snapshots, name = written(disk)
    disk.files[name][8] = 9
    with pytest.raises(SnapshotError, match=f"^{name}: format 9, this program reads formats 2 to 3$"):
        snapshots.load(3)
    disk.files[name][0] = 9
    with pytest.raises(SnapshotError, match="not a snapshot"):
        snapshots.load(3)
    with pytest.raises(SnapshotError, match="not there"):
        snapshots.load(4)


def test_arrays_of_other_shape_are_refused_by_name(memory_disk):
    snapshots, _ = written(memory_disk())
    for name, other in (
        ("mixed", np.zeros(701, np.int32)),
        ("mixed", np.zeros(700, np.uint32)),
        ("more", np.zeros(1)),
    ):
        with pytest.raises(SnapshotError, match=name):
            snapshots.load_into(3, (arrays_of(3) | {name: other}).items(), ROOMS)
    fewer = arrays_of(3)
    del fewer["flags"]
    with pytest.raises(SnapshotError, match=r"flags is bool\(2, 2\) there and no such array here"):
        snapshots.load_into(3, fewer.items(), ROOMS)


def test_rooms_of_another_hash_are_refused_by_name(memory_disk):
    snapshots, _ = written(memory_disk())
    for rooms in ({"a": "2"}, {}, {"a": "1", "b": "1"}):
        with pytest.raises(SnapshotError, match=r"of another configuration or program \([ab]\)"):
            snapshots.load_into(3, arrays_of(3).items(), rooms)


def test_a_damaged_room_leaves_the_others_readable(memory_disk):
    """Whichever byte is damaged, at most the room it is in and the one after it are lost."""
    disk = memory_disk()
    snapshots = Snapshots(disk, HISTORY, keep=1)
    rooms = {"engine": "0", "a": "1", "b": "2", "c": "3"}
    arrays = {f"{room}.{part}": np.arange(9) + 10 * i for i, room in enumerate(rooms) for part in ("x", "y")}
    info = msgspec.structs.replace(info_of(3), rooms=rooms)
    sections = snapshots.write(info, arrays.items()).sections
    assert list(sections) == list(rooms)
    name = next(name for name in disk.names() if "snapshot" in name)
    whole = bytes(disk.view(name))
    for at in range(sections["engine"][0], sections["c"][1] - 4):  # the last checksum belongs to the end, too
        disk.remove(name)
        file = disk.open(name)
        file.write(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        file.close()
        into = {label: np.zeros_like(array) for label, array in arrays.items()}
        found, loaded = snapshots.load_rooms(3, into.items(), rooms)
        assert found.version == 3
        hit = next(i for i, (start, stop) in enumerate(sections.values()) if start <= at < stop)
        lost = set(rooms) - loaded
        assert list(rooms)[hit] in lost
        assert lost <= set(list(rooms)[hit : hit + 2])
        for label, array in arrays.items():
            assert label.partition(".")[0] in lost or np.array_equal(into[label], array)
    assert snapshots.load_rooms(3, arrays.items(), {"a": "1", "b": "9"})[1] <= {"a"}


@pytest.mark.parametrize("failure", ["crash", "full"])
def test_whatever_fails_the_one_before_stays_in_force(memory_disk, crash, failure, monkeypatch):
    monkeypatch.setattr(snapshot_file, "CHUNK_BYTES", 512)
    outcomes = set()
    for nth in range(150):
        disk = memory_disk()
        snapshots, _ = written(disk, 3)
        error = crash() if failure == "crash" else OSError(errno.ENOSPC, "no space left on device")
        disk.fail_at(nth, error)
        try:
            snapshots.write(info_of(4), arrays_of(4).items())
            outcomes.add(4)
        except (crash, OSError):
            disk.heal()
            outcomes.add(3)
            assert [info.version for info in snapshots.infos()] == [3]
            same(snapshots.load(3)[1], arrays_of(3))
            assert not snapshots.problems()
            Store.open(disk)
            assert not [name for name in disk.names() if name.endswith(".tmp")]
            snapshots.write(info_of(4), arrays_of(4).items())
        assert [info.version for info in snapshots.infos()] == [4, 3]
        same(snapshots.load(4)[1], arrays_of(4))
    assert outcomes == {3, 4}


def test_so_many_whole_ones_are_kept(memory_disk):
    disk = memory_disk()
    snapshots = Snapshots(disk, HISTORY, keep=2)
    for version in (1, 5, 9):
        snapshots.write(info_of(version), arrays_of(version).items())
    assert [info.version for info in snapshots.infos()] == [9, 5]
    del disk.files[f"{HISTORY}/snapshot-{9:020}"][-3:]
    assert [info.version for info in snapshots.infos()] == [5]
    snapshots.write(info_of(10), arrays_of(10).items())
    assert snapshots.versions() == [5, 9, 10], "a damaged one does not count"
    snapshots.write(info_of(11), arrays_of(11).items())
    assert [info.version for info in snapshots.infos()] == [11, 10]


def test_where_no_child_can_write_it_is_written_at_once(memory_disk):
    snapshots = Snapshots(memory_disk(), HISTORY, keep=2)
    arrays = arrays_of(3)
    pending = snapshots.start(info_of(3), arrays.items())
    arrays["mixed"][:] = -1
    assert not snapshots.infos()
    assert pending.finish().version == 3
    assert pending.finish().version == 3
    assert pending.pause_s > 0
    same(snapshots.load(3)[1], arrays_of(3))


def some_events(first_id, n=500):
    rng = np.random.default_rng(first_id)
    return make_batch(
        kind=rng.choice([Kind.FAVORITE, Kind.FOLLOW, Kind.RETWEET], n),
        id=range(first_id, first_id + n),
        user_id=rng.integers(1, 300, n),
        subject_id=rng.integers(1000, 1500, n),
        timestamp_ms=T0 + first_id + np.arange(n),
    )


def test_a_child_writes_the_state_as_it_was_while_the_parent_goes_on(tmp_path, small_rooms, monkeypatch):
    monkeypatch.setattr(snapshot_file, "CHUNK_BYTES", 1 << 20)
    snapshots = Snapshots(RealDisk(tmp_path), HISTORY, keep=2)
    state = EngineState(small_rooms)
    for start in (1, 1001):
        state.apply(some_events(start))
    digest = state.digest()
    go = tmp_path / "go"

    def when_told():
        while not go.exists():
            time.sleep(0.01)
        yield from state.arrays()

    pending = snapshots.start(info_of(state.version), when_told())
    for start in (2001, 3001):
        state.apply(some_events(start))
    assert state.digest() != digest
    assert not snapshots.infos()
    go.touch()
    info = pending.finish()
    assert pending.finish() == info
    assert [info.version for info in snapshots.infos()] == [2]
    other = EngineState(small_rooms)
    assert snapshots.load_into(2, other.arrays(), ROOMS) == info
    assert (other.digest(), other.version) == (digest, 2)


def test_a_childs_failure_is_the_parents(tmp_path):
    snapshots = Snapshots(RealDisk(tmp_path), HISTORY, keep=2)
    snapshots.write(info_of(3), arrays_of(3).items())

    def failing(error):
        yield from arrays_of(4).items()
        raise error

    for error, expected in (
        (OSError(errno.ENOSPC, "full"), os.strerror(errno.ENOSPC)),
        (OSError("no number"), "failed"),
        (KeyError("x"), "failed"),
    ):
        pending = snapshots.start(info_of(4), failing(error))
        for _ in range(2):
            with pytest.raises(OSError, match=expected):
                pending.finish()
        assert RealDisk(tmp_path).names() == [f"{HISTORY}/snapshot-{3:020}"]

    def endless():
        while True:
            time.sleep(0.01)
            yield "x", np.zeros(1)

    pending = snapshots.start(info_of(4), endless())
    pending.abandon()
    with pytest.raises(OSError, match="SIGKILL"):
        pending.finish()
    pending.abandon()
    assert [info.version for info in snapshots.infos()] == [3]
    assert snapshots.write(info_of(4), arrays_of(4).items()).version == 4


@linux
def test_a_child_holds_nothing_of_the_parents(tmp_path):
    disk = RealDisk(tmp_path)
    disk.lock("lock")
    snapshots = Snapshots(disk, HISTORY, keep=2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        os.set_inheritable(server.fileno(), True)

        def what_is_open():
            links = [os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
            yield "open", np.frombuffer("\n".join(links).encode(), np.uint8)
            yield "nice", np.array([os.nice(0)])
            yield "int", np.array([signal.getsignal(signal.SIGINT) == signal.SIG_IGN])

        snapshots.start(info_of(3), what_is_open()).finish()
    loaded = snapshots.load(3)[1]
    links = set(loaded["open"].tobytes().decode().split("\n"))
    temporary = str(tmp_path / HISTORY / f"snapshot-{3:020}.tmp")
    assert links == {"/dev/null", temporary}
    assert loaded["nice"][0] > os.nice(0) or os.nice(0) == 19
    assert loaded["int"][0]


PARENT = """
import os, sys, time
from pathlib import Path
import numpy as np
from streams.durable.disk import RealDisk
from streams.durable.snapshots import SnapshotInfo, Snapshots

folder = Path(sys.argv[1])

def slow():
    (folder / "pid").write_text(str(os.getpid()))
    (folder / "pid").rename(folder / "child")
    while True:
        time.sleep(0.05)
        yield "x", np.zeros(10)

info = SnapshotInfo(
    history="h", version=1, clock_ms=0, positions={}, models={}, incarnation=None, rooms={}, created_ms=0
)
pending = Snapshots(RealDisk(folder), "h", keep=1).start(info, slow())
time.sleep(600)
"""


@linux
def test_a_child_dies_with_its_parent(tmp_path):
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)])
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "child").exists():
            assert time.monotonic() < deadline
            assert parent.poll() is None
            time.sleep(0.02)
        child = int((tmp_path / "child").read_text())
    finally:
        parent.kill()
        parent.wait()
    while is_running(child):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert Store.open(RealDisk(tmp_path)).disk.names() == ["child", "lock"]


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False
