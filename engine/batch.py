"""The values that flow through the engine: ids, event kinds, batches of events.

Ids are unsigned 64-bit outside (``user_id``, ``tweet_id``; 0 means "none") and dense int32 inside a room
(``user_index``, ``tweet_index``); an index never leaves its room. Times are event times in milliseconds since the Unix
epoch (int64).
"""

from enum import IntEnum
from typing import NamedTuple, NewType

import numpy as np
from numpy.typing import NDArray

UserId = NewType("UserId", int)
TweetId = NewType("TweetId", int)

#: Snowflake ids carry their time: ``(id >> 22) + SNOWFLAKE_EPOCH_MS``.
SNOWFLAKE_EPOCH_MS = 1_288_834_974_657
MS_PER_HOUR = 3_600_000


class Kind(IntEnum):
    """The kinds of events. The codes are part of the packed wire format: add codes, never change one."""

    FAVORITE = 1
    UNFAVORITE = 2
    RETWEET = 3
    UNRETWEET = 4
    REPLY = 5
    QUOTE = 6
    CLICK = 7
    PHOTO_EXPAND = 8
    VIDEO_50 = 9
    PROFILE_CLICK = 10
    DWELL = 11
    SHARE = 12
    BOOKMARK = 13
    IMPRESSION = 14
    NOT_INTERESTED = 15
    SEE_FEWER = 16
    REPORT = 17
    UNDO_NOT_INTERESTED = 18
    UNREPLY = 19
    UNQUOTE = 20
    UNBOOKMARK = 21
    UNDO_SEE_FEWER = 22

    CREATE = 64
    EDIT = 65
    DELETE = 66
    LABEL = 67
    UNLABEL = 68
    # Derived while a create is decoded: one row each, right after the create's row and with the create's id.
    MENTION = 72
    MEDIA_TAG = 73
    HASHTAG = 74
    URL = 75

    FOLLOW = 96
    UNFOLLOW = 97
    BLOCK = 98
    UNBLOCK = 99
    MUTE = 100
    UNMUTE = 101
    REPORT_USER = 102
    CONTACT = 103
    MUTE_WORD = 104
    UNMUTE_WORD = 105
    DISMISS = 106
    UNDISMISS = 107
    #: Takes a CONTACT back.
    UNCONTACT = 108
    MUTE_RETWEETS = 109
    UNMUTE_RETWEETS = 110
    INTERESTS = 112

    USER = 128
    #: A null value on ``users``: everything about the person goes, piece by piece. ``id`` is 0. With person 0 nobody
    #: further is erased, and the erasing of those who wait goes on.
    ERASE = 129
    SERVED = 160
    #: A person whom a served list of people suggested.
    SUGGESTED = 161
    MODEL_PART = 192
    MODEL_COMMIT = 193

    #: Never decoded: one for each tweet that the tweet store erases with its author (engine/apply.py).
    ERASED_TWEET = 254
    #: Never decoded: a row that the tweet store refused. No other room uses it.
    REFUSED = 255


#: Kinds that take an act back, and the kinds that they take back, of the acts whose ``change`` the tweet store fills.
UNDOES = {
    Kind.UNFAVORITE: Kind.FAVORITE,
    Kind.UNRETWEET: Kind.RETWEET,
    Kind.UNREPLY: Kind.REPLY,
    Kind.UNQUOTE: Kind.QUOTE,
    Kind.UNBOOKMARK: Kind.BOOKMARK,
    Kind.UNDO_NOT_INTERESTED: Kind.NOT_INTERESTED,
    Kind.UNDO_SEE_FEWER: Kind.SEE_FEWER,
    Kind.UNFOLLOW: Kind.FOLLOW,
    Kind.UNBLOCK: Kind.BLOCK,
    Kind.UNMUTE: Kind.MUTE,
}
#: Kinds by topic.
ENGAGEMENT_KINDS = tuple(k for k in Kind if k < 64)
DERIVED_KINDS = tuple(k for k in Kind if 72 <= k < 96)
RELATIONSHIP_KINDS = tuple(k for k in Kind if 96 <= k < 128)
#: Of these, the ones about a word, and all that are about no other person.
WORD_KINDS = (Kind.MUTE_WORD, Kind.UNMUTE_WORD)
OWN_KINDS = (*WORD_KINDS, Kind.INTERESTS)


