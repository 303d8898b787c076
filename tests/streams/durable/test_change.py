"""Restarts with another configuration: nothing that the other rooms knew is lost, and who begins late says so."""

import asyncio
from pathlib import Path

import msgspec
import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from typer.testing import CliRunner

from config import schema
from config.jobs import JobsConfig, ReputationJobConfig
from config.schema import LAYOUTS, Config
from config.serving import DurableConfig, IngestConfig, LogConfig
from engine.feed import Request
from engine.interaction_graph.state import InteractionGraph
from engine.state import EngineState, RoomsConfig
from loadtest.scenarios.demo import publish_events
from loadtest.society.society import Society, SocietyConfig
from streams.audit.auditor import Auditor, Outcome
from streams.cli.main import app
from streams.durable.folder import durable_folder, opened_store
from streams.durable.journal import JournalError
from streams.events.dead_letters import TOPIC as DEAD_LETTERS
from streams.events.dead_letters import decode_dead_letter
from streams.events.feed_fields import feed_fields
from streams.events.open_topics import running_log
from streams.events.served_feed import EncodedFeed
from streams.events.served_records import decode_served, encode_served
from streams.live import wiring
from streams.live.wiring import running_engine, wait_applied
from streams.log.interface import Format, TopicPartition
from streams.recovery import recover, replay
from streams.recovery.replay import forward, rebuild

NOW = 1_760_000_000_000


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
    """A society that goes on from run to run, and the feeds that were served on the way."""

    def __init__(self) -> None:
        self.society = Society(
            SocietyConfig(seed=4, people=60, mean_followees=8.0, history_events=400, events_per_s=2000)
        )
        self.now_ms = NOW
        self.began = False
        self.served = []

    async def live(self, engine, event_log) -> None:
        if not self.began:
            self.began = True
            for events in self.society.bootstrap(self.now_ms, 3_600_000):
                await publish_events(event_log, events)
        for _ in range(4):
            await publish_events(event_log, self.society.tick(self.now_ms, self.now_ms + 50))
            self.now_ms += 50
        await wait_applied(engine, event_log, timeout_s=60)

    async def look(self, engine):
        for viewer in (3, 7):
            request = Request(viewer_id=viewer, request_id=len(self.served) + 1, time_ms=self.now_ms, seed=viewer)
            feed = await engine.feed(request)
            origin = engine.origin
            part = EncodedFeed(feed).served_part(request, history=origin.history, incarnation=origin.incarnation)
            self.served += decode_served(Format.PACKED, encode_served([part]))
        return feed

    async def audited(self, settings):
        async with running_log(settings.log) as event_log:
            with opened_store(settings, writable=False) as store:
                return {audit.outcome for audit in await Auditor(settings, store, event_log).audit(self.served)}


def with_room(settings: Config, room: str, **changes: object) -> Config:
    own = msgspec.structs.replace(getattr(settings.rooms, room), **changes)
    return msgspec.structs.replace(settings, rooms=msgspec.structs.replace(settings.rooms, **{room: own}))


def with_durable(settings: Config, **changes: object) -> Config:
    return msgspec.structs.replace(settings, durable=msgspec.structs.replace(settings.durable, **changes))


def bytes_of(state: EngineState, *rooms: str) -> dict[str, bytes]:
    return {name: a.tobytes() for name, a in state.arrays() if name.partition(".")[0] in rooms}


def others(state: EngineState, *rooms: str) -> tuple[str, ...]:
    return ("engine", *(part.name for part in state.parts if part.name not in rooms))


async def began(settings: Config, life: Life, *, snapshot: bool = True):
    """A first life; returns the state that it ended with."""
    async with running_engine(with_durable(settings, snapshot_at_stop=snapshot)) as (engine, event_log):
        await life.live(engine, event_log)
        await life.look(engine)
        return engine.state, engine.origin.history


