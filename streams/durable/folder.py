"""Where a process keeps its state, and the folder opened."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from config.schema import Config
from engine.errors import ConfigError
from streams.durable.disk import RealDisk
from streams.durable.store import Store

_SQLITE = "sqlite:///"


def durable_folder(config: Config) -> Path | None:
    """The folder of ``durable.folder``; None: nothing is kept.

    ``auto`` is beside the embedded log (``var/x.db`` has ``var/x.state``); with Kafka, ``var/kafka-<hash>.state``.
    """
    folder, log = config.durable.folder, config.log
    if folder == "none":
        return None
    if folder != "auto":
        return Path(folder)
    if log.url.startswith(_SQLITE):
        return Path(log.url.removeprefix(_SQLITE).partition("?")[0]).with_suffix(".state")
    name = hashlib.sha256(f"{log.url} {log.topic_prefix}".encode()).hexdigest()[:12]
    return Path("var") / f"kafka-{name}.state"


@contextmanager
def opened_store(config: Config, *, writable: bool = True) -> Iterator[Store | None]:
    """The store of the configured folder; None where nothing is kept.

    Raises:
        FolderBusyError: another process writes there.
        ConfigError: it cannot be used.
    """
    folder = durable_folder(config)
    if folder is None:
        yield None
        return
    durable = config.durable
    try:
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
