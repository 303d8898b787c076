"""Whose tweets are looked at, against sorting everybody."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.batch import Kind, make_batch
from engine.in_network.followees import followees_of
from engine.social_graph.state import SocialGraph, SocialGraphConfig

VIEWER = 1


def graph_of(followees) -> SocialGraph:
    graph = SocialGraph(SocialGraphConfig(users_max=1 << 14, edges_max=1 << 14, list_entries_max=1 << 17))
    n = len(followees)
    graph.apply(
        make_batch(kind=[Kind.FOLLOW] * n, user_id=[VIEWER] * n, subject_id=followees, timestamp_ms=np.arange(1, n + 1))
    )
    return graph


@settings(max_examples=60, deadline=None)
@given(st.permutations(range(2, 40)), st.integers(0, 38), st.data(), st.integers(1, 45))
def test_the_strongest_ties_and_the_newest_follows(order, count, data, most):
    followees = order[:count]
    strength = dict(zip(followees, data.draw(st.lists(st.integers(0, 3), min_size=count, max_size=count)), strict=True))
    asked = []

    def strengths(viewer, ids, time_ms):
        asked.append((viewer, time_ms))
        return np.array([strength[person] for person in ids.tolist()], np.float32)

    found = followees_of(graph_of(followees), strengths, VIEWER, 77, most)
    newest = followees[::-1]
    kept = newest
    if count > most:
        places = most // 5
        rest = sorted(newest[places:], key=lambda person: (-strength[person], newest.index(person)))
        kept = newest[:places] + rest[: most - places]
    assert found.ids.tolist() == sorted(kept, key=lambda person: (-strength[person], newest.index(person)))
    assert found.left_out == count - len(kept)
    assert len(found.relation) == len(found.ids)
    assert asked == [(VIEWER, 77)]


def test_who_follows_very_many_people():
    graph = graph_of(range(2, 3002))
    strong = {10, 20, 30}
    found = followees_of(graph, lambda _, ids, __: np.isin(ids, [*strong]).astype(np.float32), VIEWER, 0, 100)
    assert found.ids[:3].tolist() == [30, 20, 10]
    assert found.ids[3:].tolist() == list(range(3001, 2904, -1))
    assert found.left_out == 2900