@pytest.mark.parametrize("snapshot", [True, False])
async def test_a_larger_capacity_keeps_everything_and_goes_on(settings, snapshot):
    life = Life()
    state, history = await began(settings, life, snapshot=snapshot)
    larger = with_room(with_room(settings, "tweet_store", tweets_max=3000), "social_graph", users_max=1500)
    ends = []
    for lives in range(2):
        async with running_engine(larger) as (engine, event_log):
            await wait_applied(engine, event_log, timeout_s=60)
            if not lives:
                assert engine.origin.history != history
                assert engine.version == state.version
                rooms = others(state, "tweet_store", "social_graph")
                assert bytes_of(engine.state, *rooms) == bytes_of(state, *rooms)
                followees = [engine.state.social_graph.followees(user, 99).tolist() for user in range(1, 60)]
                assert followees == [state.social_graph.followees(user, 99).tolist() for user in range(1, 60)]
            else:
                assert (engine.version, engine.state.digest()) == ends[-1]
            feed = await life.look(engine)
            assert feed.late_rooms == {}
            await life.live(engine, event_log)
            await life.look(engine)
            engine.state.check()
            ends.append((engine.version, engine.state.digest()))
    assert await life.audited(larger) == {Outcome.IDENTICAL}
    assert await life.audited(settings) == {Outcome.IDENTICAL}
    with opened_store(larger, writable=False) as store:
        async with running_log(larger.log) as event_log:
            assert (await rebuild(larger, store, event_log, engine.origin.history, ends[0][0])).digest() == ends[0][1]
            assert (await rebuild(settings, store, event_log, history, state.version)).digest() == state.digest()
    report = CliRunner().invoke(app, ["inspect", str(durable_folder(larger))])
    assert report.exit_code == 0, report.output
    assert f"goes on from version {state.version} of history {history}" in report.output
    assert "tweet_store grown" in report.output


async def test_a_room_that_must_be_built_again_is_the_same_as_ever_while_the_log_reaches_back(settings):
    life = Life()
    state, history = await began(settings, life)
    other = with_room(settings, "tweet_store", half_life_short_ms=60_000)
    async with running_engine(other) as (engine, event_log):
        await wait_applied(engine, event_log, timeout_s=60)
        rooms = others(state, "tweet_store")
        assert bytes_of(engine.state, *rooms) == bytes_of(state, *rooms)
        assert (await life.look(engine)).late_rooms == {}
        rebuilt = bytes_of(engine.state, "tweet_store")
    # A state that had this configuration from the beginning knows the same.
    fresh = EngineState(other.rooms)
    with opened_store(other, writable=False) as store:
        journal = store.journal(store.history(history), cut=False)
        async with running_log(other.log) as event_log:
            await forward(fresh, {}, other, journal, event_log, journal.version)
    assert bytes_of(fresh, "tweet_store") == rebuilt
    assert await life.audited(other) == {Outcome.IDENTICAL}


async def test_a_room_that_begins_late_says_since_when_it_knows(settings):
    life = Life()
    await began(settings, life)
    async with running_log(settings.log) as event_log:
        for topic in ("tweets", "engagements", "relationships", "users"):
            await event_log.apply_retention(topic, before_ms=1 << 50)
    async with running_engine(settings) as (engine, event_log):
        await life.live(engine, event_log)
        state = engine.state
    other = with_room(settings, "tweet_store", half_life_short_ms=60_000)
    for _ in range(2):
        registry = CollectorRegistry()
        async with running_engine(other, registry=registry) as (engine, event_log):
            await wait_applied(engine, event_log, timeout_s=60)
            since = engine.state.since("tweet_store")
            assert 0 < since.version < state.version
            assert 0 < since.time_ms <= state.clock_ms
            feed = await life.look(engine)
            assert feed.late_rooms == {"tweet_store": since.time_ms}
            assert feed_fields(feed, with_dropped=False)["late_rooms"] == {"tweet_store": since.time_ms}
            known = registry.get_sample_value("murmuration_room_knows_since_seconds", {"room": "tweet_store"})
            assert known == since.time_ms / 1000
            assert not registry.get_sample_value("murmuration_room_knows_since_seconds", {"room": "signals"})
            rooms = others(state, "tweet_store")
            assert bytes_of(engine.state, *rooms) == bytes_of(state, *rooms)
            engine.state.check()
    assert await life.audited(other) == {Outcome.IDENTICAL}
    report = CliRunner().invoke(app, ["inspect", str(durable_folder(other))])
    assert f"tweet_store knows since version {since.version}" in report.output


async def test_what_learns_from_the_whole_state_begins_empty(settings):
    life = Life()
    state, _ = await began(settings, life)
    other = with_room(settings, "blend_learner", weight_min=1e-6)
    async with running_engine(other) as (engine, event_log):
        await wait_applied(engine, event_log, timeout_s=60)
        assert set((await life.look(engine)).late_rooms) == {"blend_learner"}
        rooms = others(state, "blend_learner")
        assert bytes_of(engine.state, *rooms) == bytes_of(state, *rooms)
    assert await life.audited(other) == {Outcome.IDENTICAL}


