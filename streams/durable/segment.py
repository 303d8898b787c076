"""The bytes of a journal segment: a header, then entries and notes, each with a checksum (docs/durability.md).

A checksum is CRC-32 over an entry's bytes, continued from the checksum before. So each checksum also proves everything
that came before, and yet any entry can be verified from the four bytes in front of it.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple
from zlib import crc32

import msgspec

from engine.errors import MurmurationError
from streams.log.interface import TopicPartition
from streams.log.record_times import Settled

MAGIC = b"MURMJRNL"
FORMAT = 1
#: Whether new segments say that their syncs are noted in them. Segments of older versions do not say so.
NOTES_SYNCS = True
#: Magic, format, length of the header's body in bytes.
_PREFIX = struct.Struct("<8sII")
_CRC = struct.Struct("<I")

# An entry begins with the length of its body and the flag for notes; a run with its slot and flags for what follows.
_NOTE = 1
_LONGER, _SKIPS = 1, 2


class Run(NamedTuple):
    """``count`` records of one partition, offsets ``first`` to ``last`` (both included; there may be gaps)."""

    partition: TopicPartition
    first: int
    last: int
    count: int  # type: ignore[assignment] # hides tuple.count


class Entry(NamedTuple):
    """The records that one version applied: whole runs, in this order, and the times taken for doubted append times."""

    version: int
    runs: tuple[Run, ...]
    settled: tuple[Settled, ...] = ()


class Gap(NamedTuple):
    """After ``version``, offsets ``position`` to ``earliest`` - 1 were passed over: retention had deleted them."""

    version: int
    partition: TopicPartition
    position: int
    earliest: int


class JournalState(NamedTuple):
    """What a journal says at one place. ``positions`` are next offsets; ``models`` maps each model to its version."""

    version: int
    positions: dict[TopicPartition, int]
    models: dict[str, str]
    incarnation: int | None
    gaps: tuple[Gap, ...]
    #: Versions whose pieces are passed over, because they cannot be applied.
    skipped: tuple[int, ...] = ()


class JournalError(MurmurationError):
    """A journal that cannot be read or continued; the message names the file and the place."""

    code = "bad_journal"


class _Header(msgspec.Struct, array_like=True):
    history: str
    version: int
    positions: list[tuple[str, int, int]]
    models: dict[str, str]
    incarnation: int | None
    gaps: list[tuple[int, str, int, int, int]]
    skipped: list[int] = []
    #: Whether the segment notes its syncs (``SyncedNote``); older versions of this program did not.
    notes_syncs: bool = False


class PartitionNote(msgspec.Struct, array_like=True, tag="partition"):
    """A partition that the header does not list; it takes the next slot."""

    topic: str
    partition: int
    position: int


class IncarnationNote(msgspec.Struct, array_like=True, tag="incarnation"):
    """A new process began to write."""

    number: int


class ModelsNote(msgspec.Struct, array_like=True, tag="models"):
    """The models that are current from the next version on."""

    models: dict[str, str]


class GapNote(msgspec.Struct, array_like=True, tag="gap"):
    """A partition's position jumped to ``earliest``."""

    topic: str
    partition: int
    position: int
    earliest: int


class SkipNote(msgspec.Struct, array_like=True, tag="skip"):
    """The piece of an earlier version is passed over whenever that version is applied."""

    version: int


class TimesNote(msgspec.Struct, array_like=True, tag="times"):
    """The times taken for doubted append times of the next entry's records: topic, partition, offset, ms each."""

    settled: list[tuple[str, int, int, int]]


class SyncedNote(msgspec.Struct, array_like=True, tag="synced"):
    """The segment's first ``offset`` bytes have been synced: whatever is missing there was damaged, not torn.

    ``crc`` is the checksum in front of this note, so that the note can be verified where that one is damaged.
    """

    offset: int
    crc: int


Note = PartitionNote | IncarnationNote | ModelsNote | GapNote | SkipNote | TimesNote | SyncedNote
_notes: msgspec.msgpack.Decoder[Note] = msgspec.msgpack.Decoder(Note)
_headers = msgspec.msgpack.Decoder(_Header)


