"""Writes docs/configuration.md from the configuration's structs: keys, types, bounds, defaults and their comments.

``murmuration config reference > docs/configuration.md``; a test compares the document with this module's output.
A key's meaning comes from the source: from the struct's docstring, or from the ``#:`` lines directly above the field.
"""

import ast
import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import inspect as types

from config.keys import PREFIX
from config.schema import SECRETS, Config

_HEAD = f"""\
# Configuration

Every key, its bounds and its default. Generated from the source by `murmuration config reference`.

A TOML file (`murmuration serve --config FILE`) holds the keys in the sections below. The environment overrides it:
`{PREFIX}SERVING__PORT=9000`, `{PREFIX}HOME_MIXER__FOR_YOU__WALK__WALKS=500`; lists and tables are written as in TOML.
An unknown key or a value out of bounds ends the start with exit code 2 and the key's path. `murmuration config check`
checks a configuration, `murmuration config show` prints the resulting one.

Keys name their unit (`_ms`, `_s`, `_h`, `_bytes`); `_max` and `_min` are limits.
"""

_ROW = "| `{key}` | {type} | {default} | {text} |\n"


def document(config: type[msgspec.Struct] = Config) -> str:
    """The reference of a configuration struct and all structs in it, as Markdown."""
    return _HEAD + "".join(_section(struct, path) for path, struct in _structs(config, ""))


def _structs(struct: type[msgspec.Struct], path: str) -> Iterator[tuple[str, type[msgspec.Struct]]]:
    """The struct and the structs within it, depth first, each with its TOML section."""
    yield path, struct
    for field in _fields(struct):
        if isinstance(field.type, types.StructType):
            yield from _structs(field.type.cls, f"{path}.{field.name}".lstrip("."))


def _fields(struct: type[msgspec.Struct]) -> Sequence[types.Field]:
    info = types.type_info(struct)
    assert isinstance(info, types.StructType)
    return info.fields


def _section(struct: type[msgspec.Struct], path: str) -> str:
    keys = [field for field in _fields(struct) if not isinstance(field.type, types.StructType)]
    if not path and not keys:
        return ""
    text = _markdown(inspect.cleandoc(struct.__doc__ or ""))
    head = f"\n## `[{path}]`\n\n{text}\n" if path else f"\n{text}\n"
    if not keys:
        return head
    comments = _comments(struct)
    rows = "".join(
        _ROW.format(
            key=field.name,
            type=describe(field.type),
            default=f"`{toml(_default(field))}`",
            text=_cell(comments.get(field.name, ""), secret=field.name in SECRETS),
        )
        for field in keys
    )
    return f"{head}\n| key | type | default | meaning |\n|---|---|---|---|\n{rows}"


def _default(field: types.Field) -> Any:
    if field.default_factory is not msgspec.NODEFAULT:
        return msgspec.to_builtins(field.default_factory())
    if field.default is msgspec.NODEFAULT:
        raise TypeError(f"{field.name}: every key of the configuration has a default")
    return msgspec.to_builtins(field.default)


def _comments(struct: type[msgspec.Struct]) -> dict[str, str]:
    """The ``#:`` lines directly above each field, joined, by field; base structs' fields too."""
    found: dict[str, str] = {}
    for cls in reversed(struct.__mro__):
        if not issubclass(cls, msgspec.Struct) or cls is msgspec.Struct:
            continue
        source = inspect.getsource(sys.modules[cls.__module__])
        lines = source.splitlines()
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ClassDef) and node.name == cls.__name__:
                for item in node.body:
                    if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                        found[item.target.id] = _above(lines, item.lineno - 1)
    return found


def _above(lines: Sequence[str], line: int) -> str:
    said: list[str] = []
    while line and (text := lines[line - 1].strip()).startswith("#:"):
        said.insert(0, text.removeprefix("#:").strip())
        line -= 1
    return " ".join(said)


def describe(kind: types.Type) -> str:
    """A type and its bounds for people, such as ``integer, 1 to 65535``."""
    match kind:
        case types.BoolType():
            return "true or false"
        case types.IntType():
            return "integer" + _bounds(kind)
        case types.FloatType():
            return "number" + _bounds(kind)
        case types.StrType():
            return "text"
        case types.LiteralType():
            return " or ".join(f"`{toml(value)}`" for value in kind.values)
        case types.VarTupleType() | types.ListType():
            return f"list of {describe(kind.item_type)}"
        case types.DictType():
            return f"table: {describe(kind.key_type)} to {describe(kind.value_type)}"
        case types.UnionType():
            return " or ".join(describe(one) for one in kind.types)
    raise TypeError(f"the reference cannot describe {kind}")


def _bounds(kind: types.IntType | types.FloatType) -> str:
    low, high = kind.ge, kind.le
    if low is not None and high is not None:
        return f", {toml(low)} to {toml(high)}"
    signs = (("from", low), ("up to", high), ("above", kind.gt), ("below", kind.lt))
    said = " and ".join(f"{sign} {toml(bound)}" for sign, bound in signs if bound is not None)
    return f", {said}" if said else ""


def toml(value: Any) -> str:
    """A value as it is written in TOML.

    Raises:
        TypeError: a value that TOML does not have.
    """
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return f"{value:_}" if abs(value) >= 100_000 else str(value)
        case float():
            return repr(value)
        case str():
            # TOML's basic strings escape the same characters as JSON's, and also the delete character.
            return msgspec.json.encode(value).decode().replace("\x7f", "\\u007f")
        case list() | tuple():
            return f"[{', '.join(map(toml, value))}]"
        case Mapping():
            return f"{{{', '.join(f'{toml(str(key))} = {toml(item)}' for key, item in value.items())}}}"
    raise TypeError(f"TOML has no {type(value).__name__}")


def _cell(text: str, *, secret: bool) -> str:
    said = f"{_markdown(text)} Secret: masked where the configuration is shown.".strip() if secret else _markdown(text)
    return said.replace("|", "\\|")


def _markdown(text: str) -> str:
    return text.replace("``", "`")
