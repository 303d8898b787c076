"""What the server asks of the engine: the seam between websocket/HTTP and the state thread."""

from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

import msgspec

from engine.feed import Feed, Request
from engine.home_mixer.config import HomeMixerConfig
from engine.models.state import ModelInForce
from streams.durable.origin import Origin
from streams.log.interface import TopicPartition
from streams.reading.aggregates import AuthorAggregates
from streams.reading.graph_queries import GraphQuery
from streams.reading.reputation import AccountReputation

T = TypeVar("T")


class Readiness(msgspec.Struct, frozen=True):
    """Whether the state has caught up. ``reason`` says why not, in one line."""

    ready: bool
    reason: str
    lag_records: dict[str, int]


class Viewer(msgspec.Struct, frozen=True):
    """A person to try a feed for."""

    user_id: int
    followees: int
    engagements: int


class FeedService(Protocol):
    """Feeds from the live state. All methods are called on the event loop."""

    @property
    def origin(self) -> Origin:
        """Of every version; the record of a served feed names it."""

    @property
    def version(self) -> int:
        """The newest readable state version."""

    @property
    def positions(self) -> Mapping[TopicPartition, int]:
        """Next offsets to be applied."""

    @property
    def home_mixer(self) -> HomeMixerConfig:
        """What the products run with; graph queries take from it what they are not told."""

    def now_ms(self) -> int:
        """The time of a request that does not name one (``serving.clock``)."""

    def readiness(self) -> Readiness:
        """Whether feeds may be served."""

    def alive(self) -> bool:
        """Whether the state thread lives."""

    async def answer(self, request: Request, finish: Callable[[Feed], T]) -> T:
        """Compute a feed on the reader pool, and shape it there with ``finish``.

        Raises:
            RequestError: the request cannot be answered (named by ``code``; bad cursors too).
            SafetyError: a safety stage failed.
            CapacityError: the request queue is full.
        """

    async def query(self, query: GraphQuery) -> bytes:
        """Answer a query of the interaction graph on the reader pool, as JSON.

        Raises:
            RequestError: the query cannot be answered as asked (named by ``code``).
            CapacityError: too many queries wait.
        """

    async def viewers(self, limit: int) -> list[Viewer]:
        """The most active viewers, for people who want to look around."""

    async def models(self) -> list[ModelInForce]:
        """The models that came through the log: what is in force of each."""

    async def reputation(self, user_id: int) -> AccountReputation:
        """An account's reputation; the goodwill, marked as missing, where it has none.

        Raises:
            CapacityError: the request queue is full.
        """

    async def aggregates(self, user_id: int) -> AuthorAggregates:
        """How much people engage with an author's tweets, decayed to ``now_ms()``; zeros for one that is not known.

        Raises:
            CapacityError: the request queue is full.
        """

    async def wait_version(self, after: int, timeout_s: float) -> int:
        """Wait until the version is greater than ``after`` (or the time is over); returns the version."""
