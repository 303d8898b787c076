"""Models: the bytes of each model's current version, and of the version that is arriving.

Each model has two halves: the active half holds the current version, and parts of a newer version are written into the
standby half. A commit swaps the halves if all parts have arrived and the digest is right. So a feed that holds the read
lock sees one complete version, and the current version is a function of the log, the same in replays and on other
nodes.

If several versions arrive at the same time, the highest number gets the standby half. A part or commit that cannot be
used is refused with a reason: it is counted by model, and returned as an effect that becomes a dead letter.

Whoever is erased leaves the bytes at once, also those that have arrived. A version that was made before may come after:
so the room remembers the last people who were erased, and removes them from every version that is committed.

Memory: ``2 · bytes_max + 8,480 B + 40 B · parts`` per model, with ``parts`` those of the largest model, and 8 KiB.
"""

from collections import namedtuple
from collections.abc import Mapping, Sequence
from enum import IntEnum
from hashlib import sha256
from typing import Any, ClassVar, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.batch import EventBatch, Kind
from engine.effects import Effect, EffectKind, Effects, make_effects
from engine.errors import InvariantError
from engine.models.content import Commit, Part, read_commit, read_part
from engine.models.specs import EVALUATION_BYTES_MAX, PART_BYTES, SPECS, ModelsConfig, ModelSpec
from engine.room import ANY, Room, Share, only_grew

_MODEL_PART, _MODEL_COMMIT = int(Kind.MODEL_PART), int(Kind.MODEL_COMMIT)
_USER, _ERASE = int(Kind.USER), int(Kind.ERASE)
#: So many erased people are removed from versions that come later; the one erased first gives way.
ERASED_MAX = 1024
DIGEST_BYTES = 32
#: Halves begin at multiples of this, so that columns in them are aligned.
_ALIGNMENT = 64
#: The first of a version's times.
BEGAN = 0
#: Prefix of the names of the halves' arrays.
_HALVES = "halves."


class Refusal(IntEnum):
    """Why a part or a commit is not used; columns of the counts. Codes are state: add codes, never change one."""

    UNKNOWN_MODEL = 0
    FOREIGN_SCHEMA = 1
    MODEL_TOO_LARGE = 2
    OLDER_VERSION = 3
    MISSING_PART = 4
    WRONG_DIGEST = 5
    MALFORMED_MODEL = 6
    NOT_FINITE = 7
    WORSE_MODEL = 8


#: Columns of the counts after the refusals'.
PARTS, COMMITS, REPEATED, SUPERSEDED = range(len(Refusal), len(Refusal) + 4)
_COUNTS = len(Refusal) + 4


_DETAILS = {
    Refusal.UNKNOWN_MODEL: "the engine knows no model of this name",
    Refusal.FOREIGN_SCHEMA: "its bytes mean something else than this engine reads",
    Refusal.MODEL_TOO_LARGE: "more bytes than rooms.models allows",
    Refusal.OLDER_VERSION: "a version as new or newer is in force or arriving",
    Refusal.MISSING_PART: "not all of its parts are there",
    Refusal.WRONG_DIGEST: "the digests of its parts do not give the commit's",
    Refusal.MALFORMED_MODEL: "its size does not fit its content, or its content is none",
    Refusal.NOT_FINITE: "a number in it is not finite",
    Refusal.WORSE_MODEL: "its evaluation does not say that it is as good as what is in force now",
}


class ModelInForce(NamedTuple):
    """A model's current version.

    ``began_ms``: the least event time of its parts; ``created_ms``: when its maker made it; ``committed_ms``: event
    time of its commit.
    """

    name: str
    version: int
    size: int
    digest: bytes
    began_ms: int
    created_ms: int
    committed_ms: int
    evaluation: bytes


def models_in(arrays: Mapping[str, NDArray[Any]]) -> list[ModelInForce]:
    """The current versions according to a room's arrays (``Models.arrays``), live or from a snapshot."""
    found = []
    names = [name.removeprefix(_HALVES) for name in arrays if name.startswith(_HALVES)]
    for place, name in enumerate(names):
        active = int(arrays["active"][place])
        if not (version := int(arrays["version"][place, active])):
            continue
        began_ms, created_ms, committed_ms = arrays["times_ms"][place, active].tolist()
        evaluation = arrays["evaluation"][place, active, : int(arrays["evaluation_bytes"][place, active])]
        found.append(
            ModelInForce(
                name=name,
                version=version,
                size=int(arrays["size"][place, active]),
                digest=arrays["digest"][place, active].tobytes(),
                began_ms=began_ms,
                created_ms=created_ms,
                committed_ms=committed_ms,
                evaluation=evaluation.tobytes(),
            )
        )
    return found


