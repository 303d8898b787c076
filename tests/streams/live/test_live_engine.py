"""The engine in process: slices, versioned reads under load, dead letters over restarts, metrics."""

import asyncio
import time
from itertools import pairwise
from pathlib import Path
from types import NoneType

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from config.schema import Config
from config.serving import DurableConfig, IngestConfig, LogConfig
from engine.errors import CapacityError
from engine.feed import Explain, Feed, Request
from engine.state import EngineState
from loadtest.scenarios.demo import publish_events
from loadtest.society.society import Society, SocietyConfig
from streams.events.decode import Decoder
from streams.events.packed import make_rows, pack
from streams.live.live_engine import LiveEngine
from streams.live.wiring import running_engine, wait_applied
from streams.log.interface import Format, NewRecord, Records
from streams.ordering.pieces import cut
from streams.process.histogram import BatchHistogram, quantile
from streams.server.encode import encode_feed


def config(tmp_path: Path, *, folder: str = "auto", **ingest) -> Config:
    return Config(
        log=LogConfig(url=f"sqlite:///{tmp_path / 'events.db'}"),
        ingest=IngestConfig(**ingest),
        durable=DurableConfig(folder=folder),
    )


def packed(count: int, first: int = 1) -> bytes:
    n = np.arange(count, dtype=np.uint64)
    rows = make_rows(
        count, id=n + np.uint64(first), user_id=n + np.uint64(1), subject_id=n + np.uint64(1000),
        timestamp_ms=np.full(count, 1_760_000_000_000), kind=np.full(count, 1, np.uint8),
    )  # fmt: skip
    (value,) = pack(rows, rows_max=4096)
    return value


# Slices


sizes = st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=12), max_size=5)


