"""Events: wire types, decoding into columns, packed batches, dead letters, generated schemas (docs/events.md)."""

from murmuration.streams.events.dead_letters import DeadLetter, decode_dead_letter, encode_dead_letter
from murmuration.streams.events.decode import Decoded, Decoder
from murmuration.streams.events.ids import EventIds
from murmuration.streams.events.packed import encode_events, make_rows, pack
from murmuration.streams.events.reasons import Reason
from murmuration.streams.events.served import decode_served, encode_served
from murmuration.streams.events.wire import APPLIED_TOPICS, TOPIC_BY_TYPE, TOPICS

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
