"""The models that the engine knows: their names, the meaning of their bytes, and their capacities."""

from collections.abc import Callable
from hashlib import blake2b
from typing import Annotated, NamedTuple

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

#: Every part except a version's last has exactly this many bytes: 512 KiB, 700 KB as base64 in a record.
PART_BYTES = 1 << 19
PARTS_MAX = 4096
#: The most bytes of a commit's evaluation (JSON).
EVALUATION_BYTES_MAX = 4096


class ModelsConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How large a model may be. A version has at most 4,096 parts of 512 KiB (2 GiB)."""

    #: People in a version of ``reputation``; ``rooms.social_graph.users_max`` is enough for everybody.
    reputation_users_max: Annotated[int, Meta(ge=1, le=1 << 27)] = 1 << 18


class ModelSpec(NamedTuple):
    """A model that the engine knows.

    ``schema`` describes the bytes in words; versions with another schema are refused. ``bytes_max`` returns the
    capacity of one half. ``well_formed`` takes the bytes (uint8, size) and returns, in constant time, whether their
    number fits their content. ``forget`` takes the bytes of a well-formed version and a person's id, and removes the
    person from them, in logarithmic time; it returns whether they had the person. None: the model names nobody.
    """

    name: str
    schema: str
    bytes_max: Callable[[ModelsConfig], int]
    well_formed: Callable[[NDArray[np.uint8]], bool]
    forget: Callable[[NDArray[np.uint8], int], bool] | None = None

    @property
    def name_hash(self) -> int:
        """The hash that stands for the model's name in events (``EventBatch.subject_id``)."""
        return stable_hash(self.name)

    @property
    def schema_hash(self) -> int:
        """The hash that stands for ``schema`` on the wire."""
        return stable_hash(self.schema)


def stable_hash(text: str) -> int:
    """64-bit BLAKE2b of a name or a schema. Never 0, which means "none"."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little") or 1


REPUTATION_HEAD_BYTES = 8
REPUTATION_USER_BYTES = 13


def reputation_bytes(users: int) -> int:
    """Bytes of a version of ``reputation`` with ``users`` people."""
    return REPUTATION_HEAD_BYTES + REPUTATION_USER_BYTES * users


def _reputation_well_formed(payload: NDArray[np.uint8]) -> bool:
    if payload.size < REPUTATION_HEAD_BYTES:
        return False
    users = int.from_bytes(payload[:REPUTATION_HEAD_BYTES].tobytes(), "little")
    return payload.size == reputation_bytes(users)


def _reputation_forget(payload: NDArray[np.uint8], user_id: int) -> bool:
    """The id before the person's takes its place: ids stay in order, and a search finds the first of equal ones."""
    users = int.from_bytes(payload[:REPUTATION_HEAD_BYTES].tobytes(), "little")
    ranks_at = REPUTATION_HEAD_BYTES + 8 * users
    scores_at = ranks_at + 4 * users
    ids = payload[REPUTATION_HEAD_BYTES:ranks_at].view(np.uint64)
    at = int(np.searchsorted(ids, np.uint64(user_id)))
    if at == users or int(ids[at]) != user_id:
        return False
    ids[at] = ids[at - 1] if at else 0
    payload[ranks_at:scores_at].view(np.float32)[at] = 0.0
    payload[scores_at + at] = 0
    return True


REPUTATION = ModelSpec(
    "reputation",
    # In this order every column is aligned for its type.
    "little endian: n uint64; user_id uint64[n], ascending; pagerank float32[n]; score uint8[n]",
    lambda config: reputation_bytes(config.reputation_users_max),
    _reputation_well_formed,
    _reputation_forget,
)

#: All models, in the order of their places in the room's arrays.
SPECS = (REPUTATION,)
