"""The list of modules with kernels is whole, and warming compiles each shared kernel once."""

from importlib import import_module
from pathlib import Path

from numba import types

import engine
from engine.kernels import warmup
from engine.kernels.handle import HandleType


def _plain(argument: types.Type) -> types.Type:
    return argument.held if isinstance(argument, HandleType) else types.unliteral(argument)


def test_no_module_that_can_be_warmed_is_forgotten() -> None:
    root = Path(engine.__file__).parent
    offering = {
        ".".join(path.relative_to(root).with_suffix("").parts)
        for path in root.rglob("*.py")
        if "\ndef warm()" in path.read_text()
    }
    assert offering == set(warmup.MODULES)


def test_shared_kernels_have_one_signature() -> None:
    for name in warmup.MODULES:
        import_module(f"engine.{name}").warm()
    for name in ("id_map", "ring_slices", "calendar_log", "top_k"):
        module = import_module(f"engine.kernels.{name}")
        # Private ones are specialised by their callers and inlined; a public one is compiled for one use.
        for kernel in (getattr(module, attribute) for attribute in dir(module) if not attribute.startswith("_")):
            if getattr(kernel, "__module__", "") == module.__name__ and hasattr(kernel, "signatures"):
                # Where a caller is compiled here and not taken from the cache, constants are types of their own. A
                # handle counts as what it stands for.
                signatures = {tuple(_plain(argument) for argument in s) for s in kernel.signatures}
                assert len(signatures) <= 1, kernel
