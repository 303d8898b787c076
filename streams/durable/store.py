"""The durable folder: all histories, the current one, and the configurations under which feeds were served.

Layout (docs/durability.md)::

    lock                              held by the process that writes
    current                           id of the current history
    configs/<hash>.json               configurations, so that an audit can rebuild feeds served under an older one
    <history>/history.json            description of the history
    <history>/journal-<version>       segments, by the version they begin after
    <history>/snapshot-<version>
"""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from engine.errors import MurmurationError
from streams.durable.disk import TEMPORARY, Disk, write_whole
from streams.durable.journal import Gap, Journal, JournalError
from streams.durable.snapshot_file import parse_positions
from streams.durable.snapshots import Snapshots
from streams.log.interface import TopicPartition

_T = TypeVar("_T")

FORMAT = 1
LOCK = "lock"
CURRENT = "current"
DESCRIPTION = "/history.json"


class StoreError(MurmurationError):
    """The folder's own files cannot be used; the message names the file."""

    code = "bad_store"


class LostFileError(StoreError):
    """A file of the folder is not there, though another names it."""


class FolderError(MurmurationError):
    """The disk of the durable folder refuses what a start needs, for example because it is full."""

    code = "folder_unusable"


class NoJournalError(JournalError):
    """A history without a journal: its files are gone, or it was being removed."""


class Began(msgspec.Struct, frozen=True, kw_only=True):
    """Which history and version a history continues, and what became of each room.

    ``rooms`` says for each room: ``kept`` (the same bytes), ``grown`` (the same content in larger arrays), ``rebuilt``
    (from the log, after version ``since``), ``empty``, or ``gone``.
    """

    history: str
    version: int
    rooms: dict[str, str]
    since: dict[str, int] = {}


class HistoryInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One sequence of versions under one configuration of the rooms, from an empty state or another history's end.

    ``start`` holds next offsets by ``topic/partition``, as of the version that the history begins after. ``settings``
    is the configuration on which its states depend (``config.schema.rooms_settings``), ``rooms`` each room's hash.
    """

    id: str
    rooms_hash: str
    #: Which log its records are in.
    log: str
    start: dict[str, int]
    created_ms: int
    #: The ids of the log's topics when the history began.
    topics: dict[str, str] = {}
    settings: dict[str, Any] = {}
    rooms: dict[str, str] = {}
    began: Began | None = None
    format: int = FORMAT

    @property
    def begins_after(self) -> int:
        """The version that this history begins after: 0, or where the history before it ended."""
        return 0 if self.began is None else self.began.version

    @property
    def start_positions(self) -> dict[TopicPartition, int]:
        """Next offsets at the version that this history begins after."""
        return parse_positions(self.start)


class Store:
    """The folder. One process at a time may open it to write."""

    def __init__(self, disk: Disk, *, segment_bytes: int, snapshots_keep: int, writable: bool) -> None:
        self.disk = disk
        self._segment_bytes = segment_bytes
        self._snapshots_keep = snapshots_keep
        self._writable = writable
        #: The history that this process follows; ``mend`` needs it.
        self.followed: HistoryInfo | None = None

    @classmethod
    def open(
        cls, disk: Disk, *, segment_bytes: int = 16 << 20, snapshots_keep: int = 3, writable: bool = True
    ) -> "Store":
        """Lock the folder, and remove files that a crash left unfinished; with ``writable=False`` do neither.

        Raises:
            FolderBusyError: another process uses the folder.
            OSError: the folder cannot be used.
        """
        store = cls(disk, segment_bytes=segment_bytes, snapshots_keep=snapshots_keep, writable=writable)
        if writable:
            disk.lock(LOCK)
            try:
                for name in disk.names():
                    if name.endswith(TEMPORARY):
                        disk.remove(name)
                disk.sync_names()
            except BaseException:
                disk.unlock()
                raise
        return store

    def close(self) -> None:
        """Unlock the folder; idempotent."""
        if self._writable:
            self.disk.unlock()

    @property
    def current(self) -> HistoryInfo | None:
        """The current history; None before the first.

        Raises:
            StoreError: its description cannot be read.
        """
        if CURRENT not in self.disk.names(CURRENT):
            return None
        return self.history(self._read_file(CURRENT).decode(errors="replace").strip())

    def newest(self, info: HistoryInfo) -> HistoryInfo:
        """The last of the histories that continue ``info`` and that a process has followed; ``info`` if none does.

        Only an older copy of the file ``current`` names a history that another one continues.

        Raises:
            JournalError: the journal of such a history cannot be read.
        """
        following = {}
        for name in self.history_ids():
            with contextlib.suppress(StoreError):  # ``inspect`` reports it
                other = self.history(name)
                if other.began is not None and self._was_followed(other):
                    following[other.began.history] = other
        while info.id in following:
            info = following.pop(info.id)
        return info

    def _was_followed(self, info: HistoryInfo) -> bool:
        """Whether a process has gone on in this history; else it was prepared, and a crash came before it was taken."""
        return self.has_journal(info) and self.journal(info, cut=False).state.incarnation is not None

    def begun_ids(self) -> list[str]:
        """Ids of all histories, also of those whose description is gone but that a process has followed."""
        files = [name.partition("/")[::2] for name in self.disk.names() if not name.endswith(TEMPORARY)]
        begun = {history for history, name in files if name.startswith("snapshot-")} | set(self.history_ids())
        for history in {history for history, name in files if name.startswith("journal-")} - begun:
            try:
                journal = Journal.open(self.disk, history, segment_bytes=self._segment_bytes, start={}, cut=False)
            except JournalError:  # damaged
                begun.add(history)
            else:
                begun |= {history} if journal.state.incarnation is not None else set()
        return sorted(begun)

    def history_ids(self) -> list[str]:
        """Ids of all histories."""
        return [name.removesuffix(DESCRIPTION) for name in self.disk.names() if name.endswith(DESCRIPTION)]

    def histories(self) -> list[HistoryInfo]:
        """All histories, oldest first; raises as ``history``."""
        return sorted(map(self.history, self.history_ids()), key=lambda info: (info.created_ms, info.id))

    def history(self, history: str) -> HistoryInfo:
        """The description of a history.

        Raises:
            StoreError: no history has this id, or its description cannot be read.
        """
        info = self._read_json(history + DESCRIPTION, HistoryInfo)
        if info.format != FORMAT:
            raise StoreError(f"{history}: format {info.format}, this program reads format {FORMAT} only")
        return info

    def prepare(self, info: HistoryInfo, gaps: Sequence[Gap] = ()) -> None:
        """Write the history's journal and description, without making it current. ``gaps``: of the history before."""
        self._open_journal(info, cut=True, gaps=gaps).close()
        write_whole(self.disk, info.id + DESCRIPTION, msgspec.json.format(msgspec.json.encode(info)))

    def put_in_force(self, history: str) -> None:
        """Make this the current history: from now on its journal grows."""
        write_whole(self.disk, CURRENT, history.encode())

    def mend(self) -> list[str]:
        """Write those of the folder's own files again that vanished while this process follows a history.

        Returns:
            Their names.

        Raises:
            OSError: one cannot be written.
        """
        info = self.followed
        if info is None:
            return []
        own = {info.id + DESCRIPTION: msgspec.json.format(msgspec.json.encode(info)), CURRENT: info.id.encode()}
        missing = [name for name in own if name not in self.disk.names(name)]
        for name in missing:
            write_whole(self.disk, name, own[name])
        return missing

    def journal(self, info: HistoryInfo, *, cut: bool | None = None) -> Journal:
        """The history's journal, to append to if the store is writable.

        Raises:
            JournalError: as ``Journal.open``.
            NoJournalError: the journal is missing: the same versions must not be made twice.
        """
        if not self.has_journal(info):
            raise NoJournalError(f"history {info.id} has no journal")
        return self._open_journal(info, cut=self._writable if cut is None else cut)

    def has_journal(self, info: HistoryInfo) -> bool:
        """Whether the history has a journal (a history that was being removed may have none)."""
        return bool(self.disk.names(f"{info.id}/journal-"))

    def snapshots(self, info: HistoryInfo) -> Snapshots:
        """The history's snapshots."""
        base = None if info.began is None else info.begins_after
        return Snapshots(self.disk, info.id, keep=self._snapshots_keep, base=base)

    def save_config(self, config_hash: str, config: Mapping[str, Any]) -> None:
        """Keep a configuration (as plain values) under its hash, unless it is there already."""
        name = f"configs/{config_hash}.json"
        if name not in self.disk.names(name):
            write_whole(self.disk, name, msgspec.json.format(msgspec.json.encode(config)))

    def config(self, config_hash: str) -> dict[str, Any]:
        """The configuration of this hash.

        Raises:
            StoreError: the configuration was not kept, or cannot be read.
        """
        return self._read_json(f"configs/{config_hash}.json", dict[str, Any])

    def configs(self) -> list[str]:
        """Hashes of all configurations kept."""
        names = self.disk.names("configs/")
        return [name.removeprefix("configs/").removesuffix(".json") for name in names if name.endswith(".json")]

    def prune(self, journal: Journal, log_starts: Mapping[TopicPartition, int]) -> None:
        """Remove files from which nothing can be rebuilt any more.

        ``journal`` is the current history's; ``log_starts`` is the first offset still in the log, by partition. The
        journal before the oldest snapshot is useful only while the log still reaches back to the history's beginning.
        A history that is not current is removed once the log no longer has the records that follow its newest
        snapshot.
        """
        for name in self.history_ids():
            try:
                info = self.history(name)
            except StoreError:
                continue  # ``inspect`` reports it
            snapshots = self.snapshots(info).infos()
            if info.id == journal.history:
                if snapshots and not reaches(log_starts, info.start_positions):
                    self.snapshots(info).forget_base()
                    journal.prune(self.snapshots(info).infos()[-1].version + 1)
            elif not reaches(log_starts, snapshots[0].positions if snapshots else info.start_positions):
                self.remove(info.id)

    def remove(self, history: str) -> None:
        """Delete a history. The description goes last, so that a history half deleted by a crash is found again."""
        description = history + DESCRIPTION
        for name in self.disk.names(f"{history}/"):
            if name != description:
                self.disk.remove(name)
        self.disk.remove(description)

    def _open_journal(self, info: HistoryInfo, *, cut: bool, gaps: Sequence[Gap] = ()) -> Journal:
        return Journal.open(
            self.disk,
            info.id,
            segment_bytes=self._segment_bytes,
            start=info.start_positions,
            version=info.begins_after,
            gaps=gaps,
            cut=cut,
        )

    def _read_json(self, name: str, kind: type[_T]) -> _T:
        try:
            return msgspec.json.decode(self._read_file(name), type=kind)
        except msgspec.MsgspecError as error:
            raise StoreError(f"{name}: cannot be read ({error})") from None

    def _read_file(self, name: str) -> bytes:
        try:
            return bytes(self.disk.view(name))
        except FileNotFoundError:
            raise LostFileError(f"{name}: not there") from None
        except OSError as error:
            raise StoreError(f"{name}: cannot be read ({error})") from None


def reaches(log_starts: Mapping[TopicPartition, int], positions: Mapping[TopicPartition, int]) -> bool:
    """Whether the log still has everything from these positions on."""
    return all(log_starts.get(partition, 0) <= position for partition, position in positions.items())
