"""How long the kernels take to compile, by module: CPU seconds of one process, and the wall time of a cold start."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

from streams.live import kernel_cache
from streams.live.compilation import cores

#: CPU seconds that all kernels may take to compile, including those of future rooms: two cores then start in 40 s.
BUDGET_S = 70.0


def run(*, progress: Callable[[str], None] = lambda line: None, cold_start: bool = True) -> dict[str, float]:
    """Figures from temporary caches that are empty at first.

    ``<module>_s``: CPU seconds of the module's ``warm()``, in the order of ``MODULES``; a shared kernel counts for the
    first module that needs it. ``compile_cpu_s``: the sum. ``cold_start_s``: wall time of ``compile_kernels`` in a new
    process with an empty cache, on ``cores``; ``warm_start_s``: the same with the cache that the cold start filled.
    """
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        worker = _process("streams.live.compilation", folder, stdin=subprocess.PIPE)
        with worker:
            assert worker.stdin is not None
            assert worker.stdout is not None
            for name in kernel_cache.MODULES:
                progress(name)
                worker.stdin.write(f"{name}\n")
                worker.stdin.flush()
                figures[f"{name}_s"] = float(worker.stdout.readline())
    figures["compile_cpu_s"] = sum(figures.values())
    figures["budget_s"] = BUDGET_S
    if cold_start:
        with tempfile.TemporaryDirectory() as folder:
            for name in ("cold_start_s", "warm_start_s"):
                progress(name.replace("_s", "").replace("_", " "))
                began = time.perf_counter()
                with _process("-", folder):
                    pass
                figures[name] = time.perf_counter() - began
        figures["cores"] = cores()
    return figures


def _process(module: str, cache: str, stdin: int | None = None) -> subprocess.Popen[str]:
    """A process that caches kernels in the folder ``cache``: a worker, or one that compiles all kernels."""
    start = "from streams.live.compilation import compile_kernels; compile_kernels()"
    return subprocess.Popen(
        [sys.executable, *(("-c", start) if module == "-" else ("-m", module, str(os.getpid())))],
        env={**os.environ, "NUMBA_CACHE_DIR": cache, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdin=stdin,
        stdout=subprocess.PIPE,
        text=True,
    )
