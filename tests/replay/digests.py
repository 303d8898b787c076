"""Digests of a state and its feeds after a fixed recording: ``python tests/replay/digests.py [--renew | --record]``.

A process of its own for each setting of the processor: prints JSON. ``--renew`` writes ``golden.json`` (``make
golden``); ``--record`` makes the recording anew from the society, which is needed only when events change their form.
"""

import hashlib
import lzma
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from engine.deduplication.state import DeduplicationConfig
from engine.engagement_aggregates.state import EngagementAggregatesConfig
from engine.entity_names import EntityNamesConfig
from engine.feed import Explain, Product, Request
from engine.home_mixer.config import ForYouConfig, HomeMixerConfig, RelatedConfig
from engine.home_mixer.products import build_products
from engine.interaction_graph.entity_graph import EntityGraphConfig
from engine.interaction_graph.related import RelatedTweetsConfig
from engine.interaction_graph.state import InteractionGraphConfig
from engine.interaction_graph.user_graph import UserGraphConfig
from engine.lessons import LessonsConfig
from engine.motifs.state import MotifsConfig
from engine.pipeline.execute import Unwatched, execute
from engine.pipeline.scratch import Scratch
from engine.real_graph.state import RealGraphConfig
from engine.rooms import room_classes
from engine.signals.state import SignalsConfig
from engine.social_graph.state import SocialGraphConfig
from engine.state import HEADER_LAYOUT, EngineState, RoomsConfig
from engine.tweet_store.state import TweetStoreConfig
from streams.events.decode import Decoder
from streams.events.feed_fields import feed_digest
from streams.live import kernel_cache
from streams.log.interface import Format, Records
from streams.ordering.pieces import cut

FOLDER = Path(__file__).parent
RECORDING = FOLDER / "recording.jsonl.xz"
GOLDEN = FOLDER / "golden.json"
NOW_MS = 1_760_000_000_000
VIEWERS = range(1, 41)
ROOMS = RoomsConfig(
    deduplication=DeduplicationConfig(events_max=1 << 12),
    interaction_graph=InteractionGraphConfig(users_max=1 << 10, tweets_max=1 << 11, edges_max=1 << 13),
    user_graph=UserGraphConfig(users_max=1 << 10, edges_max=1 << 12),
    entity_graph=EntityGraphConfig(entities_max=1 << 10, tweets_max=1 << 10, edges_max=1 << 12),
    entity_names=EntityNamesConfig(names_max=1 << 10, text_bytes_max=1 << 16),
    social_graph=SocialGraphConfig(users_max=1 << 10, edges_max=1 << 12, list_entries_max=1 << 14),
    tweet_store=TweetStoreConfig(tweets_max=1 << 10, text_bytes_max=1 << 18),
    signals=SignalsConfig(users_max=1 << 10, blocks_max=1 << 12),
    real_graph=RealGraphConfig(people_max=1 << 10, pairs_max=1 << 12, features_max=1 << 13),
    lessons=LessonsConfig(interval_ms=10_000),
    engagement_aggregates=EngagementAggregatesConfig(authors_max=1 << 6, viewers_max=1 << 6, pairs_per_viewer=4),
    motifs=MotifsConfig(targets_max=1 << 8, actors_min=2),
)
#: Limits that a small society meets, so that every source brings something.
PRODUCTS = HomeMixerConfig(
    for_you=ForYouConfig(
        related=RelatedConfig(
            counting=RelatedTweetsConfig(
                age_of="first_edge", query_degree_min=2, degree_min=2, tweet_cooccurrence_min=1, tweet_score_above=0.0
            )
        )
    )
)


def record() -> None:
    """Write a society's past: topic, key and value of each event, in the order of time."""
    from loadtest.society.society import Society, SocietyConfig, encode

    society = Society(SocietyConfig(seed=5, people=120, mean_followees=10, history_events=2500))
    events = [event for part in society.bootstrap(NOW_MS, 6 * 3_600_000) for event in part]
    events += society.tick(NOW_MS, NOW_MS + 5000)
    lines = [orjson.dumps([event.topic, event.body["timestamp_ms"], encode(event).decode()]) for event in events]
    RECORDING.write_bytes(lzma.compress(b"\n".join(lines), preset=9))


