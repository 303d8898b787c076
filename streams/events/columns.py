"""Turns decoded events of one topic into the columns of an ``EventBatch``.

Most events are engagements, so their columns are built and checked field by field, a whole list at a time. If any event
breaks a rule the whole list is refused here, and the caller checks the events one by one (decode.py).
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.batch import EVENT_COLUMNS, TWEET_COLUMNS, Kind, TweetFlag
from engine.errors import EventError
from engine.feed import Product
from engine.interests.content import encode_interests
from engine.models.content import encode_commit, encode_part
from engine.models.specs import stable_hash
from engine.profiles.bits import ProfileBit, ProfileState, SensitiveMedia
from streams.events import json_types
from streams.events.ids import country_code, language_code, mix_ids, text_hash, url_hash
from streams.events.kernels import parse_decimals
from streams.events.reasons import Reason
from streams.events.rules import VALUED_TYPES, check_event, evaluation_bytes

_KIND_CODES = {name: int(kind) for name, kind in json_types.KIND_BY_TYPE.items()}
_VALUED = np.zeros(256, np.bool_)
_VALUED[[_KIND_CODES[name] for name in VALUED_TYPES]] = True
# Plain ints: enum members are slow to put into arrays.
_MEDIA_FLAGS = {"photo": int(TweetFlag.PHOTO), "video": int(TweetFlag.VIDEO), "gif": int(TweetFlag.VIDEO)}
_REPLY, _QUOTE, _RETWEET, _LINK = map(int, (TweetFlag.REPLY, TweetFlag.QUOTE, TweetFlag.RETWEET, TweetFlag.LINK))
_CREATE, _EDIT, _DELETE, _LABEL, _UNLABEL = map(int, (Kind.CREATE, Kind.EDIT, Kind.DELETE, Kind.LABEL, Kind.UNLABEL))
_MODEL_PART, _MODEL_COMMIT = int(Kind.MODEL_PART), int(Kind.MODEL_COMMIT)
_MENTION, _MEDIA_TAG, _HASHTAG, _URL = map(int, (Kind.MENTION, Kind.MEDIA_TAG, Kind.HASHTAG, Kind.URL))

#: The tweet columns before the text's place, for a row whose only content is a name or a part of a model.
_NO_CONTENT = (0,) * (len(TWEET_COLUMNS) - 2)

#: One row: the event columns in the order of EVENT_COLUMNS.
Row = tuple[int, int, int, int, int, int, int, float, int]


class TweetColumns(NamedTuple):
    """The ``tweet_*`` columns of an ``EventBatch`` (p) and the text (m bytes)."""

    columns: list[NDArray[Any]]
    text: bytes


class Columns(NamedTuple):
    """Rows of one topic: the nine event columns (n), and for each row the index of the event it came from (n)."""

    events: list[NDArray[Any]]
    source: NDArray[np.int64]
    tweets: TweetColumns | None = None


def build_columns(topic: str, events: Sequence[json_types.Event], times_ms_max: NDArray[np.int64]) -> Columns:
    """Columns of a topic's events, in their order; ``times_ms_max`` (n events) bounds each event's time.

    Raises:
        EventError: at least one event breaks a rule of ``check_event``; the error does not say which one.
    """
    if topic == "engagements":
        return _engagements(events, times_ms_max)  # type: ignore[arg-type]
    for event, time_ms_max in zip(events, times_ms_max.tolist(), strict=True):
        check_event(event, time_ms_max)
    if topic == "tweets":
        return _tweets(events)
    if topic == "served":
        return _served(events)  # type: ignore[arg-type]
    if topic == "models":
        return _models(events)
    if topic == "relationships":
        return _relationships(events)  # type: ignore[arg-type]
    return _users(events)  # type: ignore[arg-type]


def _engagements(events: Sequence[json_types.Engagement], times_ms_max: NDArray[np.int64]) -> Columns:
    size = len(events)
    kind = np.array([_KIND_CODES[e.type] for e in events], np.uint8)
    time_ms = np.array([e.timestamp_ms for e in events], np.int64)
    # The rule is checked on float64, because float32 would round a tiny value to 0, which means none.
    value = np.array([e.value for e in events], np.float64)
    if (time_ms > times_ms_max).any() or ((value != 0) & ~_VALUED[kind]).any():
        raise EventError(Reason.BAD_ROW, "an event breaks a rule")
    columns: list[NDArray[Any]] = [
        kind,
        id_column([e.id for e in events]),
        id_column([e.user_id for e in events]),
        id_column([e.tweet_id for e in events]),
        id_column([e.author_id for e in events]),
        time_ms,
        id_column([e.request_id for e in events]),
        value.astype(np.float32),
        np.full(size, -1, np.int32),
    ]
    return Columns(columns, np.arange(size))


def id_column(ids: list[int | str]) -> NDArray[np.uint64]:
    """Wire ids (numbers, decimal strings; 0 for an absent one) as a column.

    Raises:
        EventError: a value is no id.
    """
    types = set(map(type, ids))
    if str not in types:
        return _numbers(ids)
    if int not in types:
        return _strings(ids)
    is_string = np.array([type(i) is str for i in ids])
    column = np.empty(len(ids), np.uint64)
    column[is_string] = _strings([i for i in ids if type(i) is str])
    column[~is_string] = _numbers([i for i in ids if type(i) is int])
    return column


def _numbers(ids: Sequence[Any]) -> NDArray[np.uint64]:
    try:
        return np.fromiter(ids, np.uint64, len(ids))
    except OverflowError as error:
        raise EventError(Reason.ID_OUT_OF_RANGE, "an id is over 64 bits") from error


def _strings(ids: Sequence[Any]) -> NDArray[np.uint64]:
    column = np.empty(len(ids), np.uint64)
    # A character that is not ASCII becomes "?", which is no digit.
    # A bytearray gives a writable array, as kernels expect.
    text = bytearray(("\n".join(ids) + "\n").encode("ascii", "replace"))
    if not parse_decimals(np.frombuffer(text, np.uint8), column):
        raise EventError(Reason.WRONG_TYPE, "an id is not decimal or not in range")
    return column


def _transpose(rows: list[Row]) -> list[NDArray[Any]]:
    if not rows:
        return [np.empty(0, dtype) for dtype in EVENT_COLUMNS.values()]
    return [
        np.array(column, dtype) for column, dtype in zip(zip(*rows, strict=True), EVENT_COLUMNS.values(), strict=True)
    ]


def _relationships(events: Sequence[json_types.Relationship]) -> Columns:
    """One row per event; a muted word, or what a person wants to read about, is in the text."""
    rows: list[Row] = []
    payloads: list[tuple[int, ...]] = []
    texts: list[bytes] = []
    text_bytes = 0
    for event in events:
        context, payload, text = 0, -1, b""
        if event.word:
            context, text = text_hash(event.word), event.word.encode()
        elif event.type == json_types.INTERESTS:
            text = _interests(event)
        if text:
            payload = len(payloads)
            payloads.append((*_NO_CONTENT, text_bytes, len(text)))
            texts.append(text)
            text_bytes += len(text)
        ids = (int(event.id), int(event.user_id), int(event.target_id))
        rows.append((_KIND_CODES[event.type], *ids, 0, event.timestamp_ms, context, 0, payload))
    tweets = _tweet_columns(payloads, texts) if payloads else None
    return Columns(_transpose(rows), np.arange(len(rows)), tweets)


def _served(events: Sequence[json_types.ServedFeed]) -> Columns:
    """One row per entry. Its id is mixed from the event's id and the position, so that a second copy is a duplicate."""
    sizes = [len(event.entries) for event in events]
    source = np.repeat(np.arange(len(events)), sizes)
    entries = [entry for event in events for entry in event.entries]
    positions = np.array([entry.position for entry in entries], np.uint64)
    of_people = (event.request.product is Product.WHO_TO_FOLLOW for event in events)
    kinds = np.array([Kind.SUGGESTED if people else Kind.SERVED for people in of_people], np.uint8)
    with np.errstate(over="ignore"):  # a score beyond float32 is infinite there
        score = np.array([entry.score for entry in entries], np.float64).astype(np.float32)
    columns: list[NDArray[Any]] = [
        kinds[source],
        mix_ids(id_column([event.id for event in events])[source], positions),
        id_column([event.user_id for event in events])[source],
        id_column([entry.tweet_id for entry in entries]),
        id_column([entry.author_id for entry in entries]),
        np.array([event.timestamp_ms for event in events], np.int64)[source],
        np.array([event.request.request_id for event in events], np.uint64)[source],
        score,
        np.full(len(entries), -1, np.int32),
    ]
    return Columns(columns, source)


