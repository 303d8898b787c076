"""Motifs become candidates in the log once, unless they are old or may not be told; the log may be away meanwhile."""

import asyncio
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry

from engine.motifs.state import Motif
from engine.notifications.judge import Judged, Verdict
from streams.events.notifications import decode_candidate
from streams.live import candidates
from streams.live.candidates import CandidateWriter
from streams.log.interface import LogForbiddenError, LogUnavailableError
from streams.process.ending import end_tasks
from streams.reading.metrics import EngineMetrics
from streams.recovery.effects import FoundMotif

NOW_MS = 1_760_000_000_000


class Log:
    """Keeps what is appended; ``errors`` come first."""

    def __init__(self) -> None:
        self.records, self.errors = [], []

    async def append(self, topic, records):
        if self.errors:
            raise self.errors.pop(0)
        self.records += records
        return [(0, 0)] * len(records)

    @property
    def made(self) -> list[tuple[int, int]]:
        found = [decode_candidate(record.value) for record in self.records]
        return [(int(one.user_id), int(one.target_id)) for one in found]


def motif(recipient: int, target: int = 8, *, age_ms: int = 0, offset: int = 0) -> FoundMotif:
    return FoundMotif(Motif(recipient, target, 0, (1, 2, 3)), "relationships", 0, offset, NOW_MS - age_ms)


async def judge(motifs):
    return [Judged(Verdict.HIDDEN if one.recipient_id == 13 else Verdict.ALLOWED, one.actor_ids, 5) for one in motifs]


@pytest.fixture
def made():
    """A writer, its log, its clock and its counts."""
    log, clock, metrics = Log(), SimpleNamespace(now_ms=NOW_MS), EngineMetrics(CollectorRegistry())
    writer = CandidateWriter(log, judge, metrics, age_ms_max=1000, now_ms=lambda: clock.now_ms)
    return writer, log, clock, lambda result: metrics.motifs.labels(result)._value.get()


async def test_each_is_made_once_and_what_is_old_or_hidden_is_not(made) -> None:
    writer, log, _, count = made
    writer.offer([motif(7), motif(7, offset=1), motif(9, age_ms=1001), motif(13), motif(9)])
    assert not await writer.written(0)
    await writer.drain(5)
    writer.offer([motif(7), motif(7, 9)])
    await writer.drain(5)
    assert await writer.written(0)
    assert sorted(log.made) == [(7, 8), (7, 9), (9, 8)]
    assert (count("old"), count("hidden"), count("made_already")) == (1, 1, 1)


async def test_the_queue_is_bounded(made, monkeypatch) -> None:
    monkeypatch.setattr(candidates, "WAITING_MAX", 3)
    writer, log, _, count = made
    writer.offer([motif(person) for person in range(20, 30)])
    await writer.drain(5)
    assert (len(log.made), count("queue_full")) == (3, 7)


async def test_a_log_that_is_away_is_waited_for_and_a_stop_keeps_what_waits(made) -> None:
    writer, log, _, _ = made
    log.errors = [LogUnavailableError("away")] * 2
    writer.offer([motif(7)])
    task = asyncio.create_task(writer.run())
    async with asyncio.timeout(60):
        while not log.made:
            await asyncio.sleep(0.01)
    log.errors = [LogUnavailableError("away")] * 1000
    writer.offer([motif(9)])
    async with asyncio.timeout(60):
        while len(log.errors) > 999:
            await asyncio.sleep(0.01)
    await end_tasks([task])
    assert not await writer.written(0)
    log.errors = []
    await writer.drain(5)
    assert (await writer.written(0), log.made) == (True, [(7, 8), (9, 8)])


async def test_what_the_log_refuses_or_is_too_late_keeps_no_snapshot_waiting(made) -> None:
    writer, log, clock, count = made
    log.errors = [LogForbiddenError("no right to write")]
    writer.offer([motif(7)])
    await writer.drain(5)
    writer.offer([motif(9)])
    clock.now_ms += 2000
    await writer.drain(5)
    assert (await writer.written(0), log.made, count("not_written")) == (True, [], 2)


async def test_a_snapshot_waits_only_for_what_was_found_before_it(made, monkeypatch) -> None:
    monkeypatch.setattr(candidates, "TOGETHER_MAX", 1)
    writer, log, _, _ = made
    writer.offer([motif(7)])
    waiting = asyncio.create_task(writer.written(60))
    await asyncio.sleep(0)
    writer.offer([motif(9), motif(10)])
    assert not waiting.done()
    await writer._write_next()
    assert await waiting
    assert log.made == [(7, 8)]
    assert not await writer.written(0)
