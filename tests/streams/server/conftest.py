"""A real server on a loopback port over a made-up engine and an in-memory log, and clients that speak to it."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import aiohttp
import jwt
import numpy as np
import orjson
import pytest
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from config.serving import ServingConfig
from engine.feed import Dropped, Entry, Explain, Factor, Feed, Request, SourceHit, Why
from engine.home_mixer.config import HomeMixerConfig
from engine.models.state import ModelInForce
from engine.social_graph.state import Refusal, SocialGraph, SocialGraphConfig
from engine.tweet_store.state import TweetStore, TweetStoreConfig
from streams.durable.origin import Origin
from streams.events.identity import Identities
from streams.live.service import Readiness, SocialActs, SocialAnswer, Viewer
from streams.log.interface import (
    EventLog,
    LogIdentity,
    LogUnavailableError,
    NewRecord,
    RecordTooLargeError,
    Tail,
    TopicPartition,
)
from streams.reading.aggregates import AuthorAggregates
from streams.reading.concerns import Audience, Concern, Concerned, find_concerned, joined
from streams.reading.reputation import AccountReputation
from streams.server.application import RunningServer, build_app, start_server

SECRET = "a secret of more than thirty-two bytes"
SUBPROTOCOL = "murmuration.v1.json"
T0 = 1_760_000_000_000
#: A busy machine is no failure.
PATIENCE_S = 60.0
_SMALL = {"tweets_max": 64, "stubs_max": 64, "text_bytes_max": 4096}


class FakeLog(EventLog):
    """Keeps records in lists; ``fail`` makes appends raise, ``hold`` makes them wait."""

    def __init__(self) -> None:
        self.records: dict[str, list[NewRecord]] = {}
        self.fail: Exception | None = None
        self.hold: asyncio.Event | None = None
        self.appends = 0
        self.partition_count = 1
        self.record_bytes_max = 1_000_000

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def identity(self) -> LogIdentity:
        return LogIdentity("fake", {})

    async def ensure_topics(self, partitions: Mapping[str, int]) -> None: ...

    async def partitions(self, topic: str) -> int:
        return self.partition_count

    async def append(self, topic: str, records: Sequence[NewRecord]) -> list[tuple[int, int]]:
        if self.hold is not None:
            await self.hold.wait()
        if self.fail is not None:
            raise self.fail
        if any(len(record.value) > self.record_bytes_max for record in records):
            raise RecordTooLargeError("a record is over the limit")
        self.appends += 1
        kept = self.records.setdefault(topic, [])
        start = len(kept)
        kept.extend(records)
        return [(0, start + i) for i in range(len(records))]

    async def tail(self, positions: Mapping[TopicPartition, int], *, follow_new: bool = False) -> Tail:
        raise LogUnavailableError("not in this fake")

    async def start_offsets(self, topic: str) -> dict[int, int]:
        return {0: 0}

    async def end_offsets(self, topic: str) -> dict[int, int]:
        return {0: len(self.records.get(topic, []))}

    async def offsets_for_time(self, topic: str, time_ms: int) -> dict[int, int]:
        return {0: 0}

    async def apply_retention(self, topic: str, *, before_ms: int) -> dict[int, int]:
        return {0: 0}

    def events(self, topic: str) -> list[dict[str, Any]]:
        """The JSON events of a topic."""
        return [orjson.loads(record.value) for record in self.records.get(topic, [])]


class FakeService:
    """Feeds of made-up tweets: ``tweets`` are the ids; bump the version with ``change``."""

    origin = Origin("00c0ffee00c0ffee", 77)
    home_mixer = HomeMixerConfig()

    def __init__(self) -> None:
        self._version = 7
        self.positions: dict[TopicPartition, int] = {}
        self.tweets = [101, 102, 103]
        self.text = "a tweet"
        self.requests: list[Request] = []
        #: Requests for single entries; ``retweets``: whether the tweets that they name are retweets.
        self.named_requests: list[Request] = []
        self.retweets = False
        self.fail: Exception | None = None
        self.gate: asyncio.Event | None = None
        self.running = 0
        self.running_max = 0
        self.is_ready = True
        self.caught_up = False
        self.is_alive = True
        self.time_ms = T0
        #: Who follows, blocks and mutes whom; tests apply to it what they want.
        self.social = SocialGraph(SocialGraphConfig(users_max=512, edges_max=1024, list_entries_max=2048))
        self.rooms = SimpleNamespace(social_graph=self.social, tweet_store=TweetStore(TweetStoreConfig(**_SMALL)))
        #: What nobody has waited for yet.
        self.concerns: list[Concern] = []
        #: The keys of events that count as applied.
        self.applied: set[tuple[int, ...]] = set()
        self._changed = asyncio.Event()

    @property
    def version(self) -> int:
        return self._version

    def change(self, tweets: list[int] | None = None, /, **concern: Any) -> None:
        """A new version, with other tweets if given; it concerns everybody, or whom ``concern`` (the fields of
        ``Concern``) says."""
        self._version += 1
        if tweets is not None:
            self.tweets = tweets
        fields = {name: np.array(ids, np.uint64) if isinstance(ids, list) else ids for name, ids in concern.items()}
        self.concerns.append(Concern(self._version, **(fields or {"everybody": True})))
        self._changed.set()
        self._changed = asyncio.Event()

    def now_ms(self) -> int:
        return self.time_ms

    def readiness(self) -> Readiness:
        reason = "caught up" if self.is_ready else "12 records behind"
        return Readiness(self.is_ready, reason, {"tweets-0": 12}, self.caught_up)

    def alive(self) -> bool:
        return self.is_alive

    async def judge_social(self, acts: SocialActs) -> list[SocialAnswer]:
        refusals, adds = self.social.refusals(*acts).tolist()
        return [
            ((Refusal(why).name.lower(), "more than there may be") if why else None, bool(one))
            for why, one in zip(refusals, adds, strict=True)
        ]

    async def viewers(self, limit: int) -> list[Viewer]:
        return [Viewer(2**64 - 1 - i, 3, 9) for i in range(limit)]

    async def models(self) -> list[ModelInForce]:
        return [ModelInForce("reputation", 2**64 - 1, 34, b"\xab" * 32, T0 - 5, T0, T0 + 5, b'{"residual":0.5}')]

    async def reputation(self, user_id: int) -> AccountReputation:
        if user_id == 42:
            return AccountReputation(42, 61, 0.25, False, 1000, 870, T0, self._version)
        return AccountReputation(user_id, 17, 0.0, True, 0, 0, 0, self._version)

    async def aggregates(self, user_id: int) -> AuthorAggregates:
        counts = {"favorite": 1.5, "report": 0.0}
        return AuthorAggregates(user_id, T0, 1_800_000, 86_400_000, counts, {"favorite": 2.5}, self._version)

    async def known(self, events: Identities) -> list[bool]:
        return [key in self.applied for key in events.as_tuples()]

    def listen(self, on: bool) -> None:
        """Every change is told."""

    async def wait_concern(self, timeout_s: float) -> Concern | None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while not self.concerns:
                    await self._changed.wait()
        concerns, self.concerns = self.concerns, []
        return joined(concerns) if concerns else None

    async def concerned(self, concern: Concern, audience: Audience, shown: NDArray[np.uint64]) -> Concerned:
        return find_concerned(self.rooms, concern, audience, shown)  # type: ignore[arg-type]

    async def answer_named(
        self, requests: Sequence[Request], finish: Callable[[Sequence[Feed]], Any]
    ) -> tuple[Any, bool]:
        self.named_requests += requests
        version, shown = self._version, [t for t in requests[0].only if t in self.tweets]
        await asyncio.sleep(0)
        if self.fail is not None:
            raise self.fail
        return finish([make_feed(one, version, shown, self.text) for one in requests]), self.retweets

    async def answer(self, request: Request, finish: Callable[[Feed], Any]) -> Any:
        self.requests.append(request)
        version, tweets = self._version, self.tweets
        self.running += 1
        self.running_max = max(self.running_max, self.running)
        try:
            if self.gate is not None:
                await self.gate.wait()
            else:
                await asyncio.sleep(0)
            if self.fail is not None:
                raise self.fail
            return finish(make_feed(request, version, tweets, self.text))
        finally:
            self.running -= 1


def make_feed(request: Request, version: int, tweets: Sequence[int], text: str = "a tweet") -> Feed:
    """The feed the fake gives: the tweets that are not excluded, in order."""
    why = Why(
        sources=(SourceHit("followees", 0.5, 0),),
        social_proof={"retweet": (), "favorite": (9, 2**64 - 1)},
        scores={"walk": 0.25, "recency": 0.5},
        factors=(Factor("author_diversity", 0.5),),
        filters_passed=("own", "seen"),
    )
    kept = [tweet for tweet in tweets if tweet not in request.exclude][: request.limit]
    entries = tuple(
        Entry(
            tweet_id=tweet,
            author_id=2**63 + 1,
            created_ms=T0 - 1000,
            text=text,
            position=i,
            score=0.375,
            in_network=True,
            counts={"reply": 1, "favorite": 3, "quote": 0, "retweet": 2},
            why=None if request.explain is Explain.NONE else why,
        )
        for i, tweet in enumerate(kept)
    )
    return Feed(
        request_id=request.request_id,
        viewer_id=request.viewer_id,
        product=request.product,
        version=version,
        seed=request.seed,
        time_ms=request.time_ms,
        config_hash="c0ffee",
        model_version="blend-1",
        entries=entries,
        dropped=(Dropped(55, "seen", ("followees",)),) if request.explain is Explain.ALL else (),
        cursor="next",
        timings_ms={"total": 0.5},
    )


class Socket:
    """A websocket client of the tests: JSON in, JSON out, heartbeats put aside."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self.ws = ws

    async def send(self, **frame: Any) -> None:
        await self.ws.send_str(orjson.dumps(frame).decode())

    async def receive(self, timeout_s: float = PATIENCE_S, *, heartbeats: bool = False) -> dict[str, Any]:
        """The next frame; a close raises EOFError with its code."""
        while True:
            message = await self.ws.receive(timeout_s)
            if message.type is aiohttp.WSMsgType.TEXT:
                frame: dict[str, Any] = orjson.loads(message.data)
                if heartbeats or frame["type"] != "heartbeat":
                    return frame
            else:
                raise EOFError(self.ws.close_code)

    async def ask(self, **frame: Any) -> dict[str, Any]:
        await self.send(**frame)
        return await self.receive()

    async def close_code(self) -> int | None:
        """Read until the close; its code."""
        with contextlib.suppress(EOFError):
            while True:
                await self.receive()
        return self.ws.close_code


