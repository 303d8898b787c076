"""The bytes of a snapshot: blocks, each with a checksum; the last block describes the snapshot (docs/durability.md).

Each block's checksum continues from the checksum before, so the last one covers everything. An array is cut into
chunks; rooms are allocated whole and mostly empty, so a chunk of one repeated word is stored as that word, and a chunk
of mostly zeros, as tables are that have few entries, as its other words and where they stand. The arrays of a room
stand together, and the last block says where: a room can be read although another room is damaged.
"""

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from zlib import crc32

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.errors import MurmurationError
from streams.durable.disk import Buffer, View
from streams.durable.segment import Gap
from streams.log.interface import TopicPartition

MAGIC = b"MURMSNAP"
FORMAT = 3
#: Formats that can be read: 2 had no sparse chunks, and is otherwise the same.
READABLE = (2, FORMAT)
CHUNK_BYTES = 1 << 20
#: Magic and format.
_HEAD = struct.Struct("<8sI")
#: Kind, codec, unused, length in the array, length as stored (bytes).
_BLOCK = struct.Struct("<BBHII")
_CRC = struct.Struct("<I")
#: Where the last block begins, and the magic again: a file without it was not finished.
_FOOT = struct.Struct("<Q8s")
_ARRAY, _CHUNK, _END = range(3)
#: How a chunk is stored: as it is; as the word that it repeats; as its words other than 0, then their places (uint32).
_RAW, _REPEATED, _SPARSE = range(3)
_WORD, _PLACE = 8, 4

Arrays = Iterable[tuple[str, NDArray[Any]]]
#: Returns the array into which an array of this name, dtype and shape is decoded.
Target = Callable[[str, np.dtype[Any], tuple[int, ...]], NDArray[Any]]


class SnapshotError(MurmurationError):
    """A snapshot that cannot be used; the message names the file and says why."""

    code = "bad_snapshot"


class SnapshotInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The description of a snapshot. The writer of the file fills in ``format``, the reader ``bytes``."""

    history: str
    version: int
    clock_ms: int
    #: Next offsets, by partition.
    positions: dict[TopicPartition, int]
    models: dict[str, str]
    incarnation: int | None
    #: A hash of layout and configuration, by room (``config.schema.room_hashes``).
    rooms: dict[str, str]
    gaps: tuple[Gap, ...] = ()
    #: By room, where its first block begins and where its last block ends; the writer of the file fills this in.
    sections: dict[str, tuple[int, int]] = {}
    format: int = FORMAT
    created_ms: int = 0
    bytes: int = 0


def encode_info(info: SnapshotInfo) -> bytes:
    """The description as JSON; positions by ``topic/partition``."""
    fields = {name: getattr(info, name) for name in info.__struct_fields__}
    return msgspec.json.encode(fields | {"positions": name_positions(info.positions)})


def decode_info(data: Buffer) -> SnapshotInfo:
    """The inverse of ``encode_info``.

    Raises:
        msgspec.ValidationError: the data has other fields.
    """
    fields = msgspec.json.decode(data, type=dict[str, Any])
    positions = parse_positions(fields.pop("positions", {}))
    return msgspec.structs.replace(msgspec.convert(fields | {"positions": {}}, SnapshotInfo), positions=positions)


def name_positions(positions: Mapping[TopicPartition, int]) -> dict[str, int]:
    """Positions by ``topic/partition``, for JSON."""
    return {f"{topic}/{partition}": position for (topic, partition), position in positions.items()}


def parse_positions(named: Mapping[str, int]) -> dict[TopicPartition, int]:
    """The inverse of ``name_positions``."""
    positions = {}
    for name, position in named.items():
        topic, _, partition = name.rpartition("/")
        positions[TopicPartition(topic, int(partition))] = position
    return positions


def write_snapshot(write: Callable[[Buffer], None], info: SnapshotInfo, arrays: Arrays) -> None:
    """Write all bytes of a snapshot through ``write``, which may raise OSError.

    Raises:
        ValueError: an array whose elements are not plain numbers.
    """
    head = _HEAD.pack(MAGIC, FORMAT)
    write(head)
    writer = _Writer(write, crc32(head), len(head))
    sections: dict[str, tuple[int, int]] = {}
    for name, array in arrays:
        begin = sections.get(room_of(name), (writer.offset, 0))[0]
        if array.dtype.kind not in "biufc":
            raise ValueError(f"{name}: elements of type {array.dtype} cannot be kept")
        writer.block(_ARRAY, _RAW, 0, msgspec.msgpack.encode((name, array.dtype.str, array.shape)))
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        for start in range(0, data.size, CHUNK_BYTES):
            chunk = data[start : start + CHUNK_BYTES]
            codec, payload = _encoded(chunk)
            writer.block(_CHUNK, codec, chunk.size, payload)
        sections[room_of(name)] = (begin, writer.offset)
    end = writer.offset
    writer.block(_END, _RAW, 0, encode_info(msgspec.structs.replace(info, format=FORMAT, sections=sections)))
    write(_FOOT.pack(end, MAGIC))


def room_of(array: str) -> str:
    """The room that an array belongs to, by the array's qualified name."""
    return array.partition(".")[0]


