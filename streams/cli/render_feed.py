"""A feed for the terminal. Text that people wrote is shown without markup and control characters."""

import unicodedata
from collections.abc import Collection, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from engine.feed import Product
from streams.client.entry_list import EntryList

#: Reasons that say nothing about a tweet but that others were better: only an explanation has them.
_RANKED_LOWER = ("narrowed", "not_selected")
_UNITS = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1000, "s"))


def render_feed(feed: dict[str, Any], explain: bool = False) -> RenderableType:
    """A ``feed`` frame, or a ``new_tweets`` frame with the new entries marked, as an object that rich can print."""
    now_ms = feed.get("time_ms") or max((entry["created_ms"] for entry in feed["entries"]), default=0)
    numbered = [(entry["position"] + 1, entry) for entry in feed["entries"]]
    if feed["product"] == Product.WHO_TO_FOLLOW:
        table = _people(feed["entries"], explain)
    else:
        table = _table(numbered, now_ms, set(feed.get("new", ())), explain)
    parts: list[RenderableType] = [table if feed["entries"] else Text("nothing to show yet", style="dim")]
    left_out = feed.get("dropped_in_words", [])
    if left_out and (explain or not feed["entries"]):
        parts += [Rule("left out", style="dim"), _left_out(left_out)]
    elif said := [reason["words"] for reason in left_out if reason["filter"] not in _RANKED_LOWER]:
        parts.append(Text(f"left out: {'; '.join(said)}", style="dim"))
    parts.append(Text(_footer(feed), style="dim"))
    return Group(*parts)


def render_entries(push: dict[str, Any], shown: EntryList) -> Group:
    """A ``new_entries`` frame: its entries at their places in the list, and what left the list."""
    pushed = {entry["tweet_id"] for entry in push["entries"]}
    numbered = [(place, entry) for place, entry in enumerate(shown.entries, 1) if entry["tweet_id"] in pushed]
    now_ms = max((entry["created_ms"] for entry in shown.entries), default=0)
    parts: list[RenderableType] = []
    if numbered:
        parts.append(_table(numbered, now_ms, set(push["new"]), explain=False))
    if edited := push.get("edited"):
        parts.append(Text(f"edited: {', '.join(edited)}", style="dim"))
    if gone := push.get("gone"):
        parts.append(Text(f"gone (deleted, or not to be shown any more): {', '.join(gone)}", style="yellow"))
    parts.append(Text(_footer(push), style="dim"))
    return Group(*parts)


def _table(numbered: Sequence[tuple[int, dict[str, Any]]], now_ms: int, new: Collection[str], explain: bool) -> Table:
    """Entries with their numbers."""
    table = Table(box=None, show_header=True, header_style="dim", pad_edge=False, expand=True)
    table.add_column("", justify="right", style="dim", no_wrap=True)
    table.add_column("score", justify="right", no_wrap=True)
    table.add_column("author", no_wrap=True)
    table.add_column("age", justify="right", no_wrap=True)
    table.add_column("tweet", ratio=1)
    for number, entry in numbered:
        lines = [Text(plain(entry["text"])), Text(_counts(entry), style="dim")]
        if explain and "why" in entry:
            lines += _why(entry["why"])
        table.add_row(
            Text(str(number), style="bold green" if entry["tweet_id"] in new else ""),
            f"{entry['score']:.3f}",
            Text(entry["author_id"], style="cyan" if entry["in_network"] else "magenta"),
            age(now_ms - entry["created_ms"]),
            Group(*lines),
        )
    return table


def _people(entries: Sequence[dict[str, Any]], explain: bool) -> Table:
    """People of who to follow with the reasons."""
    table = Table(box=None, show_header=True, header_style="dim", pad_edge=False, expand=True)
    table.add_column("", justify="right", style="dim", no_wrap=True)
    table.add_column("score", justify="right", no_wrap=True)
    table.add_column("person", no_wrap=True)
    table.add_column("followers", justify="right", no_wrap=True)
    table.add_column("why", ratio=1)
    for entry in entries:
        lines = [Text("; ".join(plain(reason["text"]) for reason in entry["reasons"]))]
        if explain and "why" in entry:
            lines += _why(entry["why"])
        table.add_row(
            str(entry["position"] + 1),
            f"{entry['score']:.3f}",
            Text(entry["user_id"], style="cyan"),
            str(entry["counts"]["followers"]),
            Group(*lines),
        )
    return table


def plain(text: str) -> str:
    """Text on one line without anything a terminal would act on (controls, escapes, direction overrides)."""
    return "".join(
        " " if char.isspace() else char
        for char in text
        if char.isspace() or unicodedata.category(char) not in ("Cc", "Cf", "Cs") or char == "\u200d"
    )


def age(span_ms: int) -> str:
    """A span of time for people: ``5 min``."""
    for unit_ms, unit in _UNITS:
        if span_ms >= unit_ms:
            return f"{span_ms // unit_ms} {unit}"
    return "now"


def _counts(entry: dict[str, Any]) -> str:
    return "  ".join(f"{count} {kind}" for kind, count in entry["counts"].items() if count) or "no reactions yet"


def _why(why: dict[str, Any]) -> list[Text]:
    sources = ", ".join(f"{s['name']} #{s['rank'] + 1} ({s['score']:.3g})" for s in why["sources"])
    scores = " + ".join(f"{name} {value:.3f}" for name, value in why["scores"].items() if value)
    factors = "".join(f" × {f['name']} {f['factor']:.3g}" for f in why["factors"])
    proof = "; ".join(f"{kind} by {', '.join(users)}" for kind, users in why["social_proof"].items() if users)
    lines = [f"from {sources}", f"score {scores}{factors}", f"followees: {proof}" if proof else ""]
    return [Text(f"  {line}", style="dim italic") for line in lines if line]


def _left_out(reasons: list[dict[str, Any]]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    for reason in reasons:
        table.add_row(Text(reason["words"]), Text(reason["filter"], style="yellow"))
    return table


def _footer(feed: dict[str, Any]) -> str:
    parts = [f"{feed['product']}, version {feed['version']}"]
    if "seed" in feed:
        parts.append(f"seed {feed['seed']}, configuration {feed['config_hash'][:12]}, model {feed['model_version']}")
    if feed.get("models"):
        parts.append(", ".join(f"{name} {version}" for name, version in feed["models"].items()))
    if feed.get("degraded"):
        parts.append(f"without {', '.join(feed['degraded'])}")
    if "total" in feed.get("timings_ms", {}):
        parts.append(f"{feed['timings_ms']['total']:.1f} ms")
    return " · ".join(parts)
