"""Starts after the disk has lost files, or synced bytes: the state comes back, or the start is refused by name."""

import errno
import shutil
import time
from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs

from config.jobs import JobsConfig, ReputationJobConfig
from config.schema import Config
from config.serving import DurableConfig, LogConfig
from engine.rooms import RoomsConfig
from loadtest.scenarios.demo import publish_events
from loadtest.society.society import Society, SocietyConfig
from streams.durable.disk import RealView
from streams.durable.folder import durable_folder
from streams.events.open_topics import running_log
from streams.live.wiring import running_engine, wait_applied
from streams.recovery.replay import LogGapError


@pytest.fixture
def settings(tmp_path: Path, small_rooms: RoomsConfig) -> Config:
    return Config(
        log=LogConfig(url=f"sqlite:///{tmp_path / 'events.db'}"),
        durable=DurableConfig(snapshots_keep=10),
        jobs=JobsConfig(reputation=ReputationJobConfig(interval_h=0.0)),
        rooms=small_rooms,
    )


async def publish(event_log, seed: int) -> None:
    config = SocietyConfig(seed=seed, people=20, mean_followees=4.0, history_events=30, events_per_s=500)
    for events in Society(config).bootstrap(int(time.time() * 1000), 3_600_000):
        await publish_events(event_log, events)


async def lived(settings: Config, lives: int = 2) -> tuple[int, str, int]:
    """Version, digest and events of the state after some lives, each of which ends with a snapshot."""
    for seed in range(lives):
        async with running_engine(settings) as (engine, event_log):
            await publish(event_log, seed)
            await wait_applied(engine, event_log, timeout_s=120)
            end = engine.version, engine.state.digest(), engine.state.events
    return end


async def state_now(settings: Config, **options: bool) -> tuple[int, str, int]:
    async with running_engine(settings, **options) as (engine, event_log):
        await wait_applied(engine, event_log, timeout_s=120)
        return engine.version, engine.state.digest(), engine.state.events


@pytest.mark.parametrize("lost", ["the end of the journal", "the journal"])
async def test_a_journal_that_ends_before_a_snapshot_goes_on_in_a_new_history(settings, lost):
    left = await lived(settings)
    (journal,) = durable_folder(settings).glob("*/journal-*")
    if lost == "the journal":
        journal.unlink()
    else:
        journal.write_bytes(journal.read_bytes()[:-60])
    for _ in range(2):  # what was mended is a state that starts again
        assert await state_now(settings) == left
    async with running_engine(settings) as (engine, event_log):
        await publish(event_log, 9)
        await wait_applied(engine, event_log, timeout_s=120)
        after = engine.version, engine.state.digest(), engine.state.events
    assert after[0] > left[0]
    assert await state_now(settings) == after


async def test_a_room_is_rebuilt_only_from_what_leads_to_the_present(settings):
    """Other rooms after a journal has lost its end: the entries in front of the hole would leave out what was in it."""
    version, _, _ = await lived(settings)
    (journal,) = durable_folder(settings).glob("*/journal-*")
    journal.write_bytes(journal.read_bytes()[:-60])
    await state_now(settings)
    store = settings.rooms.tweet_store
    store = msgspec.structs.replace(store, half_life_short_ms=store.half_life_short_ms + 1000)
    changed = msgspec.structs.replace(settings, rooms=msgspec.structs.replace(settings.rooms, tweet_store=store))
    async with running_engine(changed) as (engine, _):
        assert engine.state.since("tweet_store").version == version


