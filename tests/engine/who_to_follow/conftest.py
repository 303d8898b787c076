"""Small states with follows, and the query of a viewer as the sources get it."""

import numpy as np

from engine.batch import Kind, make_batch
from engine.feed import Product, Request
from engine.home_mixer.config import HomeMixerConfig
from engine.pipeline.components import Query, Unwatched
from engine.pipeline.scratch import Scratch
from engine.pipeline.stages import Work
from engine.rooms import small_rooms
from engine.state import EngineState
from engine.who_to_follow.product import build_who_to_follow

T0 = 1_760_000_000_000
CONFIG = HomeMixerConfig()


def state_of(follows, acts=()):
    """A state with these follows, in order, and favorites of tweets: who, whose."""
    state = EngineState(small_rooms(1 << 9))
    kinds = [Kind.FOLLOW] * len(follows)
    ids = np.arange(1, 1 + len(follows))
    if follows:
        state.apply(
            make_batch(
                kind=kinds, id=ids, user_id=[a for a, _ in follows], subject_id=[b for _, b in follows],
                timestamp_ms=T0 + ids,
            )
        )  # fmt: skip
    for n, (who, whose) in enumerate(acts):
        tweet = 10_000 + n
        state.apply(
            make_batch(
                kind=[Kind.CREATE, Kind.FAVORITE], id=[50_000 + 2 * n, 50_001 + 2 * n], user_id=[whose, who],
                subject_id=[tweet, tweet], author_id=[whose, whose], timestamp_ms=[T0 + n, T0 + n + 1],
            )
        )  # fmt: skip
    return state


def query_of(state, viewer, time_ms=T0 + 60_000):
    """A query after its hydration."""
    request = Request(viewer_id=viewer, request_id=1, time_ms=time_ms, seed=1, product=Product.WHO_TO_FOLLOW)
    query = Query(request, Scratch())
    build_who_to_follow(state, CONFIG, "").under_lock[0].run(Work(query, Unwatched()))
    return query
