"""A viewer who follows tens of thousands is served from the strongest ties and the newest follows together."""

from contextlib import nullcontext

import msgspec
import numpy as np
import pytest

from engine.batch import Kind, make_batch
from engine.feed import FEEDS, Product, Request
from engine.home_mixer.config import HomeMixerConfig
from engine.home_mixer.products import build_products
from engine.pipeline.execute import Unwatched, execute
from engine.pipeline.scratch import Scratch
from engine.rooms import small_rooms
from engine.social_graph.state import SocialGraphConfig
from engine.state import EngineState

NOW = 1_760_000_000_000
VIEWER, MANY = 1, 20_000
#: The first to be followed, to whom the viewer is tied; the second, to whom not; the last.
TIED, UNTIED, NEWEST = 1000, 1001, 1000 + MANY - 1


@pytest.fixture(scope="module")
def state() -> EngineState:
    wide = SocialGraphConfig(
        users_max=1 << 17, edges_max=1 << 17, list_entries_max=1 << 20, follows_per_person_max=MANY
    )
    made = EngineState(msgspec.structs.replace(small_rooms(1 << 9), social_graph=wide))
    # Long ago: so many acts within two days would be more than one person's share.
    rows = [(Kind.FOLLOW, VIEWER, 1000 + at, 0, NOW - 10 * 86_400_000 + at) for at in range(MANY)]
    rows += [(Kind.CREATE, one, 10 * one, one, NOW - 20_000) for one in (TIED, UNTIED, NEWEST)]
    rows += [(Kind.CREATE, TIED, 10 * TIED + 1, TIED, NOW - 21_000)]
    rows += [(Kind.FAVORITE, VIEWER, 10 * TIED + 1, TIED, NOW - 10_000)]
    n = len(rows)
    made.apply(
        make_batch(
            b"x" * n, kind=[r[0] for r in rows], id=range(1, n + 1), user_id=[r[1] for r in rows],
            subject_id=[r[2] for r in rows], author_id=[r[3] for r in rows], timestamp_ms=[r[4] for r in rows],
            payload=range(n), tweet_text_start=range(n), tweet_text_bytes=np.ones(n),
        )
    )  # fmt: skip
    assert made.social_graph.followee_count(VIEWER) == MANY
    return made


@pytest.mark.parametrize("product", FEEDS)
def test_ties_and_new_follows_are_shown_and_the_feed_says_how_many_are_left_out(state, product):
    config = HomeMixerConfig()
    request = Request(viewer_id=VIEWER, request_id=1, time_ms=NOW, seed=5, product=product)
    pipeline = build_products(state, config, "hash")[product]
    feed = execute(pipeline, request, scratch=Scratch(), reading=nullcontext(1), watcher=Unwatched())
    shown = {entry.author_id for entry in feed.entries if entry.in_network}
    assert shown >= {TIED, NEWEST}
    assert product is Product.FOR_YOU or UNTIED not in shown
    assert feed.followees_left_out == MANY - config.followees_max
