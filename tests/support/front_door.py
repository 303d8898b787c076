"""A running engine and server in the test's own process, used as a stranger would: events over HTTP, feeds back.

Tests share one server. Each takes a ``World`` of its own, which turns small numbers into ids that no other test uses.
So tests share only what is common to all people: what is popular.
"""

import asyncio
import io
import json
import time
from collections.abc import Callable, Coroutine, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from config.schema import Config
from config.serving import DurableConfig, IngestConfig, LogConfig, ServingConfig
from engine.rooms import RoomsConfig, small_rooms
from streams.events.dead_letters import DeadLetter, decode_dead_letter
from streams.live.wiring import wait_applied
from streams.log.interface import NewRecord, TopicPartition
from streams.serve import Running, running

HOUR = 3_600_000
DAY = 24 * HOUR
PRODUCTS = ("for_you", "following")
#: Ids of a world: its number times this, plus the small number.
SPAN = 1_000_000
PATIENCE_S = 60.0


def settings(folder: Path, rooms: RoomsConfig | None = None, **serving: Any) -> Config:
    """A configuration for tests: small rooms, an embedded log in the folder, no limits that a test meets by chance."""
    return Config(
        log=LogConfig(url=f"sqlite:///{folder / 'events.db'}"),
        ingest=IngestConfig(batch_events_max=256, poll_timeout_s=0.02),
        durable=DurableConfig(),
        serving=ServingConfig(
            **{"port": 0, "push_interval_ms_min": 10, "requests_per_s_max": 100_000, "limit_max": 1000} | serving
        ),
        rooms=small_rooms(1 << 13) if rooms is None else rooms,
    )


