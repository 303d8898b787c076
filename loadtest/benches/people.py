"""The people side measured: follows, followees' tweets, circles that two people share, tie strength, suggestions.

All figures are CPU time of one core. The graph of follows is synthetic, as in ``reputation``: few people follow many,
and few are followed by many.
"""

import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engine.batch import EventBatch, Kind, make_batch
from engine.feed import Feed, Product, Request
from engine.home_mixer.config import HomeMixerConfig
from engine.in_network.followees import followees_of
from engine.pipeline.execute import Unwatched, execute
from engine.pipeline.scratch import Scratch
from engine.real_graph.state import RealGraph, RealGraphConfig, real_graph_bytes
from engine.rooms import RoomsConfig
from engine.social_graph.circles import LEFT, NEIGHBORS_MAX, RIGHT, Lists, intersections
from engine.social_graph.state import SocialGraph, SocialGraphConfig
from engine.state import EngineState
from engine.tweet_store.state import TweetStore, TweetStoreConfig
from engine.who_to_follow.product import build_who_to_follow
from loadtest.benches import motifs
from loadtest.benches.reputation import make_follows

Progress = Callable[[str], None]
Ids = NDArray[np.uint64]

#: Follows that are timed once the others are held.
TIMED: Final = 500_000
BATCH: Final = 1 << 14
#: Days of acts.
DAYS: Final = 8
VIEWER: Final = 1
FOLLOWEES: Final = 1000
TWEETS: Final = 100_000
RETURNED: Final = 600
CANDIDATES: Final = 200
ROUNDS: Final = 51
#: Of who to follow: people, and whom each follows.
PEOPLE: Final = 10_000
FOLLOWS_EACH: Final = 50
NOW_MS: Final = 1_760_000_000_000
WINDOW_MS: Final = 48 * 3_600_000


def run(*, follows: int, accounts: int, progress: Progress) -> dict[str, float]:
    """Measure; ``follows`` are held among ``accounts`` while more are applied."""
    graph, figures = _follows(follows, accounts, progress)
    return {
        **figures,
        **motifs.run(graph, accounts, progress),
        **_in_network(progress),
        **_intersections(progress),
        **_real_graph(progress),
        **_who_to_follow(progress),
    }


def _follows(follows: int, accounts: int, progress: Progress) -> tuple[SocialGraph, dict[str, float]]:
    """The graph of follows, and what applying them took."""
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
    return room, {
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
    ties = RealGraph(RealGraphConfig())
    ties.apply(_favorites(np.full(FOLLOWEES, VIEWER, np.uint64), people, NOW_MS))
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
        found = followees_of(graph, ties.strength, VIEWER, NOW_MS, FOLLOWEES)
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


def _favorites(who: Ids, whom: Ids, time_ms: int) -> EventBatch:
    """Favorites of different tweets, as the tweet store resolves them."""
    tweets = np.arange(1, 1 + who.size)
    return make_batch(
        kind=np.full(who.size, Kind.FAVORITE), user_id=who, subject_id=tweets, original_id=tweets,
        original_author_id=whom, timestamp_ms=np.full(who.size, time_ms),
    )  # fmt: skip


def _real_graph(progress: Progress) -> dict[str, float]:
    """Acts of many people toward 40 others each, a few of them much more often, in pieces, over eight days."""
    progress(f"applying {DAYS * TIMED:,} acts")
    rng, people = np.random.default_rng(3), 16_000
    kinds = (Kind.FAVORITE, Kind.CLICK, Kind.DWELL, Kind.REPLY, Kind.RETWEET, Kind.PROFILE_CLICK)
    config = RealGraphConfig(pairs_max=1 << 19, features_max=5 << 18)
    room, spent_s = RealGraph(config), 0.0
    room.apply(_favorites(np.ones(1, np.uint64), np.full(1, 2, np.uint64), NOW_MS))
    for day in range(DAYS):
        for start in range(0, TIMED, BATCH):
            count = min(BATCH, TIMED - start)
            who = rng.integers(1, people, count)
            other = (2.0 * rng.pareto(1.0, count)).astype(np.int64) % 40
            batch = _favorites(
                who.astype(np.uint64), ((who * 7919 + other * 104_729) % people + 1).astype(np.uint64),
                NOW_MS + day * 86_400_000,
            )  # fmt: skip
            batch.kind[:] = rng.choice(kinds, count, p=(0.3, 0.3, 0.2, 0.08, 0.07, 0.05))
            batch.value[:] = 5.0
            began = time.process_time()
            room.apply(batch)
            spent_s += time.process_time() - began
    return {
        "real_graph_us_per_event": round(1e6 * spent_s / (DAYS * TIMED), 3),
        "real_graph_bytes_per_edge": round(real_graph_bytes(RealGraphConfig()) / RealGraphConfig().pairs_max, 1),
        "real_graph_features_per_edge": round(room.usage()["features"][0] / room.usage()["pairs"][0], 2),
    }


def _who_to_follow(progress: Progress) -> dict[str, float]:
    """People for a viewer with 1,000 followees, a fifth of whom follow back; everybody follows ``FOLLOWS_EACH``."""
    progress(f"applying {PEOPLE * FOLLOWS_EACH:,} follows to all rooms")
    rng = np.random.default_rng(4)
    state = EngineState(RoomsConfig())
    who = np.repeat(np.arange(2, 2 + PEOPLE, dtype=np.uint64), FOLLOWS_EACH)
    whom = (PEOPLE * rng.random(who.size) ** 2).astype(np.uint64) + np.uint64(2)
    followees = np.arange(2, 2 + FOLLOWEES, dtype=np.uint64)
    friends = followees[:: FOLLOWEES // 200]
    who = np.concatenate([who, np.full(FOLLOWEES, VIEWER, np.uint64), friends])
    whom = np.concatenate([whom, followees, np.full(friends.size, VIEWER, np.uint64)])
    kept, ids = who != whom, np.arange(1, 1 + who.size)
    columns = {
        "id": ids[kept],
        "user_id": who[kept],
        "subject_id": whom[kept],
        "timestamp_ms": NOW_MS + ids[kept] // 100,
    }
    for start in range(0, columns["id"].size, BATCH):
        part = {name: column[start : start + BATCH] for name, column in columns.items()}
        state.apply(make_batch(kind=np.full(part["id"].size, Kind.FOLLOW, np.uint8), **part))
    pipeline = build_who_to_follow(state, HomeMixerConfig(), "")
    request = Request(viewer_id=VIEWER, request_id=1, time_ms=NOW_MS + 60_000, seed=1, product=Product.WHO_TO_FOLLOW)
    scratch = Scratch()

    def ask() -> Feed:
        return execute(pipeline, request, scratch=scratch, reading=nullcontext(state.version), watcher=Unwatched())

    return {"who_to_follow_people": len(ask().entries), "who_to_follow_ms_p50": round(1000 * _middle(ask), 3)}


def _middle(work: Callable[[], Any]) -> float:
    """The median CPU seconds of ``ROUNDS`` rounds."""
    work()
    spent = []
    for _ in range(ROUNDS):
        began = time.process_time()
        work()
        spent.append(time.process_time() - began)
    return float(np.median(spent))
