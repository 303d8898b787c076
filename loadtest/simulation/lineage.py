"""What was applied, version by version, as seen from outside: the reference that every state and feed is held against.

A lineage is written down while the run goes on: each piece that a state applied, each gap it passed over, each change
of the rooms' configuration, and what was observed at each version (a state's digest, a feed). A power cut can take
versions back; what was observed of those stays in a lineage of its own. At the end each lineage is applied to an empty
state, piece by piece, by nothing but ``Decoder`` and ``EngineState.apply``: everything observed must come out again.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from typing import NamedTuple

import orjson

from config.schema import Config, feed_hash
from engine.errors import MurmurationError
from engine.feed import Feed, Product, Request
from engine.home_mixer.products import build_products
from engine.pipeline.execute import Pipeline, Unwatched, execute
from engine.pipeline.scratch import Scratch
from engine.rebuild import Rebuild, carry_over
from engine.state import EngineState, Since
from streams.durable.journal import Gap, Run
from streams.durable.store import Began
from streams.events.dead_letters import DeadLetter
from streams.events.decode import Decoded, Decoder
from streams.events.feed_fields import feed_digest
from streams.jobs.job import pack
from streams.jobs.reputation import ReputationJob
from streams.log.interface import Records, TopicPartition
from streams.ordering.pieces import Piece, runs_of
from streams.reading.graph_queries import GraphQuery
from streams.recovery.effects import dead_letters


class CheckError(MurmurationError):
    """Something is not as it must be: the run has failed."""

    code = "simulation_failed"


#: A version, and how many gaps were passed over and configurations changed until then: after either, a state is
#: another at the same version.
Place = tuple[int, int]


class Change(NamedTuple):
    """After ``version`` the rooms are those of ``config``; ``began`` says what came over of each."""

    version: int
    config: Config
    began: Began


class Observed(NamedTuple):
    """What was seen at a version: digests of the state, and where; feeds with the hash of their configuration and their
    digest; results of graph queries; and models that jobs made (packed)."""

    digests: list[tuple[str, str]]
    feeds: list[tuple[Request, str, str]]
    queries: list[tuple[GraphQuery, bytes]]
    models: list[bytes]


class Lineage:
    """A line of versions from the empty state: what each applied, and the gaps passed over between them."""

    def __init__(self, config: Config) -> None:
        #: That of the beginning.
        self.config = config
        self.versions: list[tuple[Run, ...]] = []
        #: In the order in which they happened.
        self.marks: list[Gap | Change] = []
        #: Where the log was when the history began, by partition: 0 where it does not say.
        self.start: dict[TopicPartition, int] = {}
        self.observed: dict[Place, Observed] = {}

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """The gaps passed over."""
        return tuple(mark for mark in self.marks if isinstance(mark, Gap))

    def changed(self, change: Change) -> None:
        """The rooms' configuration is another one from here on."""
        if change.version != self.version:
            raise CheckError(f"the configuration changes after version {change.version}, not after {self.version}")
        self.marks.append(change)

    @property
    def version(self) -> int:
        """The newest version."""
        return len(self.versions)

    def applied(self, version: int, piece: Piece) -> None:
        """A state has applied this piece as this version, for the first time or again.

        Raises:
            CheckError: it does not follow, or is another piece than the first time.
        """
        runs = tuple(runs_of(piece))
        if version <= self.version:
            if self.versions[version - 1] != runs:
                raise CheckError(f"version {version} was {self.versions[version - 1]} and is replayed as {runs}")
            return
        if version != self.version + 1:
            raise CheckError(f"version {version} is applied after version {self.version}")
        self.versions.append(runs)

    def saw_state(self, version: int, digest: str, where: str) -> None:
        """A state at this version has this digest."""
        self._at(version).digests.append((digest, where))

    def saw_feed(self, feed: Feed, request: Request) -> None:
        """A feed was served."""
        self._at(feed.version).feeds.append((request, feed.config_hash, feed_digest(feed)))

    def saw_results(self, version: int, query: GraphQuery, results: bytes) -> None:
        """A query of the interaction graph was answered (results as JSON)."""
        self._at(version).queries.append((query, results))

    def saw_model(self, version: int, packed: bytes) -> None:
        """The reputation job has made this of the state at a version."""
        self._at(version).models.append(packed)

    def take_back(self, version: int, gaps: tuple[Gap, ...]) -> "Lineage | None":
        """Go on from this version and with these gaps; what is lost is returned as a lineage of its own."""
        lost = None
        if version < self.version:
            lost = Lineage(self.config)
            lost.versions, lost.marks, lost.start = list(self.versions), list(self.marks), self.start
            lost.observed = {place: seen for place, seen in self.observed.items() if place[0] > version}
        del self.versions[version:]
        kept = [mark for mark in self.marks if isinstance(mark, Change) or mark in gaps]
        self.marks = kept + [gap for gap in gaps if gap not in kept]
        self.observed = {place: seen for place, seen in self.observed.items() if place[0] <= version}
        return lost

    def _at(self, version: int) -> Observed:
        return self.observed.setdefault((version, len(self.marks)), Observed([], [], [], []))


