"""What a reader thread owns: buffers that are kept from request to request, so that no request allocates them."""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

Held = TypeVar("Held")


class Scratch:
    """One reader thread's buffers by kind. The pipeline does not know the kinds: whoever needs one names its class."""

    def __init__(self) -> None:
        self._held: dict[tuple[Callable[[], Any], str], Any] = {}

    def of(self, kind: Callable[[], Held], name: str = "") -> Held:
        """The thread's buffers of this kind, made by ``kind()`` on first use; ``name`` tells several apart."""
        held = self._held.get((kind, name))
        if held is None:
            held = self._held[kind, name] = kind()
        found: Held = held
        return found


class Buffers:
    """Arrays by name, each grown to the largest size that was asked for.

    What an array held before stays in it: a caller writes every element before it reads any, so that no request sees
    another one's data.
    """

    def __init__(self) -> None:
        self._held: dict[str, NDArray[Any]] = {}

    def take(self, name: str, dtype: DTypeLike, *shape: int) -> NDArray[Any]:
        """A C-contiguous array of this shape, uninitialized; it is good until the same name is taken again."""
        if len(shape) == 1:  # as a rule
            held, size = self._held.get(name), shape[0]
            if held is not None and len(held) >= size:
                return held[:size]
        size = 1
        for length in shape:
            size *= length
        held = self._held.get(name)
        if held is None or len(held) < size:
            held = self._held[name] = np.empty(1 << max(8, (size - 1).bit_length()), dtype)
        return held[:size].reshape(shape)

    def at_least(self, name: str, dtype: DTypeLike, size: int, rows: int = 0) -> NDArray[Any]:
        """An array of at least ``size`` elements, or of ``rows`` rows of at least so many; as ``take``, but for kernels
        that know how many they use: no view is made."""
        held = self._held.get(name)
        if held is None or held.shape[-1] < size:
            length = 1 << max(8, (size - 1).bit_length())
            held = self._held[name] = np.empty((rows, length) if rows else length, dtype)
        return held
