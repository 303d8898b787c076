"""Reputation measured: the computation alone, and traffic on a server that computes without pause.

The graph is synthetic: followers and followees are drawn by power laws. First the kernels run on one core: from
nothing, and again from that model after 1 % of the follows changed. Then a server process applies the same follows from
its log, and events come in at a steady rate: first with the job switched off, then with a job due as soon as the last
one has ended.
"""

import asyncio
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import aiohttp
import numpy as np
from numpy.typing import NDArray
from prometheus_client.parser import text_string_to_metric_families

from config.jobs import ReputationJobConfig
from config.serving import LogConfig
from engine.batch import Kind, make_batch
from engine.profiles.state import ProfileRoom, ProfilesConfig
from engine.reputation.compute import Computed, compute, warm
from engine.reputation.model import Reputations, decode
from engine.social_graph.state import SocialGraph, SocialGraphConfig
from loadtest.benches.freshness import publish_steadily, scrape
from loadtest.traffic.server_process import ServerProcess
from streams.events.open_topics import running_log
from streams.events.packed import make_rows, pack
from streams.log.interface import EventLog, Format, NewRecord
from streams.process.histogram import LATENCY_S, quantile

Progress = Callable[[str], None]
Ids = NDArray[np.uint64]

#: The share of the follows that is replaced before the model is computed again.
CHANGED: Final = 0.01
REPEATS: Final = 3
EVENTS_PER_S: Final = 5000
#: Event time between two computations of the server: shorter than a computation takes.
INTERVAL_S: Final = 1.0
#: How much older the server's follows are than its traffic.
AGE_MS: Final = 3_600_000
READY_TIMEOUT_S: Final = 300.0
_BATCH: Final = 1 << 17
#: Profiles of nobody: every account has the neutral facts.
_NOBODY: Final = ProfileRoom(ProfilesConfig(users_max=1))


