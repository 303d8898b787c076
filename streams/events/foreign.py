"""What a value that is no event looks like: other encodings, compressed bytes, wire formats and envelopes, in words.

Only refused values come here, so nothing in this module needs to be fast. A guess never changes whether a value is
refused; it makes the refusal say what to change at the producer.
"""

import base64
import binascii
from typing import Any, Final

import msgspec

#: The byte order mark with which many programs begin UTF-8 text.
UTF8_MARK: Final = b"\xef\xbb\xbf"

#: First bytes that no JSON text has, the longest first where one begins with another.
_ENCODED: Final[tuple[tuple[bytes, str], ...]] = (
    (b"\xff\xfe\x00\x00", "UTF-32 text; events are UTF-8"),
    (b"\x00\x00\xfe\xff", "UTF-32 text; events are UTF-8"),
    (b"\xff\xfe", "UTF-16 text; events are UTF-8"),
    (b"\xfe\xff", "UTF-16 text; events are UTF-8"),
    (b"{\x00\x00\x00", "UTF-32 text; events are UTF-8"),
    (b"[\x00\x00\x00", "UTF-32 text; events are UTF-8"),
    (b"\x00\x00\x00{\x00\x00\x00", "UTF-32 text; events are UTF-8"),
    (b"{\x00", "UTF-16 text; events are UTF-8"),
    (b"[\x00", "UTF-16 text; events are UTF-8"),
    (b"\x00{\x00", "UTF-16 text; events are UTF-8"),
    (b"\x1f\x8b", "gzip; events are sent uncompressed"),
    (b"\x28\xb5\x2f\xfd", "zstd; events are sent uncompressed"),
    (b"\xff\x06\x00\x00sNaPpY", "snappy; events are sent uncompressed"),
    (b"\x82SNAPPY\x00", "snappy; events are sent uncompressed"),
    (b"\x04\x22\x4d\x18", "lz4; events are sent uncompressed"),
    (b"\x02\x21\x4c\x18", "lz4; events are sent uncompressed"),
    (b"BZh", "bzip2; events are sent uncompressed"),
    (b"\xfd7zXZ\x00", "xz; events are sent uncompressed"),
    (b"PK\x03\x04", "a zip archive"),
)
_MAGIC: Final[tuple[tuple[bytes, str], ...]] = (
    *_ENCODED,
    (b"MURM", "a packed batch without its content type"),
    (b"Obj\x01", "an Avro file"),
    (b"\xc3\x01", "Avro in its single-object encoding"),
    (b"PAR1", "a Parquet file"),
    (b"ARROW1", "an Arrow file"),
    (b"ORC", "an ORC file"),
    (b"\xac\xed\x00\x05", "a serialized Java object"),
    (b"<", "XML or HTML"),
    (b"{'", "a Python dictionary; JSON has double quotes"),
    (b"---", "YAML"),
)
#: First lines of an array that is written over several lines.
_BEGINNINGS: Final = (b"[", b"[{")
#: zlib's first byte and the second bytes of its levels.
_ZLIB: Final = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
#: The least length of Confluent's wire format: a zero byte, a schema's number (4 bytes), and something.
_CONFLUENT_BYTES_MIN: Final = 6
_PICKLE: Final = tuple(bytes((0x80, version)) for version in range(2, 6))
_CBOR_TAG: Final = b"\xd9\xd9\xf7"
#: Most bytes of a text that is tried as base64.
_BASE64_BYTES_MAX: Final = 65_536