class Cursor:
    """A place in a segment: what was noted and applied up to ``offset``, and the checksum that ends there."""

    def __init__(self, state: JournalState) -> None:
        self.version = state.version
        self.partitions = list(state.positions)
        self.positions = list(state.positions.values())
        self.slots = {partition: slot for slot, partition in enumerate(self.partitions)}
        self.models = dict(state.models)
        self.incarnation = state.incarnation
        #: Processes that began in this segment: the version after which each began, and its number.
        self.begun: list[tuple[int, int]] = []
        self.gaps = list(state.gaps)
        self.skipped = list(state.skipped)
        self.offset = 0
        self.crc = 0
        #: Where the last version's entry ends; notes may follow it.
        self.entry_end = 0
        #: What the next entry's ``settled`` will be.
        self.settled: tuple[Settled, ...] = ()
        #: Whether the segment notes its syncs, and how many bytes were synced by the last such note.
        self.notes_syncs = False
        self.synced = 0

    def state(self) -> JournalState:
        """The journal's state at this place."""
        positions = dict(zip(self.partitions, self.positions, strict=True))
        return JournalState(
            self.version, positions, dict(self.models), self.incarnation, tuple(self.gaps), tuple(self.skipped)
        )

    def note(self, note: Note) -> Gap | None:
        """Take a note into account."""
        match note:
            case PartitionNote(topic, number, position):
                self.move(TopicPartition(topic, number), position)
            case IncarnationNote(number):
                self.incarnation = number
                self.begun.append((self.version, number))
            case ModelsNote(models):
                self.models = models
            case TimesNote(settled):
                self.settled = tuple(Settled(TopicPartition(t, n), offset, ms) for t, n, offset, ms in settled)
            case SkipNote(version):
                self.skipped.append(version)
            case SyncedNote(offset, _):
                self.notes_syncs, self.synced = True, offset
            case GapNote(topic, number, position, earliest):
                gap = Gap(self.version, TopicPartition(topic, number), position, earliest)
                self.move(gap.partition, earliest)
                self.gaps.append(gap)
                return gap
        return None

    def move(self, partition: TopicPartition, position: int) -> None:
        """Set the partition's next offset."""
        slot = self.slots.setdefault(partition, len(self.partitions))
        if slot == len(self.partitions):
            self.partitions.append(partition)
            self.positions.append(position)
        else:
            self.positions[slot] = position


def encode_header(history: str, state: JournalState) -> bytes:
    """The first bytes of a segment that goes on from ``state``."""
    header = _Header(
        history,
        state.version,
        [(*partition, position) for partition, position in state.positions.items()],
        state.models,
        state.incarnation,
        [(gap.version, *gap.partition, gap.position, gap.earliest) for gap in state.gaps],
        list(state.skipped),
        NOTES_SYNCS,
    )
    body = msgspec.msgpack.encode(header)
    data = _PREFIX.pack(MAGIC, FORMAT, len(body)) + body
    return data + _CRC.pack(crc32(data))


def decode_header(data: bytes, name: str, history: str) -> Cursor:
    """The place just after the header of the segment called ``name``.

    Raises:
        JournalError: damaged, of another format or of another history.
    """
    if len(data) < _PREFIX.size:
        raise JournalError(f"{name}: the header is cut off after {len(data)} bytes")
    magic, form, size = _PREFIX.unpack_from(data)
    if magic != MAGIC:
        raise JournalError(f"{name} is not a journal")
    if form != FORMAT:
        raise JournalError(f"{name} has format {form}, this program reads format {FORMAT} only")
    end = _PREFIX.size + size
    if len(data) < end + _CRC.size or crc32(data[:end]) != _CRC.unpack_from(data, end)[0]:
        raise JournalError(f"{name}: the header is damaged")
    header = _headers.decode(data[_PREFIX.size : end])
    if header.history != history:
        raise JournalError(f"{name} is of history {header.history}, not of {history}")
    cursor = Cursor(
        JournalState(
            header.version,
            {TopicPartition(topic, number): position for topic, number, position in header.positions},
            header.models,
            header.incarnation,
            tuple(Gap(v, TopicPartition(topic, n), lost, first) for v, topic, n, lost, first in header.gaps),
            tuple(header.skipped),
        )
    )
    cursor.offset = cursor.entry_end = cursor.synced = end + _CRC.size
    cursor.crc = _CRC.unpack_from(data, end)[0]
    cursor.notes_syncs = header.notes_syncs
    return cursor


def seal(body: bytes, crc: int, *, note: bool) -> tuple[bytes, int]:
    """A whole entry's bytes (length, ``body``, checksum), and the checksum, which continues from ``crc``."""
    data = varint(len(body) << 1 | note) + body
    crc = crc32(data, crc)
    return data + _CRC.pack(crc), crc


def encode_run(slot: int, count: int, skipped: int, longer: int) -> bytes:
    """A run's bytes: the run begins ``skipped`` after the position and spans ``longer`` offsets more than ``count``."""
    if not skipped and not longer:
        return varint(slot << 2) + varint(count)
    data = varint(slot << 2 | (_SKIPS if skipped else 0) | (_LONGER if longer else 0)) + varint(count)
    if skipped:
        data += varint(skipped)
    return data + varint(longer) if longer else data


