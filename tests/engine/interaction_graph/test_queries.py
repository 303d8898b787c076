"""Social-proof look-up against a brute force over the edges."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import RequestError
from engine.interaction_graph.queries import SocialProof, social_proof

from .model import Op, small_graph_of

OPS = st.lists(
    st.builds(Op, st.integers(1, 12), st.integers(1, 9), st.sampled_from([1, 1, 2, 3, 8]), st.integers(1, 30)),
    max_size=80,
)


def rows(proof: SocialProof) -> list[list[tuple[int, int, int]]]:
    return [
        list(
            zip(
                proof.user_ids[i, :n].tolist(),
                proof.types[i, :n].tolist(),
                (proof.times_ms[i, :n] // 1000).tolist(),
                strict=True,
            )
        )
        for i, n in enumerate(proof.counts.tolist())
    ]


@settings(deadline=None, max_examples=150)
@given(
    OPS,
    st.lists(st.integers(1, 11), unique=True, max_size=11),
    st.lists(st.integers(1, 14), unique=True, max_size=14),
    st.integers(1, 6),
    st.sampled_from([0xFFFF, 0b10, 0b1100]),
)
def test_is_the_brute_force(ops: list[Op], tweets: list[int], users: list[int], limit: int, mask: int) -> None:
    graph = small_graph_of(ops)
    expected = []
    for tweet in tweets:
        ids, types, times = graph.neighbors_of_tweet(tweet, 1000)
        newest: dict[tuple[int, int], int] = {}
        for user, kind, time in zip(ids.tolist(), types.tolist(), (times // 1000).tolist(), strict=True):
            if user in users and mask >> kind & 1:
                newest[user, kind] = max(time, newest.get((user, kind), 0))
        found = [(user, kind, time) for (user, kind), time in newest.items()]
        expected.append(sorted(found, key=lambda f: (-f[2], f[0], f[1]))[:limit])
    proof = social_proof(graph, np.array(tweets, np.uint64), np.array(users, np.uint64), limit, mask)
    assert rows(proof) == expected


def test_reads_the_cheaper_side_to_the_same_answer() -> None:
    graph = small_graph_of([Op(u, 50, 1, u) for u in range(1, 400)] + [Op(7, t, 1, 500) for t in range(60, 80)])
    few_people = social_proof(graph, np.array([50], np.uint64), np.array([7, 8], np.uint64), 5)
    assert rows(few_people) == [[(8, 1, 8), (7, 1, 7)]]
    many_people = social_proof(graph, np.array([60], np.uint64), np.arange(1, 400, dtype=np.uint64), 5)
    assert rows(many_people) == [[(7, 1, 500)]]


def test_limits_have_a_name() -> None:
    graph = small_graph_of([])
    for tweets, limit in ((1, 0), (1001, 1000)):
        with pytest.raises(RequestError) as caught:
            social_proof(graph, np.ones(tweets, np.uint64), np.ones(1, np.uint64), limit)
        assert caught.value.code == "too_many_proofs"


def test_nothing_from_nobody() -> None:
    graph = small_graph_of([])
    assert social_proof(graph, np.empty(0, np.uint64), np.ones(1, np.uint64), 3).user_ids.shape == (0, 3)
    assert social_proof(graph, np.ones(2, np.uint64), np.empty(0, np.uint64), 3).counts.tolist() == [0, 0]
