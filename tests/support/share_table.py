"""Writes the table of shares into docs/fair_shares.md: python tests/support/share_table.py"""

from pathlib import Path

from engine.room import ANY
from engine.rooms import room_classes

PAGE = Path(__file__).parents[2] / "docs/fair_shares.md"
BEGIN, END = "<!-- shares -->", "<!-- end of shares -->"


def table() -> str:
    """The shares of all rooms, as Markdown."""
    lines = ["| room | what is shared | one person's share | what becomes of more |", "|---|---|---|---|"]
    for name, room in room_classes().items():
        for resource, share in (room.shares or {"": ("nothing fills up", "–")}).items():
            what = "" if resource == ANY else f"`{resource}`" if resource else "–"
            lines.append(f"| `{name}` | {what or 'every'} | {share[0]} | {share[1]} |")
    return "\n".join(lines)


def with_table(text: str) -> str:
    """The page with the current table."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{table()}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text()))
