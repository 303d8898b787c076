"""Pushes at scale: how long a tweet takes to thousands of subscribers who follow its author, and what idling costs.

A real server process with a society of 20,000 people and a day of history (``feed_world``), and all subscribers as real
websockets in a second process. The load is open: tweets and other events are sent when they are due, whatever was
received of those before. A push's time begins before the event is sent to the server, and ends when the client has read
a frame with the tweet in it. A push is lost if the tweet did not come though the viewer's feed shows it; For You need
not show everybody every tweet.
"""

import asyncio
import itertools
import json
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import aiohttp
import numpy as np

from loadtest.benches.feed_world import WorldSize, copied_world, environment_in, society_of
from loadtest.benches.process_cost import cpu_s
from loadtest.traffic.push_load import PushLoad, Wait
from loadtest.traffic.server_process import ServerProcess, server_process
from streams.live.compilation import compile_kernels

#: Whom all subscribers follow; nobody of the society has this id, nor those from here on.
AUTHOR_ID: Final = 9_000_000_000
FIRST_TWEET_ID: Final = 9_100_000_000
#: What the server may take to push one tweet to all.
PATIENCE_S: Final = 60.0

#: By name of the figure: the terms of the subscriptions.
TERMS: Final = {
    "push": b'{"type":"subscribe","product":"following","pushes":"entries"}',
    "following_push": b'{"type":"subscribe","product":"following"}',
    "for_you_push": b'{"type":"subscribe","product":"for_you"}',
}


class PushBench(NamedTuple):
    """Size of the measurement. ``tweets``: per kind of subscription, one every ``pause_s``; ``idle_s``: how long
    unrelated events come, one a second."""

    world: WorldSize = WorldSize()
    subscribers: int = 5000
    tweets: int = 5
    pause_s: float = 5.0
    idle_s: float = 20.0


async def run(progress: Callable[[str], None] = lambda line: None, bench: PushBench | None = None) -> dict[str, float]:
    """Measure.

    Raises:
        MurmurationError: a process failed.
    """
    bench = bench or PushBench()
    await asyncio.to_thread(compile_kernels, progress)
    async with copied_world(bench.world, progress) as world:
        progress("starting the server")
        async with server_process(environment_in(world)) as server, aiohttp.ClientSession() as session:
            return await _measure(server, session, bench, progress)


async def _measure(
    server: ServerProcess, session: aiohttp.ClientSession, bench: PushBench, progress: Callable[[str], None]
) -> dict[str, float]:
    viewer_ids = society_of(bench.world).viewer_ids(bench.subscribers)
    events = _Events(session, server.url)
    for begin in range(0, len(viewer_ids), 1000):
        await events.send(
            [events.make("follow", user_id=viewer, target_id=AUTHOR_ID) for viewer in viewer_ids[begin : begin + 1000]]
        )
    address = urlsplit(server.url)
    assert address.hostname is not None
    assert address.port is not None
    progress(f"opening {bench.subscribers:,} connections")
    load = PushLoad(address.hostname, address.port, viewer_ids)
    figures: dict[str, float] = {}
    try:
        await asyncio.to_thread(load.open)
        for name, terms in TERMS.items():
            progress(f"{name}: subscribing")
            await asyncio.to_thread(load.subscribe, terms)
            progress(f"{name}: unrelated events, one a second")
            figures |= {f"{name}_idle_core_share": await _idle(server, events, bench.idle_s)}
            progress(f"{name}: tweets to everybody")
            product = json.loads(terms)["product"]
            found = await _push(load, events, bench, server.pid, product)
            figures |= {f"{name}_{key}": value for key, value in found.items()}
    finally:
        await asyncio.to_thread(load.close)
    return {"subscribers": bench.subscribers, "idle_core_share": figures["push_idle_core_share"]} | figures


async def _idle(server: ServerProcess, events: "_Events", idle_s: float) -> float:
    """The share of a core that the server uses while something that concerns nobody happens every second."""
    began_s, cpu_began_s = time.perf_counter(), cpu_s(server.pid)
    for number in range(round(idle_s)):
        await asyncio.sleep(max(0.0, began_s + number - time.perf_counter()))
        await events.send(
            [events.make("create", tweet_id=events.next_tweet(), author_id=AUTHOR_ID + 1, text="unrelated")]
        )
    await asyncio.sleep(max(0.0, began_s + round(idle_s) - time.perf_counter()))
    return round((cpu_s(server.pid) - cpu_began_s) / (time.perf_counter() - began_s), 3)


async def _push(load: PushLoad, events: "_Events", bench: PushBench, pid: int, product: str) -> dict[str, float]:
    """Tweets to everybody, one every ``pause_s``, and the time (s) from each one's append to each arrival."""
    due_s, latency_s, lost, missing, size, cpu = time.perf_counter() + 0.5, [], 0, 0, 0.0, 0.0
    for _ in range(bench.tweets):
        tweet_id = events.next_tweet()
        await asyncio.to_thread(load.watch, tweet_id)
        await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
        began_s, cpu_began_s = time.perf_counter(), cpu_s(pid)
        await events.send(
            [events.make("create", tweet_id=tweet_id, author_id=AUTHOR_ID, text=f"to everybody: {tweet_id}")]
        )
        received = await asyncio.to_thread(load.wait, Wait(tweet_id, PATIENCE_S))
        latency_s.append(received.at_s - began_s)
        size, cpu = received.bytes_mean, cpu + cpu_s(pid) - cpu_began_s
        missing += len(received.missing)
        lost += [await events.shows(viewer, product, tweet_id) for viewer in received.missing].count(True)
        due_s = max(due_s + bench.pause_s, time.perf_counter())
    seconds = np.concatenate([*latency_s, np.full(lost, np.inf)])
    return {
        "p50_s": round(float(np.percentile(seconds, 50, method="higher")), 3),
        "p99_s": round(float(np.percentile(seconds, 99, method="higher")), 3),
        "max_s": round(float(seconds.max()), 3),
        "lost": lost,
        "not_shown": missing - lost,
        "bytes_mean": round(size),
        "server_cpu_ms": round(cpu / (bench.tweets * bench.subscribers) * 1000, 3),
    }


class _Events:
    """Events of people whom the society does not have, sent to the server at the society's time."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url
        self._ids = itertools.count(1)
        self._tweets = itertools.count(FIRST_TWEET_ID)

    def next_tweet(self) -> int:
        """The id of a tweet that does not exist yet."""
        return next(self._tweets)

    def make(self, kind: str, **fields: Any) -> dict[str, Any]:
        """An event of now."""
        number = next(self._ids)
        return {"v": 1, "id": str(10**15 + number), "type": kind, "timestamp_ms": int(time.time() * 1000), **fields}

    async def shows(self, viewer_id: int, product: str, tweet_id: int) -> bool:
        """Whether a viewer's feed has a tweet."""
        address = f"{self._url}/v1/users/{viewer_id}/feed"
        async with self._session.get(address, params={"product": product}) as answer:
            answer.raise_for_status()
            return any(int(entry["tweet_id"]) == tweet_id for entry in (await answer.json())["entries"])

    async def send(self, events: list[dict[str, Any]]) -> None:
        """Append events through the server."""
        async with self._session.post(f"{self._url}/v1/events", json=events) as answer:
            answer.raise_for_status()
            rejected = (await answer.json())["rejected"]
            if rejected:
                raise RuntimeError(f"{rejected} of {len(events)} events were rejected")