class Arrays(NamedTuple):
    """The complete state; m models, p the most parts of the largest. By model and half, unless noted otherwise.

    ``active``: int64 (m,), the half with the current version (0, 1); the other is the standby half. ``version``: uint64
    (m, 2), 0 for none. ``size``: int64 (m, 2). ``digest``: uint8 (m, 2, 32). ``times_ms``: int64 (m, 2, 3): begun,
    created, committed. ``evaluation``: uint8 (m, 2, 4096), and its length ``evaluation_bytes``: int64 (m, 2).
    ``part_bytes``: int64 (m, p), of the standby half's parts, 0 for a missing part; ``part_digest``: uint8 (m, p, 32).
    ``counts``: int64 (m + 1, columns), by model (the last row: names without a spec); columns are ``Refusal``, then
    ``PARTS`` … ``SUPERSEDED``. ``forgotten``: int64 (m, 2), how many people were removed from the bytes. ``erased``:
    uint64 (1024,), the last people who were erased, first to last, then zeros. ``halves``: by name, uint8
    (2, capacity).
    """

    active: NDArray[np.int64]
    version: NDArray[np.uint64]
    size: NDArray[np.int64]
    digest: NDArray[np.uint8]
    times_ms: NDArray[np.int64]
    evaluation: NDArray[np.uint8]
    evaluation_bytes: NDArray[np.int64]
    part_bytes: NDArray[np.int64]
    part_digest: NDArray[np.uint8]
    counts: NDArray[np.int64]
    forgotten: NDArray[np.int64]
    erased: NDArray[np.uint64]
    halves: Any