class _Writer:
    def __init__(self, write: Callable[[Buffer], None], crc: int, offset: int) -> None:
        self.offset = offset
        self._write = write
        self._crc = crc

    def block(self, kind: int, codec: int, size: int, payload: Buffer) -> None:
        head = _BLOCK.pack(kind, codec, 0, size, len(payload))
        self._crc = crc32(payload, crc32(head, self._crc))
        self._write(head)
        self._write(payload)
        self._write(_CRC.pack(self._crc))
        self.offset += len(head) + len(payload) + _CRC.size


def _encoded(chunk: NDArray[np.uint8]) -> tuple[int, Buffer]:
    """The codec that takes least, and the chunk in it. Sparse chunks are stored so if that halves them."""
    if chunk.size % _WORD:
        return _RAW, chunk.data
    words = chunk.view(np.uint64)
    if words[0] == words[-1] and (words == words[0]).all():
        return _REPEATED, chunk[:_WORD].data
    if 2 * (_WORD + _PLACE) * int(np.count_nonzero(words)) > chunk.size:
        return _RAW, chunk.data
    places = np.flatnonzero(words)
    return _SPARSE, words[places].tobytes() + places.astype(np.uint32).tobytes()


def _decoded(codec: int, payload: memoryview, out: NDArray[np.uint8]) -> bool:
    """Decode a chunk into ``out``; False if the payload does not fit it."""
    if codec == _RAW:
        fits = len(payload) == out.size
        if fits:
            out.data[:] = payload
        return fits
    words = out.view(np.uint64)
    if codec == _REPEATED:
        word = np.frombuffer(payload, np.uint64)
        # Memory that was never written is all zeros, and stays without a page of its own.
        if word.any() or words.any():
            words[:] = word
        return True
    count = len(payload) // (_WORD + _PLACE)
    places = np.frombuffer(payload, np.uint32, count, _WORD * count)
    if codec != _SPARSE or (places >= words.size).any():
        return False
    if words.any():
        words[:] = 0
    words[places] = np.frombuffer(payload, np.uint64, count)
    return True


def read_info(data: View, name: str) -> SnapshotInfo:
    """The description of the snapshot, from the end of the file; the arrays are not read.

    Raises:
        SnapshotError: the file is not finished, of another format, or damaged at its end.
    """
    check_head(data, name)
    if len(data) < _HEAD.size + _FOOT.size:
        raise SnapshotError(f"{name}: not finished")
    end, magic = _FOOT.unpack(data[len(data) - _FOOT.size :])
    if magic != MAGIC or not _HEAD.size <= end <= len(data) - _FOOT.size - _BLOCK.size - _CRC.size:
        raise SnapshotError(f"{name}: not finished")
    for kind, _, _, payload in _blocks(data, end, _crc_before(data, end), name):
        if kind == _END:
            return _info_of(payload, len(data), name)
    raise SnapshotError(f"{name}: damaged at byte {end}")


