"""The picture of an evaluation: one SVG file that any browser shows, written without a plotting library."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from loadtest.quality.measures import CUT

_WIDTH, _LABEL, _BAR, _LINE, _GAP = 760, 190, 480, 22, 16
_COLORS = ("#1d6fb8", "#d9822b", "#7a8794")
_STYLE = "text{font:13px system-ui,sans-serif;fill:#1c2733}.t{font-weight:600;font-size:15px}.s{fill:#5b6875}"


def _text(x: float, y: float, text: str, attributes: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}"{attributes}>{escape(text)}</text>'


def _panel(at: int, title: str, rows: Sequence[tuple[str, float, str]]) -> tuple[list[str], int]:
    """A titled panel of horizontal bars (label, value 0 … 1, color) from height ``at``, and the height of its end."""
    parts = [_text(20, at, title, ' class="t"')]
    at += 10
    for label, value, color in rows:
        middle = at + _LINE / 2 + 5
        parts.append(_text(_LABEL - 10, middle, label, ' text-anchor="end"'))
        width = max(0.0, min(1.0, value)) * _BAR
        parts.append(f'<rect x="{_LABEL}" y="{at + 3}" width="{width:.1f}" height="{_LINE - 6}" fill="{color}"/>')
        parts.append(_text(_LABEL + width + 6, middle, f"{value:.3f}"))
        at += _LINE
    return parts, at + _GAP + 14


def picture(figures: Mapping[str, Any]) -> str:
    """The figures of ``evaluate`` as an SVG document: blend and baselines, each half-life alone, the weights."""
    blue, orange, gray = _COLORS
    hit = f"hit@{CUT}"
    of = (("blend, learned", "", blue), ("two-hop walk", "two_hop.", orange), ("most popular", "popular.", gray))
    colors = {"walk": blue, "recent": orange, "popularity": gray}
    alone = [(name, value, colors[name.split()[0]]) for name, value in figures["components"].items()]
    panels = [
        (f"{hit}: share of picks within the first {CUT}", [(name, figures[f"{key}{hit}"], c) for name, key, c in of]),
        ("MRR: mean of 1 / rank", [(name, figures[f"{key}mrr"], c) for name, key, c in of]),
        (f"{hit} of each half-life alone", [(name, value[hit], color) for name, value, color in alone]),
        (
            "Weights learned online, at the end",
            [(name, figures["weights"][name], color) for name, _, color in alone],
        ),
    ]
    parts = [_text(20, 30, f"Prequential quality: {figures['recording']}", ' class="t"')]
    about = (
        f"{figures['asked']} of {figures['events']} events asked, window {figures['window']}, seed {figures['seed']}"
    )
    parts.append(_text(20, 50, about, ' class="s"'))
    at = 86
    for title, rows in panels:
        drawn, at = _panel(at, title, rows)
        parts += drawn
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {at}" width="{_WIDTH}" height="{at}">'
        f'<title>Prequential quality</title><style>{_STYLE}</style><rect width="100%" height="100%" fill="#fff"/>'
        + "\n".join(parts)
        + "</svg>\n"
    )
