"""Three servers on one Kafka that share an order: killed under load, joined late, and equal to the byte."""

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import aiohttp
import pytest

from config.schema import Config
from config.serving import DurableConfig, LogConfig, ServingConfig
from engine.interaction_graph.state import InteractionGraphConfig
from engine.signals.state import SignalsConfig
from engine.social_graph.state import SocialGraphConfig
from engine.state import RoomsConfig
from engine.tweet_store.state import TweetStoreConfig
from loadtest.scenarios.crashes import environment_of
from loadtest.scenarios.demo import publish_events
from loadtest.society.society import Society, SocietyConfig
from loadtest.traffic.server_process import ServerProcess, free_port
from streams.client.client import FeedClient
from streams.durable.folder import opened_store
from streams.events.open_topics import running_log
from streams.log.interface import EventLog
from streams.recovery.replay import rebuild

PEOPLE = 60
WAIT_S = 300.0
ROOMS = RoomsConfig(
    interaction_graph=InteractionGraphConfig(users_max=1 << 12, tweets_max=1 << 14, edges_max=1 << 16),
    social_graph=SocialGraphConfig(users_max=1 << 12, edges_max=1 << 15, list_entries_max=1 << 16),
    tweet_store=TweetStoreConfig(tweets_max=1 << 14, text_bytes_max=1 << 22),
    signals=SignalsConfig(users_max=1 << 12, blocks_max=1 << 14),
)
#: What must be the same from every node: all of a feed but how long it took.
OWN = ("timings_ms",)


class Nodes:
    """Server processes by name, each with a folder and a port of its own."""

    def __init__(self, log: LogConfig, folder: Path):
        self.log, self.folder = log, folder
        self.ports: dict[str, int] = defaultdict(free_port)
        self.running: dict[str, ServerProcess] = {}

    def config(self, name: str) -> Config:
        return Config(
            log=self.log,
            durable=DurableConfig(folder=str(self.folder / name), snapshot_interval_s=1.0),
            rooms=ROOMS,
            # Sources are never late: what one node leaves out for want of time another would not.
            serving=ServingConfig(source_deadline_s=60.0, drain_timeout_s=2.0),
        )

    async def start(self, *names: str):
        for name in names:
            port = self.ports[name]
            self.running[name] = await ServerProcess.spawn(environment_of(self.config(name), port), port=port)
        await asyncio.gather(*(self.running[name].until_ready(WAIT_S) for name in names))

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.ports[name]}"

    async def end(self, number: signal.Signals, *names: str):
        await asyncio.gather(*(self.running.pop(name).end(number) for name in names))

    async def version(self, name: str) -> int:
        async with aiohttp.ClientSession() as session, session.get(f"{self.url(name)}/readyz") as answer:
            body = await answer.json()
            return body["version"] if body["ready"] and not any(body["lag_records"].values()) else -1

    async def leader(self) -> str:
        deadline = time.monotonic() + WAIT_S
        async with aiohttp.ClientSession() as session:
            while time.monotonic() < deadline:
                for name in self.running:
                    async with session.get(f"{self.url(name)}/metrics") as answer:
                        if re.search(r"^murmuration_order_leads 1", await answer.text(), re.M):
                            return name
                await asyncio.sleep(0.1)
        raise AssertionError("nobody proposes an order")

    async def at_rest(self):
        """Until all nodes have applied everything, and are at the same version."""
        deadline = time.monotonic() + WAIT_S
        while len(found := {await self.version(name) for name in self.running}) > 1 or -1 in found:
            assert time.monotonic() < deadline, found
            await asyncio.sleep(0.02)


class Load:
    """A society whose events go to the log, and viewers who read wherever they are served."""

    def __init__(self, event_log: EventLog, urls: Iterable[str]):
        self.event_log, self.urls = event_log, list(urls)
        self.society = Society(
            SocietyConfig(seed=5, people=PEOPLE, mean_followees=8, history_events=600, events_per_s=300)
        )
        self.now_ms = int(time.time() * 1000)
        self.feeds = self.moves = 0
        self.reported: dict[int, set[str]] = defaultdict(set)

    async def begin(self):
        for events in self.society.bootstrap(self.now_ms, 3_600_000):
            await publish_events(self.event_log, events)

    async def publish(self):
        while True:
            now_ms = int(time.time() * 1000)
            await publish_events(self.event_log, self.society.tick(self.now_ms, now_ms))
            self.now_ms = now_ms
            await asyncio.sleep(0.02)

    async def read(self, viewer: int):
        """No request fails, whatever happens to servers; nothing that was reported as seen comes again."""
        turn = viewer % len(self.urls)
        reported = self.reported[viewer]
        async with FeedClient(self.urls[turn:] + self.urls[:turn], viewer_id=viewer, backoff_s_min=0.02) as client:
            try:
                seen: list[str] = []
                while True:
                    feed = await client.feed(limit=5, seen=seen, timeout_s=WAIT_S)
                    reported.update(seen)
                    self.feeds += 1
                    shown = [entry["tweet_id"] for entry in feed["entries"]]
                    assert not reported & set(shown)
                    seen = shown[:2]
                    await asyncio.sleep(0.05)
            finally:
                self.moves += client.reconnects

    async def more(self, feeds: int):
        """Wait until so many more feeds were read."""
        wanted, deadline = self.feeds + feeds, time.monotonic() + WAIT_S
        while self.feeds < wanted:
            assert time.monotonic() < deadline, f"{wanted - self.feeds} feeds did not come"
            await asyncio.sleep(0.02)

    @contextlib.asynccontextmanager
    async def running(self, viewers: int):
        tasks = [asyncio.create_task(self.publish()), *(asyncio.create_task(self.read(n + 1)) for n in range(viewers))]
        try:
            yield
            assert not [task.exception() for task in tasks if task.done()]
        finally:
            for task in tasks:
                task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert not [outcome for outcome in outcomes if not isinstance(outcome, asyncio.CancelledError)]


