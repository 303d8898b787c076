"""The simulation must catch what it is there to catch: each planted bug makes some seed fail, with the right words."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

import msgspec
import numpy as np
import pytest

from engine import entity_names
from engine.batch import Kind
from engine.feed import Feed
from engine.interaction_graph import entity_graph
from engine.models.state import Models
from engine.social_graph import sizes
from engine.social_graph.arrays import BLOCKS_EACH, FOLLOWS_EACH, MUTES_EACH, UNDONE_EACH
from engine.social_graph.state import SocialGraph
from engine.state import EngineState
from engine.tweet_store import state as tweet_store
from engine.tweet_store.state import TweetStore
from loadtest.simulation import hostile, memory_disk
from loadtest.simulation.faults import Rates
from loadtest.simulation.hostile import HOSTILE
from loadtest.simulation.memory_log import MemoryTail
from loadtest.simulation.run import simulate
from streams.durable.journal import Journal
from streams.durable.segment_file import SegmentFile
from streams.durable.snapshots import Snapshots
from streams.durable.store import Store
from streams.jobs.reputation import ReputationJob
from streams.live import applier
from streams.live.applier import Applier
from streams.live.keeper import Keeper
from streams.live.tail import Ingest
from streams.ordering.own import Replay
from streams.reading import readers
from streams.recovery import recover as recovery

SEEDS = 40


def caught(words: str, *, first: int = 0) -> None:
    """Some seed fails with these words (a pattern), and none before with others."""
    for seed in range(first, first + SEEDS):
        failure = simulate(seed).failure
        if failure is not None:
            assert re.search(words, failure), f"seed {seed}: {failure}"
            return
    pytest.fail(f"none of {SEEDS} seeds noticed")


def often(monkeypatch: pytest.MonkeyPatch, **rates: float) -> None:
    """Let these faults happen so often in every seed, and other faults of the disk and of files never."""
    drawn = Rates.draw
    never = dict.fromkeys(("no_room", "failing_syncs", "losses_between", "older_current", "lost_ends"), 0.0)
    only = {"disk_full_times": 0, "losses": 0, **never, **rates}
    monkeypatch.setattr(Rates, "draw", lambda chance: drawn(chance)._replace(**only))


def test_without_sabotage_the_same_seeds_are_well():
    assert [simulate(seed).failure for seed in range(3)] == [None] * 3


def test_a_journal_that_leaves_out_a_run(monkeypatch):
    append = Journal.append
    monkeypatch.setattr(
        Journal,
        "append",
        lambda self, runs, *times: append(self, runs[:-1] if self.version % 7 == 3 and runs[1:] else runs, *times),
    )
    caught("ReplayError|is replayed as|is not the state of an uninterrupted run")


def test_a_journal_that_keeps_another_order(monkeypatch):
    append = Journal.append
    monkeypatch.setattr(Journal, "append", lambda self, runs, *times: append(self, list(reversed(runs)), *times))
    caught("is replayed as")


def test_a_sync_that_does_nothing(monkeypatch):
    """Only a power cut shows it."""
    monkeypatch.setattr(Journal, "sync", lambda self: None)
    caught("was safe|JournalError|LogBehind")


def test_a_write_that_found_no_room_and_is_not_cut_off(monkeypatch):
    monkeypatch.setattr(SegmentFile, "repair", lambda self: None)
    often(monkeypatch, no_room=0.02)
    caught("was safe|JournalError|is audited as damaged|is missing")


def test_a_failed_sync_that_is_only_tried_again(monkeypatch):
    sync = SegmentFile.sync

    def hopeful(self):
        try:
            sync(self)
        finally:
            self._unsure = False

    monkeypatch.setattr(SegmentFile, "sync", hopeful)
    often(monkeypatch, failing_syncs=0.05)
    caught("was safe|JournalError")


def test_a_journal_that_goes_on_in_a_file_that_vanished(monkeypatch):
    monkeypatch.setattr(memory_disk._OpenFile, "there", lambda self: True)
    often(monkeypatch, losses=6, deaths=0)
    caught("journal-.* vanished under the process, which did not write it again")


def test_a_folder_whose_files_vanish_and_are_not_written_again(monkeypatch):
    monkeypatch.setattr(Store, "mend", lambda self: [])
    often(monkeypatch, losses=6, deaths=0)
    caught("(current|history.json)'] vanished under the process, which did not write it again")


def test_a_journal_without_its_synced_end_whose_snapshot_is_forgotten(monkeypatch):
    async def begin_anew(self, store, before):
        return None

    monkeypatch.setattr(recovery._Start, "go_on_at_snapshot", begin_anew)
    often(monkeypatch, lost_ends=1.0)
    caught("was safe")


def test_an_older_copy_of_current_that_is_believed(monkeypatch):
    monkeypatch.setattr(Store, "newest", lambda self, info: info)
    often(monkeypatch, older_current=1.0, changes=0.8)
    caught("was safe|begin late|is gone on with|the configuration changes after version")


def test_an_apply_that_runs_twice(monkeypatch):
    apply = Applier.apply

    def twice(self, piece, *, journaled):
        apply(self, piece, journaled=journaled)
        if self.state.version % 5 == 0:
            self.state.signals.apply(self._decoder.decode(piece).batch)

    monkeypatch.setattr(Applier, "apply", twice)
    caught("another feed|not the state of an uninterrupted run|is audited as different")


def test_an_event_that_is_applied_again_when_it_comes_again(monkeypatch):
    keep = EngineState.__init__

    def forgetful(self, config):
        keep(self, config)
        self.deduplication.keep = lambda batch, late: batch.id == batch.id

    monkeypatch.setattr(EngineState, "__init__", forgetful)
    caught("the model says")


def test_a_snapshot_that_comes_back_with_one_byte_changed(monkeypatch):
    load_into = Snapshots.load_into

    def flipped(self, version, arrays, rooms):
        live = dict(arrays)
        info = load_into(self, version, live.items(), rooms)
        live["engine.header"][2] += 1
        return info

    monkeypatch.setattr(Snapshots, "load_into", flipped)
    caught("not the state of an uninterrupted run|is audited as different")


def test_a_snapshot_with_the_positions_of_another_version(monkeypatch):
    info = Keeper._info

    def behind(self):
        made = info(self)
        return msgspec.structs.replace(made, positions={p: max(0, o - 1) for p, o in made.positions.items()})

    monkeypatch.setattr(Keeper, "_info", behind)
    caught("does not fit|ReplayError|is applied after|not in order")


def test_a_recovery_that_forgets_the_journal(monkeypatch):
    restore = recovery.restore_newest

    def hasty(config, snapshots, journal, version):
        state, positions = restore(config, snapshots, journal, version)
        if state.version < journal.version == version:
            journal.rewind(state.version)
        return state, positions

    monkeypatch.setattr(recovery, "restore_newest", hasty)
    caught("was safe")


def test_a_replay_that_loses_what_it_read_too_far(monkeypatch):
    monkeypatch.setattr(Replay, "left", lambda self: [])
    caught("ReplayError|not in order")


def test_a_tail_that_drops_a_record(monkeypatch):
    take = MemoryTail._take

    def losing(self, records_max):
        runs = take(self, records_max)
        for run in runs:
            if run.topic == "engagements" and len(run.offsets) > 3:
                for column in (run.offsets, run.append_ms, run.formats, run.keys, run.values):
                    del column[-1]
        return runs

    monkeypatch.setattr(MemoryTail, "_take", losing)
    caught("not in order|ReplayError")


def test_a_feed_that_names_another_version(monkeypatch):
    execute = readers.execute

    def wrong(*args, **options) -> Feed:
        feed = execute(*args, **options)
        return msgspec.structs.replace(feed, version=max(0, feed.version - 1))

    monkeypatch.setattr(readers, "execute", wrong)
    caught("another feed|is audited as different")


def test_dead_letters_that_a_snapshot_does_not_wait_for(monkeypatch):
    async def nothing(self):
        pass

    with _unsettled(monkeypatch):
        monkeypatch.setattr(Ingest, "close", nothing)
        caught("dead letters are missing", first=60)


def test_a_job_that_depends_on_more_than_the_state(monkeypatch):
    compute, calls = ReputationJob.compute, count()

    def counting(self, state):
        result = compute(self, state)
        return result._replace(evaluation=result.evaluation | {"call": float(next(calls))})

    monkeypatch.setattr(ReputationJob, "compute", counting)
    caught("another model")


def test_a_hostile_viewer_whose_acts_are_somebody_elses(monkeypatch):
    apply = SocialGraph.apply

    def confused(self, batch):
        whose = np.where(batch.user_id == HOSTILE, np.uint64(1), batch.user_id)
        apply(self, batch._replace(user_id=whose))

    monkeypatch.setattr(SocialGraph, "apply", confused)
    caught("the hostile viewer has changed", first=4)


def test_a_hostile_viewer_who_may_have_the_whole_room(monkeypatch):
    make_graph = sizes.make_graph

    def unbounded(*args, **options):
        graph = make_graph(*args, **options)
        graph.limits[[FOLLOWS_EACH, BLOCKS_EACH, MUTES_EACH, UNDONE_EACH]] = 1 << 30
        return graph

    monkeypatch.setattr(sizes, "make_graph", unbounded)
    monkeypatch.setattr(hostile, "_FLOODS", (("relationships", ("follow", "block", "mute")),))
    caught("the hostile viewer|found no room in rooms.social_graph")


@pytest.mark.parametrize(
    ("room", "words", "first"),
    [
        (tweet_store, "pushed out the tweets|changed what others say", 4),
        (entity_names, "pushed out names", 4),
        (entity_graph, "which hashtags", 4),
    ],
)
def test_a_hostile_author_without_a_share_per_day(monkeypatch, room, words, first):
    monkeypatch.setattr(room, "share_of", lambda most, capacity, least=64: 1 << 40)
    caught(f"the hostile viewer.*({words})", first=first)


def test_a_hostile_viewer_who_counts_as_many(monkeypatch):
    """As if each act were another person's."""
    apply = TweetStore.apply

    def crowd(self, batch):
        whose = np.where(batch.user_id == HOSTILE, np.uint64(HOSTILE) + (batch.id & np.uint64(0xFFFF)), batch.user_id)
        return apply(self, batch._replace(user_id=whose))

    monkeypatch.setattr(TweetStore, "apply", crowd)
    caught("the hostile viewer counts as", first=23)


def test_a_hostile_viewer_who_may_change_what_others_wrote(monkeypatch):
    apply = TweetStore.apply

    def trusting(self, batch):
        authors = self.columns(self.lookup(batch.subject_id)).author_id
        changes = np.isin(batch.kind, (Kind.EDIT, Kind.DELETE)) & (authors != 0)
        batch.author_id[changes] = authors[changes]
        return apply(self, batch)

    monkeypatch.setattr(TweetStore, "apply", trusting)
    caught("the hostile viewer has", first=12)


@contextmanager
def _unsettled(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    made = Keeper.__init__
    monkeypatch.setattr(Keeper, "__init__", lambda self, *args, settled, **options: made(self, *args, **options))
    yield


def test_a_model_that_is_taken_though_it_is_not_what_its_commit_says(monkeypatch):
    monkeypatch.setattr(Models, "_fault", lambda self, place, standby, commit: None)
    caught("the rules say|models: |a reputation model of")


def test_a_refused_model_that_nobody_hears_of(monkeypatch):
    monkeypatch.setattr(applier, "dead_letters", lambda piece, decoded, effects: decoded.dead)
    caught("dead letters are missing")
