"""``murmuration train real-graph``: reads the log, fits the model of ties, and publishes it to topic ``models``."""

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from config.schema import Config
from engine.errors import MurmurationError
from engine.models.specs import AUC_ANY, AUC_EXPLICIT, BEFORE, REAL_GRAPH
from engine.models.tie_trees import decode, encode
from engine.state import EngineState
from streams.events.decode import Decoder
from streams.events.json_types import APPLIED_TOPICS
from streams.events.models import TOPIC, model_records
from streams.log.interface import EventLog
from streams.ordering.own import OwnOrder
from streams.recovery.replay import bounds
from streams.training.tie_examples import Collector
from streams.training.tie_trees import boosted_trees, fit, measure


class WorseModelError(MurmurationError):
    """What was fitted is worse than what is in force; it is not published."""

    code = "worse_model"


class TrainOptions(NamedTuple):
    """``days_max``: of so many days, the last, there are examples; ``pairs_max``: of so many pairs a day. ``seed``: of
    the draws. ``publish``: append the model to the log; else only measure it."""

    days_max: int = 30
    pairs_max: int = 50_000
    seed: int = 1
    publish: bool = True


class Trained(NamedTuple):
    """A model that was fitted. ``published``: the number of records appended, 0 for none."""

    version: int
    size_bytes: int
    figures: dict[str, float]
    published: int


async def train(
    config: Config, event_log: EventLog, options: TrainOptions, progress: Callable[[int, int], None]
) -> Trained:
    """Fit and publish. ``progress``: how many records of the log were read, and how many there are.

    Raises:
        ConfigError: scikit-learn is not installed.
        TooFewExamplesError: the log has too little to learn from.
        WorseModelError: what is in force is better.
        LogError: the log cannot be read or appended to.
    """
    boosted_trees(options.seed)  # whether it is installed is said before the log is read
    state = EngineState(config.rooms)
    collector = Collector(state, pairs_max=options.pairs_max, days_max=options.days_max)
    await _read(config, event_log, collector, progress)
    examples = collector.examples()
    model = await asyncio.to_thread(fit, examples, options.seed)
    in_force = state.models.version(REAL_GRAPH.name)
    before = decode(state.models.payload(REAL_GRAPH.name)) if in_force else None
    figures = measure(model, before, examples) | {BEFORE: float(in_force), "days": float(collector.days)}
    assert REAL_GRAPH.as_good is not None
    if not REAL_GRAPH.as_good(figures, in_force):
        raise WorseModelError(
            f"AUC {figures[AUC_ANY]:.4f} (any) and {figures[AUC_EXPLICIT]:.4f} (explicit): less than what is in force"
        )
    payload, version = encode(model), max(state.clock_ms, in_force + 1)
    records = model_records(REAL_GRAPH.name, version, REAL_GRAPH.schema, payload, figures, state.clock_ms)
    if options.publish:
        await event_log.append(TOPIC, records)
    return Trained(version, len(payload), figures, len(records) if options.publish else 0)


async def _read(
    config: Config, event_log: EventLog, collector: Collector, progress: Callable[[int, int], None]
) -> None:
    """Apply everything that the log has now."""
    starts, ends = await bounds(event_log.start_offsets), await bounds(event_log.end_offsets)
    total, decoder = sum(ends.values()) - sum(starts.values()), Decoder(future_ms_max=config.ingest.future_ms_max)
    tail = await event_log.tail(starts, follow_new=True)
    source = OwnOrder(tail, config.ingest, compacted=await event_log.compacted(APPLIED_TOPICS))
    try:
        while any(tail.positions.get(where, end) < end for where, end in ends.items()):
            for piece in (await source.next()).pieces:
                await asyncio.to_thread(collector.apply, decoder.decode(piece).batch)
            progress(sum(tail.positions.get(where, 0) - start for where, start in starts.items()), total)
    finally:
        await source.close()
