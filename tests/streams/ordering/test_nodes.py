"""Whole engines that share an order over one log: equal to the byte, whoever starts, stops or comes late."""

import asyncio
import contextlib
import shutil
import time
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import pytest

from config.jobs import JobsConfig, ReputationJobConfig
from config.schema import Config
from config.serving import DurableConfig, IngestConfig, LogConfig
from engine.feed import Explain, Request
from engine.models.specs import REPUTATION
from loadtest.scenarios.demo import publish_events
from loadtest.society.society import Society, SocietyConfig
from streams.audit.auditor import Auditor, Outcome
from streams.durable.folder import opened_store
from streams.events.models import TOPIC as MODELS
from streams.events.models import model_records
from streams.events.open_topics import running_log
from streams.events.served_feed import EncodedFeed
from streams.events.served_records import decode_served, encode_served
from streams.live.live_engine import LiveEngine
from streams.live.wiring import running_engine, wait_applied
from streams.log.interface import EventLog, Format, LogUnavailableError, NewRecord
from streams.ordering.line import LineLostError
from streams.ordering.proposals import ORDER
from streams.recovery.replay import LogGapError, rebuild
from streams.server.encode import encode_feed

WAIT_S = 60.0


@pytest.fixture
def node_config(tmp_path: Path, small_rooms):
    def make(name: str, **ingest) -> Config:
        return Config(
            log=LogConfig(url=f"sqlite:///{tmp_path / 'events.db'}", order="shared"),
            ingest=IngestConfig(**({"batch_events_max": 64} | ingest)),
            durable=DurableConfig(folder=str(tmp_path / f"{name}.state") if name else "none"),
            # Nothing comes into the log but what a test puts there.
            jobs=JobsConfig(reputation=ReputationJobConfig(interval_h=0.0)),
            rooms=small_rooms,
        )

    return make


async def at_one_version(engines: list[LiveEngine], event_log: EventLog) -> int:
    """Wait until all have applied all there is."""
    for engine in engines:
        await wait_applied(engine, event_log, timeout_s=WAIT_S)
    deadline = time.monotonic() + WAIT_S
    while len({engine.version for engine in engines}) > 1:
        assert time.monotonic() < deadline, [engine.version for engine in engines]
        await asyncio.sleep(0.02)
    return engines[0].version


async def assert_equal(engines: list[LiveEngine], event_log: EventLog) -> None:
    version = await at_one_version(engines, event_log)
    assert len({engine.state.digest() for engine in engines}) == 1
    assert len({engine.origin.history for engine in engines}) == 1
    for viewer in (1, 2, 3):
        request = Request(
            viewer_id=viewer, request_id=viewer, time_ms=engines[0].state.clock_ms, seed=9, explain=Explain.ALL
        )
        feeds = [await engine.feed(request) for engine in engines]
        skipped = {name for feed in feeds for name in feed.degraded}
        if skipped:  # a busy machine: ask all alike
            request = msgspec.structs.replace(request, sources_skipped=tuple(sorted(skipped)))
            feeds = [await engine.feed(request) for engine in engines]
        assert {feed.version for feed in feeds} == {version}
        assert len({encode_feed(feed).split(b'"timings_ms"')[0] for feed in feeds}) == 1


class Publisher:
    """A small society, whose events go to the log as time passes."""

    def __init__(self):
        self.society = Society(
            SocietyConfig(seed=3, people=60, mean_followees=6, history_events=400, events_per_s=2000)
        )
        self.now_ms = int(time.time() * 1000)

    async def begin(self, event_log: EventLog):
        for events in self.society.bootstrap(self.now_ms, 3_600_000):
            await publish_events(event_log, events)

    async def go_on(self, event_log: EventLog, steps: int = 10):
        for _ in range(steps):
            await publish_events(event_log, self.society.tick(self.now_ms, self.now_ms + 50))
            self.now_ms += 50
            await asyncio.sleep(0.005)


