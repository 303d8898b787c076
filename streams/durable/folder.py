"""Where a process keeps its state, and how that folder is opened."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from config.schema import Config
from engine.errors import ConfigError
from streams.durable.disk import RealDisk
from streams.durable.store import Store
from streams.log.interface import LogIdentity

_SQLITE = "sqlite:///"


def durable_folder(config: Config, identity: LogIdentity | None = None) -> Path | None:
    """The folder that ``durable.folder`` means; None: nothing is kept.

    ``auto`` is beside the embedded log (``var/x.state`` for ``var/x.db``). With Kafka it is ``var/kafka-<hash>.state``:
    a hash of the cluster's ``identity``, or without an identity of the address, as older versions did.
    """
    folder, log = config.durable.folder, config.log
    if folder == "none":
        return None
    if folder != "auto":
        return Path(folder)
    if log.url.startswith(_SQLITE):
        path = Path(log.url.removeprefix(_SQLITE).partition("?")[0])
        if not path.name:
            raise ConfigError(f"log.url: {log.url!r} names no file")
        return path.with_suffix(".state")
    named_after = f"{log.url} {log.topic_prefix}" if identity is None else identity.log
    return Path("var") / f"kafka-{hashlib.sha256(named_after.encode()).hexdigest()[:12]}.state"


@contextmanager
def opened_store(
    config: Config, identity: LogIdentity | None = None, *, writable: bool = True
) -> Iterator[Store | None]:
    """The store of the configured folder (see ``durable_folder`` for ``identity``); None where nothing is kept.

    Raises:
        FolderBusyError: another process writes there.
        ConfigError: the folder cannot be used.
    """
    folder, named_before = durable_folder(config, identity), durable_folder(config)
    if folder is None or named_before is None:
        yield None
        return
    durable = config.durable
    try:
        if named_before != folder and named_before.exists() and not folder.exists():
            folder = named_before.rename(folder) if writable else named_before  # ``Store.open`` syncs the name
        store = Store.open(
            RealDisk(folder),
            segment_bytes=durable.journal_segment_bytes,
            snapshots_keep=durable.snapshots_keep,
            writable=writable,
        )
    except OSError as error:
        raise ConfigError(f"durable.folder: {folder} cannot be used: {error}") from None
    try:
        yield store
    finally:
        store.close()
