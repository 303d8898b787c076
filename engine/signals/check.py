"""Checks the invariants of the room signals, in plain Python (slow)."""

import numpy as np

from engine.errors import InvariantError
from engine.kernels.id_map import lookup
from engine.signals import arrays as s


def _require(truth: object, message: str) -> None:
    if not truth:
        raise InvariantError(f"signals: {message}")


def check(store: s.Store) -> None:
    """Verify the arrays against each other.

    Raises:
        InvariantError: names the first invariant that does not hold.
    """
    known = [v for v in range(len(store.viewers)) if store.ids.keys[v]]
    _require(sorted(_order(store)) == known, "the order of activity does not name exactly the known viewers")
    blocks: list[int] = []
    for v in range(len(store.viewers)):
        record = store.viewers[v].tolist()
        if not store.ids.keys[v]:
            _require(not any(record) and not store.order[v].any(), f"viewer {v}: unused but not zero")
            continue
        _require(lookup(store.ids, int(store.ids.keys[v])) == v, f"viewer {v} cannot be found by its id")
        of_viewer = [block for which in range(s.LISTS) for block in _check_list(store, v, which)]
        _require(of_viewer, f"viewer {v} has no block to give up")
        blocks += of_viewer
    header = store.header.tolist()
    _require(len(blocks) == header[s.BLOCKS_USED], f"{len(blocks)} blocks in lists, {header[s.BLOCKS_USED]} counted")
    blocks += _chain(store, header[s.FREE_BLOCK], len(store.blocks))
    _require(sorted(blocks) == list(range(1, header[s.BLOCKS_HIGH] + 1)), "a block is lost or in two chains")
    stored = int(store.header[s.STORED : s.STORED + s.LISTS].sum(dtype=np.int64))
    spans = store.viewers[known, s.SPAN : s.SPAN + s.LISTS * s.LIST_COLUMNS : s.LIST_COLUMNS]
    present = int((spans >> s.COUNT_SHIFT).sum(dtype=np.int64))
    gone = header[s.EVICTED_ENTRIES] + header[s.DROPPED_LIST_FULL] + header[s.TAKEN_BACK]
    _require(present + gone == stored, f"{present} entries present and {gone} gone of {stored}")


def _order(store: s.Store) -> list[int]:
    """Viewers from the newest to the oldest active."""
    order: list[int] = []
    at, before = int(store.header[s.NEWEST]), 0
    while at:
        _require(store.order[at - 1, s.NEWER] == before, f"viewer {at - 1}: the order of activity is broken")
        order.append(at - 1)
        _require(len(order) <= len(store.viewers), "the order of activity has a cycle")
        before, at = at, int(store.order[at - 1, s.OLDER])
    _require(store.header[s.OLDEST] == before, "the order of activity does not end at the oldest viewer")
    return order


def _chain(store: s.Store, first: int, blocks_max: int) -> list[int]:
    chain: list[int] = []
    while first:
        chain.append(first)
        _require(len(chain) <= blocks_max, "a chain has a cycle")
        first = int(store.blocks[first - 1, 0])
    return chain


def _check_list(store: s.Store, v: int, which: int) -> list[int]:
    """The blocks of one list; checks that their number fits the list's length and places."""
    at = which * s.LIST_COLUMNS
    first, last, span = store.viewers[v, at : at + s.LIST_COLUMNS].tolist()
    count, tail, head = span >> s.COUNT_SHIFT, (span >> s.TAIL_SHIFT) & s.PLACE_MASK, span & s.PLACE_MASK
    per = s.per_block(which)
    name = f"viewer {v}, list {which}"
    if not first:
        _require(last == 0 and span == 0, f"{name}: a length, but no block")
        return []
    chain = _chain(store, first, len(store.blocks))
    _require(chain[-1] == last, f"{name}: ends at {chain[-1]}, not at {last}")
    _require(count <= store.entries_max[which], f"{name}: {count} entries")
    _require(head < per and tail <= per, f"{name}: place {head} or {tail} outside the block")
    _require((len(chain) - 1) * per + tail - head == count, f"{name}: {count} entries in {len(chain)} blocks")
    return chain
