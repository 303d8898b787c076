"""What all lives of the process together do, seen from outside: what they apply, and what they may forget."""

from config.schema import Config
from loadtest.simulation.chance import Chance
from loadtest.simulation.lineage import CheckError, Lineage
from streams.live.applier import Applier
from streams.ordering.pieces import Piece


class Witness:
    """Follows what states are and apply, over all lives (``lineage``), and what they may forget."""

    def __init__(self, config: Config, chance: Chance) -> None:
        self.lineage = Lineage()
        #: Versions that power cuts and gaps took back, with what was observed of them.
        self.lost: list[Lineage] = []
        #: Even without power, no later start may be behind this version.
        self.synced_version = 0
        #: Whether the power has stayed since the last version was written: then nothing of the journal is lost.
        self.powered = True
        self._sync_always = config.durable.journal_sync == "always"
        self._chance = chance

    def began(self, applier: Applier, *, gap_accepted: bool) -> int:
        """A life has recovered; returns the version up to which it will replay.

        ``gap_accepted``: it was told to pass over what the log has lost. That begins at a snapshot, and what was
        applied since is taken back.

        Raises:
            CheckError: it has lost what it had to keep.
        """
        state, journal = applier.state, applier.journal
        assert journal is not None
        version, gaps = journal.version, journal.state.gaps
        self._chance.note(f"version {state.version} is back, the journal is at {version} of {self.lineage.version}")
        safe = self.lineage.version if self.powered else self.synced_version
        if version < safe and not gap_accepted:
            raise CheckError(f"the journal is at version {version}, but {safe} was safe")
        if gap_accepted or not self.powered:
            self.synced_version = version
        self.powered = True
        lost = self.lineage.take_back(version, gaps)
        if not version:
            self.lineage.start = journal.positions_at(0)
        if lost is not None:
            self._chance.note(f"versions {version + 1} to {lost.version} are lost, there are gaps {gaps}")
            self.lost.append(lost)
        if not self.lineage.gaps:
            self.lineage.saw_state(state.version, state.digest(), "what was recovered")
        return version

    def applied(self, applier: Applier, piece: Piece) -> None:
        """A life has applied a piece."""
        self.lineage.applied(applier.state.version, piece)
        if self._sync_always:
            self.synced_version = max(self.synced_version, applier.state.version)

    def synced(self, name: str) -> None:
        """A file has reached the disk: with the journal, all versions so far."""
        if self.powered and "/journal-" in name and not name.endswith(".tmp"):
            self.synced_version = max(self.synced_version, self.lineage.version)
