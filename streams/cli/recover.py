"""``murmuration snapshot`` and ``murmuration recover``: their work and their output."""

import asyncio
import os
import time
from typing import Any

import orjson
import structlog
import typer

from config.schema import Config, rooms_hash
from engine.errors import ConfigError, MurmurationError
from engine.state import EngineState
from streams.durable.disk import FolderBusyError
from streams.durable.folder import durable_folder, opened_store
from streams.durable.journal import Entry, Journal, JournalError
from streams.durable.snapshots import SnapshotInfo, Snapshots
from streams.durable.store import LOCK, Store
from streams.events.open_topics import existing_log
from streams.live.compilation import compile_kernels
from streams.live.keeper import SNAPSHOT_SIGNAL
from streams.live.wiring import running_engine, wait_applied
from streams.log.interface import EventLog, TopicMadeAgainError
from streams.ordering.proposals import ORDER
from streams.recovery.replay import LogGapError, Positions, forward, name_of, restore_newest, topics_made_again

log = structlog.get_logger("murmuration.recover")

TIMEOUT_S = 120.0


async def take_snapshot(config: Config, *, json: bool) -> int:
    """Have the serving process write a snapshot; if none runs, follow the log to its end and write a snapshot here."""
    try:
        info = await _follow_and_write(config)
    except FolderBusyError:
        info = await _ask_server(config)
    _print({"version": info.version, "bytes": info.bytes, "created_ms": info.created_ms}, json=json)
    return 0


async def _follow_and_write(config: Config) -> SnapshotInfo:
    """Run an engine to the log's end, so that dead letters of applied records are in the log before the snapshot."""
    if durable_folder(config) is None:
        raise ConfigError("durable.folder: nothing is kept (none)")
    async with running_engine(config) as (engine, event_log):
        await wait_applied(engine, event_log, timeout_s=float("inf"))
        assert engine.keeper is not None
        info = await engine.keeper.snapshot(again=True)
    if info is None:
        raise MurmurationError("no snapshot was written: dead letters still wait for the log")
    return info


async def _ask_server(config: Config) -> SnapshotInfo:
    async with existing_log(config.log) as event_log:
        identity = await event_log.identity()
    with opened_store(config, identity, writable=False) as store:
        snapshots, _ = _current(config, _required(store))
        before = max((info.created_ms for info in snapshots.infos()), default=0)
        os.kill(int(bytes(_required(store).disk.view(LOCK))), SNAPSHOT_SIGNAL)
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline:
            await asyncio.sleep(0.05)
            for info in snapshots.infos():
                if info.created_ms > before:
                    return info
    raise MurmurationError(f"the serving process wrote no snapshot within {TIMEOUT_S:.0f} s; its log says why")


async def skip_piece(config: Config, version: int, *, json: bool) -> int:
    """Note in the journal that the piece of a version is passed over; the next start does so.

    Raises:
        FolderBusyError: a server runs there.
        JournalError: the journal does not hold the version.
    """
    async with existing_log(config.log) as event_log:
        identity = await event_log.identity()
    with opened_store(config, identity) as opened:
        store = _required(opened)
        snapshots, journal = _current(config, store)
        newest = max((info.version for info in snapshots.infos()), default=0)
        if version <= newest:
            raise ConfigError(f"--skip {version}: the snapshot of version {newest} has it applied already")
        journal = store.journal(store.current)
        try:
            journal.note_skip(version)
        finally:
            journal.close()
        (entry,) = (entry for entry in journal.entries(version - 1, version) if isinstance(entry, Entry))
        runs = [run for run in entry.runs if run.partition != ORDER]
    answer = {"version": version, "records": sum(run.count for run in runs)}
    _print(answer | {"skipped": [f"{name_of(run.partition)} {run.first}-{run.last}" for run in runs]}, json=json)
    return 0


async def rebuild_newest(config: Config, *, check: bool, json: bool) -> int:
    """Rebuild the journal's newest version, with ``check`` in two ways. Returns the exit code: with ``check`` 1 unless
    the two were compared and are equal."""
    async with existing_log(config.log) as event_log:
        with opened_store(config, await event_log.identity(), writable=False) as opened:
            snapshots, journal = _current(config, _required(opened))
            if again := await topics_made_again(_required(opened).current, event_log):
                raise TopicMadeAgainError(min(again), config.log.url)
            version = journal.version
            began = time.monotonic()
            state, _, base = await _rebuilt(config, snapshots, journal, event_log, version)
            answer: dict[str, Any] = {
                "version": version,
                "snapshot_version": base,
                "replayed_versions": version - base,
                "seconds": round(time.monotonic() - began, 3),
                "digest": await asyncio.to_thread(state.digest),
            }
            if check:
                answer |= await _compare(config, snapshots, journal, event_log, version, base, answer["digest"])
    _print(answer, json=json)
    return 1 if check and not answer["equal"] else 0


async def _compare(
    config: Config,
    snapshots: Snapshots,
    journal: Journal,
    event_log: EventLog,
    version: int,
    base: int,
    digest: str,
) -> dict[str, Any]:
    """Rebuild the same version from further back, an older snapshot or the whole log, and compare."""
    if not base:
        return {"equal": None, "why": "there is no snapshot: the whole log is the only way"}
    try:
        state, _, older = await _rebuilt(config, snapshots, journal, event_log, version, base_max=base - 1)
    except (LogGapError, JournalError) as error:
        return {"equal": None, "why": f"no second way: {error}"}
    return {"equal": await asyncio.to_thread(state.digest) == digest, "compared_with_version": older}


async def _rebuilt(
    config: Config,
    snapshots: Snapshots,
    journal: Journal,
    event_log: EventLog,
    version: int,
    *,
    base_max: int | None = None,
) -> tuple[EngineState, Positions, int]:
    """The state at a version, its positions, and the version of the snapshot it began with (0: none)."""
    await asyncio.to_thread(compile_kernels)
    most = version if base_max is None else base_max
    state, positions = await asyncio.to_thread(restore_newest, config, snapshots, journal, most)
    base = state.version
    await forward(state, positions, config, journal, event_log, version)
    return state, positions, base


def _current(config: Config, store: Store) -> tuple[Snapshots, Journal]:
    info = store.current
    if info is None:
        raise MurmurationError("nothing was kept there yet: murmuration serve begins it")
    if info.rooms_hash != rooms_hash(config):
        raise ConfigError(
            f"history {info.id} is of other rooms than this configuration has: give the one of the server"
        )
    return store.snapshots(info), store.journal(info, cut=False)


def _required(thing: Any) -> Any:
    if thing is None:
        raise ConfigError("durable.folder: nothing is kept (none)")
    return thing


def _print(answer: dict[str, Any], *, json: bool) -> None:
    if json:
        typer.echo(orjson.dumps(answer, option=orjson.OPT_INDENT_2).decode())
        return
    for name, value in answer.items():
        typer.echo(f"{name.replace('_', ' ')}: {value}")
