"""Restarts: what comes back is the state that was left, to the byte, or the start is refused by name."""

import contextlib
import time
from pathlib import Path

import msgspec
import pytest

from config.jobs import JobsConfig, ReputationJobConfig
from config.schema import Config
from config.serving import DurableConfig, IngestConfig, LogConfig
from engine.errors import MurmurationError
from engine.feed import Request
from engine.state import EngineState, RoomsConfig
from loadtest.scenarios.demo import publish_events
from loadtest.society.society import Society, SocietyConfig
from streams.durable.folder import durable_folder, opened_store
from streams.durable.journal import JournalError
from streams.events.feed_fields import feed_digest
from streams.events.open_topics import running_log
from streams.live.wiring import running_engine, wait_applied
from streams.recovery.replay import LogBehindError, LogGapError, rebuild


@pytest.fixture
def settings(tmp_path: Path, small_rooms: RoomsConfig) -> Config:
    return Config(
        log=LogConfig(url=f"sqlite:///{tmp_path / 'events.db'}"),
        ingest=IngestConfig(batch_events_max=64),
        durable=DurableConfig(snapshots_keep=10),
        # Nothing comes into the log but what a test puts there.
        jobs=JobsConfig(reputation=ReputationJobConfig(interval_h=0.0)),
        rooms=small_rooms,
    )


class Life:
    """A society that goes on from run to run of the engine."""

    def __init__(self) -> None:
        self.society = Society(
            SocietyConfig(seed=4, people=60, mean_followees=8.0, history_events=400, events_per_s=2000)
        )
        self.now_ms = int(time.time() * 1000)
        self.began = False

    async def live(self, engine, event_log, ticks: int = 4) -> None:
        if not self.began:
            self.began = True
            for events in self.society.bootstrap(self.now_ms, 3_600_000):
                await publish_events(event_log, events)
        for _ in range(ticks):
            await publish_events(event_log, self.society.tick(self.now_ms, self.now_ms + 50))
            self.now_ms += 50
        await wait_applied(engine, event_log, timeout_s=60)


def without_stop_snapshot(settings: Config) -> Config:
    return msgspec.structs.replace(settings, durable=msgspec.structs.replace(settings.durable, snapshot_at_stop=False))


def request(now_ms: int) -> Request:
    return Request(viewer_id=3, request_id=9, time_ms=now_ms, seed=7)


def snapshot_files(settings: Config) -> list[Path]:
    folder = durable_folder(settings)
    return sorted(folder.glob("*/snapshot-*"))


async def rebuilt(settings: Config, version: int) -> EngineState:
    """The version from the very beginning of the log: no snapshot in the way."""
    hidden = [path.rename(path.with_name("hidden-" + path.name)) for path in snapshot_files(settings)]
    try:
        with opened_store(settings, writable=False) as store:
            async with running_log(settings.log) as event_log:
                return await rebuild(settings, store, event_log, store.current.id, version)
    finally:
        for path in hidden:
            path.rename(path.with_name(path.name.removeprefix("hidden-")))


async def test_restarts_come_to_the_state_that_was_left(settings):
    life = Life()
    versions = []
    for start in range(4):
        now = settings if start % 2 else without_stop_snapshot(settings)
        async with running_engine(now) as (engine, event_log):
            if versions:
                await wait_applied(engine, event_log, timeout_s=60)
                assert engine.state.digest() == versions[-1][1]
                assert feed_digest(await engine.feed(request(life.now_ms))) == versions[-1][2]
            await life.live(engine, event_log)
            if start == 2:
                await engine.keeper.snapshot()
                await life.live(engine, event_log)
            feed = feed_digest(await engine.feed(request(life.now_ms)))
            versions.append((engine.version, engine.state.digest(), feed))
            engine.state.check()
    for version, digest, _ in versions:
        assert (await rebuilt(settings, version)).digest() == digest


