"""What was spoilt is named: records, configurations, events, journals, logs. Nothing spoilt passes as identical."""

from collections import Counter
from contextlib import asynccontextmanager

import msgspec

from config.schema import Config, feed_hash
from engine.feed import Product
from streams.audit.auditor import Auditor, Outcome
from streams.audit.records import sample_served
from streams.durable.folder import durable_folder, opened_store
from streams.events.open_topics import running_log
from streams.log.interface import Tail
from streams.recovery.recover import saved_config
from streams.serve import running

replace = msgspec.structs.replace


@asynccontextmanager
async def auditing(config: Config, spoil=lambda event_log: event_log):
    """Every record, and an auditor; ``spoil`` wraps the log that states are rebuilt from."""
    with opened_store(config, writable=False) as store:
        async with running_log(config.log) as event_log:
            yield await sample_served(event_log, 10_000, 1), Auditor(config, store, spoil(event_log))


async def outcomes(config: Config, spoil=lambda event_log: event_log) -> Counter:
    async with auditing(config, spoil) as (feeds, auditor):
        return Counter(found.outcome for found in await auditor.audit(feeds))


def without_snapshots(config: Config) -> Config:
    for path in durable_folder(config).glob("*/snapshot-*"):
        path.unlink()
    return config


class Changed:
    """A log whose records of one topic read otherwise than they were written."""

    def __init__(self, event_log, topic, change):
        self._log, self._topic, self._change = event_log, topic, change

    def __getattr__(self, name):
        return getattr(self._log, name)

    async def tail(self, positions, **options):
        return ChangedTail(await self._log.tail(positions, **options), self._topic, self._change)


class ChangedTail(Tail):
    def __init__(self, tail, topic, change):
        self._tail, self._topic, self._change = tail, topic, change

    async def poll(self, **options):
        return [
            replace(run, values=[self._change(value) for value in run.values]) if run.topic == self._topic else run
            for run in await self._tail.poll(**options)
        ]

    @property
    def positions(self):
        return self._tail.positions

    async def close(self):
        await self._tail.close()


async def test_a_record_that_was_changed_is_different_where_it_was_changed(past):
    async with auditing(past[0]) as (feeds, auditor):
        feed = next(f for f in feeds if len(f.entries) > 2 and f.entries[0].why is not msgspec.UNSET)
        first, second, *others = feed.entries
        forged = {
            "entries[1].tweet_id": replace(second, tweet_id="1"),
            "entries[1].text": replace(second, digest=f"{second.digest[:9]}{'0' * 8}{second.digest[17:]}"),
            "entries[1].why.sources[0].rank": replace(
                second,
                why=replace(second.why, sources=(replace(second.why.sources[0], rank=99), *second.why.sources[1:])),
            ),
            "entries[1].score": replace(second, score=second.score + 1),
        }
        for where, entry in forged.items():
            # Whoever forges entries cannot leave the digest as it is.
            record = replace(feed, entries=(first, entry, *others), digest="0" * 64)
            (found,) = await auditor.audit([record])
            assert (found.outcome, found.difference.where) == (Outcome.DIFFERENT, where)
        (found,) = await auditor.audit([feed])
        assert (found.outcome, found.difference) == (Outcome.IDENTICAL, None)


async def test_another_seed_time_or_exclusion_is_another_feed(past):
    async with auditing(past[0]) as (feeds, auditor):
        feed = next(f for f in feeds if f.entries and f.request.product is Product.FOLLOWING)
        shown = int(feed.entries[0].tweet_id)
        asked = {
            "exclude": replace(feed.request, exclude=(*feed.request.exclude, shown)),
            "limit": replace(feed.request, limit=1),
            "time": replace(feed.request, time_ms=feed.request.time_ms + 1),
        }
        for request in asked.values():
            (found,) = await auditor.audit([replace(feed, request=request)])
            assert found.outcome is Outcome.DIFFERENT, request


async def test_another_configuration_is_another_feed(past):
    """The record says it was served under a configuration that gives something else."""
    config, _ = past
    for_you = replace(config.home_mixer.for_you, author_gap=9, age_ms_max=1)
    other = replace(config, home_mixer=replace(config.home_mixer, for_you=for_you))
    with opened_store(config) as store:
        store.save_config(feed_hash(other), saved_config(other))
    async with auditing(config) as (feeds, auditor):
        feed = next(f for f in feeds if f.entries and f.request.product is Product.FOR_YOU)
        (found,) = await auditor.audit([replace(feed, config_hash=feed_hash(other))])
    assert (found.outcome, found.difference.where) == (Outcome.DIFFERENT, "entries[0]")
    assert found.difference.recorded == {"tweet_id": int(feed.entries[0].tweet_id)}


