"""The live engine: state, writer thread and reader pool behind the interface that the server uses (``service``)."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from config.schema import Config, feed_hash
from engine.feed import Feed, Product, Request
from engine.home_mixer.config import HomeMixerConfig
from engine.home_mixer.products import build_products
from engine.home_mixer.same_feed import SameFeed
from engine.models.state import ModelInForce
from engine.motifs.state import Motif
from engine.notifications.judge import Judged, NotificationJudge
from engine.pipeline.execute import Pipeline
from engine.profiles.bits import Standing
from engine.social_graph.state import Refusal
from engine.state import EngineState
from streams.durable.origin import Origin
from streams.events.dead_letters import DeadLetter
from streams.events.decode import Decoder
from streams.events.identity import Identities
from streams.live.applier import Applier
from streams.live.candidates import CandidateWriter
from streams.live.keeper import Keeper
from streams.live.service import Readiness, SocialActs, SocialAnswer, Viewer
from streams.live.state_thread import StateThread
from streams.live.tail import CLOSE_TIMEOUT_S, Ingest
from streams.log.interface import EventLog, TopicPartition
from streams.reading.aggregates import AuthorAggregates, aggregates_of
from streams.reading.concerns import Audience, Concern, Concerned, Concerns, find_concerned
from streams.reading.graph_queries import GraphQuery, GraphService
from streams.reading.metrics import EngineMetrics
from streams.reading.readers import Readers
from streams.reading.reputation import AccountReputation, reputation_of
from streams.reading.state_lock import PhaseFairLock
from streams.recovery.effects import FoundMotif
from streams.recovery.recover import Recovered

T = TypeVar("T")


class LiveEngine:
    """State, writer thread and reader pool; implements ``service.FeedService``."""

    def __init__(self, config: Config, registry: CollectorRegistry, state: EngineState | None = None) -> None:
        self.config = config
        self.state = EngineState(config.rooms) if state is None else state
        self.lock = PhaseFairLock()
        self.metrics = EngineMetrics(registry)
        self.metrics.rooms.show(self.state.gauges())
        self.metrics.ready.set_function(lambda: self.readiness().ready)
        self.config_hash = feed_hash(config)
        self.products: Mapping[Product, Pipeline] = build_products(self.state, config.home_mixer, self.config_hash)
        self.readers = Readers(
            self.state,
            self.lock,
            self.products,
            self.metrics,
            readers=config.serving.readers,
            queue_max=config.serving.request_queue_max,
            source_deadline_s=config.serving.source_deadline_s,
        )
        self.graph = GraphService(self.state, self.readers, concurrent_max=max(1, config.serving.readers - 1))
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._published = asyncio.Event()
        self._concerns = Concerns()
        self._same_feed = SameFeed(self.state, config.home_mixer.followees_max)
        self._notifications = NotificationJudge(
            self.state, actors_min=config.rooms.motifs.actors_min, ages=config.home_mixer.signals
        )
        self.candidates: CandidateWriter | None = None
        self.ingest: Ingest | None = None
        self.state_thread: StateThread | None = None
        self.keeper: Keeper | None = None
        self._origin = Origin("", 0)

    def start(
        self, event_log: EventLog, recovered: Recovered, state_thread: Callable[..., StateThread] = StateThread
    ) -> tuple[Ingest, StateThread]:
        """Start the writer thread, which goes on where the recovery ended."""
        loop = asyncio.get_running_loop()
        self.ingest = ingest = Ingest(event_log, self.config.ingest, self.config.log, self.metrics)

        def on_dead(letters: list[DeadLetter]) -> None:
            loop.call_soon_threadsafe(ingest.on_dead, letters)

        if self.config.notifications.enabled:
            age_ms_max = 60_000 * self.config.notifications.age_minutes_max
            self.candidates = CandidateWriter(event_log, self.judge_motifs, self.metrics, age_ms_max=age_ms_max)

        def on_motifs(motifs: list[FoundMotif]) -> None:
            if self.candidates is not None:
                loop.call_soon_threadsafe(self.candidates.offer, motifs)

        applier = Applier(
            self.state,
            self.lock,
            Decoder(future_ms_max=self.config.ingest.future_ms_max),
            self.metrics,
            journal=recovered.journal,
            journal_sync=self.config.durable.journal_sync,
            on_dead=on_dead,
            on_motifs=on_motifs,
            concerns=self._concerns,
        )
        applier.positions.update(recovered.positions)
        if recovered.journal is not None:
            recovered.journal.note_models({str(p): pipeline.model_version for p, pipeline in self.products.items()})
        self.metrics.note_models(self.state.models.in_force())
        self._origin = recovered.origin
        self.state_thread = state_thread(
            applier,
            queue_max=self.config.ingest.queue_batches_max,
            on_applied=self._publish,
            on_failed=self._fail,
        )
        self.state_thread.start()
        return self.ingest, self.state_thread

    def _fail(self, error: BaseException) -> None:
        if not self.failed.done():
            self.failed.set_exception(error)

    def _publish(self) -> None:
        published, self._published = self._published, asyncio.Event()
        published.set()

    async def close(self) -> None:
        """End the threads; queued pieces are applied first."""
        if self.state_thread is not None:
            await self.state_thread.stop()
        if self.candidates is not None:
            await self.candidates.drain(CLOSE_TIMEOUT_S)
        await self.readers.close()
        if not self.failed.done():
            self.failed.cancel()

    async def candidates_written(self, timeout_s: float) -> bool:
        """Wait until the candidates for notifications of all that was applied are in the log; False: not in time."""
        return self.candidates is None or await self.candidates.written(timeout_s)

    # The interface for the server (service.FeedService)

    @property
    def home_mixer(self) -> HomeMixerConfig:
        return self.config.home_mixer

    @property
    def origin(self) -> Origin:
        return self._origin

    @property
    def version(self) -> int:
        return self.state.version

    @property
    def positions(self) -> Mapping[TopicPartition, int]:
        return self.state_thread.applier.positions if self.state_thread is not None else {}

    def now_ms(self) -> int:
        if self.config.serving.clock == "event":
            return self.state.clock_ms
        return int(time.time() * 1000)

    def alive(self) -> bool:
        return self.state_thread is not None and self.state_thread.alive()

    def readiness(self) -> Readiness:
        lag = self.ingest.lag_records if self.ingest is not None else {}
        named = {f"{part.topic}/{part.partition}": n for part, n in lag.items() if n}
        total = sum(named.values())
        problem = "the engine was not started yet" if self.ingest is None else self.ingest.problem
        if problem is None and total > self.config.serving.ready_lag_records_max:
            problem = f"{total} records behind the log"
        if self.keeper is not None:
            problem = problem or self.keeper.problem
        safety = self.state.safety_problem
        problem = problem or safety
        caught_up = self.ingest is not None and self.ingest.replayed and safety is None
        return Readiness(problem is None, problem or "caught up", named, caught_up)

    async def feed(self, request: Request) -> Feed:
        return await self.readers.answer(request, lambda feed: feed)

    def answer(self, request: Request, finish: Callable[[Feed], T]) -> Coroutine[Any, Any, T]:
        return self.readers.answer(request, finish)

    async def query(self, query: GraphQuery) -> bytes:
        return await self.graph.run(query)

    async def judge_social(self, acts: SocialActs) -> list[SocialAnswer]:
        # Events must not be refused because many feeds wait, so this takes no place in the queue of requests.
        return await self.readers.read_unbounded(lambda: self._judge_social(acts))

    def _judge_social(self, acts: SocialActs) -> list[SocialAnswer]:
        graph = self.state.social_graph
        with self.readers.reading():
            refusals, adds = graph.refusals(*acts).tolist()
        named = {why: (graph.reason(Refusal(why)), graph.explain(Refusal(why))) for why in set(refusals) - {0}}
        return [(named.get(why), bool(one)) for why, one in zip(refusals, adds, strict=True)]

    async def viewers(self, limit: int) -> list[Viewer]:
        return await self.readers.read(lambda: self._viewers(limit))

    def _viewers(self, limit: int) -> list[Viewer]:
        with self.readers.reading():
            users, counts = self.state.signals.activity(limit)
            # The room may not have come to them yet: erasing goes on piece by piece.
            erased = (self.state.profiles.standings(users) & Standing.ERASED) != 0
            return [
                Viewer(int(user), self.state.social_graph.followee_count(int(user)), int(count))
                for user, count, gone in zip(users, counts, erased, strict=True)
                if not gone
            ]

    async def models(self) -> list[ModelInForce]:
        return await self.readers.read(self._models)

    async def models_since_ms(self) -> int | None:
        """The append time from which on retention must keep topic ``models``; None where no model is in force.

        A background task asks. An error would end the process, so a full request queue must not refuse this read.
        """
        models = await self.readers.read_unbounded(self._models)
        began_ms = min((model.began_ms for model in models), default=None)
        # ``began_ms`` is event time, which may be later than the append by at most ``future_ms_max``.
        return None if began_ms is None else began_ms - self.config.ingest.future_ms_max

    def _models(self) -> list[ModelInForce]:
        with self.readers.reading():
            return self.state.models.in_force()

    async def reputation(self, user_id: int) -> AccountReputation:
        return await self.readers.read(lambda: self._reputation(user_id))

    def _reputation(self, user_id: int) -> AccountReputation:
        with self.readers.reading():
            return reputation_of(self.state, user_id)

    async def aggregates(self, user_id: int) -> AuthorAggregates:
        time_ms = self.now_ms()
        return await self.readers.read(lambda: self._aggregates(user_id, time_ms))

    def _aggregates(self, user_id: int, time_ms: int) -> AuthorAggregates:
        with self.readers.reading():
            return aggregates_of(self.state, user_id, time_ms)

    async def known(self, events: Identities) -> list[bool]:
        return await self.readers.read(lambda: self._known(events))

    def _known(self, events: Identities) -> list[bool]:
        with self.readers.reading():
            found: list[bool] = self.state.deduplication.known(*events).tolist()
        return found

    async def judge_motifs(self, motifs: Sequence[Motif]) -> Sequence[Judged]:
        # Whether somebody may be told must not remain unknown because many feeds wait.
        time_ms = self.now_ms()
        return await self.readers.read_unbounded(lambda: self._judge_motifs(motifs, time_ms))

    def _judge_motifs(self, motifs: Sequence[Motif], time_ms: int) -> Sequence[Judged]:
        with self.readers.reading():
            return [self._notifications.judge(motif, time_ms) for motif in motifs]

    async def answer_named(
        self, requests: Sequence[Request], finish: Callable[[Sequence[Feed]], Sequence[T]]
    ) -> tuple[Sequence[T], bool]:
        return await self.readers.read(lambda: self._answer_named(requests, finish))

    def _answer_named(
        self, requests: Sequence[Request], finish: Callable[[Sequence[Feed]], Sequence[T]]
    ) -> tuple[Sequence[T], bool]:
        only = np.array(requests[0].only, np.uint64)
        with self.readers.reading() as version:
            feeds = self._same_feed.feeds(
                requests,
                lambda request: self.readers.feed(request, nullcontext(version)),
                self.readers.count_served,
            )
            retweets = bool((self.state.tweet_store.originals(only) != only).any())
        return finish(feeds), retweets

    def listen(self, on: bool) -> None:
        self._concerns.listening = on

    async def wait_concern(self, timeout_s: float) -> Concern | None:
        deadline = time.monotonic() + timeout_s
        while True:
            # The event is fetched first, so that a piece that is noted in between ends the wait.
            published = self._published
            concern, left = self._concerns.take(), deadline - time.monotonic()
            if concern is not None or left <= 0:
                return concern
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await published.wait()

    async def concerned(self, concern: Concern, audience: Audience, shown: NDArray[np.uint64]) -> Concerned:
        # Whom a block or a delete concerns must not remain unknown because many feeds wait.
        return await self.readers.read_unbounded(lambda: self._concerned(concern, audience, shown))

    def _concerned(self, concern: Concern, audience: Audience, shown: NDArray[np.uint64]) -> Concerned:
        with self.readers.reading():
            return find_concerned(self.state, concern, audience, shown)

    async def wait_version(self, after: int, timeout_s: float) -> int:
        deadline = time.monotonic() + timeout_s
        while self.version <= after:
            left = deadline - time.monotonic()
            if left <= 0:
                break
            published = self._published
            if self.version > after:
                break
            try:
                # Not wait_for: on Python 3.11 it loses a cancellation that comes at the same time as the version.
                async with asyncio.timeout(left):
                    await published.wait()
            except TimeoutError:
                break
        return self.version
