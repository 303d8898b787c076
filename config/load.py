"""Where configuration comes from: defaults, then a TOML file, then MURMURATION__SECTION__KEY in the environment."""

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from config.keys import PREFIX, meant, meant_variable, place_of
from config.schema import Config
from engine.errors import ConfigError

_BYTES_MAX = 1 << 20
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.S)


def load(path: Path | None = None, environ: Mapping[str, str] | None = None) -> Config:
    """Read the configuration.

    Raises:
        ConfigError: an unreadable file, an unknown key or a bad value; the message starts with the key's path, and says
            which key was probably meant and where this one stood.
    """
    tree, text = _read(path) if path is not None else ({}, "")
    variables: dict[tuple[str, ...], str] = {}
    for name, value in sorted((os.environ if environ is None else environ).items()):
        if name.startswith(PREFIX):
            variables[_set(tree, name, value)] = name
        elif instead := meant_variable(name):
            raise ConfigError(f"{name}: there is no such setting; {instead} is one (environment)")
    try:
        # Not strict, so that "8400" from the environment is read as a number, and true/false/1/0 as booleans.
        return msgspec.convert(tree, Config, strict=False)
    except msgspec.ValidationError as error:
        message, _, where = str(error).partition(" - at `$")
        section = where.rstrip("`").lstrip(".")
        steps = re.sub(r"\[[^\]]*\]", "", section).split(".") if section else []
        if unknown := _UNKNOWN.fullmatch(message):
            steps.append(unknown[1])
            message = f"there is no key `{unknown[1]}`"
            if instead := meant(section, unknown[1]):
                message += f"; did you mean `{instead}`?"
        place = place_of(steps, None if path is None else (path, text), variables)
        raise ConfigError(f"{section or '(top level)'}: {message}{f' ({place})' if place else ''}") from None


def _read(path: Path) -> tuple[dict[str, Any], str]:
    """A TOML file's content, as values and as text."""
    try:
        with path.open("rb") as file:
            content = file.read(_BYTES_MAX + 1)  # a device may have no end
        if len(content) > _BYTES_MAX:
            raise ConfigError(f"{path}: has more than {_BYTES_MAX} bytes, so it is no configuration")
        text = content.decode("utf-8-sig")  # with or without a byte order mark
        return tomllib.loads(text), text
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not TOML: {str(error) or 'nested too deeply'}") from None


def _set(tree: dict[str, Any], name: str, text: str) -> tuple[str, ...]:
    """Put a variable's value into the tree; returns the key's path."""
    *sections, key = path = name.removeprefix(PREFIX).lower().split("__")
    node = tree
    for section in sections:
        node = node.setdefault(section, {})
        if not isinstance(node, dict):
            raise ConfigError(f"{name}: {section} is a value, not a section")
    node[key] = _value(text)
    return tuple(path)


def _value(text: str) -> Any:
    """A TOML value if the text is a list or table (``["a", "b"]``), else the text itself."""
    if text[:1] in "[{":
        try:
            return tomllib.loads(f"value = {text}")["value"]
        except (tomllib.TOMLDecodeError, RecursionError):
            return text
    return text
