"""A made-up engine behind the real server, for tests of the page in a browser.

The engine ranks a society's tweets by what they really are worth to the viewer and applies what the page puts in the
log, so that each press has an answer to be seen.
"""

import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry, Gauge, Histogram
from prometheus_client import Counter as Count

from config.serving import LogConfig, ServingConfig
from engine.feed import (
    Dropped,
    Entry,
    Explain,
    Factor,
    Feed,
    PersonEntry,
    Product,
    Reason,
    Request,
    SourceHit,
    Why,
)
from engine.home_mixer.config import HomeMixerConfig
from engine.motifs.state import Motif
from engine.notifications.judge import Judged, Verdict
from loadtest.society.society import Society
from streams.durable.origin import Origin
from streams.events.publish import classify
from streams.live.service import Readiness, SocialActs, SocialAnswer, Viewer
from streams.log import open_log
from streams.reading.concerns import NOBODY, Audience, Concern, Concerned
from streams.reading.reputation import AccountReputation
from streams.server.application import RunningServer, build_app, start_server

ENGAGING = ("favorite", "retweet", "reply", "quote")
FILTERS = ("blocked", "own", "duplicate", "too_old", "seen", "engaged", "rejected")


def engine_metrics() -> CollectorRegistry:
    """Some of the engine's metrics, as a start leaves them (docs/metrics.md)."""
    registry = CollectorRegistry()
    Count("murmuration_events", "", ["topic", "result"], registry=registry).labels("tweets", "applied").inc(3000)
    fill = Gauge("murmuration_room_fill_ratio", "", ["room", "what"], registry=registry)
    for room, what, share in (
        ("tweet_store", "tweets", 0.42),
        ("tweet_store", "text", 0.1),
        ("signals", "people", 0.004),
    ):
        fill.labels(room, what).set(share)
    Gauge("murmuration_room_bytes", "", ["room"], registry=registry).labels("tweet_store").set(123e6)
    fresh = Histogram("murmuration_append_freshness_seconds", "", buckets=(0.001, 0.01, 0.1), registry=registry)
    for _ in range(100):
        fresh.observe(0.005)
    return registry


