"""The models that the engine knows: their names, the meaning of their bytes, and their capacities."""

from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Annotated, NamedTuple

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from engine.models import tie_trees

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
    ``finite``: whether all numbers of a well-formed version can be reckoned with. ``as_good``: whether the evaluation
    of a version says that it is at least as good as the version in force (0: none yet). None: not asked.
    """

    name: str
    schema: str
    bytes_max: Callable[[ModelsConfig], int]
    well_formed: Callable[[NDArray[np.uint8]], bool]
    forget: Callable[[NDArray[np.uint8], int], bool] | None = None
    finite: Callable[[NDArray[np.uint8]], bool] | None = None
    as_good: Callable[[Mapping[str, float], int], bool] | None = None

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

#: What a version of ``real_graph`` is measured by, on examples that it was not fitted to; and the same of what was in
#: force when it was measured, whose version (0: the default score) ``before`` names.
AUC_ANY, AUC_EXPLICIT = "auc_any", "auc_explicit"
BEFORE, BEFORE_AUC_ANY, BEFORE_AUC_EXPLICIT = "before", "before_auc_any", "before_auc_explicit"


def _real_graph_as_good(evaluation: Mapping[str, float], in_force: int) -> bool:
    """Both were measured on the same examples; of the two figures the sum counts."""
    names = (AUC_ANY, AUC_EXPLICIT, BEFORE, BEFORE_AUC_ANY, BEFORE_AUC_EXPLICIT)
    if any(name not in evaluation for name in names) or evaluation[BEFORE] != float(in_force):
        return False
    after, before = (
        evaluation[a] + evaluation[b] for a, b in ((AUC_ANY, AUC_EXPLICIT), (BEFORE_AUC_ANY, BEFORE_AUC_EXPLICIT))
    )
    return after >= before


REAL_GRAPH = ModelSpec(
    "real_graph",
    "little endian: trees of the forest for any act uint64, of both k, nodes n, 0; bases float64[2]; threshold and "
    "value float64[n]; left and right int32[n]; roots int32[k + 1]; feature and missing_left uint8[n]. Columns: "
    "num_days, num_tweets, num_follows, num_favorites, num_tweet_clicks, num_profile_views, days_since_last, "
    "label_types",
    lambda config: tie_trees.tie_trees_bytes(tie_trees.TREES_MAX, tie_trees.NODES_MAX),
    lambda payload: tie_trees.fault_of(payload) in ("", "not_finite"),
    finite=lambda payload: tie_trees.fault_of(payload) == "",
    as_good=_real_graph_as_good,
)

#: All models, in the order of their places in the room's arrays.
SPECS = (REPUTATION, REAL_GRAPH)
