"""Top second degree by count for users: whom the seeds followed, mentioned or tagged, by the sum of the seeds' weights.

"Followed by people you follow": seeds are the viewer's (recent) followees. GraphJet's count over its user-user graph,
with its rule that a result must meet the minimum of every type that has one.
"""

from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.interaction_graph.arrays import ALL_TYPES
from engine.interaction_graph.count_kernels import EVERY_TYPE, TYPES
from engine.interaction_graph.salsa import SalsaScratch
from engine.interaction_graph.second_degree import (
    NO_IDS,
    Ids,
    SecondDegreeRequest,
    count_and_rank,
    validate,
)
from engine.interaction_graph.user_graph import UserGraph


class UsersRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A count's parameters. Seeds are distinct; seeds that the graph does not know are ignored.

    ``edge_types``: bit mask by ``UserEdgeType`` of the types that count. A result needs at least ``users_min`` distinct
    users in all (exactly ``users_exact``, if that is not 0), and for each type in ``users_min_by_type`` at least that
    many users. Left out: ``exclude_user_ids``, users named by fewer than ``degree_min`` edges, and edges older than
    ``edge_age_ms_max`` (0 = any age; ``time_ms`` 0 = the newest event).
    """

    seed_user_ids: Ids
    seed_weights: NDArray[np.float64]
    edge_types: int = ALL_TYPES
    results_max: int = 100
    edges_per_seed_max: int = 500
    proofs_max: int = 10
    users_min: int = 1
    users_min_by_type: dict[int, int] = {}
    users_exact: int = 0
    time_ms: int = 0
    edge_age_ms_max: int = 0
    degree_min: int = 0
    exclude_user_ids: Ids = msgspec.field(default_factory=lambda: NO_IDS)


class UsersResult(NamedTuple):
    """Users, greatest score first, then by id (n rows).

    ``users``: distinct seeds (int32). Proofs of row i: the first ``proof_counts[i]`` of ``proof_user_ids[i]`` and
    ``proof_types[i]`` (n, k), the heaviest seeds first. ``seeds`` with edges, ``edges_read``, users ``counted``.
    """

    user_ids: Ids
    scores: NDArray[np.float64]
    users: NDArray[np.int32]
    proof_counts: NDArray[np.int32]
    proof_user_ids: Ids
    proof_types: NDArray[np.uint8]
    seeds: int
    edges_read: int
    counted: int


def second_degree_users(graph: UserGraph, request: UsersRequest, scratch: SalsaScratch) -> UsersResult:
    """Count and rank in one kernel call without the GIL; ``scratch`` belongs to the calling thread.

    O(seeds · edges_per_seed_max), within ``second_degree.EDGES_MAX``.

    Raises:
        RequestError: named by its ``code``: bad_seeds, bad_count_option, too_many_seeds.
    """
    asked = SecondDegreeRequest(
        seed_user_ids=request.seed_user_ids,
        seed_weights=request.seed_weights,
        edge_types=request.edge_types,
        results_max=request.results_max,
        edges_per_seed_max=request.edges_per_seed_max,
        proofs_max=request.proofs_max,
        users_min=request.users_min,
        users_min_by_type=request.users_min_by_type,
        users_exact=request.users_exact,
        time_ms=request.time_ms,
        engagement_age_ms_max=request.edge_age_ms_max,
        degree_min=request.degree_min,
        exclude_tweet_ids=request.exclude_user_ids,
    )
    validate(asked)
    minimum = np.zeros(TYPES, np.int64)
    for edge_type, users in request.users_min_by_type.items():
        minimum[edge_type] = users
    plain = not minimum.any() and request.users_min <= 1 and request.users_exact == 0
    needs = (minimum, np.empty(0, np.int64), request.users_min, request.users_exact, EVERY_TYPE, plain)
    return UsersResult(*count_and_rank(graph, asked, scratch, needs))
