"""Circles of people against dictionaries of sets."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.batch import Kind, make_batch
from engine.rooms import small_rooms
from engine.shared_circles import SharedCircles
from engine.social_graph.circles import LEFT, NEIGHBORS_MAX, RIGHT
from engine.state import EngineState

NOW = 1_760_000_000_000
PEOPLE = range(1, 10)
pairs = st.tuples(st.sampled_from(PEOPLE), st.sampled_from(PEOPLE))
events = st.lists(
    st.tuples(st.sampled_from([Kind.FOLLOW, Kind.FAVORITE, Kind.RETWEET, Kind.MENTION]), pairs), max_size=90
)


def state_of(rows, size=1 << 8) -> EngineState:
    """``rows``: (kind, who, toward whom); an engagement is with the tweet of that person, which has the id + 1000."""
    state = EngineState(small_rooms(size))
    columns = [(Kind.CREATE, person, 1000 + person, person) for person in PEOPLE]
    for kind, one, other in rows:
        if kind == Kind.MENTION:  # in a tweet of its own
            columns.append((Kind.MENTION, other, 1000 + one, one))
        else:
            columns.append((kind, one, other if kind == Kind.FOLLOW else 1000 + other, 0))
    n = len(columns)
    state.apply(
        make_batch(
            b"x" * n, kind=[c[0] for c in columns], id=range(1, n + 1), user_id=[c[1] for c in columns],
            subject_id=[c[2] for c in columns], author_id=[c[3] for c in columns],
            timestamp_ms=[NOW + at for at in range(n)], payload=range(n), tweet_text_start=range(n),
            tweet_text_bytes=[1] * n,
        )
    )  # fmt: skip
    return state


@settings(max_examples=30, deadline=None)
@given(events)
def test_the_fifteen_pairs_and_the_names(drawn):
    rows = [(kind, one, other) for kind, (one, other) in drawn if one != other]
    did = {
        kind: {person: set() for person in PEOPLE} for kind in (Kind.FOLLOW, Kind.FAVORITE, Kind.RETWEET, Kind.MENTION)
    }
    for kind, one, other in rows:
        did[kind][one].add(other)

    def by(kind, person):
        return {one for one in PEOPLE if person in did[kind][one]}

    circles = SharedCircles(state_of(rows))
    left = circles.left(1, NOW)
    candidates = np.array([p for p in PEOPLE if p != 1], np.uint64)
    found = circles.shared(1, left, candidates, NOW, 9)
    follows, followers = did[Kind.FOLLOW], {p: by(Kind.FOLLOW, p) for p in PEOPLE}
    mine = dict(zip(LEFT, (follows[1], did[Kind.FAVORITE][1], follows[1] & followers[1]), strict=True))
    for row, person in enumerate(candidates.tolist()):
        theirs = (
            followers[person], by(Kind.FAVORITE, person), by(Kind.RETWEET, person), by(Kind.MENTION, person),
            follows[person] & followers[person],
        )  # fmt: skip
        for i, name in enumerate(LEFT):
            assert found.pairs.left[i] == len(mine[name])
            for j, right in enumerate(theirs):
                assert found.pairs.right[row, j] == len(right), RIGHT[j]
                assert found.pairs.counts[row, i, j] == len(mine[name] & right), (name, RIGHT[j])
        shared = [one for one in left[0].tolist() if one in followers[person]]
        assert found.names[row][found.names[row] != 0].tolist() == shared
        assert found.followed_by[row] == len(shared)


def test_lists_have_those_with_the_strongest_ties():
    many = NEIGHBORS_MAX + 60
    fans = range(1000, 1000 + many)
    state = EngineState(small_rooms(1 << 12))
    rows = [(Kind.CREATE, 2, 5000, 2)] + [(Kind.FOLLOW, fan, 2, 0) for fan in fans]
    strong = [*fans][:40]  # who followed first, and likes what the candidate writes
    rows += [(Kind.FAVORITE, fan, 5000, 0) for fan in strong]
    state.apply(
        make_batch(
            b"x", kind=[r[0] for r in rows], id=range(1, len(rows) + 1), user_id=[r[1] for r in rows],
            subject_id=[r[2] for r in rows], author_id=[r[3] for r in rows],
            timestamp_ms=[NOW + at for at in range(len(rows))],
            payload=[0] + [-1] * (len(rows) - 1), tweet_text_start=[0], tweet_text_bytes=[1],
        )
    )  # fmt: skip
    followed_by = SharedCircles(state).right(2, NOW)[0].tolist()
    assert len(followed_by) == NEIGHBORS_MAX
    assert {*followed_by} >= {*strong}
