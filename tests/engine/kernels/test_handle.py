"""A handle is to kernels and to Python what it stands for."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.kernels.handle import handle
from engine.kernels.jit import inlined, kernel


class Inner(NamedTuple):
    many: NDArray[np.int64]
    few: NDArray[np.int64]


class Outer(NamedTuple):
    rows: NDArray[np.float64]
    inner: Inner
    words: NDArray[np.uint8]


@inlined
def _more(inner, at):
    inner.few[at] += inner.many.shape[0]


@kernel
def _touch(outer, at):
    """Reads shapes, reads and writes elements, hands a part on; the rows' number."""
    outer.rows[at, 1] += outer.words[at]
    _more(outer.inner, at)
    return outer.rows.shape[0]


def make(rows):
    return Outer(np.zeros((rows, 3)), Inner(np.zeros(7, np.int64), np.zeros(4, np.int64)), np.arange(4, dtype=np.uint8))


def test_a_kernel_reads_and_writes_the_arrays_of_a_handle_as_those_of_the_tuple():
    plain, held = make(5), make(5)
    told = handle(held)
    for at in range(4):
        assert _touch(plain, at) == _touch(told, at) == 5
    for one, other in ((plain.rows, held.rows), (plain.inner.few, held.inner.few)):
        assert one.tolist() == other.tolist()
        assert one.any()


def test_a_handle_has_the_attributes_of_what_it_stands_for():
    held = make(2)
    told = handle(held)
    assert told.rows is held.rows
    assert told.inner.many is held.inner.many
    assert told._asdict() == held._asdict()


def test_two_handles_of_one_kind_do_not_mix():
    first, second = make(2), make(3)
    assert (_touch(handle(first), 3 % 2), _touch(handle(second), 2)) == (2, 3)
    assert first.rows[1, 1] == 1
    assert second.rows[2, 1] == 2
