"""A node's own order: first what its journal says was applied, then the log as it is read."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping

from murmuration.config.serving import IngestConfig
from murmuration.engine.errors import MurmurationError
from murmuration.streams.durable.journal import Entry, Run
from murmuration.streams.log.base import Records, Tail, TopicPartition
from murmuration.streams.log.merge import slice_records
from murmuration.streams.ordering.pieces import Piece, Pieces, cut, join

#: Versions replayed before others get their turn.
_REPLAYED_MAX = 64


class ReplayError(MurmurationError):
    """The log does not give the records again that the journal says were applied."""

    code = "replay_failed"


class Replay:
    """The journal's entries, their records read again from a tail: exactly the pieces that were applied.

    Runs that entries do not need yet wait here. A tail reads in nearly the order in which the records were applied
    (the log's own global order, or by append time), so that little has to wait.
    """

    def __init__(self, entries: Iterator[Entry], tail: Tail, config: IngestConfig) -> None:
        self._entries = entries
        self._tail = tail
        self._config = config
        self._entry: Entry | None = None
        self._waiting: dict[TopicPartition, deque[Records]] = {}

    async def next(self) -> list[Piece]:
        """The next pieces; none when every entry was replayed.

        Raises:
            ReplayError: the log has other records than the journal.
            LogError: it has lost some, or is away.
        """
        pieces: list[Piece] = []
        while len(pieces) < _REPLAYED_MAX:
            self._entry = self._entry or next(self._entries, None)
            if self._entry is None:
                break
            if not all(self._has(run) for run in self._entry.runs):
                if pieces:
                    break
                await self._read()
                continue
            pieces.append([self._take(run) for run in self._entry.runs])
            self._entry = None
        return pieces

    def left(self) -> list[Records]:
        """What was read beyond the entries; to be applied next. It is given once."""
        left = [run for waiting in self._waiting.values() for run in waiting]
        self._waiting.clear()
        return left

    async def _read(self) -> None:
        config = self._config
        for missing in (run for run in self._entry.runs if not self._has(run)) if self._entry else ():
            if self._tail.positions[missing.partition] > missing.last:
                raise ReplayError(
                    f"{missing.partition.topic}/{missing.partition.partition}: the log does not give the record at "
                    f"offset {missing.last} any more, which the journal applied"
                )
        for run in await self._tail.poll(records_max=config.poll_records_max, timeout_s=config.poll_timeout_s):
            self._waiting.setdefault(TopicPartition(run.topic, run.partition), deque()).append(run)

    def _has(self, run: Run) -> bool:
        waiting = self._waiting.get(run.partition)
        return bool(waiting) and waiting[-1].offsets[-1] >= run.last  # type: ignore[index]

    def _take(self, run: Run) -> Records:
        waiting = self._waiting[run.partition]
        taken: list[Records] = []
        while waiting and waiting[0].offsets[0] <= run.last:
            records = waiting.popleft()
            if records.offsets[-1] > run.last:
                size = next(i for i, offset in enumerate(records.offsets) if offset > run.last)
                waiting.appendleft(slice_records(records, size, len(records.offsets)))
                records = slice_records(records, 0, size)
            taken.append(records)
        found = Run(run.partition, taken[0].offsets[0], taken[-1].offsets[-1], sum(len(r.offsets) for r in taken))
        if found != run:
            where = f"{run.partition.topic}/{run.partition.partition}"
            raise ReplayError(
                f"{where}: the journal applied {run.count} records from offset {run.first} to {run.last}, "
                f"the log now has {found.count} from {found.first} to {found.last}"
            )
        return join(taken)


class OwnOrder:
    """What one node's log gives, in the order in which it is read; after a restart, its journal's entries first."""

    def __init__(self, tail: Tail, config: IngestConfig, entries: Iterable[Entry] = ()) -> None:
        self._tail = tail
        self._config = config
        self._replay: Replay | None = Replay(iter(entries), tail, config)

    async def next(self) -> Pieces:
        """See ``PieceSource``."""
        config = self._config
        if self._replay is not None:
            if pieces := await self._replay.next():
                return Pieces(pieces, journaled=True)
            left, self._replay = self._replay.left(), None
            if left:
                return Pieces(list(cut(left, config.batch_events_max)), journaled=False)
        runs = await self._tail.poll(records_max=config.poll_records_max, timeout_s=config.poll_timeout_s)
        return Pieces(list(cut(runs, config.batch_events_max)), journaled=False)

    @property
    def positions(self) -> Mapping[TopicPartition, int]:
        """See ``PieceSource``."""
        return {} if self._replay is not None else self._tail.positions

    async def close(self) -> None:
        """See ``PieceSource``."""
        await self._tail.close()
