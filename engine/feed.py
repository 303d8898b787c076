"""A feed request and its answer, as clients see them (docs/protocol.md has their JSON)."""

from enum import StrEnum

import msgspec

_HOUR_MS = 3_600_000
_BITS = (1 << 64) - 1


class Product(StrEnum):
    """What a viewer can request: feeds of tweets, and people."""

    FOR_YOU = "for_you"
    FOLLOWING = "following"
    #: People instead of tweets (docs/who_to_follow.md).
    WHO_TO_FOLLOW = "who_to_follow"


#: The products that show tweets.
FEEDS = (Product.FOR_YOU, Product.FOLLOWING)


class Explain(StrEnum):
    """How much explanation a feed carries."""

    NONE = "none"
    ENTRIES = "entries"
    ALL = "all"


class Request(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A viewer's request. Together with state version, configuration hash and model versions it determines the feed.

    ``time_ms``: the time for which the feed is computed; ``seed`` (64-bit) drives every random draw;
    ``only``: Following of nothing but these tweets, as far as they are by the viewer or a followee.
    ``sources_skipped``: sources (and hydrators that safety does not depend on) that are not run. To compute a degraded
    feed again, skip the sources that its answer names in ``degraded``.
    """

    viewer_id: int
    request_id: int
    time_ms: int
    seed: int
    product: Product = Product.FOR_YOU
    limit: int = 20
    cursor: str | None = None
    exclude: tuple[int, ...] = ()
    explain: Explain = Explain.NONE
    sources_skipped: tuple[str, ...] = ()
    only: tuple[int, ...] = ()


def viewer_hour(viewer_id: int, time_ms: int) -> tuple[int, int]:
    """The viewer's hour that a time is in: its number, and the time (ms) at which it ends.

    Each viewer's hours begin at another minute, so that the feeds of all viewers do not change at once.
    """
    offset_ms = _mix64(viewer_id) % _HOUR_MS
    hour = (time_ms + offset_ms) // _HOUR_MS
    return hour, (hour + 1) * _HOUR_MS - offset_ms


def seed_of(viewer_id: int, time_ms: int) -> int:
    """The seed of a request that names none: it follows from viewer and hour, so that a viewer who refreshes a feed
    sees the same draws again."""
    mixed = _mix64(viewer_id)
    return _mix64(mixed ^ ((time_ms + mixed % _HOUR_MS) // _HOUR_MS))  # the viewer's hour


def _mix64(number: int) -> int:
    """The splitmix64 finalizer with its increment, as in ``engine/kernels/rng.py``, for Python integers."""
    x = (number + 0x9E3779B97F4A7C15) & _BITS
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _BITS
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _BITS
    return x ^ (x >> 31)


class SourceHit(msgspec.Struct, frozen=True):
    """The source of a candidate, with the source's score and the candidate's rank within the source (0 = best)."""

    name: str
    score: float
    rank: int


class Factor(msgspec.Struct, frozen=True):
    """A multiplier of the score, with the name of the component that applied it."""

    name: str
    factor: float


class Why(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why an entry is in the feed.

    ``social_proof`` lists followees who engaged, by kind. ``scores`` are weighted parts: the entry's score is their sum
    times the product of ``factors``. ``filters_passed`` is in the order in which the filters ran.
    """

    sources: tuple[SourceHit, ...]
    social_proof: dict[str, tuple[int, ...]]
    scores: dict[str, float]
    factors: tuple[Factor, ...]
    filters_passed: tuple[str, ...]


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One tweet of a feed. ``counts`` are totals by kind (favorite, retweet, reply, quote)."""

    tweet_id: int
    author_id: int
    created_ms: int
    text: str
    position: int
    score: float
    in_network: bool
    counts: dict[str, int]
    why: Why | None = None


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """Why a person is suggested. ``people``: some of those who are the reason, of ``count`` in all (0 where it is not
    about people); ``text``: the same in words."""

    name: str
    text: str
    people: tuple[int, ...] = ()
    count: int = 0


class PersonEntry(Entry, frozen=True, kw_only=True):
    """One person of who to follow: ``tweet_id`` is the person's id (``author_id`` 0), ``created_ms`` is when the
    account was made (0: not known), ``counts`` has followers and followees."""

    reasons: tuple[Reason, ...]


class Dropped(msgspec.Struct, frozen=True):
    """A candidate that is not in the feed, with the filter (or selector) that dropped it, and its sources."""

    tweet_id: int
    filter: str
    sources: tuple[str, ...]


class Feed(msgspec.Struct, frozen=True, kw_only=True):
    """An answer.

    ``model_version`` names the product's scoring; ``models``: current versions, by name, of the models that came
    through the log, as of ``version``. ``degraded`` names sources that failed or were skipped; ``gap_records``
    counts log records that were lost before the state could apply them (0 unless a gap was accepted); ``late_rooms``
    names the rooms that do not know the whole history, each with the event time from which on it knows everything.
    ``tier`` says how much is known of the viewer (engine/home_mixer/cold_start.py), ``tier_reason`` why; empty where
    the product does not ask. ``followees_left_out`` counts the people whom the viewer follows and whose tweets were not
    looked at.
    ``timings_ms`` (wall clock) and ``cpu_ms`` (the thread's CPU time) are by stage, and need not be reproducible.
    ``cursor`` is None at the end of the feed.
    """

    request_id: int
    viewer_id: int
    product: Product
    version: int
    seed: int
    time_ms: int
    config_hash: str
    model_version: str
    models: dict[str, str] = {}
    entries: tuple[Entry, ...]
    dropped: tuple[Dropped, ...] = ()
    degraded: tuple[str, ...] = ()
    gap_records: int = 0
    late_rooms: dict[str, int] = {}
    tier: str = ""
    tier_reason: str = ""
    followees_left_out: int = 0
    cursor: str | None = None
    timings_ms: dict[str, float] = {}
    cpu_ms: dict[str, float] = {}
