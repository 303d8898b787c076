"""Ties as feeds and queries read them, and the columns of pairs against plain counting."""

import numpy as np

from engine.batch import Kind, make_batch
from engine.rooms import small_rooms
from engine.state import EngineState
from engine.tie_strength import TieStrength

DAY_MS = 86_400_000
T0 = 20_000 * DAY_MS
NOW_MS = T0 + 40 * DAY_MS + 1000


def state_of(rows):
    """Rows of (kind, user, subject, day): creates name their tweet."""
    state = EngineState(small_rooms(1 << 8))
    n = len(rows)
    creates = [row[0] == Kind.CREATE for row in rows]
    state.apply(
        make_batch(
            kind=[row[0] for row in rows], id=range(1, n + 1), user_id=[row[1] for row in rows],
            author_id=[row[1] if create else 0 for row, create in zip(rows, creates, strict=True)],
            subject_id=[row[2] for row in rows],
            timestamp_ms=[int(T0 + row[3] * DAY_MS) + i for i, row in enumerate(rows)],
            payload=np.where(creates, np.cumsum(creates) - 1, -1), tweet_text_start=np.zeros(sum(creates)),
            tweet_text_bytes=np.zeros(sum(creates)),
        )
    )  # fmt: skip
    return state


def test_whom_a_viewer_is_tied_to_in_and_out_of_network():
    state = state_of(
        [
            *((Kind.CREATE, author, 100 + author, 39) for author in (2, 3, 4, 5, 6)),
            *((Kind.CREATE, 4, 200 + k, 39) for k in range(3)),
            (Kind.CREATE, 5, 300, 30),
            *((Kind.FOLLOW, 1, other, 1) for other in (2, 3, 4, 5, 7)),
            (Kind.FAVORITE, 1, 103, 39),
            (Kind.FAVORITE, 1, 102, 39.5),
            (Kind.REPLY, 1, 102, 40),
            (Kind.RETWEET, 1, 106, 40),
        ]
    )
    ties = TieStrength(state)
    found = ties.in_network(1, NOW_MS, 10)
    # Two ties, then who wrote 4 and 1 tweets in the last three days, then who wrote nothing.
    assert found.user_ids.tolist() == [2, 3, 4, 5, 7]
    assert found.tweets.tolist() == [1, 1, 4, 1, 0]
    assert (found.strength > 0).tolist() == [True, True, False, False, False]
    assert ties.in_network(1, NOW_MS, 3).left_out == 2
    outside = ties.out_of_network(1, NOW_MS, 10)
    assert outside.user_ids.tolist() == [6]
    assert outside.strength[0] == ties.strength(1, np.array([6], np.uint64), NOW_MS)[0] > 0
    assert ties.out_of_network(1, NOW_MS, 0).left_out == 1
    # Months later nothing is left of these ties.
    assert not ties.out_of_network(1, NOW_MS + 90 * DAY_MS, 10).user_ids.size
    assert ties.in_network(99, NOW_MS, 10).user_ids.size == 0
