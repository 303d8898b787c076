"""Pieces in the order that nodes share: reads two tails, appends proposals (``shared.SharedOrder`` decides)."""

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any, Final

import structlog

from config.serving import IngestConfig, LogConfig
from streams.durable.journal import Entry
from streams.events.json_types import APPLIED_TOPICS
from streams.log.interface import EventLog, Records, Tail, TopicPartition
from streams.ordering.metrics import OrderMetrics
from streams.ordering.own import wall_clock_ms
from streams.ordering.pieces import Piece, Pieces, runs_of
from streams.ordering.proposals import ORDER, encode
from streams.ordering.shared import SharedOrder
from streams.ordering.waiting import ReplayError
from streams.process.ending import end_tasks

#: Records of topic ``order`` per poll.
_ORDER_RECORDS_MAX: Final = 512
#: Versions per call of ``next``.
_PIECES_MAX: Final = 4
#: Versions per proposal.
_PROPOSALS_MAX: Final = 16
#: Bytes of records that may wait for their turn; more only if the next piece needs records that are still to be read.
_WAITING_BYTES_MAX: Final = 32 << 20
_JITTER_STEPS: Final = 1024

log = structlog.get_logger("murmuration.order")


class SharedSource:
    """The pieces that all nodes apply, as topic ``order`` gives them. Made by ``open``; used by one task at a time.

    The node whose proposal was accepted last proposes again at once. Any other node proposes only after records have
    waited unordered for its patience, which is between one and two times ``log.order_patience_s`` and differs from node
    to node. So one node proposes in normal operation, and another soon takes over when it dies.
    """

    def __init__(
        self,
        event_log: EventLog,
        order: SharedOrder,
        tails: tuple[Tail, Tail],
        ingest: IngestConfig,
        metrics: OrderMetrics,
        *,
        patience_s: float,
        order_end: int,
        entries: Iterator[Entry],
    ) -> None:
        self._log = event_log
        self._order = order
        self._data_tail, self._order_tail = tails
        self._config = ingest
        self._metrics = metrics
        self._patience_s = patience_s * (1.0 + order.node % _JITTER_STEPS / _JITTER_STEPS)
        #: Nothing is proposed before topic ``order`` is read up to here: its end at the start, later the end of this
        #: node's own proposals.
        self._read_first = order_end
        #: The journal's entries for the pieces to come.
        self._entries = entries
        self._entry = next(entries, None)
        self._quiet_since_s = 0.0
        self._data: asyncio.Task[list[Records]] | None = None
        self._orders: asyncio.Task[list[Records]] | None = None
        self._append: asyncio.Task[int] | None = None

    @classmethod
    async def open(
        cls,
        event_log: EventLog,
        config: LogConfig,
        ingest: IngestConfig,
        metrics: OrderMetrics,
        *,
        line: str,
        node: int,
        positions: Mapping[TopicPartition, int],
        entries: Iterator[Entry],
    ) -> "SharedSource":
        """Go on at ``positions`` (including that of ``ORDER``). ``entries``: the journal's entries from there on.

        Raises:
            LogError: the log cannot be read from there.
        """
        compacted = await event_log.compacted(APPLIED_TOPICS)
        order = SharedOrder(line, node, positions, rows_max=ingest.batch_events_max, compacted=compacted)
        ends = await event_log.end_offsets(ORDER.topic)
        order_tail = await event_log.tail({ORDER: positions[ORDER]})
        try:
            data = {where: offset for where, offset in positions.items() if where != ORDER}
            data_tail = await event_log.tail(data, follow_new=True)
        except BaseException:
            await order_tail.close()
            raise
        return cls(
            event_log,
            order,
            (data_tail, order_tail),
            ingest,
            metrics,
            patience_s=config.order_patience_s,
            order_end=ends[ORDER.partition],
            entries=entries,
        )

    async def next(self) -> Pieces:
        """See ``PieceSource``.

        Raises:
            ReplayError: the log has other records than those ordered, or the journal has another order.
        """
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + self._config.poll_timeout_s
        while True:
            self._collect()
            pieces = self._take()
            if pieces.pieces or loop.time() >= deadline_s:
                return pieces
            await self._advance(loop.time(), deadline_s)

    @property
    def positions(self) -> Mapping[TopicPartition, int]:
        """See ``PieceSource``."""
        return {where: at for where, at in self._data_tail.positions.items() if self._order.settled(where)}

    async def close(self) -> None:
        """See ``PieceSource``."""
        tasks: list[asyncio.Task[Any]] = [task for task in (self._data, self._orders, self._append) if task is not None]
        await end_tasks(tasks)
        for task in tasks:
            if task.done() and not task.cancelled():
                task.exception()  # retrieved, so that asyncio does not log it: nobody needs the result any more
        await self._data_tail.close()
        await self._order_tail.close()

    def _take(self) -> Pieces:
        """Pieces that can be applied now: either all within the journal, or all after its end."""
        pieces: list[Piece] = []
        journaled = self._entry is not None
        while len(pieces) < _PIECES_MAX and journaled == (self._entry is not None):
            piece = self._order.take()
            if piece is None:
                break
            if self._entry is not None:
                if list(self._entry.runs) != runs_of(piece):
                    raise ReplayError(f"version {self._entry.version}: the journal has another order than the log")
                self._entry = next(self._entries, None)
            pieces.append(piece)
        return Pieces(pieces, journaled)

    async def _advance(self, now_s: float, deadline_s: float) -> None:
        """Start due reads and proposals, and wait until one of them is done or the deadline passes."""
        config = self._config
        due_s = self._due_s()
        if due_s is not None and now_s >= due_s:
            self._append = asyncio.create_task(self._propose(), name="propose an order")
            due_s = None
        if self._orders is None and self._order.queued < _ORDER_RECORDS_MAX:
            poll = self._order_tail.poll(records_max=_ORDER_RECORDS_MAX, timeout_s=config.poll_timeout_s)
            self._orders = asyncio.ensure_future(poll)
        if self._data is None and self._wants_data():
            poll = self._data_tail.poll(records_max=config.poll_records_max, timeout_s=config.poll_timeout_s)
            self._data = asyncio.ensure_future(poll)
        tasks: list[asyncio.Task[Any]] = [task for task in (self._data, self._orders, self._append) if task is not None]
        until_s = deadline_s if due_s is None else min(deadline_s, due_s)
        await asyncio.wait(tasks, timeout=max(0.0, until_s - now_s), return_when=asyncio.FIRST_COMPLETED)

    def _collect(self) -> None:
        """Take the results of finished tasks; an error is raised only after all results are taken."""
        order, failures = self._order, []
        data, orders, append = self._data, self._orders, self._append
        if data is not None and data.done():
            self._data = None
            if (error := data.exception()) is None:
                if not order.unordered:
                    self._quiet_since_s = asyncio.get_running_loop().time()
                order.waiting.add(data.result())
                order.waiting.read_to(self._data_tail.positions)
            else:
                failures.append(error)
        if orders is not None and orders.done():
            self._orders = None
            if (error := orders.exception()) is None:
                self._read(orders.result())
            else:
                failures.append(error)
        if append is not None and append.done():
            self._append = None
            if (error := append.exception()) is None:
                self._read_first = max(self._read_first, append.result())
            else:
                # The proposals may have been written. If so, the next proposals do not fit, and are ignored.
                failures.append(error)
        for failure in failures:
            raise failure

    def _read(self, runs: list[Records]) -> None:
        order = self._order
        accepted, ignored, led = order.accepted, order.ignored, order.leads
        for run in runs:
            order.read(run)
        self._metrics.proposals.labels("accepted").inc(order.accepted - accepted)
        self._metrics.proposals.labels("ignored").inc(order.ignored - ignored)
        if order.accepted > accepted:
            self._quiet_since_s = asyncio.get_running_loop().time()
        if order.leads != led:
            self._metrics.leads.set(order.leads)
            log.info("this node proposes the order" if order.leads else "another node proposes the order")

    def _wants_data(self) -> bool:
        """Whether to read on: there is room for waiting records, or the next piece needs records not read yet.

        Raises:
            ReplayError: those records are not in the log.
        """
        missing = self._order.missing
        for run in missing:
            if self._data_tail.positions.get(run.where, 0) > run.last:
                raise ReplayError(
                    f"{run.topic}/{run.partition}: the log does not give the record at offset {run.last} any more, "
                    "which was ordered"
                )
        return bool(missing) or self._order.waiting.bytes < _WAITING_BYTES_MAX

    def _due_s(self) -> float | None:
        """When to propose the waiting records, in the loop's seconds (None: not before something else has happened)."""
        order = self._order
        if self._append is not None or not order.unordered:
            return None
        if self._order_tail.positions[ORDER] < self._read_first:
            return None
        return self._quiet_since_s + (0.0 if order.leads else self._patience_s)

    async def _propose(self) -> int:
        """Append proposals; returns the offset after the last one."""
        proposals = self._order.propose(_PROPOSALS_MAX, wall_clock_ms())
        placed = await self._log.append(ORDER.topic, [encode(proposal) for proposal in proposals])
        return placed[-1][1] + 1
