"""Pieces: what a version is made of. Whole records, one run per partition, in an order that does not depend on reading.

A read of the log is cut into pieces of bounded size. A piece is named by its offsets alone: its partitions stand in a
fixed order (first the topics to which others refer: users, relationships, tweets, engagements). Its records are applied
in the order of their append times, and at equal times in that order (``Decoder.decode``), so that a piece read while
catching up gives what its records would have given one by one.
A ``PieceSource`` decides where each piece ends and which comes next. The journal records that decision, and so does
topic ``order`` if nodes share an order: a replay and other nodes take the pieces from there, and never cut anew.
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Final, NamedTuple, Protocol

import numpy as np

from engine.batch import Kind
from streams.durable.journal import Run
from streams.events import served_records
from streams.events.packed import HEADER, ROW
from streams.log.interface import Format, Records, TopicPartition
from streams.log.merge import slice_records, time_order

#: One run per partition, in canonical order.
Piece = list[Records]

#: A create has at least six fields, hence five commas; every mention, tag, hashtag and link adds one.
_CREATE_COMMAS: Final = 5
#: A record counts as one more row per this many bytes, because copying long texts takes time, too.
_BYTES_PER_ROW: Final = 512
#: A delete counts as this many rows: it removes its tweet from up to ``interaction_graph.tweet_degree_max`` lists.
_DELETE_ROWS: Final = 512
#: A null value on ``users`` counts as this many rows: it erases a person, or goes on with that, and a piece holds no
#: second one.
_ERASE_ROWS: Final = 1 << 16
#: A tweet comes before the events that refer to it, even when both were appended in one millisecond.
_TOPIC_ORDER: Final = {
    topic: i for i, topic in enumerate(("models", "users", "relationships", "tweets", "engagements", "served"))
}


class Pieces(NamedTuple):
    """Pieces to apply, in order, one version each. ``journaled``: the journal has them already (a replay)."""

    pieces: list[Piece]
    journaled: bool


class PieceSource(Protocol):
    """Where pieces come from: the log as it is read, the journal, or the order that nodes share."""

    async def next(self) -> Pieces:
        """The next pieces; waits about as long as a poll of the log, then returns none.

        Raises:
            LogUnavailableError: the log cannot be reached; a later call goes on where this one stopped.
            LogError: the records to be read next are not in the log any more.
        """

    @property
    def positions(self) -> Mapping[TopicPartition, int]:
        """Next offsets after everything returned so far; a partition whose next offset is not known yet is missing.

        A position may lie beyond the last record returned: offsets without a record (transaction markers) are skipped.
        """

    async def close(self) -> None:
        """Close the tails; idempotent."""


def cut(runs: Sequence[Records], rows_max: int) -> Iterator[Piece]:
    """Cut runs into pieces of at most ``rows_max`` rows (as ``row_bounds`` counts), at record borders.

    The pieces follow each other in the order of the records' append times, also between partitions: what was appended
    first is in no later piece. A record is never cut: one larger than ``rows_max`` makes a piece by itself.
    """
    arranged = arrange(runs)
    order = time_order(arranged)
    run_of = np.repeat(np.arange(len(arranged)), [len(run.values) for run in arranged])
    bounds = [rows for run in arranged for rows in row_bounds(run)]
    if order is not None:
        run_of, bounds = run_of[order], np.array(bounds)[order].tolist()
    rows_until = list(accumulate(bounds, initial=0))
    taken = [0] * len(arranged)
    start = 0
    while start < len(bounds):
        stop = max(start + 1, bisect_right(rows_until, rows_until[start] + rows_max) - 1)
        counts = np.bincount(run_of[start:stop], minlength=len(arranged)).tolist()
        piece = []
        for i, (run, count) in enumerate(zip(arranged, counts, strict=True)):
            if count:
                whole = count == len(run.values)
                piece.append(run if whole else slice_records(run, taken[i], taken[i] + count))
                taken[i] += count
        yield piece
        start = stop


def arrange(runs: Sequence[Records]) -> Piece:
    """The canonical form of a piece: one run per partition, partitions in their fixed order.

    The runs of a partition must be in offset order, as every tail gives them.
    """
    by_partition: dict[TopicPartition, list[Records]] = {}
    for run in runs:
        by_partition.setdefault(TopicPartition(run.topic, run.partition), []).append(run)
    return [join(by_partition[partition]) for partition in sorted(by_partition, key=_place)]


def join(runs: Sequence[Records]) -> Records:
    """Runs of one partition, in offset order, as one."""
    if len(runs) == 1:
        return runs[0]
    return Records(
        runs[0].topic,
        runs[0].partition,
        [offset for run in runs for offset in run.offsets],
        [append_ms for run in runs for append_ms in run.append_ms],
        [form for run in runs for form in run.formats],
        [key for run in runs for key in run.keys],
        [value for run in runs for value in run.values],
        frozenset().union(*(run.doubted for run in runs)),
    )


def runs_of(piece: Piece) -> list[Run]:
    """The piece as the journal notes it."""
    return [
        Run(TopicPartition(run.topic, run.partition), run.offsets[0], run.offsets[-1], len(run.offsets))
        for run in piece
    ]


def _place(partition: TopicPartition) -> tuple[int, str, int]:
    return _TOPIC_ORDER.get(partition.topic, len(_TOPIC_ORDER)), partition.topic, partition.partition


def row_bounds(run: Records) -> list[int]:
    """An upper bound of the rows that each record gives, from its bytes alone; costly records count as more rows.

    The time to apply a piece depends on its rows. A create gives one row for itself and one per mention, media tag,
    hashtag and link. Counting commas is a hundred times cheaper than decoding, and never counts too few.
    """
    if run.formats.count(Format.JSON) == len(run.formats):
        return _json_bounds(run.topic, run.values)
    return [
        _json_bounds(run.topic, [value])[0] if form is Format.JSON else _packed_bound(run.topic, value)
        for form, value in zip(run.formats, run.values, strict=True)
    ]


def _json_bounds(topic: str, values: Sequence[bytes]) -> list[int]:
    if topic == "engagements":
        return [1] * len(values)
    if topic == "served":
        return [1 + value.count(b'"tweet_id"') for value in values]
    if topic == "users":
        return [1 + len(value) // _BYTES_PER_ROW if value else _ERASE_ROWS for value in values]
    if topic == "tweets":
        return [_tweet_bound(value) for value in values]
    return [1 + len(value) // _BYTES_PER_ROW for value in values]


def _tweet_bound(value: bytes) -> int:
    if b'"create"' in value:
        return 1 + max(0, value.count(b",") - _CREATE_COMMAS) + len(value) // _BYTES_PER_ROW
    # A delete has no field that could hold these words. A record whose type is spelled otherwise counts as a delete.
    return 1 + len(value) // _BYTES_PER_ROW if b'"edit"' in value or b'label"' in value else _DELETE_ROWS


def _packed_bound(topic: str, value: bytes) -> int:
    if topic == "served":
        return max(1, len(value) // served_records.ENTRY.itemsize)
    rows = (len(value) - HEADER.size) // ROW.itemsize
    if rows < 1:
        return 1
    kinds = np.frombuffer(value, ROW, count=rows, offset=HEADER.size)["kind"]
    return rows + (_DELETE_ROWS - 1) * int(np.count_nonzero(kinds == Kind.DELETE))
