"""Why an event is refused: stable names, and the diagnosis of a value that did not decode."""

import re
from enum import StrEnum
from typing import Any

import msgspec

from engine.errors import EventError
from streams.events.foreign import envelope, looks_like
from streams.events.units import wrong_unit


class Reason(StrEnum):
    """Names of dead letters, rejected lines and metric labels; they never change once released."""

    NOT_UTF8 = "not_utf8"
    MALFORMED_JSON = "malformed_json"
    FOREIGN_FORMAT = "foreign_format"
    WRONG_TYPE = "wrong_type"
    #: Found only at the entrances: in a record the last value of a repeated name stands.
    DUPLICATE_KEY = "duplicate_key"
    MISSING_FIELD = "missing_field"
    UNKNOWN_FIELD = "unknown_field"
    UNKNOWN_TYPE = "unknown_type"
    UNKNOWN_VALUE = "unknown_value"
    WRONG_TOPIC = "wrong_topic"
    UNSUPPORTED_VERSION = "unsupported_version"
    UNSUPPORTED_FORMAT = "unsupported_format"
    ID_OUT_OF_RANGE = "id_out_of_range"
    TIMESTAMP_OUT_OF_RANGE = "timestamp_out_of_range"
    TIMESTAMP_IN_FUTURE = "timestamp_in_future"
    VALUE_OUT_OF_RANGE = "value_out_of_range"
    TEXT_TOO_LONG = "text_too_long"
    TEXT_TOO_SHORT = "text_too_short"
    TOO_MANY_ITEMS = "too_many_items"
    SELF_TARGET = "self_target"
    RECORD_TOO_LARGE = "record_too_large"
    BAD_PACKED_HEADER = "bad_packed_header"
    TRUNCATED_BATCH = "truncated_batch"
    BAD_CHECKSUM = "bad_checksum"
    BAD_ROW = "bad_row"
    BAD_KEY = "bad_key"
    #: Found only when the event is applied (engine/tweet_store/state.py).
    NOT_THE_AUTHOR = "not_the_author"
    PIECE_SKIPPED = "piece_skipped"
    # Found only when the event is applied (engine/muted_words/state.py).
    TOO_MANY_WORDS = "too_many_words"
    # Reasons about models; most are found only when the event is applied (engine/models/state.py).
    WRONG_DIGEST = "wrong_digest"
    UNKNOWN_MODEL = "unknown_model"
    FOREIGN_SCHEMA = "foreign_schema"
    MODEL_TOO_LARGE = "model_too_large"
    OLDER_VERSION = "older_version"
    MISSING_PART = "missing_part"
    MALFORMED_MODEL = "malformed_model"
    # What one person may have, and what there is room for; found when the event is applied (engine/social_graph).
    TOO_MANY_FOLLOWS = "too_many_follows"
    TOO_MANY_BLOCKS = "too_many_blocks"
    TOO_MANY_MUTES = "too_many_mutes"
    SOCIAL_GRAPH_FULL = "social_graph_full"
    # The same of contacts and muted retweets (engine/links/state.py).
    TOO_MANY_CONTACTS = "too_many_contacts"
    TOO_MANY_RETWEET_MUTES = "too_many_retweet_mutes"
    LINKS_FULL = "links_full"
    # Found only when the event is applied (engine/suggestions/state.py).
    SUGGESTIONS_FULL = "suggestions_full"


#: Exceptions of decoding bad JSON (RecursionError: nested too deeply).
DECODE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_PATH = re.compile(r" - at `\$\.?([A-Za-z_0-9]*)")
_ID_FIELDS = ("id", "mentions", "media_tags", "version")


def diagnose(value: bytes, types: frozenset[str], topic_by_type: dict[str, str], error: Exception) -> EventError:
    """Name what is wrong with a value that its topic's decoder refused with ``error``.

    The order of the checks is fixed (encoding, JSON, object, version, type, fields), so that a value with several
    faults always gets the same reason. ``types`` are the topic's event types.
    """
    try:
        value.decode()
    except UnicodeDecodeError as not_utf8:
        return _foreign(looks_like(value)) or EventError(Reason.NOT_UTF8, f"byte {not_utf8.start} is not UTF-8")
    try:
        event = msgspec.json.decode(value)
    except msgspec.ValidationError as out_of_range:
        # A number beyond every range. If the topic's decoder got to its field, ``error`` names the field.
        return _field_error(str(error if isinstance(error, msgspec.ValidationError) else out_of_range), {})
    except DECODE_ERRORS as malformed:
        return _foreign(looks_like(value)) or EventError(Reason.MALFORMED_JSON, _short(str(malformed)))
    if not isinstance(event, dict):
        return _foreign(envelope(event)) or EventError(Reason.WRONG_TYPE, "an event is a JSON object")
    if "v" not in event and (foreign := _foreign(envelope(event))):
        return foreign
    return _head_error(event, types, topic_by_type) or _field_error(str(error), event)


def _foreign(words: str | None) -> EventError | None:
    return None if words is None else EventError(Reason.FOREIGN_FORMAT, f"looks like {words}")


def _head_error(event: dict[str, Any], types: frozenset[str], topic_by_type: dict[str, str]) -> EventError | None:
    for name, expected in (("v", int), ("type", str)):
        if name not in event:
            return EventError(Reason.MISSING_FIELD, f"Object missing required field `{name}`")
        if type(event[name]) is not expected:
            return EventError(Reason.WRONG_TYPE, f"`{name}` must be {'an integer' if expected is int else 'a string'}")
    if event["v"] != 1:
        return EventError(Reason.UNSUPPORTED_VERSION, f"version {_short(str(event['v']))}; this is version 1")
    if event["type"] in types:
        return None
    if topic := topic_by_type.get(event["type"]):
        return EventError(Reason.WRONG_TOPIC, f"{event['type']!r} belongs to topic {topic!r}")
    return EventError(Reason.UNKNOWN_TYPE, f"no event type {_short(event['type'])!r}")


def _field_error(message: str, event: dict[str, Any]) -> EventError:
    """The reason, from msgspec's message about a field (tests pin the messages of msgspec's current version)."""
    found = _PATH.search(message)
    field = found[1] if found else ""
    detail = _short(message)
    if field.endswith("_ms") and isinstance(time := event.get(field), int | float) and not isinstance(time, bool):
        return EventError(Reason.TIMESTAMP_OUT_OF_RANGE, f"`{field}`: {wrong_unit(time)}")
    if "unknown field" in message:
        return EventError(Reason.UNKNOWN_FIELD, detail)
    if "missing required field" in message:
        return EventError(Reason.MISSING_FIELD, detail)
    if "Invalid enum value" in message:
        return EventError(Reason.UNKNOWN_VALUE, detail)
    if "of length" in message:
        if ">=" in message:
            return EventError(Reason.TEXT_TOO_SHORT, detail)
        return EventError(Reason.TEXT_TOO_LONG if "`str`" in message else Reason.TOO_MANY_ITEMS, detail)
    if ">=" in message or "<=" in message or "out of range" in message:
        if field.endswith("_ms"):
            return EventError(Reason.TIMESTAMP_OUT_OF_RANGE, detail)
        if field in _ID_FIELDS or field.endswith("_id"):
            return EventError(Reason.ID_OUT_OF_RANGE, detail)
        return EventError(Reason.VALUE_OUT_OF_RANGE, detail)
    return EventError(Reason.WRONG_TYPE, detail)


def _short(text: str, length_max: int = 200) -> str:
    return text if len(text) <= length_max else text[: length_max - 1] + "…"
