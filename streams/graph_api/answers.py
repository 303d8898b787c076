"""Shared parts of graph queries' answers: names and codes, errors, and the JSON of results and proofs."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engine.errors import RequestError
from engine.interaction_graph.arrays import EdgeType
from engine.interaction_graph.similarity import AgeOf, Measure
from engine.interaction_graph.state import InteractionGraph
from engine.interaction_graph.user_graph import UserEdgeType
from engine.user_signals import NAMES
from streams.reading.graph_queries import Answer

#: Names of the stored edge types, by code.
TYPE_NAMES: Final = {
    int(edge_type): edge_type.name.lower()
    for edge_type in EdgeType
    if edge_type not in (EdgeType.UNFAVORITE, EdgeType.UNRETWEET)
}
#: The same for edges between users.
USER_TYPE_NAMES: Final = {int(edge_type): edge_type.name.lower() for edge_type in UserEdgeType}
TYPE_CODES: Final = {name: code for code, name in TYPE_NAMES.items()}
USER_TYPE_CODES: Final = {name: code for code, name in USER_TYPE_NAMES.items()}
#: Measures of similarity; the last one is the score of related tweets only.
MEASURES: Final = {measure.name.lower(): measure for measure in Measure if measure is not Measure.LOG_DEGREE}
SIGNAL_CODES: Final = {name: name for name in NAMES}
AGES_OF: Final = {age_of.name.lower(): age_of for age_of in AgeOf}

Ids = NDArray[np.uint64]
Names = Mapping[int, str]
Columns = dict[str, NDArray[Any] | Sequence[Any]]
#: Shapes an answer, after the state lock is released.
Shape = Callable[[], Answer]


class UnknownUserError(RequestError):
    """None of the named users has an edge in the window."""

    code = "unknown_user"


class UnknownTweetError(RequestError):
    """The tweet has no edge in the window."""

    code = "unknown_tweet"


def id_array(ids: Sequence[int] | Ids) -> Ids:
    """Ids as the engine takes them."""
    return np.array(ids, np.uint64)


def id_strings(ids: Ids) -> list[str]:
    """Ids as decimal strings."""
    return [str(node) for node in ids.tolist()]


def age_time_ms(time_ms: int, graph: InteractionGraph) -> int:
    """The time that ages are counted from; by default that of the newest event."""
    return time_ms or max(0, graph.watermark_ms)


def rows(**columns: NDArray[Any] | Sequence[Any]) -> list[dict[str, Any]]:
    """Results as objects, from their columns of equal length: arrays of numbers, or lists."""
    lists = [column.tolist() if isinstance(column, np.ndarray) else column for column in columns.values()]
    return [dict(zip(columns, cells, strict=True)) for cells in zip(*lists, strict=True)]


def proofs_by_type(
    counts: NDArray[np.int32],
    types: NDArray[np.uint8],
    user_ids: Ids,
    nameable: NDArray[np.bool_],
    names: Names = TYPE_NAMES,
    **more: NDArray[Any],
) -> list[dict[str, list[Any]]]:
    """Each result's proofs by edge type, in the order given.

    Row ``i`` of ``types`` and ``user_ids`` (n × most) has ``counts[i]`` proofs; those that are not ``nameable``
    (n × most) are left out. A proof is the user's id, or, with ``more`` columns (n × most …), an object of ``user_id``
    and these columns.
    """
    proofs: list[dict[str, list[Any]]] = []
    for i, count in enumerate(counts.tolist()):
        named = np.flatnonzero(nameable[i, :count])
        users = id_strings(user_ids[i, named])
        found = rows(user_id=users, **{name: column[i, named] for name, column in more.items()}) if more else users
        proof: dict[str, list[Any]] = {}
        for code, user in zip(types[i, named].tolist(), found, strict=True):
            proof.setdefault(names[code], []).append(user)
        proofs.append(proof)
    return proofs
