"""Compiles every kernel before the first event and the first request need it: cold, in processes of their own.

Numba compiles one kernel at a time in a process. So workers, one a core, each take a module, compile it and leave it in
numba's cache on disk; this process then loads all of them from there. Where the cache cannot be written, or a worker
fails, this process compiles by itself what is missing. ``python -m streams.live.compilation`` is a worker: it reads
names of modules, a line each, and answers each with the CPU seconds that it took.
"""

import importlib
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import structlog

from streams.live import kernel_cache

Progress = Callable[[str], None]
#: With a filled cache the start is over before; then no line is printed.
PROGRESS_AFTER_S = 2.0
WORKERS_MAX = 8
#: What takes longest, longest first: a worker that begins with it ends no later than the others. The rest follows in
#: the order of ``MODULES``. (docs/benchmarks.md has the table; ``murmuration bench compile`` measures it.)
LONGEST = (
    "engine.tweet_store.state",
    "engine.interaction_graph.state",
    "engine.social_graph.state",
    "engine.signals.state",
    "engine.interaction_graph.salsa",
    "engine.interaction_graph.second_degree",
    "engine.interaction_graph.similarity",
)

log = structlog.get_logger(__name__)


def cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_order(modules: Iterable[str]) -> list[str]:
    """The longest first; a stable order otherwise."""
    return sorted(modules, key=lambda name: LONGEST.index(name) if name in LONGEST else len(LONGEST))


def compile_kernels(progress: Progress = lambda line: None, workers: int | None = None) -> None:
    """Compile, or load from the cache, every kernel: the engine's and the decoder's.

    ``progress`` hears of it only when it takes a while: with a filled cache it is over at once. ``workers``: how many
    processes compile what the cache lacks (default: one a core, at most ``WORKERS_MAX``).
    """
    began = time.monotonic()
    modules = kernel_cache.MODULES

    def tell(done: int, name: str) -> None:
        if time.monotonic() - began > PROGRESS_AFTER_S:
            progress(f"compiling, cached from the next start on: kernels {done}/{len(modules)}: {name}")

    kernel_cache.forget_stale()
    missing = kernel_cache.unfilled()
    cached = kernel_cache.folder_of(modules[0]) is not None
    if missing and cached:
        fill(in_order(missing), workers or min(cores(), WORKERS_MAX), lambda done, name, _: tell(done, name))
    for done, name in enumerate(modules):
        if not cached:
            tell(done, name)
        _load(name)
    if missing:
        kernel_cache.note_filled()


def _load(name: str) -> None:
    """Warm a module from the cache; what the cache has broken is compiled anew."""
    module = importlib.import_module(name)
    try:
        module.warm()
    except Exception as error:  # a cut file may raise anything that unpickling raises
        log.warning("kernels compiled anew: the cache could not be read", module=name, error=repr(error))
        kernel_cache.forget(kernel_cache.closure([name]))
        module.warm()


def fill(modules: Iterable[str], workers: int, told: Callable[[int, str, float], None]) -> None:
    """Let worker processes compile these modules into the cache, in this order as they become free.

    ``told``: after each, how many are done, the module and its CPU seconds. A worker that fails is logged; what it
    left is for the others, and at last for the caller.
    """
    left, done = deque(modules), []

    def work(_: int) -> None:
        with _worker() as process:
            assert process.stdin is not None
            assert process.stdout is not None
            while True:
                try:
                    name = left.popleft()
                except IndexError:
                    break
                try:
                    process.stdin.write(f"{name}\n")
                    process.stdin.flush()
                except BrokenPipeError:
                    pass
                answer = process.stdout.readline()
                if not answer:
                    log.warning("a process that compiles kernels ended", module=name)
                    break
                done.append(name)
                told(len(done), name, float(answer))

    count = min(workers, len(left))
    with ThreadPoolExecutor(count, "compile") as pool:
        list(pool.map(work, range(count)))


def _worker() -> subprocess.Popen[str]:
    """A process that imports what this one would."""
    path = os.pathsep.join(entry for entry in sys.path if entry)
    return subprocess.Popen(
        [sys.executable, "-m", "streams.live.compilation"],
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def main() -> None:
    """Compile what is named on standard input, until it ends."""
    # Ctrl-C goes to the whole group of processes: end at once, without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    answers = os.fdopen(os.dup(1), "w")
    # Standard output is for answers alone; what else is printed goes where errors go.
    os.dup2(2, 1)
    for line in sys.stdin:
        began = time.process_time()
        _load(line.strip())
        answers.write(f"{time.process_time() - began:.3f}\n")
        answers.flush()


if __name__ == "__main__":
    main()
