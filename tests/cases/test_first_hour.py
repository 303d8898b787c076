"""The first hour: README's example shows its tweets, a feed says what it leaves out, reading makes nothing."""

import gzip
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from streams.cli.main import app
from tests.support.front_door import DAY, HOUR, Front, World

README = Path(__file__).parents[2] / "README.md"


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """README's example events as a file, each line as it stands there."""
    lines = [line for line in README.read_text().splitlines() if line.startswith('{"v": 1')]
    assert len(lines) > 2
    path = tmp_path / "events.ndjson"
    path.write_text("\n".join(lines) + "\n")
    return path


def run(*words: str | Path) -> tuple[int, str]:
    """The exit code and everything that a command prints."""
    done = CliRunner().invoke(app, [str(word) for word in words])
    said = f"{done.output}{done.exception or ''}"
    return (1 if done.exception is not None and done.exit_code == 0 else done.exit_code), said


def words_of(w: World, viewer: int, product: str = "for_you") -> list[str]:
    return [reason["words"] for reason in w.feed(viewer, product)["dropped_in_words"]]


def test_the_example_of_the_readme_gives_a_feed_that_shows_it(front: Front, example: Path):
    code, said = run("publish", example, "--log", front.config.log.url)
    assert code == 0, said
    assert re.search(r"\d accepted, 0 refused", said)
    front.do(front.applied())
    for product in ("for_you", "following"):
        status, feed = front.do(front.get("/v1/users/42/feed", product=product, explain="all"))
        assert status == 200
        entries = {entry["text"]: entry for entry in feed["entries"]}
        assert "the flock turns" in entries
        assert entries["the flock turns"]["counts"]["favorite"] == 1


def test_what_is_too_old_is_said(w: World):
    w.follow(1, 2, at=-60 * DAY)
    w.create(100, by=2, at=-49 * HOUR)
    w.publish()
    assert w.shown(1, "for_you") == []
    assert "1 tweet is older than 48 h" in words_of(w, 1)
    w.create(101, by=2, at=-50 * HOUR)
    w.create(102, by=2, at=-HOUR)
    w.publish()
    assert w.shown(1, "for_you") == [102]
    assert "2 tweets are older than 48 h" in words_of(w, 1)
    assert not words_of(w, 1, "following")


def test_what_the_viewer_did_and_asked_for_is_said(w: World):
    w.follow(1, *range(2, 7), at=-DAY)
    for tweet, author in enumerate(range(2, 7), start=200):
        w.create(tweet, by=author, text="a plain tweet" if author < 6 else "it rains", at=-HOUR)
    w.act("favorite", 1, 200)
    w.act("impression", 1, 201)
    w.relate("mute", 1, 4)
    w.word(1, "rains")
    w.publish()
    assert w.shown(1, "for_you") == [203]
    assert {
        "1 tweet already has a like, retweet, reply, quote, share or bookmark by the viewer",
        "1 tweet was seen by the viewer before",
        "1 tweet involves somebody whom the viewer mutes, or who mutes the viewer",
        "1 tweet has a word that the viewer muted",
    } <= set(words_of(w, 1))


@pytest.fixture
def years(tmp_path: Path) -> Path:
    """A recording of four years: every hundred days a tweet, and an engagement by somebody else."""
    folder = tmp_path / "years"
    folder.mkdir()
    rows = [f"{day * 86_400 + at},p{at},i{day}" for day in range(0, 1500, 100) for at in (1, 2)]
    with gzip.open(folder / "engagements.csv.gz", "wt") as file:
        file.write("\n".join(["ts,user,item", *rows]) + "\n")
    return folder


def test_a_recording_of_years_says_what_is_young_and_can_be_squeezed(tmp_path: Path, years: Path):
    log = f"sqlite:///{tmp_path}/squeezed.db"
    code, said = run("publish", "--csv", years, "--log", log)
    assert code == 0, said
    assert "of 15 tweets 6.7% and of 30 rows 6.7% fall into the last 48 h" in said
    assert "--squeeze 24" in said
    code, said = run("publish", "--csv", years, "--log", log, "--squeeze", "24")
    assert code == 0, said
    assert "of 15 tweets 100.0% and of 30 rows 100.0% fall into the last 48 h" in said
    assert "--squeeze 24" not in said
    code, said = run("publish", "--csv", years, "--log", log, "--squeeze", "24", "--speed", "2")
    assert (code, "exclude each other" in said) == (2, True)


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working folder: empty, and empty when the test ends."""
    folder = tmp_path / "empty"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MURMURATION__LOG__URL", raising=False)
    yield folder
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["audit", "17"], 1, "nothing was published or served yet"),
        (["audit", "--sample", "10"], 1, "nothing was published or served yet"),
        (["recover"], 1, "nothing was published or served yet"),
        (["recover", "--check"], 1, "nothing was published or served yet"),
        (["recover", "--skip", "3"], 1, "nothing was published or served yet"),
        (["publish", "--csv", "nowhere"], 1, "no engagements.csv.gz"),
        (["publish", "nowhere.ndjson"], 1, "No such file"),
        (["inspect", "var/murmuration.state"], 2, "is not a folder"),
        (["inspect", "."], 2, "holds no history of an engine"),
        (["config", "show"], 0, '"log"'),
        (["config", "check"], 0, "ok"),
        (["config", "reference"], 0, "# Configuration"),
        (["feed", "1", "--url", "http://127.0.0.1:1"], 1, "127.0.0.1:1"),
        (["query", "salsa", "1", "--url", "http://127.0.0.1:1"], 1, "127.0.0.1:1"),
    ],
)
def test_a_command_that_only_reads_makes_nothing(empty: Path, words: list[str], code: int, said: str):
    found, output = run(*words)
    assert said in output
    assert found == code


def test_a_log_that_nobody_served_from_has_nothing_to_check(tmp_path: Path, example: Path, empty: Path, monkeypatch):
    url = f"sqlite:///{tmp_path}/events.db"
    monkeypatch.setenv("MURMURATION__LOG__URL", url)
    assert run("publish", example)[0] == 0
    before = sorted(path.name for path in tmp_path.iterdir())
    asked = {"nothing was checked": ["audit", "--sample", "3"], "nothing was kept": ["recover", "--check"]}
    for said, words in asked.items():
        code, output = run(*words)
        assert (code, said in output) == (1, True), output
    assert sorted(path.name for path in tmp_path.iterdir()) == before
