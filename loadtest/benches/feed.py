"""The cost of a feed: open loop over websockets against a real server process, and ``execute`` alone on one thread.

The server has a society of 20,000 people with a day of history (``feed_world``), records its feeds and can be audited.
The client is a second process (``traffic.feed_load``). Its CPU time is reported, because on two cores the server only
has what the client leaves.
"""

import asyncio
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import aiohttp
import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from config.schema import Config, feed_hash
from engine.feed import Product, Request
from engine.home_mixer.products import build_products
from engine.pipeline.execute import Unwatched, execute
from engine.pipeline.scratch import Scratch
from engine.state import EngineState
from loadtest.benches.feed_world import WorldSize, config_in, copied_world, environment_in, restored, society_of
from loadtest.benches.kernel_time import KernelTimes
from loadtest.benches.process_cost import cpu_s, resident_mb
from loadtest.traffic.feed_load import Load, LoadProcess, LoadResult
from loadtest.traffic.server_process import ServerProcess, server_process
from streams.audit.auditor import Auditor, Outcome
from streams.audit.records import sample_served
from streams.durable.folder import opened_store
from streams.events.open_topics import running_log
from streams.live.compilation import compile_kernels

#: A rate is good if the slowest hundredth is answered within this time, and every request is answered.
P99_MS_MAX: Final = 100.0
#: The first rate tried, the least rate, the factor between rates, and the ratio of bad to good at which to stop.
RATE_FIRST: Final = 150.0
RATE_LEAST: Final = 10.0
RATE_STEP: Final = 1.5
RATE_PRECISION: Final = 1.05
#: If the client sends later than this, the client is the limit, and the load says nothing about the server.
LATE_MS_MAX: Final = 50.0
#: Figures are taken in slices of a second, so that one disturbance spoils only one slice.
SLICE_S: Final = 1.0
ALONE_FEEDS: Final = 300
AUDITED_FEEDS: Final = 20


class FeedBench(NamedTuple):
    """Size of the measurement. ``step_s``: length of a rate's trial; ``half_s``: length of the half load;
    ``connections``: one viewer per connection."""

    world: WorldSize = WorldSize()
    connections: int = 2000
    step_s: float = 3.0
    half_s: float = 10.0
    rate_max: float = 4000.0


async def run(
    bench: FeedBench | None = None, *, progress: Callable[[str], None] = lambda line: None
) -> dict[str, float]:
    """Measure; takes about two minutes, and the first time one minute more."""
    progress("an empty server")
    with tempfile.TemporaryDirectory() as folder:
        figures: dict[str, float] = {"resident_mb_empty": await resident_mb_empty(Path(folder))}
    return figures | await measure(bench or FeedBench(), progress)


async def measure(bench: FeedBench, progress: Callable[[str], None]) -> dict[str, float]:
    """Measure feeds of a world: alone, over websockets, and audited."""
    await asyncio.to_thread(compile_kernels, progress)
    async with copied_world(bench.world, progress) as world:
        config = config_in(world)
        progress("restoring the state, for feeds alone")
        viewer_ids = society_of(bench.world).viewer_ids(bench.connections)
        figures = alone(await restored(config), config, viewer_ids, progress)
        progress("starting the server")
        async with server_process(environment_in(world)) as server:
            figures |= await _beside_a_server(server, bench, viewer_ids, progress)
        progress("auditing")
        figures |= await _audit(config)
    return figures


async def resident_mb_empty(folder: Path) -> float:
    """Resident memory (MB, 10⁶ bytes) of a ready server with default capacities and no data."""
    async with server_process(environment_in(folder)) as server:
        await asyncio.sleep(1.0)  # a server finishes its start after it is ready
        return resident_mb(server.pid)