async def test_nodes_are_equal_to_the_byte_through_stops_and_late_starts(node_config):
    publisher = Publisher()
    async with AsyncExitStack() as stack:
        one, event_log = await stack.enter_async_context(running_engine(node_config("one")))
        two, _ = await stack.enter_async_context(running_engine(node_config("two", poll_records_max=50)))
        nothing_kept, _ = await stack.enter_async_context(running_engine(node_config("")))
        async with running_engine(node_config("three")) as (three, _):
            await publisher.begin(event_log)
            await publisher.go_on(event_log)
            await assert_equal([one, two, three, nothing_kept], event_log)
            stopped_at = three.version
        await publisher.go_on(event_log)
        # One from its snapshot, one from nothing, while events go on.
        three, _ = await stack.enter_async_context(running_engine(node_config("three", batch_events_max=7)))
        late, _ = await stack.enter_async_context(running_engine(node_config("late")))
        assert three.version >= stopped_at
        await publisher.go_on(event_log)
        await assert_equal([one, two, three, late, nothing_kept], event_log)
        version, digest, history = one.version, one.state.digest(), one.origin.history
        with opened_store(node_config("two"), writable=False) as store:
            assert store is not None
            state = await rebuild(node_config("two"), store, event_log, history, version)
            assert state.digest() == digest
    # All were stopped: whoever starts goes on with the same line.
    async with running_engine(node_config("late")) as (late, event_log):
        await publisher.go_on(event_log, steps=2)
        await wait_applied(late, event_log, timeout_s=WAIT_S)
        assert late.origin.history == history
        assert late.version > version


async def test_a_copied_folder_brings_a_node_in_that_the_log_cannot(node_config, tmp_path):
    publisher = Publisher()
    async with running_engine(node_config("one")) as (one, event_log):
        await publisher.begin(event_log)
        await wait_applied(one, event_log, timeout_s=WAIT_S)
        assert one.keeper is not None
        await one.keeper.snapshot()
        snapshot_ms = int(time.time() * 1000)
        await publisher.go_on(event_log)
        shutil.copytree(tmp_path / "one.state", tmp_path / "copy.state", ignore=shutil.ignore_patterns("lock", "*.tmp"))
        await publisher.go_on(event_log)
        await wait_applied(one, event_log, timeout_s=WAIT_S)
        for topic in ("engagements", ORDER.topic):
            await event_log.apply_retention(topic, before_ms=snapshot_ms)
        with pytest.raises((LineLostError, LogGapError)):
            async with running_engine(node_config("empty")):
                pass
        async with running_engine(node_config("copy")) as (copy, _):
            await publisher.go_on(event_log, steps=2)
            await assert_equal([one, copy], event_log)


async def test_a_journal_lost_in_part_comes_back_from_the_order(node_config, tmp_path):
    publisher = Publisher()
    settings = node_config("one", batch_events_max=16)
    async with running_engine(settings) as (one, event_log):
        await publisher.begin(event_log)
        await wait_applied(one, event_log, timeout_s=WAIT_S)
        version, digest = one.version, one.state.digest()
    history = tmp_path / "one.state" / one.origin.history
    for path in history.glob("snapshot-*"):
        path.unlink()
    (journal,) = history.glob("journal-*")
    journal.write_bytes(journal.read_bytes()[:-40])
    async with running_engine(settings) as (one, event_log):
        await wait_applied(one, event_log, timeout_s=WAIT_S)
        assert (one.version, one.state.digest()) == (version, digest)


