"""People around a viewer: whom others follow, the circle of trust, and SALSA over whom the circle follows."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.kernels.top_k import top_k
from engine.pipeline.kernels import table_size
from engine.pipeline.scratch import Buffers
from engine.social_graph.arrays import FOLLOWEES_AT, FOLLOWERS_AT
from engine.social_graph.state import SocialGraph
from engine.who_to_follow import kernels
from engine.who_to_follow.config import CircleConfig

Ids = NDArray[np.uint64]
Found = tuple[Ids, NDArray[np.float64]]
NOBODY: Found = (np.empty(0, np.uint64), np.empty(0))


class Pairs(NamedTuple):
    """n pairs of a seed (``place``, int32) and a person of the seed's list (``ids``, uint64)."""

    place: NDArray[np.int32]
    ids: Ids


class Sums(NamedTuple):
    """Sums by person: ``people`` uint64 and ``sums`` float64 (m), without those left out; ``place``: of each summand
    its row, negative where it is left out."""

    people: Ids
    sums: NDArray[np.float64]
    place: NDArray[np.int32]


def neighbors_of(
    graph: SocialGraph, seeds: Ids, each_max: int, *, buffers: Buffers, followers: bool = False, mutual: bool = False
) -> Pairs:
    """The newest ``each_max`` followees (or followers) of each seed; ``mutual``: of these only who follow back."""
    most = len(seeds) * each_max
    place, ids = buffers.take("people.place", np.int32, most), buffers.take("people.ids", np.uint64, most)
    at = FOLLOWERS_AT if followers else FOLLOWEES_AT
    count = int(kernels.neighbors(graph.graph, seeds, at, np.int64(each_max), mutual, place, ids))
    return Pairs(place[:count].copy(), ids[:count].copy())


def sum_by_person(ids: Ids, weights: NDArray[np.float64], left_out: Ids, buffers: Buffers) -> Sums:
    """Sum weights (float64, n) by person (uint64, n); ``left_out``: uint64, distinct."""
    size, skipped = len(ids) + len(left_out), len(left_out)
    table = buffers.take("people.table", np.int32, table_size(size + 1))
    people, sums = np.empty(size, np.uint64), np.empty(size)
    place = np.empty(len(ids), np.int32)
    count = int(kernels.tally(ids, weights, left_out, table, people, sums, place))
    return Sums(people[skipped:count], sums[skipped:count], place - np.int32(skipped))


def best(people: Ids, scores: NDArray[np.float64], most: int) -> Found:
    """The people with the greatest scores above 0, best first, among equals the smaller id."""
    count = min(most, int(np.count_nonzero(scores > 0)))
    rows = np.empty(max(0, count), np.int32)
    top_k(scores, people, np.int64(len(people)), np.int64(count), rows)
    return people[rows], scores[rows]


class Circle(NamedTuple):
    """People whom a viewer's walks meet most, most first: uint64 (n) and their personalized PageRank, float64 (n);
    ``left``: what was not spread, which bounds the error of each."""

    people: Ids
    ranks: NDArray[np.float64]
    left: float


def circle_of(
    graph: SocialGraph, viewer_id: int, seeds: Ids, weights: NDArray[np.float64], config: CircleConfig, buffers: Buffers
) -> Circle:
    """The circle of trust, without the viewer: ``seeds`` (uint64, k) are the followees, ``weights`` their ties."""
    if not len(seeds):
        return Circle(*NOBODY, 1.0)
    most = 1 + len(seeds) + config.follows_max + config.follows_each_max
    work = (
        buffers.take("circle.nodes", np.int64, most),
        buffers.take("circle.table", np.int32, table_size(most)),
        buffers.take("circle.rank", np.float64, most),
        buffers.take("circle.left", np.float64, most),
        buffers.take("circle.queue", np.int32, most),
        buffers.take("circle.waits", np.bool_, most),
    )
    ids = buffers.take("circle.ids", np.uint64, most)
    terms = np.array([config.reset, config.residual_min])
    limits = np.array([config.follows_each_max, config.follows_max], np.int64)
    shares = weights / float(np.cumsum(weights)[-1])
    n = int(kernels.spread(graph.graph, np.uint64(viewer_id), seeds, shares, terms, limits, work, ids))
    left = float(np.cumsum(work[3][:n])[-1])
    people, ranks = best(ids[1:n], work[2][1:n], config.people_max)
    return Circle(people, ranks, left)


def salsa(graph: SocialGraph, circle: Circle, left_out: Ids, config: CircleConfig, buffers: Buffers) -> Sums:
    """SALSA with the circle as hubs, and whom they follow as authorities: the authorities' scores.

    A walk starts at a hub by its personalized PageRank, goes to an authority, back to a hub that follows it, and so on;
    after each return it starts anew with probability ``reset``. Of each hub the newest ``follows_each_max`` count.
    """
    if not len(circle.people):
        return Sums(*NOBODY, np.empty(0, np.int32))
    hubs = circle.people
    hub, followed = neighbors_of(graph, hubs, config.follows_each_max, buffers=buffers)
    whole = sum_by_person(followed, np.ones(len(followed)), NOBODY[0], buffers)
    authority, n = whole.place, len(whole.people)
    from_hub = 1.0 / np.maximum(np.bincount(hub, minlength=len(hubs)), 1)
    from_authority = 1.0 / whole.sums
    start = circle.ranks / float(np.cumsum(circle.ranks)[-1])
    at: NDArray[Any] = start
    scores: NDArray[Any] = np.zeros(n)
    for turn in range(config.rounds):
        if turn:
            back = np.bincount(hub, (scores * from_authority)[authority], minlength=len(hubs))
            at = config.reset * start + (1.0 - config.reset) * back
        scores = np.bincount(authority, (at * from_hub)[hub], minlength=n)
    kept = ~np.isin(whole.people, left_out)
    return Sums(whole.people[kept], scores[kept], authority)
