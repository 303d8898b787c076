"""How kernels are compiled: the only place for the options.

By default numba counts references to every array that is taken out of a NamedTuple, with atomic operations; that made
graph ingest ten times slower. Kernels are therefore compiled without reference counts. So they can neither allocate
arrays nor return them; they write into arrays that the caller passes.
"""

from collections.abc import Callable
from typing import Any

from numba import njit

#: No C code calls a kernel; without the wrapper for C, compilation takes a tenth less time.
_ALLOCATING: dict[str, Any] = {"cache": True, "nogil": True, "no_cfunc_wrapper": True}
_KERNEL: dict[str, Any] = {**_ALLOCATING, "_nrt": False}
_QUICK: dict[str, Any] = {**_KERNEL, "nogil": False}
_INLINED: dict[str, Any] = {**_QUICK, "forceinline": True}


def _compiled(function: Callable[..., Any], options: dict[str, Any]) -> Any:
    """Compile with a cache on disk, or without it if numba finds no writable folder: then every start compiles."""
    try:
        return njit(**options)(function)
    except RuntimeError as error:
        if "cannot cache" not in str(error):
            raise
        return njit(**{**options, "cache": False})(function)


def kernel(function: Callable[..., Any]) -> Any:
    """Compile on first use, cached on disk, without the GIL and without reference counts."""
    return _compiled(function, _KERNEL)


def quick(function: Callable[..., Any]) -> Any:
    """A kernel that takes at most some 20 µs, and keeps the GIL.

    Where other threads wait for the GIL, handing it over and getting it back takes longer than such a kernel runs.
    """
    return _compiled(function, _QUICK)


def inlined(function: Callable[..., Any]) -> Any:
    """A kernel that LLVM always inlines into its caller.

    For small functions, and for functions that take a whole state: a call would copy the header of every array.
    """
    return _compiled(function, _INLINED)


def allocating(function: Callable[..., Any]) -> Any:
    """Compile with reference counts, for the few functions of checks and tools that must allocate."""
    return _compiled(function, _ALLOCATING)
