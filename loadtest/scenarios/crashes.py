"""Real processes killed at random moments under load, and a check that nothing was lost, doubled or wrong.

A server process gets events over HTTP and requests for feeds. SIGKILL ends it at a moment drawn from the seed (while it
starts, works, or writes snapshots), and the next process goes on. At the end, every acknowledged event must have been
applied exactly once, the state must equal the one that the whole log gives, every feed must audit as identical, and
no viewer may have been shown a tweet again after reporting it as seen.
"""

import asyncio
import contextlib
import json
import math
import os
import random
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final

import aiohttp
import msgspec
import numpy as np

from config.schema import Config
from engine.batch import snowflake_id
from engine.errors import MurmurationError
from engine.state import EngineState
from loadtest.traffic.server_process import ServerProcess, free_port
from streams.live.wiring import running_engine, wait_applied
from streams.log.interface import EventLog, Format, TopicPartition

PEOPLE: Final = 40
READERS: Final = 2
#: Seconds after which a server must not show a tweet that was reported to it as seen. The next server never may.
FRESH_S: Final = 5.0
#: Seconds from the start of the process to an early kill, and from its readiness to any other kill.
STARTING_S: Final = (0.0, 3.0)
WORKING_S: Final = (0.3, 2.0)
#: Share of early kills, which do not wait for the process to be ready.
EARLY: Final = 0.25

Disturb = Callable[[int], Awaitable[None]]


async def _nothing(kill: int) -> None:
    return


def environment_of(config: Config, port: int) -> dict[str, str]:
    """The environment variables that make ``serve`` run this configuration."""
    return {
        **_variables("MURMURATION", msgspec.to_builtins(config)),
        "MURMURATION__SERVING__PORT": str(port),
        "MURMURATION__SERVING__REQUESTS_PER_S_MAX": "10000",
    }


