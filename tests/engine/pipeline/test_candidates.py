import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engine.pipeline.candidates import Candidates

found = st.lists(st.lists(st.tuples(st.integers(1, 12), st.floats(-5, 5)), max_size=8), min_size=0, max_size=4)


@given(found)
def test_merge_against_a_dictionary(lists):
    names = [f"s{i}" for i in range(len(lists))]
    merged = Candidates.merge(
        [
            (name, np.array([i for i, _ in rows], np.uint64), np.array([s for _, s in rows], np.float64))
            for name, rows in zip(names, lists, strict=True)
        ]
    )
    expected: dict[int, dict[str, tuple[float, int]]] = {}
    for name, rows in zip(names, lists, strict=True):
        for rank, (tweet, score) in enumerate(rows):
            expected.setdefault(tweet, {}).setdefault(name, (score, rank))
    assert merged.tweet_id.tolist() == list(expected)
    for i, tweet in enumerate(expected):
        assert {h.name: (h.score, h.rank) for h in merged.hits(i)} == expected[tweet]


@given(found, st.randoms(use_true_random=False))
def test_take_keeps_rows_together(lists, random):
    merged = Candidates.merge(
        [
            (f"s{n}", np.array([i for i, _ in rows], np.uint64), np.array([s for _, s in rows], np.float64))
            for n, rows in enumerate(lists)
        ]
    )
    merged.add({"double": merged.tweet_id * np.uint64(2)})
    where = np.array(random.sample(range(len(merged)), random.randint(0, len(merged))), np.intp)
    taken = merged.take(where)
    assert taken.columns["double"].tolist() == [2 * t for t in taken.tweet_id.tolist()]
    assert [taken.hits(i) for i in range(len(taken))] == [merged.hits(int(i)) for i in where]


def test_brought_by_is_zero_elsewhere():
    merged = Candidates.merge([("a", np.array([1, 2], np.uint64), np.array([5.0, 4.0]))])
    assert merged.brought_by("a").tolist() == [5.0, 4.0]
    assert merged.brought_by("b").tolist() == [0.0, 0.0]
