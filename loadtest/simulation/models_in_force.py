"""Which versions of models are current, by simple rules: in the simulation a model has a single part."""

from hashlib import sha256
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.batch import EventBatch, Kind
from engine.models.content import Commit, Part, read_commit, read_part
from engine.models.specs import REPUTATION, ModelsConfig
from engine.state import EngineState
from loadtest.simulation.lineage import CheckError


class _Version(NamedTuple):
    number: int
    payload: bytes


class ModelsInForce:
    """Compares a state's models with the events that were applied, from the first event on."""

    def __init__(self, config: ModelsConfig) -> None:
        self._bytes_max = REPUTATION.bytes_max(config)
        self._in_force = _Version(0, b"")
        self._arriving = _Version(0, b"")
        self.commits = 0
        self.refused = 0

    def configure(self, config: ModelsConfig) -> None:
        """Use this configuration of the room from now on."""
        self._bytes_max = REPUTATION.bytes_max(config)

    def take(self, batch: EventBatch, keep: NDArray[np.bool_]) -> list[int]:
        """Apply the rows of a batch that are kept; returns the rows that the state must refuse."""
        refused = []
        for row in np.flatnonzero(keep & np.isin(batch.kind, [Kind.MODEL_PART, Kind.MODEL_COMMIT])).tolist():
            if batch.subject_id[row] != REPUTATION.name_hash:
                good = False
            elif batch.kind[row] == Kind.MODEL_PART:
                good = self._put(read_part(batch, row))
            else:
                good = self._commit(read_commit(batch, row))
            if not good:
                refused.append(row)
        self.refused += len(refused)
        return refused

    def check(self, version: int, state: EngineState) -> None:
        """Compare a state with the rules.

        Raises:
            CheckError: the state has another version or other bytes.
        """
        number, payload = self._in_force
        names = {REPUTATION.name: str(number)} if number else {}
        if state.models.versions() != names or state.models.payload(REPUTATION.name).tobytes() != payload:
            raise CheckError(f"version {version}: {state.models.versions()} is in force, the rules say {names}")

    def _put(self, part: Part) -> bool:
        newest = max(self._in_force.number + 1, self._arriving.number)
        if part.version < newest or part.part > 0 or len(part.content) > self._bytes_max:
            return False
        self._arriving = _Version(part.version, part.content.tobytes())
        return True

    def _commit(self, commit: Commit) -> bool:
        def is_of(version: _Version) -> bool:
            digest = sha256(sha256(version.payload).digest()).digest()
            return commit.version == version.number and commit.digest == digest

        if commit.schema != REPUTATION.schema_hash or commit.size > self._bytes_max:
            return False
        if is_of(self._in_force):
            return True
        payload = self._arriving.payload
        people = int.from_bytes(payload[:8], "little")
        if not is_of(self._arriving) or commit.size != len(payload) or len(payload) != 8 + 13 * people:
            return False
        self._in_force, self._arriving = self._arriving, _Version(0, b"")
        self.commits += 1
        return True
