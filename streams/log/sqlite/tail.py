"""Following the SQLite log: blocks in their global order, read off the event loop, decoded as columns."""

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar

from streams.log.interface import LogUnavailableError, OffsetOutOfRangeError, Records, Tail, TopicPartition
from streams.log.merge import slice_records
from streams.log.sqlite import file as sqlite_file
from streams.log.sqlite.blocks import Block, decode

T = TypeVar("T")

#: A read ends when its blocks have this many bytes.
_READ_BYTES_MAX = 4 << 20
#: A waiting tail reads again after this time even if nobody rang (a ring is only a hint).
_LOOK_AGAIN_S = 1.0


class BlockReader(Protocol):
    """The part of the log that a tail uses."""

    async def read(self, question: Callable[[sqlite3.Connection], T]) -> T:
        """Ask the reading connection, off the event loop."""

    def forget(self, tail: "SqliteTail") -> None:
        """The tail was closed."""


class SqliteTail(Tail):
    """Follows partitions in the log's global append order.

    Blocks are decoded whole. Records that a poll cannot return yet stay here, at most one read (``_READ_BYTES_MAX``).
    """

    def __init__(
        self, log: BlockReader, positions: Mapping[TopicPartition, int], ids: Mapping[int, TopicPartition]
    ) -> None:
        self._log = log
        self._ids = ids
        self._positions = dict(positions)
        self._read_to = {partition_id: positions[partition] for partition_id, partition in ids.items()}
        self._next_seq: int | None = None
        self._retentions = -1
        self._ready: deque[Records] = deque()
        self._bell = asyncio.Event()
        self._closed = False

    @property
    def positions(self) -> Mapping[TopicPartition, int]:
        return self._positions

    def ring(self) -> None:
        """Something was appended."""
        self._bell.set()

    async def close(self) -> None:
        self._closed = True
        self._log.forget(self)
        self._bell.set()  # wakes a poll that still waits

    async def poll(self, *, records_max: int, timeout_s: float) -> list[Records]:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while True:
            if self._closed:
                raise LogUnavailableError("the tail is closed")
            self._bell.clear()
            if not self._ready and self._ids:
                await self._fill(records_max)
            if self._ready:
                return self._take(records_max)
            wait_s = min(deadline - loop.time(), _LOOK_AGAIN_S)
            if wait_s <= 0:
                return []
            try:
                async with asyncio.timeout(wait_s):
                    await self._bell.wait()
            except TimeoutError:
                continue

    async def _fill(self, records_max: int) -> None:
        # Change state only after the read has returned, so that a cancelled poll loses nothing.
        scan, runs = await self._log.read(lambda connection: self._look(connection, records_max))
        self._next_seq, self._retentions = scan.next_seq, scan.retentions
        for run in runs:
            partition_id = run[0]
            self._read_to[partition_id] = run[1].offsets[-1] + 1
            self._ready.append(run[1])

    def _look(
        self, connection: sqlite3.Connection, records_max: int
    ) -> tuple[sqlite_file.Scan, list[tuple[int, Records]]]:
        """On the reading thread: the next runs, by partition id."""
        if self._next_seq is None:
            self._check_ends(connection)
        first = sqlite_file.first_seq(connection, self._read_to) if self._next_seq is None else self._next_seq
        scan = sqlite_file.scan(
            connection,
            self._ids,
            next_seq=first,
            retentions=self._retentions,
            records_max=records_max,
            bytes_max=_READ_BYTES_MAX,
        )
        for partition_id, start in scan.starts.items():
            if self._read_to[partition_id] < start:
                raise OffsetOutOfRangeError(self._ids[partition_id], self._read_to[partition_id], start)
        return scan, _runs(scan.blocks, self._ids, dict(self._read_to))

    def _check_ends(self, connection: sqlite3.Connection) -> None:
        for partition_id, position in self._read_to.items():
            ((start, end),) = connection.execute(
                "SELECT start_offset, end_offset FROM partitions WHERE id = ?", (partition_id,)
            )
            if not start <= position <= end:
                raise OffsetOutOfRangeError(self._ids[partition_id], position, start)

    def _take(self, records_max: int) -> list[Records]:
        taken = []
        while self._ready and records_max > 0:
            run = self._ready.popleft()
            if len(run.offsets) > records_max:
                self._ready.appendleft(slice_records(run, records_max, len(run.offsets)))
                run = slice_records(run, 0, records_max)
            records_max -= len(run.offsets)
            self._positions[TopicPartition(run.topic, run.partition)] = run.offsets[-1] + 1
            taken.append(run)
        return taken


def _runs(
    blocks: Sequence[Block], ids: Mapping[int, TopicPartition], read_to: dict[int, int]
) -> list[tuple[int, Records]]:
    """Decode blocks into runs, without the records that were read already. Neighboring blocks of one partition become
    one run."""
    runs: list[tuple[int, Records]] = []
    for block in blocks:
        skip = read_to[block.partition_id] - block.base_offset
        if skip >= block.records:
            continue
        read_to[block.partition_id] = block.base_offset + block.records
        formats, keys, values = decode(block)
        topic, partition = ids[block.partition_id]
        offsets = list(range(block.base_offset, block.base_offset + block.records))
        run = Records(topic, partition, offsets, [block.append_ms] * block.records, formats, keys, values)
        if skip > 0:
            run = slice_records(run, skip, block.records)
        if runs and runs[-1][0] == block.partition_id:
            before = runs[-1][1]
            for column in ("offsets", "append_ms", "formats", "keys", "values"):
                getattr(before, column).extend(getattr(run, column))
        else:
            runs.append((block.partition_id, run))
    return runs