class Replayed(NamedTuple):
    """A place of the reference, the state there and its configuration; ``piece`` and ``decoded``: None after a mark.

    ``dead``: what the piece had that could not be used, whether the decoder or the state refused it.
    """

    version: int
    marks: int
    piece: Piece | None
    decoded: Decoded | None
    dead: list[DeadLetter]
    state: EngineState
    config: Config


def replay(lineage: Lineage, read: Callable[[Run], Records], upto: int) -> Iterator[Replayed]:
    """Apply a lineage to an empty state, up to a version. ``read`` gives the records of a run."""
    config, marks = lineage.config, 0
    state, decoder = EngineState(config.rooms), Decoder(future_ms_max=config.ingest.future_ms_max)
    yield Replayed(0, marks, None, None, [], state, config)
    for number in range(upto + 1):
        if number:
            piece = [read(run) for run in lineage.versions[number - 1]]
            decoded = decoder.decode(piece)
            applied = state.apply(decoded.batch)
            dead = dead_letters(piece, decoded, applied.effects)
            yield Replayed(number, marks, piece, decoded, dead, state, config)
        for mark in lineage.marks:
            if mark.version == number:
                marks += 1
                if isinstance(mark, Gap):
                    state.note_gap(mark.earliest - mark.position)
                else:
                    config = mark.config
                    state = _carried_over(state, mark, lineage, read)
                yield Replayed(number, marks, None, None, [], state, config)


def _carried_over(before: EngineState, change: Change, lineage: Lineage, read: Callable[[Run], Records]) -> EngineState:
    """The state after a change of the configuration: what is not late is taken over, what is late built again."""
    config, began = change.config, change.began
    state = EngineState(config.rooms)
    late = carry_over(state, before, [room.name for room in before.parts if room.name not in began.since])
    if set(late) != set(began.since):
        raise CheckError(f"version {change.version}: {sorted(began.since)} begin late, not {sorted(late)}")
    rebuild = {name for name in late if began.rooms[name] == "rebuilt"}
    decoder = Decoder(future_ms_max=config.ingest.future_ms_max)
    builder, clock_ms = Rebuild(state, rebuild), 0
    first = min((began.since[name] for name in rebuild), default=change.version)
    for runs in lineage.versions[first : change.version]:
        batch = decoder.decode([read(run) for run in runs]).batch
        clock_ms = clock_ms or (int(batch.timestamp_ms.max()) if batch.size else 0)
        builder.apply(batch)
    for name in late:
        if began.since[name]:
            since_ms = clock_ms if name in rebuild else before.clock_ms
            state.begin_late(name, Since(began.since[name], since_ms))
    return state


class Asking:
    """Asks states for feeds again, each at the version it is at, under the configurations they were served with."""

    def __init__(self, configs: Iterable[Config]) -> None:
        self._configs = {feed_hash(config): config for config in configs}
        self._products: dict[str, Mapping[Product, Pipeline]] = {}
        self._state: EngineState | None = None
        self._scratch = Scratch()

    def ask(self, request: Request, config_hash: str, state: EngineState) -> Feed:
        """The feed at this version."""
        if state is not self._state:
            self._state, self._products = state, {}
        if config_hash not in self._products:
            home_mixer = self._configs[config_hash].home_mixer
            self._products[config_hash] = build_products(state, home_mixer, config_hash)
        return execute(
            self._products[config_hash][request.product],
            request,
            scratch=self._scratch,
            reading=nullcontext(state.version),
            watcher=Unwatched(),
        )

    def model(self, state: EngineState, config: Config) -> bytes:
        """The reputation model that this version's state gives, packed."""
        return pack(ReputationJob(config.jobs.reputation, config.rooms.models).compute(state))

    def results(self, query: GraphQuery, state: EngineState) -> bytes:
        """The results of a query at this version, as JSON."""
        return orjson.dumps(query.look(state, self._scratch)().results)


def check_observed(observed: Mapping[Place, Observed], at: Replayed, asking: Asking) -> int:
    """Hold what was seen at a version against the reference; returns how many things were seen.

    Raises:
        CheckError: something differs.
    """
    seen = observed.get((at.version, at.marks))
    if seen is None:
        return 0
    for digest, where in seen.digests:
        if digest != at.state.digest():
            raise CheckError(f"version {at.version}: {where} is not the state of an uninterrupted run")
    for request, config_hash, digest in seen.feeds:
        if feed_digest(asking.ask(request, config_hash, at.state)) != digest:
            raise CheckError(f"version {at.version}: request {request.request_id} gives another feed when asked again")
    for query, results in seen.queries:
        if asking.results(query, at.state) != results:
            raise CheckError(f"version {at.version}: a query of the graph gives other results when asked again")
    for model in seen.models:
        if asking.model(at.state, at.config) != model:
            raise CheckError(f"version {at.version}: its state gives another model when computed again")
    return len(seen.digests) + len(seen.feeds) + len(seen.queries) + len(seen.models)