async def test_a_parameter_of_readers_changes_no_room(settings):
    life = Life()
    state, history = await began(settings, life)
    ages = msgspec.structs.replace(settings.home_mixer.signals, seen_age_ms_max=1000)
    other = msgspec.structs.replace(settings, home_mixer=msgspec.structs.replace(settings.home_mixer, signals=ages))
    async with running_engine(other) as (engine, event_log):
        await wait_applied(engine, event_log, timeout_s=60)
        assert engine.origin.history == history
        assert engine.state.digest() == state.digest()
        await life.look(engine)
    assert await life.audited(other) == {Outcome.IDENTICAL}


async def test_another_layout_is_that_room_alone(settings, monkeypatch):
    life = Life()
    state, _ = await began(settings, life)
    monkeypatch.setitem(LAYOUTS, InteractionGraph.name, 7)
    async with running_engine(settings) as (engine, event_log):
        await wait_applied(engine, event_log, timeout_s=60)
        # What learns from the graph may have looked at the empty one, for versions after the newest snapshot.
        rooms = others(state, "interaction_graph", "lessons", "blend_learner")
        assert bytes_of(engine.state, *rooms) == bytes_of(state, *rooms)
        # The log reaches back: it was built again from the beginning.
        assert bytes_of(engine.state, "interaction_graph") == bytes_of(state, "interaction_graph")
        await life.look(engine)
    assert await life.audited(settings) == {Outcome.IDENTICAL, Outcome.CONFIG_UNKNOWN}


