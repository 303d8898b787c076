"""Kernels about the viewer, before candidates are fetched: each does all that a query hydrator asks of the rooms."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.in_network.kernels import order_by_ties
from engine.kernels.handle import handle
from engine.kernels.id_map import find, find_in
from engine.kernels.jit import quick
from engine.kernels.ring_slices import degree
from engine.real_graph.read_kernels import tie_weight
from engine.signals.arrays import ENGAGEMENTS
from engine.signals.read_kernels import count_since
from engine.social_graph import read_kernels as social_kernels
from engine.social_graph.arrays import FOLLOWEES_AT
from engine.visibility.kernels import judge_people

#: The most followees of whom these kernels tell: they keep the GIL. Of more people, ``followees_of`` does.
FEW = 2048
_ZERO = np.uint64(0)


class ViewerArrays(NamedTuple):
    """A reader's room for the followees of one viewer, ``FEW`` rows each.

    ``ids`` uint64 and ``relation`` uint8: all of them, newest follow first; ``chosen`` uint64: those whose tweets are
    looked at, strongest tie first; ``named`` uint64 and ``weights`` float64: those of them who may be named, and what
    the ties weigh. The others are scratch: ``order`` and ``spare`` int32, ``own`` uint8, ``hidden`` uint16.
    """

    ids: NDArray[np.uint64]
    relation: NDArray[np.uint8]
    chosen: NDArray[np.uint64]
    named: NDArray[np.uint64]
    weights: NDArray[np.float64]
    order: NDArray[np.int32]
    spare: NDArray[np.int32]
    own: NDArray[np.uint8]
    hidden: NDArray[np.uint16]


class ViewerScratch:
    """``ViewerArrays`` of one reader thread, and their handle for kernels."""

    def __init__(self) -> None:
        ids = [np.empty(FEW, np.uint64) for _ in range(3)]
        order, spare = np.empty(FEW, np.int32), np.empty(FEW, np.int32)
        bits, hidden = [np.empty(FEW, np.uint8) for _ in range(2)], np.empty(FEW, np.uint16)
        self.arrays = ViewerArrays(ids[0], bits[0], ids[1], ids[2], np.empty(FEW), order, spare, bits[1], hidden)
        self.handle = handle(self.arrays)


@quick
def followees(social: Any, interaction: Any, viewer_id: Any, a: Any) -> Any:
    """Write the newest ``FEW`` of whom a viewer follows into ``a`` (``ViewerArrays``); returns how many these are, how
    many there are in all, and how many edges the viewer has in the interaction graph.

    ``social``, ``interaction``: the rooms' arrays.
    """
    written = np.int64(social_kernels.followees(social, viewer_id, a.order, a.ids, a.relation))
    whole = np.int64(social_kernels.live_count(social, viewer_id, FOLLOWEES_AT))
    node = np.int64(find_in(interaction.user_slots, viewer_id))
    edges = np.int64(degree(interaction.user_records[node])) if node >= 0 else np.int64(0)
    return written, whole, edges


@quick
def choose_followees(profiles: Any, viewer_id: Any, strength: Any, most: Any, newest_share: Any, a: Any) -> Any:
    """Choose and order the followees in ``a`` by their ties (``order_by_ties``; ``strength`` float32, n), and leave out
    who may not be named; returns how many are chosen, and how many of them may be named."""
    order, own = a.order, a.own
    n = np.int64(order_by_ties(strength, most, newest_share, order, a.spare))
    for i in range(n):
        a.chosen[i] = a.ids[order[i]]
        own[i] = a.relation[order[i]]
    judge_people(profiles, viewer_id, a.chosen[:n], own[:n], a.spare[:n], a.hidden[:n])
    named = np.int64(0)
    for i in range(n):
        if a.hidden[i] == 0:
            a.named[named] = a.chosen[i]
            a.weights[named] = tie_weight(strength[order[i]])
            named += 1
    return n, named


@quick
def known_of(profiles: Any, signals: Any, viewer_id: Any, since_ms: Any) -> Any:
    """A viewer's profile bits (0 without a profile), and how many engagements, not taken back, since a time."""
    place = np.int64(find(profiles.ids, viewer_id))
    bits = profiles.bits[place] if place >= 0 else _ZERO
    return np.int64(bits), np.int64(count_since(signals, viewer_id, ENGAGEMENTS, since_ms))
