"""Documents about the events for other programs: JSON Schemas and an AsyncAPI 3.0 document, made from the wire types.

``docs/schemas`` holds them; a test compares them with the types. The decoder also checks rules that a schema cannot
express: a number such as 1.0 is no integer, and a time must not be too far ahead of the clock.
"""

import json
from pathlib import Path
from typing import Any

import msgspec

from streams.events import json_types
from streams.events.rules import VALUED_TYPES
from streams.log.interface import CONTENT_TYPES, Format
from streams.process.version import VERSION

SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_PACKED_SUMMARY = "Many fixed-width events in one record: a 16-byte header and rows of 56 bytes (docs/events.md)"

Json = dict[str, Any]

_ID: Json = msgspec.json.schema(json_types.Id)


def _conditions() -> dict[str, Json]:
    """Rules about several fields (rules.py), by struct name."""
    zero_value = {"properties": {"value": {"const": 0}}}
    no_interests = {"interests": False, "languages": False}
    word = {"required": ["word"], "properties": {"target_id": False, **no_interests}}
    target = {"required": ["target_id"], "properties": {"word": False, **no_interests}}
    interests = {"properties": {"target_id": False, "word": False}}
    notification = {
        "if": {"properties": {"cause": {"const": "follows"}}},
        "then": {"required": ["target_id"], "properties": {"tweet_id": False, "author_id": False}},
        "else": {"required": ["tweet_id", "author_id"], "properties": {"target_id": False}},
    }
    return {
        "NotificationCandidate": notification,
        "Notification": notification,
        "Engagement": {"if": {"properties": {"type": {"enum": sorted(VALUED_TYPES)}}}, "else": zero_value},
        "Relationship": {
            "if": {"properties": {"type": {"enum": sorted(json_types.WORD_TYPES)}}},
            "then": word,
            "else": {
                "if": {"properties": {"type": {"const": json_types.INTERESTS}}},
                "then": interests,
                "else": target,
            },
        },
    }


def _tidy(schema: Any, id_ref: Json) -> Any:
    """The schema without defaults (an absent field has no value), docstring marks, line breaks, repeated id schemas."""
    if isinstance(schema, list):
        return [_tidy(item, id_ref) for item in schema]
    if not isinstance(schema, dict):
        return schema
    tidy = {key: _tidy(value, id_ref) for key, value in schema.items() if key != "default" or isinstance(value, dict)}
    if tidy == _ID:
        return id_ref
    if isinstance(tidy.get("description"), str):
        tidy["description"] = " ".join(tidy["description"].replace("``", "").split())
    return tidy


def _components(ref_template: str) -> dict[str, Json]:
    structs = [struct for topic in json_types.TOPICS.values() for struct in topic.types]
    _, components = msgspec.json.schema_components(structs, ref_template=ref_template)
    id_ref = {"$ref": ref_template.format(name="Id")}
    schemas: dict[str, Json] = {name: _tidy(schema, id_ref) for name, schema in components.items()}
    for name, condition in _conditions().items():
        schemas[name] |= condition
    schemas["Id"] = _ID
    return schemas


def _reachable(names: list[str], components: dict[str, Json]) -> list[str]:
    """These components and all components that they refer to, directly or not."""
    found = list(names)
    for name in found:  # grows during the loop
        schema = json.dumps(components[name])
        found += [other for other in components if other not in found and f'"#/$defs/{other}"' in schema]
    return found


def json_schema(topic: str) -> Json:
    """The JSON Schema (2020-12) of the JSON events of one topic."""
    spec = json_types.TOPICS[topic]
    components = _components("#/$defs/{name}")
    names = [struct.__name__ for struct in spec.types]
    return {
        "$schema": SCHEMA_DIALECT,
        "title": f"Events of topic {topic}",
        "description": spec.description,
        "oneOf": [{"$ref": f"#/$defs/{name}"} for name in names],
        "$defs": {name: components[name] for name in _reachable(names, components)},
    }


def _message(struct: type[json_types.Event], topic: json_types.Topic) -> Json:
    message: Json = {
        "name": struct.__name__,
        "contentType": CONTENT_TYPES[Format.JSON].decode(),
        "summary": " ".join((struct.__doc__ or "").replace("``", "").split("\n\n")[0].split()),
        "payload": {"$ref": f"#/components/schemas/{struct.__name__}"},
    }
    if topic.key:
        key = {"type": "string", "description": f"{topic.key} as a decimal string" if topic.key != "model" else "model"}
        message["bindings"] = {"kafka": {"key": key, "bindingVersion": "0.5.0"}}
    return message


def asyncapi() -> Json:
    """The AsyncAPI 3.0 document: one channel per topic, one message per struct, and the packed form."""
    messages = {
        struct.__name__: _message(struct, topic) for topic in json_types.TOPICS.values() for struct in topic.types
    }
    messages["PackedBatch"] = {
        "name": "PackedBatch",
        "contentType": CONTENT_TYPES[Format.PACKED].decode(),
        "summary": _PACKED_SUMMARY,
        "payload": {"type": "string", "format": "binary"},
    }
    channels: Json = {}
    operations: Json = {}
    for topic in json_types.TOPICS.values():
        names = [struct.__name__ for struct in topic.types] + (["PackedBatch"] if topic.packed else [])
        channels[topic.name] = {
            "address": topic.name,
            "description": topic.description,
            "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
        }
        if topic.compacted:
            binding = {"topicConfiguration": {"cleanup.policy": ["compact"]}, "bindingVersion": "0.5.0"}
            channels[topic.name]["bindings"] = {"kafka": binding}
        channel = {"$ref": f"#/channels/{topic.name}"}
        if topic.name in json_types.APPLIED_TOPICS:
            operations[f"apply-{topic.name}"] = {"action": "receive", "channel": channel}
        operations[f"append-{topic.name}"] = {"action": "send", "channel": channel}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Murmuration events",
            "version": VERSION,
            "description": "Topics of the event log. A configured prefix stands before every topic's name.",
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": CONTENT_TYPES[Format.JSON].decode(),
        "servers": {
            "kafka": {
                "host": "{bootstrap}",
                "protocol": "kafka",
                "variables": {"bootstrap": {"default": "localhost:9092", "description": "host:port of a broker"}},
            }
        },
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages, "schemas": _components("#/components/schemas/{name}")},
    }


def documents() -> dict[str, str]:
    """Every generated document by file name."""
    files = {f"{topic}.schema.json": json_schema(topic) for topic in json_types.TOPICS}
    files["asyncapi.json"] = asyncapi()
    return {name: json.dumps(document, indent=2, ensure_ascii=False) + "\n" for name, document in files.items()}


def write_documents(folder: Path) -> list[Path]:
    """Write the documents into a folder (created if missing); returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, text in documents().items():
        path = folder / name
        path.write_text(text, encoding="utf-8")
        paths.append(path)
    return paths
