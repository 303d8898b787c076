"""The journal: for every state version, which records were applied, in order; written before they are applied.

One history is a row of segments, files of ``segment.py``'s bytes named by the version they begin after. What a crash
can tear is the end of the last one: it is cut back to its last whole entry. Damage anywhere else is an error.

Concurrency contract: one thread appends and notes; ``sync`` may be called from another; a reader of its own
(``cut=False``) may read beside a running writer, and sees whole entries only.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from streams.durable.disk import TEMPORARY, Disk, File, write_whole
from streams.durable.segment import (
    Cursor,
    Entry,
    Gap,
    GapNote,
    IncarnationNote,
    JournalError,
    JournalState,
    ModelsNote,
    Note,
    PartitionNote,
    Run,
    SkipNote,
    decode_header,
    encode_header,
    encode_run,
    read,
    seal,
    whole_entry_after,
)
from streams.log.interface import TopicPartition

__all__ = ["Entry", "Gap", "Journal", "JournalError", "JournalState", "Run"]


class Journal:
    """One history's journal, open at its end. Made by ``open``."""

    def __init__(self, disk: Disk, history: str, segment_bytes: int, *, writable: bool) -> None:
        self._disk = disk
        self._history = history
        self._segment_bytes = segment_bytes
        self._writable = writable
        self._prefix = f"{history}/journal-"
        #: The version that each segment begins after, oldest first.
        self._bases: list[int] = []
        self._cursor = Cursor(JournalState(0, {}, {}, None, ()))
        self._file: File | None = None
        #: Held while the file is synced or another takes its place.
        self._switching = threading.Lock()
        #: An append failed: what it wrote of itself is still there.
        self._torn = False
        self._failure: str | None = None
        #: Bytes behind the last whole entry that ``open`` found (and cut off, if it writes).
        self.torn_bytes = 0

    @classmethod
    def open(
        cls,
        disk: Disk,
        history: str,
        *,
        segment_bytes: int,
        start: Mapping[TopicPartition, int],
        version: int = 0,
        gaps: Sequence[Gap] = (),
        cut: bool = True,
    ) -> "Journal":
        """Open to append; when there is none yet, after ``version`` at ``start`` (next offsets).

        ``gaps`` were passed over until then. A torn tail is cut off.

        With ``cut=False`` nothing is written, now or later: for readers beside the process that writes.

        Raises:
            JournalError: damaged before its tail, of another format or history, or missing (``cut=False``).
            OSError: the disk cannot be used.
        """
        journal = cls(disk, history, segment_bytes, writable=cut)
        journal._bases = journal._on_disk()
        if journal._bases:
            journal._go_to_end()
        elif cut:
            journal._begin_segment(JournalState(version, dict(start), {}, None, tuple(gaps)))
        else:
            raise JournalError(f"history {history} has no journal")
        return journal

    @property
    def state(self) -> JournalState:
        """Where the journal ends."""
        return self._cursor.state()

    @property
    def version(self) -> int:
        """The newest version."""
        return self._cursor.version

    @property
    def skipped(self) -> Sequence[int]:
        """Versions whose pieces are passed over."""
        return self._cursor.skipped

    @property
    def first_version(self) -> int:
        """The oldest version whose entry is still there (one more than ``version`` when there is none)."""
        return self._bases[0] + 1

    @property
    def size_bytes(self) -> int:
        """What it takes on the disk."""
        return sum(self._disk.size(self._name(base)) for base in list(self._bases))

    # Writing

    def append(self, runs: Sequence[Run]) -> int:
        """Write the next version's entry, with one write; returns the version.

        A partition that was unknown so far begins at its first run.

        Raises:
            ValueError: no runs, or one that begins before its partition's position or is no range.
            OSError: not written; the journal is as before. The next append repairs it first.
            JournalError: it cannot be repaired or synced; nothing was written.
        """
        if not runs:
            raise ValueError("a version has at least one run")
        self._make_room()
        cursor = self._cursor
        slots, positions = cursor.slots, cursor.positions.copy()
        body = b""
        for run in runs:
            partition, first, last, count = run
            slot = slots.get(partition)
            if slot is None:
                slot = len(positions)
                positions.append(first)
                self._write_note(PartitionNote(*partition, first))
            skipped, longer = first - positions[slot], last - first + 1 - count
            if skipped < 0 or longer < 0 or count < 1:
                raise ValueError(f"{run} does not fit: {partition} stands at {positions[slot]}")
            positions[slot] = last + 1
            body += encode_run(slot, count, skipped, longer)
        self._write(*seal(body, cursor.crc, note=False))
        cursor.positions = positions
        cursor.entry_end = cursor.offset
        cursor.version += 1
        return cursor.version

    def note_incarnation(self, number: int) -> None:
        """The process that writes the next versions; raises as ``append`` does."""
        self._note(IncarnationNote(number))

    def note_models(self, models: Mapping[str, str]) -> None:
        """The models in force from the next version on; raises as ``append`` does."""
        self._note(ModelsNote(dict(models)))

    def note_gap(self, gap: Gap) -> None:
        """Records that retention took are passed over: the partition goes on at ``gap.earliest``.

        Raises:
            ValueError: not at this version, or not forward.
        """
        position = dict(zip(self._cursor.partitions, self._cursor.positions, strict=True)).get(gap.partition, 0)
        if gap.version != self.version or gap.earliest < max(gap.position, position):
            raise ValueError(f"{gap} does not fit: version {self.version}, position {position}")
        self._note(GapNote(*gap.partition, gap.position, gap.earliest))

    def note_skip(self, version: int) -> None:
        """The piece of this version is passed over from now on, whenever the version is applied.

        Raises:
            JournalError: the journal does not hold the version; else as ``append`` does.
        """
        if not self.first_version <= version <= self.version:
            raise JournalError(f"{self._prefix}: holds versions {self.first_version} to {self.version}, not {version}")
        if version not in self._cursor.skipped:
            self._note(SkipNote(version))

    def sync(self) -> None:
        """Make everything appended so far survive a power loss. Callable from any thread.

        Raises:
            OSError: it failed; what is on the disk is unknown now, and further appends are refused.
        """
        with self._switching:
            if self._file is None:
                return
            try:
                self._file.sync()
            except OSError as error:
                self._failure = f"{self._name(self._bases[-1])} could not be synced ({error}): restart to recover"
                raise

    def prune(self, before_version: int) -> None:
        """Remove the segments that hold only versions before this one. Callable from any thread."""
        while len(self._bases) > 1 and self._bases[1] < before_version:
            self._disk.remove(self._name(self._bases[0]))
            del self._bases[0]

    def rewind(self, version: int) -> None:
        """Cut the journal back to just behind this version's entry; notes behind it go too.

        Raises:
            JournalError: it does not hold this version.
        """
        self._require_writable()
        cursor = self._cursor_at(version)
        with self._switching:
            self._close_file()
            for base in reversed(self._on_disk()):  # newest first: a crash between them leaves a whole journal
                if base > version:
                    self._disk.remove(self._name(base))
            self._bases = [base for base in self._bases if base <= version]
            self._disk.truncate(self._name(self._bases[-1]), cursor.offset)
            self._cursor, self._torn = cursor, False
            self._file = self._disk.open(self._name(self._bases[-1]))
            # Else a power loss could bring back what was cut off, behind what is written from now on.
            self._file.sync()

    def close(self) -> None:
        """Sync and release; idempotent."""
        if self._file is not None:
            try:
                self.sync()
            finally:
                with self._switching:
                    self._close_file()

    # Reading

    def entries(self, after: int, until: int | None = None) -> Iterator[Entry | Gap]:
        """The entries of versions ``after`` + 1 to ``until`` (the end), and the gaps between them, in order.

        A gap comes before the entry it was passed over for.

        Raises:
            JournalError: the journal begins later than ``after`` + 1, or is damaged.
        """
        if after < self._bases[0]:
            raise JournalError(f"{self._prefix}: begins at version {self.first_version}, not at {after + 1}")
        bases = list(self._bases)
        for i in range(bases.index(cursor_base(bases, after)), len(bases)):
            following = bases[i + 1] if i + 1 < len(bases) else None
            for item in self._segment(bases[i], following)[1]:
                if isinstance(item, Gap):
                    if item.version >= after:
                        if until is not None and item.version >= until:
                            return
                        yield item
                elif item.version > after:
                    if until is not None and item.version > until:
                        return
                    yield item

    def state_at(self, version: int) -> JournalState:
        """As of the version's entry, before what was noted behind it.

        Raises:
            JournalError: the journal does not hold it.
        """
        return self._cursor_at(version).state()

    def incarnations(self) -> list[tuple[int, int]]:
        """The processes that wrote: the version that each went on from, and its number, in order.

        The first may have begun earlier than it says: where the oldest segment does. Raises as ``entries``.
        """
        bases = list(self._bases)
        found: list[tuple[int, int]] = []
        for i, base in enumerate(bases):
            cursor, items = self._segment(base, bases[i + 1] if i + 1 < len(bases) else None)
            if not i and cursor.incarnation is not None:
                found.append((base, cursor.incarnation))
            for _ in items:
                pass
            found += cursor.begun
        return found

    def positions_at(self, version: int) -> dict[TopicPartition, int]:
        """Next offsets once the version was applied; raises as ``state_at``."""
        return self.state_at(version).positions

    # Inside

    def _name(self, base: int) -> str:
        return f"{self._prefix}{base:020}"

    def _on_disk(self) -> list[int]:
        names = (name for name in self._disk.names(self._prefix) if not name.endswith(TEMPORARY))
        return [int(name.removeprefix(self._prefix)) for name in names]

    def _segment(self, base: int, following: int | None) -> tuple[Cursor, Iterator[Entry | Gap]]:
        """A cursor behind the segment's header, and its entries, which move it.

        ``following`` is where the next segment goes on (None: this is the last, which may be torn).
        """
        name = self._name(base)
        try:
            data = bytes(self._disk.view(name))
        except FileNotFoundError:
            raise JournalError(f"{name} is missing") from None
        cursor = decode_header(data, name, self._history)
        if cursor.version != base:
            raise JournalError(f"{name} begins after version {cursor.version}")

        def items() -> Iterator[Entry | Gap]:
            yield from read(data, cursor, name)
            torn = cursor.offset < len(data)
            if torn and (whole := whole_entry_after(data, cursor)) is not None:
                raise JournalError(
                    f"{name}: damaged between bytes {cursor.offset} and {whole}, behind version {cursor.version}"
                )
            if following is not None and (torn or cursor.version != following):
                raise JournalError(f"{name}: ends at version {cursor.version}, and the next begins after {following}")

        return cursor, items()

    def _cursor_at(self, version: int) -> Cursor:
        if not self._bases[0] <= version <= self.version:
            raise JournalError(f"{self._prefix}: holds versions {self._bases[0]} to {self.version}, not {version}")
        cursor, items = self._segment(cursor_base(self._bases, version), None)
        while cursor.version < version:
            if next(items, None) is None:
                raise JournalError(f"{self._prefix}: ends at version {cursor.version}, before {version}")
        return cursor

    def _go_to_end(self) -> None:
        name = self._name(self._bases[-1])
        self._cursor, items = self._segment(self._bases[-1], None)
        for _ in items:
            pass
        self.torn_bytes = self._disk.size(name) - self._cursor.offset
        if self._writable:
            if self.torn_bytes:
                self._disk.truncate(name, self._cursor.offset)
            self._file = self._disk.open(name)

    def _begin_segment(self, state: JournalState) -> None:
        """Go on in a new file, whose header is on the disk before its name is."""
        name = self._name(state.version)
        data = encode_header(self._history, state)
        write_whole(self._disk, name, data)
        file = self._disk.open(name)
        with self._switching:
            self._close_file()
            self._file = file
        self._cursor = decode_header(data, name, self._history)
        if state.version not in self._bases:
            self._bases.append(state.version)

    def _make_room(self) -> None:
        """Before a write: cut off what a failed one left, and begin a new segment when this one is full."""
        self._require_writable()
        if self._failure is not None:
            raise JournalError(self._failure)
        if self._torn:
            name = self._name(self._bases[-1])
            try:
                self._disk.truncate(name, self._cursor.offset)
            except OSError as error:
                raise JournalError(f"{name}: what a failed write left cannot be cut off ({error})") from error
            self._torn = False
        cursor = self._cursor
        # Not behind a note: so the header says how things stood at the last entry, and the note is found after it.
        if (
            cursor.offset >= self._segment_bytes
            and cursor.entry_end == cursor.offset
            and cursor.version > self._bases[-1]
        ):
            self.sync()
            self._begin_segment(cursor.state())

    def _note(self, note: Note) -> None:
        self._make_room()
        self._write_note(note)

    def _write_note(self, note: Note) -> None:
        self._write(*seal(msgspec.msgpack.encode(note), self._cursor.crc, note=True))
        self._cursor.note(note)

    def _write(self, data: bytes, crc: int) -> None:
        assert self._file is not None
        try:
            self._file.write(data)
        except OSError:
            self._torn = True
            raise
        self._cursor.offset += len(data)
        self._cursor.crc = crc

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _require_writable(self) -> None:
        if not self._writable:
            raise JournalError(f"{self._prefix}: opened for reading")


def cursor_base(bases: Sequence[int], version: int) -> int:
    """Which segment holds the version's entry, or begins right after it."""
    return max(base for base in bases if base <= version)
