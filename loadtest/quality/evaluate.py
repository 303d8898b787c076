"""``murmuration evaluate``: how well the engine predicts a recording, event by event (docs/quality.md).

The evaluation is prequential. Before each sampled event of the last 20 %, the engine, which has applied everything that
came before, ranks all items that could be shown to the event's user; then the event is applied. The scores measured are
the engine's own: walks of its interaction graph and recent popularity, at several half-lives, blended by the weights
learned up to that moment. Popularity and the exact two-hop walk are computed from the recording for comparison.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
import typer
from numpy.typing import NDArray

from engine.batch import Kind, make_batch
from engine.deduplication.state import DeduplicationConfig
from engine.errors import ConfigError
from engine.half_life_blend import FAMILIES, HALF_LIVES_MS, BlendRequest, BlendScratch, components
from engine.interaction_graph.state import InteractionGraphConfig
from engine.kernels.top_k import top_k
from engine.signals.state import SignalsConfig
from engine.social_graph.state import SocialGraphConfig
from engine.state import EngineState, RoomsConfig
from engine.tweet_store.state import TweetStoreConfig
from loadtest.quality.measures import CUT, quality, rank_of
from loadtest.quality.recording import Past
from streams.recordings.read_csv import read_recording

#: Most rows per piece between two sampled events, and the longest event time per piece: as small as pieces live.
BATCH_ROWS = 64
BATCH_MS = 60_000
_DAY_MS = 86_400_000
_DEGREE_MAX = (1 << 26) - 1
REPORT_JSON, REPORT_SVG = "quality.json", "quality.svg"


class EvaluateOptions(NamedTuple):
    """``window``: the graph's capacity in events (None: all). ``events``: size of the sample. ``seed``: of the
    sample and of the walks. ``walks``: walks per request and group of half-lives."""

    window: int | None = None
    events: int = 1500
    seed: int = 1
    walks: int = 10_000


def parse_window(text: str) -> int | None:
    """``all`` or a number of events.

    Raises:
        ConfigError: the text is neither.
    """
    if text == "all":
        return None
    if text.isdecimal() and 0 < int(text) < 1 << 29:
        return int(text)
    raise ConfigError(f"--window is a number of events or all, not {text!r}")


def engine_for(past: Past, window: int) -> EngineState:
    """An engine that holds the newest ``window`` events of a recording; no edge leaves it by age or by degree."""
    window_ms = int(past.time_ms[-1] - past.time_ms[0]) + _DAY_MS
    return EngineState(
        RoomsConfig(
            deduplication=DeduplicationConfig(events_max=BATCH_ROWS),
            interaction_graph=InteractionGraphConfig(
                users_max=past.users,
                tweets_max=past.items,
                edges_max=window,
                # The lists are few and long, so a larger part of their slices is unused than in a large graph.
                arena_slots_per_edge=8.0,
                window_ms=window_ms,
                late_ms_max=window_ms,
                user_degree_max=_DEGREE_MAX,
                tweet_degree_max=_DEGREE_MAX,
                user_entries_max=_DEGREE_MAX,
                edge_kinds=("retweet",),
            ),
            social_graph=SocialGraphConfig(users_max=2, edges_max=2, list_entries_max=8),
            tweet_store=TweetStoreConfig(
                tweets_max=past.items, text_bytes_max=1, acts_max=past.size, person_acts_max=_DEGREE_MAX
            ),
            signals=SignalsConfig(users_max=past.users),
        )
    )


class Evaluation:
    """One run over a recording: the engine's current state, and the ranks measured so far."""

    def __init__(self, past: Past, options: EvaluateOptions) -> None:
        self.past, self.options = past, options
        self.window = min(options.window or past.size, past.size)
        self.engine = engine_for(past, self.window)
        self.learner = self.engine.blend_learner
        self.asked = past.sample(options.events, options.seed)
        self.ranks: dict[str, list[float]] = {}
        self._scratch = BlendScratch()
        self._applied = 0
        self._shown: set[int] = set()

    def run(self, progress: Callable[[int], Any]) -> None:
        """Replay everything; after each sampled event, ``progress`` gets the number of events applied."""
        for row in self.asked.tolist():
            self._apply_until(row)
            self._ask(row)
            progress(row)
        self._apply_until(self.past.size)
        progress(self.past.size)

    def _apply_until(self, row: int) -> None:
        past = self.past
        while self._applied < row:
            until_ms = past.time_ms[self._applied] + BATCH_MS
            most = min(row, self._applied + BATCH_ROWS)
            rows = slice(
                self._applied, self._applied + int(np.searchsorted(past.time_ms[self._applied : most], until_ms))
            )
            count = rows.stop - rows.start
            batch = make_batch(
                kind=np.full(count, Kind.RETWEET),
                id=np.arange(rows.start, rows.stop) + 1,
                user_id=past.user[rows] + 1,
                subject_id=past.item[rows] + 1,
                timestamp_ms=past.time_ms[rows],
            )
            self.engine.apply(batch)
            self._applied = rows.stop

    def _ask(self, row: int) -> None:
        """Rank the items that could be shown just before the row, and note the rank of the row's item."""
        past = self.past
        items = past.candidates(row)
        picked = int(np.searchsorted(items, past.item[row]))
        ids = (items + 1).astype(np.uint64)
        request = BlendRequest(
            int(past.user[row]) + 1, int(past.time_ms[row]), self.options.walks, self.options.seed * past.size + row
        )
        parts = components(self.engine.interaction_graph, ids, request, self._scratch)
        scores = self.learner.blend(parts)
        self._note("blend", scores, picked)
        self._note("popular", past.popular(row, self.window)[items], picked)
        self._note("two_hop", past.two_hop(row, self.window)[items], picked)
        for name, column in zip(component_names(), parts.T, strict=True):
            self._note(name, column, picked)
        best = np.empty(min(CUT, len(ids)), np.int32)
        top_k(scores, ids, np.int64(len(ids)), np.int64(len(best)), best)
        self._shown.update(items[best].tolist())

    def _note(self, name: str, scores: NDArray[np.float64], picked: int) -> None:
        self.ranks.setdefault(name, []).append(rank_of(scores, picked))

    def figures(self) -> dict[str, Any]:
        """All figures; ``components`` holds those of each half-life alone, ``weights`` the learned weights."""
        figures: dict[str, Any] = {}
        alone: dict[str, Any] = {}
        for name, ranks in self.ranks.items():
            hit, mrr, ndcg = quality(np.array(ranks))
            figure = {f"hit@{CUT}": hit, "mrr": mrr, f"ndcg@{CUT}": ndcg}
            if name in ("popular", "two_hop"):
                figures |= {f"{name}.{key}": value for key, value in figure.items()}
            elif name == "blend":
                figures |= figure
                known = int(np.count_nonzero(self.past.born < self.asked[-1]))
                figures["coverage"] = len(self._shown) / known
            else:
                alone[name] = figure
        weights = dict(zip(component_names(), self.learner.weights.tolist(), strict=True))
        return figures | {
            "events": self.past.size,
            "window": self.window,
            "asked": len(self.asked),
            "seed": self.options.seed,
            "walks": self.options.walks,
            "engine_version": self.engine.version,
            **{f"learner.{name}": count for name, count in self.learner.counters().items()},
            "weights": weights,
            "components": alone,
        }


