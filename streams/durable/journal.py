"""The journal: which records make each state version, in order; an entry is written before its records are applied.

A history's journal is a sequence of segment files (``segment.py``), each named by the version that it begins after. A
crash can tear only what was not synced, at the end of the last segment: it is then cut back to the last whole entry
before the first tear. Damage anywhere else is an error.

Concurrency contract: one thread appends and notes; ``sync`` may be called from another; a separate reader
(``cut=False``) may read beside a running writer, and sees whole entries only.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Self

import msgspec

from streams.durable.disk import TEMPORARY, Disk, discard, write_whole
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
    SyncedNote,
    TimesNote,
    damage_after,
    decode_header,
    encode_header,
    encode_run,
    read,
    seal,
)
from streams.durable.segment_file import SegmentFile
from streams.log.interface import TopicPartition
from streams.log.record_times import Settled

__all__ = ["Entry", "Gap", "Journal", "JournalError", "JournalState", "Run"]


class Journal:
    """One history's journal, open at its end. Made by ``open``."""

    def __init__(self, disk: Disk, history: str, segment_bytes: int, *, writable: bool) -> None:
        self._disk = disk
        #: The history's id.
        self.history = history
        self._segment_bytes = segment_bytes
        self._writable = writable
        self._prefix = f"{history}/journal-"
        #: The version that each segment begins after, oldest first.
        self._bases: list[int] = []
        self._cursor = Cursor(JournalState(0, {}, {}, None, ()))
        self._file: SegmentFile | None = None
        #: Bytes after the last whole entry that ``open`` found (and cut off, if the journal is writable).
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
        """Open to append, and cut off a torn tail.

        A missing journal is created: it begins after ``version``, at ``start`` (next offsets), with the ``gaps`` that
        were passed over so far.

        With ``cut=False`` the journal never writes: for readers beside the process that writes.

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
        """The oldest version whose entry is still there (one more than ``version`` if no entry is)."""
        return self._bases[0] + 1

    @property
    def size_bytes(self) -> int:
        """Size on the disk, all segments."""
        return sum(self._disk.size(self._name(base)) for base in list(self._bases))

    # Writing

    def append(self, runs: Sequence[Run], settled: Sequence[Settled] = ()) -> int:
        """Write the next version's entry, with one write; returns the version.

        A new partition begins at its first run. ``settled``: the times taken for doubted append times of the records.

        Raises:
            ValueError: no runs, or a run that begins before its partition's position or is no range.
            OSError: the entry was not written; the journal is as before. The next append repairs the file first.
            JournalError: the journal was opened for reading.
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
        if settled or cursor.settled:  # a note of an entry that could not be written must not stand for this one
            self._write_note(TimesNote([(*known.partition, known.offset, known.time_ms) for known in settled]))
        self._write(*seal(body, cursor.crc, note=False))
        cursor.settled = ()
        cursor.positions = positions
        cursor.entry_end = cursor.offset
        cursor.version += 1
        return cursor.version

    def note_incarnation(self, number: int) -> None:
        """Note which process writes the next versions; raises as ``append`` does."""
        self._note(IncarnationNote(number))

    def note_models(self, models: Mapping[str, str]) -> None:
        """Note which models are current from the next version on; raises as ``append`` does."""
        self._note(ModelsNote(dict(models)))

    def note_gap(self, gap: Gap) -> None:
        """Note that lost records are passed over: the partition goes on at ``gap.earliest``.

        Raises:
            ValueError: the gap is not at this version, or leads backward.
        """
        position = dict(zip(self._cursor.partitions, self._cursor.positions, strict=True)).get(gap.partition, 0)
        if gap.version != self.version or gap.earliest < max(gap.position, position):
            raise ValueError(f"{gap} does not fit: version {self.version}, position {position}")
        self._note(GapNote(*gap.partition, gap.position, gap.earliest))

    def note_skip(self, version: int) -> None:
        """Note that the piece of this version is passed over from now on, whenever the version is applied.

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
            OSError: the sync failed. Nothing can be appended until the segment could be written anew; each sync and
                each append tries that first.
        """
        if (file := self._file) is not None:
            file.sync()

    def prune(self, before_version: int) -> None:
        """Remove the segments that hold only versions before this one. Callable from any thread."""
        while len(self._bases) > 1 and self._bases[1] < before_version:
            discard(self._disk, self._name(self._bases[0]))
            del self._bases[0]

    def rewind(self, version: int) -> None:
        """Cut the journal right after this version's entry; notes that follow the entry are removed too.

        Raises:
            JournalError: the journal does not hold this version.
        """
        self._require_writable()
        cursor = self._cursor_at(version)
        self._close_file()
        for base in reversed(self._on_disk()):  # newest first: a crash in between leaves a whole journal
            if base > version:
                self._disk.remove(self._name(base))
        self._bases = [base for base in self._bases if base <= version]
        name = self._name(self._bases[-1])
        self._disk.truncate(name, cursor.offset)
        self._cursor = cursor
        self._file = SegmentFile(self._disk, name, cursor.offset)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Sync and release; idempotent.

        Raises:
            OSError: the sync failed. The file is released all the same.
        """
        if self._file is None:
            return
        try:
            try:
                self.sync()
            except OSError:  # this time the segment is written anew
                self.sync()
            # The journal is whole without this note; with it, later damage is told from a torn tail.
            with contextlib.suppress(OSError):
                self._make_room()
                self.sync()
        finally:
            self._close_file()

    # Reading

    def entries(self, after: int, until: int | None = None) -> Iterator[Entry | Gap]:
        """The entries of versions ``after`` + 1 to ``until`` (None: to the end), and the gaps between them, in order.

        A gap comes before the next version's entry.

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
        """The journal's state right after the version's entry, without the notes that follow the entry.

        Raises:
            JournalError: the journal does not hold the version.
        """
        return self._cursor_at(version).state()

    def incarnations(self) -> list[tuple[int, int]]:
        """The processes that wrote this journal, in order: the version after which each began, and its number.

        If old segments were pruned, the first process may have begun before the version given. Raises as ``entries``.
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
        """Next offsets after the version; raises as ``state_at``."""
        return self.state_at(version).positions

    # Inside

    def _name(self, base: int) -> str:
        return f"{self._prefix}{base:020}"

    def _on_disk(self) -> list[int]:
        names = (name for name in self._disk.names(self._prefix) if not name.endswith(TEMPORARY))
        return [int(name.removeprefix(self._prefix)) for name in names]

    def _segment(self, base: int, following: int | None) -> tuple[Cursor, Iterator[Entry | Gap]]:
        """A cursor right after the segment's header, and the segment's entries; iterating moves the cursor.

        ``following`` is the version after which the next segment begins (None: this is the last segment, which may be
        torn).
        """
        name = self._name(base)
        try:
            data = bytes(self._disk.view(name))
        except FileNotFoundError:
            raise JournalError(f"{name} is missing") from None
        except OSError as error:
            raise JournalError(f"{name}: cannot be read ({error})") from None
        cursor = decode_header(data, name, self.history)
        if cursor.version != base:
            raise JournalError(f"{name} begins after version {cursor.version}")

        def items() -> Iterator[Entry | Gap]:
            yield from read(data, cursor, name)
            torn = cursor.offset < len(data)
            # A segment is synced before the next one gets its name, so only the last one can be torn.
            if torn and following is None and (whole := damage_after(data, cursor)) is not None:
                raise JournalError(
                    f"{name}: damaged between bytes {cursor.offset} and {whole}, after version {cursor.version}"
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
            self._file = SegmentFile(self._disk, name, self._cursor.offset)

    def _begin_segment(self, state: JournalState) -> None:
        """Go on in a new segment, whose header is on the disk before the file gets its name."""
        name = self._name(state.version)
        data = encode_header(self.history, state)
        write_whole(self._disk, name, data)
        before, self._file = self._file, SegmentFile(self._disk, name, len(data))
        if before is not None:
            before.close()
        self._cursor = decode_header(data, name, self.history)
        if state.version not in self._bases:
            self._bases.append(state.version)

    def _make_room(self) -> None:
        """Before a write: repair the file, begin a new segment when this one is full, and note what was synced."""
        self._require_writable()
        assert self._file is not None
        self._file.repair()
        cursor = self._cursor
        # Never right after a note: the new header would contain the note, but must describe the state at an entry.
        if (
            cursor.offset >= self._segment_bytes
            and cursor.entry_end == cursor.offset
            and cursor.version > self._bases[-1]
        ):
            self.sync()
            self._begin_segment(cursor.state())
        elif self._file.synced > cursor.synced:
            self._write_note(SyncedNote(self._file.synced, cursor.crc))

    def _note(self, note: Note) -> None:
        self._make_room()
        self._write_note(note)

    def _write_note(self, note: Note) -> None:
        self._write(*seal(msgspec.msgpack.encode(note), self._cursor.crc, note=True))
        self._cursor.note(note)

    def _write(self, data: bytes, crc: int) -> None:
        assert self._file is not None
        self._file.write(data)
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
    """The base of the segment that holds the version's entry or begins right after that entry."""
    return max(base for base in bases if base <= version)
