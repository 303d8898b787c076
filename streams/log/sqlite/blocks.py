"""How the SQLite log stores records: blocks, each a run of one partition's records in one blob.

One row per record would cost SQLite about 3 µs and a page cell per record. A block is one row for the whole run that
one transaction brings to one partition, and its offsets stay dense (base offset + index). Layout of a body with n
records, little-endian::

    n × u32 key sizes | n × u32 value sizes | n × u8 formats | keys, end to end | values, end to end
"""

import zlib
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from streams.log.interface import Format

#: A block ends at this many records or bytes of body, so that reading one is bounded (a single record may be larger).
BLOCK_RECORDS_MAX = 4096
BLOCK_BYTES_MAX = 1 << 20
_HEAD_BYTES = 9
_FORMATS = tuple(Format)


class Block(NamedTuple):
    """A row of table ``blocks``; ``seq`` is the log's global append order."""

    seq: int
    partition_id: int
    base_offset: int
    records: int
    append_ms: int
    crc: int
    body: bytes


class BlockError(Exception):
    """A stored block differs from what was written."""


def encode(formats: Sequence[Format], keys: Sequence[bytes], values: Sequence[bytes]) -> bytes:
    """The body of a block."""
    sizes = np.fromiter((len(part) for column in (keys, values) for part in column), "<u4", 2 * len(values))
    return b"".join((sizes.tobytes(), bytes(formats), *keys, *values))


def decode(block: Block) -> tuple[list[Format], list[bytes], list[bytes]]:
    """Formats, keys and values of a block's records.

    Raises:
        BlockError: the checksum or the sizes do not fit the body.
    """
    body, n = block.body, block.records
    if zlib.crc32(body) != block.crc or len(body) < _HEAD_BYTES * n:
        raise BlockError(f"block {block.seq} fails its checksum")
    bounds = np.empty(2 * n + 1, np.int64)
    bounds[0] = 0
    np.cumsum(np.frombuffer(body, "<u4", 2 * n), out=bounds[1:])
    bounds += _HEAD_BYTES * n
    parts = [body[a:b] for a, b in pairwise(bounds.tolist())]
    codes = body[8 * n : _HEAD_BYTES * n]
    # Almost every block has one format only: then no look-up per record.
    formats = [_FORMATS[codes[0]]] * n if codes.count(codes[0]) == n else [_FORMATS[code] for code in codes]
    return formats, parts[:n], parts[n:]


def split(keys: Sequence[bytes], values: Sequence[bytes]) -> Iterator[tuple[int, int]]:
    """Cut a run into blocks: (first, after last) of each, within the limits (a single record may exceed them)."""
    total = sum(map(len, keys)) + sum(map(len, values)) + _HEAD_BYTES * len(values)
    if total <= BLOCK_BYTES_MAX and len(values) <= BLOCK_RECORDS_MAX:
        yield 0, len(values)
        return
    first, size = 0, 0
    for i, (key, value) in enumerate(zip(keys, values, strict=True)):
        record = len(key) + len(value) + _HEAD_BYTES
        if i > first and (size + record > BLOCK_BYTES_MAX or i - first >= BLOCK_RECORDS_MAX):
            yield first, i
            first, size = i, 0
        size += record
    yield first, len(values)
