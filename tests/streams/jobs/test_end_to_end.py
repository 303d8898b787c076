"""Follows in the log become scores at the endpoint, and feeds before, meanwhile and after audit as identical."""

import asyncio
import time
from collections import Counter

import aiohttp
import msgspec
import orjson
import pytest

from config.jobs import JobsConfig, ReputationJobConfig
from config.schema import Config
from config.serving import DurableConfig, LogConfig, ServingConfig
from loadtest.scenarios.demo import publish_events
from loadtest.society.society import Society, SocietyConfig
from streams.audit.auditor import Auditor, Outcome
from streams.audit.records import sample_served
from streams.client.client import FeedClient
from streams.durable.folder import opened_store
from streams.events.open_topics import running_log
from streams.live.wiring import running_engine, wait_applied
from streams.log.interface import NewRecord
from streams.serve import running

HOUR_MS = 3_600_000


@pytest.fixture
def settings(tmp_path, small_rooms):
    return Config(
        log=LogConfig(url=f"sqlite:///{tmp_path / 'events.db'}"),
        durable=DurableConfig(snapshot_at_stop=False),
        serving=ServingConfig(port=0),
        jobs=JobsConfig(reputation=ReputationJobConfig(interval_h=1.0)),
        rooms=small_rooms,
    )


def follow(number, who, whom, time_ms):
    body = {
        "v": 1, "id": str(number), "type": "follow", "user_id": str(who), "target_id": str(whom),
        "timestamp_ms": time_ms,
    }  # fmt: skip
    return NewRecord(value=orjson.dumps(body), key=str(who).encode())


async def get(instance, path):
    async with aiohttp.ClientSession() as session, session.get(instance.url + path) as answer:
        return answer.status, orjson.loads(await answer.read())


async def reputation(instance, user):
    status, found = await get(instance, f"/v1/users/{user}/reputation")
    assert status == 200
    return found


async def computed_for(instance, due_ms):
    """Wait until the model of this due time is in force."""
    async with asyncio.timeout(60):
        while (await reputation(instance, 1))["computed_for_ms"] != due_ms:
            await asyncio.sleep(0.02)


async def test_follows_become_scores(settings):
    # An hour of event time that has passed, and one that is about to.
    due_ms = int(time.time() * 1000) // HOUR_MS * HOUR_MS - HOUR_MS
    people = range(2, 30)
    async with running(settings) as instance:
        found = await reputation(instance, 1)
        assert (found["missing"], found["score"], found["model"], found["accounts"]) == (True, 17, None, 0)
        stars = [follow(n, n, 1, due_ms - 10) for n in people]
        await instance.event_log.append("relationships", [*stars, follow(99, 3, 2, due_ms - 5)])
        await wait_applied(instance.engine, instance.event_log, timeout_s=60)
        await asyncio.sleep(0.1)
        version = instance.engine.version
        await instance.event_log.append("relationships", [follow(100, 4, 2, due_ms + 5)])
        await computed_for(instance, due_ms)
        star, known, nobody = [await reputation(instance, user) for user in (1, 2, 29)]
        assert star["score"] > known["score"] > nobody["score"] > 0
        assert star["pagerank"] > known["pagerank"] > nobody["pagerank"] > 0
        assert star["model"] == {"name": "reputation", "version": str(due_ms)}
        assert star["accounts"] == 29
        assert star["accounts_below"] == 28
        assert star["version"] > version
        stranger = await reputation(instance, 2**64 - 1)
        assert (stranger["missing"], stranger["score"], stranger["pagerank"]) == (True, 17, 0.0)
        assert (stranger["user_id"], stranger["computed_for_ms"]) == (str(2**64 - 1), due_ms)
        assert (await get(instance, "/v1/users/0/reputation"))[0] == 400
        assert (await get(instance, "/v1/users/1/reputation?x=1"))[0] == 400
        # A later follow, an hour on: the next model starts from this one.
        await instance.event_log.append("relationships", [follow(101, 1, 29, due_ms + HOUR_MS + 1)])
        await computed_for(instance, due_ms + HOUR_MS)
        assert (await reputation(instance, 29))["score"] > nobody["score"]
    async with running(settings) as instance:
        await wait_applied(instance.engine, instance.event_log, timeout_s=60)
        assert (await reputation(instance, 1))["computed_for_ms"] == due_ms + HOUR_MS
        assert instance.engine.state.models.counters()["commits"] == 3


async def test_two_nodes_make_one_model(settings, tmp_path):
    """Both compute it, from the same version; the second node's records are duplicates."""
    due_ms = int(time.time() * 1000) // HOUR_MS * HOUR_MS

    def node(name):
        durable = msgspec.structs.replace(settings.durable, folder=str(tmp_path / name))
        log = msgspec.structs.replace(settings.log, order="shared")
        return msgspec.structs.replace(settings, log=log, durable=durable)

    async with (
        running_engine(node("one")) as (one, event_log),
        running_engine(node("two")) as (two, _),
    ):
        await event_log.append("relationships", [follow(n, n, n % 7 + 1, due_ms - 10) for n in range(10, 60)])
        await both(one, two, event_log, due_ms - HOUR_MS)
        # One event more after another, in versions of their own: both nodes stop at the same one.
        for n in range(100, 120):
            await event_log.append("relationships", [follow(n, n, 3, due_ms + n - 110)])
        await both(one, two, event_log, due_ms)
        models = one.state.models
        assert models.counters()["commits"] == 2
        assert sum(count for name, count in models.counters().items() if name.startswith("refused")) == 0
        assert one.state.digest() == two.state.digest()
        assert two.state.models.payload("reputation").tobytes() == models.payload("reputation").tobytes()


async def both(one, two, event_log, due_ms):
    """Wait until both nodes have this model, and have applied all there is."""
    async with asyncio.timeout(60):
        for engine in (one, two):
            while engine.state.models.versions().get("reputation") != str(due_ms):
                await asyncio.sleep(0.02)
        # The second node's records may still be on their way.
        await asyncio.sleep(0.5)
        for engine in (one, two):
            await wait_applied(engine, event_log, timeout_s=60)
        while one.version != two.version:
            await asyncio.sleep(0.02)


async def test_feeds_around_a_model_audit_as_identical(settings):
    society = Society(SocietyConfig(seed=4, people=60, mean_followees=8.0, history_events=600, events_per_s=2000))
    due_ms = int(time.time() * 1000) // HOUR_MS * HOUR_MS
    now_ms = due_ms - 500

    async with running(settings) as instance, FeedClient(instance.url, viewer_id=3) as client:
        models = instance.engine.state.models
        for events in society.bootstrap(now_ms, HOUR_MS // 2):
            await publish_events(instance.event_log, events)
        await wait_applied(instance.engine, instance.event_log, timeout_s=60)
        versions = []
        while models.versions().get("reputation") != str(due_ms):
            versions.append((await client.feed(limit=5, explain="all", timeout_s=60))["version"])
            await publish_events(instance.event_log, society.tick(now_ms, now_ms + 50))
            now_ms += 50
        committed = instance.engine.version
        after = [(await client.feed(limit=5, explain="all", timeout_s=60)) for _ in range(5)]
        versions += [feed["version"] for feed in after]
        assert versions[0] < committed <= versions[-1]
        assert (await reputation(instance, 3))["accounts"] > 30
    with opened_store(settings, writable=False) as store:
        async with running_log(settings.log) as event_log:
            feeds = await Auditor(settings, store, event_log).audit(await sample_served(event_log, 10_000, 1))
    assert Counter(feed.outcome for feed in feeds) == {Outcome.IDENTICAL: len(versions)}
