"""A process that is told to stop ends at every moment of its life: quietly, with the signal's exit code, alone."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PATIENCE_S = 120.0
BOTH = (signal.SIGTERM, signal.SIGINT)

#: The command's modules are still being imported: here, one that is told to stop while it is.
IMPORTING = """
import os, signal, sys, time
from streams.cli import begin
class Import:
    def find_spec(self, name, path=None, target=None):
        if name == "streams.cli.main":
            os.kill(os.getpid(), int(sys.argv[1]))
            time.sleep(60)
sys.meta_path.insert(0, Import())
begin.main()
"""
#: The event loop runs, and ``told`` is not waited for yet, or was answered already.
RUNNING = """
import asyncio, os, signal, sys
from streams.process.signals import stop_signals
async def main(number, drains):
    with stop_signals(lambda: print("cleared", flush=True)) as signals:
        if drains:
            told = asyncio.create_task(signals.told())
            await asyncio.sleep(0)
            os.kill(os.getpid(), number)
            print(await told, flush=True)
        os.kill(os.getpid(), number)
        await asyncio.sleep(60)
asyncio.run(main(int(sys.argv[1]), sys.argv[2] == "drains"))
"""


def outcome(program: str, *words: object, **environment: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a program in a process of its own."""
    ran = subprocess.run(
        [sys.executable, "-c", program, *map(str, words)],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    return ran.returncode, ran.stdout, ran.stderr


@pytest.mark.parametrize("number", BOTH)
def test_while_modules_are_imported(number):
    assert outcome(IMPORTING, int(number)) == (128 + number, "", "")


@pytest.mark.parametrize("number", BOTH)
def test_while_a_process_starts_and_while_it_drains(number):
    code, out, err = outcome(RUNNING, int(number), "starts")
    assert (code, out.splitlines()[-1]) == (128 + number, "cleared")
    assert "Traceback" not in err
    code, out, err = outcome(RUNNING, int(number), "drains")
    lines = out.splitlines()
    assert (code, lines[0], lines[-1]) == (128 + number, number.name, "cleared")
    assert "Traceback" not in err


def children(pid: int) -> list[int]:
    """The process's children."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            found += [int(word) for word in (task / "children").read_text().split()]
    return found


def lives(pid: int) -> bool:
    """Whether a process runs; one that has ended and that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
def test_while_kernels_are_compiled_no_worker_stays_behind(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-m", "streams.cli", "serve"],
        cwd=tmp_path,
        env=os.environ
        | {"PYTHONPATH": str(ROOT), "NUMBA_CACHE_DIR": str(tmp_path / "cache"), "MURMURATION__SERVING__PORT": "0"},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            deadline = time.monotonic() + PATIENCE_S
            while not (workers := children(process.pid)):
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.02)
            process.terminate()
            assert process.stderr is not None
            err = process.stderr.read()
            assert process.wait(PATIENCE_S) == 128 + signal.SIGTERM, err
        finally:
            process.kill()
    assert "Traceback" not in err
    while any(map(lives, workers)):
        assert time.monotonic() < deadline, "a worker goes on without its process"
        time.sleep(0.02)
