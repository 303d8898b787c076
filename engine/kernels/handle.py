"""Handles: all arrays of a room as one argument of a kernel.

A call from Python takes every argument apart, and a kernel that calls another one passes it all headers of all arrays.
For a room of forty arrays that costs more than many kernels do. A handle has the headers written down once, in memory;
a kernel is passed their address, and loads what it uses. Python and kernels use a handle as the NamedTuple that it
stands for.
"""
# mypy: allow-untyped-calls, allow-untyped-decorators

import ctypes
from typing import Any, TypeVar, cast

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped,unused-ignore]
from numba import typeof, types
from numba.core import cgutils, config
from numba.core.imputils import impl_ret_borrowed
from numba.core.typing.templates import AttributeTemplate
from numba.extending import (
    NativeValue,
    infer_getattr,
    intrinsic,
    lower_getattr_generic,
    models,
    register_model,
    typeof_impl,
    unbox,
)

from engine.kernels.jit import kernel

Held = TypeVar("Held", bound=tuple[Any, ...])


def handle(arrays: Held) -> Held:
    """A handle of a NamedTuple of arrays, or of such NamedTuples. The arrays must stay the room's for good."""
    if getattr(config, "DISABLE_JIT", 0):
        return arrays  # kernels run as plain Python
    held_type = typeof(arrays)
    kind = _kinds.get(held_type)
    if kind is None:
        # Numba tells arguments apart by their Python types, so the handles of each NamedTuple have a class.
        headers = ctypes.c_int64 * _words(arrays)
        kind = _kinds[held_type] = type("Handle", (_Handle, headers), {"numba_type": HandleType(held_type)})
    made = kind()
    made.held = arrays
    _write(arrays, np.frombuffer(made, np.int64))
    return cast("Held", made)


class HandleType(types.Type):
    """The type of a handle; ``held``: that of the NamedTuple."""

    def __init__(self, held: Any) -> None:
        self.held = held
        super().__init__(name=f"Handle({held})")

    @property
    def key(self) -> Any:
        """What makes two of these types equal."""
        return self.held


class _Handle:
    """The headers in memory: an array of ctypes, because numba knows the types of buffers without asking Python."""

    numba_type: HandleType
    held: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self.held, name)


_kinds: dict[Any, Any] = {}


def _words(arrays: Any) -> int:
    """How many 64-bit words the headers take: of an array five and two per dimension."""
    words = 0
    for part in arrays:
        words += 5 + 2 * part.ndim if isinstance(part, np.ndarray) else _words(part)
    return words


def _store(typing_context: Any, arrays: Any, headers: Any) -> Any:
    """Store the headers of ``arrays`` in the memory of ``headers``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        memory = context.make_array(signature.args[1])(context, builder, arguments[1]).data
        builder.store(arguments[0], builder.bitcast(memory, arguments[0].type.as_pointer()))
        return context.get_dummy_value()

    return types.none(arrays, headers), generate


_stored: Any = intrinsic(_store)


@kernel
def _write(arrays: Any, headers: Any) -> None:
    """Write the headers of all arrays down, as kernels see them."""
    _stored(arrays, headers)


@register_model(HandleType)
class _Model(models.OpaqueModel):
    """A pointer."""


@typeof_impl.register(_Handle)
def _type_of(made: _Handle, context: Any) -> HandleType:
    return made.numba_type


@unbox(HandleType)
def _unbox(handle_type: HandleType, made: Any, c: Any) -> NativeValue:
    buffer = c.pyapi.alloca_buffer()
    failed = cgutils.is_not_null(c.builder, c.pyapi.get_buffer(made, buffer))
    # The address is the first field of CPython's Py_buffer.
    pointer = c.builder.load(c.builder.bitcast(buffer, c.pyapi.voidptr.as_pointer()))
    c.pyapi.release_buffer(buffer)
    return NativeValue(pointer, is_error=failed)


@infer_getattr
class _Attributes(AttributeTemplate):
    key = HandleType

    def generic_resolve(self, value: Any, attr: str) -> Any:  # type: ignore[override]
        if attr not in value.held.fields:
            return None
        part = value.held.types[value.held.fields.index(attr)]
        return HandleType(part) if isinstance(part, types.BaseNamedTuple) else part


@lower_getattr_generic(HandleType)
def _get(context: Any, builder: Any, handle_type: HandleType, pointer: Any, name: str) -> Any:
    place = handle_type.held.fields.index(name)
    part_type = handle_type.held.types[place]
    held = builder.bitcast(pointer, context.get_value_type(handle_type.held).as_pointer())
    part = cgutils.gep_inbounds(builder, held, 0, place)
    if isinstance(part_type, types.BaseNamedTuple):
        return builder.bitcast(part, pointer.type)
    return impl_ret_borrowed(context, builder, part_type, _load(builder, part))


def _load(builder: Any, pointer: Any) -> Any:
    """The value at an address, part by part: what nobody uses is not loaded, and since headers never change, what a
    loop uses is loaded before the loop."""
    kind = pointer.type.pointee
    if not isinstance(kind, ir.LiteralStructType | ir.ArrayType):
        loaded = builder.load(pointer)
        loaded.set_metadata("invariant.load", builder.module.add_metadata([]))
        return loaded
    value = ir.Constant(kind, ir.Undefined)
    for i in range(len(kind.elements) if isinstance(kind, ir.LiteralStructType) else kind.count):
        value = builder.insert_value(value, _load(builder, cgutils.gep_inbounds(builder, pointer, 0, i)), i)
    return value
