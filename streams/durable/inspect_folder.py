"""What a durable folder holds and whether it is whole. Reads every byte and writes nothing."""

from collections.abc import Mapping
from typing import Any

import msgspec
from numpy.typing import NDArray

from engine.errors import MurmurationError
from engine.models.state import Models, models_in
from streams.durable.disk import TEMPORARY
from streams.durable.journal import JournalError
from streams.durable.snapshots import SnapshotError
from streams.durable.store import Began, HistoryInfo, Store, StoreError

#: Prefix of the names of the models' arrays.
_MODELS = f"{Models.name}."


class ModelReport(msgspec.Struct, kw_only=True):
    """The current version of a model. ``committed_ms`` is the commit's event time; ``evaluation`` is the trainer's."""

    name: str
    version: int
    bytes: int
    sha256: str
    created_ms: int
    committed_ms: int
    evaluation: dict[str, float]


class SnapshotReport(msgspec.Struct, kw_only=True):
    """One snapshot and the models in it; ``problem`` says why it cannot be used."""

    version: int
    created_ms: int | None = None
    bytes: int
    models: list[ModelReport] = []
    problem: str | None = None


class JournalReport(msgspec.Struct, kw_only=True):
    """One journal. A torn tail is not a problem: a crash leaves one."""

    first_version: int
    version: int
    bytes: int
    bytes_per_version: float
    torn_bytes: int
    gaps: int
    skipped: list[int] = []
    problem: str | None = None


class HistoryReport(msgspec.Struct, kw_only=True):
    """One history, snapshots newest first. ``began``: which history it continues, and what became of each room."""

    id: str
    current: bool
    rooms_hash: str
    log: str
    created_ms: int
    began: Began | None
    journal: JournalReport | None
    snapshots: list[SnapshotReport]


class FolderReport(msgspec.Struct, kw_only=True):
    """The whole folder. ``problems`` lists all damage; ``unfinished`` lists files that are being written."""

    histories: list[HistoryReport]
    configs: list[str]
    unfinished: list[str]
    problems: list[str]


def inspect(store: Store) -> FolderReport:
    """Read everything. While an engine runs, files that it removes meanwhile may be reported as missing."""
    problems: list[str] = []
    try:
        current = store.current
    except StoreError as error:
        current = None
        problems.append(str(error))
    histories = []
    for name in store.history_ids():
        try:
            info = store.history(name)
        except StoreError as error:
            problems.append(str(error))
            continue
        histories.append(_history(store, info, current=current is not None and info.id == current.id))
    for history in histories:
        problems += [part.problem for part in (history.journal, *history.snapshots) if part and part.problem]
        if history.current and history.journal is None:
            problems.append(f"{history.id} is in force and has no journal")
    for config in store.configs():
        try:
            store.config(config)
        except StoreError as error:
            problems.append(str(error))
    return FolderReport(
        histories=sorted(histories, key=lambda history: (history.created_ms, history.id)),
        configs=store.configs(),
        unfinished=[name for name in store.disk.names() if name.endswith(TEMPORARY)],
        problems=problems,
    )


def _history(store: Store, info: HistoryInfo, *, current: bool) -> HistoryReport:
    snapshots = store.snapshots(info)
    reports = []
    for version in reversed(snapshots.versions()):
        report = SnapshotReport(version=version, bytes=snapshots.size(version))
        try:
            snapshot, arrays = snapshots.check(version, kept=_MODELS)
            report.created_ms = snapshot.created_ms
            report.models = _models(arrays)
        except SnapshotError as error:
            report.problem = str(error)
        reports.append(report)
    return HistoryReport(
        id=info.id,
        current=current,
        rooms_hash=info.rooms_hash,
        log=info.log,
        created_ms=info.created_ms,
        began=info.began,
        journal=_journal(store, info),
        snapshots=reports,
    )


def _models(arrays: Mapping[str, NDArray[Any]]) -> list[ModelReport]:
    """The current models according to the snapshot's arrays; empty if the state had no models."""
    if not arrays:
        return []
    return [
        ModelReport(
            name=model.name,
            version=model.version,
            bytes=model.size,
            sha256=model.digest.hex(),
            created_ms=model.created_ms,
            committed_ms=model.committed_ms,
            evaluation=msgspec.json.decode(model.evaluation),
        )
        for model in models_in({name.removeprefix(_MODELS): array for name, array in arrays.items()})
    ]


def _journal(store: Store, info: HistoryInfo) -> JournalReport | None:
    if not store.has_journal(info):
        return None
    try:
        journal = store.journal(info, cut=False)
    except MurmurationError as error:
        return JournalReport(
            first_version=0, version=0, bytes=0, bytes_per_version=0.0, torn_bytes=0, gaps=0, problem=str(error)
        )
    versions = journal.version - journal.first_version + 1
    report = JournalReport(
        first_version=journal.first_version,
        version=journal.version,
        bytes=journal.size_bytes,
        bytes_per_version=round(journal.size_bytes / versions, 2) if versions else 0.0,
        torn_bytes=journal.torn_bytes,
        gaps=len(journal.state.gaps),
        skipped=list(journal.skipped),
    )
    try:
        for _ in journal.entries(journal.first_version - 1):
            pass
    except JournalError as error:
        report.problem = str(error)
    return report