def read(data: bytes, cursor: Cursor, name: str) -> Iterator[Entry | Gap]:
    """Entries and gaps from the cursor on; ends before the first entry that is not whole.

    The cursor moves before each yield and at the end, so that it always stands right after what was yielded.

    Raises:
        JournalError: an entry is whole, but has contents that this program never writes.
    """
    offset, crc, size = cursor.offset, cursor.crc, len(data)
    unpack, partitions, positions = _CRC.unpack_from, cursor.partitions, cursor.positions
    new_run, run = tuple.__new__, Run
    try:
        while offset < size:
            head, at = data[offset], offset + 1
            if head > 127:
                if _entry_end(data, offset) is None:
                    return
                head, at = _longer(data, at, head)
            stop = at + (head >> 1)
            if stop + 4 > size:
                return
            crc = crc32(data[offset:stop], crc)
            if crc != unpack(data, stop)[0]:
                return
            if head & _NOTE:
                gap = cursor.note(_notes.decode(data[at:stop]))
                cursor.offset = offset = stop + 4
                cursor.crc = crc
                if gap is not None:
                    yield gap
                continue
            runs = []
            while at < stop:
                tag, at = data[at], at + 1
                if tag > 127:
                    tag, at = _longer(data, at, tag)
                count, at = data[at], at + 1
                if count > 127:
                    count, at = _longer(data, at, count)
                slot = tag >> 2
                first = positions[slot]
                if tag & _SKIPS:
                    skipped, at = _varint(data, at)
                    first += skipped
                last = first + count - 1
                if tag & _LONGER:
                    longer, at = _varint(data, at)
                    last += longer
                positions[slot] = last + 1
                runs.append(new_run(run, (partitions[slot], first, last, count)))
            cursor.version += 1
            cursor.offset = cursor.entry_end = offset = stop + 4
            cursor.crc = crc
            settled, cursor.settled = cursor.settled, ()
            yield Entry(cursor.version, tuple(runs), settled)
    except (IndexError, msgspec.ValidationError) as error:
        raise JournalError(f"{name}: byte {offset}: not an entry that this program writes ({error})") from None


def damage_after(data: bytes, cursor: Cursor) -> int | None:
    """Where a whole entry begins after the bad one at the cursor, if the bad entry is damage; None: it is a torn tail.

    A power cut may leave holes in bytes that were not synced, with whole entries after them. So whole entries prove
    damage only if one of them notes that the bad entry had been synced, or if the segment does not note its syncs.
    """
    first = start = _whole_after(data, cursor.offset, cursor.crc)
    noted = cursor.notes_syncs
    while start is not None:
        stop = _entry_end(data, start)
        assert stop is not None
        head, at = _varint(data, start)
        note = _synced_note(data[at:stop]) if head & _NOTE else None
        if note is not None:
            noted = True
            if note.offset > cursor.offset:
                return first
        crc = _CRC.unpack_from(data, stop)[0]
        start = stop + 4 if _is_whole(data, stop + 4, crc) else _whole_after(data, stop + 4, crc)
    return None if noted else first


def _synced_note(body: bytes) -> SyncedNote | None:
    """The body of a note as ``SyncedNote``; None: it is another note, or none."""
    try:
        note = _notes.decode(body)
    except msgspec.MsgspecError:
        return None
    return note if isinstance(note, SyncedNote) else None


def _whole_after(data: bytes, bad: int, crc: int) -> int | None:
    """Where the next whole entry begins after the bad one at ``bad``, before which the checksum is ``crc``."""
    end = _entry_end(data, bad)
    # Perhaps only the bad entry's checksum was damaged: then the next entry continues from the computed checksum.
    if end is not None and _is_whole(data, end + 4, crc32(data[bad:end], crc)):
        return end + 4
    for start in range(bad + 1, len(data) - 4):
        if not data[start]:
            continue
        if _is_whole(data, start, _CRC.unpack_from(data, start - 4)[0]) or _vouches_for_itself(data, start):
            return start
    return None


def _vouches_for_itself(data: bytes, start: int) -> bool:
    """Whether a ``SyncedNote`` begins here that is whole by the checksum that it holds."""
    head = data[start]
    if head > 127 or not head & _NOTE:  # such a note is shorter than 64 bytes
        return False
    note = _synced_note(data[start + 1 : start + 1 + (head >> 1)])
    return note is not None and _is_whole(data, start, note.crc)


def _is_whole(data: bytes, start: int, crc: int) -> bool:
    stop = _entry_end(data, start)
    if stop is None or stop + 4 > len(data):
        return False
    return data[stop : stop + 4] == _CRC.pack(crc32(data[start:stop], crc))


def _entry_end(data: bytes, start: int) -> int | None:
    """Where the checksum of the entry at ``start`` should be."""
    try:
        head, at = _varint(data, start)
    except IndexError:
        return None
    return at + (head >> 1)


def varint(value: int) -> bytes:
    """Seven bits per byte, lowest first; the eighth bit says that more bytes follow."""
    if value < 128:
        return _ONE_BYTE[value]
    data = bytearray()
    while value > 127:
        data.append(value & 127 | 128)
        value >>= 7
    data.append(value)
    return bytes(data)


_ONE_BYTE = [bytes((value,)) for value in range(128)]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = data[at]
    return (value, at + 1) if value < 128 else _longer(data, at + 1, value)


def _longer(data: bytes, at: int, value: int) -> tuple[int, int]:
    """The value of a varint whose first byte was ``value``, and where it ends; IndexError if it does not end."""
    value &= 127
    shift = 7
    while (byte := data[at]) > 127:
        if shift > 63:
            raise IndexError("a number of more than 64 bits")
        value |= (byte & 127) << shift
        shift += 7
        at += 1
    return value | byte << shift, at + 1
