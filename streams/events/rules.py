"""Rules about an event's fields that the types cannot express, checked in a fixed order."""

import hashlib
from collections.abc import Callable

import msgspec

from engine.errors import EventError
from engine.models.specs import EVALUATION_BYTES_MAX, PART_BYTES
from engine.muted_words.folding import WORDS_MAX, words_in
from streams.events import json_types
from streams.events.ids import parse_id
from streams.events.reasons import Reason

#: Engagements that may have a ``value``.
VALUED_TYPES = frozenset({"dwell", "impression"})

_ID_NAMES = ("id", "user_id", "tweet_id", "target_id", "author_id", "request_id", "incarnation")
_TWEET_ID_NAMES = ("reply_to_id", "conversation_id", "quoted_id", "retweeted_id")


def _id_fields(struct: type[json_types.Event]) -> tuple[str, ...]:
    return tuple(name for name in (*_ID_NAMES, *_TWEET_ID_NAMES) if name in struct.__struct_fields__)


_ID_FIELDS = {struct: _id_fields(struct) for topic in json_types.TOPICS.values() for struct in topic.types}


def check_event(event: json_types.Event, time_ms_max: int) -> None:
    """Check everything that the types leave open: ids, time, then the rules of the event's struct.

    Raises:
        EventError: the first broken rule.
    """
    for name in _ID_FIELDS[type(event)]:
        # The number 0 means that the optional field is absent: the types refuse 0 on the wire, and "0" is a string.
        if (value := getattr(event, name)) != 0:
            parse_id(value)
    if event.timestamp_ms > time_ms_max:
        raise EventError(
            Reason.TIMESTAMP_IN_FUTURE, f"timestamp_ms is {event.timestamp_ms - time_ms_max} ms later than allowed"
        )
    if rule := _RULES.get(type(event)):
        rule(event)


def _check_engagement(event: json_types.Engagement) -> None:
    if event.value != 0 and event.type not in VALUED_TYPES:
        raise EventError(Reason.VALUE_OUT_OF_RANGE, f"a {event.type} has no value")


def _check_relationship(event: json_types.Relationship) -> None:
    if event.type == json_types.INTERESTS:
        _refuse_fields(event, "target_id", "word")
        return
    _refuse_fields(event, "interests", "languages")
    if event.type in json_types.WORD_TYPES:
        _check_word(event)
        return
    _refuse_fields(event, "word")
    if event.target_id == 0:
        raise EventError(Reason.MISSING_FIELD, f"a {event.type} needs `target_id`")
    if int(event.target_id) == int(event.user_id):
        raise EventError(Reason.SELF_TARGET, f"user and target of a {event.type} are the same")


def _refuse_fields(event: json_types.Relationship, *names: str) -> None:
    for name in names:
        if getattr(event, name):
            raise EventError(Reason.UNKNOWN_FIELD, f"a {event.type} has no `{name}`")


def _check_word(event: json_types.Relationship) -> None:
    if not event.word:
        raise EventError(Reason.MISSING_FIELD, f"a {event.type} needs `word`")
    _refuse_fields(event, "target_id")
    words = words_in(event.word)
    if words == 0:
        raise EventError(Reason.TEXT_TOO_SHORT, "`word` has no letter, digit or symbol")
    if words > WORDS_MAX:
        raise EventError(Reason.TEXT_TOO_LONG, f"`word` has more than {WORDS_MAX} words")


def _check_content(event: json_types.Create | json_types.Edit) -> None:
    for person in (*event.mentions, *event.media_tags):
        parse_id(person)


def _check_create(event: json_types.Create) -> None:
    _check_content(event)
    tweet_id = int(event.tweet_id)
    for name in ("reply_to_id", "quoted_id", "retweeted_id"):
        if int(getattr(event, name)) == tweet_id:
            raise EventError(Reason.SELF_TARGET, f"`{name}` is the tweet itself")


def _check_served(event: json_types.ServedFeed) -> None:
    parse_id(event.request.request_id)
    for entry in event.entries:
        parse_id(entry.tweet_id)
        if entry.author_id != 0:
            parse_id(entry.author_id)


def _check_notification(event: json_types.NotificationCandidate | json_types.Notification) -> None:
    for actor in event.actor_ids:
        parse_id(actor)
    named = [name for name in ("target_id", "tweet_id", "author_id") if getattr(event, name)]
    wanted = ["target_id"] if event.cause == "follows" else ["tweet_id", "author_id"]
    if missing := set(wanted) - set(named):
        raise EventError(Reason.MISSING_FIELD, f"a notification of {event.cause} needs `{min(missing)}`")
    if more := set(named) - set(wanted):
        raise EventError(Reason.UNKNOWN_FIELD, f"a notification of {event.cause} has no `{min(more)}`")


def _check_promote(event: json_types.Promote) -> None:
    if event.ends_ms <= event.starts_ms:
        raise EventError(Reason.VALUE_OUT_OF_RANGE, "ends_ms is not after starts_ms")


def _check_part(event: json_types.ModelPart) -> None:
    parse_id(event.version)
    if hashlib.sha256(event.content).hexdigest() != event.sha256:
        raise EventError(Reason.WRONG_DIGEST, f"part {event.part} is not the one that its sha256 is of")


def _check_commit(event: json_types.ModelCommit) -> None:
    parse_id(event.version)
    if event.parts != -(-event.size_bytes // PART_BYTES):
        raise EventError(Reason.MALFORMED_MODEL, f"{event.size_bytes} bytes are not {event.parts} parts")
    if (size := len(evaluation_bytes(event))) > EVALUATION_BYTES_MAX:
        raise EventError(Reason.TEXT_TOO_LONG, f"the evaluation has {size} bytes, more than {EVALUATION_BYTES_MAX}")


def evaluation_bytes(event: json_types.ModelCommit) -> bytes:
    """The evaluation as JSON with sorted names, as the engine keeps it."""
    return msgspec.json.encode(event.evaluation, order="sorted")


_RULES: dict[type[json_types.Event], Callable[..., None]] = {
    json_types.Engagement: _check_engagement,
    json_types.Relationship: _check_relationship,
    json_types.Create: _check_create,
    json_types.Edit: _check_content,
    json_types.ServedFeed: _check_served,
    json_types.NotificationCandidate: _check_notification,
    json_types.Notification: _check_notification,
    json_types.Promote: _check_promote,
    json_types.ModelPart: _check_part,
    json_types.ModelCommit: _check_commit,
}
