"""Copies a smaller social graph's users, edges, lists and acts into a larger graph."""

from typing import Any

from engine.kernels.erasing import copy_queue
from engine.kernels.growth import copy_rows, grow_id_map
from engine.kernels.jit import kernel
from engine.social_graph.acts import enter_act
from engine.social_graph.arrays import FLAG_BITS, ZERO, Graph, home


def grow(target: Graph, source: Graph) -> None:
    """Fill the empty ``target``, whose arrays are at least as large: users and lists keep their places."""
    grow_id_map(target.ids, source.ids)
    copy_rows(target.users, source.users)
    copy_rows(target.arena, source.arena)
    target.free[:] = source.free
    target.header[:] = source.header
    target.erasing[:] = source.erasing
    copy_queue(target.erasing_acts, source.erasing_acts, len(target.acts.keys))
    for name in ("keys", "moments", "links"):
        copy_rows(getattr(target.acts, name), getattr(source.acts, name))
    grow_id_map(target.unkept.ids, source.unkept.ids)
    for name in ("others", "flags", "moments", "more"):
        getattr(target.unkept, name)[:] = getattr(source.unkept, name)
    _enter(target, source.edges, source.sequences, source.follow_moment)


@kernel
def _enter(g: Any, edges: Any, sequences: Any, follow_moment: Any) -> None:
    """Enter the edges of another table, and the acts in use, into the empty tables of ``g``."""
    mask = g.edges.shape[0] - 1
    for slot in range(edges.shape[0]):
        if edges[slot] != ZERO:
            at = home(g, edges[slot] >> FLAG_BITS)
            while g.edges[at] != ZERO:
                at = (at + 1) & mask
            g.edges[at] = edges[slot]
            g.sequences[at, 0] = sequences[slot, 0]
            g.sequences[at, 1] = sequences[slot, 1]
            g.follow_moment[at] = follow_moment[slot]
    for row in range(g.acts.keys.shape[0]):
        if g.acts.keys[row] != ZERO:
            enter_act(g, row)
