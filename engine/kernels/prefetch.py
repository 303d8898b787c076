"""A cache-line prefetch for kernels: ``prefetch(array, index)``.

Cache misses, not arithmetic, limit walks and ingest. Prefetches a few dozen steps ahead let the CPU fetch many lines at
once. A prefetch never faults and changes no result.
"""

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped,unused-ignore]
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic


def _prefetch(typing_context: Any, array: Any, index: Any) -> Any:
    """Prefetch the cache line of ``array[index]`` (1-d, C-contiguous; the index is not checked)."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        pointer = builder.bitcast(builder.gep(data, [args[1]]), ir.IntType(8).as_pointer())
        flag = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer.type, flag, flag, flag])
        declare: Any = cgutils.get_or_insert_function
        # For reading, to be kept in all levels of cache, data (not instructions).
        builder.call(declare(builder.module, kind, "llvm.prefetch.p0"), [pointer, flag(0), flag(3), flag(1)])
        return context.get_dummy_value()

    return types.void(array, index), generate


def _nothing(array: Any, index: Any) -> None:
    """The stand-in when kernels run as plain Python."""


prefetch: Any = _nothing if getattr(config, "DISABLE_JIT", 0) else intrinsic(_prefetch)
