"""The people side measured: follows, followees' tweets, circles that two people share.

All figures are CPU time of one core. The graph of follows is synthetic, as in ``reputation``: few people follow many,
and few are followed by many.
"""

import time
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engine.batch import Kind, make_batch
from engine.engagement_aggregates.state import EngagementAggregates, EngagementAggregatesConfig
from engine.in_network.followees import followees_of
from engine.social_graph.circles import LEFT, NEIGHBORS_MAX, RIGHT, Lists, intersections
from engine.social_graph.state import SocialGraph, SocialGraphConfig
from engine.tweet_store.state import TweetStore, TweetStoreConfig
from loadtest.benches.reputation import make_follows

Progress = Callable[[str], None]
Ids = NDArray[np.uint64]

#: Follows that are timed once the others are held.
TIMED: Final = 500_000
BATCH: Final = 1 << 14
VIEWER: Final = 1
FOLLOWEES: Final = 1000
TWEETS: Final = 100_000
RETURNED: Final = 600
CANDIDATES: Final = 200
ROUNDS: Final = 51
NOW_MS: Final = 1_760_000_000_000
WINDOW_MS: Final = 48 * 3_600_000


def run(*, follows: int, accounts: int, progress: Progress) -> dict[str, float]:
    """Measure; ``follows`` are held among ``accounts`` while more are applied."""
    return {
        **_follows(follows, accounts, progress),
        **_in_network(progress),
        **_intersections(progress),
    }


def _follows(follows: int, accounts: int, progress: Progress) -> dict[str, float]:
    progress(f"applying {follows:,} follows")
    who, whom = make_follows(follows + TIMED, accounts)
    config = SocialGraphConfig(
        users_max=int(accounts * 1.2) + 1000,
        edges_max=(follows + TIMED) * 8 // 7 + 1000,
        list_entries_max=5 * (follows + TIMED),
        follows_per_person_max=1 << 30,
    )
    room = SocialGraph(config)
    _apply(room, who[:follows], whom[:follows])
    held = room.follow_count
    began = time.process_time()
    _apply(room, who[follows:], whom[follows:])
    spent_s = time.process_time() - began
    graph = room.graph
    per_follow = graph.edges.nbytes + graph.sequences.nbytes + graph.follow_moment.nbytes + graph.arena.nbytes
    return {
        "follows_held": held,
        "follow_events_per_s": round(TIMED / spent_s),
        "follow_bytes": round(per_follow / room.follow_count, 1),
    }


def _apply(room: SocialGraph, who: Ids, whom: Ids) -> None:
    for start in range(0, who.size, BATCH):
        part = slice(start, start + BATCH)
        count = who[part].size
        room.apply(
            make_batch(
                kind=np.full(count, Kind.FOLLOW, np.uint8),
                user_id=who[part],
                subject_id=whom[part],
                timestamp_ms=np.full(count, NOW_MS),
            )
        )


def _in_network(progress: Progress) -> dict[str, float]:
    """A viewer's followees by tie, and their newest tweets."""
    progress(f"writing {TWEETS:,} tweets")
    rng = np.random.default_rng(1)
    people = np.arange(2, 2 + FOLLOWEES, dtype=np.uint64)
    graph = SocialGraph(SocialGraphConfig())
    _apply(graph, np.full(FOLLOWEES, VIEWER, np.uint64), people)
    store = TweetStore(TweetStoreConfig())
    ties = EngagementAggregates(EngagementAggregatesConfig(), graph)
    ids, created_ms = np.arange(1, 1 + TWEETS), NOW_MS - np.sort(rng.integers(0, WINDOW_MS, TWEETS))[::-1]
    for start in range(0, TWEETS, BATCH):
        part = slice(start, start + BATCH)
        count = ids[part].size
        authors = rng.choice(people, count)
        store.apply(
            make_batch(
                kind=np.full(count, Kind.CREATE), id=ids[part], user_id=authors, author_id=authors,
                subject_id=ids[part], timestamp_ms=created_ms[part].copy(), payload=np.arange(count),
                tweet_text_start=np.zeros(count), tweet_text_bytes=np.zeros(count),
            )
        )  # fmt: skip

    def look() -> int:
        found = followees_of(graph, ties.ties, VIEWER, NOW_MS, FOLLOWEES)
        return len(store.recent_of_authors(found.ids, NOW_MS - WINDOW_MS, 20, RETURNED)[0])

    return {"in_network_tweets": look(), "in_network_ms_p50": round(1000 * _middle(look), 4)}


def _intersections(progress: Progress) -> dict[str, float]:
    """The 15 pairs over full lists, of which people share about a tenth."""
    progress("intersecting circles")
    rng = np.random.default_rng(2)

    def lists(count: int) -> Lists:
        some = [rng.choice(10 * NEIGHBORS_MAX, NEIGHBORS_MAX, replace=False) + 1 for _ in range(count)]
        return Lists(np.concatenate(some).astype(np.uint64), NEIGHBORS_MAX * np.arange(1, count + 1))

    left, right = lists(len(LEFT)), lists(len(RIGHT) * CANDIDATES)
    spent_s = _middle(lambda: intersections(left, right))
    return {"intersection_us_per_candidate": round(1e6 * spent_s / CANDIDATES, 2)}


def _middle(work: Callable[[], Any]) -> float:
    """The median CPU seconds of ``ROUNDS`` rounds."""
    work()
    spent = []
    for _ in range(ROUNDS):
        began = time.process_time()
        work()
        spent.append(time.process_time() - began)
    return float(np.median(spent))