class SmallEngine:
    """A FeedService over a society: every tweet a candidate, scored by recency and by the viewer's true affinity."""

    origin = Origin("", 0)
    home_mixer = HomeMixerConfig()

    def __init__(self, society: Society) -> None:
        self.society = society
        self.version = 1000
        self.positions: dict = {}
        self.past: list[dict] = []
        self._changed = asyncio.Event()
        self._told = self.version
        #: Events that no concern has told of.
        self._untold: list[dict] = []
        self.reset()

    def reset(self) -> None:
        """Forget what happened after the society's past."""
        self.tweets = list(self.past)
        self._untold.clear()
        #: Acts by kind and tweet ("favorite 77").
        self.counts: Counter[str] = Counter()
        #: Pairs of viewer and tweet.
        self.engaged: set[tuple[int, int]] = set()
        self.rejected: set[tuple[int, int]] = set()
        #: Pairs of viewer and author; ``ties`` where it differs from the society's.
        self.ties: dict[tuple[int, int], bool] = {}
        self.blocked: set[tuple[int, int]] = set()
        self.muted: set[tuple[int, int]] = set()
        self.words: set[tuple[int, str]] = set()
        self.dismissed: set[tuple[int, int]] = set()
        self.fail: Exception | None = None
        self.ready = True
        #: This often it says that it is not ready, before it is.
        self.not_ready_times = 0

    def now_ms(self) -> int:
        return int(time.time() * 1000)

    def readiness(self) -> Readiness:
        if self.not_ready_times:
            self.not_ready_times -= 1
            return Readiness(False, "12 records behind", {})
        return Readiness(self.ready, "caught up" if self.ready else "12 records behind", {}, self.ready)

    def alive(self) -> bool:
        return True

    async def judge_motifs(self, motifs: Sequence[Motif]) -> list[Judged]:
        return [Judged(Verdict.ALLOWED, motif.actor_ids, 0, "<b>Look</b> at that") for motif in motifs]

    async def judge_social(self, acts: SocialActs) -> list[SocialAnswer]:
        return [(None, True)] * len(acts.kind)

    async def viewers(self, limit: int) -> list[Viewer]:
        ids = self.society.viewer_ids(limit)
        return [Viewer(v, 40 + v % 7, 300 - 9 * i) for i, v in enumerate(ids)]

    async def reputation(self, user_id: int) -> AccountReputation:
        return AccountReputation(user_id, 61, 0.001, False, 1000, 870, 1_760_000_000_000, self.version)

    async def known(self, events: Any) -> list[bool]:
        return [False] * len(events.kind)

    def listen(self, on: bool) -> None:
        """Every change is told."""

    async def wait_concern(self, timeout_s: float) -> Concern | None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self.version <= self._told:
                    await self._changed.wait()
        if self.version <= self._told:
            return None
        self._told, events, self._untold = self.version, self._untold, []
        if not events or {event["type"] for event in events} - {"create", "delete", "edit"}:
            return Concern(self.version, everybody=True)
        pairs = {(int(event["tweet_id"]), int(event["author_id"])) for event in events if event["type"] != "delete"}
        written = np.array(sorted(pairs), np.uint64).reshape(-1, 2).T
        touched = sorted({int(event["tweet_id"]) for event in events if event["type"] != "create"})
        return Concern(
            self.version, authors=np.unique(written[1]), tweets=np.array(touched, np.uint64), written=written
        )

    async def concerned(self, concern: Concern, audience: Audience, shown: np.ndarray) -> Concerned:
        """As ``find_concerned`` says it."""
        nobody = np.full(audience.size, NOBODY, np.int32)
        viewers = audience.people.keys[: audience.size].tolist()
        readers = {
            tweet: np.array(
                [at for at, who in enumerate(viewers) if author == who or self._follows(who, author)], np.int32
            )
            for tweet, author in concern.written.T.tolist()
        }
        written = nobody.copy()
        for places in readers.values():
            written[places] = 1
        bound = np.zeros(audience.size, np.bool_)
        return Concerned(nobody, written, nobody, bound, np.isin(shown, concern.tweets), readers)

    async def answer_named(self, requests: Sequence[Request], finish: Callable[[list[Feed]], Any]) -> Any:
        """Following of the tweets that the requests name."""
        return finish([self.feed(request) for request in requests]), False

    async def apply(self, bodies: list[dict]) -> None:
        """What the engine would do with events, as far as this page shows it."""
        for body in bodies:
            self._apply(body["type"], body)
        self.version += 1
        self._untold += bodies
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _apply(self, kind: str, body: dict) -> None:
        if kind == "create" and "reply_to_id" not in body:
            self.tweets = [*self.tweets[-399:], body]
        elif kind == "edit":
            own = {"text": body["text"]}
            self.tweets = [{**t, **own} if t["tweet_id"] == body["tweet_id"] else t for t in self.tweets]
        elif kind == "delete":
            self.tweets = [tweet for tweet in self.tweets if tweet["tweet_id"] != body["tweet_id"]]
        if kind.removeprefix("un") in ENGAGING:
            self.counts[f"{kind.removeprefix('un')} {body['tweet_id']}"] += -1 if kind.startswith("un") else 1
        if "tweet_id" in body and "user_id" in body:
            pair = (int(body["user_id"]), int(body["tweet_id"]))
            if kind in ENGAGING:
                self.engaged.add(pair)
            elif kind.removeprefix("un") in ENGAGING:
                self.engaged.discard(pair)
            elif kind == "not_interested":
                self.rejected.add(pair)
            elif kind == "undo_not_interested":
                self.rejected.discard(pair)
        sets = {"block": self.blocked, "mute": self.muted, "dismiss": self.dismissed}
        pairs = sets.get(kind.removeprefix("un"))
        if "target_id" in body:
            pair = (int(body["user_id"]), int(body["target_id"]))
            if pairs is not None:
                pairs.discard(pair) if kind.startswith("un") else pairs.add(pair)
            elif kind in ("follow", "unfollow"):
                self.ties[pair] = kind == "follow"
        elif "word" in body:
            word = (int(body["user_id"]), body["word"].lower())
            self.words.discard(word) if kind.startswith("un") else self.words.add(word)

    def _drop(self, viewer: int, tweet: dict, product: Product) -> str | None:
        pair, tie = (viewer, int(tweet["tweet_id"])), (viewer, int(tweet["author_id"]))
        if tie in self.blocked:
            return "blocked"
        if tie in self.muted:
            return "muted"
        if any(who == viewer and word in tweet["text"].lower() for who, word in self.words):
            return "muted_word"
        if int(tweet["author_id"]) == viewer:
            return "own"
        if product is Product.FOLLOWING:
            return None
        if pair in self.engaged:
            return "engaged"
        return "rejected" if pair in self.rejected else None

    def _follows(self, viewer: int, author: int) -> bool:
        world = self.society.world
        known = viewer <= world.count and world.follows.has((viewer - 1) * world.count + author - 1)
        return self.ties.get((viewer, author), known)

    async def answer(self, request: Request, finish: Callable[[Feed], Any]) -> Any:
        return finish(self.feed(request))

    def feed(self, request: Request) -> Feed:
        if self.fail is not None:
            raise self.fail
        if request.product is Product.WHO_TO_FOLLOW:
            return self._people(request)
        started = time.perf_counter()
        viewer, entries, dropped = request.viewer_id, [], []
        for tweet in self.tweets:
            tie = self._follows(viewer, int(tweet["author_id"]))
            if request.product is Product.FOLLOWING and not tie:
                continue
            sources = (("followees", float(tweet["timestamp_ms"])),) if tie else (("popular", 2.0),)
            if request.only and int(tweet["tweet_id"]) not in request.only:
                continue
            reason = self._drop(viewer, tweet, request.product)
            if reason:
                dropped.append(Dropped(int(tweet["tweet_id"]), reason, tuple(name for name, _ in sources)))
                continue
            entries.append(self._entry(request, tweet, tie, sources))
        by_time = request.product is Product.FOLLOWING
        entries.sort(key=lambda e: (-e.created_ms, -e.tweet_id) if by_time else (-e.score, e.tweet_id))
        start = int(request.cursor or 0)
        chosen = entries[start : start + request.limit]
        dropped += [Dropped(e.tweet_id, "not_selected", ("popular",)) for e in entries[start + request.limit :]]
        fields = ("tweet_id", "author_id", "created_ms", "text", "score", "in_network", "counts", "why")
        return Feed(
            request_id=request.request_id,
            viewer_id=viewer,
            product=request.product,
            version=self.version,
            seed=request.seed,
            time_ms=request.time_ms,
            config_hash="9f86d081884c7d65",
            model_version="blend-1",
            entries=tuple(
                Entry(**{f: getattr(e, f) for f in fields}, position=start + i) for i, e in enumerate(chosen)
            ),
            dropped=tuple(dropped) if request.explain is Explain.ALL else (),
            cursor=str(start + request.limit) if len(entries) > start + request.limit else None,
            timings_ms={
                "sources": 0.41,
                "hydrate": 0.22,
                "filter": 0.08,
                "score": 0.19,
                "select": 0.05,
                "wait": 0.02,
                "total": (time.perf_counter() - started) * 1000,
            },
        )

    def _people(self, request: Request) -> Feed:
        """Who to follow: the first people whom nothing keeps away."""
        viewer = request.viewer_id
        away = self.blocked | self.muted | self.dismissed | {(viewer, one) for one in (viewer, *request.exclude)}
        people = [one for one in range(1, 60) if (viewer, one) not in away and not self._follows(viewer, one)]
        followed = Reason(
            name="followed_by", text="followed by 7, 8 and 1 other whom you follow", people=(7, 8), count=3
        )
        reasons = (followed, Reason(name="circle", text="popular in your circle"))
        entries = tuple(
            PersonEntry(
                tweet_id=one, author_id=0, created_ms=0, text="", position=i, score=1.0, in_network=False,
                counts={"followers": 40 + one, "followees": 9}, reasons=reasons,
            )
            for i, one in enumerate(people[: request.limit])
        )  # fmt: skip
        return Feed(
            request_id=request.request_id, viewer_id=viewer, product=request.product, version=self.version,
            seed=request.seed, time_ms=request.time_ms, config_hash="9f86d081884c7d65", model_version="by-sources-1",
            entries=entries,
        )  # fmt: skip

    def _entry(self, request: Request, tweet: dict, tie: bool, sources) -> Entry:
        viewer, tweet_id = request.viewer_id, int(tweet["tweet_id"])
        counts = {kind: self.counts[f"{kind} {tweet_id}"] for kind in ("favorite", "retweet", "reply", "quote")}
        likes = counts["favorite"]
        try:
            affinity = self.society.affinity(viewer, tweet_id)
        except (KeyError, ValueError):
            affinity = 0.1
        parts = {
            "recency": 0.4 * 0.5 ** ((request.time_ms - tweet["timestamp_ms"]) / 3_600_000),
            "walk": affinity,
            "popularity": 0.02 * likes,
        }
        factors = () if tie else (Factor("out_of_network", 0.75),)
        score = sum(parts.values()) * (1.0 if tie else 0.75)
        hits = [SourceHit(name, value, 3) for name, value in sources]
        if affinity > 0.3:
            hits.append(SourceHit("walk_own", affinity / 40, int(40 * (1 - affinity))))
        proof = tuple(1 + (tweet_id + i) % 300 for i in range(likes % 4)) if tie else ()
        why = Why(
            sources=tuple(hits),
            social_proof={"favorite": proof, "retweet": ()},
            scores=parts,
            factors=factors,
            filters_passed=FILTERS,
        )
        return Entry(
            tweet_id=tweet_id,
            author_id=int(tweet["author_id"]),
            created_ms=tweet["timestamp_ms"],
            text=tweet["text"],
            position=0,
            score=score,
            in_network=tie,
            counts=counts,
            why=None if request.explain is Explain.NONE else why,
        )


