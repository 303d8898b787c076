"""The cost of durability and the time to recover, on a state of many edges, with real server processes.

One server applies the edges, and a first snapshot is written. Then feeds are asked for at a steady rate while events
come in: first without snapshots, then with snapshots written one after the other. A tail of JSON events is applied, the
process is killed, and the next process is timed from its start to ``/readyz``. One of the feeds served at the end is
audited with ``murmuration audit``.
"""

import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec
import numpy as np
from numpy.typing import NDArray

from config.serving import LogConfig
from engine.batch import Kind
from engine.errors import MurmurationError
from loadtest.benches.edge_list import USERS_MIN, made_list, read_list
from loadtest.traffic.made_up import TEXT, make_traffic, to_json
from loadtest.traffic.server_process import ServerProcess
from streams.durable.disk import TEMPORARY, RealDisk
from streams.durable.inspect_folder import inspect
from streams.durable.store import Store
from streams.events.open_topics import running_log
from streams.events.packed import make_rows, pack
from streams.events.publish import append_all
from streams.log.interface import EventLog, Format, NewRecord

Progress = Callable[[str], None]

#: The edges happened within this time before now.
SPAN_MS: Final = 2_400_000
#: How many of the most engaged tweets have creates in the log (the others were created before the log began).
KNOWN_TWEETS: Final = 200_000
#: The load of ``bench freshness``.
FEEDS_PER_S: Final = 20
EVENTS_PER_S: Final = 5000
READY_TIMEOUT_S: Final = 300.0


