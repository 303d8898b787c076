"""How much of a block's time is spent inside numba's compiled kernels, and in how many calls."""

import sys
import time
from collections.abc import Callable
from types import ModuleType, TracebackType
from typing import Any, Self

from numba.core.dispatcher import Dispatcher

_OURS = ("engine", "streams")


class KernelTimes:
    """Counts every call of a compiled kernel from Python while its block runs.

    Kernels are found by their names in the modules of the engine. They must be compiled before: inside the block, a
    kernel that still has to be compiled would not find the kernels it calls.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.calls = 0
        self._replaced: list[tuple[ModuleType, str, Dispatcher]] = []

    def __enter__(self) -> Self:
        for name, module in list(sys.modules.items()):
            if module is not None and name.partition(".")[0] in _OURS:
                for attribute, value in list(vars(module).items()):
                    if isinstance(value, Dispatcher):
                        self._replaced.append((module, attribute, value))
                        setattr(module, attribute, self._timed(value))
        return self

    def _timed(self, kernel: Callable[..., Any]) -> Callable[..., Any]:
        clock = time.perf_counter

        def call(*arguments: Any, **named: Any) -> Any:
            began_s = clock()
            try:
                return kernel(*arguments, **named)
            finally:
                self.seconds += clock() - began_s
                self.calls += 1

        return call

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for module, attribute, kernel in self._replaced:
            setattr(module, attribute, kernel)
