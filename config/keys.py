"""The configuration's keys by name: which ones there are, which one was meant, and where one stood."""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

import msgspec
from msgspec import inspect as types

from config.schema import Config

PREFIX = "MURMURATION__"
#: How alike two names are (0 … 1) of which one may be meant by the other.
_ALIKE = 0.75
#: The same for keys of one section.
_ALIKE_BESIDE = 0.6
#: The same for variables of the environment, which may be meant for others.
_ALIKE_VARIABLES = 0.9
_HEADER = re.compile(r"\s*\[+([^\[\]]+)\]+\s*(#.*)?$")
_KEY = re.compile(r"""\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""")


def keys(struct: type[msgspec.Struct] = Config, path: str = "") -> Iterator[str]:
    """Every section and key, with dots, depth first."""
    info = types.type_info(struct)
    assert isinstance(info, types.StructType)
    for field in info.fields:
        name = f"{path}.{field.name}".lstrip(".")
        yield name
        if isinstance(field.type, types.StructType):
            yield from keys(field.type.cls, name)


@cache
def _known() -> tuple[str, ...]:
    return tuple(keys())


def meant(section: str, key: str) -> str | None:
    """The known key that an unknown one of a section was probably meant to be; None if none is like it."""
    plain = _plain(key)
    known = _known()
    beside = [name for name in known if name.rpartition(".")[0] == section]
    whole = _plain(section + key)
    if same := next((name for name in known if _plain(name) == whole), None):
        return same
    for names, of, alike in ((beside, _last, _ALIKE_BESIDE), (known, _plain, _ALIKE), (known, _last, _ALIKE)):
        by_name = {of(name): name for name in reversed(names)}
        found = difflib.get_close_matches(plain, by_name, n=1, cutoff=alike)
        if found:
            return by_name[found[0]]
    return None


def meant_variable(name: str) -> str | None:
    """The variable that one which looks like a setting, but is none, was probably meant to be."""
    begin, _, rest = name.upper().partition("_")
    if not difflib.get_close_matches(begin, [PREFIX.strip("_")], cutoff=0.8):
        return None
    by_name = {_plain(key): key for key in _known()}
    found = difflib.get_close_matches(_plain(rest), by_name, n=1, cutoff=_ALIKE_VARIABLES)
    return variable(by_name[found[0]]) if found else None


def variable(key: str) -> str:
    """The variable of the environment that sets a key."""
    return PREFIX + key.upper().replace(".", "__")


def line_of(text: str, path: Sequence[str]) -> int | None:
    """The line of a TOML text where a key, or else its section, stands; counted from 1."""
    section: list[str] = []
    best: tuple[int, int] | None = None
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            section = _parts(header[1])
            here = section
        elif key := _KEY.match(line):
            here = section + _parts(key[1])
        else:
            continue
        depth = len(here)
        if here == list(path[:depth]) and (best is None or depth > best[0]):
            best = (depth, number)
    return best[1] if best else None


def place_of(path: Sequence[str], file: tuple[Path, str] | None, variables: Mapping[tuple[str, ...], str]) -> str:
    """Where a key stood, in words: the variable, or the file and line; "" if nowhere."""
    for depth in range(len(path), 0, -1):
        if tuple(path[:depth]) in variables:
            return variables[tuple(path[:depth])]
    below = [name for where, name in variables.items() if where[: len(path)] == tuple(path)]
    if file is not None and (line := line_of(file[1], path)) is not None:
        return f"{file[0]}:{line}"
    return below[0] if below else ""


def _parts(dotted: str) -> list[str]:
    return [part.strip().strip("\"'") for part in dotted.split(".")]


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _last(name: str) -> str:
    return _plain(name.rpartition(".")[2])
