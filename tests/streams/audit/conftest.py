"""A server's past to audit: made once, copied for each test that wants to spoil it."""

import asyncio
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from config.schema import Config
from config.serving import DurableConfig, IngestConfig, LogConfig, ServingConfig
from engine.state import RoomsConfig
from loadtest.scenarios.demo import publish_events
from loadtest.society.society import Society, SocietyConfig
from streams.client.client import FeedClient
from streams.live.wiring import wait_applied
from streams.serve import Running, running

PEOPLE = 60


class World:
    """A society that goes on from run to run of the server, and viewers who look at what they get."""

    def __init__(self) -> None:
        self.society = Society(
            SocietyConfig(seed=4, people=PEOPLE, mean_followees=8.0, history_events=600, events_per_s=2000)
        )
        self.now_ms = int(time.time() * 1000)
        self.began = False
        #: Request ids of the feeds that were answered; pushes have ids of the server's.
        self.requests: list[int] = []
        self.pushes = 0
        #: Request ids of pushes of single entries.
        self.entries: list[int] = []

    async def live(self, instance: Running, ticks: int = 10) -> None:
        """Events while viewers look."""
        if not self.began:
            self.began = True
            for events in self.society.bootstrap(self.now_ms, 3_600_000):
                await publish_events(instance.event_log, events)
        await wait_applied(instance.engine, instance.event_log, timeout_s=60)
        async with asyncio.TaskGroup() as group:
            followers = [
                group.create_task(self._follow(instance.url, 6)),
                group.create_task(self._follow_entries(instance.url, 7)),
            ]
            group.create_task(self._publish(instance, ticks, followers))
            for viewer in (3, 4, 5):
                group.create_task(self._look(instance.url, viewer))
        await wait_applied(instance.engine, instance.event_log, timeout_s=60)

    async def _publish(self, instance: Running, ticks: int, followers: list[asyncio.Task[None]]) -> None:
        """At least so many ticks, and on until the followers have seen something new as often as they want."""
        while ticks > 0 or not all(follower.done() for follower in followers):
            ticks -= 1
            await publish_events(instance.event_log, self.society.tick(self.now_ms, self.now_ms + 50))
            self.now_ms += 50
            await asyncio.sleep(0.01)

    async def _look(self, url: str, viewer: int) -> None:
        async with FeedClient(url, viewer_id=viewer) as client:

            async def ask(**fields):
                feed = await client.feed(timeout_s=60, **fields)
                self.requests.append(int(feed["request_id"]))
                return feed

            for explain in ("none", "entries", "all"):
                first = await ask(limit=5, explain=explain)
                shown = [entry["tweet_id"] for entry in first["entries"]]
                if "cursor" in first:
                    await ask(limit=5, cursor=first["cursor"], explain=explain, seen=shown[:2])
                await ask(limit=10, exclude=shown, explain=explain)
                await ask(product="following", limit=8, explain=explain, seed=0)
                # Nothing to show is an answer too.
                await ask(product="following", limit=5, time_ms=1, explain=explain)

    async def _follow(self, url: str, viewer: int) -> None:
        async with FeedClient(url, viewer_id=viewer) as client:
            seen = 0
            async for _ in client.subscribe(interval_ms=10, limit=5, explain="entries"):
                seen += 1
                self.pushes += 1
                if seen == 3:
                    break

    async def _follow_entries(self, url: str, viewer: int) -> None:
        async with FeedClient(url, viewer_id=viewer) as client:
            seen = 0
            async for push in client.subscribe(interval_ms=10, product="following", pushes="entries"):
                if push["type"] == "new_entries":
                    seen += 1
                    self.entries.append(int(push["request_id"]))
                if seen == 3:
                    break


def config_in(folder: Path, rooms: RoomsConfig) -> Config:
    return Config(
        log=LogConfig(url=f"sqlite:///{folder / 'events.db'}"),
        ingest=IngestConfig(batch_events_max=64),
        durable=DurableConfig(snapshots_keep=10),
        serving=ServingConfig(port=0, push_interval_ms_min=10, drain_timeout_s=10.0),
        rooms=rooms,
    )


@pytest.fixture
def settings(tmp_path: Path, small_rooms: RoomsConfig) -> Config:
    return config_in(tmp_path, small_rooms)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture(scope="module")
def _past(tmp_path_factory: pytest.TempPathFactory) -> Callable[[RoomsConfig], tuple[Path, World]]:
    made: list[tuple[Path, World]] = []

    async def live(config: Config, world: World) -> None:
        async with running(config) as instance:
            await world.live(instance)

    def make(rooms: RoomsConfig) -> tuple[Path, World]:
        if not made:
            folder, world = tmp_path_factory.mktemp("past"), World()
            asyncio.run(live(config_in(folder, rooms), world))
            made.append((folder, world))
        return made[0]

    return make


@pytest.fixture
def past(tmp_path: Path, small_rooms: RoomsConfig, _past: Callable[..., tuple[Path, World]]) -> tuple[Config, World]:
    """A configuration whose log and folder hold the past of one run, free to be spoilt; and who looked."""
    folder, world = _past(small_rooms)
    shutil.copytree(folder, tmp_path / "copy")
    return config_in(tmp_path / "copy", small_rooms), world
