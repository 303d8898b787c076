"""Write the tables of tests/imports.toml into docs/architecture.md: what a reader sees is what the tests enforce."""

import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "architecture.md"


def table(name: str, rows: list[dict[str, Any]]) -> str:
    """One table as Markdown, between the marks that `filled` looks for."""
    last = "files" if name == "server" else "may import"
    lines = [f"| {'floor' if name == 'server' else 'room'} | what | {last} |", "|---|---|---|"]
    for row in rows:
        words = row["files"] if name == "server" else row["imports"]
        shown = "every room above" if words == ["*"] else ", ".join(f"`{word}`" for word in words) or "–"
        lines.append(f"| `{row['room']}` | {row['what']} | {shown} |")
    return "\n".join(lines)


def filled(page: str) -> str:
    """The page with its tables renewed."""
    tables = tomllib.loads((ROOT / "tests" / "imports.toml").read_text())
    for name, rows in tables.items():
        begin, end = f"<!-- imports: {name} -->\n", f"<!-- end of {name} -->"
        before, found, rest = page.partition(begin)
        assert found, f"docs/architecture.md has no place for {name}"
        page = before + begin + table(name, rows) + "\n" + end + rest.partition(end)[2]
    return page


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text()))