def make_follows(follows: int, accounts: int, seed: int = 1) -> tuple[Ids, Ids]:
    """Followers and followees: uint64 ids (n,), pairs distinct and in drawn order. Few people follow many, and few are
    followed by many: density about rank^(-1/2) and rank^(-2/3)."""
    rng = np.random.default_rng(seed)
    pairs = np.empty(0, np.int64)
    while pairs.size < follows:
        count = int((follows - pairs.size) * 1.2) + 1000
        who = (accounts * rng.random(count) ** 2).astype(np.int64)
        whom = (accounts * rng.random(count) ** 3).astype(np.int64)
        pairs = np.union1d(pairs, (who * accounts + whom)[who != whom])
    pairs = rng.permutation(pairs)[:follows]

    def ids(ranks: NDArray[np.int64]) -> Ids:
        return ranks.astype(np.uint64) * np.uint64(2_654_435_761) + np.uint64(1)

    return ids(pairs // accounts), ids(pairs % accounts)


def _room_config(follows: int, accounts: int) -> SocialGraphConfig:
    users = int(accounts * 1.2) + 1000
    return SocialGraphConfig(
        users_max=users, edges_max=int(follows * 1.3) + 1000, list_entries_max=6 * follows + 16 * users
    )


def _apply(room: SocialGraph, kind: Kind, who: Ids, whom: Ids) -> None:
    for start in range(0, who.size, _BATCH):
        part = slice(start, start + _BATCH)
        kinds = np.full(who[part].size, kind, np.uint8)
        room.apply(make_batch(kind=kinds, user_id=who[part], subject_id=whom[part]))


def _timed(room: SocialGraph, last: Reputations | None) -> tuple[Computed, float]:
    """The result of the computation, and the least CPU seconds of ``REPEATS`` runs."""
    terms = ReputationJobConfig()
    best = np.inf
    for _ in range(REPEATS):
        began = time.process_time()
        computed = compute(
            room.graph,
            _NOBODY,
            last,
            clock_ms=0,
            jump=terms.jump,
            iterations_max=terms.iterations_max,
            change_max=terms.change_max,
        )
        best = min(best, time.process_time() - began)
    return computed, best


def _kernels(who: Ids, whom: Ids, accounts: int, progress: Progress) -> dict[str, float]:
    warm()
    progress(f"applying {who.size:,} follows")
    changed = int(who.size * CHANGED)
    now = who.size - changed
    room = SocialGraph(_room_config(who.size, accounts))
    _apply(room, Kind.FOLLOW, who[:now], whom[:now])
    progress("computing from nothing")
    cold, cold_s = _timed(room, None)
    _apply(room, Kind.UNFOLLOW, who[:changed], whom[:changed])
    _apply(room, Kind.FOLLOW, who[now:], whom[now:])
    progress("computing after a change")
    again, warm_s = _timed(room, decode(np.frombuffer(bytearray(cold.payload), np.uint8)))
    return {
        "follows": int(cold.evaluation["follows"]),
        "accounts": int(cold.evaluation["accounts"]),
        "model_bytes": len(cold.payload),
        "cold_cpu_s": round(cold_s, 3),
        "cold_iterations": int(cold.evaluation["iterations"]),
        "changed_follows": 2 * changed,
        "warm_cpu_s": round(warm_s, 3),
        "warm_iterations": int(again.evaluation["iterations"]),
    }


async def run(*, follows: int, accounts: int, seconds: float, progress: Progress) -> dict[str, float]:
    """Measure; ``seconds``: how long traffic is timed, without and with the job."""
    who, whom = make_follows(follows, accounts)
    figures = _kernels(who, whom, accounts, progress)
    if not seconds:
        return figures
    with tempfile.TemporaryDirectory() as folder:
        log = LogConfig(url=f"sqlite:///{Path(folder) / 'events.db'}")
        rooms = _room_config(follows, accounts)
        environment = {
            "MURMURATION__LOG__URL": log.url,
            "MURMURATION__DURABLE__FOLDER": str(Path(folder) / "state"),
            "MURMURATION__DURABLE__SNAPSHOT_INTERVAL_S": "100000",
            "MURMURATION__ROOMS__MODELS__REPUTATION_USERS_MAX": str(rooms.users_max),
            **{
                f"MURMURATION__ROOMS__SOCIAL_GRAPH__{name.upper()}": str(getattr(rooms, name))
                for name in rooms.__struct_fields__
            },
        }
        async with running_log(log) as event_log:
            progress("appending the follows")
            await _fill(event_log, who, whom)
            for way, interval_h in (("alone", 0.0), ("beside_job", INTERVAL_S / 3600)):
                progress(f"traffic {way.replace('_', ' ')}: starting the server")
                variables = environment | {"MURMURATION__JOBS__REPUTATION__INTERVAL_H": str(interval_h)}
                figures |= await _traffic(variables, event_log, way, seconds, progress)
    return figures


def _records(who: Ids, whom: Ids) -> Iterator[list[NewRecord]]:
    time_ms = int(time.time() * 1000) - AGE_MS
    for start in range(0, who.size, _BATCH):
        end = min(start + _BATCH, who.size)
        rows = make_rows(
            end - start,
            id=np.arange(start + 1, end + 1, dtype=np.uint64) + np.uint64(1 << 40),
            user_id=who[start:end],
            subject_id=whom[start:end],
            timestamp_ms=time_ms,
            kind=int(Kind.FOLLOW),
        )
        yield [NewRecord(value=value, format=Format.PACKED) for value in pack(rows, rows_max=2048)]


async def _fill(event_log: EventLog, who: Ids, whom: Ids) -> None:
    for records in _records(who, whom):
        await event_log.append("relationships", records)


async def _traffic(
    environment: dict[str, str], event_log: EventLog, way: str, seconds: float, progress: Progress
) -> dict[str, float]:
    server = await ServerProcess.spawn(environment)
    try:
        await server.until_ready(READY_TIMEOUT_S)
        load = asyncio.create_task(publish_steadily(event_log, EVENTS_PER_S, first_id=time.time_ns()))
        async with aiohttp.ClientSession() as session:
            progress(f"traffic {way.replace('_', ' ')}: running up")
            # Meanwhile the first model is computed and published.
            await asyncio.sleep(10.0)
            before, jobs_before = await scrape(session, server.url), await _jobs(session, server.url)
            progress(f"traffic {way.replace('_', ' ')}: measuring for {seconds:.0f} s")
            await asyncio.sleep(seconds)
            after, jobs = await scrape(session, server.url), await _jobs(session, server.url)
        load.cancel()
        await asyncio.gather(load, return_exceptions=True)
    finally:
        await server.end()
    buckets = after["buckets"] - before["buckets"]
    figures: dict[str, float] = {
        f"events_per_s_{way}": round((after["applied"] - before["applied"]) / seconds),
        f"apply_delay_p50_ms_{way}": round(quantile(buckets, LATENCY_S, 0.5) * 1e3, 2),
        f"apply_delay_p99_ms_{way}": round(quantile(buckets, LATENCY_S, 0.99) * 1e3, 2),
    }
    if way == "beside_job":
        figures |= {
            "jobs_done": int(jobs["commits"] - jobs_before["commits"]),
            "job_s": round(jobs["seconds"], 2),
            "fork_pause_ms": round(jobs["pause_seconds"] * 1e3, 1),
            "job_failures": int(jobs["failures"]),
        }
    return figures


async def _jobs(session: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    """The job's metrics by the last part of their names, and the number of committed models."""
    async with session.get(f"{url}/metrics") as answer:
        text = await answer.text()
    found: dict[str, Any] = {"commits": 0.0, "failures": 0.0, "seconds": 0.0, "pause_seconds": 0.0}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "murmuration_job_failures_total":
                found["failures"] += sample.value
            elif sample.name == "murmuration_room_events_total" and sample.labels == {
                "room": "models",
                "what": "commits",
            }:
                found["commits"] = sample.value
            elif sample.name.startswith("murmuration_job_"):
                found[sample.name.removeprefix("murmuration_job_")] = sample.value
    return found
