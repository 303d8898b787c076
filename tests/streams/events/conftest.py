"""Samples and strategies of events, and records to put them in."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import hypothesis.strategies as st
import msgspec
import pytest

from streams.events import TOPIC_BY_TYPE, Decoded, Decoder, json_types
from streams.events.ids import ID_MAX
from streams.events.units import TIMESTAMP_MS_MIN
from streams.log.interface import Format, Records

NOW_MS = 1_760_000_000_000
FUTURE_MS_MAX = 1000
HEAD = {"v": 1, "id": 5, "timestamp_ms": NOW_MS}

#: One valid event of every struct, with every field.
SAMPLES: dict[str, dict[str, Any]] = {
    "favorite": HEAD | {"type": "favorite", "user_id": "1", "tweet_id": 2, "author_id": "3", "request_id": 4},
    "dwell": HEAD | {"type": "dwell", "user_id": 1, "tweet_id": 2, "value": 2.5},
    "follow": HEAD | {"type": "follow", "user_id": 1, "target_id": str(ID_MAX)},
    "mute_word": HEAD | {"type": "mute_word", "user_id": 1, "word": "spoiler"},
    "interests": HEAD
    | {"type": "interests", "user_id": 1, "interests": ["#Birds", "Machine Learning"], "languages": ["pt-BR", "de"]},
    "create": HEAD
    | {
        "type": "create",
        "tweet_id": 70,
        "author_id": "9",
        "text": "Dusk 🐦 #Murmuration",
        "lang": "en-GB",
        "media": ["photo", "gif"],
        "media_tags": [11, "12", 11],
        "urls": ["https://example.org/A"],
        "hashtags": ["Murmuration", "murmuration", "#dusk"],
        "mentions": [9, "10", 10],
        "card": "summary",
        "reply_to_id": 60,
        "conversation_id": 50,
        "quoted_id": "40",
        "retweeted_id": 30,
    },
    "edit": HEAD | {"type": "edit", "tweet_id": 70, "author_id": 9, "text": "Dawn", "lang": "de", "media": ["video"]},
    "delete": HEAD | {"type": "delete", "tweet_id": 70, "author_id": 9},
    "label": HEAD | {"type": "label", "tweet_id": 70, "author_id": 9, "label": "nsfw"},
    "unlabel": HEAD | {"type": "unlabel", "tweet_id": 70, "author_id": 9, "label": "NSFW"},
    "user": HEAD
    | {
        "type": "user",
        "user_id": 1,
        "created_ms": NOW_MS - 1,
        "verified": True,
        "protected": True,
        "state": "suspended",
        "sensitive_media": "hide",
        "languages": ["pt-BR", "en"],
        "country": "BR",
        "recommendable": False,
        "interests": ["birds"],
        "interest_opt_outs": ["sport"],
        "groups": ["a"],
    },
    "served_feed": HEAD
    | {
        "type": "served_feed",
        "user_id": "1",
        "request": {
            "viewer_id": 1,
            "request_id": ID_MAX,
            "time_ms": NOW_MS,
            "seed": ID_MAX,
            "product": "following",
            "limit": 2,
            "cursor": "abc",
            "exclude": [8, ID_MAX],
            "explain": "entries",
            "sources_skipped": ["popular"],
        },
        "version": 9,
        "history": "00c0ffee00c0ffee",
        "incarnation": "77",
        "config_hash": "c0ffee",
        "model_version": "blend-2",
        "models": {"reputation": "17"},
        "digest": "a" * 64,
        "cursor_digest": "0" * 8,
        "dropped_digest": "f" * 8,
        "degraded": ["popular"],
        "gap_records": 3,
        "entries": [
            {"tweet_id": "2", "author_id": 3, "position": 5, "score": -0.5, "digest": "-".join(["00c0ffee"] * 3)},
            {
                "tweet_id": ID_MAX,
                "position": 6,
                "score": 1.76e12,
                "digest": "-".join(["00c0ffee"] * 3),
                "why": {
                    "sources": [{"name": "own_walk", "score": 0.5, "rank": 0}],
                    "social_proof": {"favorite": [ID_MAX]},
                    "scores": {"walk": 0.25},
                    "factors": [{"name": "author_diversity", "factor": 0.5}],
                    "filters_passed": ["own"],
                },
            },
        ],
    },
    "promote": HEAD
    | {"type": "promote", "tweet_id": 2, "author_id": 3, "slots": [0, 5], "starts_ms": NOW_MS - 1, "ends_ms": NOW_MS},
    "withdraw": HEAD | {"type": "withdraw", "tweet_id": 2, "author_id": 3},
    "example": HEAD
    | {"type": "example", "user_id": 1, "tweet_id": 2, "request_id": 3, "features": {"a": 1.5}, "labels": {"like": 1}},
    "model_part": HEAD
    | {
        "type": "model_part",
        "model": "light",
        "version": "7",
        "part": 0,
        "sha256": hashlib.sha256(b"abc").hexdigest(),
        "content": "YWJj",
    },
    "model_commit": HEAD
    | {
        "type": "model_commit",
        "model": "light",
        "version": ID_MAX,
        "schema": "00c0ffee00c0ffee",
        "parts": 1,
        "size_bytes": 3,
        "sha256": "0" * 64,
        "created_ms": NOW_MS,
        "evaluation": {"auc": 0.75},
    },
    "notification_candidate": HEAD
    | {
        "type": "notification_candidate",
        "user_id": 1,
        "tweet_id": 2,
        "author_id": 3,
        "cause": "likes",
        "actor_ids": [4, 5, 6],
        "visited_ms": NOW_MS,
    },
    "notification": HEAD
    | {"type": "notification", "user_id": 1, "target_id": 2, "cause": "follows", "actor_ids": [4, "5", 6]},
    "notify_less": HEAD | {"type": "notify_less", "user_id": 1},
    "dead_letter": HEAD
    | {
        "type": "dead_letter",
        "topic": "tweets",
        "partition": 0,
        "offset": 7,
        "row": 1,
        "reason": "bad_row",
        "detail": "",
        "value": "AA==",
        "value_bytes": 1,
        "truncated": True,
        "sha256": "f" * 64,
    },
}

ids = st.integers(1, ID_MAX) | st.integers(1, 5)
wire_ids = ids | ids.map(str)
names = st.text(min_size=1, max_size=20)
texts = st.text(max_size=60)


def _event(fields: dict[str, st.SearchStrategy[Any]], optional: dict[str, st.SearchStrategy[Any]] | None = None) -> Any:
    head = {"v": st.just(1), "id": wire_ids, "timestamp_ms": st.integers(TIMESTAMP_MS_MIN, NOW_MS + FUTURE_MS_MAX)}
    return st.fixed_dictionaries(head | fields, optional=optional or {})


_TWEET = {"tweet_id": ids.filter(lambda i: i > 10), "author_id": wire_ids}
_CONTENT: dict[str, st.SearchStrategy[Any]] = {
    "text": texts,
    "lang": st.sampled_from(["en", "de-AT", "und", "zh-Hant-TW"]),
    "media": st.lists(st.sampled_from(["photo", "video", "gif"]), max_size=8),
    "media_tags": st.lists(wire_ids, max_size=10),
    "urls": st.lists(names, max_size=3),
    "hashtags": st.lists(names, max_size=3),
    "mentions": st.lists(wire_ids, max_size=5),
}
_REFERENCES = {name: st.integers(1, 10) for name in ("reply_to_id", "quoted_id", "retweeted_id", "conversation_id")}

engagements = _event(
    {
        "type": st.sampled_from(sorted(json_types.type_names(json_types.Engagement))),
        "user_id": wire_ids,
        "tweet_id": wire_ids,
    },
    {"author_id": wire_ids, "request_id": wire_ids},
) | _event(
    {
        "type": st.sampled_from(["dwell", "impression"]),
        "user_id": wire_ids,
        "tweet_id": wire_ids,
        "value": st.floats(0, 1e9) | st.integers(0, 100),
    }
)
words = names.map("w{}".format)
relationships = _event(
    {
        "type": st.sampled_from(
            sorted(set(json_types.type_names(json_types.Relationship)) - json_types.WORD_TYPES - {json_types.INTERESTS})
        ),
        "user_id": st.integers(1, 50).map(str),
        "target_id": st.integers(51, ID_MAX),
    }
) | _event({"type": st.sampled_from(sorted(json_types.WORD_TYPES)), "user_id": wire_ids, "word": words})
relationships |= _event(
    {"type": st.just(json_types.INTERESTS), "user_id": wire_ids},
    {"interests": st.lists(names, max_size=3), "languages": st.lists(st.sampled_from(["de", "x"]), max_size=4)},
)
tweets = (
    _event({"type": st.just("create"), **_TWEET}, {**_CONTENT, **_REFERENCES})
    | _event({"type": st.just("edit"), **_TWEET}, _CONTENT)
    | _event({"type": st.just("delete"), **_TWEET})
    | _event({"type": st.sampled_from(["label", "unlabel"]), "label": names, **_TWEET})
)
users = _event(
    {"type": st.just("user"), "user_id": wire_ids},
    {"verified": st.booleans(), "country": st.just("DE"), "languages": st.lists(st.just("de"), max_size=2)},
)
_served_entries = st.fixed_dictionaries(
    {
        "tweet_id": wire_ids,
        "position": st.integers(0, 100),
        "score": st.floats(-1e13, 1e13),
        "digest": st.just("-".join(["00c0ffee"] * 3)),
    },
    optional={"author_id": wire_ids},
)
served = _event(
    {
        "type": st.just("served_feed"),
        "user_id": wire_ids,
        "request": st.fixed_dictionaries({"viewer_id": ids, "request_id": ids, "time_ms": ids, "seed": ids}),
        "version": st.integers(0, 2**53),
        "config_hash": names,
        "model_version": names,
        "digest": st.just("a" * 64),
        "entries": st.lists(_served_entries, max_size=4),
    },
    {"history": st.just("00c0ffee00c0ffee"), "incarnation": wire_ids, "degraded": st.lists(names, max_size=2)},
)
models = _event(
    {"type": st.just("model_part"), "model": names, "version": wire_ids, "part": st.integers(0, 4095)}
    | {"sha256": st.just(hashlib.sha256(b"abc").hexdigest()), "content": st.just("YWJj")}
) | _event(
    {"type": st.just("model_commit"), "model": names, "version": wire_ids, "schema": st.just("00c0ffee00c0ffee")}
    | {"parts": st.just(2), "size_bytes": st.integers(524_289, 1_048_576), "sha256": st.just("0" * 64)}
    | {"created_ms": st.integers(1, NOW_MS)},
    {"evaluation": st.dictionaries(names, st.floats(allow_nan=False, allow_infinity=False), max_size=3)},
)
#: Valid events of everything the engine applies.
events = engagements | relationships | tweets | users | served | models

_junk = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just([]) | st.just({})


@st.composite
def mutated(draw: st.DrawFn) -> dict[str, Any]:
    """An event with a field dropped, added or replaced: mostly refused, sometimes still valid."""
    event = dict(draw(events))
    name = draw(st.sampled_from(sorted(event)))
    match draw(st.integers(0, 3)):
        case 0:
            del event[name]
        case 1:
            event[draw(names)] = draw(_junk)
        case 2:
            event[name] = draw(_junk)
        case _:
            event[name] = draw(
                st.sampled_from([0, "0", "01", ID_MAX + 1, str(ID_MAX + 1), -1, 1.0, "1.0", " 1", "１", "x"])
            )
    return event


def encode(event: Any) -> bytes:
    """JSON as msgspec writes it; NaN and infinities become null, what is too large for it a string."""
    try:
        return msgspec.json.encode(event)
    except OverflowError:
        return msgspec.json.encode(str(event))


def topic_of(value: bytes) -> str:
    """The topic an event says it belongs to, else engagements."""
    try:
        event = msgspec.json.decode(value)
        return TOPIC_BY_TYPE.get(event["type"], "engagements")
    except (msgspec.DecodeError, UnicodeDecodeError, TypeError, KeyError):
        return "engagements"


def make_run(
    topic: str, values: Sequence[bytes], format_: Format = Format.JSON, *, first: int = 0, partition: int = 0
) -> Records:
    """A run of records with offsets from ``first``, appended at NOW_MS."""
    size = len(values)
    offsets = list(range(first, first + size))
    return Records(topic, partition, offsets, [NOW_MS] * size, [format_] * size, [b""] * size, list(values))


@pytest.fixture
def decoder() -> Decoder:
    return Decoder(future_ms_max=FUTURE_MS_MAX)


@pytest.fixture
def decode_json(decoder: Decoder) -> Callable[..., Decoded]:
    """Decode JSON events (dicts or bytes) of one topic."""

    def decode(topic: str, *values: Any) -> Decoded:
        return decoder.decode([make_run(topic, [v if isinstance(v, bytes) else encode(v) for v in values])])

    return decode
