"""The reputation model's bytes (``engine.models.specs.REPUTATION``): written by a computation, looked up by readers."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.errors import InvariantError
from engine.kernels.jit import kernel
from engine.models.specs import REPUTATION_HEAD_BYTES, reputation_bytes
from engine.reputation.score import GOODWILL, SCORE_MAX


class Reputations(NamedTuple):
    """Views of a model's bytes. ``ids``: uint64 (n), ascending; ``ranks``: float32 (n); ``scores``: uint8 (n).

    Anyone who may append to the log can publish a model, so readers do not trust its bytes: scores above ``SCORE_MAX``
    count as ``SCORE_MAX``, ranks outside 0 … 1 count as unknown, and ids out of order may not be found.
    """

    ids: NDArray[np.uint64]
    ranks: NDArray[np.float32]
    scores: NDArray[np.uint8]

    def reputation(self, user_ids: NDArray[np.uint64]) -> NDArray[np.uint8]:
        """Scores of accounts, uint8 like ``user_ids`` (uint64, n); ``GOODWILL`` where an account has none."""
        out = np.empty(user_ids.size, np.uint8)
        _look_up(self.ids, self.scores, np.ascontiguousarray(user_ids, np.uint64), out)
        return out

    def rank_at(self, position: int) -> float:
        """The rank at a position of the arrays; 0 if it is not in 0 … 1."""
        rank = float(self.ranks[position])
        return rank if 0.0 <= rank <= 1.0 else 0.0

    def position(self, user_id: int) -> int:
        """The position of an account in the arrays; -1 when the account has no reputation."""
        return int(_position(self.ids, np.uint64(user_id)))

    def ranks_of(self, user_ids: NDArray[np.uint64], otherwise: NDArray[np.float64]) -> NDArray[np.float64]:
        """Ranks of accounts (float64, n), ``otherwise`` for accounts without one; scaled to sum 1.

        ``user_ids``: uint64 (n), ascending. The sum is added in their order.
        """
        out = otherwise.copy()
        total = _ranks(self.ids, self.ranks, user_ids, out)
        if total <= 0.0:
            return otherwise.copy()
        out /= total
        return out


@kernel
def _position(ids: Any, user_id: Any) -> Any:
    """Binary search in ascending ``ids``; -1 when absent."""
    low, high = 0, ids.shape[0]
    while low < high:
        middle = (low + high) >> 1
        if ids[middle] < user_id:
            low = middle + 1
        else:
            high = middle
    return low if low < ids.shape[0] and ids[low] == user_id else -1


@kernel
def _look_up(ids: Any, scores: Any, user_ids: Any, out: Any) -> Any:
    """Write the scores of ``user_ids`` (uint64, n) into ``out`` (uint8, n)."""
    for i in range(user_ids.shape[0]):
        position = _position(ids, user_ids[i])
        out[i] = min(scores[position], SCORE_MAX) if position >= 0 else GOODWILL


@kernel
def _ranks(ids: Any, ranks: Any, user_ids: Any, out: Any) -> Any:
    """Write the known ranks of ascending ``user_ids`` into ``out`` (float64, n); other rows stay. Returns the sum of
    ``out``, added in order."""
    total, position = 0.0, 0
    for i in range(user_ids.shape[0]):
        while position < ids.shape[0] and ids[position] < user_ids[i]:
            position += 1
        if position < ids.shape[0] and ids[position] == user_ids[i]:
            rank = np.float64(ranks[position])
            # False for NaN.
            if 0.0 <= rank <= 1.0:
                out[i] = rank
        total += out[i]
    return total


def encode(reputations: Reputations) -> bytes:
    """The model's bytes: the number of accounts, then their ids, ranks and scores."""
    count = reputations.ids.size.to_bytes(REPUTATION_HEAD_BYTES, "little")
    columns = (np.ascontiguousarray(column, column.dtype.newbyteorder("<")) for column in reputations)
    return b"".join((count, *(column.tobytes() for column in columns)))


def decode(payload: NDArray[np.uint8]) -> Reputations:
    """Views of the model's bytes, nothing copied. ``payload`` begins at a multiple of 8 bytes in memory.

    Raises:
        InvariantError: the bytes are not in the format of ``encode``.
    """
    count = int.from_bytes(payload[:REPUTATION_HEAD_BYTES].tobytes(), "little")
    if payload.size < REPUTATION_HEAD_BYTES or payload.size != reputation_bytes(count):
        raise InvariantError(f"a reputation model of {count} accounts cannot have {payload.size} bytes")
    ranks_at = REPUTATION_HEAD_BYTES + 8 * count
    scores_at = ranks_at + 4 * count
    return Reputations(
        payload[REPUTATION_HEAD_BYTES:ranks_at].view(np.uint64),
        payload[ranks_at:scores_at].view(np.float32),
        payload[scores_at:],
    )
