"""The one thread that writes an embedded log. It groups waiting appends into one transaction (group commit).

While a commit waits for the disk, further appends gather; the next transaction takes them all. So all appends that
arrive during one commit share the cost of the next.
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
from streams.log.sqlite.presence import Presence

#: A transaction takes no further append once it has this many records.
_GROUP_RECORDS_MAX = 16_384

Placed = list[tuple[int, int]]


class Append(NamedTuple):
    """Records with the partition of each; ``partition_ids`` maps partitions to rows of table ``partitions``."""

    future: asyncio.Future[Placed]
    records: Sequence[NewRecord]
    placed: list[int]
    partition_ids: dict[int, int]


class Call(NamedTuple):
    """Any other write: a function that runs in a separate transaction. ``quiet``: it adds nothing that tails read."""

    future: asyncio.Future[Any]
    function: Callable[[sqlite3.Connection], Any]
    quiet: bool = False


class _Run(NamedTuple):
    """The records that one transaction brings to one partition."""

    first_offset: int
    formats: list[Format]
    keys: list[bytes]
    values: list[bytes]


class SqliteWriter:
    """Owns the writing connection and its thread. Call ``submit`` on the event loop; results are set there too."""

    def __init__(
        self, address: SqliteAddress, presence: Presence, doorbell: Doorbell, on_commit: Callable[[], None]
    ) -> None:
        self._address = address
        self._presence = presence
        #: Why the last transaction failed; None after one that succeeded.
        self.problem: str | None = None
        #: When the transaction that runs now began (``time.monotonic``).
        self.began_s: float | None = None
        self._doorbell = doorbell
        self._on_commit = on_commit
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Append | Call] = deque()
        self._wake = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="murmuration-log-writer", daemon=True)
        self._thread.start()

    def submit(self, work: Append | Call) -> None:
        """Hand work over to the thread. The work's future is resolved once the write is durable."""
        with self._wake:
            if self._stopping:
                work.future.set_exception(LogUnavailableError(f"log {self._address.path}: is closed"))
                return
            self._waiting.append(work)
            self._wake.notify()

    def stop(self) -> None:
        """Finish the submitted work and end the thread. This blocks: do not call it on the event loop."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join()

    def _run(self) -> None:
        connection: sqlite3.Connection | None = None
        while work := self._next():
            self.began_s = time.monotonic()
            try:
                # Without the file SQLite would make a new one.
                self._presence.check()
                connection = connection or connect(self._address)
                results = self._transaction(connection, work)
                # What was written to a file that nobody can open any more is not acknowledged.
                self._presence.check()
            except (sqlite3.Error, LogUnavailableError) as error:
                problem = error if isinstance(error, LogUnavailableError) else unavailable(self._address.path, error)
                self.problem = str(problem)
                self._post([(w.future, problem) for w in work], committed=False)
            except Exception as error:  # a bug: the callers that wait get the error, and the thread goes on
                self._post([(w.future, error) for w in work], committed=False)
            else:
                self.problem = None
                quiet = all(isinstance(w, Call) and w.quiet for w in work)
                self._post([(w.future, r) for w, r in zip(work, results, strict=True)], committed=not quiet)
                if not quiet:
                    self._doorbell.ring()
            finally:
                self.began_s = None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def _next(self) -> list[Append | Call]:
        """The next group of appends, or one call; empty after ``stop`` once no work is left."""
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
        # IMMEDIATE takes the write lock before the offsets are read, so that two processes never use one offset twice.
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

        with contextlib.suppress(RuntimeError):  # the event loop has ended: nobody waits any more
            self._loop.call_soon_threadsafe(settle)


def _append(connection: sqlite3.Connection, appends: Sequence[Append]) -> list[Placed]:
    """Write a group: one run per partition, in the order in which the partitions first appear."""
    ((seq, last_ms),) = connection.execute("SELECT next_seq, append_ms FROM log")
    # Append times never go back, even if the clock does: ``offsets_for_time`` relies on that.
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
