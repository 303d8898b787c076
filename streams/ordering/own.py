"""A node's own order: first the entries of its journal, then the log as it is read."""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

from config.serving import IngestConfig
from streams.durable.journal import Entry, Run
from streams.log.interface import Records, Tail, TopicPartition
from streams.log.record_times import settle, settled_again
from streams.ordering.pieces import Piece, Pieces, cut
from streams.ordering.waiting import ReplayError, Waiting

__all__ = ["OwnOrder", "Replay", "ReplayError"]

#: At most this many versions are returned by one call, so that other tasks get their turn.
_REPLAYED_MAX = 64


class Replay:
    """Makes the journal's entries into pieces by reading their records again: exactly the pieces that were applied.

    Runs that no entry needs yet wait here. Few do: a tail reads in nearly the order in which the records were applied
    (the log's global order, or by append time). Of ``compacted`` topics the pieces have what the log still has.
    """

    def __init__(
        self, entries: Iterator[Entry], tail: Tail, config: IngestConfig, compacted: Collection[str] = ()
    ) -> None:
        self._entries = entries
        self._tail = tail
        self._config = config
        self._entry: Entry | None = None
        self._waiting = Waiting(compacted)
        self._waiting.read_to(tail.positions)

    async def next(self) -> list[Piece]:
        """The next pieces; empty once every entry was replayed.

        Raises:
            ReplayError: the log has other records than the journal names.
            LogError: the log has lost records, or cannot be reached.
        """
        pieces: list[Piece] = []
        while len(pieces) < _REPLAYED_MAX:
            self._entry = self._entry or next(self._entries, None)
            if self._entry is None:
                break
            if missing := self._waiting.missing(self._entry.runs):
                if pieces:
                    break
                await self._read(missing)
                continue
            settled = self._entry.settled
            taken = (self._waiting.take(run.partition, run.last, run.count, run.first) for run in self._entry.runs)
            pieces.append([settled_again(run, settled) for run in taken if run is not None])
            self._entry = None
        return pieces

    def left(self) -> list[Records]:
        """The records read beyond the last entry, to be applied next. A second call returns nothing."""
        left = self._waiting.all()
        self._waiting.clear()
        return left

    async def _read(self, missing: list[Run]) -> None:
        config = self._config
        for run in missing:
            if self._tail.positions[run.partition] > run.last:
                raise ReplayError(
                    f"{run.partition.topic}/{run.partition.partition}: the log does not give the record at "
                    f"offset {run.last} any more, which the journal applied"
                )
        self._waiting.add(await self._tail.poll(records_max=config.poll_records_max, timeout_s=config.poll_timeout_s))
        self._waiting.read_to(self._tail.positions)


def wall_clock_ms() -> int:
    """The time of this machine."""
    return int(time.time() * 1000)


class OwnOrder:
    """Pieces in the order in which this node reads the log; after a restart, the journal's entries come first."""

    def __init__(
        self,
        tail: Tail,
        config: IngestConfig,
        entries: Iterable[Entry] = (),
        *,
        compacted: Collection[str] = (),
        now_ms: Callable[[], int] = wall_clock_ms,
    ) -> None:
        self._tail = tail
        self._config = config
        self._now_ms = now_ms
        self._replay: Replay | None = Replay(iter(entries), tail, config, compacted)

    async def next(self) -> Pieces:
        """See ``PieceSource``."""
        config = self._config
        if self._replay is not None:
            if pieces := await self._replay.next():
                return Pieces(pieces, journaled=True)
            left, self._replay = self._replay.left(), None
            if left:
                return self._cut(left)
        runs = await self._tail.poll(records_max=config.poll_records_max, timeout_s=config.poll_timeout_s)
        return self._cut(runs)

    def _cut(self, runs: Sequence[Records]) -> Pieces:
        return Pieces(list(cut(settle(runs, self._now_ms()), self._config.batch_events_max)), journaled=False)

    @property
    def positions(self) -> Mapping[TopicPartition, int]:
        """See ``PieceSource``."""
        return {} if self._replay is not None else self._tail.positions

    async def close(self) -> None:
        """See ``PieceSource``."""
        await self._tail.close()
