"""What circles have in common, against sets in dictionaries."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.batch import Kind, make_batch
from engine.social_graph.circles import LEFT, NEIGHBORS_MAX, RIGHT, Lists, intersections
from engine.social_graph.state import SocialGraph, SocialGraphConfig

people = st.sets(st.sampled_from([*range(1, 40), 2**64 - 1, 2**63]), max_size=20)


def lists(sets) -> Lists:
    sizes = [len(some) for some in sets]
    return Lists(np.array([person for some in sets for person in some], np.uint64), np.cumsum(sizes, dtype=np.int64))


@settings(max_examples=100, deadline=None)
@given(
    st.tuples(*[people] * len(LEFT)),
    st.lists(st.tuples(*[people] * len(RIGHT)), max_size=4),
)
def test_the_fifteen_pairs_are_intersections_of_sets(left, candidates):
    found = intersections(lists(left), lists([some for right in candidates for some in right]))
    expected = [[[len(a & b) for b in right] for a in left] for right in candidates]
    assert found.counts.tolist() == expected
    assert found.left.tolist() == [len(a) for a in left]
    assert found.right.tolist() == [[len(b) for b in right] for right in candidates]
    for c, right in enumerate(candidates):
        for i, a in enumerate(left):
            for j, b in enumerate(right):
                plain = len(a & b) / (len(a) * len(b)) ** 0.5 if a and b else 0.0
                assert found.normalized()[c, i, j] == np.float32(plain)


def test_full_lists():
    everybody = set(range(1, NEIGHBORS_MAX + 1))
    found = intersections(lists([everybody] * 3), lists([everybody] * 10))
    assert (found.counts == NEIGHBORS_MAX).all()
    assert (found.normalized() == 1.0).all()


@pytest.mark.parametrize(
    ("left", "right", "words"),
    [
        ([{1}] * 2, [{1}] * 5, "2 left and 5 right"),
        ([{1}] * 3, [{1}] * 6, "3 left and 6 right"),
        ([set(range(1, 514)), {1}, {1}], [], "more than 512"),
    ],
)
def test_lists_that_do_not_fit(left, right, words):
    with pytest.raises(ValueError, match=words):
        intersections(lists(left), lists(right))


def graph_of(follows) -> SocialGraph:
    graph = SocialGraph(SocialGraphConfig(users_max=1 << 12, edges_max=1 << 14, list_entries_max=1 << 17))
    pairs = np.array(sorted(follows), np.uint64).reshape(-1, 2)
    graph.apply(
        make_batch(kind=[Kind.FOLLOW] * len(pairs), user_id=pairs[:, 0].copy(), subject_id=pairs[:, 1].copy(),
                   timestamp_ms=np.arange(1, len(pairs) + 1))
    )  # fmt: skip
    return graph


@settings(max_examples=60, deadline=None)
@given(
    st.sets(st.tuples(st.integers(1, 12), st.integers(1, 12)).filter(lambda pair: pair[0] != pair[1]), max_size=60),
    st.permutations(range(1, 15)),
    st.integers(0, 14),
    st.integers(1, 4),
)
def test_who_of_some_people_follows_an_author(follows, order, count, most):
    asked, authors = order[:count], np.arange(0, 15, dtype=np.uint64)
    named, counts = graph_of(follows).followed_by(np.array(asked, np.uint64), authors, most)
    for author, row, total in zip(authors.tolist(), named.tolist(), counts.tolist(), strict=True):
        plain = [person for person in asked if (person, author) in follows]
        assert [person for person in row if person] == plain[:most]
        assert total == len(plain)


def test_of_a_celebrity_the_first_people_are_looked_for():
    celebrity = 2000
    graph = graph_of({(person, celebrity) for person in range(1, 1001)})
    asked = np.array([1500, *range(900, 0, -1)], np.uint64)
    named, counts = graph.followed_by(asked, np.array([celebrity], np.uint64), 2)
    assert named.tolist() == [[900, 899]]
    assert counts.tolist() == [127]
