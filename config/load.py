"""Where configuration comes from: defaults, then a TOML file, then MURMURATION__SECTION__KEY in the environment."""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from config.schema import Config
from engine.errors import ConfigError

PREFIX = "MURMURATION__"


def load(path: Path | None = None, environ: Mapping[str, str] | None = None) -> Config:
    """Read the configuration.

    Raises:
        ConfigError: an unreadable file, an unknown key or a bad value; the message starts with the key's path.
    """
    tree: dict[str, Any] = {}
    if path is not None:
        try:
            tree = tomllib.loads(path.read_text(encoding="utf-8-sig"))  # with or without a byte order mark
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror or error}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: not TOML: {error}") from error
    for name, value in sorted((os.environ if environ is None else environ).items()):
        if name.startswith(PREFIX):
            _set(tree, name, value)
    try:
        # Not strict, so that "8400" from the environment is read as a number, and true/false/1/0 as booleans.
        return msgspec.convert(tree, Config, strict=False)
    except msgspec.ValidationError as error:
        message, _, where = str(error).partition(" - at `$")
        key = where.rstrip("`").lstrip(".") or "(top level)"
        raise ConfigError(f"{key}: {message}") from error


def _set(tree: dict[str, Any], name: str, text: str) -> None:
    *sections, key = name.removeprefix(PREFIX).lower().split("__")
    node = tree
    for section in sections:
        node = node.setdefault(section, {})
        if not isinstance(node, dict):
            raise ConfigError(f"{name}: {section} is a value, not a section")
    node[key] = _value(text)


def _value(text: str) -> Any:
    """A TOML value if the text is a list or table (``["a", "b"]``), else the text itself."""
    if text[:1] in "[{":
        try:
            return tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            return text
    return text