@given(sizes, st.integers(1, 12))
def test_slices_cut_at_records_within_the_bound_and_lose_nothing(runs, events_max):
    """A size of 0 stands for a JSON record, n for a packed one of n rows."""
    made = [
        Records(
            f"t{i}", i, list(range(len(run))), [0] * len(run),
            [Format.PACKED if n else Format.JSON for n in run], [b""] * len(run),
            [packed(n) if n else b"{}" for n in run],
        )
        for i, run in enumerate(runs)
    ]  # fmt: skip
    pieces = list(cut(made, events_max))
    flat = [
        (part.topic, offset, value)
        for piece in pieces
        for part in piece
        for offset, value in zip(part.offsets, part.values, strict=True)
    ]
    assert flat == [(run.topic, o, v) for run in made for o, v in zip(run.offsets, run.values, strict=True)]
    for piece in pieces:
        assert all(part.values for part in piece)
        counts = [
            max(1, (len(v) - 16) // 56) if f is Format.PACKED else 1
            for p in piece
            for v, f in zip(p.values, p.formats, strict=True)
        ]
        assert sum(counts) <= events_max or len(counts) == 1
    for piece, following in pairwise(pieces):
        # Nothing is cut without need: the next record would not have fitted.
        used = sum(
            max(1, (len(v) - 16) // 56) if f is Format.PACKED else 1
            for p in piece
            for v, f in zip(p.values, p.formats, strict=True)
        )
        v, f = following[0].values[0], following[0].formats[0]
        assert used + (max(1, (len(v) - 16) // 56) if f is Format.PACKED else 1) > events_max


# Versioned reads


async def test_feeds_asked_while_events_come_in_are_exactly_those_of_their_version(tmp_path, monkeypatch):
    """Every feed served under load is computed again at its version from the same batches, and must be the same."""
    settings = config(tmp_path, batch_events_max=50)
    batches = []
    apply = EngineState.apply

    def recording(self, batch, observed):
        if self is engine_state[0]:
            batches.append(batch)
        return apply(self, batch, observed)

    engine_state = [None]
    monkeypatch.setattr(EngineState, "apply", recording)
    society = Society(SocietyConfig(seed=3, people=120, mean_followees=10, history_events=3000, events_per_s=4000))
    now_ms = int(time.time() * 1000)
    served = []
    async with running_engine(settings) as (engine, event_log):
        engine_state[0] = engine.state
        for events in society.bootstrap(now_ms, 3_600_000):
            await publish_events(event_log, events)
        await wait_applied(engine, event_log, timeout_s=60)
        stop = asyncio.Event()

        async def read(worker: int):
            n = worker
            while not stop.is_set():
                n += 7
                request = Request(
                    viewer_id=n % 120 + 1, request_id=n, time_ms=now_ms + 5000, seed=n, explain=Explain.ALL
                )
                served.append((request, await engine.feed(request)))

        readers = [asyncio.create_task(read(worker)) for worker in range(4)]
        for step in range(40):
            await publish_events(event_log, society.tick(now_ms + step * 50, now_ms + step * 50 + 50))
        await wait_applied(engine, event_log, timeout_s=60)
        stop.set()
        await asyncio.gather(*readers)
    versions = {feed.version for _, feed in served}
    assert len(versions) > 10, "feeds and batches did not interleave: the test shows nothing"

    fresh = LiveEngine(settings, CollectorRegistry())
    waiting = sorted(served, key=lambda pair: pair[1].version)
    for request, feed in waiting[:: max(1, len(waiting) // 400)]:
        while fresh.state.version < feed.version:
            apply(fresh.state, batches[fresh.state.version])
        # On a busy machine the deadline may have passed: which sources were skipped is part of what was asked.
        again = await fresh.feed(msgspec.structs.replace(request, sources_skipped=feed.degraded))
        assert encode_feed(again).split(b'"timings_ms"')[0] == encode_feed(feed).split(b'"timings_ms"')[0]
    await fresh.close()


async def test_the_request_queue_is_bounded(tmp_path):
    async with running_engine(config(tmp_path)) as (engine, _):
        engine.readers._queue_max = 3
        engine.lock.acquire_write()
        requests = [
            asyncio.create_task(engine.feed(Request(viewer_id=1, request_id=n, time_ms=1, seed=1))) for n in range(5)
        ]
        await asyncio.sleep(0.2)
        engine.lock.release_write()
        outcomes = await asyncio.gather(*requests, return_exceptions=True)
        assert sum(isinstance(o, CapacityError) for o in outcomes) == 2
        assert not [o for o in outcomes if isinstance(o, BaseException) and not isinstance(o, CapacityError)]


async def test_what_retention_reads_takes_no_place_in_the_request_queue_and_is_not_refused(tmp_path):
    async with running_engine(config(tmp_path)) as (engine, _):
        engine.readers._queue_max = 1
        engine.lock.acquire_write()
        first, second = (Request(viewer_id=1, request_id=n, time_ms=1, seed=1) for n in range(2))
        calls = [engine.models_since_ms(), engine.feed(first), engine.models_since_ms(), engine.feed(second)]
        waiting = [asyncio.create_task(call) for call in calls]
        await asyncio.sleep(0.1)
        engine.lock.release_write()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [NoneType, Feed, NoneType, CapacityError]


# Dead letters, duplicates, restarts


@pytest.mark.parametrize("folder", ["auto", "none"])
async def test_dead_letters_are_written_once_over_restarts_and_duplicates_not_applied(tmp_path, folder):
    good = b'{"v":1,"id":%d,"type":"favorite","user_id":1,"tweet_id":2,"timestamp_ms":1760000000000}'
    settings = config(tmp_path, folder=folder)
    for start in range(3):
        async with running_engine(settings) as (engine, event_log):
            if start == 0:
                damaged = bytearray(packed(3, first=100))
                damaged[-1] ^= 1
                await event_log.append(
                    "engagements",
                    [
                        NewRecord(value=good % 1),
                        NewRecord(value=b"not json"),
                        NewRecord(value=good % 1),
                        NewRecord(value=bytes(damaged), format=Format.PACKED),
                        NewRecord(value=packed(2, first=200)[:-5], format=Format.PACKED),
                        NewRecord(value=packed(2, first=300), format=Format.PACKED),
                    ],
                )
            await wait_applied(engine, event_log, timeout_s=30)
            for _ in range(100):
                if sum((await event_log.end_offsets("dead-letters")).values()) >= 3:
                    break
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.1)
            assert sum((await event_log.end_offsets("dead-letters")).values()) == 3
            assert engine.state.events == 3
            assert engine.state.duplicates == 1
            text = generate_latest(engine.metrics.registry).decode()
            # With a snapshot, a restart has nothing to apply again.
            applied = start == 0 or folder == "none"
            assert ('murmuration_events_total{result="applied",topic="engagements"} 3.0' in text) == applied
            assert ('murmuration_events_total{result="duplicate",topic="engagements"} 1.0' in text) == applied
            assert ('murmuration_dead_letters_total{reason="malformed_json"} 1.0' in text) == (start == 0)


async def test_a_retry_of_the_same_event_counts_once_and_order_in_the_log_decides(tmp_path):
    def line(event_id: int, kind: str, time_ms: int) -> NewRecord:
        body = b'{"v":1,"id":%d,"type":"%s","user_id":1,"tweet_id":2,"timestamp_ms":%d}'
        return NewRecord(value=body % (event_id, kind.encode(), time_ms), key=b"1")

    async with running_engine(config(tmp_path)) as (engine, event_log):
        late, early = 1_760_000_010_000, 1_760_000_000_000
        await event_log.append(
            "engagements",
            [
                line(1, "favorite", late),
                line(1, "favorite", late),
                line(2, "favorite", early),
                line(3, "unfavorite", late),
            ],
        )
        await wait_applied(engine, event_log, timeout_s=30)
        assert engine.state.duplicates == 1
        store = engine.state.tweet_store
        totals = store.columns(store.lookup(np.array([2], np.uint64))).totals[0]
        assert totals[0] == 0  # one person's favorite, taken back
        engine.state.check()


async def test_readiness_counts_what_was_in_the_log_at_the_start(tmp_path):
    settings = config(tmp_path, folder="none")
    async with running_engine(settings) as (_, event_log):
        await event_log.append(
            "engagements", [NewRecord(value=packed(500, first=1 + 500 * n), format=Format.PACKED) for n in range(20)]
        )
    async with running_engine(settings) as (engine, event_log):
        while not engine.readiness().ready:
            await asyncio.sleep(0.01)
        assert engine.state.events == 10_000
        assert sum(n for where, n in engine.positions.items() if where.topic == "engagements") == 20


# Metrics


@given(st.lists(st.floats(0, 100), max_size=200), st.lists(st.floats(0.01, 90), min_size=1, max_size=8, unique=True))
def test_batch_histogram_against_counting(values, bounds):
    bounds = sorted(bounds)
    histogram = BatchHistogram("murmuration_test_seconds", "test", bounds)
    half = len(values) // 2
    histogram.observe(np.array(values[:half]))
    histogram.observe(np.array(values[half:]))
    (family,) = histogram.collect()
    found = {s.labels["le"]: s.value for s in family.samples if s.name.endswith("_bucket")}
    for bound in bounds:
        assert found[str(bound)] == sum(v <= bound for v in values)
    assert found["+Inf"] == len(values)


@given(st.lists(st.floats(0.0011, 59), min_size=1, max_size=300), st.floats(0.01, 0.99))
def test_quantile_falls_into_the_right_bucket(values, q):
    bounds = (0.001, 0.01, 0.1, 1.0, 10.0, 60.0)
    counts = np.bincount(np.searchsorted(bounds, values), minlength=len(bounds) + 1)
    exact = float(np.quantile(values, q, method="inverted_cdf"))
    found = quantile(counts, bounds, q)
    assert abs(int(np.searchsorted(bounds, found)) - int(np.searchsorted(bounds, exact))) <= 1


def test_an_empty_histogram_has_quantile_zero():
    assert quantile(np.zeros(3, np.int64), (1.0, 2.0), 0.99) == 0.0


@pytest.mark.parametrize("value", [b"\x00", b"MURM", b"[]", b"null", b'{"type":7}', "é".encode("latin-1")])
def test_nothing_in_a_record_can_kill_the_state_thread(value):
    decoded = Decoder(future_ms_max=0).decode(
        [Records("engagements", 0, [0, 1], [1, 1], [Format.JSON, Format.PACKED], [b"", b""], [value, value])]
    )
    assert len(decoded.dead) == 2
    assert decoded.batch.size == 0