def _models(events: Sequence[json_types.Event]) -> Columns:
    """One row per event, with the event's content in the text (``engine/models/content.py``)."""
    rows: list[Row] = []
    payloads: list[tuple[int, ...]] = []
    texts: list[bytes] = []
    text_bytes = 0
    for event in events:
        assert isinstance(event, json_types.ModelPart | json_types.ModelCommit)
        kind = _MODEL_PART if isinstance(event, json_types.ModelPart) else _MODEL_COMMIT
        text = _model_text(event)
        rows.append((kind, int(event.id), 0, stable_hash(event.model), 0, event.timestamp_ms, 0, 0, len(payloads)))
        payloads.append((*_NO_CONTENT, text_bytes, len(text)))
        texts.append(text)
        text_bytes += len(text)
    return Columns(_transpose(rows), np.arange(len(rows)), _tweet_columns(payloads, texts))


def _model_text(event: json_types.ModelPart | json_types.ModelCommit) -> bytes:
    version, digest = int(event.version), bytes.fromhex(event.sha256)
    if isinstance(event, json_types.ModelPart):
        return encode_part(version, event.part, digest, event.content)
    return encode_commit(
        version, int(event.schema, 16), event.parts, event.size_bytes, digest, event.created_ms, evaluation_bytes(event)
    )