class TweetFlag(IntEnum):
    """Bits of ``EventBatch.tweet_flags``."""

    REPLY = 1
    QUOTE = 2
    RETWEET = 4
    PHOTO = 8
    VIDEO = 16
    LINK = 32


class Change(IntEnum):
    """What a row changes of "this person does this to this subject": codes of ``EventBatch.change``.

    NOTHING: it is not an act of a person; or it repeats one, or undoes one that does not hold; or a later act is known.
    BEGINS: the act holds from now on. RENEWED: it holds already and is repeated at a later time. ENDS: it held and is
    taken back. UNCOUNTED: the person has no room for more acts that count.
    """

    NOTHING = 0
    BEGINS = 1
    RENEWED = 2
    ENDS = 3
    UNCOUNTED = 4


class EventBatch(NamedTuple):
    """Decoded events in log order, as columns: what every room's ``apply`` receives.

    All arrays are C-contiguous, writable and of exactly these dtypes (one numba signature per kernel).
    The first twelve have one entry per event (n). The ``tweet_*`` columns have one entry (p) per CREATE or EDIT with
    content, HASHTAG or URL with its name, MUTE_WORD or UNMUTE_WORD, INTERESTS, USER with interests, MODEL_PART or
    MODEL_COMMIT; ``payload`` is the index of that entry, -1 for none. ``text`` holds the UTF-8 of these entries (of
    models: ``engine/models/content.py``, of interests: ``engine/interests/content.py``) end to end (m bytes).
    After a tweet's text come its hashtags, ``tweet_hashtag_bytes`` long, each a line break, ``#`` and the name.

    ``subject_id``: the tweet acted on; for relationships and SUGGESTED the other user; for MUTE_WORD, UNMUTE_WORD,
    INTERESTS, USER and ERASE 0; for MODEL_PART and MODEL_COMMIT the hash of the model's name (their ``user_id`` is 0).
    ``author_id``: the tweet's author where known, else 0. For CREATE it equals ``user_id``; for USER it is when the
    account was made (ms), which is no id.
    ``user_id``: who acted; for MENTION and MEDIA_TAG the person named.
    ``context_id``: the feed request an engagement answers (SERVED and SUGGESTED: the request that served it); for
    HASHTAG, URL, LABEL, UNLABEL, MUTE_WORD and UNMUTE_WORD the 64-bit hash of the text; for USER the
    profile bits; else 0.
    ``value``: seconds for DWELL, score for SERVED and SUGGESTED, position for IMPRESSION, else 0.

    ``original_id``, ``original_author_id`` and ``created_ms`` are 0 as decoded. Before any other room sees the batch,
    the tweet store fills them in every row that names a tweet, and corrects ``author_id`` (``TweetStore.apply``): the
    tweet that the named tweet stands for (itself, unless it retweets another), that tweet's author, and the named
    tweet's creation time. 0 is "not known".

    ``change`` (a ``Change``) and ``replaced_ms`` are filled by the tweet store, too, of engagements, follows, blocks,
    mutes, their undos, and reports: whether the row changes what its person does to its subject (for engagements the
    original), and when the act was made that the row renews or ends (-1 where it does neither). In other rows
    NOTHING and -1.
    """

    kind: NDArray[np.uint8]
    id: NDArray[np.uint64]
    user_id: NDArray[np.uint64]
    subject_id: NDArray[np.uint64]
    author_id: NDArray[np.uint64]
    timestamp_ms: NDArray[np.int64]
    context_id: NDArray[np.uint64]
    value: NDArray[np.float32]
    payload: NDArray[np.int32]

    original_id: NDArray[np.uint64]
    original_author_id: NDArray[np.uint64]
    created_ms: NDArray[np.int64]
    change: NDArray[np.uint8]
    replaced_ms: NDArray[np.int64]

    tweet_reply_to_id: NDArray[np.uint64]
    tweet_conversation_id: NDArray[np.uint64]
    tweet_quoted_id: NDArray[np.uint64]
    tweet_retweeted_id: NDArray[np.uint64]
    tweet_lang: NDArray[np.uint16]
    tweet_flags: NDArray[np.uint16]
    tweet_hashtag_bytes: NDArray[np.int32]
    tweet_text_start: NDArray[np.int64]
    tweet_text_bytes: NDArray[np.int32]
    text: NDArray[np.uint8]

    @property
    def size(self) -> int:
        """How many events (n)."""
        return int(self.kind.shape[0])