def recorded() -> Iterator[Records]:
    """The recording as a log would give it: runs of one topic."""
    events = map(orjson.loads, lzma.decompress(RECORDING.read_bytes()).splitlines())
    next_offset: dict[str, int] = {}
    for topic, run in groupby(events, key=lambda event: event[0]):
        _, times_ms, values = zip(*run, strict=True)
        n, first = len(values), next_offset.get(topic, 0)
        next_offset[topic] = first + n
        yield Records(
            topic, 0, list(range(first, first + n)), list(times_ms), [Format.JSON] * n, [None] * n,
            [value.encode() for value in values],
        )  # fmt: skip


def replayed() -> EngineState:
    state, decoder = EngineState(ROOMS), Decoder(future_ms_max=300_000)
    for piece in cut(list(recorded()), 30):
        decoded = decoder.decode(piece)
        assert not decoded.dead, f"{decoded.dead[0]}: make the recording anew with --record"
        state.apply(decoded.batch)
    assert state.blend_learner.counters()["updates"] > 10, "nothing was learnt: the digest would not cover it"
    return state


def feeds_digest(state: EngineState) -> str:
    """Of the feeds of all viewers, each product, from one scratch."""

    @contextmanager
    def reading() -> Iterator[int]:
        yield state.version

    products, scratch, sha = build_products(state, PRODUCTS, "hash"), Scratch(), hashlib.sha256()
    entries = 0
    for viewer in VIEWERS:
        for product in Product:
            request = Request(
                viewer_id=viewer, request_id=viewer, time_ms=NOW_MS + 6000, seed=viewer * 31, product=product,
                explain=Explain.ALL,
            )  # fmt: skip
            feed = execute(products[product], request, scratch=scratch, reading=reading(), watcher=Unwatched())
            assert not feed.degraded, feed.degraded
            entries += len(feed.entries)
            sha.update(feed_digest(feed).encode())
    assert entries > 500, "hardly any feed has entries"
    return sha.hexdigest()


def library_digest() -> str:
    """Of what NumPy and the C library compute here: it shows whether two settings differ at all."""
    x = np.random.default_rng(1).uniform(-20, 20, 50_000)
    return hashlib.sha256(np.exp2(x).tobytes() + np.array([math.exp(v) for v in x]).tobytes()).hexdigest()


def layouts() -> dict[str, int]:
    """The layout of every room's arrays, and of the engine's own."""
    return {"engine": HEADER_LAYOUT} | {name: room.layout for name, room in room_classes().items()}


def digests() -> dict[str, Any]:
    """Of state, rooms and feeds, with what they belong to."""
    state = replayed()
    rooms: dict[str, Any] = {}
    for name, array in state.arrays():
        sha = rooms.setdefault(name.partition(".")[0], hashlib.sha256())
        sha.update(f"{name}{array.dtype.str}{array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    models = {str(product): p.model_version for product, p in build_products(state, PRODUCTS, "hash").items()}
    return {
        "layouts": layouts(),
        "models": models,
        "state": state.digest(),
        "feeds": feeds_digest(state),
        "rooms": {name: sha.hexdigest() for name, sha in rooms.items()},
    }


def renew() -> None:
    """Write the golden digests; refuses where the meaning changed and neither layout nor model version tells."""
    found = digests()
    golden = orjson.loads(GOLDEN.read_bytes()) if GOLDEN.exists() else {}
    changed = [name for name, sha in found["rooms"].items() if golden.get("rooms", {}).get(name, sha) != sha]
    if golden and "--same-version" not in sys.argv:
        same = [name for name in changed if golden["layouts"].get(name) == layouts().get(name)]
        if same:
            sys.exit(f"{', '.join(same)} changed: raise `layout` of these rooms first (CONTRIBUTING.md)")
        if not changed and golden["feeds"] != found["feeds"] and golden["models"] == found["models"]:
            sys.exit("feeds changed: raise MODEL_VERSION in engine/home_mixer/products.py first (CONTRIBUTING.md)")
    GOLDEN.write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2) + b"\n")


if __name__ == "__main__":
    # A kernel compiled before a change in what it calls would compute what the sources no longer say.
    kernel_cache.forget_stale()
    if "--record" in sys.argv:
        record()
    elif "--renew" in sys.argv:
        renew()
    else:
        sys.stdout.buffer.write(orjson.dumps({**digests(), "library": library_digest()}))
