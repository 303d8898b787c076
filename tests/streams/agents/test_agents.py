"""Agents on a real Kafka: workers share partitions, are killed and stopped; nothing is counted twice or lost."""

import asyncio
import collections
import os
import random
import re
import secrets
import socket
import subprocess
import sys
import time
from pathlib import Path

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from config.processors import ProcessorsConfig
from config.schema import Config
from config.serving import LogConfig
from engine.errors import ConfigError, MurmurationError
from engine.motifs.state import Motif
from streams.agents import faust_app as agents_faust
from streams.agents import worker as agents
from streams.events.json_types import Notification
from streams.events.notifications import CANDIDATES, NOTIFICATIONS, candidate_of, decode_notification, record_of
from streams.events.open_topics import running_log
from streams.log.interface import LogUnavailableError, NewRecord, TopicPartition
from streams.log.kafka.options import parse_options
from streams.processors.embedded import EmbeddedProcessors

TIMEOUT_S = 60.0
PARTITIONS = 4
NOW_MS = 1_760_000_000_000
GROUPS = {1: ["press"], 2: ["press", "sport"], 3: []}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def exposures(text: str) -> dict[str, int]:
    """The windows on a page of metrics, by their labels."""
    return {labels: int(float(n)) for labels, n in re.findall(r"^murmuration_exposures\{(.*)\} (\S+)$", text, re.M)}


def entries(exposures: dict[str, int]) -> int:
    """How many entries of feeds they count: each is counted once in the day's window of group ``all``."""
    return sum(n for labels, n in exposures.items() if 'group="all",window="24h"' in labels)


async def until(condition, what):
    """Poll until the condition gives something true, and return that."""
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        found = await condition()
        if found:
            return found
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.1)


