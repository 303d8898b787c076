"""The JSON events of every topic, as msgspec types (docs/events.md).

Every event has ``v`` (1), ``id`` (for deduplication), ``type`` and ``timestamp_ms``. Ids are numbers or decimal strings
on the wire, and these structs keep the form (``parse_id`` reads both). Optional fields are absent; ``mend`` reads null
and other ways to say so.
"""

from typing import Annotated, Literal, NamedTuple, get_args

import msgspec
from msgspec import Meta

from engine.batch import Kind
from engine.feed import Request, Why
from engine.interests.content import LANGUAGES_MAX, TAGS_MAX
from engine.models.specs import PART_BYTES, PARTS_MAX
from streams.events.ids import ID_MAX
from streams.events.units import TIMESTAMP_MS_MAX, TIMESTAMP_MS_MIN

TEXT_CHARS_MAX = 4000
VALUE_MAX = 1e9

_ID_STRING = (
    r"^([1-9][0-9]{0,18}|1[0-7][0-9]{18}|18[0-3][0-9]{17}|184[0-3][0-9]{16}|1844[0-5][0-9]{15}|18446[0-6][0-9]{14}"
    r"|184467[0-3][0-9]{13}|1844674[0-3][0-9]{12}|184467440[0-6][0-9]{10}|1844674407[0-2][0-9]{9}"
    r"|18446744073[0-6][0-9]{8}|1844674407370[0-8][0-9]{6}|18446744073709[0-4][0-9]{5}|184467440737095[0-4][0-9]{4}"
    r"|18446744073709550[0-9]{3}|18446744073709551[0-5][0-9]{2}|1844674407370955160[0-9]|1844674407370955161[0-5])$"
)

Id = Annotated[
    Annotated[int, Meta(ge=1, extra_json_schema={"maximum": ID_MAX})]
    | Annotated[str, Meta(extra_json_schema={"pattern": _ID_STRING})],
    Meta(description="Unsigned 64-bit id, 1 to 18446744073709551615, as a number or a decimal string"),
]
TimestampMs = Annotated[
    int, Meta(ge=TIMESTAMP_MS_MIN, le=TIMESTAMP_MS_MAX, description="Milliseconds since the Unix epoch")
]
#: A time that the engine writes. With ``serving.clock = "event"`` it follows the events of a replay.
EngineMs = Annotated[int, Meta(ge=1, le=TIMESTAMP_MS_MAX, description="Milliseconds since the Unix epoch")]
Count = Annotated[int, Meta(ge=0, le=2**53)]
Name = Annotated[str, Meta(min_length=1, max_length=100)]
Text = Annotated[str, Meta(max_length=TEXT_CHARS_MAX)]
Url = Annotated[str, Meta(min_length=1, max_length=2048)]
Language = Annotated[str, Meta(description="BCP 47 tag; one that is not understood counts as none")]
TimeZone = Annotated[
    str,
    Meta(max_length=64, description="IANA name of a time zone; one that is not understood counts as none"),
]
Country = Annotated[str, Meta(description="ISO 3166-1 alpha-2; one that is not understood counts as none")]
Sha256 = Annotated[str, Meta(min_length=64, max_length=64, pattern="^[0-9a-f]{64}$")]
Crc32 = Annotated[str, Meta(pattern="^[0-9a-f]{8}$")]

EngagementType = Literal[
    "favorite",
    "unfavorite",
    "retweet",
    "unretweet",
    "reply",
    "quote",
    "click",
    "photo_expand",
    "video_50",
    "profile_click",
    "dwell",
    "share",
    "bookmark",
    "impression",
    "not_interested",
    "see_fewer",
    "report",
    "undo_not_interested",
    "unreply",
    "unquote",
    "unbookmark",
    "undo_see_fewer",
]
RelationshipType = Literal[
    "follow",
    "unfollow",
    "block",
    "unblock",
    "mute",
    "unmute",
    "report_user",
    "contact",
    "mute_word",
    "unmute_word",
    "dismiss",
    "undismiss",
    "interests",
    "uncontact",
    "mute_retweets",
    "unmute_retweets",
]


#: Relationships with a word instead of a person; what a person wants to read about.
WORD_TYPES = frozenset({"mute_word", "unmute_word"})
INTERESTS = "interests"


