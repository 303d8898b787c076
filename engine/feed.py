"""A feed request and its answer: the engine's outer values (docs/protocol.md gives their JSON)."""

from enum import StrEnum

import msgspec


class Product(StrEnum):
    """The feeds that can be asked for."""

    FOR_YOU = "for_you"
    FOLLOWING = "following"


class Explain(StrEnum):
    """How much of its reasons a feed carries."""

    NONE = "none"
    ENTRIES = "entries"
    ALL = "all"


class Request(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a viewer asks. With the state version, the configuration hash and the model versions it determines the feed.

    ``time_ms`` is the request's own time; ``seed`` (64-bit) drives every random draw; ``sources_skipped`` names
    sources (and hydrators that safety does not rest on) that are not to be asked: with what an answer names as
    ``degraded`` skipped, the same feed comes out again.
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


class SourceHit(msgspec.Struct, frozen=True):
    """Where a candidate came from: the source's own score and the rank within it (0 = best)."""

    name: str
    score: float
    rank: int


class Factor(msgspec.Struct, frozen=True):
    """A multiplier applied to the score, by the component's name."""

    name: str
    factor: float


class Why(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why an entry is in the feed.

    ``social_proof`` lists followees who engaged, by kind; ``scores`` are the weighted parts, whose sum times
    the product of ``factors`` is the entry's score; ``filters_passed`` is in the order they ran.
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


class Dropped(msgspec.Struct, frozen=True):
    """A candidate that did not make it: the filter (or selector) that dropped it and the sources that brought it."""

    tweet_id: int
    filter: str
    sources: tuple[str, ...]


class Feed(msgspec.Struct, frozen=True, kw_only=True):
    """An answer.

    ``model_version`` is the product's own; ``models``: the versions in force of the models that came through the log,
    by name, as of ``version``. ``degraded`` names sources that failed or were skipped; ``gap_records`` counts the log's
    records that were lost before the state could apply them (0 unless a gap was accepted); ``late_rooms`` names the
    rooms that do not know the whole history, each with the event time since when it knows. ``timings_ms`` and
    ``cpu_ms`` (by stage: on the wall's clock, of the thread's CPU) are not part of what must be reproducible.
    ``cursor`` is None at the end.
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
    cursor: str | None = None
    timings_ms: dict[str, float] = {}
    cpu_ms: dict[str, float] = {}
