"""The pages are true where a machine can tell: links lead somewhere, and files that a page or a comment names exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
SOURCES = [path for package in ("engine", "streams", "config", "loadtest") for path in (ROOT / package).rglob("*.py")]
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)\s#]*)(?:#([^)\s]*))?\)")
NAMED = re.compile(r"`((?:engine|streams|config|loadtest|tests|docs|clients)/[\w*./<>-]*)`")
DOCS = re.compile(r"docs/[\w/-]+\.md")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def anchors(page: str) -> set[str]:
    """What GitHub makes of headings."""
    titles = re.findall(r"^#+ (.*)$", page, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_links_lead_somewhere(path: Path):
    text = path.read_text()
    for target, anchor in LINK.findall(text):
        there = path if not target else (path.parent / target).resolve()
        assert there.exists(), f"{target} is not there"
        if anchor:
            assert anchor in anchors(there.read_text()), f"{target}#{anchor} has no such heading"


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_files_that_a_page_names_exist(path: Path):
    if path.name == "CHANGELOG.md" or "decisions" in path.parts:
        return  # they tell of the past as well
    for named in NAMED.findall(path.read_text()):
        if "<" not in named:
            assert list(ROOT.glob(named.rstrip("/"))), f"`{named}` is not there"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_pages_that_a_comment_names_exist(path: Path):
    for named in DOCS.findall(path.read_text()):
        assert (ROOT / named).exists(), f"{named} is not there"
