"""Answers of graph queries for the terminal."""

import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from streams.cli.render_feed import plain

_TEXTS = frozenset({"tweet_id", "user_id", "hashtag", "url", "hash", "type", "proof"})


def render_answer(answer: dict[str, Any]) -> RenderableType:
    """An answer of ``/v1/graph/…`` as an object that rich can print: a table of results, and a line about the rest."""
    results = answer["results"]
    table = Table(box=None, header_style="dim", pad_edge=False)
    table.add_column("", justify="right", style="dim", no_wrap=True)
    columns = list(results[0]) if results else []
    for column in columns:
        left = column in _TEXTS
        table.add_column(column, justify="left" if left else "right", no_wrap=column != "proof", overflow="fold")
    for i, result in enumerate(results):
        table.add_row(str(i + 1), *(Text(_cell(column, result[column])) for column in columns))
    footer = [
        f"{answer['query']}, version {answer['version']}",
        *([f"seed {answer['request']['seed']}"] if "seed" in answer["request"] else []),
        *(f"{count:,} {name.replace('_', ' ')}" for name, count in answer["stats"].items()),
        f"{answer['timings_ms']['total']:.1f} ms",
    ]
    return Group(table if results else Text("nothing found", style="dim"), Text(" · ".join(footer), style="dim"))


def _cell(column: str, value: Any) -> str:
    match value:
        case float():
            return f"{value:.6g}"
        case int() if column == "time_ms":
            return datetime.datetime.fromtimestamp(value / 1000, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")
        case dict():
            return "; ".join(f"{kind} by {', '.join(map(_user, users))}" for kind, users in value.items())
        case list():
            return " ".join(_cell(column, part) for part in value)
        case None:
            return "?"
        case _:
            return plain(str(value))


def _user(user: Any) -> str:
    return plain(str(user["user_id"] if isinstance(user, dict) else user))