def _variables(prefix: str, section: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in section.items():
        name = f"{prefix}__{key.upper()}"
        if isinstance(value, dict) and value:
            found |= _variables(name, value)
        elif isinstance(value, str):
            found[name] = value
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[name] = str(value)
    return found


class _RefusedError(Exception):
    """The server refused (it is not ready, or cannot reach the log); the person comes back later."""


class Crowd:
    """People who publish events, read feeds and report what they saw; they outlive every server.

    Remembers everything that the server acknowledged: ``favorites`` by event id, ``seen`` by viewer.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._next_id = 0
        self.tweets: list[int] = []
        #: Event id → tweet.
        self.favorites: dict[int, int] = {}
        #: By viewer: tweet → when the report was acknowledged (monotonic s), or -inf if a server that is gone did it.
        self.seen: dict[int, dict[int, float]] = defaultdict(dict)
        self.acknowledged = 0
        self.feeds = 0
        self.refused = 0
        self.shown_again: list[tuple[int, int]] = []

    async def live(self, url: str) -> None:
        """Publish and read until the server is gone."""
        timeout = aiohttp.ClientTimeout(total=30)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._publish(session, url))
                    for reader in range(READERS):
                        tasks.create_task(self._read(session, url, reader))
            except* (aiohttp.ClientError, TimeoutError):
                pass  # the server is gone
        for tweets in self.seen.values():
            tweets.update(dict.fromkeys(tweets, -math.inf))

    async def _publish(self, session: aiohttp.ClientSession, url: str) -> None:
        while True:
            events = [self._event() for _ in range(20)]
            body = b"\n".join(json.dumps(event).encode() for event in events)
            async with session.post(f"{url}/v1/events", data=body) as answer:
                results = (await answer.json())["results"] if answer.status == 200 else []
            for event, result in zip(events, results, strict=False):
                if "error" in result:
                    raise MurmurationError(f"an event was refused: {result}")
                self._remember(event)
            self.refused += not results
            await asyncio.sleep(0.01)

    def _event(self) -> dict[str, Any]:
        draw, now_ms = self._random, int(time.time() * 1000)
        self._next_id += 1
        event = {"v": 1, "id": str(self._next_id), "timestamp_ms": now_ms}
        user = draw.randint(1, PEOPLE)
        if len(self.tweets) < 50 or draw.random() < 0.15:
            tweet = snowflake_id(now_ms, self._next_id)
            return event | {"type": "create", "tweet_id": str(tweet), "author_id": str(user), "text": f"number {tweet}"}
        if draw.random() < 0.1:
            return event | {"type": "follow", "user_id": str(user), "target_id": str(user % PEOPLE + 1)}
        tweet = draw.choice(self.tweets[-200:])
        return event | {"type": "favorite", "user_id": str(user), "tweet_id": str(tweet)}

    def _remember(self, event: Mapping[str, Any]) -> None:
        self.acknowledged += 1
        if event["type"] == "create":
            self.tweets.append(int(event["tweet_id"]))
        elif event["type"] == "favorite":
            self.favorites[int(event["id"])] = int(event["tweet_id"])

    async def _read(self, session: aiohttp.ClientSession, url: str, reader: int) -> None:
        draw = self._random
        while True:
            viewer = draw.randrange(reader + 1, PEOPLE + 1, READERS)
            address = f"{url.replace('http', 'ws', 1)}/v1/feed?viewer={viewer}"
            async with session.ws_connect(address, protocols=("murmuration.v1.json",)) as ws:
                hello = await ws.receive()
                if hello.type is not aiohttp.WSMsgType.TEXT:
                    raise aiohttp.ClientConnectionError
                with contextlib.suppress(_RefusedError):
                    for _ in range(draw.randint(1, 5)):
                        await self._look(ws, viewer)

    async def _look(self, ws: aiohttp.ClientWebSocketResponse, viewer: int) -> None:
        seen, asked = self.seen[viewer], time.monotonic()
        feed = await self._ask(ws, type="feed", limit=10, explain=self._random.choice(["none", "entries", "all"]))
        shown = [int(entry["tweet_id"]) for entry in feed["entries"]]
        self.feeds += 1
        self.shown_again += [(viewer, tweet) for tweet in shown if seen.get(tweet, math.inf) < asked - FRESH_S]
        few = shown[: self._random.randint(0, 3)]
        if few:
            # An answer to this request means that the report is in the log.
            await self._ask(ws, type="feed", limit=1, seen=[str(tweet) for tweet in few])
            seen.update(dict.fromkeys(few, time.monotonic()))

    async def _ask(self, ws: aiohttp.ClientWebSocketResponse, **frame: Any) -> dict[str, Any]:
        await ws.send_json(frame)
        while True:
            message = await ws.receive()
            if message.type is not aiohttp.WSMsgType.TEXT:
                raise aiohttp.ClientConnectionError
            answer: dict[str, Any] = json.loads(message.data)
            if answer["type"] == "feed":
                return answer
            if answer["type"] == "error":
                self.refused += 1
                await asyncio.sleep(0.05)
                raise _RefusedError


async def run(
    config: Config,
    *,
    kills: int,
    seed: int = 1,
    disturb: Disturb = _nothing,
    progress: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Kill the server ``kills`` times, then check. ``disturb`` is called under load with the kill's number before it.

    Returns counts and the results of the checks; ``failed`` lists all violations (empty: all is well).

    Raises:
        MurmurationError: a server did not start again.
    """
    draw, crowd, port = random.Random(seed), Crowd(seed), free_port()
    environment = environment_of(config, port)
    for kill in range(kills):
        progress(f"kill {kill + 1} of {kills}")
        server = await ServerProcess.spawn(environment, port=port)
        try:
            await _one_life(server, crowd, draw, partial(disturb, kill))
        finally:
            await server.end(signal.SIGKILL)
    progress("the last start")
    server = await ServerProcess.spawn(environment, port=port)
    try:
        await server.until_ready()
        living = asyncio.create_task(crowd.live(server.url))
        await asyncio.sleep(1.0)
    finally:
        code = await server.end()
    await living
    progress("checking")
    found = await check(config, crowd, environment)
    if code != 0:
        found["failed"].append(f"the last server ended with {code}: {server.output[-500:]}")
    return {"kills": kills, "acknowledged": crowd.acknowledged, "feeds": crowd.feeds} | found


async def _one_life(
    server: ServerProcess, crowd: Crowd, draw: random.Random, disturb: Callable[[], Awaitable[None]]
) -> None:
    if draw.random() < EARLY:
        await asyncio.sleep(draw.uniform(*STARTING_S))
        return
    await server.until_ready()
    living = asyncio.create_task(crowd.live(server.url))
    await asyncio.sleep(draw.uniform(*WORKING_S))
    await disturb()
    await server.end(signal.SIGKILL)
    await living


async def check(config: Config, crowd: Crowd, environment: Mapping[str, str]) -> dict[str, Any]:
    """Check everything that must hold when all servers are gone; the results by name."""
    failed: list[str] = []
    # This engine applies the events that were appended after the last server stopped reading.
    async with running_engine(config) as (engine, event_log):
        await wait_applied(engine, event_log, timeout_s=60)
        engine.state.check()
        failed += _applied_once(engine.state, crowd, await _favorites(event_log))
        version, digest = engine.version, engine.state.digest()
    failed += [f"viewer {viewer} was shown {tweet} again" for viewer, tweet in crowd.shown_again]
    recovered = await _command(environment, "recover", "--check", "--json")
    if recovered.get("equal") is False or recovered["digest"] != digest:
        failed.append(f"recovery does not come to the same state: {recovered}")
    audited = await _command(environment, "audit", "--sample", "1000000", "--json")
    if audited["different"] or audited["unavailable"] or not audited["identical"]:
        failed.append(f"audits: {audited}")
    return {"versions": version, "audited": audited["identical"], "recover": recovered.get("equal"), "failed": failed}


def _applied_once(state: EngineState, crowd: Crowd, written: dict[int, tuple[int, int]]) -> list[str]:
    """Check favorites: each acknowledged one is in the log, and each person there counts once in a tweet's total."""
    failed = [f"event {event} was acknowledged, and is not in the log" for event in crowd.favorites.keys() - written]
    counts = Counter(tweet for _, tweet in set(written.values()))
    tweets = np.array(crowd.tweets, np.uint64)
    slots = state.tweet_store.lookup(tweets)
    failed += [f"tweet {tweet} is not known" for tweet, slot in zip(crowd.tweets, slots, strict=True) if slot < 0]
    totals = state.tweet_store.columns(slots).totals[:, 0]
    failed += [
        f"tweet {tweet} has {total} favorites, the log {counts[tweet]} people"
        for tweet, total, slot in zip(crowd.tweets, totals.tolist(), slots, strict=True)
        if slot >= 0 and total != counts[tweet]
    ]
    return failed


async def _favorites(event_log: EventLog) -> dict[int, tuple[int, int]]:
    """Person and tweet by event id, of every favorite in the log."""
    ends = await event_log.end_offsets("engagements")
    starts = await event_log.start_offsets("engagements")
    found: dict[int, tuple[int, int]] = {}
    positions = {TopicPartition("engagements", partition): start for partition, start in starts.items()}
    async with await event_log.tail(positions) as tail:
        while any(tail.positions[TopicPartition("engagements", p)] < end for p, end in ends.items()):
            for run in await tail.poll(records_max=4000, timeout_s=1.0):
                for value, form in zip(run.values, run.formats, strict=True):
                    if form is not Format.JSON:
                        continue  # reports of seen tweets are packed
                    event = json.loads(value)
                    if event["type"] == "favorite":
                        found[int(event["id"])] = (int(event["user_id"]), int(event["tweet_id"]))
    return found


async def _command(environment: Mapping[str, str], *words: str) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "streams.cli", *words, env=os.environ | dict(environment),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    try:
        answer: dict[str, Any] = json.loads(out)
    except ValueError:
        raise MurmurationError(f"murmuration {' '.join(words)}: {err.decode()[-2000:]}") from None
    return answer