class Event(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True, frozen=True, gc=False):
    """What every event carries. ``gc=False``: events hold no references that could form a cycle."""

    v: Literal[1]
    id: Id
    timestamp_ms: TimestampMs


class Engagement(Event, kw_only=True, frozen=True):
    """A person acted on a tweet. ``value``: seconds of a dwell, position (from 0) of an impression, else absent."""

    type: EngagementType
    user_id: Id
    tweet_id: Id
    author_id: Id = 0
    request_id: Id = 0
    value: Annotated[float, Meta(ge=0, le=VALUE_MAX)] = 0.0


class Relationship(Event, kw_only=True, frozen=True):
    """A person's standing towards another (``target_id``), or towards a word or phrase (``mute_word`` and
    ``unmute_word`` with ``word``); or what the person wants to read about (``interests``: hashtags and topics, and
    ``languages``), whole: it replaces what the person said before, and without either nothing is left of that."""

    type: RelationshipType
    user_id: Id
    target_id: Id = 0
    word: Name = ""
    interests: Annotated[tuple[Name, ...], Meta(max_length=TAGS_MAX)] = ()
    languages: Annotated[tuple[Language, ...], Meta(max_length=LANGUAGES_MAX)] = ()


class _Tweet(Event, kw_only=True, frozen=True, tag_field="type"):
    tweet_id: Id
    #: Deletes and labels have it too: it is the record's key, which keeps them after the create.
    author_id: Id


class _Content(_Tweet, kw_only=True, frozen=True):
    text: Text = ""
    lang: Language = ""
    media: Annotated[tuple[Literal["photo", "video", "gif"], ...], Meta(max_length=8)] = ()
    media_tags: Annotated[tuple[Id, ...], Meta(max_length=10, description="People tagged in the media")] = ()
    urls: Annotated[tuple[Url, ...], Meta(max_length=10)] = ()
    hashtags: Annotated[tuple[Name, ...], Meta(max_length=30)] = ()
    mentions: Annotated[tuple[Id, ...], Meta(max_length=50)] = ()
    card: Annotated[str, Meta(max_length=100)] = ""


class Create(_Content, kw_only=True, frozen=True, tag="create"):
    """A new tweet. ``timestamp_ms`` is when it was written."""

    reply_to_id: Id = 0
    conversation_id: Id = 0
    quoted_id: Id = 0
    retweeted_id: Id = 0


class Edit(_Content, kw_only=True, frozen=True, tag="edit"):
    """New content of a tweet; it replaces the old content whole."""


class Delete(_Tweet, kw_only=True, frozen=True, tag="delete"):
    """The tweet is gone."""


class Label(_Tweet, kw_only=True, frozen=True, tag="label"):
    """A safety label is put on the tweet."""

    label: Name


class Unlabel(_Tweet, kw_only=True, frozen=True, tag="unlabel"):
    """A safety label is taken off the tweet."""

    label: Name


class User(Event, kw_only=True, frozen=True):
    """A person's profile, whole, as of ``timestamp_ms``: what an event leaves out has its default, not its old value.

    ``recommendable`` false: the person's tweets and name come only to followers. ``groups`` are for cohort metrics
    only. ``notify`` false: the person is not notified of anything; ``time_zone`` says when the person's night is.
    """

    type: Literal["user"]
    user_id: Id
    created_ms: TimestampMs = 0
    verified: bool = False
    protected: bool = False
    state: Literal["active", "suspended", "deactivated"] = "active"
    sensitive_media: Literal["warn", "show", "hide"] = "warn"
    languages: Annotated[tuple[Language, ...], Meta(max_length=16)] = ()
    country: Country = ""
    recommendable: bool = True
    notify: bool = True
    time_zone: TimeZone = ""
    interests: Annotated[tuple[Name, ...], Meta(max_length=100)] = ()
    interest_opt_outs: Annotated[tuple[Name, ...], Meta(max_length=100)] = ()
    groups: Annotated[tuple[Name, ...], Meta(max_length=32)] = ()


class EngineEvent(Event, kw_only=True, frozen=True):
    """An event that only the engine writes."""

    timestamp_ms: EngineMs


