"""Counts of the engagement with an author's tweets, as readers look them up."""

from collections.abc import Mapping

import msgspec
import numpy as np

from engine.engagement_aggregates.arrays import LONG, SHORT, Label
from engine.state import EngineState


class AuthorAggregates(msgspec.Struct, frozen=True):
    """How much people engage with an author's tweets, decayed to ``time_ms``, at a state version.

    ``short`` and ``long``: the counts by label (``Label``, lower case) for either half-life.
    """

    user_id: int
    time_ms: int
    half_life_short_ms: int
    half_life_long_ms: int
    short: Mapping[str, float]
    long: Mapping[str, float]
    version: int


def aggregates_of(state: EngineState, user_id: int, time_ms: int) -> AuthorAggregates:
    """An author's counts; zeros for an unknown author. The caller holds the read side of the state lock."""
    room = state.engagement_aggregates
    counts = room.of_authors(np.array([user_id], np.uint64), time_ms)[0]
    short, long = (
        {label.name.lower(): float(counts[label, half_life]) for label in Label} for half_life in (SHORT, LONG)
    )
    config = room.config
    return AuthorAggregates(
        user_id, time_ms, config.half_life_short_ms, config.half_life_long_ms, short, long, state.version
    )
