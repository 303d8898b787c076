"""Which partition a record goes to: Kafka's own rule (murmur2 of the key), for both backends.

The Java client, kafka-python and Faust have the same rule. So a record that another program publishes to one of our
topics lands in the same partition as our records with that key. Tests compare this with aiokafka's implementation.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from streams.log.interface import LogError, NewRecord, RecordTooLargeError

_SEED = 0x9747B28C
_M = 0x5BD1E995
_MASK = 0xFFFFFFFF
#: From this number of keys on, hashing them as columns is faster than one by one.
_COLUMNS_FROM = 24


def check_sizes(records: Sequence[NewRecord], bytes_max: int, limit: str = "log.record_bytes_max") -> None:
    """Refuse records that are larger than the limit (key and value together), whose name is ``limit``.

    Raises:
        RecordTooLargeError: names the first one that is too large.
    """
    sizes = [len(r.value) + len(r.key) for r in records]
    largest = max(sizes, default=0)
    if largest > bytes_max:
        index = next(i for i, size in enumerate(sizes) if size > bytes_max)
        raise RecordTooLargeError(f"record {index} of {len(records)} has {sizes[index]} bytes, {limit} is {bytes_max}")


def place(records: Sequence[NewRecord], partitions: int, keyless: int) -> list[int]:
    """The partition of each record: the one that it names, else by its key; without a key ``keyless % partitions``.

    Raises:
        LogError: a record names a partition that the topic does not have.
    """
    named = [r.partition for r in records]
    if named.count(None) == len(named):
        return partitions_of([r.key for r in records], partitions, keyless)
    chosen = partitions_of([r.key for r in records], partitions, keyless)
    placed = [c if n is None else n for n, c in zip(named, chosen, strict=True)]
    wrong = next((p for p in placed if not 0 <= p < partitions), None)
    if wrong is not None:
        raise LogError(f"no partition {wrong}: the topic has {partitions}")
    return placed


def partitions_of(keys: Sequence[bytes], partitions: int, keyless: int) -> list[int]:
    """The partition of each key; empty keys go to ``keyless % partitions``."""
    if partitions == 1:
        return [0] * len(keys)
    keyless %= partitions
    if len(keys) < _COLUMNS_FROM:
        return [(murmur2(key) & 0x7FFFFFFF) % partitions if key else keyless for key in keys]
    sizes = np.fromiter(map(len, keys), np.int64, len(keys))
    chosen = np.full(len(keys), keyless, np.int64)
    for size in np.unique(sizes).tolist():
        if size:
            rows = np.flatnonzero(sizes == size)
            joined = b"".join([keys[i] for i in rows.tolist()])
            table = np.frombuffer(joined, np.uint8).reshape(len(rows), size)
            chosen[rows] = (_murmur2_columns(table) & np.uint32(0x7FFFFFFF)) % np.uint32(partitions)
    return chosen.tolist()


def murmur2(data: bytes) -> int:
    """The 32-bit murmur2 hash that Kafka's default partitioner uses (unsigned)."""
    size = len(data)
    h = _SEED ^ size
    whole = size & ~3
    for i in range(0, whole, 4):
        k = int.from_bytes(data[i : i + 4], "little") * _M & _MASK
        k = (k ^ k >> 24) * _M & _MASK
        h = h * _M & _MASK ^ k
    if size > whole:
        h = (h ^ int.from_bytes(data[whole:], "little")) * _M & _MASK
    h = (h ^ h >> 13) * _M & _MASK
    return h ^ h >> 15


def _murmur2_columns(table: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """murmur2 of each row of a (keys, size) table; uint32 arithmetic wraps as the hash wants it."""
    count, size = table.shape
    m = np.uint32(_M)
    h = np.full(count, _SEED ^ size, np.uint32)
    whole = size & ~3
    for i in range(0, whole, 4):
        k = np.ascontiguousarray(table[:, i : i + 4]).view("<u4").ravel() * m
        k ^= k >> np.uint32(24)
        h = h * m ^ k * m
    if size > whole:
        for i in range(whole, size):
            h ^= table[:, i].astype(np.uint32) << np.uint32(8 * (i - whole))
        h *= m
    h = (h ^ h >> np.uint32(13)) * m
    return h ^ h >> np.uint32(15)
