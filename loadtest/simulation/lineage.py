"""The pieces that were applied, version by version, as seen from outside: the reference for every state and feed.

A lineage is recorded during the run: each piece that a state applied, each gap that was passed over, each change of the
rooms' configuration, and all observations at each version (digests of states, feeds). A power cut can take versions
back; the observations of those versions are kept in a separate lineage. At the end, each lineage is applied to an empty
state, piece by piece, with only ``Decoder`` and ``EngineState.apply``: every observation must come out again.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from typing import NamedTuple

import numpy as np
import orjson

from config.schema import Config, feed_hash
from engine.batch import EVENT_COLUMNS, RESOLVED_COLUMNS, Kind
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
    """A check failed, and with it the run."""

    code = "simulation_failed"


#: Ids of tweets and people that the hostile viewer makes up begin here; those of all others are below.
MADE_UP = 1 << 61
#: A version, and how many gaps and changes of configuration came before: each of them changes the state without
#: changing the version.
Place = tuple[int, int]


class Change(NamedTuple):
    """After ``version`` the rooms are those of ``config``; ``began`` says what became of each room."""

    version: int
    config: Config
    began: Began


class Observed(NamedTuple):
    """The observations at a version: digests of the state, and where each was taken; feeds with the hash of their
    configuration and their digest; results of graph queries; and models that jobs made (packed)."""

    digests: list[tuple[str, str]]
    feeds: list[tuple[Request, str, str]]
    queries: list[tuple[GraphQuery, bytes]]
    models: list[bytes]


class Lineage:
    """A sequence of versions from the empty state: the piece of each, and the gaps and changes between them."""

    def __init__(self, config: Config) -> None:
        #: The configuration at the beginning.
        self.config = config
        self.versions: list[tuple[Run, ...]] = []
        #: Gaps and changes, in the order in which they happened.
        self.marks: list[Gap | Change] = []
        #: First offsets when the history began, by partition; a missing partition began at 0.
        self.start: dict[TopicPartition, int] = {}
        self.observed: dict[Place, Observed] = {}

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """The gaps passed over."""
        return tuple(mark for mark in self.marks if isinstance(mark, Gap))

    def changed(self, change: Change) -> None:
        """Note that the rooms' configuration changes here."""
        if change.version != self.version:
            raise CheckError(f"the configuration changes after version {change.version}, not after {self.version}")
        self.marks.append(change)

    @property
    def version(self) -> int:
        """The newest version."""
        return len(self.versions)

    def applied(self, version: int, piece: Piece) -> None:
        """Note that a state has applied this piece as this version, for the first time or again.

        Raises:
            CheckError: the version does not follow, or had another piece the first time.
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
        """Note that a state at this version has this digest."""
        self._at(version).digests.append((digest, where))

    def saw_feed(self, feed: Feed, request: Request) -> None:
        """Note a served feed."""
        self._at(feed.version).feeds.append((request, feed.config_hash, feed_digest(feed)))

    def saw_results(self, version: int, query: GraphQuery, results: bytes) -> None:
        """Note the results (JSON) of a query of the interaction graph."""
        self._at(version).queries.append((query, results))

    def saw_model(self, version: int, packed: bytes) -> None:
        """Note the model that the reputation job made from the state at a version."""
        self._at(version).models.append(packed)

    def take_back(self, version: int, gaps: tuple[Gap, ...]) -> "Lineage | None":
        """Go on from this version with these gaps; the lost versions are returned as a separate lineage."""
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

    def restart(self, start: dict[TopicPartition, int]) -> None:
        """Begin again at these positions, after all versions were taken back; only gaps stay."""
        self.marks = list(self.gaps)
        self.start = start
        self.observed.clear()

    def _at(self, version: int) -> Observed:
        return self.observed.setdefault((version, len(self.marks)), Observed([], [], [], []))


class Replayed(NamedTuple):
    """One place of the reference, with the state and its configuration. ``piece`` and ``decoded``: None after a mark.

    ``dead``: the piece's dead letters, of records that the decoder or the state refused.
    """

    version: int
    marks: int
    piece: Piece | None
    decoded: Decoded | None
    dead: list[DeadLetter]
    state: EngineState
    config: Config


def replay(
    lineage: Lineage, read: Callable[[Run], Records], upto: int, *, without: int | None = None
) -> Iterator[Replayed]:
    """Apply a lineage to an empty state, up to a version. ``read`` gives the records of a run.

    ``without``: a person whose events are left out, and with them the labels of tweets from ``MADE_UP`` on.
    """
    config, marks = lineage.config, 0
    state, decoder = EngineState(config.rooms), _Leaving(config, without)
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
                    state = _carried_over(state, mark, lineage, read, without)
                yield Replayed(number, marks, None, None, [], state, config)


class _Leaving:
    """A decoder that leaves out the events of one person, if a person is given."""

    def __init__(self, config: Config, without: int | None) -> None:
        self._decoder = Decoder(future_ms_max=config.ingest.future_ms_max)
        self._without = without

    def decode(self, piece: Piece) -> Decoded:
        decoded = self._decoder.decode(piece)
        if self._without is None:
            return decoded
        batch, person = decoded.batch, np.uint64(self._without)
        # Rows that follow from the person's tweets name others as users, and labels of these tweets name nobody.
        others = (batch.user_id != person) & ((batch.author_id != person) | (batch.kind < Kind.CREATE))
        others &= ~np.isin(batch.kind, (Kind.LABEL, Kind.UNLABEL)) | (batch.subject_id < MADE_UP)
        kept = {name: getattr(batch, name)[others] for name in (*EVENT_COLUMNS, *RESOLVED_COLUMNS)}
        return decoded._replace(batch=batch._replace(**kept), source=decoded.source[others])


def _carried_over(
    before: EngineState, change: Change, lineage: Lineage, read: Callable[[Run], Records], without: int | None
) -> EngineState:
    """The state after a change of the configuration: rooms that begin late are rebuilt or empty, others taken over."""
    config, began = change.config, change.began
    state = EngineState(config.rooms)
    late = carry_over(state, before, [room.name for room in before.parts if room.name not in began.since])
    if set(late) != set(began.since):
        raise CheckError(f"version {change.version}: {sorted(began.since)} begin late, not {sorted(late)}")
    rebuild = {name for name in late if began.rooms[name] == "rebuilt"}
    decoder = _Leaving(config, without)
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
    """Computes feeds, queries and models again from replayed states; feeds under the configuration of their time."""

    def __init__(self, configs: Iterable[Config]) -> None:
        self._configs = {feed_hash(config): config for config in configs}
        self._products: dict[str, Mapping[Product, Pipeline]] = {}
        self._state: EngineState | None = None
        self._scratch = Scratch()

    def ask(self, request: Request, config_hash: str, state: EngineState) -> Feed:
        """The feed that this state gives."""
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
        """The reputation model that this state gives, packed."""
        return pack(ReputationJob(config.jobs.reputation, config.rooms.models).compute(state))

    def results(self, query: GraphQuery, state: EngineState) -> bytes:
        """The results of a query of this state, as JSON."""
        return orjson.dumps(query.look(state, self._scratch)().results)


def check_observed(observed: Mapping[Place, Observed], at: Replayed, asking: Asking) -> int:
    """Compare the observations at a version with the reference; returns how many there were.

    Raises:
        CheckError: an observation differs.
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
