"""Backs the arrays of rooms by memory before they are written.

The operating system gives a page of memory at the first write to it; the writer waits until the system has found and
zeroed it, and that must not happen under the write lock. Arrays that are written anywhere are backed whole at the
start. Large arrays that come into use row by row (``Bounded.in_order``) are backed at most ``AHEAD_BYTES`` ahead of
their use, so an empty state takes little more than its tables. Only the writer's thread calls this: it writes the bytes
that are there already.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.room import Bounded

PAGE_BYTES = 4096
#: Arrays in order are backed in steps of this, and at least this far ahead of the rows in use.
AHEAD_BYTES = 1 << 20
#: Applied rows after which the rooms are looked at again. A row brings at most 128 bytes into use in most arrays, so
#: these and a piece of 2,048 rows stay within ``AHEAD_BYTES``. What may go further: a very long list that moves to a
#: slice of twice the size, many long texts, more than 600 new viewers (1.7 KB of pairs each). The system then gives
#: those pages while the piece is applied, once.
ROWS_BETWEEN = 4096


class Backing:
    """How far the arrays of some rooms are backed. ``touch`` comes first; before it, ``keep_ahead`` does nothing."""

    def __init__(self, rooms: Sequence[Bounded]) -> None:
        self._rooms = rooms
        #: By room, bytes that are backed of each array of ``in_order``.
        self._backed: list[list[int]] = []
        self._rows = 0

    def touch(self) -> None:
        """Back everything except what comes into use later, and what a room lists as ``untouched``."""
        self._backed = []
        for room in self._rooms:
            in_order = {part.array: part for part in room.in_order()}
            for name, array in room.arrays().items():
                if array.size and not name.startswith(room.untouched):
                    part = in_order.get(name)
                    _touch(_bytes(array)[0 if part is None else _rows_bytes(array, part.rows) :])
            self._backed.append([0] * len(in_order))
            self._keep_ahead(room, self._backed[-1])
        self._rows = ROWS_BETWEEN  # what a start fills after this is looked at before the first piece

    def note(self, rows: int) -> None:
        """Count applied rows."""
        self._rows += rows

    def keep_ahead(self) -> None:
        """Back what the next rows will bring into use; does nothing most of the time."""
        if self._rows >= ROWS_BETWEEN:
            self._rows = 0
            for room, backed in zip(self._rooms, self._backed, strict=False):
                self._keep_ahead(room, backed)

    def _keep_ahead(self, room: Bounded, backed: list[int]) -> None:
        arrays = room.arrays()
        for at, part in enumerate(room.in_order()):
            array = arrays[part.array]
            wanted = -(-_rows_bytes(array, part.used) // AHEAD_BYTES) * AHEAD_BYTES + AHEAD_BYTES
            end = min(wanted, _rows_bytes(array, part.rows))
            if end > backed[at]:
                _touch(_bytes(array)[backed[at] : end])
                backed[at] = end


def _bytes(array: NDArray[Any]) -> NDArray[np.uint8]:
    return array.reshape(-1).view(np.uint8)


def _rows_bytes(array: NDArray[Any], rows: int) -> int:
    return min(rows, len(array)) * array.strides[0]


def _touch(part: NDArray[np.uint8]) -> None:
    """Write one byte of every page as it is; values stay."""
    pages = part[::PAGE_BYTES]
    np.add(pages, 0, out=pages, casting="unsafe")
