"""The world for measuring feeds: a society with a day of history in an embedded log, and the state of that log.

Making the world takes about a minute, so it is kept in a temporary folder and copied for each run. Its time stands
still (``serving.clock = "event"``): a copy made tomorrow gives the same feeds.
"""

import asyncio
import hashlib
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from config.schema import Config, rooms_hash
from config.serving import LogConfig
from engine.batch import Kind
from engine.state import EngineState
from loadtest.society.society import EventColumns, Society, SocietyConfig, encode, to_events
from loadtest.society.text import TOPICS
from loadtest.traffic.server_process import ServerProcess
from streams.audit.auditor import Replica
from streams.durable.folder import opened_store
from streams.events.open_topics import running_log
from streams.events.packed import ROW, make_rows, pack
from streams.log.interface import EventLog, Format, NewRecord

DAY_MS = 86_400_000
STEPS = 24
#: Raise this when the way of making the world changes, so that worlds kept before are not used.
FORMAT = 1


class WorldSize(NamedTuple):
    """How many people, and how many events in their last day."""

    people: int = 20_000
    events: int = 1_000_000
    seed: int = 1


def config_in(folder: Path) -> Config:
    """The configuration of a server in this folder: defaults, except the log's path and the clock of the events."""
    config = Config(log=LogConfig(url=f"sqlite:///{folder / 'events.db'}"))
    return msgspec.structs.replace(config, serving=msgspec.structs.replace(config.serving, clock="event"))


def environment_in(folder: Path) -> dict[str, str]:
    """Environment variables with the same settings, for a server process."""
    return {
        "MURMURATION__LOG__URL": f"sqlite:///{folder / 'events.db'}",
        "MURMURATION__SERVING__CLOCK": "event",
        "MURMURATION__SERVING__REQUESTS_PER_S_MAX": "10000",
        "MURMURATION__SERVING__CONNECTIONS_PER_ADDRESS_MAX": "0",
    }


def society_of(size: WorldSize) -> Society:
    """The society before its first day."""
    return Society(
        SocietyConfig(
            seed=size.seed,
            people=size.people,
            topics=len(TOPICS),
            events_per_s=size.events / (DAY_MS / 1000),
            tweets_max=max(16_384, size.events // 4),
            seen_max=max(1_048_576, 4 * size.events),
            step_ms_max=300_000,
        )
    )


@asynccontextmanager
async def copied_world(size: WorldSize, progress: Callable[[str], None]) -> AsyncIterator[Path]:
    """A folder with a copy of the world, removed after the block. If no world is kept yet, one is made first.

    Only one run at a time: a state belongs to a log by the log's path, so every copy has to be at the same path.
    """
    key = repr((FORMAT, size, rooms_hash(Config()))).encode()
    base = Path(tempfile.gettempdir()) / f"murmuration-bench-feed-{hashlib.sha256(key).hexdigest()[:16]}"
    kept, folder = base / "kept", base / "run"
    await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    try:
        if not kept.is_dir():
            folder.mkdir(parents=True)
            await _make(size, folder, progress)
            # Renamed in one step, so that a half-made world is never found.
            folder.rename(kept)
        progress("copying the world")
        await asyncio.to_thread(shutil.copytree, kept, folder)
        yield folder
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


async def _make(size: WorldSize, folder: Path, progress: Callable[[str], None]) -> None:
    progress(f"making a day of {size.people:,} people (kept for the next run)")
    society = society_of(size)
    end_ms = int(time.time() * 1000) // DAY_MS * DAY_MS
    async with running_log(config_in(folder).log) as event_log:
        # Profiles and follows only, without the bootstrap's other events.
        async with asyncio.TaskGroup() as appends:
            for events in society.found(end_ms - DAY_MS):
                for topic in {event.topic for event in events}:
                    records = [NewRecord(value=encode(e), key=e.key) for e in events if e.topic == topic]
                    appends.create_task(event_log.append(topic, records))
        for step in range(STEPS):
            progress(f"making a day of {size.people:,} people: hour {step + 1} of {STEPS}")
            from_ms = end_ms - DAY_MS + step * DAY_MS // STEPS
            columns = await asyncio.to_thread(society.tick_columns, from_ms, from_ms + DAY_MS // STEPS)
            await _append(event_log, columns)
    progress("applying it, and writing the snapshot")
    server = await ServerProcess.spawn(environment_in(folder))
    try:
        await server.until_ready()
    finally:
        await server.end()


async def _append(event_log: EventLog, columns: EventColumns) -> None:
    """Append tweets with their text as JSON, then relationships and engagements as packed records."""
    created = columns.kind == Kind.CREATE
    tweets = to_events(EventColumns(*(column[created] for column in columns)))
    await event_log.append("tweets", [NewRecord(value=encode(event), key=event.key) for event in tweets])
    related = (columns.kind >= Kind.FOLLOW) & (columns.kind < Kind.USER)
    for topic, chosen in (("relationships", related), ("engagements", columns.kind < Kind.CREATE)):
        fields = {name: getattr(columns, name)[chosen] for name in EventColumns._fields if name in (ROW.fields or ())}
        rows = make_rows(int(np.count_nonzero(chosen)), **fields)
        await event_log.append(topic, [NewRecord(value=value, format=Format.PACKED) for value in pack(rows)])


async def restored(config: Config) -> EngineState:
    """The world's newest state, in this process."""
    with opened_store(config, writable=False) as store:
        info = store.current if store is not None else None
        assert store is not None
        assert info is not None
        async with running_log(config.log) as event_log:
            replica = Replica(config, store, info, event_log)
            return await replica.at(replica.version)
