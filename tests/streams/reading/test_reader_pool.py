"""The pool of reader threads: results and errors come back, cancelled calls are left out, closing finishes the rest."""

import asyncio
import threading

import pytest

from streams.reading.reader_pool import ReaderPool


@pytest.fixture
def pool():
    prepared = []
    made = ReaderPool(2, lambda: prepared.append(threading.current_thread().name), name="reader")
    made.prepared = prepared
    yield made
    made.close()


async def test_results_and_errors_come_back_from_threads_that_were_prepared(pool):
    def fail():
        raise ValueError("no")

    names = await asyncio.gather(*(pool.run(lambda: threading.current_thread().name) for _ in range(50)))
    assert {*names} <= {*pool.prepared} <= {"reader_0", "reader_1"}
    with pytest.raises(ValueError, match="no"):
        await pool.run(fail)
    assert await pool.run(lambda: 7) == 7, "an error ends no thread"


async def test_a_cancelled_call_is_left_out_and_one_that_runs_is_finished(pool):
    ran, begun, gate = [], threading.Barrier(3), threading.Event()

    def wait():
        begun.wait(60)
        gate.wait(60)
        ran.append("begun")

    running = [pool.run(wait) for _ in range(2)]
    await asyncio.to_thread(begun.wait, 60)
    waiting = pool.run(lambda: ran.append("never"))
    waiting.cancel()
    running[0].cancel()
    after = pool.run(lambda: ran.append("after"))
    gate.set()
    await asyncio.gather(running[1], after)
    await asyncio.to_thread(pool.close)
    assert sorted(ran) == ["after", "begun", "begun"]


async def test_closing_finishes_the_calls_that_wait(pool):
    calls = [pool.run(lambda number=number: number) for number in range(20)]
    await asyncio.to_thread(pool.close)
    assert await asyncio.gather(*calls) == [*range(20)]


def test_a_result_for_a_loop_that_is_closed_ends_no_thread(pool):
    gate = threading.Event()

    async def ask():
        pool.run(lambda: gate.wait(60))

    asyncio.run(ask())
    gate.set()
    assert asyncio.run(_seven(pool)) == 7


async def _seven(pool):
    return await pool.run(lambda: 7)
