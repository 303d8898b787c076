"""What the intake takes for one event is what the engine takes for one."""

from typing import Any

import pytest
from hypothesis import given, settings

from engine.deduplication.state import Deduplication, DeduplicationConfig
from streams.events import Decoder
from streams.events.identity import identities
from streams.events.publish import classify
from tests.streams.events.conftest import FUTURE_MS_MAX, NOW_MS, SAMPLES, encode, events, make_run

PUBLISHED = ("engagements", "tweets", "relationships", "users")


@settings(deadline=None, max_examples=200)
@given(events)
def test_the_engine_knows_what_it_applied_and_nothing_else(event: dict[str, Any]) -> None:
    topic, _, canonical = classify(encode(event), time_ms_max=NOW_MS + FUTURE_MS_MAX)
    if topic not in PUBLISHED:
        return
    room = Deduplication(DeduplicationConfig(events_max=64))
    found = identities(topic, [canonical])
    assert found is not None
    assert room.known(*found).tolist() == [False]
    room.keep(Decoder(future_ms_max=FUTURE_MS_MAX).decode([make_run(topic, [encode(event)])]).batch)
    assert room.known(*found).tolist() == [True]
    other = identities(topic, [classify(encode(event | {"id": int(event["id"]) ^ 1 or 3}))[2]])
    assert other is not None
    assert room.known(*other).tolist() == [False]
    assert found.as_tuples() != other.as_tuples()


def test_many_events_have_one_identity_each_in_their_order() -> None:
    create = SAMPLES["create"]
    values = [classify(encode(create | {"id": 7 + i}))[2] for i in range(3)]
    found = identities("tweets", values)
    assert found is not None
    assert [row[1] for row in found.as_tuples()] == [7, 8, 9]


@pytest.mark.parametrize("name", ["promote", "example", "notification", "notify_less"])
def test_events_that_are_not_applied_have_none(name: str) -> None:
    topic, _, canonical = classify(encode(SAMPLES[name]))
    assert identities(topic, [canonical]) is None
