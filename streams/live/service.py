"""The interface that the server uses: between websocket and HTTP on one side, and the engine on the other."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.feed import Feed, Request
from engine.home_mixer.config import HomeMixerConfig
from engine.models.state import ModelInForce
from engine.motifs.state import Motif
from engine.notifications.judge import Judged
from streams.durable.origin import Origin
from streams.events.identity import Identities
from streams.log.interface import TopicPartition
from streams.reading.aggregates import AuthorAggregates
from streams.reading.concerns import Audience, Concern, Concerned
from streams.reading.graph_queries import GraphQuery
from streams.reading.reputation import AccountReputation

T = TypeVar("T")


class Readiness(msgspec.Struct, frozen=True):
    """Whether the state has caught up with the log; ``reason`` says in one line why not.

    ``caught_up``: it had done so once, and nothing forbids to serve feeds that may be a little old.
    """

    ready: bool
    reason: str
    lag_records: dict[str, int]
    caught_up: bool = False


class Viewer(msgspec.Struct, frozen=True):
    """A person whose feed somebody may try."""

    user_id: int
    followees: int
    engagements: int


class SocialActs(NamedTuple):
    """n relationship events at an entrance, and how many of each person and kind were accepted before.

    ``kind`` uint8 (n), ``user_id`` and ``subject_id`` uint64 (n), ``group`` int64 (n): a number for each person and
    kind; ``waiting`` int64 (groups): events that were accepted and are not applied yet.
    """

    kind: NDArray[np.uint8]
    user_id: NDArray[np.uint64]
    subject_id: NDArray[np.uint64]
    group: NDArray[np.int64]
    waiting: NDArray[np.int64]


#: Of one event: the reason and detail of its refusal, if it is refused; whether it adds to what its person has.
SocialAnswer = tuple[tuple[str, str] | None, bool]


class FeedService(Protocol):
    """Feeds from the live state. All methods are called on the event loop."""

    @property
    def origin(self) -> Origin:
        """The history and incarnation of every version here; the record of a served feed names them."""

    @property
    def version(self) -> int:
        """The newest readable state version."""

    @property
    def positions(self) -> Mapping[TopicPartition, int]:
        """Next offsets to be applied."""

    @property
    def home_mixer(self) -> HomeMixerConfig:
        """The configuration of the products. Graph queries use it for every parameter that the caller left out."""

    def now_ms(self) -> int:
        """The time of a request that does not name one (``serving.clock``)."""

    def readiness(self) -> Readiness:
        """Whether feeds may be served."""

    def alive(self) -> bool:
        """Whether the state thread lives."""

    async def answer(self, request: Request, finish: Callable[[Feed], T]) -> T:
        """Compute a feed on the reader pool, and run ``finish`` on it there.

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

    async def judge_social(self, acts: SocialActs) -> list[SocialAnswer]:
        """What the social graph would refuse if these events were applied now, one after the other."""

    async def viewers(self, limit: int) -> list[Viewer]:
        """The most active viewers, most active first; whose feeds somebody may try."""

    async def models(self) -> list[ModelInForce]:
        """The version in force of each model that came through the log."""

    async def reputation(self, user_id: int) -> AccountReputation:
        """An account's reputation; for an account without one the goodwill, marked as missing.

        Raises:
            CapacityError: the request queue is full.
        """

    async def aggregates(self, user_id: int) -> AuthorAggregates:
        """How much people engage with an author's tweets, decayed to ``now_ms()``; zeros for one that is not known.

        Raises:
            CapacityError: the request queue is full.
        """

    async def known(self, events: Identities) -> list[bool]:
        """Which of these events repeat one that was applied and that the room ``deduplication`` still holds.

        Raises:
            CapacityError: the request queue is full.
        """

    def listen(self, on: bool) -> None:
        """Begin or end to note what applied pieces may change in feeds; nothing is known of the time between."""

    async def wait_concern(self, timeout_s: float) -> Concern | None:
        """What the pieces applied since the last call may change in feeds; None if nothing was within ``timeout_s``."""

    async def concerned(self, concern: Concern, audience: Audience, shown: NDArray[np.uint64]) -> Concerned:
        """Whom of the audience a concern means, and which of the ``shown`` tweets (uint64) it touches."""

    async def judge_motifs(self, motifs: Sequence[Motif]) -> Sequence[Judged]:
        """Whether the recipients of motifs may be told of them at present, and who of the actors may be named."""

    async def answer_named(
        self, requests: Sequence[Request], finish: Callable[[Sequence[Feed]], Sequence[T]]
    ) -> tuple[Sequence[T], bool]:
        """Compute feeds of the tweets that the requests name (``Request.only``, the same in all of them), at one
        version, and run ``finish`` on them; and whether one of these tweets retweets another.

        Raises:
            SafetyError: a safety stage failed.
            CapacityError: the request queue is full.
        """