class ServedEntry(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True, frozen=True, gc=False):
    """An entry of a served feed, with ``why`` if that was sent to the viewer.

    ``digest`` shows which part of an entry differs from another: it is the CRC-32 of its origin (``created_ms``,
    ``in_network``), of its text and of its counts, in this order. The text is not kept here.
    """

    tweet_id: Id
    author_id: Id = 0
    position: Count
    score: float
    digest: Annotated[str, Meta(pattern="^[0-9a-f]{8}(-[0-9a-f]{8}){2}$")]
    why: Why | msgspec.UnsetType = msgspec.UNSET


class ServedFeed(EngineEvent, kw_only=True, frozen=True):
    """A feed that a person was shown, with everything that is needed to compute the feed again and to compare.

    ``request`` has every term of the request; ``timestamp_ms`` is its time, ``user_id`` its viewer. ``history`` and
    ``version`` name the state, ``incarnation`` the start of the process, ``models`` the versions in force of the models
    that came through the log, ``degraded`` the sources that failed or were skipped. ``digest`` is the SHA-256 of the
    feed; ``cursor_digest`` and ``dropped_digest`` are the CRC-32 of the feed's cursor and dropped candidates.
    """

    type: Literal["served_feed"]
    user_id: Id
    request: Request
    version: Count
    history: Annotated[str, Meta(pattern="^[0-9a-f]{16}$")] = ""
    incarnation: Id = 0
    config_hash: Name
    model_version: Name
    models: Annotated[dict[Name, Name], Meta(max_length=100)] = {}
    digest: Sha256
    cursor_digest: Crc32 = ""
    dropped_digest: Crc32 = ""
    degraded: Annotated[tuple[Name, ...], Meta(max_length=100)] = ()
    gap_records: Count = 0
    late_rooms: Annotated[dict[Name, Count], Meta(max_length=100)] = {}
    entries: Annotated[tuple[ServedEntry, ...], Meta(max_length=4096)]


class Promote(Event, kw_only=True, frozen=True, tag_field="type", tag="promote"):
    """A paid tweet and the positions it may take between two times."""

    tweet_id: Id
    author_id: Id
    slots: Annotated[tuple[Annotated[int, Meta(ge=0, le=1000)], ...], Meta(min_length=1, max_length=32)]
    starts_ms: TimestampMs
    ends_ms: TimestampMs


class Withdraw(Event, kw_only=True, frozen=True, tag_field="type", tag="withdraw"):
    """A paid tweet must not be shown any more."""

    tweet_id: Id
    author_id: Id


class Example(EngineEvent, kw_only=True, frozen=True):
    """A training example: the features a tweet was ranked with, and what the person then did."""

    type: Literal["example"]
    user_id: Id
    tweet_id: Id
    request_id: Id
    features: Annotated[dict[Name, float], Meta(max_length=1000)]
    labels: Annotated[dict[Name, float], Meta(max_length=100)]


class _OfModel(EngineEvent, kw_only=True, frozen=True, tag_field="type"):
    model: Name
    #: Versions rise: the greatest committed one is in force.
    version: Id


class ModelPart(_OfModel, kw_only=True, frozen=True, tag="model_part"):
    """A piece of a model's bytes: the ``part``-th (from 0) of its version, base64 on the wire.

    Every part but the last is 524,288 bytes. ``sha256`` is that of ``content``.
    """

    part: Annotated[int, Meta(ge=0, lt=PARTS_MAX)]
    sha256: Sha256
    content: Annotated[bytes, Meta(min_length=1, max_length=PART_BYTES)]


class ModelCommit(_OfModel, kw_only=True, frozen=True, tag="model_commit"):
    """A version of a model is complete, and in force from this event on.

    ``schema`` says what the model's bytes mean; ``sha256`` is over the digests of its parts (32 bytes each), in order;
    ``evaluation`` has measured figures of the model.
    """

    schema: Annotated[str, Meta(min_length=16, max_length=16, pattern="^[0-9a-f]{16}$")]
    parts: Annotated[int, Meta(ge=1, le=PARTS_MAX)]
    size_bytes: Annotated[int, Meta(ge=1, le=PARTS_MAX * PART_BYTES)]
    sha256: Sha256
    created_ms: EngineMs
    evaluation: Annotated[dict[Name, float], Meta(max_length=100)] = {}


#: Why a person is notified: several people whom the person follows followed somebody, or liked or reposted a tweet.
Cause = Literal["follows", "likes"]


class _OfNotification(EngineEvent, kw_only=True, frozen=True):
    user_id: Id
    cause: Cause
    #: The person who was followed; else the tweet and its author.
    target_id: Id = 0
    tweet_id: Id = 0
    author_id: Id = 0
    actor_ids: Annotated[tuple[Id, ...], Meta(min_length=1, max_length=32)]


