"""An author's aggregates as readers see them: by label and half-life, decayed to the time that is asked for."""

import pytest

from engine.batch import Kind, make_batch
from engine.engagement_aggregates.arrays import Label
from engine.rooms import small_rooms
from engine.state import EngineState
from streams.reading.aggregates import aggregates_of

T0 = 1_760_000_000_000
HALF_HOUR = 1_800_000


def test_an_authors_counts_decay_to_the_time_asked_for():
    state = EngineState(small_rooms(1 << 6))
    state.apply(
        make_batch(
            kind=[Kind.CREATE, Kind.FAVORITE, Kind.REPORT], id=[1, 2, 3], user_id=[7, 8, 9], author_id=[7, 0, 0],
            subject_id=[70] * 3, timestamp_ms=[T0] * 3,
        )
    )  # fmt: skip
    found = aggregates_of(state, 7, T0 + HALF_HOUR)
    assert (found.user_id, found.time_ms, found.version) == (7, T0 + HALF_HOUR, 1)
    assert list(found.short) == list(found.long) == [label.name.lower() for label in Label]
    assert {name: value for name, value in found.short.items() if value} == {"favorite": 0.5, "report": 0.5}
    assert found.long["favorite"] == pytest.approx(2 ** (-1 / 48))
    assert not any(aggregates_of(state, 8, T0).short.values())
