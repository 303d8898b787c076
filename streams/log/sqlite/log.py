"""The embedded event log: one SQLite file in write-ahead mode, no broker.

One thread groups appends into transactions (``writer``); a second thread reads, in blocks (``blocks``). Every block has
a number in one global append order, and tails return runs in that order. So a replay from the start interleaves
partitions exactly as the first reading did. Several processes may open the same file; a commit wakes the tails of all
of them (``doorbell``).
"""

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from config.serving import LogConfig
from streams.log.interface import (
    EventLog,
    LogError,
    LogIdentity,
    LogUnavailableError,
    NewRecord,
    Tail,
    TopicPartition,
)
from streams.log.placement import check_sizes, place
from streams.log.sqlite import file as sqlite_file
from streams.log.sqlite.blocks import BlockError
from streams.log.sqlite.doorbell import Doorbell, folder_of
from streams.log.sqlite.presence import Presence
from streams.log.sqlite.tail import SqliteTail
from streams.log.sqlite.writer import Append, Call, SqliteWriter

T = TypeVar("T")

#: An append waits while this many bytes are on their way to the disk.
_PENDING_BYTES_MAX = 64 << 20
#: Retention removes at most this many blocks per transaction, so that appends can go on in between.
_REMOVE_BLOCKS = 256
#: While nothing is appended, a transaction that changes nothing tries this often whether the log could be written to.
_TRY_S = 1.0
#: A transaction that takes longer is reported: the disk does not answer, or another process holds the write lock.
_STUCK_S = 2.0
#: With less space on the disk the tries write something.
_FREE_BYTES_MIN = 1 << 20


