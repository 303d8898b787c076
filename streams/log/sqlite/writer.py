"""The one thread that writes an embedded log: it groups the appends that wait into a transaction (group commit).

While a commit waits for the disk, further appends gather; the next transaction takes them all. So the cost of a
durable commit is shared by everything that arrives during the one before it.
"""

import asyncio
import contextlib
import sqlite3
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from streams.log.interface import Format, LogUnavailableError, NewRecord
from streams.log.sqlite import blocks as sqlite_blocks
from streams.log.sqlite.doorbell import Doorbell
from streams.log.sqlite.file import SqliteAddress, connect, unavailable

#: Appends are gathered into one transaction up to so many records.
_GROUP_RECORDS_MAX = 16_384

Placed = list[tuple[int, int]]


class Append(NamedTuple):
    """Records with the partition of each; ``partition_ids`` maps partitions to rows of table ``partitions``."""

    future: asyncio.Future[Placed]
    records: Sequence[NewRecord]
    placed: list[int]
    partition_ids: dict[int, int]


class Call(NamedTuple):
    """Anything else that writes: a function run in a transaction of its own."""

    future: asyncio.Future[Any]
    function: Callable[[sqlite3.Connection], Any]


class _Run(NamedTuple):
    """The records that one transaction brings to one partition."""

    first_offset: int
    formats: list[Format]
    keys: list[bytes]
    values: list[bytes]


class SqliteWriter:
    """Owns the writing connection and its thread. ``submit`` on the event loop; results come back to it."""

    def __init__(self, address: SqliteAddress, doorbell: Doorbell, on_commit: Callable[[], None]) -> None:
        self._address = address
        self._doorbell = doorbell
        self._on_commit = on_commit
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Append | Call] = deque()
        self._wake = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="murmuration-log-writer", daemon=True)
        self._thread.start()

    def submit(self, work: Append | Call) -> None:
        """Hand over; the work's future is resolved once it is durable."""
        with self._wake:
            if self._stopping:
                work.future.set_exception(LogUnavailableError(f"log {self._address.path}: is closed"))
                return
            self._waiting.append(work)
            self._wake.notify()

    def stop(self) -> None:
        """Finish what was submitted and end the thread. Blocks; not on the event loop."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join()

    def _run(self) -> None:
        connection: sqlite3.Connection | None = None
        while work := self._next():
            try:
                connection = connection or connect(self._address)
                results = self._transaction(connection, work)
            except (sqlite3.Error, LogUnavailableError) as error:
                problem = error if isinstance(error, LogUnavailableError) else unavailable(self._address.path, error)
                self._post([(w.future, problem) for w in work], committed=False)
            except Exception as error:  # a defect: whoever waits must hear of it, and the thread must live
                self._post([(w.future, error) for w in work], committed=False)
            else:
                self._post([(w.future, r) for w, r in zip(work, results, strict=True)], committed=True)
                self._doorbell.ring()
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def _next(self) -> list[Append | Call]:
        """The next group of appends, or one call; empty when stopped and nothing is left."""
        with self._wake:
            while not self._waiting and not self._stopping:
                self._wake.wait()
            group: list[Append | Call] = []
            records = 0
            while self._waiting and records < _GROUP_RECORDS_MAX:
                work = self._waiting[0]
                if isinstance(work, Call):
                    if not group:
                        group.append(self._waiting.popleft())
                    break
                records += len(work.records)
                group.append(self._waiting.popleft())
            return group

    def _transaction(self, connection: sqlite3.Connection, work: Sequence[Append | Call]) -> list[Any]:
        # IMMEDIATE: take the write lock before reading the offsets, so that two processes never give one twice.
        connection.execute("BEGIN IMMEDIATE")
        try:
            appends = [w for w in work if isinstance(w, Append)]
            results = _append(connection, appends) if appends else [w.function(connection) for w in work]  # type: ignore[union-attr]
            connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise
        return results

    def _post(self, outcomes: list[tuple[asyncio.Future[Any], Any]], *, committed: bool) -> None:
        def settle() -> None:
            for future, outcome in outcomes:
                if future.done():
                    continue
                if isinstance(outcome, BaseException):
                    future.set_exception(outcome)
                else:
                    future.set_result(outcome)
            if committed:
                self._on_commit()

        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody is left to tell
            self._loop.call_soon_threadsafe(settle)


def _append(connection: sqlite3.Connection, appends: Sequence[Append]) -> list[Placed]:
    """Write a group: one run a partition, in the order the partitions were first met."""
    ((seq, last_ms),) = connection.execute("SELECT next_seq, append_ms FROM log")
    # Append times never go back, even where the clock does: offsets by time rely on it.
    append_ms = max(int(time.time() * 1000), last_ms)
    runs: dict[int, _Run] = {}
    results = []
    for append in appends:
        for partition, partition_id in append.partition_ids.items():
            if partition_id not in runs and partition in append.placed:
                ((end,),) = connection.execute("SELECT end_offset FROM partitions WHERE id = ?", (partition_id,))
                runs[partition_id] = _Run(end, [], [], [])
        results.append(_distribute(append, runs))
    for partition_id, run in runs.items():
        rows = []
        for first, last in sqlite_blocks.split(run.keys, run.values):
            body = sqlite_blocks.encode(run.formats[first:last], run.keys[first:last], run.values[first:last])
            base = run.first_offset + first
            rows.append((seq, partition_id, base, last - first, append_ms, zlib.crc32(body), body))
            seq += 1
        connection.executemany("INSERT INTO blocks VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        end = run.first_offset + len(run.values)
        connection.execute("UPDATE partitions SET end_offset = ? WHERE id = ?", (end, partition_id))
    connection.execute("UPDATE log SET next_seq = ?, append_ms = ?", (seq, append_ms))
    return results


def _distribute(append: Append, runs: dict[int, _Run]) -> Placed:
    """Add the append's records to their partitions' runs; returns (partition, offset) of each."""
    records, placed = append.records, append.placed
    if placed.count(placed[0]) == len(placed):
        run = runs[append.partition_ids[placed[0]]]
        first = run.first_offset + len(run.values)
        run.formats.extend([r.format for r in records])
        run.keys.extend([r.key for r in records])
        run.values.extend([r.value for r in records])
        return [(placed[0], offset) for offset in range(first, first + len(records))]
    result = []
    by_partition = {p: runs[i] for p, i in append.partition_ids.items() if i in runs}
    for record, partition in zip(records, placed, strict=True):
        run = by_partition[partition]
        result.append((partition, run.first_offset + len(run.values)))
        run.formats.append(record.format)
        run.keys.append(record.key)
        run.values.append(record.value)
    return result
