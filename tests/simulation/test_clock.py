"""The virtual loop: time passes at once, in order, and only where something waits for it."""

import asyncio
import time

import pytest

from loadtest.simulation.clock import StuckError, VirtualLoop


def run(work, **options):
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(**options)) as runner:
        return runner.run(work)


def test_hours_pass_at_once_and_in_order():
    seen = []

    async def sleeper(name: str, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        seen.append((name, asyncio.get_running_loop().time()))

    async def work() -> None:
        await asyncio.gather(sleeper("late", 90_000.0), sleeper("soon", 0.5), sleeper("middle", 3600.0))

    began = time.monotonic()
    run(work())
    assert time.monotonic() - began < 30
    assert [name for name, _ in seen] == ["soon", "middle", "late"]
    assert [at for _, at in seen] == pytest.approx([0.5, 3600.0, 90_000.0])


def test_timeouts_are_virtual():
    async def work() -> float:
        loop = asyncio.get_running_loop()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(100.0):
                await asyncio.Event().wait()
        return loop.time()

    assert run(work()) == pytest.approx(100.0)


def test_waiting_for_nothing_is_an_error():
    async def work() -> None:
        await asyncio.Event().wait()

    loop = VirtualLoop()
    task = loop.create_task(work())
    with pytest.raises(StuckError):
        loop.run_until_complete(task)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)
    loop.close()


def test_executors_run_on_the_loop_after_their_delay():
    def fail() -> None:
        raise KeyError("x")

    async def work() -> list[float]:
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert await asyncio.to_thread(lambda: 41 + 1) == 42
        with pytest.raises(KeyError):
            await loop.run_in_executor(None, fail)
        loop.call_soon_threadsafe(lambda: None)
        return [loop.time() - began]

    assert run(work(), executor_delay_s=lambda: 2.0) == pytest.approx([4.0])