def half_life_name(half_life_ms: float) -> str:
    """A half-life in its greatest unit, to two digits."""
    for unit, ms in (("y", 365.25 * _DAY_MS), ("d", _DAY_MS), ("h", _DAY_MS / 24), ("min", 60_000.0)):
        if half_life_ms >= ms:
            return f"{half_life_ms / ms:.2g} {unit}"
    return f"{half_life_ms / 1000:.2g} s"


def component_names() -> list[str]:
    """Names of the blend's components, in the order of its columns."""
    return [f"{kind} {half_life_name(h)}" for kind in FAMILIES for h in HALF_LIVES_MS]


def evaluate(folder: Path, options: EvaluateOptions, progress: Callable[[int], Any] = lambda _: None) -> dict[str, Any]:
    """Evaluate a folder with ``engagements.csv.gz``; equal folders and options give equal figures.

    Raises:
        ConfigError: the folder cannot be read, or no event in it can be sampled.
    """
    evaluation = Evaluation(Past(read_recording(folder)), options)
    evaluation.run(progress)
    return {"recording": folder.resolve().name, **evaluation.figures()}


def run_evaluate(folder: Path, options: EvaluateOptions, *, json: bool, report: Path | None = None) -> None:
    """The command: a progress bar on standard error, figures on standard output, and the report's two files.

    Raises:
        ConfigError: as ``evaluate``, or the report's folder cannot be written.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from loadtest.quality.report import picture

    evaluation = Evaluation(Past(read_recording(folder)), options)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("events", total=evaluation.past.size)
        evaluation.run(lambda done: bar.update(task, completed=done))
    figures = {"recording": folder.resolve().name, **evaluation.figures()}
    encoded = orjson.dumps(figures, option=orjson.OPT_INDENT_2)
    if report is not None:
        try:
            report.mkdir(parents=True, exist_ok=True)
            (report / REPORT_JSON).write_bytes(encoded + b"\n")
            (report / REPORT_SVG).write_text(picture(figures), encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"--report {report}: {error}") from error
    typer.echo(encoded.decode() if json else _table(figures))


def _table(figures: Mapping[str, Any]) -> str:
    """The figures as aligned lines; the learned weights last."""
    lines = [(name, value) for name, value in figures.items() if not isinstance(value, dict)]
    lines += [(f"weight of {name}", value) for name, value in figures["weights"].items()]
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{n:<{width}}  {v:.4f}" if isinstance(v, float) else f"{n:<{width}}  {v}" for n, v in lines)