class WorkerProcess:
    """``murmuration agents`` in a separate process."""

    def __init__(self, config: Config, folder: Path, **more: str):
        self.port = free_port()
        self.log = folder / f"worker-{self.port}.log"
        environ = {
            "MURMURATION__LOG__URL": config.log.url,
            "MURMURATION__LOG__TOPIC_PREFIX": config.log.topic_prefix,
            "MURMURATION__LOG__PARTITIONS_DEFAULT": str(PARTITIONS),
            "MURMURATION__PROCESSORS__AGENTS_PORT": str(self.port),
            "MURMURATION__PROCESSORS__AGENTS_SESSION_TIMEOUT_S": "6",
            **more,
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "streams.cli", "agents"], env=os.environ | environ, stdout=log, stderr=log
            )

    async def get(self, path: str) -> tuple[int, str]:
        assert self.process.poll() is None, self.log.read_text()[-3000:]
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"http://127.0.0.1:{self.port}{path}") as answer,
            ):
                return answer.status, await answer.text()
        except aiohttp.ClientError:
            return 0, ""

    async def partitions(self) -> list[int]:
        status, text = await self.get("/readyz")
        return [int(n) for n in re.findall(r"\d+", text)] if status == 200 else []

    async def exposures(self) -> dict[str, int]:
        return exposures((await self.get("/metrics"))[1])

    def kill(self) -> None:
        """End it with -9."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """Tell it to end, as an operator does."""
        self.process.terminate()
        assert self.process.wait(TIMEOUT_S) == 0, self.log.read_text()[-3000:]


@pytest.mark.kafka
async def test_two_workers_one_of_them_killed_tell_nobody_twice_and_nobody_too_often(kafka, tmp_path):
    """Eight candidates for each of thirty people, five of which may be sent, in an order that the kill cuts in two."""
    config = Config(
        log=LogConfig(url=f"kafka://{kafka}", topic_prefix=f"t{secrets.token_hex(6)}.", partitions_default=PARTITIONS)
    )
    always = {f"MURMURATION__NOTIFICATIONS__{key}": "0" for key in ("QUIET_FROM_HOUR", "QUIET_TO_HOUR")}
    always["MURMURATION__NOTIFICATIONS__SPACING_MINUTES_MIN"] = "0"
    people, workers = range(1, 31), []

    def candidates(targets: range) -> list[NewRecord]:
        now_ms = time.time_ns() // 1_000_000
        return [
            record_of(candidate_of(Motif(person, target, 0, (7, 8, 9)), (7, 8, 9), place=f"t/{person}/{target}",
                                   append_ms=now_ms, visited_ms=0))
            for target in targets
            for person in people
        ]  # fmt: skip

    async with running_log(config.log) as event_log:

        async def told() -> list[Notification]:
            starts = await event_log.start_offsets(NOTIFICATIONS)
            ends = await event_log.end_offsets(NOTIFICATIONS)
            places = {TopicPartition(NOTIFICATIONS, p): at for p, at in starts.items()}
            found = []
            async with await event_log.tail(places) as tail:
                while any(tail.positions[place] < ends[place.partition] for place in places):
                    for run in await tail.poll(records_max=1000, timeout_s=1.0):
                        found += [decode_notification(value) for value in run.values]
            return found

        async def told_at_least(count: int) -> bool:
            return len(await told()) >= count

        try:
            workers += [WorkerProcess(config, tmp_path, **always) for _ in range(2)]
            for worker in workers:
                await until(worker.partitions, "a worker has no partitions")
            await event_log.append(CANDIDATES, candidates(range(101, 104)))
            await until(lambda: told_at_least(1), "nobody is told")
            workers[0].kill()
            await event_log.append(CANDIDATES, candidates(range(101, 109)))
            workers.append(WorkerProcess(config, tmp_path, **always))
            await until(lambda: told_at_least(5 * len(people)), "not everybody is told")
            workers[1].stop()
            workers[2].stop()
        finally:
            for worker in workers:
                worker.process.kill()
        sent = await told()
    assert len({one.id for one in sent}) == len(sent) == 5 * len(people)
    for person in people:
        own = sorted((one.timestamp_ms, int(one.target_id)) for one in sent if int(one.user_id) == person)
        assert len({target for _, target in own}) == len(own)
        for time_ms, _ in own:  # every window of 24 hours
            assert sum(time_ms <= other < time_ms + 86_400_000 for other, _ in own) <= 5


@pytest.mark.kafka
async def test_workers_that_are_killed_and_stopped_count_nothing_twice_and_lose_nothing(kafka, make, tmp_path):
    draw = random.Random(7)
    config = Config(
        log=LogConfig(url=f"kafka://{kafka}", topic_prefix=f"t{secrets.token_hex(6)}.", partitions_default=PARTITIONS)
    )
    records = [
        make.feed(i, draw.randint(1, 40), NOW_MS - draw.randint(0, 40 * 60_000), draw.choices([1, 2, 3, 4], k=5))
        for i in range(1, 2001)
    ]
    workers: list[WorkerProcess] = []

    async def shared():
        parts = [await worker.partitions() for worker in workers]
        return len(parts[0]) == len(parts[1]) == PARTITIONS // 2 and not set(parts[0]) & set(parts[1])

    async def counted():
        return sum([collections.Counter(await worker.exposures()) for worker in workers], collections.Counter())

    async with running_log(config.log) as event_log:
        await event_log.append("users", [make.user(user, NOW_MS - 10**8, groups) for user, groups in GROUPS.items()])
        try:
            workers += [WorkerProcess(config, tmp_path) for _ in range(2)]
            await until(shared, "the workers do not share the partitions")
            await event_log.append("served", records[:500])

            async def both_count():
                return entries(await counted()) == 500 * 5

            await until(both_count, "the workers do not count")

            # Ended while feeds stream in: some are counted whose offsets are not committed yet.
            for first, end in ((500, WorkerProcess.kill), (900, WorkerProcess.stop), (1300, WorkerProcess.kill)):
                ended = workers.pop(0)
                for start in range(first, first + 400, 50):
                    await event_log.append("served", records[start : start + 50])
                    await asyncio.sleep(0.05)
                    if start == first + 200:
                        await asyncio.to_thread(end, ended)
                workers.append(WorkerProcess(config, tmp_path))
                # After the second, partitions move again before they have settled.
                if end is WorkerProcess.kill:
                    await until(shared, "the workers do not share the partitions again")
            # A producer's second attempt, too.
            await event_log.append("served", records[1700:2000] + records[1100:1200])

            embedded = await embedded_exposures(config, event_log, tmp_path, len(records))

            async def same():
                return await counted() == embedded

            await until(same, "the workers' totals are not the embedded run's")
            assert await shared()
        finally:
            for worker in workers:
                worker.kill()


async def embedded_exposures(config, event_log, folder, feeds):
    """What the engine's own process reports of the same log, once it has counted that many feeds."""
    registry = CollectorRegistry()
    task = asyncio.create_task(EmbeddedProcessors(config, event_log, registry, folder).run())

    async def shown():
        assert not task.done(), task.result()
        found = exposures(generate_latest(registry).decode())
        return found if entries(found) == feeds * 5 else None

    try:
        return await until(shown, "the embedded processors do not count")
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_agents_say_where_they_do_not_belong():
    with pytest.raises(ConfigError, match=r"log\.url"):
        await agents.run_agents(Config())
    kafka = LogConfig(url="kafka://127.0.0.1:1")
    with pytest.raises(ConfigError, match="run_in"):
        await agents.run_agents(Config(log=kafka, processors=ProcessorsConfig(run_in="serve")))


async def test_a_worker_ends_when_partitions_were_added(monkeypatch):
    monkeypatch.setattr(agents, "PARTITIONS_INTERVAL_S", 0.001)

    class Log:
        answers = iter([4, LogUnavailableError("away"), 4, 6])

        async def partitions(self, topic):
            answer = next(self.answers)
            if isinstance(answer, LogUnavailableError):
                raise answer
            return answer

    with pytest.raises(MurmurationError, match="6 partitions now, not 4"):
        await agents.watch_partitions(Log(), 4)


@pytest.mark.parametrize(
    ("options", "protocol"),
    [
        ({}, None),
        ({"security_protocol": "SSL"}, "SSL"),
        (
            {
                "security_protocol": "SASL_SSL",
                "sasl_mechanism": "SCRAM-SHA-512",
                "sasl_plain_username": "feed",
                "sasl_plain_password": "secret",
            },
            "SASL_SSL",
        ),
        ({"security_protocol": "SASL_PLAINTEXT", "sasl_plain_username": "feed"}, "SASL_PLAINTEXT"),
    ],
)
def test_credentials_are_the_logs(options, protocol):
    found = agents_faust.credentials(parse_options(LogConfig(url="kafka://127.0.0.1:1", kafka=options)))
    if protocol is None:
        assert found is None
        return
    assert found.protocol.value == protocol
    if protocol.startswith("SASL"):
        assert found.mechanism.value == options.get("sasl_mechanism", "PLAIN")
        assert found.username == "feed"
        assert found.password == options.get("sasl_plain_password")
    assert (found.ssl_context is not None) == protocol.endswith("SSL") if protocol != "SSL" else found.context
