"""A job's computation in a forked child: its result, its failures, and its bounds in time and size."""

import asyncio
import os
import signal
import time

import numpy as np
import pytest

from streams.durable.fork import CAN_FORK
from streams.jobs.computation import ForkedComputation, InlineComputation, ResultTooLargeError, start_computation
from streams.jobs.job import Result, pack, unpack

WAYS = [
    pytest.param(ForkedComputation, marks=pytest.mark.skipif(not CAN_FORK, reason="no fork here")),
    InlineComputation,
]
forked = pytest.mark.skipif(not CAN_FORK, reason="no fork here")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [0, 1, 1000])
async def test_the_result_comes_back_whole(way, size):
    content = bytes(range(256)) * 4
    assert await way(lambda: content[:size], 1000).result() == content[:size]


@pytest.mark.parametrize("way", WAYS)
async def test_a_result_that_is_too_large_is_named(way):
    with pytest.raises(ResultTooLargeError, match="more than 1000 bytes"):
        await way(lambda: bytes(1001), 1000).result()


@pytest.mark.parametrize("way", WAYS)
async def test_a_failure_says_why(way):
    def fail() -> bytes:
        raise ValueError("no such thing")

    with pytest.raises(OSError, match="ValueError: no such thing"):
        await way(fail, 10).result()


@forked
async def test_the_child_sees_the_memory_as_it_was():
    array = np.zeros(1 << 20, np.int64)

    def work() -> bytes:
        time.sleep(0.2)
        return bytes([int(array.sum() == 0)])

    computation = start_computation(work, 10)
    array[:] = 1
    assert await computation.result() == b"\x01"


@forked
async def test_a_killed_child_is_an_error():
    computation = ForkedComputation(lambda: bytes(os.kill(os.getpid(), signal.SIGKILL) or 0), 10)
    with pytest.raises(OSError, match="SIGKILL"):
        await computation.result()
    computation.kill()


@forked
async def test_a_child_that_hangs_can_be_ended():
    computation = ForkedComputation(lambda: bytes(time.sleep(600) or 0), 10)
    waiting = asyncio.ensure_future(computation.result())
    await asyncio.sleep(0.05)
    assert not waiting.done()
    computation.kill()
    with pytest.raises(OSError, match="SIGKILL"):
        await waiting


@forked
async def test_the_child_runs_at_the_lowest_priority():
    computation = ForkedComputation(lambda: str(os.nice(0)).encode(), 10)
    assert await computation.result() == b"19"


def test_results_are_packed_with_their_evaluation():
    result = Result(b"\0payload\xff", {"iterations": 6.0, "change": 0.0009409905037103926})
    assert unpack(pack(result)) == result
    assert unpack(pack(Result(b"", {}))) == Result(b"", {})
