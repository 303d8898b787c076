"""docs/configuration.md says what the structs say."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta, Struct

from config.load import load
from config.reference import document, toml
from config.schema import SECRETS, Config

COMMITTED = Path(__file__).parents[2] / "docs" / "configuration.md"


class Inner(Struct, frozen=True, kw_only=True):
    """Explains ``inner`` keys."""

    #: First line,
    #: second | line with ``code``.
    share: Annotated[float, Meta(ge=0, le=1)] = 0.5
    bare: Annotated[int, Meta(gt=2, lt=9)] = 3
    # Not for readers of the reference.
    token_key: str = ""


class Outer(Struct, frozen=True, kw_only=True):
    """All."""

    flag: bool = True
    inner: Inner = Inner()
    table: dict[str, int] = {}
    mode: Literal["a", "b"] = "a"
    #: Big.
    big: Annotated[int, Meta(ge=1)] = 1_000_000


def rows(text: str) -> dict[str, tuple[str, str, str]]:
    """Type, default and meaning by the key's whole path."""
    found, section = {}, ""
    for line in text.splitlines():
        if head := re.fullmatch(r"## `\[(.+)\]`", line):
            section = head[1] + "."
        elif row := re.fullmatch(r"\| `(\w+)` \| (.*) \| `(.*)` \| (.*) \|", line):
            found[section + row[1]] = (row[2], row[3], row[4])
    return found


def leaves(tree: object, path: str = "") -> dict[str, object]:
    if isinstance(tree, Struct):
        return {
            key: value
            for name in tree.__struct_fields__
            for key, value in leaves(getattr(tree, name), f"{path}.{name}".lstrip(".")).items()
        }
    return {path: tree}


def test_the_committed_document_is_current():
    assert COMMITTED.read_text() == document(), "murmuration config reference > docs/configuration.md"


def test_every_key_is_there():
    assert set(rows(document())) == set(leaves(Config()))


def test_the_documented_defaults_are_the_defaults(tmp_path):
    """The document's defaults, written into a file, give the configuration that no file gives."""
    path = tmp_path / "defaults.toml"
    path.write_text("".join(f"{key} = {default}\n" for key, (_, default, _) in rows(document()).items()))
    assert load(path, {}) == Config()


def test_secrets_are_said_to_be():
    secret = {key for key, (*_, text) in rows(document()).items() if "Secret" in text}
    assert secret == {key for key in leaves(Config()) if key.rpartition(".")[2] in SECRETS} != set()


def test_types_bounds_and_comments():
    found = rows(document(Outer))
    assert found == {
        "flag": ("true or false", "true", ""),
        "table": ("table: text to integer", "{}", ""),
        "mode": ('`"a"` or `"b"`', '"a"', ""),
        "big": ("integer, from 1", "1_000_000", "Big."),
        "inner.share": ("number, 0 to 1", "0.5", r"First line, second \| line with `code`."),
        "inner.bare": ("integer, above 2 and below 9", "3", ""),
        "inner.token_key": ("text", '""', "Secret: masked where the configuration is shown."),
    }
    assert "Explains `inner` keys." in document(Outer)


def test_a_key_without_default_or_of_an_unknown_type_is_refused():
    class Needs(Struct):
        key: int

    class Odd(Struct):
        key: set[int] = set()

    for struct in (Needs, Odd):
        with pytest.raises(TypeError):
            document(struct)


scalars = (
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)


@given(st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10))
def test_toml_reads_back(value):
    assert tomllib.loads(f"value = {toml(value)}")["value"] == value


def test_the_command_prints_it():
    done = subprocess.run(
        [sys.executable, "-m", "streams.cli", "config", "reference"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == document()