@pytest.mark.parametrize("lost", ["current", "current and history.json", "the folder"])
async def test_without_a_folder_the_log_is_replayed_or_its_gap_is_named(settings, lost):
    _, _, events = await lived(settings, lives=1)
    folder = durable_folder(settings)

    def lose() -> None:
        if lost.startswith("current"):
            (folder / "current").unlink()
            for description in folder.glob("*/history.json") if lost != "current" else ():
                description.unlink()
        else:
            shutil.rmtree(folder)

    lose()
    assert (await state_now(settings))[2] == events
    async with running_log(settings.log) as event_log:
        await event_log.apply_retention("tweets", before_ms=int(time.time() * 1000) + 1)
    lose()
    with pytest.raises(LogGapError, match=r"lost.*tweets/\d from 0 to \d+.*--accept-gap"):
        await state_now(settings)
    async with running_engine(settings, accept_gap=True) as (engine, event_log):
        await wait_applied(engine, event_log, timeout_s=120)
        assert engine.state.gap_records > 0
        accepted = engine.version, engine.state.digest(), engine.state.events
    assert await state_now(settings) == accepted


@pytest.mark.parametrize("harm", ["gone", "damaged"])
async def test_without_a_snapshot_and_with_a_pruned_journal_the_gap_can_be_accepted(settings, harm):
    durable = msgspec.structs.replace(settings.durable, snapshots_keep=1, journal_segment_bytes=200)
    settings = msgspec.structs.replace(settings, durable=durable)
    await lived(settings)
    async with running_engine(settings) as (engine, event_log):
        await event_log.apply_retention("tweets", before_ms=int(time.time() * 1000) + 1)
        await publish(event_log, 7)
        await wait_applied(engine, event_log, timeout_s=120)
        await engine.keeper.snapshot()
    assert not list(durable_folder(settings).glob(f"*/journal-{0:020}"))  # pruned
    for path in durable_folder(settings).glob("*/snapshot-*"):
        if harm == "gone":
            path.unlink()
        else:
            whole = path.read_bytes()
            path.write_bytes(bytes(len(whole) - 2000) + whole[-2000:])
    with pytest.raises(LogGapError, match=r"no whole snapshot.*tweets/\d from 0 to \d+.*--accept-gap"):
        await state_now(settings)
    accepted = await state_now(settings, accept_gap=True)
    assert accepted[2] > 0
    assert await state_now(settings) == accepted
    async with running_engine(settings) as (engine, _):
        assert engine.state.gap_records > 0


async def test_a_snapshot_that_the_disk_cannot_read_is_passed_over(settings, monkeypatch):
    left = await lived(settings)
    newest = max(durable_folder(settings).glob("*/snapshot-*"))
    read = RealView.__getitem__

    def failing(self, part):
        if self._path == newest and part.start and part.start > 1000:
            raise OSError(errno.EIO, "input/output error")
        return read(self, part)

    monkeypatch.setattr(RealView, "__getitem__", failing)
    assert await state_now(settings) == left


async def test_a_history_that_cannot_be_continued_with_other_rooms_is_as_a_lost_folder(settings):
    """No snapshot, and the journal's first segment is gone: other rooms could only begin anew, and that is said."""
    durable = msgspec.structs.replace(settings.durable, snapshot_at_stop=False, journal_segment_bytes=200)
    settings = msgspec.structs.replace(settings, durable=durable)
    _, _, events = await lived(settings, lives=1)
    first, second, *_ = sorted(durable_folder(settings).glob("*/journal-*"))
    first.unlink()
    store = msgspec.structs.replace(settings.rooms.tweet_store, tweets_max=settings.rooms.tweet_store.tweets_max * 2)
    changed = msgspec.structs.replace(settings, rooms=msgspec.structs.replace(settings.rooms, tweet_store=store))
    with capture_logs() as lines:
        assert (await state_now(changed))[2] == events
    (line,) = [line for line in lines if line["event"] == "a new history applies the whole log"]
    assert "its journal does not reach back" in line["why"]
    async with running_log(settings.log) as event_log:
        await event_log.apply_retention("tweets", before_ms=int(time.time() * 1000) + 1)
    (durable_folder(settings) / "current").write_text(second.parent.name)
    with pytest.raises(LogGapError, match=r"its journal does not reach back.*--accept-gap"):
        await state_now(changed)