class Site:
    """A running server and what is behind it."""

    def __init__(self, server: RunningServer, service: FakeService, log: FakeLog, registry: CollectorRegistry) -> None:
        self.server = server
        self.service = service
        self.log = log
        self.registry = registry
        self.http = aiohttp.ClientSession()
        self.url = server.url

    def metric(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"murmuration_{name}", labels) or 0.0

    @contextlib.asynccontextmanager
    async def socket(self, query: str = "?viewer=42", *, hello: bool = True, **options: Any) -> AsyncIterator[Socket]:
        options.setdefault("protocols", (SUBPROTOCOL,))
        async with self.http.ws_connect(f"{self.url}/v1/feed{query}", max_msg_size=0, **options) as ws:
            socket = Socket(ws)
            if hello:
                assert (await socket.receive())["type"] == "hello"
            yield socket

    async def get(self, path: str, **options: Any) -> tuple[int, Any]:
        async with self.http.get(self.url + path, **options) as response:
            return response.status, orjson.loads(await response.read())

    async def post(self, body: Any, path: str = "/v1/events", **options: Any) -> tuple[int, Any]:
        async with self.http.post(self.url + path, data=body, **options) as response:
            return response.status, orjson.loads(await response.read())

    async def until(self, condition: Callable[[], Any], timeout_s: float = PATIENCE_S) -> None:
        """Wait for something that becomes true without a signal."""
        async with asyncio.timeout(timeout_s):
            while not condition():
                await asyncio.sleep(0.005)

    @staticmethod
    def token(
        sub: Any = "42", *, key: str = SECRET, algorithm: str = "HS256", expires_s: float | None = 60, **claims: Any
    ) -> str:
        """A signed token of a viewer; claims that are None are left out."""
        expires = None if expires_s is None else time.time() + expires_s
        claims = {"sub": sub, "exp": expires, **claims}
        return jwt.encode({k: v for k, v in claims.items() if v is not None}, key, algorithm=algorithm)

    @staticmethod
    def bearer(made: str) -> dict[str, str]:
        """The header that carries a token."""
        return {"Authorization": f"Bearer {made}"}


