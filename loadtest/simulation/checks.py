"""The checks at the end of a run, made from outside: with the log's records, plain Python and an empty state."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from config.schema import Config
from engine.social_graph.state import Refusal
from engine.state import EngineState
from loadtest.simulation.bystanders import Bystanders, is_hostile
from loadtest.simulation.horizon import Horizon
from loadtest.simulation.hostile import HOSTILE
from loadtest.simulation.lineage import Asking, CheckError, Lineage, check_observed, replay
from loadtest.simulation.memory_log import Broker, Stored
from loadtest.simulation.models_in_force import ModelsInForce
from streams.durable.journal import Run
from streams.events.dead_letters import TOPIC as DEAD_LETTERS
from streams.events.dead_letters import DeadLetter, decode_dead_letter
from streams.events.decode import Decoded, Decoder
from streams.events.models import TOPIC as MODELS
from streams.log.interface import Records, TopicPartition
from streams.ordering.pieces import Piece

#: Why the social graph refuses what is asked of it; its own model is in tests/engine/social_graph.
_SOCIAL_REASONS = frozenset(why.name.lower() for why in Refusal)
#: Topic, partition and offset of a refused record, and its row if only one row was refused.
Place = tuple[str, int, int, int | None]


class Reader:
    """Every record that was ever in the log, including those that retention has removed."""

    def __init__(self, broker: Broker) -> None:
        self.records: dict[TopicPartition, dict[int, Stored]] = {
            TopicPartition(topic, number): {
                stored.offset: stored for stored in (*partition.removed, *partition.records)
            }
            for topic, number, partition in broker.applied_partitions()
        }

    def read(self, run: Run) -> Records:
        """The records of a run.

        Raises:
            CheckError: the log had other records there.
        """
        partition = self.records[run.partition]
        found = [partition[offset] for offset in range(run.first, run.last + 1) if offset in partition]
        if len(found) != run.count or not found or (found[0].offset, found[-1].offset) != (run.first, run.last):
            raise CheckError(f"{run} is not what the log has: {len(found)} records")
        offsets, append_ms, formats, keys, values = map(list, zip(*found, strict=True))
        return Records(*run.partition, offsets, append_ms, formats, keys, values)


class Checks:
    """The checks of a run; ``run`` makes all of them."""

    def __init__(self, configs: Sequence[Config], broker: Broker, people: int = 0) -> None:
        """``configs``: all configurations of the run, in order. ``people``: how many there are beside a hostile viewer;
        0 if there is none."""
        self._configs, self._config, self._broker = configs, configs[0], broker
        self._reader = Reader(broker)
        self.models = ModelsInForce(self._config.rooms.models)
        self.events = 0
        self.duplicates = 0
        self.observed = 0
        self.people = people
        #: People whose view was compared with that of a world without the hostile viewer.
        self.bystanders = 0

    def run(self, lineage: Lineage, lost: list[Lineage], acknowledged: Mapping[int, int]) -> str:
        """Check everything; returns the digest of the state that the whole lineage gives.

        Raises:
            CheckError: a check fails.
        """
        passed_over = self._check_coverage(lineage)
        horizon = Horizon(self._config.rooms.deduplication.events_max)
        letters: set[Place] = set()
        digest = ""
        asking = Asking(self._configs)
        bystanders = Bystanders(self._config, self.people)
        others = replay(lineage, self._reader.read, lineage.version, without=HOSTILE) if self.people else None
        for at in replay(lineage, self._reader.read, lineage.version):
            if horizon.events_max != at.config.rooms.deduplication.events_max:
                horizon.configure(at.config.rooms.deduplication.events_max)
            self.models.configure(at.config.rooms.models)
            if at.decoded is not None and at.piece is not None:
                keep = self._check_kept(at.version, at.state, at.decoded, horizon)
                refused = self.models.take(at.decoded.batch, keep)
                self.models.check(at.version, at.state)
                letters |= {_place(dead) for dead in at.decoded.dead} | _places(at.piece, at.decoded, refused)
                letters |= {_place(dead) for dead in at.dead if dead.reason in _SOCIAL_REASONS or is_hostile(dead)}
            other = next(others) if others is not None else None
            if other is not None:
                bystanders.refused(at.dead, other.dead)
            self.observed += check_observed(lineage.observed, at, asking)
            if (at.version, at.marks) == (lineage.version, len(lineage.marks)):
                at.state.check()
                digest = at.state.digest()
                if other is not None:
                    bystanders.compare(at.state, other.state)
                    self.bystanders += self.people
        once = {place for line in lost for place in self._check_lost(line)}
        self._check_acknowledged(acknowledged, horizon, passed_over)
        self._check_dead_letters(letters, once, passed_over, lost)
        return digest

    def _check_lost(self, lost: Lineage) -> set[Place]:
        """Check the observations of versions that were lost; returns the places of those versions' dead letters."""
        asking = Asking(self._configs)
        letters: set[Place] = set()
        for at in replay(lost, self._reader.read, max(lost.observed, default=(0, 0))[0]):
            self.observed += check_observed(lost.observed, at, asking)
            letters |= {_place(dead) for dead in at.dead}
        return letters

    def _check_coverage(self, lineage: Lineage) -> list[Run]:
        """Check that each record was applied exactly once and in order, unless it was lost before; returns the runs
        that were passed over."""
        passed_over: list[Run] = []
        applied: dict[TopicPartition, list[int]] = {}
        for where in self._reader.records:
            applied[where] = self._pass_over(where, 0, lineage.start.get(where, 0), passed_over)
        for number in range(lineage.version + 1):
            for run in lineage.versions[number - 1] if number else ():
                applied[run.partition] += self._reader.read(run).offsets
            for gap in lineage.gaps:
                if gap.version == number:
                    applied[gap.partition] += self._pass_over(gap.partition, gap.position, gap.earliest, passed_over)
        for where, records in self._reader.records.items():
            if applied[where] != sorted(records):
                raise CheckError(
                    f"{where.topic}/{where.partition}: {len(applied[where])} records were applied of {len(records)}, "
                    "or not in order"
                )
        return passed_over

    def _pass_over(self, where: TopicPartition, first: int, end: int, passed_over: list[Run]) -> list[int]:
        """The offsets of all records in the range, which are added to ``passed_over``."""
        offsets = [offset for offset in sorted(self._reader.records[where]) if first <= offset < end]
        if offsets:
            passed_over.append(Run(where, offsets[0], offsets[-1], len(offsets)))
        return offsets

    def _check_kept(self, version: int, state: EngineState, decoded: Decoded, horizon: Horizon) -> NDArray[np.bool_]:
        keep = horizon.keep(decoded.batch)
        self.events += int(keep.sum())
        self.duplicates += int((~keep).sum())
        if (state.events, state.duplicates) != (self.events, self.duplicates):
            raise CheckError(
                f"version {version}: {state.events} events kept and {state.duplicates} not, "
                f"the model says {self.events} and {self.duplicates}"
            )
        return keep

    def _check_acknowledged(self, acknowledged: Mapping[int, int], horizon: Horizon, passed_over: list[Run]) -> None:
        gone = {event_id for run in passed_over for event_id in self._decode(run).batch.id.tolist()}
        gone |= horizon.late
        # If the horizon is wider than the run: exactly once. Else a duplicate may come once its first is forgotten, as
        # that of an event beyond its person's share or of an erased person may.
        wide = len(horizon.kept) < self._config.rooms.deduplication.events_max
        for event_id in acknowledged:
            times = horizon.kept[event_id]
            once = wide and event_id not in horizon.forgotten_early
            if (times == 0 and event_id not in gone) or (times > 1 and once):
                raise CheckError(f"event {event_id} was acknowledged and applied {times} times")

    def _unobserved_letters(self, lost: Lineage) -> set[Place]:
        """The places of the dead letters of versions that were lost before anybody saw them."""
        seen = max(lost.observed, default=(0, 0))[0]
        at_later = (at for at in replay(lost, self._reader.read, lost.version) if at.version > seen)
        return {_place(dead) for at in at_later for dead in at.dead}

    def _check_dead_letters(
        self, letters: set[Place], once: set[Place], passed_over: list[Run], lost: list[Lineage]
    ) -> None:
        """Check that every expected letter is there, and no other. Allowed in addition are letters of records that were
        applied before they were passed over, and of records that a lost version could not use (``once``).

        If a model's record is in the log twice, the number of events of other topics in between decides whether the
        second is a duplicate, and so whether it is refused. Lost versions may have had another number of such events.
        """
        written = set()
        for partition in self._broker.topics[DEAD_LETTERS]:
            for stored in partition.records:
                written.add(_place(decode_dead_letter(stored.value)))
        gone = {_place(dead) for run in passed_over for dead in self._decode(run).dead}
        gone |= {place for run in passed_over for place in self._model_places(run)}
        gone |= self._model_places_there_twice() | once
        missing, more = letters - written, written - letters - gone
        for line in lost if more else ():
            more -= self._unobserved_letters(line)
        if missing or more:
            first = [sorted(places, key=str)[:3] for places in (missing, more)]
            raise CheckError(f"dead letters are missing for {first[0]}, and {first[1]} are none")

    def _model_places(self, run: Run) -> list[Place]:
        """The places of a run's records if the run is of topic ``models``; else empty."""
        topic, number = run.partition
        return [(topic, number, offset, None) for offset in self._reader.read(run).offsets] if topic == MODELS else []

    def _model_places_there_twice(self) -> set[Place]:
        places: dict[bytes, list[Place]] = {}
        for (topic, number), stored in self._reader.records.items():
            for offset, record in stored.items() if topic == MODELS else ():
                places.setdefault(record.value, []).append((topic, number, offset, None))
        return {place for there in places.values() if len(there) > 1 for place in there}

    def _decode(self, run: Run) -> Decoded:
        return Decoder(future_ms_max=self._config.ingest.future_ms_max).decode([self._reader.read(run)])


def _places(piece: Piece, decoded: Decoded, rows: list[int]) -> set[Place]:
    """The places of the records that these rows come from."""
    places: list[Place] = [(run.topic, run.partition, offset, None) for run in piece for offset in run.offsets]
    return {places[int(decoded.source[row])] for row in rows}


def _place(letter: DeadLetter) -> Place:
    return letter.topic, letter.partition, letter.offset, letter.row