def _make_arrays(names: Sequence[str], bytes_max: Sequence[int]) -> Arrays:
    models = len(names)
    parts = max((-(-size // PART_BYTES) for size in bytes_max), default=0)
    capacities = [-(-size // _ALIGNMENT) * _ALIGNMENT for size in bytes_max]
    return Arrays(
        active=np.zeros(models, np.int64),
        version=np.zeros((models, 2), np.uint64),
        size=np.zeros((models, 2), np.int64),
        digest=np.zeros((models, 2, DIGEST_BYTES), np.uint8),
        times_ms=np.zeros((models, 2, 3), np.int64),
        evaluation=np.zeros((models, 2, EVALUATION_BYTES_MAX), np.uint8),
        evaluation_bytes=np.zeros((models, 2), np.int64),
        part_bytes=np.zeros((models, parts), np.int64),
        part_digest=np.zeros((models, parts, DIGEST_BYTES), np.uint8),
        counts=np.zeros((models + 1, _COUNTS), np.int64),
        forgotten=np.zeros((models, 2), np.int64),
        erased=np.zeros(ERASED_MAX, np.uint64),
        halves=namedtuple("Halves", names)(*(np.zeros((2, capacity), np.uint8) for capacity in capacities)),
    )


def _figures(evaluation: NDArray[np.uint8]) -> Mapping[str, float]:
    """The measurements in a commit; empty where they are none."""
    try:
        return msgspec.json.decode(evaluation.tobytes(), type=dict[str, float])
    except msgspec.DecodeError:
        return {}


class Models(Room):
    """The models' bytes and versions. Only the writer calls ``apply``; readers hold the read side of the state lock."""

    name: ClassVar[str] = "models"
    layout: ClassVar[int] = 3
    shares: ClassVar[Mapping[str, Share]] = {
        ANY: Share("none: what jobs compute for all; people write nothing here", "–")
    }
    #: A part fills 128 pages; the system takes about as long to find and zero them as the copy takes.
    untouched: ClassVar[tuple[str, ...]] = (_HALVES,)

    def __init__(self, config: ModelsConfig, specs: Sequence[ModelSpec] = SPECS) -> None:
        self.config = config
        self.specs = tuple(specs)
        self._places = {spec.name_hash: place for place, spec in enumerate(self.specs)}
        self._bytes_max = [spec.bytes_max(config) for spec in self.specs]
        self._arrays = _make_arrays([spec.name for spec in self.specs], self._bytes_max)
        super().__init__(self._arrays, self._arrays.counts)

    def grow_from(self, smaller: "Models") -> bool:
        """Copy the smaller room's versions and parts (``Bounded.grow_from``)."""
        if self.specs != smaller.specs or not only_grew(
            smaller.config, self.config, capacities=type(self.config).__struct_fields__
        ):
            return False
        for name, held in smaller.arrays().items():
            # Parts and bytes are the only dimensions that grow.
            self.arrays()[name][tuple(map(slice, held.shape))] = held
        return True

    # Writing

    def apply(self, batch: EventBatch) -> Effects | None:
        """Apply parts and commits in the order of their rows; refusals are returned as effects (``Room.apply``)."""
        refused: list[Effect] = []
        for row in self._rows(batch).tolist():
            if batch.kind[row] in (_USER, _ERASE):
                self._note(int(batch.user_id[row]), is_erased=batch.kind[row] == _ERASE)
                continue
            place = self._places.get(int(batch.subject_id[row]))
            if place is None:
                refusal: Refusal | None = Refusal.UNKNOWN_MODEL
            elif batch.kind[row] == _MODEL_PART:
                refusal = self._put(place, read_part(batch, row), int(batch.timestamp_ms[row]))
            else:
                refusal = self._commit(place, read_commit(batch, row), int(batch.timestamp_ms[row]))
            if refusal is not None:
                self._arrays.counts[len(self.specs) if place is None else place, refusal] += 1
                text = f"{refusal.name.lower()}\n{_DETAILS[refusal]}"
                refused.append(Effect(EffectKind.REFUSED, row, text=text))
        return make_effects(refused) if refused else None

    def _rows(self, batch: EventBatch) -> NDArray[np.int64]:
        """The rows of parts and commits, and those of people who are erased, or come back."""
        erases = (batch.kind == _ERASE) & (batch.user_id != 0)
        mine = (batch.kind == _MODEL_PART) | (batch.kind == _MODEL_COMMIT) | erases
        back = batch.kind == _USER
        if back.any() and (self._arrays.erased[0] or erases.any()):
            gone = np.concatenate([self._arrays.erased, batch.user_id[erases]])
            mine |= back & np.isin(batch.user_id, gone[gone != 0])
        return np.flatnonzero(mine)

    def _note(self, user_id: int, *, is_erased: bool) -> None:
        """Remove a person from all bytes, and from those to come; or no longer, because the person is back."""
        others = self._arrays.erased[(self._arrays.erased != user_id) & (self._arrays.erased != 0)]
        if is_erased:
            for place in range(len(self.specs)):
                active = int(self._arrays.active[place])
                self._forget(place, active, user_id)
                self._forget_arrived(place, 1 - active, user_id)
            others = np.append(others[-ERASED_MAX + 1 :], np.uint64(user_id))
        self._arrays.erased[:] = 0
        self._arrays.erased[: others.size] = others

    def _forget(self, place: int, half: int, user_id: int) -> None:
        """Remove a person from the bytes of a whole version."""
        payload, forget = self._halves(place)[half, : int(self._arrays.size[place, half])], self.specs[place].forget
        if payload.size and forget is not None:
            self._arrays.forgotten[place, half] += forget(payload, user_id)

    def _forget_arrived(self, place: int, standby: int, user_id: int) -> None:
        """Remove a person from the parts that have arrived: the word before takes the id's place, so that ids stay in
        order. If that word is not there yet, none of the parts can be used."""
        if self.specs[place].forget is None:
            return
        words = self._halves(place)[standby, : self._arrived_bytes(place) // 8 * 8].view(np.uint64)
        # The first word says how many ids follow it.
        ids_end = 1 + int(words[0]) if words.size and self._arrays.part_bytes[place, 0] else words.size
        for at in (1 + np.flatnonzero(words[1:ids_end] == user_id)).tolist():
            if not self._arrays.part_bytes[place, (at - 1) * 8 // PART_BYTES]:
                self._clear(place, standby, 0)
                return
            words[at] = words[at - 1] if at > 1 else 0
            self._arrays.forgotten[place, standby] += 1

    def _arrived_bytes(self, place: int) -> int:
        """Up to where parts were written into the standby half."""
        parts = np.flatnonzero(self._arrays.part_bytes[place])
        return int(parts[-1]) * PART_BYTES + int(self._arrays.part_bytes[place, parts[-1]]) if parts.size else 0

    def _put(self, place: int, part: Part, time_ms: int) -> Refusal | None:
        """Write a part into the standby half, which belongs to the highest version that is arriving."""
        start, size = part.part * PART_BYTES, len(part.content)
        if start + size > self._bytes_max[place]:
            return Refusal.MODEL_TOO_LARGE
        standby = 1 - int(self._arrays.active[place])
        arriving = int(self._arrays.version[place, standby])
        if part.version <= int(self._arrays.version[place, 1 - standby]) or part.version < arriving:
            return Refusal.OLDER_VERSION
        if part.version > arriving:
            self._arrays.counts[place, SUPERSEDED] += bool(self._arrays.part_bytes[place].any())
            self._clear(place, standby, part.version)
            self._arrays.times_ms[place, standby, BEGAN] = time_ms
        began_ms = int(self._arrays.times_ms[place, standby, BEGAN])
        self._arrays.times_ms[place, standby, BEGAN] = min(began_ms, time_ms)
        self._halves(place)[standby, start : start + size] = part.content
        self._arrays.part_bytes[place, part.part] = size
        self._arrays.part_digest[place, part.part] = np.frombuffer(part.digest, np.uint8)
        self._arrays.counts[place, PARTS] += 1
        return None

    def _commit(self, place: int, commit: Commit, time_ms: int) -> Refusal | None:
        """Make the standby half the active one, if it holds the complete version that the commit names."""
        active = int(self._arrays.active[place])
        if commit.schema != self.specs[place].schema_hash:
            return Refusal.FOREIGN_SCHEMA
        if commit.size > self._bytes_max[place]:
            return Refusal.MODEL_TOO_LARGE
        in_force = int(self._arrays.version[place, active])
        if commit.version == in_force and commit.digest == self._arrays.digest[place, active].tobytes():
            self._arrays.counts[place, REPEATED] += 1
            return None
        if commit.version <= in_force:
            return Refusal.OLDER_VERSION
        standby = 1 - active
        if (fault := self._fault(place, standby, commit)) is not None:
            return fault
        self._arrays.size[place, standby] = commit.size
        self._arrays.digest[place, standby] = np.frombuffer(commit.digest, np.uint8)
        self._arrays.times_ms[place, standby, BEGAN + 1 :] = commit.created_ms, time_ms
        self._arrays.evaluation[place, standby, : len(commit.evaluation)] = commit.evaluation
        self._arrays.evaluation_bytes[place, standby] = len(commit.evaluation)
        self._arrays.active[place] = standby
        self._clear(place, active, 0)
        for user_id in self._arrays.erased[self._arrays.erased != 0].tolist():
            self._forget(place, standby, user_id)
        self._arrays.counts[place, COMMITS] += 1
        return None

    def _fault(self, place: int, standby: int, commit: Commit) -> Refusal | None:
        """Why the standby half is not the complete version that a commit names; None if it is."""
        arriving = int(self._arrays.version[place, standby])
        if commit.version != arriving:
            return Refusal.OLDER_VERSION if commit.version < arriving else Refusal.MISSING_PART
        sizes = self._arrays.part_bytes[place, : commit.parts]
        whole = np.full(commit.parts, PART_BYTES)
        whole[-1] = commit.size - (commit.parts - 1) * PART_BYTES
        if not np.array_equal(sizes, whole):
            return Refusal.MISSING_PART
        # Decoding compared each part's bytes with its digest, so only the digests are hashed here.
        if sha256(self._arrays.part_digest[place, : commit.parts].tobytes()).digest() != commit.digest:
            return Refusal.WRONG_DIGEST
        return self._fault_of_content(place, self._halves(place)[standby, : commit.size], commit)

    def _fault_of_content(self, place: int, payload: NDArray[np.uint8], commit: Commit) -> Refusal | None:
        """Why a complete version cannot take the place of the one in force; None if it can."""
        spec, in_force = self.specs[place], int(self._arrays.version[place, self._arrays.active[place]])
        if not spec.well_formed(payload):
            return Refusal.MALFORMED_MODEL
        if spec.finite is not None and not spec.finite(payload):
            return Refusal.NOT_FINITE
        if spec.as_good is not None and not spec.as_good(_figures(commit.evaluation), in_force):
            return Refusal.WORSE_MODEL
        return None

    def _clear(self, place: int, standby: int, version: int) -> None:
        """Make a half the standby half of a version (0: of no version). Nothing of its bytes stays."""
        used = max(int(self._arrays.size[place, standby]), self._arrived_bytes(place))
        self._halves(place)[standby, :used] = 0
        self._arrays.forgotten[place, standby] = 0
        self._arrays.version[place, standby] = version
        self._arrays.size[place, standby] = 0
        self._arrays.digest[place, standby] = 0
        self._arrays.times_ms[place, standby] = 0
        self._arrays.evaluation[place, standby] = 0
        self._arrays.evaluation_bytes[place, standby] = 0
        self._arrays.part_bytes[place] = 0
        self._arrays.part_digest[place] = 0

    # Reading

    def versions(self) -> dict[str, str]:
        """The current versions by name; models without a committed version are left out."""
        found = {}
        for place, spec in enumerate(self.specs):
            if version := int(self._arrays.version[place, self._arrays.active[place]]):
                found[spec.name] = str(version)
        return found

    def version(self, name: str) -> int:
        """The current version of a model; 0 before the first commit.

        Raises:
            KeyError: no such model.
        """
        place = self._place(name)
        return int(self._arrays.version[place, self._arrays.active[place]])

    def payload(self, name: str) -> NDArray[np.uint8]:
        """The current version's bytes (uint8, size), a view that begins at a multiple of 64 bytes from the first half.

        Empty before the first commit.

        Raises:
            KeyError: no such model.
        """
        place = self._place(name)
        active = int(self._arrays.active[place])
        return self._halves(place)[active, : int(self._arrays.size[place, active])]

    def in_force(self) -> list[ModelInForce]:
        """The current versions, in the order of the specs."""
        return models_in(self.arrays())

    def refusals(self) -> dict[str, dict[str, int]]:
        """How many events were refused, by model ("unknown" for names without a spec) and reason."""
        names = [*(spec.name for spec in self.specs), "unknown"]
        return {
            name: {reason.name.lower(): int(self._arrays.counts[place, reason]) for reason in Refusal}
            for place, name in enumerate(names)
        }

    def _halves(self, place: int) -> NDArray[np.uint8]:
        """Both halves of a model: uint8 (2, capacity)."""
        halves: NDArray[np.uint8] = self._arrays.halves[place]
        return halves

    def _place(self, name: str) -> int:
        for place, spec in enumerate(self.specs):
            if spec.name == name:
                return place
        raise KeyError(name)

    # Bounded

    def usage(self) -> Mapping[str, tuple[int, int]]:
        """By model: bytes of the current version, and capacity of a half."""
        sizes = self._arrays.size[np.arange(len(self.specs)), self._arrays.active].tolist()
        names = [spec.name for spec in self.specs]
        return dict(zip(names, zip(sizes, self._bytes_max, strict=True), strict=True))

    def counters(self) -> Mapping[str, int]:
        """Over all models: parts stored, commits, repeated commits of the current version, uncommitted versions that a
        higher one replaced in the standby half, and refused events by reason."""
        totals = self._arrays.counts.sum(axis=0, dtype=np.int64).tolist()
        taken = {"parts": PARTS, "commits": COMMITS, "repeated": REPEATED, "superseded": SUPERSEDED}
        return {name: totals[at] for name, at in taken.items()} | {
            f"refused_{reason.name.lower()}": totals[reason] for reason in Refusal
        }

    def check(self) -> None:
        """Verify that the active half holds what was committed, and that the standby half holds a later version.

        Raises:
            InvariantError: names the first invariant that does not hold.
        """
        for place, spec in enumerate(self.specs):
            active = int(self._arrays.active[place])
            version, arriving = (int(self._arrays.version[place, half]) for half in (active, 1 - active))
            size = int(self._arrays.size[place, active])
            if arriving and arriving <= version:
                raise InvariantError(f"models: {spec.name} has version {arriving} arriving, and {version} in force")
            if size > self._bytes_max[place] or (version == 0) != (size == 0):
                raise InvariantError(f"models: {spec.name} version {version} has {size} bytes")
            if bool(self._arrays.part_bytes[place].any()) != (arriving != 0):
                raise InvariantError(f"models: {spec.name} has parts of version {arriving}")
            payload = self.payload(spec.name)
            parts = [sha256(payload[at : at + PART_BYTES].tobytes()).digest() for at in range(0, size, PART_BYTES)]
            whole = sha256(b"".join(parts)).digest()
            named = self._arrays.digest[place, active].tobytes()
            # Without the people who were erased since, the bytes are no longer those that came.
            if size and whole != named and not self._arrays.forgotten[place, active]:
                raise InvariantError(f"models: the bytes of {spec.name} are not those of version {version}")
