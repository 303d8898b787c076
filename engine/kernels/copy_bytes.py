"""A block copy for kernels: ``copy_bytes(out, start, source, first, count)``.

A loop over bytes takes about 2 ns a byte: the compiler cannot know that the two arrays do not overlap. This is C's
``memcpy``.
"""

from typing import Any

from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic


def _copy_bytes(typing_context: Any, out: Any, start: Any, source: Any, first: Any, count: Any) -> Any:
    """Copy ``count`` elements of ``source`` from ``first`` on to ``out`` from ``start`` on: two different uint8 arrays
    (1-d, C-contiguous); no index is checked."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        to, frm = (context.make_array(signature.args[k])(context, builder, args[k]).data for k in (0, 2))
        to, frm = builder.gep(to, [args[1]]), builder.gep(frm, [args[3]])
        copy: Any = cgutils.raw_memcpy
        copy(builder, to, frm, args[4], 1)
        return context.get_dummy_value()

    indices = (types.int64, types.int64, types.int64)
    return types.void(out, indices[0], source, indices[1], indices[2]), generate


def _plain(out: Any, start: Any, source: Any, first: Any, count: Any) -> None:
    """The stand-in when kernels run as plain Python."""
    out[start : start + count] = source[first : first + count]


copy_bytes: Any = _plain if getattr(config, "DISABLE_JIT", 0) else intrinsic(_copy_bytes)