def _tweet_columns(payloads: list[tuple[int, ...]], texts: list[bytes]) -> TweetColumns:
    columns = zip(*payloads, strict=True) if payloads else ((),) * len(TWEET_COLUMNS)
    arrays = [np.array(column, dtype) for column, dtype in zip(columns, TWEET_COLUMNS.values(), strict=True)]
    return TweetColumns(arrays, b"".join(texts))


def _interests(event: json_types.Relationship | json_types.User) -> bytes:
    """What a person wants to read about, as the engine takes it. A topic is what a hashtag of its letters is."""
    tags = (text_hash("".join(name.split()) or name) for name in event.interests)
    return encode_interests(tags, filter(None, map(language_code, event.languages)))


def _users(events: Sequence[json_types.User]) -> Columns:
    """One row per event; interests are in the text."""
    rows: list[Row] = []
    payloads: list[tuple[int, ...]] = []
    texts: list[bytes] = []
    text_bytes = 0
    for event in events:
        payload = -1
        if event.interests:
            text, payload = _interests(event), len(payloads)
            payloads.append((*_NO_CONTENT, text_bytes, len(text)))
            texts.append(text)
            text_bytes += len(text)
        rows.append((*_user(event), payload))
    tweets = _tweet_columns(payloads, texts) if payloads else None
    return Columns(_transpose(rows), np.arange(len(rows)), tweets)


def _user(event: json_types.User) -> tuple[int, int, int, int, int, int, int, float]:
    """The columns before the payload."""
    # The first language that is understood.
    language = next((code for tag in event.languages if (code := language_code(tag))), 0)
    bits = (
        event.verified * ProfileBit.VERIFIED
        | event.protected * ProfileBit.PROTECTED
        | (not event.recommendable) * ProfileBit.NOT_RECOMMENDED
        | ProfileState[event.state.upper()] << ProfileBit.STATE_SHIFT
        | SensitiveMedia[event.sensitive_media.upper()] << ProfileBit.SENSITIVE_MEDIA_SHIFT
        | language << ProfileBit.LANGUAGE_SHIFT
        | country_code(event.country) << ProfileBit.COUNTRY_SHIFT
    )
    return (Kind.USER, int(event.id), int(event.user_id), 0, event.created_ms, event.timestamp_ms, bits, 0)


