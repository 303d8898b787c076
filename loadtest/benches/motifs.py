"""Motifs measured: what an act costs that may complete one, and what the room costs where acts are many.

CPU time of one core. Actors are drawn by how many followers they have, and targets so that most have enough recent
actors: nearly every act is about a ring that may be walked.
"""

import time
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.batch import EventBatch, Kind, make_batch
from engine.motifs.state import MotifRoom, MotifsConfig
from engine.social_graph.state import SocialGraph
from loadtest.benches.reputation import make_follows

ACTS: Final = 40_000
TARGETS: Final = 4_000
BATCH: Final = 1 << 10
NOW_MS: Final = 1_760_000_000_000


def run(graph: SocialGraph, accounts: int, progress: Callable[[str], None]) -> dict[str, float]:
    """Measure over a graph of follows that ``make_follows`` made between so many accounts."""
    progress(f"applying {ACTS:,} acts that may complete motifs")
    random = np.random.default_rng(7)
    _, popular = make_follows(ACTS, accounts)
    actors = random.permutation(popular)
    targets = random.zipf(1.3, ACTS).astype(np.uint64) % np.uint64(TARGETS) + np.uint64(1)
    authors = popular[targets]
    # Act by act, no walk waits for another's cost. The first half fills the rings.
    room, half = MotifRoom(MotifsConfig(followers_read_per_event=1 << 20), graph), ACTS // 2
    for start in range(0, half, BATCH):
        room.apply(_likes(actors, targets, authors, start, min(start + BATCH, half)))
    taken_us = np.empty(ACTS - half)
    before = room.counters()
    for at in range(half, ACTS):
        batch = _likes(actors, targets, authors, at, at + 1)
        began_ns = time.thread_time_ns()
        room.apply(batch)
        taken_us[at - half] = (time.thread_time_ns() - began_ns) / 1000
    counted = {name: count - before[name] for name, count in room.counters().items()}
    together, batches = MotifRoom(MotifsConfig(), graph), range(0, ACTS, BATCH)
    made = [_likes(actors, targets, authors, start, min(start + BATCH, ACTS)) for start in batches]
    began_s = time.process_time()
    for batch in made:
        together.apply(batch)
    spent_s = time.process_time() - began_s
    return {
        "motif_us_per_event_p50": round(float(np.percentile(taken_us, 50)), 1),
        "motif_us_per_event_p99": round(float(np.percentile(taken_us, 99)), 1),
        "motif_us_per_event_in_batches": round(spent_s / ACTS * 1e6, 2),
        "motif_walks_share": round(counted["walks"] / (ACTS - half), 2),
        "motif_found": counted["found"],
    }


def _likes(
    actors: NDArray[np.uint64], targets: NDArray[np.uint64], authors: NDArray[np.uint64], first: int, end: int
) -> EventBatch:
    n = end - first
    return make_batch(
        kind=np.full(n, Kind.FAVORITE, np.uint8),
        user_id=actors[first:end],
        original_id=targets[first:end],
        original_author_id=authors[first:end],
        created_ms=np.full(n, NOW_MS - 1),
        timestamp_ms=np.arange(NOW_MS + first, NOW_MS + end),
    )