class _Bench:
    def __init__(self, folder: Path, users: NDArray[np.uint64], tweets: NDArray[np.uint64], progress: Progress) -> None:
        self.users, self.tweets = users, tweets
        self.progress = progress
        self.now_ms = int(time.time() * 1000)
        self.log = LogConfig(url=f"sqlite:///{folder / 'events.db'}")
        self.folder = folder / "state"
        # Every tweet with an engagement has counters, even if its create is not in the log.
        users_max, tweets_max = (1 << int(len(np.unique(ids)) + 300_000).bit_length() for ids in (users, tweets))
        self.environment = {
            "MURMURATION__LOG__URL": self.log.url,
            "MURMURATION__DURABLE__FOLDER": str(self.folder),
            "MURMURATION__DURABLE__SNAPSHOT_INTERVAL_S": "100000",
            "MURMURATION__DURABLE__SNAPSHOT_AT_STOP": "false",
            "MURMURATION__SERVING__REQUESTS_PER_S_MAX": "10000",
            "MURMURATION__ROOMS__INTERACTION_GRAPH__EDGES_MAX": str(len(users)),
            "MURMURATION__ROOMS__INTERACTION_GRAPH__USERS_MAX": str(users_max),
            "MURMURATION__ROOMS__INTERACTION_GRAPH__TWEETS_MAX": str(tweets_max),
            "MURMURATION__ROOMS__TWEET_STORE__TWEETS_MAX": str(tweets_max),
        }
        #: Viewers, drawn by activity.
        self.viewers = np.random.default_rng(5).choice(users, 4000)
        self.latencies: list[float] = []

    async def fill(self, event_log: EventLog) -> None:
        """Append the edges as packed favorites, and creates of the most engaged tweets."""
        known, counts = np.unique(self.tweets, return_counts=True)
        known = known[np.argsort(-counts, kind="stable")[:KNOWN_TWEETS]]
        creates = (
            b'{"v":1,"id":%d,"type":"create","tweet_id":%d,"author_id":%d,"timestamp_ms":%d,"text":"%s","lang":"en"}'
            % (1 << 40 | i, tweet, tweet % 1_000_003 + 1, self.now_ms - SPAN_MS - 1000, TEXT.encode())
            for i, tweet in enumerate(known.tolist())
        )
        for part in _parts([NewRecord(value=value) for value in creates], 4000):
            await event_log.append("tweets", part)
        size = len(self.users)
        times = self.now_ms - SPAN_MS + (np.arange(size) * SPAN_MS // size)
        for start in range(0, size, 1 << 17):
            end = min(start + (1 << 17), size)
            rows = make_rows(
                end - start,
                id=np.arange(start + 1, end + 1, dtype=np.uint64),
                user_id=self.users[start:end],
                subject_id=self.tweets[start:end],
                timestamp_ms=times[start:end],
                kind=int(Kind.FAVORITE),
            )
            records = [NewRecord(value=value, format=Format.PACKED) for value in pack(rows, rows_max=2048)]
            await event_log.append("engagements", records)

    async def tail(self, event_log: EventLog, events: int) -> None:
        """Append the newest events, as JSON."""
        await self.publish(event_log, events, first_id=1 << 41)

    async def publish(self, event_log: EventLog, events: int, *, first_id: int) -> None:
        """Append JSON traffic as fast as the log takes it."""
        start_ms = int(time.time() * 1000) - 1000
        for start in range(0, events, 20_000):
            lines = to_json(
                make_traffic(
                    min(20_000, events - start), start_ms=start_ms, span_ms=1000, seed=start, first_id=first_id + start
                )
            )
            records: dict[str, list[NewRecord]] = {}
            for topic, key, value in lines:
                records.setdefault(topic, []).append(NewRecord(value=value, key=key))
            await append_all(event_log, records)

    async def snapshot(self) -> float:
        """Have a snapshot written now; returns the seconds until it is published."""
        began = time.monotonic()
        before = self._newest()
        os.kill(self.server.pid, signal.SIGUSR1)
        while self._newest() == before:
            if time.monotonic() - began > READY_TIMEOUT_S or self.server.ended:
                raise MurmurationError(f"no snapshot was written: {self.server.output[-2000:]}")
            await asyncio.sleep(0.02)
        return time.monotonic() - began

    def _newest(self) -> tuple[str, int]:
        """Name and time of the newest snapshot's file; cheap, so that looking does not disturb the measurement."""
        files = [entry for entry in os.scandir(self.history) if entry.name.startswith("snapshot-")]
        whole = [entry for entry in files if not entry.name.endswith(TEMPORARY)]
        return max(((entry.name, entry.stat().st_mtime_ns) for entry in whole), default=("", 0))

    async def start(self) -> float:
        """Start a server; returns the seconds from its start to ready."""
        began = time.monotonic()
        self.server = await ServerProcess.spawn(self.environment)
        await self.server.until_ready(READY_TIMEOUT_S)
        took_s = time.monotonic() - began
        info = Store.open(RealDisk(self.folder), writable=False).current
        assert info is not None
        self.history = self.folder / info.id
        return took_s

    async def feeds(self, session: aiohttp.ClientSession, event_log: EventLog, during: "asyncio.Task[Any]") -> float:
        """p99 of feeds asked at a steady rate until the task is done (s, from when each was due)."""
        latencies: list[float] = []
        running: set[asyncio.Task[None]] = set()

        async def one(viewer: int, due: float) -> None:
            async with session.get(f"{self.server.url}/v1/users/{viewer}/feed") as answer:
                await answer.read()
                if answer.status != 200:
                    raise MurmurationError(f"a feed was refused: {answer.status}")
            latencies.append(time.monotonic() - due)

        due, n, id_ = time.monotonic(), 0, (1 << 42) + time.time_ns() % (1 << 40)
        while not during.done():
            running.add(asyncio.create_task(one(int(self.viewers[n % len(self.viewers)]), due)))
            if n % 2 == 0:
                batch = EVENTS_PER_S * 2 // FEEDS_PER_S
                running.add(asyncio.create_task(self.publish(event_log, batch, first_id=id_ + n * batch)))
            n += 1
            due += 1.0 / FEEDS_PER_S
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        await asyncio.gather(*running)
        await during
        return float(np.percentile(latencies, 99))


async def run(
    users: NDArray[np.uint64], tweets: NDArray[np.uint64], *, tail_events: int, seconds: float, progress: Progress
) -> dict[str, float]:
    """Measure on these edges (uint64 ids, (n,)); ``seconds``: time with feeds, without and with snapshots."""
    with tempfile.TemporaryDirectory() as folder:
        bench = _Bench(Path(folder), users, tweets, progress)
        async with running_log(bench.log) as event_log:
            progress(f"appending {len(users):,} edges")
            await bench.fill(event_log)
            progress("applying them")
            await bench.start()
            try:
                return await _measure(bench, event_log, tail_events, seconds)
            finally:
                await bench.server.end(signal.SIGKILL)


async def _measure(bench: _Bench, event_log: EventLog, tail_events: int, seconds: float) -> dict[str, float]:
    progress = bench.progress
    figures: dict[str, float] = {}
    async with aiohttp.ClientSession() as session:
        progress("feeds, running up")
        await bench.feeds(session, event_log, asyncio.create_task(asyncio.sleep(3.0)))
        progress("feeds without snapshots")
        alone = await bench.feeds(session, event_log, asyncio.create_task(asyncio.sleep(seconds)))
        progress("feeds with snapshots")
        snapshots = asyncio.create_task(_snapshots(bench, seconds))
        beside = await bench.feeds(session, event_log, snapshots)
        taken = await snapshots
    progress("a snapshot with nothing beside it")
    figures["snapshot_s"] = round(await bench.snapshot(), 3)
    figures["snapshot_beside_feeds_s"] = round(float(np.median(taken)), 3)
    figures["snapshots_beside_feeds"] = len(taken)
    figures["snapshot_bytes"] = _newest(bench).bytes
    figures["snapshot_pause_ms"] = round(await _pause_ms(bench), 2)
    figures["feed_p99_ms"] = round(alone * 1e3, 2)
    figures["feed_p99_ms_during_snapshot"] = round(beside * 1e3, 2)
    figures["feed_p99_ratio_during_snapshot"] = round(beside / alone, 3)
    progress(f"a tail of {tail_events:,} events")
    await bench.tail(event_log, tail_events)
    await asyncio.sleep(1.0)
    await bench.server.until_ready(READY_TIMEOUT_S)
    request_id = await _served(bench)
    await bench.server.end(signal.SIGKILL)
    progress("recovery")
    figures["recovery_s"] = round(await bench.start(), 3)
    figures["recovered_events"] = tail_events
    await bench.server.end()
    progress("auditing a feed")
    figures["audit_s"] = round(await _audit(bench, request_id), 3)
    report = inspect(Store.open(RealDisk(bench.folder), writable=False))
    journal = report.histories[-1].journal
    assert journal is not None
    figures["journal_versions"] = journal.version
    figures["journal_bytes_per_version"] = round(journal.bytes_per_version, 2)
    return figures


async def _snapshots(bench: _Bench, seconds: float) -> list[float]:
    """Write snapshots one after the other for ``seconds``; the seconds that each took."""
    until, taken = time.monotonic() + seconds, []
    while time.monotonic() < until:
        taken.append(await bench.snapshot())
    return taken


def _newest(bench: _Bench) -> Any:
    store = Store.open(RealDisk(bench.folder), writable=False)
    info = store.current
    assert info is not None
    return store.snapshots(info).infos()[0]


async def _pause_ms(bench: _Bench) -> float:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{bench.server.url}/metrics") as answer,
    ):
        text = await answer.text()
    line = next(line for line in text.splitlines() if line.startswith("murmuration_snapshot_pause_seconds "))
    return float(line.split()[1]) * 1e3


async def _served(bench: _Bench) -> int:
    """Have one feed served and recorded; returns its request's id."""
    async with aiohttp.ClientSession() as session:
        for viewer in bench.viewers.tolist():
            async with session.get(f"{bench.server.url}/v1/users/{viewer}/feed?explain=all") as answer:
                feed = msgspec.json.decode(await answer.read())
            if len(feed["entries"]) == 20:
                await asyncio.sleep(1.0)  # the record of the feed reaches the log after the answer
                return int(feed["request_id"])
    raise MurmurationError("no viewer's feed is full")


async def _audit(bench: _Bench, request_id: int) -> float:
    began = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "streams.cli", "audit", str(request_id), "--json",
        env=os.environ | bench.environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    if process.returncode != 0:
        raise MurmurationError(f"the audit did not come out identical: {out.decode()} {err.decode()[-2000:]}")
    return time.monotonic() - began


def _parts(records: Sequence[NewRecord], size: int) -> Iterable[Sequence[NewRecord]]:
    return (records[start : start + size] for start in range(0, len(records), size))


def edges_of(path: Path | None, count: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Users and tweets of an edge list in a file, or of a made-up list.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is not such a list (``read_list``).
    """
    return made_list(count) if path is None else read_list(path, USERS_MIN)
