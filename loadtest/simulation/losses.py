"""Files of the durable folder that are lost behind the engine's back, while a process runs and between two lives.

They vanish, they lose synced bytes at their end (a disk that lies), or an older copy takes their place.
"""

import asyncio
from collections.abc import Callable

from loadtest.simulation.chance import Chance
from loadtest.simulation.faults import Rates
from loadtest.simulation.lineage import CheckError
from loadtest.simulation.memory_disk import Inode, Platter
from loadtest.simulation.witness import Witness
from streams.durable.disk import TEMPORARY
from streams.durable.segment import JournalError, decode_header
from streams.durable.store import CURRENT, DESCRIPTION


class Losses:
    """Loses files of the platter, and tells the witness what a start may do without, and what it may not.

    A process that runs writes the open segment, ``current`` and ``history.json`` again. So once they are back, and at
    the latest when the process has stopped without an error, nothing is lost.
    """

    def __init__(
        self, platter: Platter, witness: Witness, rates: Rates, chance: Chance, *, serving: Callable[[], bool]
    ) -> None:
        """``serving``: whether a process serves now."""
        self._platter, self._witness, self._rates, self._chance = platter, witness, rates, chance
        self._serving = serving
        #: What has vanished under a process, and is to be written again.
        self._owed: set[str] = set()
        #: The histories that ``current`` has named, oldest first.
        self._named: list[str] = []

    async def work(self, seconds: float) -> None:
        """Lose files at drawn times of a run."""
        for time_s in sorted(self._chance.seconds(0.0, seconds) for _ in range(self._rates.losses)):
            await asyncio.sleep(max(0.0, time_s - asyncio.get_running_loop().time()))
            self._lose([self._snapshots, self._current, self._description, self._segment, self._segment])

    def ended(self, *, well: bool) -> None:
        """A life has ended. ``well``: it has stopped, and no error was logged.

        Raises:
            CheckError: it did not write again what had vanished.
        """
        missing = sorted(self._owed - self._platter.given)
        self._owed.clear()
        if missing and well:
            raise CheckError(f"{missing} vanished under the process, which did not write it again")
        if missing:
            self._witness.lose()

    def between_lives(self) -> None:
        """Perhaps lose files while no process runs."""
        named = self._history()
        if named and named not in self._named:
            self._named.append(named)
        if self._chance.happens(self._rates.losses_between):
            self._lose([self._snapshots, self._current, self._description, self._segment, self._end])
        elif self._leads_to_a_snapshot() and self._chance.happens(self._rates.lost_ends):
            self._lose([self._end])
        elif self._chance.happens(self._rates.older_current):
            self._lose([self._older])

    def kept_version(self) -> int:
        """The version of the newest snapshot of the history that ``current`` names; 0 where there is none."""
        history = self._history()
        if history + DESCRIPTION not in self._platter.names:
            return 0
        return max((int(name[-20:]) for name in self._like(f"{history}/snapshot-")), default=0)

    def move_folder_away(self) -> None:
        """The operator's last resort, where a start refuses what the files have become."""
        self._chance.note("the operator moves the folder away")
        for name in sorted(self._platter.names):
            self._platter.change({name: None})
        self._platter.sync_names()
        self._named.clear()
        self._witness.lose(folder=True)

    def _lose(self, kinds: list[Callable[[], str]]) -> None:
        what = next((what for kind in self._chance.sample(kinds, len(kinds)) if (what := kind())), "")
        if what:
            self._chance.note(what)
        self._witness.kept_version = self.kept_version()

    def _vanish(self, names: list[str], *, owed: bool = False) -> str:
        """``owed``: a process that serves writes them again."""
        for name in names:
            self._platter.change({name: None})
        if not names:
            return ""
        self._platter.given -= set(names)
        if owed and self._serving():
            self._owed |= set(names)
        else:
            self._owed -= set(names)
            self._witness.lose()
        return f"{', '.join(names)} vanishes{' under the process' if self._serving() else ''}"

    def _snapshots(self) -> str:
        names = self._like("/snapshot-")
        return self._vanish(self._chance.sample(names, self._chance.integer(1, len(names)))) if names else ""

    def _current(self) -> str:
        return self._vanish([name for name in (CURRENT,) if name in self._platter.names], owed=True)

    def _description(self) -> str:
        history = self._history()
        return self._vanish([name for name in self._like(DESCRIPTION) if name == history + DESCRIPTION], owed=True)

    def _segment(self) -> str:
        names = self._segments()
        if not names:
            return ""
        lost = self._chance.choice([*names, names[-1]])
        return self._vanish([lost], owed=lost == names[-1])

    def _leads_to_a_snapshot(self) -> bool:
        """Whether the newest segment of the journal has the entries that led to a snapshot."""
        names = self._segments()
        return bool(names) and self.kept_version() > int(names[-1][-20:])

    def _end(self) -> str:
        """The newest segment of the journal loses a part that was synced."""
        names = self._segments()
        if not names:
            return ""
        data = bytes(self._platter.names[names[-1]].content)
        try:
            header = decode_header(data, names[-1], self._history()).offset
        except JournalError:
            header = 0
        first = header if self._chance.happens(0.8) else 0
        # Most of it: so a snapshot that it led to is left behind.
        kept = self._chance.integer(first, header + (len(data) - header) // 3)
        self._platter.change({names[-1]: Inode(data[:kept])})
        self._platter.sync_names()
        self._witness.lose()
        return f"{names[-1]} loses its end, {len(data) - kept} of {len(data)} bytes"

    def _older(self) -> str:
        """An older copy of ``current`` takes its place; it names a history that the current one continues. Nothing is
        lost by that."""
        if len(self._named) < 2 or not self._witness.continued or self._history() != self._named[-1]:
            return ""
        self._platter.change({CURRENT: Inode(self._named[-2].encode())})
        self._platter.sync_names()
        return f"an older copy of current names {self._named[-2]}"

    def _like(self, part: str) -> list[str]:
        return sorted(name for name in self._platter.names if part in name and not name.endswith(TEMPORARY))

    def _history(self) -> str:
        """The history that ``current`` names; empty if there is no such file."""
        current = self._platter.names.get(CURRENT)
        return "" if current is None else bytes(current.content).decode()

    def _segments(self) -> list[str]:
        return self._like(f"{self._history()}/journal-") if self._history() else []
