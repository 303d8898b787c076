"""The users of the engine in a run: producers that publish until acknowledged, viewers who ask, look and react."""

import asyncio
from collections import Counter
from collections.abc import Iterable

import msgspec
import orjson

from engine.errors import MurmurationError
from engine.feed import Explain, Feed, Product, Request
from loadtest.simulation.chance import Chance
from loadtest.simulation.connection import Connection
from loadtest.simulation.faults import ClientFaults, Rates, Weather
from loadtest.simulation.life import Life
from loadtest.simulation.memory_log import Broker, MemoryLog
from loadtest.simulation.process import Process
from loadtest.simulation.workload import EPOCH_MS, Publication, Workload
from streams.events.served_feed import EncodedFeed
from streams.graph_api.look import ask
from streams.log.interface import LogUnavailableError
from streams.server.answers import part_of
from streams.server.encode import encode_feed

RETRY_S = 0.7


class Producer:
    """Publishes to the log and repeats until acknowledged, so records may be in the log twice."""

    def __init__(
        self, broker: Broker, weather: Weather, rates: Rates, chance: Chance, acknowledged: Counter[int]
    ) -> None:
        self.log = MemoryLog(broker, ClientFaults(weather, rates, chance, Life(0)))
        self._chance = chance
        #: By event id, how often a record with it was acknowledged.
        self.acknowledged = acknowledged

    async def publish(self, publication: Publication) -> None:
        """Append until acknowledged."""
        while True:
            try:
                await self.log.append(publication.topic, publication.records)
                break
            except LogUnavailableError:
                await asyncio.sleep(self._chance.seconds(0.01, RETRY_S))
        self.acknowledged.update(publication.event_ids)

    async def work(self, publications: Iterable[tuple[float, Publication]]) -> None:
        """Publish each at its time, mostly in order; some twice, some after later ones."""
        held: list[Publication] = []
        await _persistently(self.log, self._chance)
        for time_s, publication in publications:
            await asyncio.sleep(max(0.0, time_s - asyncio.get_running_loop().time()))
            if self._chance.happens(0.1):
                held.append(publication)
                continue
            await self.publish(publication)
            if self._chance.happens(0.05):
                await self.publish(publication)
            if held and self._chance.happens(0.5):
                await self.publish(held.pop(0))
        for publication in held:
            await self.publish(publication)


class Viewer:
    """Asks for feeds throughout the run (both products, pages, with excluded ids) and reacts to them."""

    def __init__(
        self, person: int, process: Process, producer: Producer, workload: Workload, chance: Chance, feeds: list[Feed]
    ) -> None:
        self._person, self._process, self._producer, self._workload = person, process, producer, workload
        self._chance = chance
        self._asked = 0
        #: All feeds that were served, of all viewers.
        self._feeds = feeds
        self.connection = Connection(chance.stream("connection"))

    async def look(self, every_s: float, until_s: float) -> None:
        """Ask for a feed about every ``every_s`` seconds."""
        loop = asyncio.get_running_loop()
        await _persistently(self._producer.log, self._chance)
        feed: Feed | None = None
        while loop.time() < until_s:
            await asyncio.sleep(self._chance.seconds(0.1, 2 * every_s))
            feed = await self.ask(feed)
            if feed is not None:
                await self.connection.send(encode_feed(feed))
                if self._chance.happens(0.5):
                    await self._react(feed)
            if self._chance.happens(0.2):
                await self._query()
        await self.connection.close()

    async def ask(self, before: Feed | None) -> Feed | None:
        """Make one request; None if there was no answer (no engine serves, or too many requests wait)."""
        process, life = self._process, self._process.life
        engine, served = process.engine, process.served
        if engine is None or served is None or not engine.readiness().ready:
            return None
        request = self._request(engine.now_ms(), before)
        try:
            feed = await engine.feed(request)
        except MurmurationError:
            return None
        if life.dead or process.engine is not engine:
            return None  # the process ended before it sent the answer
        process.witness.lineage.saw_feed(feed, request)
        served.offer(part_of(EncodedFeed(feed), request, *engine.origin))
        self._feeds.append(feed)
        return feed

    async def _query(self) -> None:
        """Make a query of the interaction graph."""
        process, life, engine = self._process, self._process.life, self._process.engine
        if engine is None:
            return
        terms = {
            "user": str(self._person),
            "seeds": str(self._chance.integer(1, 20)),
            "walks": "50",
            "limit": "10",
            "seed": str(self._chance.integer(0, (1 << 64) - 1)),
        }
        query = ask("salsa", terms.items(), engine.config.home_mixer, lambda: 0)
        try:
            answer = orjson.loads(await engine.query(query))
        except MurmurationError:
            return
        if not life.dead and process.engine is engine:
            process.witness.lineage.saw_results(answer["version"], query, orjson.dumps(answer["results"]))

    def _request(self, now_ms: int, before: Feed | None) -> Request:
        chance = self._chance
        self._asked += 1
        request = Request(
            viewer_id=self._person,
            request_id=self._person * 1000 + self._asked,
            time_ms=max(now_ms, EPOCH_MS),
            seed=chance.integer(0, (1 << 64) - 1),
            product=chance.choice(list(Product)),
            limit=chance.integer(1, 15),
            explain=chance.choice(list(Explain)),
        )
        if before is not None and before.entries and chance.happens(0.6):
            if before.cursor is not None and chance.happens(0.5):
                return msgspec.structs.replace(request, product=before.product, cursor=before.cursor)
            return msgspec.structs.replace(request, exclude=tuple(entry.tweet_id for entry in before.entries))
        return request

    async def _react(self, feed: Feed) -> None:
        if feed.product is Product.WHO_TO_FOLLOW:
            return  # the workload follows and dismisses people
        entries = [{"tweet_id": entry.tweet_id, "author_id": entry.author_id} for entry in feed.entries]
        publication = self._workload.reactions(self._person, entries, feed.time_ms, feed.request_id)
        if publication.records:
            await self._producer.publish(publication)


async def _persistently(log: MemoryLog, chance: Chance) -> None:
    """Open the log; retry until it works."""
    while True:
        try:
            await log.open()
            return
        except LogUnavailableError:
            await asyncio.sleep(chance.seconds(0.01, RETRY_S))