@contextlib.asynccontextmanager
async def running_sites() -> AsyncIterator[Callable[..., Any]]:
    """A function that starts servers; they stop with the block."""
    sites: list[Site] = []

    async def _start(clock: Callable[[], float] = time.monotonic, **settings: Any) -> Site:
        settings = {"port": 0, "push_interval_ms_min": 10, "drain_timeout_s": 2.0, **settings}
        service, log, registry = FakeService(), FakeLog(), CollectorRegistry()
        app = build_app(
            ServingConfig(**settings),
            service,
            log,
            registry=registry,
            config_view={"config": {"serving": {"token_key": "***"}}, "hash": "c0ffee"},
            clock=clock,
        )
        sites.append(Site(await start_server(app), service, log, registry))
        return sites[-1]

    try:
        yield _start
    finally:
        for site in sites:
            await site.http.close()
            await site.server.stop()


@pytest.fixture
async def start() -> AsyncIterator[Callable[..., Any]]:
    """Start servers with settings of the test's choice; they stop with it."""
    async with running_sites() as starter:
        yield starter


@pytest.fixture
def open_sites() -> Callable[..., Any]:
    """``running_sites``, for tests that bring their own event loop."""
    return running_sites


@pytest.fixture
async def site(start: Callable[..., Any]) -> Site:
    """A server in open mode with the defaults."""
    made: Site = await start()
    return made


@pytest.fixture
def feed_of() -> Callable[..., Feed]:
    """``make_feed``, for tests that need a feed and no server."""
    return make_feed


@pytest.fixture
def fake_log() -> FakeLog:
    return FakeLog()
