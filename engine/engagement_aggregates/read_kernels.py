"""The readers of the engagement aggregates: vectors decayed to a request's time."""

from typing import Any

import numpy as np

from engine.engagement_aggregates.arrays import HALF_LIVES
from engine.engagement_aggregates.write_kernels import find_pair
from engine.kernels.decay import factor
from engine.kernels.id_map import find
from engine.kernels.jit import inlined, kernel


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
