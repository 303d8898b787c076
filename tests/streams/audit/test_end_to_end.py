"""What a server showed its viewers audits as identical: paged, excluded, pushed, explained, over restarts."""

import asyncio
import time
from collections import Counter
from pathlib import Path

import pytest

from murmuration.config.schema import Config
from murmuration.config.serving import DurableConfig, IngestConfig, LogConfig, ServingConfig
from murmuration.engine.state import RoomsConfig
from murmuration.loadtest.demo import publish_events
from murmuration.loadtest.society import Society, SocietyConfig
from murmuration.streams.app import wait_applied
from murmuration.streams.audit.auditor import Auditor, Outcome
from murmuration.streams.audit.records import sample_served
from murmuration.streams.client import FeedClient
from murmuration.streams.durable.folder import opened_store
from murmuration.streams.serve import Running, running
from murmuration.streams.topics import running_log

PEOPLE = 60


@pytest.fixture
def settings(tmp_path: Path, small_rooms: RoomsConfig) -> Config:
    return Config(
        log=LogConfig(url=f"sqlite:///{tmp_path / 'events.db'}"),
        ingest=IngestConfig(batch_events_max=64),
        durable=DurableConfig(snapshots_keep=10),
        serving=ServingConfig(port=0, push_interval_ms_min=10, drain_timeout_s=5.0),
        rooms=small_rooms,
    )


class World:
    """A society that goes on from run to run of the server, and viewers who look at what they get."""

    def __init__(self) -> None:
        self.society = Society(
            SocietyConfig(seed=4, people=PEOPLE, mean_followees=8.0, history_events=600, events_per_s=2000)
        )
        self.now_ms = int(time.time() * 1000)
        self.began = False
        self.asked = 0

    async def live(self, instance: Running, ticks: int = 10) -> None:
        """Events while viewers look."""
        if not self.began:
            self.began = True
            for events in self.society.bootstrap(self.now_ms, 3_600_000):
                await publish_events(instance.event_log, events)
        await wait_applied(instance.engine, instance.event_log, timeout_s=60)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._publish(instance, ticks))
            for viewer in (3, 4, 5):
                group.create_task(self._look(instance.url, viewer))
            group.create_task(self._follow(instance.url, 6))
        await wait_applied(instance.engine, instance.event_log, timeout_s=60)

    async def _publish(self, instance: Running, ticks: int) -> None:
        for _ in range(ticks):
            await publish_events(instance.event_log, self.society.tick(self.now_ms, self.now_ms + 50))
            self.now_ms += 50
            await asyncio.sleep(0.01)

    async def _look(self, url: str, viewer: int) -> None:
        async with FeedClient(url, viewer_id=viewer) as client:
            for explain in ("none", "entries", "all"):
                first = await client.feed(limit=5, explain=explain, timeout_s=60)
                shown = [entry["tweet_id"] for entry in first["entries"]]
                self.asked += 1
                if "cursor" in first:
                    await client.feed(limit=5, cursor=first["cursor"], explain=explain, seen=shown[:2], timeout_s=60)
                    self.asked += 1
                await client.feed(limit=10, exclude=shown, explain=explain, timeout_s=60)
                await client.feed(product="following", limit=8, explain=explain, seed=0, timeout_s=60)
                self.asked += 2
                # Nothing to show is an answer too.
                self.asked += 1
                await client.feed(product="following", limit=5, time_ms=1, explain=explain, timeout_s=60)

    async def _follow(self, url: str, viewer: int) -> None:
        async with FeedClient(url, viewer_id=viewer) as client:
            pushes = 0
            async for _ in client.subscribe(interval_ms=10, limit=5, explain="entries"):
                pushes += 1
                self.asked += 1
                if pushes == 3:
                    break


async def audited(settings: Config, size: int = 10_000) -> Counter:
    with opened_store(settings, writable=False) as store:
        async with running_log(settings.log) as event_log:
            feeds = await Auditor(settings, store, event_log).audit(await sample_served(event_log, size, 1))
    assert [feed for feed in feeds if feed.outcome is not Outcome.IDENTICAL] == []
    return Counter(feed.outcome for feed in feeds)


async def test_everything_served_audits_as_identical(settings):
    world = World()
    async with running(settings) as instance:
        await world.live(instance)
        # Beside the running server: what its queue has brought to the log so far.
        beside = await audited(settings, 20)
        assert beside[Outcome.IDENTICAL] > 0
    assert (await audited(settings))[Outcome.IDENTICAL] >= world.asked
    async with running(settings) as instance:
        await world.live(instance)
        await instance.engine.keeper.snapshot()
        await world.live(instance)
    assert (await audited(settings))[Outcome.IDENTICAL] >= world.asked > 60
