"""A key that is none is named with the one that was meant, and with where it stood."""

import pytest

from config.keys import keys, line_of, meant, meant_variable, variable
from config.load import load
from engine.errors import ConfigError

KEYS = [key for key in keys() if "." in key]


def wrongs(name: str) -> list[str]:
    """The name with a letter or an underscore less, doubled or exchanged."""
    middle = len(name) // 2
    return [
        name[:middle] + name[middle + 1 :],
        name[:middle] + name[middle] + name[middle:],
        name[:middle] + "x" + name[middle + 1 :],
        name.replace("_", ""),
        name.replace("_", "-"),
        name.upper(),
    ]


@pytest.mark.parametrize("key", KEYS[:: len(KEYS) // 12])
def test_a_key_that_is_nearly_one_is_named(tmp_path, key):
    section, _, name = key.rpartition(".")
    path = tmp_path / "murmuration.toml"
    for wrong in {*wrongs(name)} - {name}:
        path.write_text(f"# settings\n\n[{section}]\n'{wrong}' = 1\n")
        with pytest.raises(ConfigError) as raised:
            load(path, {})
        said = str(raised.value)
        assert said.startswith(f"{section}: there is no key `{wrong}`"), said
        assert f"`{key}`" in said, said
        assert said.endswith(f"({path}:4)"), said


def test_every_variable_that_is_nearly_a_setting_is_refused():
    for key in KEYS[:: len(KEYS) // 12]:
        right = variable(key)
        assert meant(key.rpartition(".")[0], key.rpartition(".")[2]) == key
        for wrong in (right.replace("__", "_"), right.replace("MURMURATION", "MURMURATON"), right.lower()):
            if wrong != right:
                assert meant_variable(wrong) == right
                with pytest.raises(ConfigError, match=right):
                    load(None, {wrong: "1"})
    for other in ("MURMURATION_URL", "MURMURATION_TOKEN", "MURMURATION_TOKEN_KEY", "MURMURATION_TEST_KAFKA", "PATH"):
        assert load(None, {other: "1"}) == load(None, {})


@pytest.mark.parametrize(
    "name", ["MURMURATION__SERVING__PROT", "MURMURATION__SERVING_PORT", "MURMURATION__SERVIN__PORT"]
)
def test_a_variable_that_sets_no_key_is_named(name):
    with pytest.raises(ConfigError) as raised:
        load(None, {name: "1"})
    assert str(raised.value).endswith(f"({name})")
    assert "serving" in str(raised.value)


def test_where_a_bad_value_stood(tmp_path):
    path = tmp_path / "murmuration.toml"
    path.write_text('[serving]\nhost = "::1"\nport = 70000\n')
    with pytest.raises(ConfigError, match=rf"^serving\.port: .* \({path}:3\)$"):
        load(path, {})
    with pytest.raises(ConfigError, match=r"^serving\.port: .* \(MURMURATION__SERVING__PORT\)$"):
        load(path, {"MURMURATION__SERVING__PORT": "none"})


@pytest.mark.parametrize(
    ("text", "path", "line"),
    [
        ("a.b = 1", "a.b", 1),
        ("[a]\n[a.b] # here\nc = 1", "a.b.c", 3),
        ('[ a . b ]\n"c" = 1', "a.b.c", 2),
        ("[a]\nb = {c = 1}", "a.b.c", 2),
        ("[[a]]\nb = 1", "a", 1),
        ("[x]\nb = 1", "a.b", None),
    ],
)
def test_lines_of_keys(text, path, line):
    assert line_of(text, path.split(".")) == line
