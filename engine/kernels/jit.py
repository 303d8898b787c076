"""How kernels are compiled: the one place for the options.

Numba counts references to every array taken out of a NamedTuple, with atomic operations; that made graph ingest ten
times slower. Kernels are therefore compiled without it, and so may neither allocate arrays nor return them: they
work on what they are given.
"""

from collections.abc import Callable
from typing import Any

from numba import njit

#: Nothing outside of numba calls a kernel: without an entry for C a tenth less is compiled.
_ALLOCATING: dict[str, Any] = {"cache": True, "nogil": True, "no_cfunc_wrapper": True}
_KERNEL: dict[str, Any] = {**_ALLOCATING, "_nrt": False}
_INLINED: dict[str, Any] = {**_KERNEL, "forceinline": True}


def _compiled(function: Callable[..., Any], options: dict[str, Any]) -> Any:
    """Without a cache where numba finds no folder for it that it may write: every start then compiles."""
    try:
        return njit(**options)(function)
    except RuntimeError as error:
        if "cannot cache" not in str(error):
            raise
        return njit(**{**options, "cache": False})(function)


def kernel(function: Callable[..., Any]) -> Any:
    """Compile on first use, cached on disk, without the GIL and without reference counts."""
    return _compiled(function, _KERNEL)


def inlined(function: Callable[..., Any]) -> Any:
    """A kernel that LLVM always inlines into its caller.

    For small functions, and for those that take a whole state: a call copies the header of each of its arrays.
    """
    return _compiled(function, _INLINED)


def allocating(function: Callable[..., Any]) -> Any:
    """With reference counts, for the few functions of checks and tools that must allocate."""
    return _compiled(function, _ALLOCATING)
