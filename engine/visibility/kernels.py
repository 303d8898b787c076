"""Kernels that judge tweets and people: a fault of an entry of ``Related`` is a fault of the tweet that has it."""

from typing import Any

import numpy as np

from engine.kernels.jit import kernel, quick
from engine.social_graph import read_kernels as social_kernels
from engine.social_graph.state import Relation
from engine.visibility.labels import mark_labels
from engine.visibility.relate import ORIGINAL_AUTHOR, Related, relate
from engine.visibility.standing import mark_standing

#: Bits of ``Judged.hidden`` that are decided here; ``judge.Hidden`` names them.
BIT_BLOCKED, BIT_MUTED = np.uint16(4), np.uint16(8)

_BLOCK = np.int64(Relation.BLOCKS | Relation.BLOCKED_BY)
_MUTE = np.int64(Relation.MUTES | Relation.MUTED_BY)


@kernel
def mark_blocks_and_mutes(relation: Any, row: Any, hidden: Any) -> None:
    """Mark in ``hidden`` (uint16, n) the row (int32, m) of every entry whose ``relation`` (uint8, m) has a block or a
    mute, in either direction."""
    for at in range(relation.shape[0]):
        bits = np.int64(relation[at])
        if bits & _BLOCK != 0:
            hidden[row[at]] |= BIT_BLOCKED
        if bits & _MUTE != 0:
            hidden[row[at]] |= BIT_MUTED


@kernel
def join_bits(column: Any, row: Any, out: Any) -> None:
    """Write into ``out`` (uint8, n) the union of all entries' bits of ``column`` (uint8, m) by row (int32, m)."""
    n = out.shape[0]
    for at in range(n):
        out[at] = column[at]
    for at in range(n, column.shape[0]):
        out[row[at]] |= column[at]


@kernel
def judge(
    store: Any, graph: Any, profiles: Any, viewer_id: Any, tweet_ids: Any, whole: Any, facts: Any, bits: Any
) -> Any:
    """Find what tweets (uint64, n) stand for, and mark them by all but their words; returns how many entries there are.

    ``store``, ``graph`` (the social graph), ``profiles``: the rooms' arrays. ``whole`` and ``facts`` are filled as by
    ``relate``. ``bits``: the ``Relation`` bits of entries (uint8, as long as ``whole``), their union by tweet (uint8,
    n), and scratch (int32, as long as ``whole``).
    """
    relation, joined, numbers = bits
    m = np.int64(relate(store, tweet_ids, whole, facts))
    related = Related(whole.row[:m], whole.slot[:m], whole.author_id[:m])
    authors, row, own = related.author_id, related.row, relation[:m]
    social_kernels.relation(graph, viewer_id, authors, numbers[:m], own)
    mark_blocks_and_mutes(own, row, facts.hidden)
    mark_standing(profiles, viewer_id, authors, own, row, facts.ids[ORIGINAL_AUTHOR], facts.hidden)
    mark_labels(store.labels, profiles, viewer_id, related, own, facts.hidden)
    join_bits(own, row, joined)
    return m


@quick
def judge_people(profiles: Any, viewer_id: Any, user_ids: Any, relation: Any, row: Any, hidden: Any) -> None:
    """Mark in ``hidden`` (uint16, n) the people (uint64, n) who may not be named to the viewer; ``relation`` (uint8, n)
    has their ``Relation`` bits, ``row`` (int32, n) is scratch."""
    for i in range(user_ids.shape[0]):
        row[i] = i
        hidden[i] = 0
    mark_blocks_and_mutes(relation, row, hidden)
    mark_standing(profiles, viewer_id, user_ids, relation, row, user_ids, hidden)