def alone(
    state: EngineState, config: Config, viewer_ids: Sequence[int], progress: Callable[[str], None]
) -> dict[str, float]:
    """``execute`` on this thread, without other load: CPU per feed, and the kernels' share."""
    progress("feeds alone")
    pipeline = build_products(state, config.home_mixer, feed_hash(config))[Product.FOR_YOU]
    scratch = Scratch()

    def feed(number: int) -> int:
        request = Request(
            viewer_id=viewer_ids[number % len(viewer_ids)], request_id=number + 1, time_ms=state.clock_ms, seed=number
        )
        return len(
            execute(pipeline, request, scratch=scratch, reading=nullcontext(state.version), watcher=Unwatched()).entries
        )

    for number in range(30):
        feed(number)
    each_s = []
    for number in range(ALONE_FEEDS):
        began_s = time.thread_time()
        feed(number)
        each_s.append(time.thread_time() - began_s)
    with KernelTimes() as kernels:
        began_s = time.perf_counter()
        for number in range(ALONE_FEEDS):
            feed(number)
        took_s = time.perf_counter() - began_s
    return {
        "feed_cpu_ms_p50": round(float(np.percentile(each_s, 50)) * 1e3, 3),
        "feed_cpu_ms_p99": round(float(np.percentile(each_s, 99)) * 1e3, 3),
        "kernel_share": round(kernels.seconds / took_s, 3),
        "kernel_calls_per_feed": round(kernels.calls / ALONE_FEEDS, 1),
    }


async def _beside_a_server(
    server: ServerProcess, bench: FeedBench, viewer_ids: Sequence[int], progress: Callable[[str], None]
) -> dict[str, float]:
    address = urlsplit(server.url)
    assert address.hostname is not None
    assert address.port is not None
    progress(f"opening {bench.connections:,} connections")
    load = LoadProcess(address.hostname, address.port, viewer_ids)
    try:
        await asyncio.to_thread(load.open)
        await asyncio.to_thread(load.run, Load(RATE_FIRST, bench.step_s, 0))  # warms caches and connections
        feeds_per_s = await asyncio.to_thread(greatest_rate, load, bench, progress)
        progress(f"half load: {feeds_per_s / 2:,.0f} feeds/s")
        async with aiohttp.ClientSession() as session:
            half = await _half_load(load, bench, feeds_per_s / 2, server, session)
    finally:
        await asyncio.to_thread(load.close)
    return {"feeds_per_s": round(feeds_per_s, 1), **half}


def greatest_rate(load: LoadProcess, bench: FeedBench, progress: Callable[[str], None]) -> float:
    """The greatest good rate (feeds/s): raise it in steps to the first bad rate, then search between the last two."""
    seeds = iter(range(1, 1000))

    def good(rate: float) -> bool:
        # Two trials, because a moment's disturbance of the machine is not the server's fault.
        for _ in range(2):
            progress(f"{rate:,.0f} feeds/s")
            if is_good(load.run(Load(rate, bench.step_s, next(seeds)))):
                return True
        return False

    low = high = min(RATE_FIRST, bench.rate_max)
    if good(low):
        while low < bench.rate_max and good(high := min(low * RATE_STEP, bench.rate_max)):
            low = high
    else:
        while low > RATE_LEAST and not good(low := high / RATE_STEP):
            high = low
    while high / low > RATE_PRECISION:
        middle = (low * high) ** 0.5
        low, high = (middle, high) if good(middle) else (low, middle)
    return low


def is_good(result: LoadResult) -> bool:
    """Whether every request was answered, the slowest hundredth in time, and the client kept up."""
    if result.lost or not len(result.latency_ms) or result.late_ms_max > LATE_MS_MAX:
        return False
    return float(np.percentile(result.latency_ms, 99)) <= P99_MS_MAX