def _tweets(events: Sequence[json_types.Event]) -> Columns:
    rows: list[Row] = []
    source: list[int] = []
    payloads: list[tuple[int, ...]] = []
    texts: list[bytes] = []
    text_bytes = 0
    for index, event in enumerate(events):
        before = len(rows)
        if isinstance(event, json_types.Create | json_types.Edit):
            text, hashtags = event.text.encode(), _hashtags(event)
            rows.append(_content_row(event, len(payloads)))
            payloads.append((*_payload(event), len(hashtags), text_bytes, len(text)))
            texts += (text, hashtags)
            text_bytes += len(text) + len(hashtags)
            if isinstance(event, json_types.Create):
                for row, name in _derived_rows(event):
                    if name:
                        payloads.append((*_NO_CONTENT, text_bytes, len(name)))
                        texts.append(name)
                        text_bytes += len(name)
                        row = (*row[:-1], len(payloads) - 1)
                    rows.append(row)
        else:
            rows.append(_bare_row(event))  # type: ignore[arg-type]
        source.extend([index] * (len(rows) - before))
    return Columns(_transpose(rows), np.array(source, np.int64), _tweet_columns(payloads, texts))


def _content_row(event: json_types.Create | json_types.Edit, payload: int) -> Row:
    kind = _CREATE if isinstance(event, json_types.Create) else _EDIT
    author_id = int(event.author_id)
    return (kind, int(event.id), author_id, int(event.tweet_id), author_id, event.timestamp_ms, 0, 0, payload)


def _bare_row(event: json_types.Delete | json_types.Label | json_types.Unlabel) -> Row:
    ids = (int(event.tweet_id), int(event.author_id))
    if isinstance(event, json_types.Delete):
        return (_DELETE, int(event.id), ids[1], *ids, event.timestamp_ms, 0, 0, -1)
    kind = _LABEL if isinstance(event, json_types.Label) else _UNLABEL
    # Labels come from the platform, so the row has no user.
    return (kind, int(event.id), 0, *ids, event.timestamp_ms, text_hash(event.label), 0, -1)


def _payload(event: json_types.Create | json_types.Edit) -> tuple[int, ...]:
    """reply_to, conversation, quoted, retweeted, lang, flags: the tweet columns before the text's place."""
    flags = 0
    for medium in event.media:
        flags |= _MEDIA_FLAGS[medium]
    if event.urls:
        flags |= _LINK
    references = (0, 0, 0, 0)
    if isinstance(event, json_types.Create):
        references = (int(event.reply_to_id), int(event.conversation_id), int(event.quoted_id), int(event.retweeted_id))
        reply_to_id, _, quoted_id, retweeted_id = references
        flags |= (reply_to_id and _REPLY) | (quoted_id and _QUOTE) | (retweeted_id and _RETWEET)
    return (*references, language_code(event.lang), flags)


def _hashtags(event: json_types.Create | json_types.Edit) -> bytes:
    """The hashtags that come as a field, as text."""
    return "".join(f"\n#{name.removeprefix('#')}" for name in event.hashtags).encode() if event.hashtags else b""


def _derived_rows(event: json_types.Create) -> Iterator[tuple[Row, bytes]]:
    """One row each for the people, hashtags and links of a new tweet; the author and repetitions are left out.

    Each row comes with the name (UTF-8) of its hashtag or link; the caller sets the row's payload.
    """
    event_id, tweet_id, author_id, time_ms = (
        int(event.id),
        int(event.tweet_id),
        int(event.author_id),
        event.timestamp_ms,
    )
    for kind, people in ((_MENTION, event.mentions), (_MEDIA_TAG, event.media_tags)):
        named = dict.fromkeys(map(int, people))
        named.pop(author_id, None)
        for person in named:
            yield (kind, event_id, person, tweet_id, author_id, time_ms, 0, 0, -1), b""
    for kind, names, name_hash in ((_HASHTAG, event.hashtags, text_hash), (_URL, event.urls, url_hash)):
        by_hash: dict[int, str] = {}
        for name in names:
            # If two names have the same hash, the first one is kept.
            by_hash.setdefault(name_hash(name), name)
        for code, name in by_hash.items():
            row = (kind, event_id, author_id, tweet_id, author_id, time_ms, code, 0, -1)
            yield row, (name.removeprefix("#") if kind == _HASHTAG else name).encode()