#: dtypes of ``EventBatch`` by field, in the order of the fields. First the columns of events, which decoding fills.
EVENT_COLUMNS: dict[str, np.dtype[np.generic]] = {
    "kind": np.dtype(np.uint8),
    "id": np.dtype(np.uint64),
    "user_id": np.dtype(np.uint64),
    "subject_id": np.dtype(np.uint64),
    "author_id": np.dtype(np.uint64),
    "timestamp_ms": np.dtype(np.int64),
    "context_id": np.dtype(np.uint64),
    "value": np.dtype(np.float32),
    "payload": np.dtype(np.int32),
}
#: Columns that the tweet store fills.
RESOLVED_COLUMNS: dict[str, np.dtype[np.generic]] = {
    "original_id": np.dtype(np.uint64),
    "original_author_id": np.dtype(np.uint64),
    "created_ms": np.dtype(np.int64),
    "change": np.dtype(np.uint8),
    "replaced_ms": np.dtype(np.int64),
}
#: Columns of tweets' content, which decoding fills.
TWEET_COLUMNS: dict[str, np.dtype[np.generic]] = {
    "tweet_reply_to_id": np.dtype(np.uint64),
    "tweet_conversation_id": np.dtype(np.uint64),
    "tweet_quoted_id": np.dtype(np.uint64),
    "tweet_retweeted_id": np.dtype(np.uint64),
    "tweet_lang": np.dtype(np.uint16),
    "tweet_flags": np.dtype(np.uint16),
    "tweet_hashtag_bytes": np.dtype(np.int32),
    "tweet_text_start": np.dtype(np.int64),
    "tweet_text_bytes": np.dtype(np.int32),
}


def make_batch(text: bytes = b"", **columns: object) -> EventBatch:
    """Build a batch from sequences by column name; missing columns are zero (``payload`` and ``replaced_ms`` −1).

    A missing ``change`` is BEGINS, and ENDS of undos: every act is new. For tests, tools and single events; the decoder
    does not use it.

    Raises:
        ValueError: columns of unequal length, or an unknown column.
    """
    unknown = columns.keys() - EVENT_COLUMNS.keys() - RESOLVED_COLUMNS.keys() - TWEET_COLUMNS.keys()
    if unknown:
        raise ValueError(f"unknown columns: {sorted(unknown)}")
    arrays: dict[str, NDArray[np.generic]] = {}
    for group in (EVENT_COLUMNS | RESOLVED_COLUMNS, TWEET_COLUMNS):
        given = {name: np.array(columns[name], dtype=group[name]) for name in group if name in columns}
        sizes = {len(a) for a in given.values()} or {0}
        if len(sizes) > 1:
            raise ValueError(f"columns of unequal length: { {n: len(a) for n, a in given.items()} }")
        size = sizes.pop()
        for name, dtype in group.items():
            fill = -1 if name in ("payload", "replaced_ms") else 0
            arrays[name] = given.get(name, np.full(size, fill, dtype))
    if "change" not in columns:
        arrays["change"][:] = np.where(np.isin(arrays["kind"], list(UNDOES)), Change.ENDS, Change.BEGINS)
    return EventBatch(**arrays, text=np.frombuffer(text, np.uint8).copy())  # type: ignore[arg-type]


def snowflake_time_ms(tweet_id: int) -> int:
    """Creation time carried by a snowflake id, in ms since the epoch."""
    return (tweet_id >> 22) + SNOWFLAKE_EPOCH_MS


def snowflake_id(time_ms: int, sequence: int) -> int:
    """A snowflake id for a time; ``sequence`` (22 bits: worker and counter) tells apart ids of one millisecond."""
    return ((time_ms - SNOWFLAKE_EPOCH_MS) << 22) | (sequence & 0x3FFFFF)