def check_head(data: View, name: str) -> None:
    """Raise SnapshotError unless this is a snapshot that this program can read."""
    if len(data) < _HEAD.size:
        raise SnapshotError(f"{name}: not finished")
    magic, form = _HEAD.unpack(data[: _HEAD.size])
    if magic != MAGIC:
        raise SnapshotError(f"{name}: not a snapshot")
    if form not in READABLE:
        raise SnapshotError(f"{name}: format {form}, this program reads formats {READABLE[0]} to {FORMAT}")


def read_snapshot(data: View, name: str, target: Target) -> SnapshotInfo:
    """Verify every checksum and decode each array into what ``target`` gives for it.

    Raises:
        SnapshotError: damaged, not finished, or of another format; the caller must discard the arrays decoded so far.
    """
    read_info(data, name)
    end = _decode(_blocks(data, _HEAD.size, crc32(data[: _HEAD.size]), name), target, name)
    return _info_of(end, len(data), name)


def read_room(data: View, name: str, info: SnapshotInfo, room: str, target: Target) -> None:
    """Verify and decode the arrays of one room alone; ``info`` is what ``read_info`` gave.

    Raises:
        SnapshotError: the room is missing or damaged; the caller must discard its arrays decoded so far.
    """
    if room not in info.sections:
        raise SnapshotError(f"{name}: has no room {room}")
    start, stop = info.sections[room]
    _decode(_blocks(data, start, _crc_before(data, start), name, stop), target, name)


def _crc_before(data: View, start: int) -> int:
    """The checksum from which the block at ``start`` continues."""
    if start == _HEAD.size:
        return crc32(data[:start])
    (crc,) = _CRC.unpack(data[start - _CRC.size : start])
    return int(crc)


def _decode(blocks: Iterator[tuple[int, int, int, memoryview]], target: Target, name: str) -> memoryview:
    """Decode arrays and their chunks to the last block or to the end; returns the last block's payload."""
    left: NDArray[np.uint8] = np.empty(0, np.uint8)
    for kind, codec, size, payload in blocks:
        if kind == _ARRAY:
            if len(left):
                break
            label, dtype, shape = msgspec.msgpack.decode(payload, type=tuple[str, str, tuple[int, ...]])
            array = target(label, np.dtype(dtype), shape)
            left = array.reshape(-1).view(np.uint8)
        elif kind == _CHUNK:
            if size > len(left) or not _decoded(codec, payload, left[:size]):
                break
            left = left[size:]
        elif len(left):
            break
        else:
            return payload
    else:
        if not len(left):
            return memoryview(b"")
    raise SnapshotError(f"{name}: its arrays and chunks do not fit each other")


def _blocks(
    data: View, offset: int, crc: int, name: str, until: int | None = None
) -> Iterator[tuple[int, int, int, memoryview]]:
    """Kind, codec, size and payload of each block from ``offset`` on: up to ``until``, or to the last block, which
    must be followed by the foot."""
    last = len(data) - _FOOT.size
    kind = _CHUNK
    while kind != _END and offset != until:
        start = offset + _BLOCK.size
        if start > last:
            raise SnapshotError(f"{name}: cut off at byte {offset}")
        head = data[offset:start]
        kind, codec, _, size, stored = _BLOCK.unpack(head)
        stop = start + stored
        if stop + _CRC.size > last:
            raise SnapshotError(f"{name}: damaged at byte {offset}")
        body = memoryview(data[start : stop + _CRC.size])
        payload = body[:stored]
        crc = crc32(payload, crc32(head, crc))
        if crc != _CRC.unpack(body[stored:])[0]:
            raise SnapshotError(f"{name}: damaged at byte {offset}")
        if kind == _END and (stop + _CRC.size != last or _FOOT.unpack(data[last:]) != (offset, MAGIC)):
            raise SnapshotError(f"{name}: damaged at its end")
        offset = stop + _CRC.size
        yield kind, codec, size, payload


def _info_of(payload: memoryview, size: int, name: str) -> SnapshotInfo:
    try:
        return msgspec.structs.replace(decode_info(payload), bytes=size)
    except (msgspec.MsgspecError, ValueError) as error:
        raise SnapshotError(f"{name}: its description cannot be read ({error})") from None