async def test_a_damaged_room_of_the_only_snapshot_is_built_again(settings):
    life = Life()
    state, history = await began(settings, life)
    (path,) = durable_folder(settings).glob("*/snapshot-*")
    with opened_store(settings, writable=False) as store:
        (info,) = store.snapshots(store.current).infos()
    data = bytearray(path.read_bytes())
    start, stop = info.sections["signals"]
    data[(start + stop) // 2] ^= 1
    path.write_bytes(data)
    # A journal that begins late, as after pruning: without it the whole log would be applied again.
    with opened_store(settings) as store:
        current = store.current
        for name in store.disk.names(f"{current.id}/journal-"):
            store.disk.remove(name)
        late = msgspec.structs.replace(
            current,
            start={f"{p.topic}/{p.partition}": at for p, at in info.positions.items()},
            began=None,
        )
        from streams.durable.journal import Journal

        Journal.open(store.disk, late.id, segment_bytes=1 << 20, start=info.positions, version=info.version).close()
    async with running_engine(settings) as (engine, event_log):
        await wait_applied(engine, event_log, timeout_s=60)
        assert engine.origin.history != history
        assert engine.version == state.version
        rooms = others(state, "signals")
        assert bytes_of(engine.state, *rooms) == bytes_of(state, *rooms)
        assert set((await life.look(engine)).late_rooms) == {"signals"}
        engine.state.check()


async def test_one_more_room_knows_what_the_log_still_has(settings, monkeypatch):
    """A folder that an older program wrote, which did not have the room yet."""
    life = Life()
    with monkeypatch.context() as older:
        arrays = EngineState.arrays
        older.setattr(
            EngineState, "arrays", lambda self: (a for a in arrays(self) if not a[0].startswith("entity_names"))
        )
        hashes = schema.room_hashes
        for module in (wiring, recover, replay):
            older.setattr(
                module, "room_hashes", lambda rooms: {n: h for n, h in hashes(rooms).items() if n != "entity_names"}
            )
        state, history = await began(settings, life)
    path = durable_folder(settings) / history / "history.json"
    info = msgspec.json.decode(path.read_bytes())
    del info["settings"]["rooms"]["entity_names"]
    path.write_bytes(msgspec.json.encode(info | {"rooms_hash": "older"}))
    async with running_engine(settings) as (engine, event_log):
        await wait_applied(engine, event_log, timeout_s=60)
        assert engine.version == state.version
        rooms = others(state, "entity_names")
        assert bytes_of(engine.state, *rooms) == bytes_of(state, *rooms)
        # The log reaches back to the beginning: it was built from there.
        assert bytes_of(engine.state, "entity_names") == bytes_of(state, "entity_names")
        assert (await life.look(engine)).late_rooms == {}
    with opened_store(settings, writable=False) as store:
        assert store.current.began.rooms["entity_names"] == "rebuilt"
    # Feeds from before were served by a program of other rooms, which this one does not pretend to be.
    assert await life.audited(settings) == {Outcome.IDENTICAL, Outcome.CONFIG_UNKNOWN}


async def test_a_piece_that_cannot_be_applied_is_passed_over_when_told(settings, monkeypatch):
    life = Life()
    state, _ = await began(settings, life)
    poison = state.version + 1
    real = EngineState.apply

    def fails(self, batch, observed=None):
        if self.version + 1 == poison:
            raise ZeroDivisionError("a bug of the engine")
        return real(self, batch, observed)

    monkeypatch.setattr(EngineState, "apply", fails)
    for _ in range(2):
        with pytest.raises(BaseExceptionGroup) as caught:
            async with running_engine(settings) as (engine, event_log):
                await life.live(engine, event_log)
        assert caught.group_contains(ZeroDivisionError)
    config = Path(durable_folder(settings)).parent / "murmuration.toml"
    config.write_text(
        f'[log]\nurl = "{settings.log.url}"\n[ingest]\nbatch_events_max = 64\n' + _rooms_toml(settings.rooms)
    )
    wrong = await asyncio.to_thread(
        CliRunner().invoke, app, ["recover", "--skip", str(poison + 1), "--config", str(config)]
    )
    assert wrong.exit_code != 0
    done = await asyncio.to_thread(CliRunner().invoke, app, ["recover", "--skip", str(poison), "--config", str(config)])
    assert done.exit_code == 0, done.output
    registry = CollectorRegistry()
    async with running_engine(settings, registry=registry) as (engine, event_log):
        await wait_applied(engine, event_log, timeout_s=60)
        assert engine.version >= poison
        feed = await life.look(engine)
        assert feed.gap_records == engine.state.gap_records > 0
        assert registry.get_sample_value("murmuration_skipped_pieces") == 1
        async with asyncio.timeout(30):
            while not engine.ingest.dead_letters_written:
                await asyncio.sleep(0.05)
        letters = [decode_dead_letter(value) for value in await _values(event_log, DEAD_LETTERS)]
        passed = [letter for letter in letters if letter.reason == "piece_skipped"]
        assert len(passed) == feed.gap_records
        await life.live(engine, event_log)
        await life.look(engine)
        end = engine.version, engine.state.digest()
    with opened_store(settings, writable=False) as store:
        journal = store.journal(store.current, cut=False)
        assert list(journal.skipped) == [poison]
        async with running_log(settings.log) as event_log:
            assert (await rebuild(settings, store, event_log, store.current.id, end[0])).digest() == end[1]
    assert await life.audited(settings) == {Outcome.IDENTICAL}
    report = CliRunner().invoke(app, ["inspect", str(durable_folder(settings))])
    assert f"passed over: {poison}" in report.output


def _rooms_toml(rooms: RoomsConfig) -> str:
    lines = []
    for room, fields in msgspec.to_builtins(rooms).items():
        lines.append(f"[rooms.{room}]")
        lines += [f"{name} = {value}" for name, value in fields.items() if isinstance(value, int | float)]
    return "\n".join(lines)


async def _values(event_log, topic: str) -> list[bytes]:
    ends = await event_log.end_offsets(topic)
    values: list[bytes] = []
    async with await event_log.tail({TopicPartition(topic, p): 0 for p in ends}) as tail:
        while any(tail.positions[TopicPartition(topic, p)] < end for p, end in ends.items()):
            for run in await tail.poll(records_max=1000, timeout_s=1.0):
                values += run.values
    return values


def test_a_skip_must_be_of_a_version_that_the_journal_holds(memory_disk):
    from streams.durable.journal import Journal, Run

    where = TopicPartition("tweets", 0)
    journal = Journal.open(memory_disk(), "h", segment_bytes=50, start={where: 0}, version=7)
    assert (journal.version, journal.first_version) == (7, 8)
    for first in range(3):
        assert journal.append([Run(where, first, first, 1)]) == 8 + first
    for version in (7, 11):
        with pytest.raises(JournalError):
            journal.note_skip(version)
    journal.note_skip(9)
    journal.note_skip(9)
    assert journal.state.skipped == (9,)
    for first in range(3, 9):
        journal.append([Run(where, first, first, 1)])
    assert np.all([9 in s.skipped for s in (journal.state, journal.state_at(13))])