async def test_a_configuration_that_is_gone_or_was_changed_is_unknown(past):
    config, _ = past
    (path,) = (durable_folder(config) / "configs").iterdir()
    saved = path.read_bytes()
    path.write_bytes(saved.replace(b'"author_gap": ', b'"author_gap": 1'))
    assert path.read_bytes() != saved
    assert set(await outcomes(config)) == {Outcome.CONFIG_UNKNOWN}
    path.write_bytes(saved.replace(b'"author_gap"', b'"author_gone"'))
    assert set(await outcomes(config)) == {Outcome.CONFIG_UNKNOWN}
    path.unlink()
    assert set(await outcomes(config)) == {Outcome.CONFIG_UNKNOWN}


async def test_an_event_that_was_changed_in_the_log_is_found_in_the_feeds_it_reached(past):
    config = without_snapshots(past[0])
    async with auditing(config) as (feeds, auditor):
        tweet = max(feeds, key=lambda f: len(f.entries)).entries[0].tweet_id
        name = b'"tweet_id":"%s"' % tweet.encode()

        def edit(value: bytes) -> bytes:
            return value.replace(b'"text":"', b'"text":"not ') if name in value else value

        auditor = Auditor(config, auditor._store, Changed(auditor._event_log, "tweets", edit))
        audited = await auditor.audit(feeds)
    showed = {(f.request.request_id, f.version): [e.tweet_id for e in f.entries] for f in feeds}
    reached = 0
    for found in audited:
        shown = showed[int(found.request_id), found.version]
        assert (found.outcome is Outcome.DIFFERENT) == (tweet in shown)
        if tweet in shown:
            reached += 1
            assert found.difference.where == f"entries[{shown.index(tweet)}].text"
            assert found.difference.recomputed.startswith("not ")
    assert reached > 0


async def test_records_that_the_log_has_no_more_are_log_gone(past):
    config = without_snapshots(past[0])
    async with running_log(config.log) as event_log:
        await event_log.apply_retention("tweets", before_ms=2**62)
    assert set(await outcomes(config)) == {Outcome.LOG_GONE}


async def test_another_folder_has_no_history(past, tmp_path):
    config, _ = past
    elsewhere = replace(config, durable=replace(config.durable, folder=str(tmp_path / "elsewhere")))
    assert set(await outcomes(elsewhere)) == {Outcome.NO_HISTORY}
    nowhere = replace(config, durable=replace(config.durable, folder="none"))
    assert set(await outcomes(nowhere)) == {Outcome.NO_HISTORY}
    assert not (tmp_path / "elsewhere").exists()


async def test_a_journal_that_cannot_be_read_is_damaged(past):
    config = without_snapshots(past[0])
    (journal,) = durable_folder(config).glob("*/journal-*")
    damaged = bytearray(journal.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    journal.write_bytes(damaged)
    assert set(await outcomes(config)) == {Outcome.DAMAGED}


async def test_versions_that_went_with_the_power_are_lost_and_never_different(settings, world):
    """The journal's end is gone, and the next process gives its versions to other records."""
    async with running(settings) as instance:
        await world.live(instance)
    config = without_snapshots(settings)
    with opened_store(config) as store:
        journal = store.journal(store.current)
        kept = journal.version // 2
        journal.rewind(kept)
        journal.close()
    async with auditing(config) as (before, auditor):
        for found in await auditor.audit(before):
            assert found.outcome is (Outcome.IDENTICAL if found.version <= kept else Outcome.LOST_VERSION)
    otherwise = replace(config, ingest=replace(config.ingest, batch_events_max=17))
    async with running(otherwise) as instance:
        await world.live(instance)
        assert instance.engine.version > max(feed.version for feed in before)
    cut = {(str(served.request.request_id), served.version) for served in before if served.version > kept}
    async with auditing(config) as (feeds, auditor):
        audited = await auditor.audit(feeds)
    counts = Counter(((found.request_id, found.version) in cut, found.outcome) for found in audited)
    assert set(counts) <= {
        (False, Outcome.IDENTICAL), (True, Outcome.LOST_VERSION), (True, Outcome.IDENTICAL),
    }  # fmt: skip
    assert counts[True, Outcome.LOST_VERSION] > 0
    assert counts[False, Outcome.IDENTICAL] > 60