def looks_like(value: bytes) -> str | None:
    """What bytes that are no JSON text look like; None: like nothing known."""
    for magic, words in _MAGIC:
        if value.startswith(magic):
            return words
    if value.startswith(b"\x00") and len(value) >= _CONFLUENT_BYTES_MIN:
        schema = int.from_bytes(value[1:5], "big")
        payload = "JSON" if value[5:].lstrip()[:1] == b"{" else "Avro or Protobuf"
        return f"Confluent's wire format (schema {schema}, then {payload}); events are plain JSON"
    if value.startswith(_ZLIB):
        return "zlib; events are sent uncompressed"
    if value.startswith(_PICKLE) and value.endswith(b"."):
        return "a Python pickle"
    if value.startswith(_CBOR_TAG):
        return "CBOR"
    if _is_bson(value):
        return "BSON"
    if _is_message_pack(value):
        return "MessagePack"
    if _is_protobuf(value):
        return "Protobuf or Avro"
    if _holds_object(value.strip()):
        return "base64 of JSON"
    if (first := value.strip()) in _BEGINNINGS:
        return "the first line of an array; an event is one line"
    if (lines := first.splitlines())[1:] and all(_is_object(line) for line in lines[:2]):
        return "several JSON objects, one per line; a record holds one event"
    return None


def looks_like_encoded(head: bytes) -> str | None:
    """What a document whose first bytes are ``head`` looks like, if its text is encoded or compressed; else None."""
    return next((words for magic, words in _ENCODED if head.startswith(magic)), None)


def envelope(value: Any) -> str | None:
    """What decoded JSON that is no event looks like; None: like nothing known.

    ``value``: an object without the fields that every event has, or anything that is no object.
    """
    if isinstance(value, list):
        return f"an array of {len(value)}; a record holds one event, and an event is an object"
    if isinstance(value, str):
        inner = value.encode(errors="replace")
        if _is_object(inner):
            return "a string that holds JSON: it was encoded twice"
        return "base64 of JSON" if _holds_object(inner) else None
    if not isinstance(value, dict):
        return None
    if "specversion" in value and "source" in value:
        return "a CloudEvents envelope; the event alone is expected, without it"
    body = value.get("payload")
    if isinstance(body, dict) and "schema" in value:
        kind = "a Debezium envelope" if _is_change(body) else "Kafka Connect's JSON with a schema"
        return f"{kind}; the event alone is expected, without it"
    if _is_change(value) or (isinstance(body, dict) and _is_change(body)):
        return "a Debezium envelope; the event alone is expected, without it"
    if "@context" in value:
        return "ActivityStreams; events have their own form (docs/events.md)"
    if "did" in value and ("time_us" in value or "commit" in value):
        return "an event of Jetstream; events have their own form (docs/events.md)"
    return None


def _is_change(value: dict[str, Any]) -> bool:
    return "op" in value and ("before" in value or "after" in value)


def _is_object(text: bytes) -> bool:
    try:
        return isinstance(msgspec.json.decode(text.strip()), dict)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False


def _holds_object(text: bytes) -> bool:
    """Whether a text is base64 of a JSON object."""
    if not 8 <= len(text) <= _BASE64_BYTES_MAX:
        return False
    try:
        return _is_object(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        return False


def _is_bson(value: bytes) -> bool:
    return len(value) > 5 and int.from_bytes(value[:4], "little") == len(value) and value[-1] == 0


def _is_message_pack(value: bytes) -> bool:
    if not value or not (0x81 <= value[0] <= 0x8F or value[0] in (0xDE, 0xDF)):
        return False
    try:
        return isinstance(msgspec.msgpack.decode(value), dict)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError, TypeError):
        return False


def _is_protobuf(value: bytes) -> bool:
    """Whether bytes that begin with a control character are a sequence of Protobuf fields."""
    if len(value) < 2 or value[0] >= 0x20 or value[0] in b"\t\r\n":
        return False
    at = 0
    try:
        while at < len(value):
            tag, at = _varint(value, at)
            if not tag >> 3:
                return False
            match tag & 7:
                case 0:
                    _, at = _varint(value, at)
                case 1:
                    at += 8
                case 2:
                    size, at = _varint(value, at)
                    at += size
                case 5:
                    at += 4
                case _:
                    return False
    except IndexError:
        return False
    return at == len(value)


def _varint(value: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = value[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, at
        shift += 7
        if shift > 63:
            raise IndexError("a number of more than 64 bits")
