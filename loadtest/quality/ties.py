"""``murmuration evaluate --ties``: how well tie strength predicts the next day in societies (docs/real_graph.md).

Each society lives for some weeks. At the end of every day all ties are scored, and then it is seen in which of them
anything was done on the next day. Trees are fitted to nine tenths of the people and judged, like the default score and
recency, by the other tenth: by the area under the ROC curve, over several societies.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import orjson
import typer
from numpy.typing import NDArray

from engine.batch import EventBatch, Kind, make_batch
from engine.deduplication.state import DeduplicationConfig
from engine.real_graph.state import RealGraphConfig
from engine.rooms import RoomsConfig, small_rooms
from engine.social_graph.state import SocialGraphConfig
from engine.state import EngineState
from engine.tweet_store.state import TweetStoreConfig
from loadtest.society.events import EventColumns
from loadtest.society.society import Society, SocietyConfig
from streams.training.tie_examples import Collector, Examples
from streams.training.tie_trees import fit, measure

DAY_MS: Final = 86_400_000
#: Midnight of some day.
BEGIN_MS: Final = 20_000 * DAY_MS
#: How the figures of a measurement begin, and what they are of.
COMPARED: Final = {"auc": "trees", "default_auc": "default score", "recency_auc": "recency"}
KINDS: Final = ("any", "explicit")
#: Of the first days there are no examples: little is known yet.
_DAYS_BEFORE: Final = 10
_FIELDS: Final = ("kind", "id", "user_id", "subject_id", "author_id", "timestamp_ms", "context_id", "value")


class TiesOptions(NamedTuple):
    """``seeds``: how many societies, of ``people``, who together do ``events_a_day``, for ``days``."""

    seeds: int = 5
    people: int = 600
    days: int = 24
    events_a_day: int = 12_000


def rooms(options: TiesOptions) -> RoomsConfig:
    """Rooms that hold everything that ties depend on."""
    events, pairs = options.days * options.events_a_day, 400 * options.people
    return msgspec.structs.replace(
        small_rooms(1 << 8),
        deduplication=DeduplicationConfig(events_max=1 << 16),
        tweet_store=TweetStoreConfig(
            tweets_max=1 << 15, stubs_max=1 << 10, text_bytes_max=1 << 10, acts_max=events, person_acts_max=events
        ),
        social_graph=SocialGraphConfig(users_max=2 * options.people, edges_max=pairs, list_entries_max=5 * pairs),
        real_graph=RealGraphConfig(people_max=options.people, pairs_max=pairs, features_max=4 * pairs),
    )


def examples_of(seed: int, options: TiesOptions) -> Examples:
    """The examples of one society."""
    society = Society(
        SocietyConfig(
            seed=seed, people=options.people, mean_followees=20.0, events_per_s=options.events_a_day / 86_400,
            step_ms_max=1_800_000, freshness_half_life_ms=10_800_000,
        )
    )  # fmt: skip
    collector = Collector(EngineState(rooms(options)), pairs_max=1 << 20, days_max=options.days - _DAYS_BEFORE)
    follower, followee = np.divmod(society.world.follows.keys(), options.people)
    collector.apply(
        make_batch(
            kind=np.full(len(follower), Kind.FOLLOW), id=np.arange(1, 1 + len(follower)), user_id=follower + 1,
            subject_id=followee + 1, timestamp_ms=np.full(len(follower), BEGIN_MS - 60 * DAY_MS),
        )
    )  # fmt: skip
    for day in range(options.days + 1):
        from_ms = BEGIN_MS + day * DAY_MS
        collector.apply(batch_of(society.tick_columns(from_ms, from_ms + DAY_MS)))
    return collector.examples()


def batch_of(columns: EventColumns) -> EventBatch:
    """A society's events as the engine takes them; tweets without their text."""
    creates = columns.kind == Kind.CREATE
    nothing = np.zeros(int(creates.sum()), np.int64)
    return make_batch(
        payload=np.where(creates, np.cumsum(creates) - 1, -1),
        tweet_text_start=nothing,
        tweet_text_bytes=nothing,
        **{name: getattr(columns, name) for name in _FIELDS},
    )


def evaluate_ties(options: TiesOptions, progress: Callable[[int], Any] = lambda _: None) -> dict[str, Any]:
    """The figures of every society, and over all of them: means with 95 % intervals; equal options, equal figures.

    Raises:
        ConfigError: scikit-learn is not installed.
        TooFewExamplesError: the societies are too small or too short.
    """
    found = []
    for seed in range(1, options.seeds + 1):
        examples = examples_of(seed, options)
        found.append(measure(fit(examples, seed), None, examples))
        progress(seed)
    summary: dict[str, Any] = {}
    for kind in KINDS:
        columns = {name: np.array([figures[f"{key}_{kind}"] for figures in found]) for key, name in COMPARED.items()}
        leads = {f"trees minus {name}": columns["trees"] - columns[name] for name in list(COMPARED.values())[1:]}
        summary[kind] = {name: interval(values) for name, values in (columns | leads).items()}
    return {"options": options._asdict(), "auc": summary, "societies": found}


#: Student's t for 95 %, both sides, by degrees of freedom; then the normal distribution's.
_T: Final = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


def interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """The mean of values (float64, n), and half of its 95 % interval; nan for a single value."""
    if len(values) < 2:
        return float(values.mean()), float("nan")
    t = _T[len(values) - 2] if len(values) - 2 < len(_T) else 1.96
    return float(values.mean()), float(t * values.std(ddof=1) / np.sqrt(len(values)))


def run_evaluate_ties(options: TiesOptions, *, json: bool) -> None:
    """The command: a progress bar on standard error, figures on standard output."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("societies", total=options.seeds)
        figures = evaluate_ties(options, lambda done: bar.update(task, completed=done))
    if json:
        typer.echo(orjson.dumps(figures, option=orjson.OPT_INDENT_2).decode())
        return
    for kind, compared in figures["auc"].items():
        typer.echo(f"next-day AUC, {kind}")
        for name, (mean, half) in compared.items():
            typer.echo(f"  {name:<26} {mean:.4f} ± {half:.4f}")
