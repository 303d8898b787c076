"""Ending: tasks that do not end are told of and left, and a process that was told to stop does stop."""

import asyncio
import subprocess
import sys
import textwrap

from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from config.schema import Config
from streams.live.live_engine import LiveEngine
from streams.process.ending import end_tasks, standing


async def deaf(gate: asyncio.Event) -> None:
    """Goes on though it was cancelled, until the gate opens."""
    while not gate.is_set():
        try:
            await gate.wait()
        except asyncio.CancelledError:
            continue


async def test_tasks_are_cancelled_and_waited_for_whatever_state_they_are_in():
    async def slow_to_leave(left: list[str]) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.05)
            left.append("in good order")

    left: list[str] = []
    waiting = asyncio.create_task(slow_to_leave(left))
    await asyncio.sleep(0)
    done = asyncio.create_task(asyncio.sleep(0))
    await done
    never_begun = asyncio.create_task(slow_to_leave(left))
    with capture_logs() as logs:
        await end_tasks([waiting, done, never_begun], timeout_s=60)
        await end_tasks([])
    assert waiting.cancelled()
    assert never_begun.cancelled()
    assert left == ["in good order"]
    assert logs == []


async def test_a_task_that_does_not_end_is_named_with_its_place_and_left():
    gate = asyncio.Event()
    task = asyncio.create_task(deaf(gate), name="deaf one")
    await asyncio.sleep(0)
    with capture_logs() as logs:
        await end_tasks([task], timeout_s=0.05)
    (entry,) = logs
    assert entry["task"] == "deaf one"
    assert entry["at"][0].endswith(" deaf")
    assert entry["at"][-1].endswith(" wait")
    assert standing(task) == entry["at"]
    gate.set()
    await task


async def test_a_wait_for_a_version_never_loses_its_cancellation(small_rooms, monkeypatch):
    """Cancelled at any step around the publication of a version, whoever waits for ever ends."""
    engine = LiveEngine(Config(rooms=small_rooms), CollectorRegistry())
    versions = [0]
    monkeypatch.setattr(LiveEngine, "version", property(lambda self: versions[0]))

    async def watch() -> None:
        version = engine.version
        while True:
            version = await engine.wait_version(version, 60.0)

    for published_at in range(6):
        for cancelled_at in range(8):
            task = asyncio.create_task(watch())
            for step in range(12):
                if step == published_at:
                    versions[0] += 1
                    engine._publish()
                if step == cancelled_at:
                    task.cancel()
                await asyncio.sleep(0)
            assert task.cancelled(), f"published at step {published_at}, cancelled at step {cancelled_at}"
    await engine.close()


def test_a_process_that_hangs_is_ended_and_says_what_it_waited_for():
    program = """
        import asyncio, threading
        from streams.process.ending import force_end_after

        def stuck_thread():
            threading.Event().wait()

        async def stuck_task():
            force_end_after(1.0)
            await asyncio.Event().wait()

        threading.Thread(target=stuck_thread).start()
        asyncio.run(stuck_task())
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=120, check=False
    )
    assert run.returncode == 1
    assert "told to stop" in run.stdout + run.stderr
    assert "stuck_task" in run.stdout + run.stderr
    assert "stuck_thread" in run.stderr
