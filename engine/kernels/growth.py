"""Copies the contents of smaller arrays into larger ones: the steps that rooms take when a capacity has grown.

Used only after a change of configuration, so warm-up does not compile anything here. The targets are newly made: empty,
and at least as large as the sources.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.kernels import calendar_log, ring_slices
from engine.kernels.calendar_log import CalendarLog
from engine.kernels.id_map import CAPACITY, IdMap
from engine.kernels.jit import kernel
from engine.kernels.ring_slices import SliceArena
from engine.kernels.rng import mix64

_TEXT_STEP = 1 << 20
_ONE = np.uint64(1)
_ZERO = np.uint64(0)


def copy_rows(target: NDArray[Any], source: NDArray[Any], first: int = 0) -> None:
    """Copy the source's rows to the target's beginning; ``first`` is the source row that becomes row 0 (a ring)."""
    count = len(source)
    target[: count - first] = source[first:]
    target[count - first : count] = source[:first]


def grow_id_map(target: IdMap, source: IdMap, first: int = 0) -> None:
    """Enter all ids under their indices; ``first``: the index that becomes 0 (in a full map)."""
    copy_rows(target.keys, source.keys, first)
    target.free[: len(source.free)] = source.free
    capacity = target.header[CAPACITY]
    target.header[:] = source.header
    target.header[CAPACITY] = capacity
    enter_keys(target.slots, target.keys, np.int64(len(source.keys)))


@kernel
def enter_keys(slots: Any, keys: Any, count: Any) -> None:
    """Enter the ids of the first ``count`` indices into empty ``slots``."""
    mask = np.uint64(slots.shape[0] // 2 - 1)
    for index in range(count):
        if keys[index] != _ZERO:
            at = mix64(keys[index]) & mask
            while slots[at << _ONE] != _ZERO:
                at = (at + _ONE) & mask
            slots[at << _ONE] = keys[index]
            slots[(at << _ONE) | _ONE] = np.uint64(index)


def grow_arena(target: SliceArena, source: SliceArena) -> None:
    """Keep every slice in its place; the slots beyond the source's are free."""
    end, slots = len(source.entries), len(target.entries)
    target.entries[:end] = source.entries
    target.marks[:] = 0
    target.marks[: len(source.marks)] = source.marks
    target.header[:] = source.header
    start = end
    while start < slots:
        size = min(start & -start, 1 << ((slots - start).bit_length() - 1))
        ring_slices.release(target, np.int64(start), np.int64(size.bit_length() - 1))
        start += size


def grow_calendar_log(target: CalendarLog, source: CalendarLog) -> None:
    """Keep every entry; the target's ring of pages may be larger, for a longer span."""
    target.entries[: len(source.entries)] = source.entries
    target.after[: len(source.after)] = source.after
    target.seconds[:] = source.seconds
    target.header[:] = source.header
    opened = int(source.header[calendar_log.OPEN_PAGE])
    first = opened - 1 if opened else int(source.header[calendar_log.FIRST_PAGE])
    numbers = first + np.arange(len(source.pages) // 2)
    old, new = numbers % (len(source.pages) // 2), numbers % (len(target.pages) // 2)
    target.pages.reshape(-1, 2)[new] = source.pages.reshape(-1, 2)[old]


def grow_text(target: NDArray[np.uint8], source: NDArray[np.uint8], written: int) -> None:
    """Copy the ring's bytes to their places in the larger ring; ``written``: bytes written since the beginning."""
    for start in range(max(0, written - len(source)), written, _TEXT_STEP):
        offsets = np.arange(start, min(start + _TEXT_STEP, written))
        target[offsets % len(target)] = source[offsets % len(source)]
