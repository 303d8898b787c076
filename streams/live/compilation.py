"""Compiles every kernel before the first event or request needs it; kernels that are not cached in worker processes.

Numba compiles one kernel at a time in a process. So workers, one per core, each take a module, compile it and leave the
machine code in numba's cache on disk; this process then loads everything from there. Where the cache cannot be written,
or a worker fails, this process compiles the missing kernels. ``python -m streams.live.compilation`` is a worker: it
reads names of modules, one per line, and answers each with the CPU seconds that the module took. Its argument is the
process that it works for, with which it ends.
"""

import contextlib
import importlib
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import structlog

from streams.durable.fork import die_with
from streams.live import kernel_cache
from streams.live.sealed_cache import seal_cache

Progress = Callable[[str], None]
#: No progress is printed before this: with a filled cache the start takes less.
PROGRESS_AFTER_S = 2.0
WORKERS_MAX = 8
#: The slowest modules, slowest first: begun first, they do not keep one worker busy after the others have ended. The
#: rest follows in the order of ``MODULES``. (docs/benchmarks.md has the times; ``murmuration bench compile`` measures.)
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
#: The workers that run now.
_running: set[subprocess.Popen[str]] = set()


def cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_order(modules: Iterable[str]) -> list[str]:
    """The modules of ``LONGEST`` first, then the others in the order given."""
    return sorted(modules, key=lambda name: LONGEST.index(name) if name in LONGEST else len(LONGEST))


def compile_kernels(progress: Progress = lambda line: None, workers: int | None = None) -> None:
    """Compile, or load from the cache, every kernel: the engine's and the decoder's.

    ``progress`` is called only after ``PROGRESS_AFTER_S``. ``workers``: how many processes compile the kernels that the
    cache lacks (default: one per core, at most ``WORKERS_MAX``).
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
    """Load a module's kernels from the cache; if the cache is damaged, compile them anew."""
    seal_cache()
    module = importlib.import_module(name)
    try:
        module.warm()
    except Exception as error:  # unpickling a truncated file may raise anything
        log.warning("kernels compiled anew: the cache could not be read", module=name, error=repr(error))
        reached = kernel_cache.closure([name])
        kernel_cache.forget(reached)
        try:
            module.warm()
        except OSError as still:  # what cannot be read can perhaps not be removed or replaced either
            log.warning("kernels are compiled at every start", module=name, error=repr(still))
            kernel_cache.bypass(reached)
            module.warm()


def end_workers() -> None:
    """Kill the workers, for a process that ends at once. Callable from any thread."""
    for process in tuple(_running):
        with contextlib.suppress(ProcessLookupError):
            process.kill()


def fill(modules: Iterable[str], workers: int, told: Callable[[int, str, float], None]) -> None:
    """Let worker processes compile these modules into the cache, in this order as they become free.

    ``told`` is called after each module: how many are done, the module and its CPU seconds. A worker that fails is
    logged; the other workers take the remaining modules, and the caller compiles whatever is still missing.
    """
    left, done = deque(modules), []

    def work(_: int) -> None:
        with _worker() as process, _counted(process):
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


@contextlib.contextmanager
def _counted(process: subprocess.Popen[str]) -> Iterator[None]:
    _running.add(process)
    try:
        yield
    finally:
        _running.discard(process)


def _worker() -> subprocess.Popen[str]:
    """A worker process with the same import path as this one."""
    path = os.pathsep.join(entry for entry in sys.path if entry)
    return subprocess.Popen(
        [sys.executable, "-m", "streams.live.compilation", str(os.getpid())],
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def main() -> None:
    """Compile the modules that standard input names, until it ends."""
    die_with(int(sys.argv[1]))
    # Ctrl-C goes to the whole group of processes: end at once, without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    answers = os.fdopen(os.dup(1), "w")
    # Standard output carries only answers, so anything else that is printed goes to standard error.
    os.dup2(2, 1)
    for line in sys.stdin:
        began = time.process_time()
        _load(line.strip())
        answers.write(f"{time.process_time() - began:.3f}\n")
        answers.flush()


if __name__ == "__main__":
    main()