class Site:
    """The engine, the server before it, and what the page put in the log."""

    def __init__(self, engine: SmallEngine, folder: Path) -> None:
        self.engine = engine
        self.log = open_log(LogConfig(url=f"sqlite:///{folder / 'log.db'}"))
        self.port = 0
        self.appended: list[dict] = []
        #: Of the running server; None while none runs.
        self.settings: dict[str, Any] | None = None
        self.server: RunningServer

    async def open(self) -> None:
        await self.log.open()
        topics = ("engagements", "relationships", "tweets", "users", "served", "notifications", "notification-wishes")
        await self.log.ensure_topics(dict.fromkeys(topics, 2))
        append = self.log.append

        async def note(topic, records):
            placed = await append(topic, records)
            if topic != "served":
                bodies = [json.loads(record.value) for record in records]
                self.appended += bodies
                await self.engine.apply(bodies)
            return placed

        self.log.append = note  # type: ignore[method-assign]
        await self.serve()

    async def serve(self, **settings: Any) -> None:
        """Serve on the same port as before, instead of the server that was there."""
        await self.stop()
        self.settings = settings
        app = build_app(
            ServingConfig(port=self.port, heartbeat_s=30.0, drain_timeout_s=0.5, **settings),
            self.engine,
            self.log,
            classify=classify,
            registry=engine_metrics(),
            config_view={},
        )
        self.server = await start_server(app)
        self.port = self.server.port

    async def stop(self) -> None:
        """Stop the server, if one runs."""
        if self.settings is not None:
            await self.server.stop()
        self.settings = None

    def written(self, kind: str) -> list[dict]:
        return [body for body in self.appended if body["type"] == kind]