async def assert_same_feeds(nodes: Nodes, viewers: Iterable[int]):
    """The same request at the same version gives the same feed, by whichever node; each feed makes a version itself."""
    clients = {}
    async with contextlib.AsyncExitStack() as stack:
        for viewer in viewers:
            for name in nodes.running:
                client = FeedClient(nodes.url(name), viewer_id=viewer)
                clients[viewer, name] = await stack.enter_async_context(client)
        for viewer in viewers:
            deadline = time.monotonic() + WAIT_S
            while True:
                await nodes.at_rest()
                asked = {"seed": 7, "time_ms": int(time.time() * 1000), "request_id": viewer, "explain": "all"}
                feeds = await asyncio.gather(*(clients[viewer, name].feed(**asked) for name in nodes.running))
                if len({feed["version"] for feed in feeds}) == 1:
                    break
                assert time.monotonic() < deadline
            assert feeds[0]["entries"]
            plain = [{key: value for key, value in feed.items() if key not in OWN} for feed in feeds]
            assert all(feed == plain[0] for feed in plain)


async def assert_reports_reach_the_others(nodes: Nodes, viewer: int):
    """What one node is told was seen, another does not show any more."""
    here, there = nodes.running.keys() - {await nodes.leader()}
    async with (
        FeedClient(nodes.url(here), viewer_id=viewer) as one,
        FeedClient(nodes.url(there), viewer_id=viewer) as other,
    ):
        shown = {entry["tweet_id"] for entry in (await one.feed(limit=3))["entries"]}
        assert shown
        await one.feed(limit=1, seen=sorted(shown))
        deadline = time.monotonic() + WAIT_S
        while shown & {entry["tweet_id"] for entry in (await other.feed())["entries"]}:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)


async def assert_same_states(nodes: Nodes, names: Iterable[str], event_log: EventLog):
    """What the folders of stopped nodes give is the same to the byte."""
    digests, histories, version = set(), set(), None
    for name in names:
        config = nodes.config(name)
        with opened_store(config, writable=False) as store:
            assert store is not None
            assert store.current is not None
            history = store.current.id
            newest = store.journal(store.current, cut=False).version
            version = newest if version is None else version
            assert newest >= version
            digests.add((await rebuild(config, store, event_log, history, version)).digest())
            histories.add(history)
    assert len(digests) == len(histories) == 1


async def assert_feeds_audit(config: Config):
    """From one node's folder, what all of them have served is computed again, and is identical."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "streams.cli", "audit", "--sample", "100", "--json",
        env=os.environ | environment_of(config, 0), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    found = json.loads(out)
    assert found["identical"] == found["audited"] > 50, found


@pytest.mark.kafka
async def test_nodes_share_an_order_through_kills_and_late_starts(kafka, tmp_path):
    log = LogConfig(
        url=f"kafka://{kafka}", topic_prefix=f"nodes-{time.time_ns()}-", order="shared", partitions_default=2
    )
    nodes = Nodes(log, tmp_path)
    names = ("one", "two", "three")
    try:
        async with running_log(log) as event_log:
            load = Load(event_log, map(nodes.url, names))
            await load.begin()
            await nodes.start(*names)
            await assert_same_feeds(nodes, (1, 2))
            await assert_reports_reach_the_others(nodes, 3)
            async with load.running(viewers=6):
                await load.more(feeds=60)
                leader = await nodes.leader()
                await nodes.end(signal.SIGKILL, leader)
                await load.more(feeds=60)
                next_leader = await nodes.leader()
                assert next_leader != leader
                (follower,) = nodes.running.keys() - {next_leader}
                # One comes back from its own folder, one comes late with nothing, and another is killed meanwhile.
                await nodes.start(leader, "late")
                await nodes.end(signal.SIGKILL, follower)
                await load.more(feeds=40)
            assert load.moves >= 2
            assert sum(map(len, load.reported.values())) > 10
            await assert_same_feeds(nodes, (1, 2, 3))
            left = list(nodes.running)
            await nodes.end(signal.SIGTERM, *left)
            await assert_same_states(nodes, [follower, *left], event_log)
            await assert_feeds_audit(nodes.config(leader))
    finally:
        await nodes.end(signal.SIGKILL, *nodes.running)