class SqliteLog(EventLog):
    """The embedded backend; see the module. With ``writable=False`` it creates and changes nothing.

    ``?synchronous=normal`` is faster, and a power cut (not a crash) may then lose the last commits.
    """

    def __init__(self, config: LogConfig, *, writable: bool = True) -> None:
        self._writable = writable
        self._address = sqlite_file.parse_address(config.url)
        self._record_bytes_max = config.record_bytes_max
        self._prefix = config.topic_prefix
        self._writer: SqliteWriter | None = None
        self._presence: Presence | None = None
        self._reader: sqlite3.Connection | None = None
        self._reads: ThreadPoolExecutor | None = None
        self._doorbell = Doorbell(folder_of(self._address.path))
        self._partition_ids: dict[str, dict[int, int]] = {}
        self._tails: set[SqliteTail] = set()
        self._keyless = 0
        self._pending_bytes = 0
        self._pending_fell = asyncio.Event()
        self._try_at_s = 0.0

    async def open(self) -> None:
        self._reads = ThreadPoolExecutor(1, "murmuration-log-reader")
        connect = sqlite_file.connect if self._writable else sqlite_file.connect_to_read
        try:
            prepare = sqlite_file.create if self._writable else sqlite_file.require
            await self._in_reader(lambda: prepare(self._address))
            presence = await self._in_reader(lambda: Presence(self._address.path))
            self._presence = presence
            self._reader = await self._in_reader(lambda: connect(self._address))
            await self.read(presence.learn)
        except LogUnavailableError:
            await self.close()
            raise
        if self._writable:
            self._writer = SqliteWriter(self._address, presence, self._doorbell, self._ring_here)

    async def close(self) -> None:
        for tail in list(self._tails):
            await tail.close()
        writer, self._writer = self._writer, None
        if writer is not None:
            await self._in_reader(writer.stop)
        reader, self._reader = self._reader, None
        if reader is not None:
            await self._in_reader(reader.close)
        if self._presence is not None:
            self._presence.close()
        self._doorbell.close()
        reads, self._reads = self._reads, None
        if reads is not None:
            reads.shutdown(wait=False)

    async def identity(self) -> LogIdentity:
        ((identity,),) = await self.read(lambda reader: reader.execute("SELECT id FROM identity").fetchall())
        return LogIdentity(f"sqlite:{identity} {self._prefix}".strip(), {})

    async def ensure_topics(self, partitions: Mapping[str, int]) -> None:
        rows = [(self._prefix + topic, p) for topic, count in partitions.items() for p in range(count)]

        def insert(connection: sqlite3.Connection) -> None:
            known = {topic for (topic,) in connection.execute("SELECT DISTINCT topic FROM partitions")}
            new = [row for row in rows if row[0] not in known]
            connection.executemany("INSERT INTO partitions (topic, partition) VALUES (?, ?)", new)

        await self._write(insert)

    async def partitions(self, topic: str) -> int:
        return len(await self._ids(topic))

    async def append(self, topic: str, records: Sequence[NewRecord]) -> list[tuple[int, int]]:
        writer = self._opened()
        if not records:
            return []
        check_sizes(records, self._record_bytes_max)
        ids = await self._ids(topic)
        self._keyless += 1
        placed = place(records, len(ids), self._keyless)
        size = sum([len(r.value) + len(r.key) for r in records])
        while self._pending_bytes and self._pending_bytes + size > _PENDING_BYTES_MAX:
            self._pending_fell.clear()
            await self._pending_fell.wait()
        future: asyncio.Future[list[tuple[int, int]]] = asyncio.get_running_loop().create_future()
        self._pending_bytes += size
        future.add_done_callback(lambda _: self._landed(size))
        writer.submit(Append(future, records, placed, ids))
        return await future

    def _landed(self, size: int) -> None:
        self._pending_bytes -= size
        self._pending_fell.set()

    def append_problem(self) -> str | None:
        writer = self._writer
        if writer is None:
            return None
        now_s = time.monotonic()
        if now_s >= self._try_at_s and writer.began_s is None:
            self._try_at_s = now_s + _TRY_S
            self._try(writer)
        if writer.began_s is not None and now_s - writer.began_s > _STUCK_S:
            waited_s = now_s - writer.began_s
            return f"log {self._address.path}: a write has not ended for {waited_s:.0f} s (a lock, or a slow disk)"
        return writer.problem

    def _try(self, writer: SqliteWriter) -> None:
        """Let the writer find out whether it can write. Where it failed, or space is short, it really writes a page."""
        free_bytes = _free_bytes(self._address.path)
        short = free_bytes is not None and free_bytes < _FREE_BYTES_MIN
        if short and writer.problem is not None and sqlite_file.DISK_FULL in writer.problem:
            return  # room for one page says nothing about a record
        really = short or writer.problem is not None

        def attempt(connection: sqlite3.Connection) -> None:
            if really:
                connection.execute("UPDATE log SET opened = opened + 1")

        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        future.add_done_callback(lambda done: done.cancelled() or done.exception())  # the writer notes the problem
        writer.submit(Call(future, attempt, quiet=True))

    async def tail(self, positions: Mapping[TopicPartition, int], *, follow_new: bool = False) -> Tail:
        ids: dict[int, TopicPartition] = {}
        for topic in {partition.topic for partition in positions}:
            known = await self._ids(topic)  # in this backend a topic's partitions never change
            if follow_new:
                positions = {TopicPartition(topic, p): 0 for p in known} | dict(positions)
            for partition in positions:
                if partition.topic == topic:
                    if partition.partition not in known:
                        raise LogError(f"topic {topic!r} has no partition {partition.partition}")
                    ids[known[partition.partition]] = partition
        tail = SqliteTail(self, positions, ids)
        if self._writable:
            self._doorbell.listen(self._ring_here)
        self._tails.add(tail)
        return tail

    async def start_offsets(self, topic: str) -> dict[int, int]:
        return {row.partition: row.start_offset for row in await self._rows(topic)}

    async def end_offsets(self, topic: str) -> dict[int, int]:
        return {row.partition: row.end_offset for row in await self._rows(topic)}

    async def written_offsets_of(self, topics: Sequence[str]) -> dict[TopicPartition, int]:
        names = [self._prefix + topic for topic in topics]
        found = await self.read(lambda c: [sqlite_file.partition_rows(c, name) for name in names])
        for name, rows in zip(names, found, strict=True):
            if not rows:
                raise LogError(f"no topic {name!r} in {self._address.path}")
        return {
            TopicPartition(topic, row.partition): row.end_offset
            for topic, rows in zip(topics, found, strict=True)
            for row in rows
        }

    async def offsets_for_time(self, topic: str, time_ms: int) -> dict[int, int]:
        await self._ids(topic)
        return await self.read(lambda c: sqlite_file.offsets_for_time(c, self._prefix + topic, time_ms))

    async def apply_retention(self, topic: str, *, before_ms: int) -> dict[int, int]:
        for partition_id in (await self._ids(topic)).values():

            def remove(connection: sqlite3.Connection, partition_id: int = partition_id) -> int:
                return _remove_blocks(connection, partition_id, before_ms)

            while await self._write(remove) == _REMOVE_BLOCKS:
                pass
        return await self.start_offsets(topic)

    async def read(self, question: Callable[[sqlite3.Connection], T]) -> T:
        """Ask the reading connection, off the event loop.

        Raises:
            LogUnavailableError: the log is closed, its file is not there any more, or SQLite cannot answer.
        """
        reader, presence = self._reader, self._presence
        if reader is None or presence is None:
            raise LogUnavailableError(f"log {self._address.path}: is not open")

        def ask() -> T:
            try:
                return question(reader)
            finally:
                presence.check()

        return await self._in_reader(ask)

    def forget(self, tail: SqliteTail) -> None:
        """A tail was closed."""
        self._tails.discard(tail)

    async def _in_reader(self, work: Callable[[], T]) -> T:
        if self._reads is None:
            raise LogUnavailableError(f"log {self._address.path}: is not open")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._reads, work)
        except (sqlite3.Error, BlockError, OSError) as error:
            raise sqlite_file.unavailable(self._address.path, error) from error

    async def _write(self, function: Callable[[sqlite3.Connection], T]) -> T:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._opened().submit(Call(future, function))
        return await future  # type: ignore[no-any-return]

    async def _ids(self, topic: str) -> dict[int, int]:
        """Row ids by partition; once a topic exists they never change."""
        ids = self._partition_ids.get(topic)
        if ids is None:
            ids = self._partition_ids[topic] = {row.partition: row.id for row in await self._rows(topic)}
        return ids

    async def _rows(self, topic: str) -> list[sqlite_file.PartitionRow]:
        rows = await self.read(lambda c: sqlite_file.partition_rows(c, self._prefix + topic))
        if not rows:
            raise LogError(f"no topic {self._prefix + topic!r} in {self._address.path}")
        return rows

    def _opened(self) -> SqliteWriter:
        if self._writer is None:
            why = "is not open" if self._writable or self._reads is None else "is open for reading only"
            raise LogUnavailableError(f"log {self._address.path}: {why}")
        return self._writer

    def _ring_here(self) -> None:
        for tail in self._tails:
            tail.ring()


def _free_bytes(path: Path) -> int | None:
    """The space that is left for the file's writes; None where the system does not say."""
    try:
        found = os.statvfs(path.parent)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize


def _remove_blocks(connection: sqlite3.Connection, partition_id: int, before_ms: int) -> int:
    """Remove blocks that were appended before ``before_ms``, at most ``_REMOVE_BLOCKS``; returns how many."""
    removed = connection.execute(
        "DELETE FROM blocks WHERE seq IN (SELECT seq FROM blocks WHERE partition_id = ? AND append_ms < ?"
        " ORDER BY append_ms, seq LIMIT ?)",
        (partition_id, before_ms, _REMOVE_BLOCKS),
    ).rowcount
    if removed:
        connection.execute(
            "UPDATE partitions SET start_offset = coalesce((SELECT min(base_offset) FROM blocks"
            " WHERE partition_id = partitions.id), end_offset) WHERE id = ?",
            (partition_id,),
        )
        connection.execute("UPDATE log SET retentions = retentions + 1")
    return removed
