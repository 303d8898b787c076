"""Several processes on one file: offsets stay right, tails wake, and what was acknowledged survives kill -9."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from pathlib import Path

from config.serving import LogConfig
from streams.log import open_log
from streams.log.interface import EventLog, TopicPartition
from streams.log.sqlite import tail as sqlite_tail
from streams.log.sqlite.doorbell import Doorbell, folder_of

APPENDER = """
import asyncio, sys
from config.serving import LogConfig
from streams.log import open_log
from streams.log.interface import NewRecord

async def main(url, name, count):
    async with open_log(LogConfig(url=url)) as log:
        await log.ensure_topics({"a": 2})
        print("ready", flush=True)
        sys.stdin.readline()
        for i in range(count):
            placed = await log.append("a", [NewRecord(f"{name}-{i}-{j}".encode(), key=b"%d" % j) for j in range(3)])
            print(" ".join(f"{p}:{o}" for p, o in placed), flush=True)

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


async def appender(url: str, name: str, count: int) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        APPENDER,
        url,
        name,
        str(count),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    return process


def acknowledged(output: bytes, name: str) -> dict[tuple[int, int], bytes]:
    found = {}
    for i, line in enumerate(output.decode().splitlines()):
        for j, place in enumerate(line.split()):
            partition, _, offset = place.partition(":")
            found[int(partition), int(offset)] = f"{name}-{i}-{j}".encode()
    return found


async def test_two_processes_append_and_a_third_tails(sqlite_log: EventLog, sqlite_config: LogConfig, helpers):
    await sqlite_log.ensure_topics({"a": 2})
    others = await asyncio.gather(*(appender(sqlite_config.url, name, 60) for name in ("one", "two")))
    expected: dict[tuple[int, int], bytes] = {}
    async with await sqlite_log.tail(await helpers.begin(sqlite_log, "a")) as tail:
        outputs = asyncio.gather(*(other.communicate(b"go\n") for other in others))
        for i in range(60):
            placed = await sqlite_log.append("a", helpers.json([f"here-{i}"]))
            expected[placed[0]] = f"here-{i}".encode()
        read = helpers.flat(await helpers.drain(tail, 60 + 2 * 180))
    for name, (output, _) in zip(("one", "two"), await outputs, strict=True):
        theirs = acknowledged(output, name)
        assert len(theirs) == 180
        assert not theirs.keys() & expected.keys()
        expected |= theirs
    assert {(p, o): v for _, p, o, v in read} == expected


async def test_a_commit_wakes_the_tail_of_another_process(
    sqlite_log: EventLog, sqlite_config: LogConfig, helpers, monkeypatch
):
    monkeypatch.setattr(sqlite_tail, "_LOOK_AGAIN_S", 600.0)  # it must not depend on looking by itself
    await sqlite_log.ensure_topics({"a": 2})
    other = await appender(sqlite_config.url, "other", 20)
    assert other.stdin is not None
    assert other.stdout is not None
    async with await sqlite_log.tail(await helpers.begin(sqlite_log, "a")) as tail:
        await tail.poll(records_max=1, timeout_s=0.05)
        other.stdin.write(b"go\n")
        arrived = 0
        while arrived < 60:
            runs = await tail.poll(records_max=100, timeout_s=60.0)
            assert runs, "nobody rang"
            arrived += sum(len(r.offsets) for r in runs)
    await other.communicate()


async def test_what_was_acknowledged_survives_kill_9(sqlite_config: LogConfig, helpers):
    for round_ in range(3):
        other = await appender(sqlite_config.url, f"round{round_}", 100_000)
        assert other.stdin is not None
        assert other.stdout is not None
        other.stdin.write(b"go\n")
        output = await other.stdout.readline()
        await asyncio.sleep(0.05)
        other.send_signal(signal.SIGKILL)
        output += (await other.communicate())[0]
        promised = acknowledged(output[: output.rfind(b"\n") + 1], f"round{round_}")
        assert promised
        async with open_log(sqlite_config) as log:
            ends = await log.end_offsets("a")
            async with await log.tail(await helpers.begin(log, "a")) as tail:
                read = {(p, o): v for _, p, o, v in helpers.flat(await helpers.drain(tail, sum(ends.values())))}
            assert promised.items() <= read.items()
            assert set(read) == {(p, o) for p, end in ends.items() for o in range(end)}


async def test_sockets_of_dead_processes_are_removed(sqlite_log: EventLog, sqlite_config: LogConfig, helpers):
    await sqlite_log.ensure_topics({"a": 1})
    folder = folder_of(Path(sqlite_config.url.removeprefix("sqlite:///")))
    async with await sqlite_log.tail({TopicPartition("a", 0): 0}):
        mine = set(os.listdir(folder))
        assert len(mine) == 1
        dead = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        dead.bind(str(folder / "dead.sock"))
        dead.close()
        (folder / "no-socket").write_text("")
        await sqlite_log.append("a", helpers.json([1]))
        deadline = time.monotonic() + 60
        while (folder / "dead.sock").exists():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        assert set(os.listdir(folder)) >= mine
    (folder / "no-socket").unlink(missing_ok=True)
    await sqlite_log.close()
    assert not folder.exists()


async def test_bells_wake_each_other_but_not_themselves(tmp_path: Path):
    rung = []
    one, two = Doorbell(tmp_path / "bells"), Doorbell(tmp_path / "bells")
    try:
        one.ring()  # nobody listens, not even the folder is there
        assert one.listen(lambda: rung.append("one"))
        assert two.listen(lambda: rung.append("two"))
        one.ring()
        await asyncio.sleep(0.02)
        assert rung == ["two"]
        for _ in range(5000):  # more than a socket's buffer holds: never blocks
            two.ring()
        await asyncio.sleep(0.02)
        assert rung[1:]
        assert set(rung[1:]) == {"one"}
    finally:
        one.close()
        two.close()
    assert not (tmp_path / "bells").exists()


def test_a_long_path_rings_elsewhere():
    far = folder_of(Path("/") / ("x" * 100) / "log.db")
    assert len(str(far)) < 90
    assert far != folder_of(Path("/") / ("y" * 100) / "log.db")
    assert folder_of(Path("/tmp/log.db")) == Path("/tmp/log.db-tails")


async def test_a_folder_that_cannot_be_written_only_costs_latency(tmp_path: Path):
    (tmp_path / "file").write_text("")
    bell = Doorbell(tmp_path / "file" / "bells")
    with contextlib.closing(bell):
        assert not bell.listen(lambda: None)
        bell.ring()
