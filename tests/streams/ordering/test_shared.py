"""The order that nodes share, as a state machine: whatever is proposed and delayed, all come to the same pieces."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.log.interface import Format, Records, TopicPartition
from streams.ordering.proposals import (
    ORDER,
    Genesis,
    Proposal,
    ProposedRun,
    decode,
    encode,
    line_id,
    of_rooms,
)
from streams.ordering.shared import SharedOrder
from streams.ordering.waiting import ReplayError

LINE = "0123456789abcdef"
A, B, C = TopicPartition("engagements", 0), TopicPartition("engagements", 1), TopicPartition("tweets", 0)
PARTITIONS = (A, B, C)
ROWS_MAX = 2
NOW_MS = 1_760_000_000_000


def records(
    where: TopicPartition, offsets: list[int], values: list[bytes] | None = None, doubted: frozenset[int] = frozenset()
) -> Records:
    n = len(offsets)
    values = [b"{}"] * n if values is None else values
    return Records(where.topic, where.partition, offsets, [0] * n, [Format.JSON] * n, [b""] * n, values, doubted)


@dataclass
class Log:
    """Partitions as offset lists (gaps possible), and the order as values."""

    data: dict[TopicPartition, list[int]] = field(default_factory=lambda: {where: [] for where in PARTITIONS})
    order: list[bytes] = field(default_factory=list)


class Node:
    """A node with its two readers. ``given`` is every piece, by its offsets."""

    def __init__(self, log: Log, number: int, after: "Node | None" = None):
        """``after``: goes on where that one was, as from a snapshot."""
        self.log, self.number = log, number
        self.given = list(after.given) if after else []
        self.positions = dict(after.positions) if after else {A: 0, C: 0, ORDER: 0}
        self.order = SharedOrder(LINE, number, self.positions, rows_max=ROWS_MAX)
        self.read = dict(self.positions)

    def read_data(self, where: TopicPartition, most: int):
        fresh = [offset for offset in self.log.data[where] if offset >= self.read.get(where, 0)][:most]
        if fresh:
            # Every node doubts other append times than the others.
            doubted = frozenset(offset for offset in fresh if (offset + self.number) % 3 == 0)
            self.order.waiting.add([records(where, fresh, doubted=doubted)])
            self.read[where] = fresh[-1] + 1

    def read_order(self, most: int):
        first = self.read[ORDER]
        values = self.log.order[first : first + most]
        if values:
            self.order.read(records(ORDER, list(range(first, first + len(values))), values))
            self.read[ORDER] = first + len(values)

    def take(self):
        while (piece := self.order.take()) is not None:
            assert piece[-1].topic == ORDER.topic
            assert sum(len(run.offsets) for run in piece[:-1]) <= ROWS_MAX
            self.given.append([(run.topic, run.partition, run.offsets, run.append_ms) for run in piece])
            for run in piece:
                self.positions[TopicPartition(run.topic, run.partition)] = run.offsets[-1] + 1

    def propose(self, most: int = 3) -> list[bytes]:
        return [encode(proposal).value for proposal in self.order.propose(most, now_ms=1000 + self.number)]

    def read_all(self):
        for where in PARTITIONS:
            self.read_data(where, 10_000)
        self.read_order(10_000)
        self.take()


nodes = st.integers(0, 2)
sizes = st.integers(1, 9)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.sampled_from(PARTITIONS), st.lists(st.integers(1, 3), min_size=1, max_size=9)),
        st.tuples(st.just("read"), nodes, st.sampled_from(PARTITIONS), sizes),
        st.tuples(st.just("order"), nodes, sizes),
        st.tuples(st.just("take"), nodes),
        st.tuples(st.just("propose"), nodes, st.integers(1, 3)),
        st.tuples(st.just("arrive"), st.integers(0, 5)),
        st.tuples(st.just("restart"), nodes, st.booleans()),
        st.tuples(st.just("noise"), st.sampled_from([b"", b"[]", b'{"type":"proposal"}', b"\xff\xfe", b"[" * 5000])),
    ),
    min_size=20,
    max_size=100,
)


@settings(max_examples=400)
@given(steps, nodes)
def test_all_nodes_come_to_the_same_pieces_and_one_alone_goes_on(plan, survivor):
    log = Log()
    cluster = [Node(log, number) for number in range(3)]
    under_way: list[list[bytes]] = []
    for step in plan:
        match step:
            case "append", where, gaps:
                for gap in gaps:
                    log.data[where].append((log.data[where] or [-1])[-1] + gap)
            case "read", number, where, most:
                cluster[number].read_data(where, most)
            case "order", number, most:
                cluster[number].read_order(most)
            case "take", number:
                cluster[number].take()
            case "propose", number, most:
                under_way.append(cluster[number].propose(most))
            case "arrive", which if under_way:
                log.order += under_way.pop(which % len(under_way))
            case "restart", number, from_snapshot:
                cluster[number] = Node(log, number, cluster[number] if from_snapshot else None)
            case "noise", value:
                log.order.append(value)
    # Whatever is still under way arrives; then one node alone orders what is left.
    for proposals in under_way:
        log.order += proposals
    last = cluster[survivor]
    last.read_all()
    while proposals := last.propose():
        assert last.order.unordered
        log.order += proposals
        last.read_all()
        assert last.order.leads
    for node in (*cluster, Node(log, 9)):
        node.read_all()
        assert node.given == last.given
        assert node.positions == last.positions
        assert not node.order.missing
        assert not node.order.waiting
        assert node.order.waiting.bytes == 0
        assert all(node.order.settled(where) for where in PARTITIONS)
    for where in PARTITIONS:
        given_offsets = [o for piece in last.given for *at, offsets, _ in piece if tuple(at) == where for o in offsets]
        assert given_offsets == log.data[where]


def proposal(*runs: tuple, line: str = LINE, node: int = 7) -> bytes:
    return encode(Proposal(line, node, tuple(ProposedRun(*run) for run in runs))).value


GOOD = ("engagements", 0, 0, 4, 5)


@pytest.mark.parametrize(
    "value",
    [
        proposal(("engagements", 0, 1, 4, 4)),  # not the next position
        proposal(("engagements", 0, 0, 4, 6)),  # more records than offsets
        proposal(("engagements", 0, 0, 4, 0)),
        proposal(("engagements", 0, 0, -1, 0)),
        proposal(("engagements", -1, 0, 4, 5)),
        proposal(GOOD, ("engagements", 0, 5, 6, 2)),  # one partition twice
        proposal(GOOD, ("tweets", 0, 3, 4, 2)),  # one of the runs does not fit
        proposal(("order", 0, 0, 4, 5)),
        proposal(),
        proposal(GOOD, line="another line 012"),
        encode(Genesis(LINE, ())).value,
    ],
)
def test_what_does_not_fit_changes_nothing(value):
    order = SharedOrder(LINE, 1, {ORDER: 0}, rows_max=10)
    order.read(records(ORDER, [0], [value]))
    assert order.accepted == 0
    assert order.leader is None
    order.read(records(ORDER, [1, 2], [proposal(GOOD), proposal(GOOD)]))
    assert (order.accepted, order.leader) == (1, 7)
    assert order.missing == [ProposedRun(*GOOD)]
    assert order.take() is None
    order.waiting.add([records(A, [0, 1, 2, 3]), records(A, [4, 5])])
    piece = order.take()
    assert [(run.topic, run.offsets) for run in piece] == [("engagements", [0, 1, 2, 3, 4]), ("order", [1])]


def test_records_that_are_gone_are_no_piece():
    order = SharedOrder(LINE, 1, {ORDER: 0}, rows_max=10)
    order.read(records(ORDER, [0], [proposal(GOOD)]))
    order.waiting.add([records(A, [0, 1, 3, 4])])
    with pytest.raises(ReplayError, match="engagements/0"):
        order.take()


def test_nothing_is_proposed_twice_while_what_is_ordered_was_not_taken():
    order = SharedOrder(LINE, 1, {ORDER: 0}, rows_max=2)
    order.waiting.add([records(A, [0, 1, 2, 3, 4])])
    first = order.propose(10, NOW_MS)
    assert [[(run.position, run.last, run.count) for run in p.runs] for p in first] == [
        [(0, 1, 2)],
        [(2, 3, 2)],
        [(4, 4, 1)],
    ]
    order.read(records(ORDER, [0], [encode(first[0]).value]))
    assert order.propose(10, NOW_MS) == []
    assert not order.unordered
    order.take()
    assert order.propose(10, NOW_MS) == first[1:]


def test_a_line_names_its_rooms():
    one, other = line_id("a" * 16, 5), line_id("b" * 16, 5)
    assert len(one) == 16
    assert line_id("a" * 16, (1 << 63) + 5)[8:] == "00000005"
    assert of_rooms(one, "a" * 16)
    assert not of_rooms(other, "a" * 16)
    genesis = Genesis(one, (("tweets", 3, 17),), replaces=other)
    assert decode(encode(genesis).value, Format.JSON) == genesis
    assert decode(encode(genesis).value, Format.PACKED) is None
    assert genesis.start_positions == {TopicPartition("tweets", 3): 17}
