"""Freshness, measured from outside: a server process, a publisher at a steady rate, viewers who read feeds, and probes.

A probe appends a tweet to the log, and a follower of the author asks for feeds until one contains the tweet. The
server's own histogram (append → readable version) is reported as well. The probes take longer, because they include
the request, the websocket and this process's scheduling.
"""

import asyncio
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from config.serving import LogConfig
from engine.batch import snowflake_id
from engine.errors import MurmurationError
from loadtest.traffic.made_up import make_traffic, to_json
from loadtest.traffic.server_process import server_process
from streams.events.open_topics import running_log
from streams.events.publish import append_all
from streams.log.interface import EventLog, NewRecord
from streams.process.histogram import LATENCY_S, quantile

STEP_S = 0.02
PROBES_PER_S = 4
PROBE_VIEWER, PROBE_AUTHOR = 11, 12


async def run(
    *,
    events_per_s: int,
    feeds_per_s: int,
    seconds: float,
    log_url: str | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> dict[str, float]:
    """Measure for ``seconds`` after a short run-up."""
    with tempfile.TemporaryDirectory() as folder:
        log = LogConfig(
            url=log_url or f"sqlite:///{Path(folder) / 'events.db'}", topic_prefix=f"bench-{time.time_ns()}-"
        )
        progress("starting the server")
        environment = {
            "MURMURATION__LOG__URL": log.url,
            "MURMURATION__LOG__TOPIC_PREFIX": log.topic_prefix,
            "MURMURATION__DURABLE__FOLDER": str(Path(folder) / "state"),
            "MURMURATION__SERVING__REQUESTS_PER_S_MAX": "10000",
        }
        async with server_process(environment) as server, running_log(log) as event_log:
            url = server.url
            await _follow(event_log)
            load = asyncio.create_task(publish_steadily(event_log, events_per_s))
            async with aiohttp.ClientSession() as session:
                progress("running up")
                await asyncio.sleep(3.0)
                before = await scrape(session, url)
                progress(f"measuring for {seconds:.0f} s")
                feeds = asyncio.create_task(_ask(session, url, feeds_per_s))
                probes = asyncio.create_task(_probe(session, url, event_log))
                await asyncio.sleep(seconds)
                for task in (feeds, probes):
                    task.cancel()
                latencies, probed = [(await asyncio.gather(t, return_exceptions=True))[0] for t in (feeds, probes)]
                after = await scrape(session, url)
            load.cancel()
            late_s = (await asyncio.gather(load, return_exceptions=True))[0]
    return _report(before, after, seconds, latencies, probed, late_s)


def _report(
    before: dict[str, Any], after: dict[str, Any], seconds: float, latencies: Any, probed: Any, late_s: Any
) -> dict[str, float]:
    for outcome in (latencies, probed, late_s):
        if isinstance(outcome, BaseException):
            raise outcome
    buckets = after["buckets"] - before["buckets"]
    feed_ms, probe_ms = np.array(latencies) * 1e3, np.array(probed) * 1e3
    return {
        "events_per_s": round((after["applied"] - before["applied"]) / seconds),
        "feeds_per_s": round(len(latencies) / seconds, 1),
        "freshness_p50_ms": round(quantile(buckets, LATENCY_S, 0.5) * 1e3, 2),
        "freshness_p99_ms": round(quantile(buckets, LATENCY_S, 0.99) * 1e3, 2),
        "probe_p50_ms": round(float(np.percentile(probe_ms, 50)), 2),
        "probe_p99_ms": round(float(np.percentile(probe_ms, 99)), 2),
        "probes": len(probed),
        "feed_p50_ms": round(float(np.percentile(feed_ms, 50)), 2),
        "feed_p99_ms": round(float(np.percentile(feed_ms, 99)), 2),
        "publisher_late_ms_max": round(late_s * 1e3, 1),
    }


async def _follow(event_log: EventLog) -> None:
    body = {
        "v": 1, "id": 1, "type": "follow", "user_id": PROBE_VIEWER, "target_id": PROBE_AUTHOR,
        "timestamp_ms": int(time.time() * 1000),
    }  # fmt: skip
    await event_log.append(
        "relationships", [NewRecord(value=json.dumps(body).encode(), key=str(PROBE_VIEWER).encode())]
    )


async def publish_steadily(event_log: EventLog, events_per_s: int, *, first_id: int = 0) -> float:
    """Append at a steady rate for ever (open loop); when cancelled, returns the longest delay of an append (s).

    ``first_id``: event ids begin there, so that a later call on the same log appends no duplicates.
    """
    steps_per_s = round(1.0 / STEP_S)
    due, late_s, second = time.monotonic(), 0.0, 0
    try:
        while True:
            second += 1
            lines = to_json(
                make_traffic(
                    events_per_s,
                    start_ms=int(time.time() * 1000),
                    span_ms=1000,
                    seed=second,
                    first_id=first_id + second * events_per_s,
                )
            )
            for step in range(steps_per_s):
                records: dict[str, list[NewRecord]] = {}
                for topic, key, value in lines[step::steps_per_s]:
                    records.setdefault(topic, []).append(NewRecord(value=value, key=key))
                await append_all(event_log, records)
                due += STEP_S
                late_s = max(late_s, time.monotonic() - due)
                await asyncio.sleep(max(0.0, due - time.monotonic()))
    except asyncio.CancelledError:
        return late_s


async def _ask(session: aiohttp.ClientSession, url: str, feeds_per_s: int) -> list[float]:
    """Ask for feeds at a steady rate (open loop); returns latencies in seconds, counted from when each was due."""
    people = np.unique(make_traffic(1000, start_ms=10**12, span_ms=1000).user_id)
    latencies: list[float] = []
    running: set[asyncio.Task[None]] = set()

    async def one(viewer: int, due: float) -> None:
        async with session.get(f"{url}/v1/users/{viewer}/feed") as answer:
            await answer.read()
            assert answer.status == 200, answer.status
        latencies.append(time.monotonic() - due)

    due, n = time.monotonic(), 0
    try:
        while True:
            task = asyncio.create_task(one(int(people[n % len(people)]), due))
            running.add(task)
            task.add_done_callback(running.discard)
            n += 1
            due += 1.0 / feeds_per_s
            await asyncio.sleep(max(0.0, due - time.monotonic()))
    except asyncio.CancelledError:
        await asyncio.gather(*running)
        return latencies


async def _probe(session: aiohttp.ClientSession, url: str, event_log: EventLog) -> list[float]:
    """Append tweets, ask for the follower's feed until each is in it; returns seconds from append to answer."""
    seen: list[float] = []
    address = url.replace("http", "ws", 1) + f"/v1/feed?viewer={PROBE_VIEWER}"
    async with session.ws_connect(address, protocols=("murmuration.v1.json",)) as ws:
        await ws.receive()
        n = 0
        try:
            while True:
                n += 1
                now_ms = int(time.time() * 1000)
                tweet = snowflake_id(now_ms, n)
                body = {
                    "v": 1, "id": 2**40 + n, "type": "create", "tweet_id": tweet, "author_id": PROBE_AUTHOR,
                    "timestamp_ms": now_ms, "text": f"probe {n}",
                }  # fmt: skip
                started = time.monotonic()
                record = NewRecord(value=json.dumps(body).encode(), key=str(PROBE_AUTHOR).encode())
                await event_log.append("tweets", [record])
                while not await _shows(ws, tweet):  # noqa: ASYNC110  (the asking is measured)
                    await asyncio.sleep(0.002)
                seen.append(time.monotonic() - started)
                await asyncio.sleep(1.0 / PROBES_PER_S)
        except asyncio.CancelledError:
            return seen


async def _shows(ws: aiohttp.ClientWebSocketResponse, tweet: int) -> bool:
    await ws.send_str('{"type":"feed","product":"following","limit":1}')
    while True:
        frame = json.loads((await ws.receive()).data)
        if frame["type"] == "feed":
            return bool(frame["entries"]) and frame["entries"][0]["tweet_id"] == str(tweet)
        if frame["type"] == "error":
            raise MurmurationError(f"the server answered {frame['error']}: {frame['message']}")


async def scrape(session: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    """From ``/metrics``: events applied, and how many were fresh within each of ``LATENCY_S`` (int64)."""
    async with session.get(f"{url}/metrics") as answer:
        text = await answer.text()
    applied, cumulative = 0.0, []
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "murmuration_events_total" and sample.labels["result"] == "applied":
                applied += sample.value
            if sample.name == "murmuration_append_freshness_seconds_bucket":
                cumulative.append(sample.value)
    return {"applied": applied, "buckets": np.diff([0.0, *cumulative]).astype(np.int64)}