async def test_a_damaged_snapshot_falls_back_to_the_one_before_and_then_to_the_log(settings):
    life, ends = Life(), []
    for _ in range(2):
        async with running_engine(settings) as (engine, event_log):
            await life.live(engine, event_log)
            ends.append((engine.version, engine.state.digest()))
    older, newest = snapshot_files(settings)
    damaged = bytearray(newest.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    newest.write_bytes(damaged)
    async with running_engine(without_stop_snapshot(settings)) as (engine, event_log):
        await wait_applied(engine, event_log, timeout_s=60)
        assert (engine.version, engine.state.digest()) == ends[-1]
    older.unlink()
    async with running_engine(without_stop_snapshot(settings)) as (engine, event_log):
        await wait_applied(engine, event_log, timeout_s=60)
        assert (engine.version, engine.state.digest()) == ends[-1]


async def test_a_log_that_no_longer_reaches_back_is_named_and_can_be_accepted(settings):
    life, never = Life(), without_stop_snapshot(settings)
    async with running_engine(settings) as (engine, event_log):
        await life.live(engine, event_log)
        snapshot = engine.version
    async with running_engine(never) as (engine, event_log):
        await life.live(engine, event_log)
        assert engine.version > snapshot
    async with running_log(settings.log) as event_log:
        await event_log.apply_retention("engagements", before_ms=int(time.time() * 1000) + 1)
    with pytest.raises(LogGapError, match=rf"follow version {snapshot}: engagements/\d from \d+ to \d+.*--accept-gap"):
        async with running_engine(never):
            pass
    async with running_engine(never, accept_gap=True) as (engine, event_log):
        await wait_applied(engine, event_log, timeout_s=60)
        feed = await engine.feed(request(life.now_ms))
        lost = feed.gap_records
        assert lost == engine.state.gap_records > 0
        await engine.keeper.snapshot(again=True)
        await life.live(engine, event_log)
        end = engine.version, engine.state.digest()
    # The gap is part of the state now: the next start has nothing to ask.
    async with running_engine(never) as (engine, event_log):
        await wait_applied(engine, event_log, timeout_s=60)
        assert (engine.version, engine.state.digest()) == end
        assert engine.state.gap_records == lost


async def test_a_crash_right_after_a_gap_was_accepted_asks_again(settings):
    """Before its snapshot is written, a passed-over gap is known to the journal alone."""
    life, never = Life(), without_stop_snapshot(settings)
    async with running_engine(never) as (engine, event_log):
        await life.live(engine, event_log)
    async with running_log(settings.log) as event_log:
        await event_log.apply_retention("engagements", before_ms=int(time.time() * 1000) + 1)
    hourly = msgspec.structs.replace(never, durable=msgspec.structs.replace(never.durable, journal_sync="always"))
    for _ in range(2):
        async with running_engine(hourly, accept_gap=True) as (engine, event_log):
            await wait_applied(engine, event_log, timeout_s=60)
            lost = engine.state.gap_records
            assert lost > 0
        for path in snapshot_files(settings):
            path.unlink()
    with pytest.raises((LogGapError, JournalError)):
        async with running_engine(hourly):
            pass


async def test_another_log_under_the_same_name_is_refused(settings):
    life = Life()
    async with running_engine(settings) as (engine, event_log):
        await life.live(engine, event_log)
    for path in Path(settings.log.url.removeprefix("sqlite:///")).parent.glob("events.db*"):
        path.unlink()
    with pytest.raises(LogBehindError, match="belongs to another log"):
        async with running_engine(settings):
            pass


async def test_other_rooms_begin_another_history_and_the_old_one_stays(settings):
    life = Life()
    async with running_engine(settings) as (engine, event_log):
        await life.live(engine, event_log)
        first, events = engine.origin.history, engine.state.events
        version, digest = engine.version, engine.state.digest()
    larger = msgspec.structs.replace(
        settings.rooms,
        tweet_store=msgspec.structs.replace(settings.rooms.tweet_store, tweets_max=2048),
    )
    other = msgspec.structs.replace(settings, rooms=larger)
    async with running_engine(other) as (engine, event_log):
        await wait_applied(engine, event_log, timeout_s=60)
        assert engine.origin.history != first
        assert engine.state.events == events
    with opened_store(settings, writable=False) as store:
        async with running_log(settings.log) as event_log:
            assert (await rebuild(settings, store, event_log, first, version)).digest() == digest


async def test_one_process_at_a_time(settings):
    async with running_engine(settings):
        with pytest.raises(MurmurationError, match="used by another process"):
            async with running_engine(settings):
                pass


async def test_every_start_is_another_incarnation_of_one_history(settings):
    origins = []
    for _ in range(2):
        async with running_engine(settings) as (engine, event_log):
            await event_log.append("engagements", [])
            origins.append(engine.origin)
    assert origins[0].history == origins[1].history != ""
    assert origins[0].incarnation != origins[1].incarnation


async def test_nothing_is_kept_when_told_so(settings):
    nothing = msgspec.structs.replace(settings, durable=DurableConfig(folder="none"))
    life = Life()
    async with running_engine(nothing) as (engine, event_log):
        await life.live(engine, event_log)
        assert engine.origin.history == ""
        assert await engine.keeper.snapshot() is None
    with contextlib.suppress(FileNotFoundError):
        assert not list(Path(settings.log.url.removeprefix("sqlite:///")).parent.glob("*.state/*"))
