"""The order that nodes share, as a state machine: records and proposals in, pieces and proposals out.

Every node reads topic ``order`` and decides by the same rule: a proposal fits if each of its runs begins exactly at
its partition's next position; one that fits is the next version, any other is passed over. So whatever anybody
proposes, and however often, all nodes come to the same pieces. Who proposes when is only a matter of speed.
Pure: no clock, no I/O.
"""

from collections import deque
from collections.abc import Mapping
from itertools import islice
from typing import NamedTuple

from streams.log.interface import Records, TopicPartition
from streams.log.merge import slice_records
from streams.ordering.pieces import Piece, arrange, cut, runs_of
from streams.ordering.proposals import ORDER, Proposal, ProposedRun, decode
from streams.ordering.waiting import Waiting


class _Accepted(NamedTuple):
    proposal: Proposal
    #: The record that proposed it; it is part of the piece, so that positions and journal name it.
    record: Records


class SharedOrder:
    """One node's view of a line: what is ordered, what is not yet, and which records wait for their turn.

    ``positions`` are next offsets. ``rows_max`` bounds the pieces it proposes.
    """

    def __init__(self, line: str, node: int, positions: Mapping[TopicPartition, int], *, rows_max: int) -> None:
        self.line, self.node = line, node
        #: Records that were read and not given in a piece yet.
        self.waiting = Waiting()
        #: Proposals of this line that were taken, and that did not fit.
        self.accepted = self.ignored = 0
        #: Whose proposal was taken last (None: nobody's since the start).
        self.leader: int | None = None
        self._rows_max = rows_max
        #: Next offsets once all that is ordered is applied, and once all that was taken is.
        self._ordered = {where: offset for where, offset in positions.items() if where != ORDER}
        self._taken = dict(self._ordered)
        self._queue: deque[_Accepted] = deque()

    @property
    def leads(self) -> bool:
        """Whether this node's proposals are the ones that are taken now."""
        return self.leader == self.node

    @property
    def missing(self) -> list[ProposedRun]:
        """What the next piece still waits for; nothing when there is no next one."""
        runs = self._queue[0].proposal.runs if self._queue else ()
        return [run for run in runs if not self.waiting.reaches(run.where, run.last)]

    @property
    def queued(self) -> int:
        """How many pieces are ordered and were not taken."""
        return len(self._queue)

    @property
    def unordered(self) -> bool:
        """Whether records wait that nobody has ordered (known only once all that is ordered was taken)."""
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
        """The next piece, once all its records are there: one run a partition, and its record of ``order``.

        Raises:
            ReplayError: the log has other records than were ordered.
        """
        if not self._queue or self.missing:
            return None
        proposal, record = self._queue.popleft()
        self._taken |= {run.where: run.last + 1 for run in proposal.runs}
        return arrange([*(self.waiting.take(run.where, run.last, run.count) for run in proposal.runs), record])

    def propose(self, pieces_max: int) -> list[Proposal]:
        """What waits, as the next versions; nothing while something that is ordered was not taken."""
        if not self.unordered:
            return []
        proposals = []
        ordered = dict(self._ordered)
        for piece in islice(cut(self.waiting.all(), self._rows_max), pieces_max):
            runs = []
            for partition, _, last, count in runs_of(piece):
                runs.append(ProposedRun(*partition, ordered.get(partition, 0), last, count))
                ordered[partition] = last + 1
            proposals.append(Proposal(self.line, self.node, tuple(runs)))
        return proposals

    def settled(self, partition: TopicPartition) -> bool:
        """Whether all that was read of a partition, and all that is ordered of it, was given in pieces."""
        return not self.waiting.of(partition) and self._taken.get(partition, 0) == self._ordered.get(partition, 0)
