"""How fast events get from the log into every room: JSON and packed, step by step and together.

The rate is measured on a backlog in the log, from the first read until all rooms have applied the last event, through
the tail and state thread that ``serve`` runs. The steps are measured one after the other in CPU time, so that none
hides another. ``write_lock_ms_*`` are for the richest events that the wire allows (rich_pieces.py).
"""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry

from config.schema import Config
from config.serving import LogConfig
from engine.state import EngineState
from loadtest.benches.rich_pieces import measure
from loadtest.traffic.made_up import Traffic, make_traffic, to_json
from streams.events.decode import Decoder
from streams.events.packed import make_rows, pack
from streams.live.applier import Applier
from streams.live.compilation import compile_kernels
from streams.live.state_thread import StateThread
from streams.log import open_log
from streams.log.interface import EventLog, Format, NewRecord, Records, TopicPartition
from streams.ordering.pieces import Pieces, cut
from streams.reading.metrics import EngineMetrics
from streams.reading.state_lock import PhaseFairLock

TOPICS = ("tweets", "relationships", "engagements")
#: Two hours ago, so that nothing is in the future and everything is inside the window.
AGE_MS = 7_200_000
SPAN_MS = 3_600_000

Batches = list[tuple[str, list[NewRecord]]]


async def run(
    log_url: str | None = None,
    *,
    json_events: int = 400_000,
    packed_events: int = 4_000_000,
    progress: Callable[[str], None] = lambda line: None,
) -> dict[str, float]:
    """Measure both formats on the given log (default: an embedded log in a temporary folder)."""
    await asyncio.to_thread(compile_kernels)
    progress("the richest events: cutting and applying")
    result = await asyncio.to_thread(measure, Config(), int(time.time() * 1000) - AGE_MS)
    for form, events in (("json", json_events), ("packed", packed_events)):
        progress(f"{form}: making {events:,} events")
        batches = make_batches(form, events)
        async with _empty_log(log_url, form) as (event_log, config):
            result |= await _measure(form, events, batches, event_log, config, progress)
    return result


def make_batches(form: str, events: int) -> Batches:
    """The traffic as records, in batches of one topic as a producer would send them."""
    traffic = make_traffic(events, start_ms=int(time.time() * 1000) - AGE_MS, span_ms=SPAN_MS)
    return list(_json_batches(traffic)) if form == "json" else list(_packed_batches(traffic))


def _json_batches(traffic: Traffic, size: int = 4000) -> Iterable[tuple[str, list[NewRecord]]]:
    lines = to_json(traffic)
    for start in range(0, len(lines), size):
        part = lines[start : start + size]
        for topic in TOPICS:
            yield topic, [NewRecord(value=value, key=key) for name, key, value in part if name == topic]


def _packed_batches(traffic: Traffic, size: int = 65_536) -> Iterable[tuple[str, list[NewRecord]]]:
    for start in range(0, len(traffic.kind), size):
        part = traffic.take(slice(start, start + size))
        for topic in TOPICS:
            own = part.topic(topic)
            rows = make_rows(len(own.kind), **own._asdict())
            yield topic, [NewRecord(value=value, format=Format.PACKED) for value in pack(rows, rows_max=2048)]


@asynccontextmanager
async def _empty_log(url: str | None, form: str) -> AsyncIterator[tuple[EventLog, Config]]:
    with tempfile.TemporaryDirectory() as folder:
        settings = Config(log=LogConfig(url=url or f"sqlite:///{Path(folder) / 'bench.db'}"))
        # A new prefix each time, because a broker keeps its topics.
        prefix = f"bench-{form}-{time.time_ns()}-"
        settings = msgspec.structs.replace(settings, log=msgspec.structs.replace(settings.log, topic_prefix=prefix))
        async with open_log(settings.log) as event_log:
            await event_log.ensure_topics(dict.fromkeys(TOPICS, settings.log.partitions_default))
            yield event_log, settings


