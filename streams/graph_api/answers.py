"""What the graph's queries share: names of edge types, errors, and how ids, weights and proofs read in JSON."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.errors import RequestError
from engine.interaction_graph.arrays import EdgeType
from engine.interaction_graph.state import InteractionGraph
from engine.interaction_graph.user_graph import UserEdgeType

#: Names of the edge types that are stored, by code.
TYPE_NAMES: Final = {
    int(edge_type): edge_type.name.lower()
    for edge_type in EdgeType
    if edge_type not in (EdgeType.UNFAVORITE, EdgeType.UNRETWEET)
}

#: The same of the edges between users.
USER_TYPE_NAMES: Final = {int(edge_type): edge_type.name.lower() for edge_type in UserEdgeType}

Ids = NDArray[np.uint64]
Names = Mapping[int, str]


class UnknownUserError(RequestError):
    """Nobody who was named has an edge in the window."""

    code = "unknown_user"


class UnknownTweetError(RequestError):
    """The tweet has no edge in the window."""

    code = "unknown_tweet"


def id_array(ids: Sequence[int] | Ids) -> Ids:
    """Ids as the engine takes them."""
    return np.array(ids, np.uint64)


def type_names(mask: int, names: Names = TYPE_NAMES) -> list[str]:
    """The names of a mask's edge types."""
    return [name for code, name in names.items() if mask >> code & 1]


def age_time_ms(time_ms: int, graph: InteractionGraph) -> int:
    """The time that ages are counted from: the newest event's where none is given."""
    return time_ms or max(0, graph.watermark_ms)


def id_strings(ids: Ids) -> list[str]:
    """Ids as decimal strings."""
    return [str(node) for node in ids.tolist()]


def weights_by_id(ids: Ids, weights: NDArray[np.float64]) -> dict[str, float]:
    """Weights by id."""
    return dict(zip(id_strings(ids), weights.tolist(), strict=True))


def users_by_type(user_ids: Ids, types: NDArray[np.uint8], names: Names = TYPE_NAMES) -> dict[str, list[str]]:
    """One result's proofs: user ids by edge type, in the order given."""
    proof: dict[str, list[str]] = {}
    for user, code in zip(user_ids.tolist(), types.tolist(), strict=True):
        proof.setdefault(names[code], []).append(str(user))
    return proof
