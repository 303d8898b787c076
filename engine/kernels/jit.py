"""How kernels are compiled: the one place for the options.

Numba counts references to every array taken out of a NamedTuple, with atomic operations; that made graph ingest ten
times slower. Kernels are therefore compiled without it, and so may neither allocate arrays nor return them: they
work on what they are given.
"""

from collections.abc import Callable
from typing import Any

from numba import njit

_ALLOCATING: dict[str, Any] = {"cache": True, "nogil": True}
_KERNEL: dict[str, Any] = {**_ALLOCATING, "_nrt": False}
_INLINED: dict[str, Any] = {**_KERNEL, "forceinline": True}


def kernel(function: Callable[..., Any]) -> Any:
    """Compile on first use, cached on disk, without the GIL and without reference counts."""
    return njit(**_KERNEL)(function)


def inlined(function: Callable[..., Any]) -> Any:
    """A kernel that LLVM always inlines into its caller.

    For small functions, and for those that take a whole state: a call copies the header of each of its arrays.
    """
    return njit(**_INLINED)(function)


def allocating(function: Callable[..., Any]) -> Any:
    """With reference counts, for the few functions of checks and tools that must allocate."""
    return njit(**_ALLOCATING)(function)
