"""The readers of the engagement aggregates: vectors decayed to a request's time."""

from typing import Any

import numpy as np

from engine.engagement_aggregates.arrays import HALF_LIVES, LONG
from engine.engagement_aggregates.write_kernels import find_pair
from engine.kernels.decay import factor
from engine.kernels.id_map import find
from engine.kernels.jit import inlined, kernel
from engine.kernels.prefetch import prefetch
from engine.kernels.rng import mix64


@inlined
def _decayed(counts: Any, landmark_ms: Any, time_ms: Any, half_lives_ms: Any, out: Any) -> None:
    """A vector at ``time_ms`` into ``out`` (float32, (labels, half-lives)); before its landmark it is not grown."""
    elapsed_ms = max(np.int64(0), time_ms - landmark_ms)
    for h in range(HALF_LIVES):
        share = factor(elapsed_ms, half_lives_ms[h])
        for label in range(counts.shape[0]):
            out[label, h] = np.float32(np.float64(counts[label, h]) * share)


@kernel
def of_authors(s: Any, author_ids: Any, time_ms: Any, out: Any) -> None:
    """Counts of authors (uint64, n) at ``time_ms`` into ``out`` float32 (n, labels, half-lives); 0 where unknown."""
    for i in range(author_ids.shape[0]):
        a = np.int64(find(s.authors, author_ids[i]))
        if a >= 0:
            _decayed(s.author_counts[a], s.author_ms[a], time_ms, s.half_lives_ms, out[i])
        else:
            out[i] = 0.0


@kernel
def of_pairs(s: Any, viewer_id: Any, author_ids: Any, time_ms: Any, out: Any) -> None:
    """A viewer's counts with authors (uint64, n) into ``out`` float32 (n, pair labels, half-lives); 0 where unknown."""
    v = np.int64(find(s.viewers, viewer_id))
    for i in range(author_ids.shape[0]):
        p = find_pair(s, v, author_ids[i]) if v >= 0 and author_ids[i] != np.uint64(0) else -1
        if p >= 0:
            _decayed(s.pair_counts[v, p], s.pair_ms[v, p], time_ms, s.half_lives_ms, out[i])
        else:
            out[i] = 0.0


@kernel
def features(
    s: Any, viewer_id: Any, author_ids: Any, rows: Any, time_ms: Any, labels: Any, found: Any, out: Any, at: Any
) -> None:
    """One count of each row's author, and some of the viewer's counts with that author, decayed to a time.

    ``author_ids`` uint64 (n,), ``rows`` int32 (m,), ``labels`` int64 (1 + k): a ``Label``, then ``PairLabel``s; of the
    long half-life. They go into the columns ``at`` … of ``out``, float32 (m, F), and are what ``of_authors`` and
    ``of_pairs`` give. ``found``: int32 (m,), scratch. Authors are scattered over the room, so they are prefetched.
    """
    slots, label = s.authors.slots, labels[0]
    width, mask = s.author_counts.shape[1] * HALF_LIVES, np.uint64(slots.shape[0] // 2 - 1)
    for i in range(rows.shape[0]):
        prefetch(slots, np.int64((mix64(author_ids[rows[i]]) & mask) << np.uint64(1)))
    for i in range(rows.shape[0]):
        a = np.int64(find(s.authors, author_ids[rows[i]]))
        found[i] = a
        if a >= 0:
            prefetch(s.author_ms, a)
            prefetch(s.author_counts, a * width + label * HALF_LIVES)
    v = np.int64(find(s.viewers, viewer_id))
    half_life_ms = s.half_lives_ms[LONG]
    for i in range(rows.shape[0]):
        a = np.int64(found[i])
        out[i, at] = np.float32(0.0)
        if a >= 0:
            share = factor(max(np.int64(0), time_ms - s.author_ms[a]), half_life_ms)
            out[i, at] = np.float32(np.float64(s.author_counts[a, label, LONG]) * share)
        author_id = author_ids[rows[i]]
        p = find_pair(s, v, author_id) if v >= 0 and author_id != np.uint64(0) else -1
        share = factor(max(np.int64(0), time_ms - s.pair_ms[v, p]), half_life_ms) if p >= 0 else 0.0
        for k in range(1, labels.shape[0]):
            out[i, at + k] = np.float32(np.float64(s.pair_counts[v, p, labels[k], LONG]) * share) if p >= 0 else 0.0