class Front:
    """A server and the event loop that it runs in. The loop runs while a test waits for an answer."""

    def __init__(self, config: Config, *, accept_gap: bool = False) -> None:
        self.config = config
        self.accept_gap = accept_gap
        self._runner = asyncio.Runner()
        self._worlds = count(1)
        self._ids = count(1 << 50)
        self._instance: Running
        self._http: aiohttp.ClientSession
        self._end: asyncio.Event
        self._life: asyncio.Task[None] | None = None
        try:
            self.start()
        except BaseException:
            self._runner.close()
            raise

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run to the end."""
        return self._runner.run(work)

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        self.do(self._start())

    def stop(self) -> None:
        """Tell the server to stop, as SIGTERM does, and wait for its end."""
        self.do(self._stop())

    def close(self) -> None:
        """Stop for good."""
        if self._life is not None:
            self.stop()
        self._runner.close()

    def restart(self) -> None:
        """Stop and start again from the same folder."""
        self.stop()
        self.start()

    async def _start(self) -> None:
        started, self._end = asyncio.get_running_loop().create_future(), asyncio.Event()

        async def live() -> None:
            try:
                async with (
                    running(self.config, accept_gap=self.accept_gap) as instance,
                    aiohttp.ClientSession() as http,
                ):
                    started.set_result((instance, http))
                    await self._end.wait()
            except BaseException as error:
                if started.done():
                    raise
                started.set_exception(error)

        self._life = asyncio.create_task(live())
        try:
            self._instance, self._http = await started
        except BaseException:
            self._life = None
            raise
        await self.applied()

    async def _stop(self) -> None:
        assert self._life is not None
        self._end.set()
        await self._life
        self._life = None

    @property
    def engine(self) -> Any:
        """The live engine, for what the front door does not show."""
        return self._instance.engine

    @property
    def url(self) -> str:
        return self._instance.url

    def new_id(self) -> int:
        """An id for an event."""
        return next(self._ids)

    def world(self) -> "World":
        """People and tweets for one test."""
        return World(self, next(self._worlds) * SPAN)

    async def applied(self) -> None:
        """Wait until everything that is in the log was applied."""
        await wait_applied(self._instance.engine, self._instance.event_log, timeout_s=PATIENCE_S)

    async def post(self, body: bytes, **options: Any) -> tuple[int, dict[str, Any]]:
        """``POST /v1/events``; status and answer."""
        async with self._http.post(f"{self.url}/v1/events", data=io.BytesIO(body), **options) as answer:
            found = await answer.json()
        await self.applied()
        return answer.status, found

    async def get(self, path: str, **query: Any) -> tuple[int, Any]:
        """Status and answer of a call."""
        params = {name: str(value) for name, value in query.items() if value is not None}
        async with self._http.get(self.url + path, params=params) as answer:
            return answer.status, await answer.json()

    async def append(self, topic: str, *records: NewRecord) -> list[tuple[int, int]]:
        """Past the front door, into the log, in this order; waits until they were applied. Returns their places."""
        places: list[tuple[int, int]] = await self._instance.event_log.append(topic, list(records))
        await self.applied()
        return places

    async def letters(self, topic: str | None = None, place: tuple[int, int] = (0, 0)) -> list[DeadLetter]:
        """All dead letters; with ``topic``, those of its record with this partition and offset."""
        event_log = self._instance.event_log
        starts = await event_log.start_offsets("dead-letters")
        left = sum((await event_log.end_offsets("dead-letters")).values()) - sum(starts.values())
        found: list[DeadLetter] = []
        async with await event_log.tail({TopicPartition("dead-letters", p): at for p, at in starts.items()}) as tail:
            while len(found) < left:
                runs = await tail.poll(records_max=1000, timeout_s=1.0)
                found += [decode_dead_letter(value) for run in runs for value in run.values]
        return [d for d in found if topic is None or (d.topic, d.partition, d.offset) == (topic, *place)]

    def connect(self, viewer_id: int) -> Any:
        """A websocket of a viewer."""
        return self._http.ws_connect(f"{self.url}/v1/feed?viewer={viewer_id}", protocols=("murmuration.v1.json",))


class World:
    """What one test says and asks, in small numbers. Events wait until ``publish``; ``now`` is the world's T in ms."""

    def __init__(self, front: Front, base: int) -> None:
        self.front = front
        self.base = base
        self.now = int(time.time() * 1000)
        self._events: list[dict[str, Any]] = []

    # Saying

    def event(self, kind: str, *, at: int = 0, event_id: int | None = None, **fields: Any) -> dict[str, Any]:
        """An event at T + ``at`` ms; fields that end in ``_id`` are small numbers. It waits for ``publish``."""
        ids = {name: str(self.base + value) for name, value in fields.items() if name.endswith("_id") and value}
        number = self.front.new_id() if event_id is None else self.base + event_id
        made = {"v": 1, "id": str(number), "type": kind, "timestamp_ms": self.now + at, **fields, **ids}
        self._events.append(made)
        return made

    def follow(self, one: int, *others: int, **options: Any) -> None:
        for other in others:
            self.event("follow", user_id=one, target_id=other, **options)

    def relate(self, kind: str, one: int, other: int, **options: Any) -> None:
        """Follow, block, mute and their undoing."""
        self.event(kind, user_id=one, target_id=other, **options)

    def create(self, tweet: int, by: int, text: str = "a plain tweet", **options: Any) -> None:
        """``retweets``, ``quotes``, ``answers``: the tweet that it carries, quotes or answers."""
        names = {"retweets": "retweeted_id", "quotes": "quoted_id", "answers": "reply_to_id"}
        fields = {names.get(name, name): value for name, value in options.items()}
        self.event("create", tweet_id=tweet, author_id=by, text=text, **fields)

    def delete(self, tweet: int, by: int, **options: Any) -> None:
        self.event("delete", tweet_id=tweet, author_id=by, **options)

    def act(self, kind: str, one: int, tweet: int, **options: Any) -> None:
        """An engagement."""
        self.event(kind, user_id=one, tweet_id=tweet, **options)

    def user(self, one: int, **options: Any) -> None:
        """A profile."""
        self.event("user", user_id=one, **options)

    def word(self, one: int, word: str, kind: str = "mute_word", **options: Any) -> None:
        self.event(kind, user_id=one, word=word, **options)

    def publish(self, *, accepted: bool = True) -> list[dict[str, Any]]:
        """Send what waits over HTTP, in this order, and wait until it was applied; the results by line."""
        events, self._events = self._events, []
        return self.send(b"\n".join(json.dumps(event).encode() for event in events), accepted=accepted)

    def publish_one_by_one(self) -> None:
        """As ``publish``, each event in a request of its own, so that the order across topics is kept."""
        events, self._events = self._events, []
        for event in events:
            self.send(json.dumps(event).encode())

    def send(self, body: bytes, *, accepted: bool = True) -> list[dict[str, Any]]:
        """Send a body as it is."""
        status, answer = self.front.do(self.front.post(body))
        assert status == 200, answer
        if accepted:
            assert answer["rejected"] == 0, answer
        results: list[dict[str, Any]] = answer["results"]
        return results

    def append(self, topic: str, *values: bytes | dict[str, Any], **fields: Any) -> list[tuple[int, int]]:
        """Records straight into the log. A dictionary is an event of ``event``, taken from what waits."""
        records = []
        for value in values:
            if isinstance(value, dict):
                self._events.remove(value)
                value = json.dumps(value).encode()
            records.append(NewRecord(value=value, **fields))
        places: list[tuple[int, int]] = self.front.do(self.front.append(topic, *records))
        return places

    def letters(self) -> list[DeadLetter]:
        """The dead letters of all worlds."""
        found: list[DeadLetter] = self.front.do(self.front.letters())
        return found

    def letter(self, topic: str, place: tuple[int, int]) -> DeadLetter:
        """The dead letter of a record."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            found: list[DeadLetter] = self.front.do(self.front.letters(topic, place))
            if found:
                assert len(found) == 1
                return found[0]
        raise AssertionError("there is no dead letter")

    # Asking

    def feed(self, viewer: int, product: str = "for_you", **query: Any) -> dict[str, Any]:
        """A feed over HTTP with all explanations."""
        query = {"product": product, "limit": 1000, "explain": "all"} | query
        status, feed = self.front.do(self.front.get(f"/v1/users/{self.base + viewer}/feed", **query))
        assert status == 200, feed
        return dict(feed)

    def small(self, ids: Sequence[str | int]) -> list[int]:
        """The small numbers of ids of this world; other worlds' ids are left out."""
        return [int(i) - self.base for i in ids if 0 < int(i) - self.base < SPAN]

    def shown(self, viewer: int, product: str, **query: Any) -> list[int]:
        """The tweets of a feed, in its order."""
        return self.small([entry["tweet_id"] for entry in self.feed(viewer, product, **query)["entries"]])

    def sees(self, viewer: int, tweet: int) -> bool:
        """Whether both products show the tweet; asking whether only one of them does is a failure of its own."""
        found = {product: tweet in self.shown(viewer, product) for product in PRODUCTS}
        assert len(set(found.values())) == 1, found
        return found["for_you"]

    def sees_none(self, viewer: int, *tweets: int) -> bool:
        """Whether no product, no page and no push shows any of the tweets."""
        shown = {(product, tweet) for product in PRODUCTS for tweet in self.shown(viewer, product)}
        shown |= {("push", tweet) for product in PRODUCTS for tweet in self.pushed(viewer, product)}
        bad = sorted(pair for pair in shown if pair[1] in tweets)
        assert not bad, bad
        return True

    def why_not(self, viewer: int, tweet: int, product: str = "for_you", **query: Any) -> str:
        """The reason that dropped a candidate; "" where it is no candidate, "shown" where it is an entry."""
        feed = self.feed(viewer, product, **query)
        if tweet in self.small([entry["tweet_id"] for entry in feed["entries"]]):
            return "shown"
        return next((d["filter"] for d in feed["dropped"] if int(d["tweet_id"]) == self.base + tweet), "")

    def entry(self, viewer: int, tweet: int, product: str = "for_you") -> dict[str, Any]:
        """An entry of a feed."""
        entries = self.feed(viewer, product)["entries"]
        return next(dict(entry) for entry in entries if int(entry["tweet_id"]) == self.base + tweet)

    def proof(self, viewer: int, tweet: int, product: str = "for_you") -> set[int]:
        """The people whom an entry names."""
        proof = self.entry(viewer, tweet, product)["why"]["social_proof"]
        return {person for people in proof.values() for person in self.small(people)}

    def pages(self, viewer: int, product: str, size: int, between: Callable[[], None] = lambda: None) -> list[int]:
        """All pages of a feed; ``between`` happens after the first."""
        shown: list[int] = []
        cursor = None
        for page in range(1000):
            feed = self.feed(viewer, product, limit=size, cursor=cursor)
            shown += self.small([entry["tweet_id"] for entry in feed["entries"]])
            cursor = feed.get("cursor")
            if cursor is None:
                return shown
            if page == 0:
                between()
        raise AssertionError("the feed does not end")

    def pushed(self, viewer: int, product: str = "for_you") -> list[int]:
        """The tweets of a subscription's first push."""

        async def listen() -> list[str]:
            async with self.front.connect(self.base + viewer) as socket:
                await socket.send_json({"type": "subscribe", "product": product, "interval_ms": 10, "limit": 1000})
                while True:
                    frame = msgspec.json.decode((await socket.receive(PATIENCE_S)).data)
                    if frame["type"] == "new_tweets":
                        return [entry["tweet_id"] for entry in frame["entries"]]

        return self.small(self.front.do(listen()))

    def query(self, name: str, **query: Any) -> dict[str, Any]:
        """An answer of a graph query. Parameters that name people or tweets are small numbers, or lists of them."""
        for key in ("user", "users", "tweet", "tweets", "seeds", "author", "authors", "more", "exclude"):
            if key in query:
                value = query[key]
                values = value if isinstance(value, list | tuple) else [value]
                query[key] = ",".join(str(self.base + v) for v in values)
        status, answer = self.front.do(self.front.get(f"/v1/graph/{name}", **query))
        return {"status": status, **answer}

    def named(self, answer: dict[str, Any]) -> set[int]:
        """Every tweet and person of this world that the results of a graph query name, whatever the query."""
        found: set[int] = set()

        def walk(value: Any) -> None:
            if isinstance(value, dict):
                for inner in value.values():
                    walk(inner)
            elif isinstance(value, list):
                for inner in value:
                    walk(inner)
            elif isinstance(value, str) and value.isdigit():
                found.update(self.small([value]))

        walk(answer.get("results", []))
        return found
