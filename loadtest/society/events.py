"""What the society emits: event columns, and the same events one by one in the wire's JSON form."""

from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from engine.batch import Kind
from loadtest.society import text


class Event(NamedTuple):
    """An event for the log: topic (without prefix), partition key, and the JSON object."""

    topic: str
    key: bytes
    body: dict[str, Any]


def encode(event: Event) -> bytes:
    """The event's JSON bytes."""
    return orjson.dumps(event.body)


#: dtypes of ``EventColumns``, by field.
_DTYPES: dict[str, type[np.generic]] = {
    "kind": np.uint8,
    "id": np.uint64,
    "user_id": np.uint64,
    "subject_id": np.uint64,
    "author_id": np.uint64,
    "timestamp_ms": np.int64,
    "context_id": np.uint64,
    "value": np.float32,
    "topic": np.int64,
    "second": np.int64,
    "mix": np.float64,
    "quality": np.float64,
    "variant": np.uint64,
    "parent_id": np.uint64,
    "conversation_id": np.uint64,
    "answer": np.uint8,
}


class EventColumns(NamedTuple):
    """Events in time order, as arrays (n,).

    The first eight are the fixed-width fields of ``engine.batch.EventBatch`` (a create without its text). The others
    describe the text of a create: topics of interest, quality, ``variant`` (which sentence), the tweet that it replies
    to or quotes (``parent_id``, ``conversation_id``), and ``answer``: REPLY, QUOTE, or 0 for neither.
    """

    kind: NDArray[np.uint8]
    id: NDArray[np.uint64]
    user_id: NDArray[np.uint64]
    subject_id: NDArray[np.uint64]
    author_id: NDArray[np.uint64]
    timestamp_ms: NDArray[np.int64]
    context_id: NDArray[np.uint64]
    value: NDArray[np.float32]
    topic: NDArray[np.int64]
    second: NDArray[np.int64]
    mix: NDArray[np.float64]
    quality: NDArray[np.float64]
    variant: NDArray[np.uint64]
    parent_id: NDArray[np.uint64]
    conversation_id: NDArray[np.uint64]
    answer: NDArray[np.uint8]

    @property
    def size(self) -> int:
        """How many events (n)."""
        return int(self.kind.shape[0])


def make_columns(kind: Kind | NDArray[np.uint8], **columns: Any) -> EventColumns:
    """Columns of one kind (or of given kinds); missing columns are zero, scalars fill their column."""
    size = max(np.ndim(value) and len(value) for value in (kind, *columns.values()))
    arrays: dict[str, NDArray[Any]] = {}
    for name, dtype in _DTYPES.items():
        value = kind if name == "kind" else columns.get(name, 0)
        arrays[name] = np.full(size, value, dtype) if np.ndim(value) == 0 else np.asarray(value).astype(dtype)
    return EventColumns(**arrays)


def join(parts: list[EventColumns]) -> EventColumns:
    """Concatenate and sort by time; events with equal times keep their order."""
    if not parts:
        return make_columns(np.empty(0, np.uint8))
    joined = [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]
    order = np.argsort(joined[EventColumns._fields.index("timestamp_ms")], kind="stable")
    return EventColumns(*(array[order] for array in joined))


_ENGAGEMENT_NAMES = {int(k): k.name.lower() for k in Kind if k < Kind.CREATE}
_RELATIONSHIP_NAMES = {int(k): k.name.lower() for k in Kind if Kind.FOLLOW <= k < Kind.USER}


def to_events(columns: EventColumns) -> list[Event]:
    """The events in JSON form; creates with their text."""
    events: list[Event] = []
    creates = np.flatnonzero(columns.kind == Kind.CREATE)
    bodies = dict(zip(creates.tolist(), _creates(columns, creates), strict=True))
    rows = zip(*(array.tolist() for array in columns[:8]), strict=True)
    for i, (kind, event_id, user, subject, author, timestamp, context, value) in enumerate(rows):
        name = _ENGAGEMENT_NAMES.get(kind)
        person = str(user)
        if name is not None:
            body: dict[str, Any] = {
                "v": 1,
                "id": str(event_id),
                "type": name,
                "user_id": person,
                "tweet_id": str(subject),
                "author_id": str(author),
                "timestamp_ms": timestamp,
            }
            if context:
                body["request_id"] = str(context)
            if kind == Kind.IMPRESSION:
                body["value"] = int(value)
            events.append(Event("engagements", person.encode(), body))
        elif kind == Kind.CREATE:
            events.append(Event("tweets", person.encode(), bodies[i]))
        else:
            body = {
                "v": 1,
                "id": str(event_id),
                "type": _RELATIONSHIP_NAMES[kind],
                "user_id": person,
                "target_id": str(subject),
                "timestamp_ms": timestamp,
            }
            events.append(Event("relationships", person.encode(), body))
    return events


def _creates(columns: EventColumns, rows: NDArray[np.intp]) -> list[dict[str, Any]]:
    """The JSON objects of the create events at these rows."""
    bodies: list[dict[str, Any]] = []
    for row in zip(*(array[rows].tolist() for array in columns), strict=True):
        create = dict(zip(EventColumns._fields, row, strict=True))
        answer = create["answer"]
        sentences = {Kind.REPLY: text.REPLIES, Kind.QUOTE: text.QUOTES}.get(answer, ())
        said = text.compose(create["topic"], create["quality"], create["variant"], sentences)
        body: dict[str, Any] = {
            "v": 1,
            "id": str(create["id"]),
            "type": "create",
            "author_id": str(create["user_id"]),
            "tweet_id": str(create["subject_id"]),
            "timestamp_ms": create["timestamp_ms"],
            "text": said,
            "lang": "en",
        }
        if answer == Kind.REPLY:
            body["reply_to_id"] = str(create["parent_id"])
            body["conversation_id"] = str(create["conversation_id"])
        else:
            tags = text.hashtags(create["topic"], create["second"], create["mix"])
            body["text"] = text.with_tags(said, tags)
            body["hashtags"] = tags
        if answer == Kind.QUOTE:
            body["quoted_id"] = str(create["parent_id"])
        bodies.append(body)
    return bodies