async def test_what_cannot_be_shared_any_more_is_refused_or_begun_anew(node_config, small_rooms):
    publisher = Publisher()
    first = node_config("one")
    own = msgspec.structs.replace(first, log=msgspec.structs.replace(first.log, order="own"))
    async with running_engine(first) as (one, event_log):
        await publisher.begin(event_log)
        await at_one_version([one], event_log)
        line = one.origin.history
    # Another order, and other rooms, are other histories.
    async with running_engine(own) as (one, _):
        assert one.origin.history != line
    async with running_engine(first) as (one, _):
        assert one.origin.history == line
    deduplication = msgspec.structs.replace(small_rooms.deduplication, events_max=1 << 13)
    other_rooms = msgspec.structs.replace(small_rooms, deduplication=deduplication)
    async with running_engine(msgspec.structs.replace(first, rooms=other_rooms)) as (one, event_log):
        await at_one_version([one], event_log)
        assert one.origin.history != line
    # The log moves on: records that a new node would need are gone.
    async with running_log(first.log) as event_log:
        await event_log.append("engagements", [NewRecord(value=b"{}", key=b"%d" % n) for n in range(40)])
        await event_log.apply_retention("engagements", before_ms=int(time.time() * 1000) + 1000)
    with pytest.raises(LogGapError, match="engagements"):
        async with running_engine(node_config("new")):
            pass
    with pytest.raises(LogGapError, match="engagements"):
        async with running_engine(first):
            pass
    async with running_log(first.log) as event_log:
        await event_log.apply_retention(ORDER.topic, before_ms=int(time.time() * 1000) + 1000)
        await event_log.append(
            ORDER.topic, [NewRecord(value=b'{"type":"proposal","line":"%s","node":1,"runs":[]}' % line.encode())]
        )
    with pytest.raises(LineLostError, match=line):
        async with running_engine(node_config("new")):
            pass
    async with running_engine(first, accept_gap=True) as (one, event_log):
        assert one.origin.history != line
        async with running_engine(node_config("new")) as (new, _):
            await publisher.go_on(event_log, steps=2)
            await assert_equal([one, new], event_log)


async def test_a_model_comes_into_force_on_all_nodes_alike(node_config):
    publisher = Publisher()
    settings = [node_config("one"), node_config("two", batch_events_max=7)]
    served = []
    async with (
        running_engine(settings[0]) as (one, event_log),
        running_engine(settings[1]) as (two, _),
    ):
        await publisher.begin(event_log)
        for version in ("", "5", "6"):
            if version:
                payload = (3).to_bytes(8, "little") + bytes(39)
                records = model_records("reputation", int(version), REPUTATION.schema, payload, {}, publisher.now_ms)
                # The last is refused everywhere: its part does not come.
                await event_log.append(MODELS, records if version == "5" else records[1:])
            await publisher.go_on(event_log, steps=3)
            await assert_equal([one, two], event_log)
            request = Request(viewer_id=1, request_id=1, time_ms=one.state.clock_ms, seed=9)
            for engine in (one, two):
                feed = await engine.feed(request)
                assert feed.models == ({"reputation": "5"} if version else {})
                origin = engine.origin
                encoded = EncodedFeed(feed)
                part = encoded.served_part(request, history=origin.history, incarnation=origin.incarnation)
                served += decode_served(Format.PACKED, encode_served([part]))
    for config in settings:
        with opened_store(config, writable=False) as store:
            async with running_log(config.log) as event_log:
                audited = await Auditor(config, store, event_log).audit(served)
        assert {found.outcome for found in audited} == {Outcome.IDENTICAL}


@pytest.mark.kafka
async def test_a_broker_that_dies_and_comes_back(kafka_node, node_config):
    """Nodes go on with the same versions, whatever of their proposals had arrived."""
    log = LogConfig(url=f"kafka://{kafka_node.bootstrap}", topic_prefix=f"order-{time.time_ns()}-", order="shared")
    publisher = Publisher()
    async with (
        running_engine(msgspec.structs.replace(node_config("one"), log=log)) as (one, event_log),
        running_engine(msgspec.structs.replace(node_config("two"), log=log)) as (two, _),
    ):
        await publisher.begin(event_log)
        await assert_equal([one, two], event_log)
        publishing = asyncio.create_task(publisher.go_on(event_log, steps=100))
        await asyncio.sleep(0.2)
        await asyncio.to_thread(kafka_node.kill)
        await asyncio.to_thread(kafka_node.restart)
        with contextlib.suppress(LogUnavailableError):  # its last append may have failed
            await publishing
        await publisher.go_on(event_log, steps=5)
        await assert_equal([one, two], event_log)