async def _half_load(
    load: LoadProcess, bench: FeedBench, rate: float, server: ServerProcess, session: aiohttp.ClientSession
) -> dict[str, float]:
    before, cpu_before_s = await _scrape(session, server.url), cpu_s(server.pid)
    results, server_cpu_ms = [], []
    for number in range(max(1, round(bench.half_s / SLICE_S))):
        began_s = cpu_s(server.pid)
        result = await asyncio.to_thread(load.run, Load(rate, SLICE_S, 10_000 + number))
        results.append(result)
        server_cpu_ms.append((cpu_s(server.pid) - began_s) / max(1, len(result.latency_ms)) * 1e3)
    await asyncio.sleep(0.5)  # records of served feeds reach the log and the state
    after, took_s = await _scrape(session, server.url), cpu_s(server.pid) - cpu_before_s
    latency_ms = np.concatenate([result.latency_ms for result in results])
    feeds = len(latency_ms)
    figures = {
        "feed_ms_p50": round(float(np.percentile(latency_ms, 50)), 2),
        "feed_ms_p99": round(float(np.percentile(latency_ms, 99)), 2),
        "feed_ms_max": round(float(latency_ms.max()), 2),
        "feed_entries_mean": round(float(np.mean([result.entries_mean for result in results])), 1),
        "feeds_lost": sum(result.lost for result in results),
        "server_cpu_ms_per_feed": round(took_s / feeds * 1e3, 3),
        "server_cpu_ms_per_feed_p50": round(float(np.percentile(server_cpu_ms, 50)), 3),
        "client_cpu_ms_per_feed": round(sum(result.cpu_s for result in results) / feeds * 1e3, 3),
        "resident_mb": resident_mb(server.pid),
    }
    figures |= _metrics_figures(before, after, feeds)
    readers_ms = figures["execute_cpu_ms_per_feed"] + figures["finish_cpu_ms_per_feed"]
    figures["beside_execute_cpu_ms_per_feed"] = round(figures["server_cpu_ms_per_feed"] - readers_ms, 3)
    return figures


def _metrics_figures(before: dict[str, float], after: dict[str, float], feeds: int) -> dict[str, float]:
    """Growth of the server's counters per feed: CPU ms of ``execute`` and of the rest, ms by stage."""
    grown = {name: value - before.get(name, 0.0) for name, value in after.items()}
    figures = {
        f"stage_ms.{name.split('=')[1]}": round(seconds / feeds * 1e3, 4)
        for name, seconds in sorted(grown.items())
        if name.startswith("stage=")
    }
    cpu_ms = {name.split("=")[1]: s / feeds * 1e3 for name, s in grown.items() if name.startswith("cpu=")}
    figures |= {f"stage_cpu_ms.{stage}": round(ms, 4) for stage, ms in sorted(cpu_ms.items())}
    figures["finish_cpu_ms_per_feed"] = round(cpu_ms.pop("finish", 0.0), 3)
    figures["execute_cpu_ms_per_feed"] = round(sum(cpu_ms.values()), 3)
    figures["served_entries_applied_per_feed"] = round(grown.get("served_events", 0.0) / feeds, 2)
    figures["gc_full_collections"] = round(grown.get("gc2", 0.0))
    figures["gc_longest_ms"] = round(after.get("gc2_longest", 0.0) * 1e3, 2)
    return figures


async def _scrape(session: aiohttp.ClientSession, url: str) -> dict[str, float]:
    async with session.get(f"{url}/metrics") as answer:
        text = await answer.text()
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            name_it = _KEYS.get(sample.name)
            key = name_it(sample.labels) if name_it is not None else None
            if key is not None:
                found[key] = found.get(key, 0.0) + sample.value
    return found


#: The server's metrics that are used, and for each the key that it gets here.
_KEYS: Final[dict[str, Callable[[dict[str, str]], str | None]]] = {
    "murmuration_feed_stage_seconds_sum": lambda labels: f"stage={labels['stage']}",
    "murmuration_feed_cpu_seconds_total": lambda labels: f"cpu={labels['stage']}",
    "murmuration_events_total": lambda labels: "served_events" if labels["topic"] == "served" else None,
    "murmuration_gc_longest_seconds": lambda labels: f"gc{labels['generation']}_longest",
    "python_gc_collections_total": lambda labels: f"gc{labels['generation']}",
}


async def _audit(config: Config) -> dict[str, float]:
    """Audit a sample of the served feeds."""
    async with running_log(config.log) as event_log:
        served = await sample_served(event_log, AUDITED_FEEDS, 1)
        with opened_store(config, writable=False) as store:
            audited = await Auditor(config, store, event_log).audit(served)
    return {
        "audited": len(audited),
        "audited_identical": sum(one.outcome is Outcome.IDENTICAL for one in audited),
    }