class NotificationCandidate(_OfNotification, kw_only=True, frozen=True):
    """Something of which a person may be notified, before the limits on notifications are checked.

    ``timestamp_ms`` is when the act that completed it came into the log, ``visited_ms`` when the person was last shown
    a feed.
    """

    type: Literal["notification_candidate"]
    visited_ms: Count = 0


class Notification(_OfNotification, kw_only=True, frozen=True):
    """A person is notified, after all limits on notifications were checked; ``timestamp_ms`` is when that was."""

    type: Literal["notification"]


class NotifyLess(Event, kw_only=True, frozen=True):
    """A person wants fewer notifications: none for some days, then few."""

    type: Literal["notify_less"]
    user_id: Id


class DeadLetterEvent(EngineEvent, kw_only=True, frozen=True):
    """A record (or a ``row`` of a packed record) that could not be used. ``timestamp_ms`` is its append time.

    ``value`` has the original bytes (base64); of too many bytes it has the beginning, with ``truncated``, their number
    and their SHA-256. ``topic_id`` is Kafka's id of the topic: a topic that is made again has another.
    """

    type: Literal["dead_letter"]
    topic: Annotated[str, Meta(min_length=1, max_length=300)]
    partition: Count
    offset: Count
    row: Count | msgspec.UnsetType = msgspec.UNSET
    reason: Name
    detail: Annotated[str, Meta(max_length=1000)]
    value: bytes
    value_bytes: Count
    truncated: bool = False
    sha256: Sha256 = ""
    topic_id: Annotated[str, Meta(max_length=64)] = ""


class Topic(NamedTuple):
    """What a topic holds. ``key`` names the field whose value is the record key ("" for none)."""

    name: str
    key: str
    types: tuple[type[Event], ...]
    compacted: bool
    packed: bool
    description: str


TOPICS: dict[str, Topic] = {
    topic.name: topic
    for topic in (
        Topic("engagements", "user_id", (Engagement,), False, True, "What people do with tweets"),
        Topic("tweets", "author_id", (Create, Edit, Delete, Label, Unlabel), False, True, "Tweets and safety labels"),
        Topic("relationships", "user_id", (Relationship,), False, True, "Who follows, blocks, mutes whom"),
        Topic("users", "user_id", (User,), True, False, "Profiles, the newest a person"),
        Topic("served", "user_id", (ServedFeed,), False, False, "Feeds as they were shown"),
        Topic("promoted", "", (Promote, Withdraw), False, False, "Paid tweets and their slots"),
        Topic("examples", "user_id", (Example,), False, False, "Joined training examples"),
        Topic("models", "model", (ModelPart, ModelCommit), False, False, "Model versions, in parts"),
        Topic("notification-candidates", "user_id", (NotificationCandidate,), False, False, "What people may be told"),
        Topic("notification-wishes", "user_id", (NotifyLess,), False, False, "Who wants fewer notifications"),
        Topic("notifications", "user_id", (Notification,), False, False, "What people are told, within their caps"),
        Topic("dead-letters", "", (DeadLetterEvent,), False, False, "What could not be used, and why"),
    )
}


def type_names(struct: type[Event]) -> tuple[str, ...]:
    """The values of ``type`` that a struct stands for."""
    # msgspec demands a tag only where several structs share a topic. A struct alone in its topic has a field ``type``.
    return get_args(struct.__annotations__.get("type")) or (str(struct.__struct_config__.tag),)


#: Event type → topic, event type → struct, and (where the engine applies it) event type → kind.
TOPIC_BY_TYPE = {name: topic.name for topic in TOPICS.values() for struct in topic.types for name in type_names(struct)}
STRUCT_BY_TYPE = {name: struct for topic in TOPICS.values() for struct in topic.types for name in type_names(struct)}
KIND_BY_TYPE = {name: Kind[name.upper()] for name in TOPIC_BY_TYPE if name.upper() in Kind.__members__}
#: The engine applies the entries of a served feed, one row each.
KIND_BY_TYPE["served_feed"] = Kind.SERVED
#: Topics whose events the engine applies: those that decode into columns.
APPLIED_TOPICS = ("engagements", "tweets", "relationships", "users", "served", "models")
