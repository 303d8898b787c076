from typing import Any

import msgspec
import pytest

from engine.batch import DERIVED_KINDS, Kind
from streams.events import TOPIC_BY_TYPE, TOPICS
from streams.events.decode import EventTypes
from streams.events.json_types import (
    APPLIED_TOPICS,
    KIND_BY_TYPE,
    STRUCT_BY_TYPE,
    Engagement,
    type_names,
)
from streams.events.units import TIMESTAMP_MS_MAX
from tests.streams.events.conftest import HEAD, SAMPLES


def test_every_kind_has_an_event_type() -> None:
    # What the engine makes of events, and the null value of a person's profile.
    within = {*DERIVED_KINDS, Kind.ERASE, Kind.ERASED_TWEET, Kind.REFUSED, Kind.SUGGESTED}
    assert set(KIND_BY_TYPE.values()) == set(Kind) - within
    assert {TOPIC_BY_TYPE[name] for name in KIND_BY_TYPE} == set(APPLIED_TOPICS)


def test_types_are_unique_over_all_topics() -> None:
    names = [name for topic in TOPICS.values() for struct in topic.types for name in type_names(struct)]
    assert len(names) == len(set(names)) == len(STRUCT_BY_TYPE)
    assert {STRUCT_BY_TYPE[name] for name in SAMPLES} == set(STRUCT_BY_TYPE.values())


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_survive_a_round_trip(name: str) -> None:
    types = EventTypes(TOPIC_BY_TYPE[name])
    event = types.checked(msgspec.json.encode(SAMPLES[name]), TIMESTAMP_MS_MAX)
    assert types.checked(msgspec.json.encode(event), TIMESTAMP_MS_MAX) == event
    # Every field of the struct stands in the sample, so every field is encoded and read again.
    assert set(msgspec.json.decode(msgspec.json.encode(event))) == set(SAMPLES[name])


@pytest.mark.parametrize(
    ("name", "field"), [(name, field) for name, event in SAMPLES.items() for field in event if field != "type"]
)
def test_null_is_no_value_of_the_documented_form(name: str, field: str) -> None:
    sample: dict[str, Any] = SAMPLES[name] | {field: None}
    with pytest.raises(msgspec.ValidationError, match=r"null|enum"):
        EventTypes(TOPIC_BY_TYPE[name]).decode(msgspec.json.encode(sample))


def test_absent_fields_stay_off_the_wire() -> None:
    event = Engagement(v=1, id=5, timestamp_ms=9, type="favorite", user_id=1, tweet_id=2)
    assert msgspec.json.decode(msgspec.json.encode(event)) == HEAD | {
        "timestamp_ms": 9,
        "type": "favorite",
        "user_id": 1,
        "tweet_id": 2,
    }
