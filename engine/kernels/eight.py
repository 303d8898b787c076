"""Eight neighboring float64 of an array at once: what numba would do one by one.

LLVM unrolls a loop over eight elements, and numba's pass that would join them again is off. These functions emit
operations on vectors of eight; a processor without such registers does the same in two or four steps. Each element is
rounded as in a loop, so results do not depend on that. All arrays are C-contiguous float64; an index counts elements of
the whole array (row · columns + column) and is not checked.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped,unused-ignore]
from numba import types
from numba.core import config
from numba.extending import intrinsic

_EIGHT = ir.VectorType(ir.DoubleType(), 8)


def _pointer(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), _EIGHT.as_pointer())


def _compute(build: Callable[[Any, list[Any]], Any], places: tuple[int, ...]) -> Callable[..., Any]:
    """An intrinsic that loads eight elements at each place (the position of an array among the arguments, followed by
    its index), and stores ``build(builder, loaded)`` at the first one."""

    def typed(typing_context: Any, *kinds: Any) -> Any:
        fixed = [types.int64 if at - 1 in places else kind for at, kind in enumerate(kinds)]

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            where = [_pointer(context, builder, signature.args[at], args[at], args[at + 1]) for at in places]
            loaded = [builder.load(pointer, align=8) for pointer in where]
            builder.store(build(builder, [*loaded, *args[places[-1] + 2 :]]), where[0], align=8)
            return context.get_dummy_value()

        return types.void(*fixed), generate

    return typed


def _spread(builder: Any, value: Any) -> Any:
    one = builder.insert_element(ir.Constant(_EIGHT, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), 8), [0] * 8)
    return builder.shuffle_vector(one, ir.Constant(_EIGHT, ir.Undefined), zeros)


def _add_products(builder: Any, values: list[Any]) -> Any:
    out, a, b, factors, share = values
    return builder.fadd(out, builder.fmul(builder.fmul(_spread(builder, share), factors), builder.fmul(a, b)))


def _divide(builder: Any, values: list[Any]) -> Any:
    return builder.fdiv(*values)


def _greatest(builder: Any, values: list[Any]) -> Any:
    held, other = values
    return builder.select(builder.fcmp_ordered(">", other, held), other, held)


_add_products_typed = _compute(_add_products, (0, 2, 4, 6))
_divide_typed = _compute(_divide, (0, 2))
_greatest_typed = _compute(_greatest, (0, 2))


def _add_products_of(
    typing_context: Any, out: Any, i: Any, a: Any, j: Any, b: Any, k: Any, factors: Any, n: Any, share: Any
) -> Any:
    """``out[i + e] += (share · factors[n + e]) · (a[j + e] · b[k + e])`` for e = 0 … 7; ``share``: float64."""
    return _add_products_typed(typing_context, out, i, a, j, b, k, factors, n, share)


def _divide_by(typing_context: Any, out: Any, i: Any, by: Any, k: Any) -> Any:
    """``out[i + e] /= by[k + e]`` for e = 0 … 7."""
    return _divide_typed(typing_context, out, i, by, k)


def _keep_greatest(typing_context: Any, out: Any, i: Any, other: Any, k: Any) -> Any:
    """``out[i + e] = max(out[i + e], other[k + e])`` for e = 0 … 7; without NaN."""
    return _greatest_typed(typing_context, out, i, other, k)


def _plain_add_products(out: Any, i: Any, a: Any, j: Any, b: Any, k: Any, factors: Any, n: Any, share: Any) -> None:
    weights = share * factors.reshape(-1)[n : n + 8]
    out.reshape(-1)[i : i + 8] += weights * (a.reshape(-1)[j : j + 8] * b.reshape(-1)[k : k + 8])


def _plain_divide(out: Any, i: Any, by: Any, k: Any) -> None:
    out.reshape(-1)[i : i + 8] /= by.reshape(-1)[k : k + 8]


def _plain_greatest(out: Any, i: Any, other: Any, k: Any) -> None:
    for e in range(8):
        out.reshape(-1)[i + e] = max(out.reshape(-1)[i + e], other.reshape(-1)[k + e])


_PLAIN = bool(getattr(config, "DISABLE_JIT", 0))
add_products: Any = _plain_add_products if _PLAIN else intrinsic(_add_products_of)
divide: Any = _plain_divide if _PLAIN else intrinsic(_divide_by)
keep_greatest: Any = _plain_greatest if _PLAIN else intrinsic(_keep_greatest)
