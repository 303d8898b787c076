"""Events: wire types, decoding into columns, packed batches, dead letters, generated schemas (docs/events.md)."""

from streams.events.dead_letters import DeadLetter, decode_dead_letter, encode_dead_letter
from streams.events.decode import Decoded, Decoder
from streams.events.ids import EventIds
from streams.events.json_types import APPLIED_TOPICS, TOPIC_BY_TYPE, TOPICS
from streams.events.packed import encode_events, make_rows, pack
from streams.events.reasons import Reason
from streams.events.served_records import decode_served, encode_served

__all__ = [
    "APPLIED_TOPICS",
    "TOPICS",
    "TOPIC_BY_TYPE",
    "DeadLetter",
    "Decoded",
    "Decoder",
    "EventIds",
    "Reason",
    "decode_dead_letter",
    "decode_served",
    "encode_dead_letter",
    "encode_events",
    "encode_served",
    "make_rows",
    "pack",
]
