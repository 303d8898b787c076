"""``murmuration backup``: a copy of an embedded engine, running or not, from which ``serve`` can be started."""

import contextlib
import shutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import orjson
import typer

from config.schema import Config
from engine.errors import ConfigError, MurmurationError
from streams.durable.backup import Copied, copy_folder
from streams.durable.disk import RealDisk, make_folder
from streams.durable.folder import opened_store
from streams.events.open_topics import existing_log
from streams.log.interface import EventLog
from streams.log.sqlite.backup import copy_log
from streams.log.sqlite.file import parse_address
from streams.recovery.replay import describe_gap, log_starts, lost_since

_SQLITE = "sqlite:"
_UNFINISHED = ".unfinished"


class BackupError(MurmurationError):
    """No backup was made, and nothing is left of it."""

    code = "backup_failed"


async def back_up(config: Config, target: Path, *, json: bool) -> int:
    """Copy the durable folder and then the log, so that the copied log has every record that the copied state needs.

    Everything is written and verified beside the target's place, which it gets at the end, or not at all.

    Raises:
        ConfigError: the log is not embedded, or the target is not empty.
        BackupError: something cannot be read or written.
    """
    if not config.log.url.lower().startswith(_SQLITE):
        raise ConfigError(f"log.url: {config.log.url} is no embedded log; with Kafka, copy a node's durable folder")
    address = parse_address(config.log.url)
    began = time.monotonic()
    with _filling(target) as folder:
        log_path = folder / address.path.name
        async with existing_log(config.log) as event_log:
            copied = await _copy_state(config, event_log, RealDisk(log_path.with_suffix(".state")))
            log_bytes = copy_log(address, log_path)
        await _check(config, log_path, copied)
    answer = {
        "log": str(target / address.path.name),
        "log_bytes": log_bytes,
        "state_bytes": copied.bytes if copied is not None else 0,
        "version": copied.version if copied is not None else 0,
        "snapshot_version": copied.snapshot_version if copied is not None else 0,
        "seconds": round(time.monotonic() - began, 3),
    }
    if json:
        typer.echo(orjson.dumps(answer, option=orjson.OPT_INDENT_2).decode())
        return 0
    for name, value in answer.items():
        typer.echo(f"{name.replace('_', ' ')}: {value}")
    url = f"sqlite:///{target / address.path.name}"
    typer.echo(f"restore: MURMURATION__LOG__URL={url} MURMURATION__DURABLE__FOLDER=auto murmuration serve")
    return 0


@contextlib.contextmanager
def _filling(target: Path) -> Iterator[Path]:
    """A folder to fill, whose content becomes the target's when the block ends well; else it is removed.

    Raises:
        ConfigError: the target is there and not an empty folder.
        BackupError: the disk refused.
    """
    unfinished = target.with_name(target.name + _UNFINISHED)
    try:
        if target.exists() and not (target.is_dir() and not any(target.iterdir())):
            raise ConfigError(f"TARGET: {target} is there already and not an empty folder")
        if target.is_mount():  # nothing can take its place, and what is beside it is on another disk
            unfinished = target / _UNFINISHED
        shutil.rmtree(unfinished, ignore_errors=True)
        make_folder(unfinished)
    except OSError as error:
        raise ConfigError(f"TARGET: {target} cannot be made ({error.strerror})") from None
    try:
        yield unfinished
        RealDisk(unfinished).sync_names()
        if unfinished.parent == target:
            for path in sorted(unfinished.iterdir(), reverse=True):  # x.state before x.db: a state alone is refused
                path.rename(target / path.name)
            unfinished.rmdir()
        else:
            unfinished.rename(target)
        RealDisk(target).sync_names()
    except (OSError, sqlite3.Error, MurmurationError) as error:
        raise BackupError(f"{target}: {error}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


async def _copy_state(config: Config, event_log: EventLog, disk: RealDisk) -> Copied | None:
    with opened_store(config, await event_log.identity(), writable=False) as store:
        return copy_folder(store, disk) if store is not None else None


async def _check(config: Config, log_path: Path, copied: Copied | None) -> None:
    """Raise BackupError unless the copied log goes on from the copied state."""
    log = msgspec.structs.replace(config.log, url=f"sqlite:///{log_path}")
    async with existing_log(log) as event_log:
        starts = await log_starts(event_log)
    if copied is not None and (lost := lost_since(starts, copied.positions)):
        gap = describe_gap(lost, copied.positions, copied.snapshot_version)
        raise BackupError(f"retention removed records between the copies of state and log, run it again ({gap})")
