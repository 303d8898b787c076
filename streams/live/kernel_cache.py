"""Which kernels numba's cache on disk has, and whether they were compiled from the current sources.

Numba notices a change in a kernel's file, but not in the file of a function that the kernel calls: it would go on with
the old machine code of both, and the state would not be what the sources compute. This module therefore keeps a ledger
beside the cached kernels: for every source file, a hash of the file and of all project files that it imports. Where the
hash differs, the file's kernels are removed from the cache. The ledger also lists the modules compiled completely.
"""

import contextlib
import hashlib
import importlib
import os
import re
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numba
from llvmlite import binding
from numba.core.caching import NullCache

import engine
from engine.kernels import warmup

#: Modules that offer ``warm()``, in an order in which shared kernels come first.
MODULES = (*(f"engine.{name}" for name in warmup.MODULES), "streams.events.kernels")
_ROOT = Path(engine.__file__).parents[1]
_IMPORT = re.compile(r"^\s*(?:from ((?:engine|streams)[\w.]*) import (.+)|import ((?:engine|streams)[\w.]*))", re.M)
_LEDGER = "murmuration-kernels.json"


class Ledger(msgspec.Struct):
    """``sources``: stamps by module; ``filled``: modules compiled completely, by compilation target (``target``)."""

    sources: dict[str, str] = {}
    filled: dict[str, list[str]] = {}


def _path_of(module: str) -> Path | None:
    """A project module's file, if it is one."""
    base = _ROOT.joinpath(*module.split("."))
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


@cache
def _source(module: str) -> bytes:
    path = _path_of(module)
    assert path is not None
    return path.read_bytes()


@cache
def _imported(module: str) -> frozenset[str]:
    """The project modules that a module names in its imports (names in brackets over several lines too)."""
    text = re.sub(r"\(([^)]*)\)", lambda m: "(" + m[1].replace("\n", " ") + ")", _source(module).decode())
    found = set()
    for package, names, plain in _IMPORT.findall(text):
        words = re.findall(r"\w+", names)
        found |= {plain} if plain else {package, *(f"{package}.{word}" for word in words)}
    return frozenset(name for name in found if _path_of(name) is not None)


def closure(modules: Iterable[str]) -> set[str]:
    """The modules and all project modules that they import, directly or not."""
    reached: set[str] = set()
    left = list(modules)
    while left:
        module = left.pop()
        if module not in reached:
            reached.add(module)
            left += _imported(module)
    return reached


def _stamp(module: str) -> str:
    """A hash of the sources that a module's kernels are made of."""
    sha = hashlib.sha256()
    for name in sorted(closure([module])):
        sha.update(name.encode() + _source(name))
    return sha.hexdigest()[:20]


def target() -> str:
    """What numba compiles for on this machine: its cache has the same key."""
    # Where numba is configured for a processor, as in the container image, the host's processor does not matter.
    host = f"{binding.get_host_cpu_name()} {binding.get_host_cpu_features().flatten()}"
    name = os.environ.get("NUMBA_CPU_NAME") or host
    told = [os.environ.get(f"NUMBA_{option}", "") for option in ("CPU_FEATURES", "OPT")]
    said = f"{name} {told} {numba.__version__} {sys.version_info[:2]}"
    return hashlib.sha256(said.encode()).hexdigest()[:20]


def folder_of(module: str) -> Path | None:
    """Where numba keeps a module's kernels; None if the module has no kernels, or numba has no writable folder."""
    for function in _kernels(module):
        path = function.stats.cache_path
        return Path(path) if path else None
    return None


def _kernels(module: str) -> Iterator[Any]:
    """Numba's functions of a module."""
    for function in vars(importlib.import_module(module)).values():
        if getattr(function, "__module__", "") == module and hasattr(function, "py_func"):
            yield function


def _ledger_path() -> Path | None:
    folder = folder_of(MODULES[0])
    return folder / _LEDGER if folder is not None else None


def _read() -> Ledger:
    path = _ledger_path()
    if path is None:
        return Ledger()
    try:
        return msgspec.json.decode(path.read_bytes(), type=Ledger)
    except (OSError, msgspec.DecodeError):
        return Ledger()


def _write(ledger: Ledger) -> None:
    """Write the ledger atomically. If that fails there is none, and the next start compiles everything anew."""
    path = _ledger_path()
    if path is None:
        return
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(msgspec.json.encode(ledger))
        temporary.replace(path)


def forget(modules: Iterable[str]) -> None:
    """Remove the kernels of these modules from the cache; files that cannot be removed stay."""
    for module in modules:
        folder = folder_of(module)
        if folder is not None:
            for path in folder.glob(f"{module.rpartition('.')[2]}.*.nb[ic]"):
                with contextlib.suppress(OSError):
                    path.unlink()


def bypass(modules: Iterable[str]) -> None:
    """Let this process neither read nor write the cached kernels of these modules."""
    for module in modules:
        for function in _kernels(module):
            function._cache = NullCache()


def forget_stale() -> None:
    """Forget the kernels of every file that changed or imports a changed file."""
    ledger = _read()
    sources = {module: _stamp(module) for module in closure(MODULES)}
    changed = {module for module, stamp in sources.items() if ledger.sources.get(module) != stamp}
    if changed:
        forget(changed)
        filled = {of: [name for name in names if name not in changed] for of, names in ledger.filled.items()}
        _write(Ledger(sources, filled))


def unfilled() -> list[str]:
    """Modules of which the cache lacks kernels."""
    filled = _read().filled.get(target(), [])
    return [module for module in MODULES if module not in filled]


def note_filled() -> None:
    """Note in the ledger that the cache has the kernels of all modules."""
    ledger = _read()
    ledger.filled[target()] = list(MODULES)
    _write(ledger)
