"""Kernels that fill features of the kept candidates which need more of a room than a look-up: each does all that an
enricher asks.

m is the number of kept candidates, ``rows`` int32 (m,) their rows among all n; the feature matrix is float32 (m, F).
"""

from typing import Any

import numpy as np

from engine.half_life_blend import FAMILIES, BlendRequest, BlendScratch
from engine.interaction_graph.proof_kernels import prove
from engine.interaction_graph.state import InteractionGraph, InteractionGraphConfig
from engine.interaction_graph.timed_walk_kernels import WIDTH, score
from engine.kernels.jit import inlined, kernel
from engine.pipeline.kernels import TABLE_MIN, slots_for


@inlined
def _family_features(components: Any, weights: Any, width: Any, out: Any, at: Any) -> None:
    """Sum each family's ``width`` components (float64, (m, families · width)) by ``weights`` (float64), in order."""
    for i in range(components.shape[0]):
        for family in range(components.shape[1] // width):
            total = 0.0
            for h in range(family * width, (family + 1) * width):
                total += components[i, h] * weights[h]
            out[i, at + family] = np.float32(total)


@inlined
def _proof_features(counts: Any, users: Any, people: Any, weights: Any, out: Any, at: Any) -> None:
    """How many different people proved each row, by how many acts, and what these people weigh together: the first
    ``counts[i]`` (int32, m) of ``users`` uint64 (m, k). They all are in ``people`` (uint64, p), ascending, who have
    ``weights`` (float64, p)."""
    for i in range(counts.shape[0]):
        different, weight = 0, 0.0
        for j in range(counts[i]):
            known = False
            for before_j in range(j):
                known = known or users[i, before_j] == users[i, j]
            if known:
                continue
            different += 1
            low, high = np.int64(0), np.int64(people.shape[0] - 1)
            while low < high:
                middle = (low + high) >> 1
                if people[middle] < users[i, j]:
                    low = middle + 1
                else:
                    high = middle
            weight += weights[low]
        out[i, at] = np.float32(different)
        out[i, at + 1] = np.float32(counts[i])
        out[i, at + 2] = np.float32(weight)


@kernel
def time_aware(
    g: Any, viewer_id: Any, options: Any, start: Any, cut: Any, ages: Any, entered: Any, totals: Any, about: Any,
    parts: Any, learnt: Any, matrix: Any, at: Any,
) -> None:  # fmt: skip
    """Each family's time-aware score of the kept candidates' originals, its half-lives weighed by ``learnt`` (float64),
    into the columns ``at`` … of ``matrix``.

    ``g`` to ``totals``: as ``timed_walk_kernels.score`` takes them, ``cut`` with its ints and floats. ``about``:
    originals (uint64, n), rows, and scratch for the rows' originals (uint64, m). ``parts``: float64 (m, families ·
    half-lives), scratch.
    """
    originals, rows, ids = about
    for i in range(rows.shape[0]):
        ids[i] = originals[rows[i]]
    score(
        g, ids[: rows.shape[0]], viewer_id, options, start, cut[0], cut[1], ages, entered, totals, parts
    )  # fmt: skip
    _family_features(parts, learnt, WIDTH, matrix, at)


@kernel
def social_proof(g: Any, about: Any, mask: Any, cut: Any, out: Any, matrix: Any, at: Any) -> None:
    """Which people engaged with the kept candidates' originals, as ``proof_kernels.prove``, and their numbers into the
    columns ``at`` … of ``matrix``.

    ``about``: originals (uint64, n), rows, the people (uint64, p), ascending, and what they weigh (float64, p).
    ``out``: counts (int32, m); users (uint64), types (uint8) and times (int64), (m, k) each: of each row the first
    ``counts[i]`` are written. ``cut``: scratch: the rows' originals (uint64, m), table (int64, twice
    ``slots_for(m + p)``), nodes (int64, m + p).
    """
    originals, rows, people, weights = about
    ids, slots, nodes = cut
    m, p = rows.shape[0], people.shape[0]
    for i in range(m):
        ids[i] = originals[rows[i]]
        out[0][i] = 0
    if m > 0 and p > 0:
        table = slots[: 2 * slots_for(m + p)]
        table[:] = 0
        prove(g, ids[:m], people, mask, table, nodes[: m + p], out)
    _proof_features(out[0][:m], out[1], people, weights, matrix, at)


def warm() -> None:
    """Compile the kernels on the real types."""
    graph = InteractionGraph(InteractionGraphConfig(users_max=2, tweets_max=2, edges_max=2))
    rows, ids, matrix = np.zeros(1, np.int32), np.ones(1, np.uint64), np.ones((1, 20), np.float32)
    terms = BlendScratch().terms(graph, BlendRequest(1, 1000, walks=1), 1)
    parts = np.empty((1, len(FAMILIES) * WIDTH))
    time_aware(*terms, (ids, rows, ids.copy()), parts, np.ones(parts.shape[1]), matrix, 0)
    cut = (ids.copy(), np.zeros(2 * TABLE_MIN, np.int64), np.zeros(2, np.int64))
    out = (np.zeros(1, np.int32), np.zeros((1, 1), np.uint64), np.zeros((1, 1), np.uint8), np.zeros((1, 1), np.int64))
    about = (ids, rows, ids.copy(), np.ones(1))
    social_proof(graph.read_arrays, about, np.int64(1), cut, out, matrix, 0)
