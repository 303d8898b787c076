"""Observes all lives of the process from outside: what they apply, and which versions they may lose."""

from config.schema import Config, with_rooms_settings
from loadtest.simulation.chance import Chance
from loadtest.simulation.lineage import Change, CheckError, Lineage
from loadtest.simulation.settings import LATE_ROOMS
from streams.durable.journal import Entry
from streams.durable.store import Began, HistoryInfo, Store
from streams.live.applier import Applier
from streams.ordering.pieces import Piece


class Witness:
    """Follows the states of all lives and the pieces they apply (``lineage``), and which versions they may lose."""

    def __init__(self, config: Config, chance: Chance) -> None:
        self.lineage = Lineage(config)
        #: The configurations of all lives, in order.
        self.configs = [config]
        #: Since the last recovery, a life was told to pass over records that the log has lost. Such a life begins at a
        #: snapshot, and the versions after the snapshot are taken back.
        self.gap_accepted = False
        #: How often the rooms' configuration changed.
        self.changes = 0
        self._history = ""
        #: Whether the current history continues another one, as far as lives were seen.
        self.continued = False
        #: Whether files were ever lost; whether since the last recovery, and whether it was the whole folder. A life
        #: may then begin at an earlier version, or anew.
        self.ever_lost_files = self.lost_files = False
        self._lost_folder = False
        #: Files were lost since the last life that replayed its journal to the end: a start may refuse the folder.
        self.struck = False
        self._replayed_to = 0
        #: The newest snapshot that was left when files were lost: no life may begin before it.
        self.kept_version = 0
        self._told_until = 0
        #: Versions that power cuts and gaps took back, with their observations.
        self.lost: list[Lineage] = []
        #: No later start may be at an earlier version than this, not even after a power cut.
        self.synced_version = 0
        #: Whether the power has stayed on since the last version was written; then the journal has lost nothing.
        self.powered = True
        self._sync_always = config.durable.journal_sync == "always"
        self._chance = chance

    def lose(self, *, folder: bool = False) -> None:
        """Note that files are lost, or the whole folder."""
        self.ever_lost_files = self.lost_files = self.struck = True
        self._lost_folder |= folder

    def began(self, applier: Applier, store: Store) -> int:
        """Note that a life has recovered from this folder; returns the version up to which it will replay.

        Raises:
            CheckError: the life has lost versions that it had to keep.
        """
        state, journal = applier.state, applier.journal
        assert journal is not None
        gap_accepted, self.gap_accepted = self.gap_accepted, False
        version, gaps = journal.version, journal.state.gaps
        self._replayed_to = version
        self._chance.note(f"version {state.version} is back, the journal is at {version} of {self.lineage.version}")
        safe = self.lineage.version if self.powered else self.synced_version
        lost_files, self.lost_files = self.lost_files, False
        if lost_files:
            safe = min(safe, self.kept_version)
        if version < safe and not gap_accepted:
            raise CheckError(f"the journal is at version {version}, but {safe} was safe")
        if gap_accepted or lost_files or not self.powered:
            self.synced_version = version
        self.powered = True
        lost = self.lineage.take_back(version, gaps)
        if lost_files:
            self._check_anew(store, version)
        self._lost_folder, self._told_until = False, len(self._chance.trace.lines)
        self._note_changes(store)
        if not version and not self.lineage.marks:
            self.lineage.start = journal.positions_at(0)
        elif not version and not self.lineage.start:
            # No life was seen before the gap or the change: the first history began where the log began at that time.
            self.lineage.start = _first(store).start_positions
        if lost is not None:
            self._chance.note(f"versions {version + 1} to {lost.version} are lost, there are gaps {gaps}")
            self.lost.append(lost)
        if not self.lineage.gaps:
            self.lineage.saw_state(state.version, state.digest(), "what was recovered")
        return version

    def _check_anew(self, store: Store, version: int) -> None:
        """Where files were lost, the current history may be one that continues none of those seen: then it begins with
        the log, and somebody was told.

        Raises:
            CheckError: it does not, or nobody was.
        """
        info = store.followed
        while info is not None and info.id != self._history:
            info = store.history(info.began.history) if info.began is not None else None
        if info is not None or not self._history:
            return
        if version:
            raise CheckError(f"version {version} of another history is gone on with")
        told = any("log: error" in line for line in self._chance.trace.lines[self._told_until :])
        if not told and not self._lost_folder:
            raise CheckError("a history begins anew, and nobody is told")
        self._chance.note("a history begins anew")
        self._history = ""
        self.lineage.restart(_first(store).start_positions)

    def _note_changes(self, store: Store) -> None:
        """Follow the histories from the previously current one to the current one."""
        info, new = store.followed, []
        while info is not None and info.id != self._history:
            new.append(info)
            info = store.history(info.began.history) if info.began is not None else None
        for info in reversed(new):
            config = with_rooms_settings(self.configs[0], info.settings)
            if info.began is None:
                self.lineage.config = config
            else:
                if unexpected := set(info.began.since) - LATE_ROOMS:
                    raise CheckError(f"{sorted(unexpected)} begin late, though they could go on")
                self._catch_up(store, info.began)
                self._chance.note(f"the rooms change after version {info.began.version}: {info.began.rooms}")
                self.lineage.changed(Change(info.began.version, config, info.began))
                self.changes += 1
            self._history, self.continued = info.id, info.began is not None

    def _catch_up(self, store: Store, began: Began) -> None:
        """Add pieces that a life wrote to the journal but died before applying; the change has applied them."""
        if began.version <= self.lineage.version:
            return
        journal = store.journal(store.history(began.history), cut=False)
        for entry in journal.entries(self.lineage.version, began.version):
            if isinstance(entry, Entry):
                self.lineage.versions.append(entry.runs)

    def applied(self, applier: Applier, piece: Piece) -> None:
        """Note that a life has applied a piece."""
        self.lineage.applied(applier.state.version, piece)
        self.struck &= self.lost_files or applier.state.version < self._replayed_to
        if self._sync_always:
            self.synced_version = max(self.synced_version, applier.state.version)

    def synced(self, name: str) -> None:
        """Note that a file was synced; if it is the journal, all versions so far are safe."""
        if self.powered and "/journal-" in name and not name.endswith(".tmp"):
            self.synced_version = max(self.synced_version, self.lineage.version)


def _first(store: Store) -> HistoryInfo:
    """The history that the current one goes back to."""
    info = store.followed
    assert info is not None
    while info.began is not None:
        info = store.history(info.began.history)
    return info
