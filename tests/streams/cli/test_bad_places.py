"""Whatever stands where a file, a folder or an address should: one line, exit code 1 or 2, never a traceback."""

import asyncio
import gzip
import os
import sys
from pathlib import Path

import pytest

from config.serving import LogConfig
from streams.cli import main as cli
from streams.log import open_log

RECORDING = b"ts,user,item\n1600000000,a,b\n"
#: What stands in the place of what was asked for, made in an empty folder.
PLACES = (
    *("file", "folder", "bytes", "loop", "missing/deep", "file/x", "a" * 300),
    *("/proc/x", "/proc/x/y", "/dev/null/x", "/dev/full"),
)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which commands run."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("MURMURATION__"):
            monkeypatch.delenv(name)
    (tmp_path / "file").write_text("this is = no TOML\n")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00garbage" * 100)
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "recording").mkdir()
    (tmp_path / "recording" / "engagements.csv.gz").write_bytes(gzip.compress(RECORDING))
    return tmp_path


@pytest.fixture
def refused(place, monkeypatch, capfd):
    """Runs a command that is to be refused; the line that it says."""

    def run(*words: str, **variables: str) -> str:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["murmuration", *words])
            for name, value in variables.items():
                patch.setenv(f"MURMURATION__{name}", value)
            with pytest.raises(SystemExit) as raised:
                cli.main()
        err = capfd.readouterr().err
        said = [line for line in err.splitlines() if line.startswith("murmuration: ")]
        assert raised.value.code in (1, 2), (words, variables, err)
        assert "Traceback" not in err
        assert len(said) == 1 or "Usage:" in err, (words, variables, err)
        return said[0] if said else err

    return run


@pytest.mark.parametrize("what", PLACES)
def test_what_is_not_the_file_or_folder_that_a_command_needs(refused, what):
    for command in (("config", "check"), ("config", "show"), ("serve",), ("publish", "-"), ("recover",), ("demo",)):
        refused(*command, "--config", what)
    if what not in ("file", "bytes", "/dev/full"):
        refused("publish", what)
    refused("publish", "--csv", what)
    refused("evaluate", what)
    refused("inspect", what)
    if what not in ("folder", "missing/deep"):
        refused("schemas", "--write", what)
        refused("bench", "make-edges", what, "--edges", "10") if what not in (
            "file",
            "bytes",
            "loop",
            "/dev/full",
        ) else None
    refused("bench", "graph", "--edges", what)
    refused("bench", "recovery", "--edges", what)
    refused("bench", "estimators", "--recording", what)


@pytest.mark.parametrize("what", PLACES)
def test_what_is_no_log(refused, what):
    """And nothing is made by a command that only reads."""
    before = set(os.listdir())
    for command in (("audit", "1"), ("audit", "--sample", "3"), ("recover", "--check"), ("recover", "--skip", "3")):
        refused(*command, LOG__URL=f"sqlite:///{what}")
    assert set(os.listdir()) == before
    if what != "missing/deep":
        for command in (("erase", "1"), ("publish", "file"), ("snapshot",)):
            refused(*command, LOG__URL=f"sqlite:///{what}")


URLS = [
    "x",
    "sqlite:",
    "sqlite:///",
    "sqlite://host/x",
    "sqlite:///a?b=c",
    "kafka:",
    "kafka://",
    "kafka://h:x",
    "http://x",
]


@pytest.mark.parametrize("url", ["", *URLS])
def test_addresses_that_are_none(refused, url):
    for command in (("audit", "1"), ("erase", "1"), ("agents",), ("snapshot",)):
        refused(*command, LOG__URL=url)


@pytest.mark.parametrize("what", ["file", "/proc/x", "file/x", "/dev/null/x", "loop"])
def test_what_is_no_durable_folder(refused, what):
    async def make() -> None:
        async with open_log(LogConfig(url="sqlite:///log.db")):
            pass

    asyncio.run(make())
    for command in (("recover", "--check"), ("recover", "--skip", "1")):
        refused(*command, LOG__URL="sqlite:///log.db", DURABLE__FOLDER=what)


WORDS = """
feed nobody | feed 0 | feed -1 | feed 111111111111111111111111111111 | erase 1.5 | audit x | audit | audit 1 --sample 3
recover --check --skip 3 | feed 1 --limit 0 | feed 1 --url , | feed 1 --url http://[ | feed 1 --url ftp://x
query salsa 1 --url http://127.0.0.1:1 | feed 1 --url http://127.0.0.1:1 | publish | publish --csv recording --as wink
publish --csv recording --speed 0 | publish --csv recording --speed nan | publish --csv recording --ids /proc/x
demo --people -1 | demo --port 70000 | simulate --seeds 0 | evaluate recording --window x | bench lock --seconds x
nonsense | config chek | serve --accept-gaps
"""


@pytest.mark.parametrize("words", [words.strip() for line in WORDS.strip().splitlines() for words in line.split("|")])
def test_words_that_mean_nothing(refused, words):
    refused(*words.split())
