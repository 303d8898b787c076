"""The rooms' metrics are shown by the writer: a scrape never waits for the state lock, and is never old for long."""

import asyncio
import time

from prometheus_client import CollectorRegistry, generate_latest

from config.schema import Config
from config.serving import DurableConfig, LogConfig
from engine.state import EngineState
from loadtest.scenarios.demo import publish_events
from loadtest.society.society import Society, SocietyConfig
from streams.live.wiring import running_engine, wait_applied


def shown(registry: CollectorRegistry, room: str, what: str) -> float | None:
    return registry.get_sample_value("murmuration_room_fill_ratio", {"room": room, "what": what})


def all_shown(registry: CollectorRegistry, state: EngineState) -> bool:
    gauges = state.gauges().items()
    return all(shown(registry, room, what) == share for room, (_, fills, _) in gauges for what, share in fills.items())


async def test_a_scrape_waits_for_nobody_and_shows_the_newest_version_soon(tmp_path, small_rooms):
    config = Config(
        log=LogConfig(url=f"sqlite:///{tmp_path / 'events.db'}"),
        durable=DurableConfig(folder="none"),
        rooms=small_rooms,
    )
    registry = CollectorRegistry()
    society = Society(SocietyConfig(seed=3, people=50, mean_followees=5, history_events=300))
    async with running_engine(config, registry=registry) as (engine, event_log):
        (what, empty), *_ = sorted(engine.state.tweet_store.fill().items())
        assert shown(registry, "tweet_store", what) == empty
        for events in society.bootstrap(int(time.time() * 1000), 3_600_000):
            await publish_events(event_log, events)
        await wait_applied(engine, event_log, timeout_s=60)
        assert engine.state.tweet_store.fill() != EngineState(small_rooms).tweet_store.fill()
        # Nothing more comes: what the last piece left is shown all the same.
        async with asyncio.timeout(60):
            while not all_shown(registry, engine.state):
                await asyncio.sleep(0.02)
        with engine.lock.writing():
            assert b"murmuration_room_bytes{" in generate_latest(registry)