async def _measure(
    form: str,
    events: int,
    batches: Batches,
    event_log: EventLog,
    config: Config,
    progress: Callable[[str], None],
) -> dict[str, float]:
    progress(f"{form}: appending")
    cpu, wall = time.process_time(), time.perf_counter()
    for topic, records in batches:
        await event_log.append(topic, records)
    append_cpu, append_wall = time.process_time() - cpu, time.perf_counter() - wall

    progress(f"{form}: reading, decoding and applying, one after the other")
    cpu = time.process_time()
    polls = [runs async for runs in _read_all(event_log, config)]
    read_cpu = time.process_time() - cpu
    decode_cpu, apply_cpu, longest_write_s = _decode_and_apply(polls, config)

    progress(f"{form}: the whole path")
    rates = []
    for _ in range(3):
        state = _new_state(config)
        wall = time.perf_counter()
        applied = await _through_the_path(state, event_log, config)
        rates.append(events / (time.perf_counter() - wall))
        assert applied == events, f"{applied} of {events} events were applied"
    per_event = 1e6 / events
    return {
        f"{form}_events_per_s": round(max(rates)),
        f"{form}_events_per_s_worst_of_3": round(min(rates)),
        f"{form}_append_events_per_s": round(events / append_wall),
        f"{form}_append_cpu_us": round(append_cpu * per_event, 3),
        f"{form}_read_cpu_us": round(read_cpu * per_event, 3),
        f"{form}_decode_cpu_us": round(decode_cpu * per_event, 3),
        f"{form}_apply_cpu_us": round(apply_cpu * per_event, 3),
        f"{form}_write_lock_ms_max": round(longest_write_s * 1e3, 3),
    }


async def _read_all(event_log: EventLog, config: Config) -> AsyncIterator[list[Records]]:
    ends = {
        TopicPartition(topic, partition): end
        for topic in TOPICS
        for partition, end in (await event_log.end_offsets(topic)).items()
    }
    async with await event_log.tail(dict.fromkeys(ends, 0)) as tail:
        while any(tail.positions[where] < end for where, end in ends.items()):
            yield await tail.poll(records_max=config.ingest.poll_records_max, timeout_s=1.0)


def _decode_and_apply(polls: list[list[Records]], config: Config) -> tuple[float, float, float]:
    """CPU seconds of decoding and of applying (observing included), and the longest hold of the write lock."""
    decoder = Decoder(future_ms_max=config.ingest.future_ms_max)
    state = _new_state(config)
    decode_cpu = apply_cpu = longest = 0.0
    for runs in polls:
        for piece in cut(runs, config.ingest.batch_events_max):
            state.keep_ahead()
            start = time.process_time()
            decoded = decoder.decode(piece)
            middle = time.process_time()
            observed = state.observe(decoded.batch)
            locked = time.process_time()
            state.apply(decoded.batch, observed)
            end = time.process_time()
            assert not decoded.dead, decoded.dead[0]
            decode_cpu += middle - start
            apply_cpu += end - middle
            longest = max(longest, end - locked)
    return decode_cpu, apply_cpu, longest


def _new_state(config: Config) -> EngineState:
    """An empty state as ``serve`` starts with."""
    state = EngineState(config.rooms)
    state.touch()
    return state


async def _through_the_path(state: EngineState, event_log: EventLog, config: Config) -> int:
    failed: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    thread = StateThread(
        Applier(
            state,
            PhaseFairLock(),
            Decoder(future_ms_max=config.ingest.future_ms_max),
            EngineMetrics(CollectorRegistry()),
        ),
        queue_max=config.ingest.queue_batches_max,
        on_applied=lambda: None,
        on_failed=failed.set_exception,
    )
    thread.start()
    async for runs in _read_all(event_log, config):
        await thread.put(Pieces(list(cut(runs, config.ingest.batch_events_max)), journaled=False))
    await thread.stop()
    if failed.done():
        failed.result()
    return state.events
