import gzip
import json
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given, settings
from jsonschema import Draft7Validator, Draft202012Validator

from engine.errors import EventError
from streams.events import TOPICS
from streams.events.decode import EventTypes
from streams.events.documents import asyncapi, documents, json_schema, write_documents
from streams.events.json_types import STRUCT_BY_TYPE
from streams.events.reasons import DECODE_ERRORS
from streams.events.rules import check_event
from streams.events.units import TIMESTAMP_MS_MAX
from tests.streams.events.conftest import FUTURE_MS_MAX, NOW_MS, SAMPLES, encode, events, mutated, topic_of

HERE = Path(__file__).parent
COMMITTED = HERE.parents[2] / "docs" / "schemas"
#: What JSON Schema does not say of these events (documents.py).
BEYOND_SCHEMA = {"timestamp_in_future", "self_target", "wrong_digest", "malformed_model"}


@pytest.fixture(scope="module")
def validators() -> dict[str, Draft202012Validator]:
    return {topic: Draft202012Validator(json_schema(topic)) for topic in TOPICS}


def reason_of(topic: str, value: bytes) -> str | None:
    """Why an event is refused; schemas describe the documented form, not what is mended."""
    types = EventTypes(topic)
    try:
        check_event(types.decode(value), NOW_MS + FUTURE_MS_MAX)
    except DECODE_ERRORS as error:
        return str(types.explain(value, error).reason)
    except EventError as error:
        return str(error.reason)
    return None


def has_integral_float(value: Any) -> bool:
    """JSON Schema takes 1.0 for an integer; the decoder does not."""
    if isinstance(value, dict | list):
        return any(map(has_integral_float, value.values() if isinstance(value, dict) else value))
    return isinstance(value, float) and value.is_integer()


def test_the_committed_documents_are_what_the_types_say() -> None:
    generated = documents()
    assert {path.name for path in COMMITTED.iterdir()} == set(generated), (
        "run `murmuration schemas --write docs/schemas`"
    )
    for name, text in generated.items():
        assert (COMMITTED / name).read_text(encoding="utf-8") == text, f"{name}: run `murmuration schemas`"


def test_write_documents_writes_them_all(tmp_path: Path) -> None:
    paths = write_documents(tmp_path / "new")
    assert {path.name: path.read_text(encoding="utf-8") for path in paths} == documents()


@pytest.mark.parametrize("topic", TOPICS)
def test_schemas_are_schemas(topic: str) -> None:
    Draft202012Validator.check_schema(json_schema(topic))


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_are_valid(name: str, validators: dict[str, Draft202012Validator]) -> None:
    topic = topic_of(encode(SAMPLES[name]))
    validators[topic].validate(SAMPLES[name])
    for other in TOPICS.keys() - {topic}:
        assert not validators[other].is_valid(SAMPLES[name])


@settings(deadline=None, max_examples=300)
@given(event=events | mutated(), topic=st.none() | st.sampled_from(sorted(TOPICS)))
def test_a_schema_accepts_what_the_decoder_accepts(
    validators: dict[str, Draft202012Validator], event: dict[str, Any], topic: str | None
) -> None:
    value = encode(event)
    decoded = msgspec.json.decode(value)
    topic = topic or topic_of(value)
    reason = reason_of(topic, value)
    if reason not in BEYOND_SCHEMA and not has_integral_float(
        {name: part for name, part in decoded.items() if name not in ("value", "score")}
    ):
        assert validators[topic].is_valid(decoded) == (reason is None), reason


@pytest.mark.parametrize("name", SAMPLES)
def test_each_missing_or_foreign_field_is_judged_alike(name: str, validators: dict[str, Draft202012Validator]) -> None:
    sample = SAMPLES[name]
    topic = topic_of(encode(sample))
    variants = [{k: v for k, v in sample.items() if k != field} for field in sample]
    variants += [sample | {field: other} for field in sample for other in ("", [], "x" * 5000, -1, {"a": "b"})]
    for variant in [*variants, sample | {"colour": 1}]:
        value = encode(variant)
        reason = reason_of(topic, value)
        if reason not in BEYOND_SCHEMA:
            assert validators[topic].is_valid(json.loads(value)) == (reason is None), (reason, variant)


def test_the_asyncapi_document_is_valid() -> None:
    # AsyncAPI's own JSON Schema for 3.0.0 (asyncapi/spec-json-schemas, Apache-2.0), minified.
    schema = json.loads(gzip.decompress((HERE / "asyncapi-3.0.0.json.gz").read_bytes()))
    validator = Draft7Validator(schema)
    assert [error.message for error in validator.iter_errors(asyncapi())] == []
    assert not validator.is_valid(asyncapi() | {"channels": {"x": {"messages": 3}}})


def test_the_asyncapi_document_names_everything_and_refers_to_what_it_has() -> None:
    document = asyncapi()
    assert set(document["channels"]) == set(TOPICS)
    assert set(document["components"]["messages"]) == {s.__name__ for s in STRUCT_BY_TYPE.values()} | {"PackedBatch"}

    def references(part: Any) -> list[str]:
        if isinstance(part, dict):
            own = [part["$ref"]] if isinstance(part.get("$ref"), str) else []
            return own + [ref for value in part.values() for ref in references(value)]
        return [ref for item in part for ref in references(item)] if isinstance(part, list) else []

    for ref in references(document):
        target = document
        for step in ref.removeprefix("#/").split("/"):
            target = target[step]


def test_the_asyncapi_schemas_are_those_of_the_topics() -> None:
    document = asyncapi()
    for name, struct in STRUCT_BY_TYPE.items():
        schema = {"$ref": f"#/components/schemas/{struct.__name__}", "components": document["components"]}
        for sample in SAMPLES.values():
            same_struct = STRUCT_BY_TYPE[sample["type"]] is struct
            assert Draft202012Validator(schema).is_valid(sample) == same_struct, name


def test_schemas_bound_times_as_the_decoder_does(validators: dict[str, Draft202012Validator]) -> None:
    for time_ms in (0, TIMESTAMP_MS_MAX + 1):
        assert not validators["engagements"].is_valid(SAMPLES["favorite"] | {"timestamp_ms": time_ms})
