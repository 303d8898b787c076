"""The order that nodes share, as a state machine: records and proposals in, pieces and proposals out.

Every node reads topic ``order`` and decides by the same rule: a proposal fits if each of its runs begins exactly at
its partition's next position. A proposal that fits is the next version; any other is ignored. So all nodes reach the
same pieces, whoever proposes and however often. Who proposes when affects only the speed.
Pure: no clock, no I/O.
"""

from collections import deque
from collections.abc import Collection, Mapping
from itertools import islice
from typing import NamedTuple

from streams.log.interface import Records, TopicPartition
from streams.log.merge import slice_records
from streams.log.record_times import settle, settled_again, settled_of
from streams.ordering.pieces import Piece, arrange, cut, runs_of
from streams.ordering.proposals import ORDER, Proposal, ProposedRun, decode
from streams.ordering.waiting import Waiting


class _Accepted(NamedTuple):
    proposal: Proposal
    #: The record that holds the proposal. It is part of the piece, so that positions and journal name it.
    record: Records


class SharedOrder:
    """One node's view of a line: which records are ordered, which are not yet, and which wait for their turn.

    ``positions`` are next offsets. ``rows_max`` bounds the pieces that this node proposes. ``compacted``: see
    ``Waiting``.
    """

    def __init__(
        self,
        line: str,
        node: int,
        positions: Mapping[TopicPartition, int],
        *,
        rows_max: int,
        compacted: Collection[str] = (),
    ) -> None:
        self.line, self.node = line, node
        #: Records that were read and are in no piece yet.
        self.waiting = Waiting(compacted)
        #: How many proposals of this line were accepted, and how many did not fit.
        self.accepted = self.ignored = 0
        #: The node whose proposal was accepted last (None: no proposal since the start).
        self.leader: int | None = None
        self._rows_max = rows_max
        #: Next offsets after all ordered records, and after all records that ``take`` has returned.
        self._ordered = {where: offset for where, offset in positions.items() if where != ORDER}
        self._taken = dict(self._ordered)
        self._queue: deque[_Accepted] = deque()

    @property
    def leads(self) -> bool:
        """Whether the proposal that was accepted last is this node's."""
        return self.leader == self.node

    @property
    def missing(self) -> list[ProposedRun]:
        """The runs that the next piece still waits for; empty if no piece is ordered."""
        runs = self._queue[0].proposal.runs if self._queue else ()
        return [run for run in runs if not self.waiting.reaches(run.where, run.last)]

    @property
    def queued(self) -> int:
        """How many pieces are ordered and not taken yet."""
        return len(self._queue)

    @property
    def unordered(self) -> bool:
        """Whether records wait that no node has ordered (False until all ordered pieces are taken)."""
        return not self._queue and bool(self.waiting)

    def read(self, run: Records) -> None:
        """Take the next records of topic ``order`` into account."""
        for i, value in enumerate(run.values):
            record = decode(value, run.formats[i])
            if not isinstance(record, Proposal) or record.line != self.line:
                continue
            if record.sound() and all(self._ordered.get(r.where, 0) == r.position for r in record.runs):
                self._ordered |= {r.where: r.last + 1 for r in record.runs}
                self._queue.append(_Accepted(record, slice_records(run, i, i + 1)))
                self.leader = record.node
                self.accepted += 1
            else:
                self.ignored += 1

    def take(self) -> Piece | None:
        """The next piece (its runs and its record of topic ``order``), or None while any of its records is missing.

        Raises:
            ReplayError: the log has other records than were ordered.
        """
        if not self._queue or self.missing:
            return None
        proposal, record = self._queue.popleft()
        self._taken |= {run.where: run.last + 1 for run in proposal.runs}
        settled = proposal.settled
        taken = (self.waiting.take(run.where, run.last, run.count) for run in proposal.runs)
        return arrange([*(settled_again(run, settled) for run in taken if run is not None), record])

    def propose(self, pieces_max: int, now_ms: int) -> list[Proposal]:
        """Proposals of the waiting records as the next versions; empty until all ordered pieces are taken.

        ``now_ms`` is taken for append times that cannot be true.
        """
        if not self.unordered:
            return []
        proposals = []
        ordered = dict(self._ordered)
        for piece in islice(cut(settle(self.waiting.all(), now_ms), self._rows_max), pieces_max):
            runs = []
            for partition, _, last, count in runs_of(piece):
                runs.append(ProposedRun(*partition, ordered.get(partition, 0), last, count))
                ordered[partition] = last + 1
            times = tuple((*known.partition, known.offset, known.time_ms) for known in settled_of(piece))
            proposals.append(Proposal(self.line, self.node, tuple(runs), times))
        return proposals

    def settled(self, partition: TopicPartition) -> bool:
        """Whether every record of a partition that was read or ordered has been returned in a piece."""
        return not self.waiting.of(partition) and self._taken.get(partition, 0) == self._ordered.get(partition, 0)
