"""What was applied, version by version, as seen from outside: the reference that every state and feed is held against.

A lineage is written down while the run goes on: each piece that a state applied, each gap it passed over, and what was
observed at each version (a state's digest, a feed). A power cut can take versions back; what was observed of those
stays in a lineage of its own. At the end each lineage is applied to an empty state, piece by piece, by nothing but
``Decoder`` and ``EngineState.apply``, and everything observed must come out again.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from typing import NamedTuple

import orjson

from config.schema import Config, feed_hash
from engine.errors import MurmurationError
from engine.feed import Feed, Request
from engine.home_mixer.products import build_products
from engine.pipeline.execute import Unwatched, execute
from engine.pipeline.scratch import Scratch
from engine.state import EngineState
from streams.durable.journal import Gap, Run
from streams.events.dead_letters import DeadLetter
from streams.events.decode import Decoded, Decoder
from streams.events.feed_fields import feed_digest
from streams.jobs.job import pack
from streams.jobs.reputation import ReputationJob
from streams.live.effects import dead_letters
from streams.log.interface import Records, TopicPartition
from streams.ordering.pieces import Piece, runs_of
from streams.reading.graph_queries import GraphQuery


class CheckError(MurmurationError):
    """Something is not as it must be: the run has failed."""

    code = "simulation_failed"


#: A version, and how many gaps were passed over until then: after a gap, a state is another at the same version.
Place = tuple[int, int]


class Observed(NamedTuple):
    """What was seen at a version: digests of the state, and where; digests of feeds, results of graph queries, and
    models that jobs made (packed)."""

    digests: list[tuple[str, str]]
    feeds: list[tuple[Request, str]]
    queries: list[tuple[GraphQuery, bytes]]
    models: list[bytes]


class Lineage:
    """A line of versions from the empty state: what each applied, and the gaps passed over between them."""

    def __init__(self) -> None:
        self.versions: list[tuple[Run, ...]] = []
        self.gaps: tuple[Gap, ...] = ()
        #: Where the log was when the history began, by partition: 0 where it does not say.
        self.start: dict[TopicPartition, int] = {}
        self.observed: dict[Place, Observed] = {}

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
        self._at(feed.version).feeds.append((request, feed_digest(feed)))

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
            lost = Lineage()
            lost.versions, lost.gaps, lost.start = list(self.versions), self.gaps, self.start
            lost.observed = {place: seen for place, seen in self.observed.items() if place[0] > version}
        del self.versions[version:]
        self.gaps = gaps
        self.observed = {place: seen for place, seen in self.observed.items() if place[0] <= version}
        return lost

    def _at(self, version: int) -> Observed:
        return self.observed.setdefault((version, len(self.gaps)), Observed([], [], [], []))


class Replayed(NamedTuple):
    """A place of the reference, and the state there. ``piece`` and ``decoded``: None where a gap was passed over.

    ``dead``: what the piece had that could not be used, whether the decoder or the state refused it.
    """

    version: int
    gaps: int
    piece: Piece | None
    decoded: Decoded | None
    dead: list[DeadLetter]
    state: EngineState


def replay(lineage: Lineage, config: Config, read: Callable[[Run], Records], upto: int) -> Iterator[Replayed]:
    """Apply a lineage to an empty state, up to a version. ``read`` gives the records of a run."""
    state, decoder = EngineState(config.rooms), Decoder(future_ms_max=config.ingest.future_ms_max)
    gaps = 0
    yield Replayed(0, gaps, None, None, [], state)
    for number in range(upto + 1):
        if number:
            piece = [read(run) for run in lineage.versions[number - 1]]
            decoded = decoder.decode(piece)
            applied = state.apply(decoded.batch)
            yield Replayed(number, gaps, piece, decoded, dead_letters(piece, decoded, applied.effects), state)
        for gap in lineage.gaps:
            if gap.version == number:
                gaps += 1
                state.note_gap(gap.earliest - gap.position)
                yield Replayed(number, gaps, None, None, [], state)


class Asking:
    """Asks a state for feeds again, at the version it is at."""

    def __init__(self, config: Config, state: EngineState) -> None:
        self._state = state
        self._products = build_products(state, config.home_mixer, feed_hash(config))
        self._scratch = Scratch()
        self._reputation = ReputationJob(config.jobs.reputation, config.rooms.models)

    def ask(self, request: Request) -> Feed:
        """The feed at this version."""
        return execute(
            self._products[request.product],
            request,
            scratch=self._scratch,
            reading=nullcontext(self._state.version),
            watcher=Unwatched(),
        )

    def model(self) -> bytes:
        """The reputation model that this version's state gives, packed."""
        return pack(self._reputation.compute(self._state))

    def results(self, query: GraphQuery) -> bytes:
        """The results of a query at this version, as JSON."""
        return orjson.dumps(query.look(self._state, self._scratch)().results)


def check_observed(observed: Mapping[Place, Observed], at: Replayed, asking: Asking) -> int:
    """Hold what was seen at a version against the reference; returns how many things were seen.

    Raises:
        CheckError: something differs.
    """
    seen = observed.get((at.version, at.gaps))
    if seen is None:
        return 0
    for digest, where in seen.digests:
        if digest != at.state.digest():
            raise CheckError(f"version {at.version}: {where} is not the state of an uninterrupted run")
    for request, digest in seen.feeds:
        if feed_digest(asking.ask(request)) != digest:
            raise CheckError(f"version {at.version}: request {request.request_id} gives another feed when asked again")
    for query, results in seen.queries:
        if asking.results(query) != results:
            raise CheckError(f"version {at.version}: a query of the graph gives other results when asked again")
    for model in seen.models:
        if asking.model() != model:
            raise CheckError(f"version {at.version}: its state gives another model when computed again")
    return len(seen.digests) + len(seen.feeds) + len(seen.queries) + len(seen.models)
