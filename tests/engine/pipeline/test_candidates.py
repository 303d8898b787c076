import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.pipeline.candidates import Candidates
from engine.pipeline.scratch import Buffers, Scratch

found = st.lists(st.lists(st.tuples(st.integers(0, 12), st.floats(-5, 5)), max_size=8), min_size=0, max_size=4)
#: Kept between examples: what one request leaves must not reach the next.
USED = Buffers()


def merge(lists):
    sources = [
        (f"s{n}", np.array([i for i, _ in rows], np.uint64), np.array([s for _, s in rows], np.float64))
        for n, rows in enumerate(lists)
    ]
    return Candidates.merge(sources, USED)


@given(found)
def test_merge_against_a_dictionary(lists):
    merged = merge(lists)
    expected: dict[int, dict[str, tuple[float, int]]] = {}
    for number, rows in enumerate(lists):
        for rank, (tweet, score) in enumerate(rows):
            expected.setdefault(tweet, {}).setdefault(f"s{number}", (score, rank))
    assert merged.tweet_id.tolist() == list(expected)
    for i, tweet in enumerate(expected):
        assert {h.name: (h.score, h.rank) for h in merged.hits(i)} == expected[tweet]
    assert np.isnan(merged.source_score[merged.source_rank < 0]).all()
    # Kernels are compiled for such arrays, and for others only when the first comes.
    assert merged.source_score.flags.c_contiguous
    assert merged.source_rank.flags.c_contiguous


@given(found, st.lists(st.sets(st.integers(0, 12)), max_size=4))
def test_the_first_reason_stands_and_rows_are_never_moved(lists, drops):
    candidates = merge(lists)
    before, expected = candidates.tweet_id.tolist(), {}
    for number, bad in enumerate(drops):
        code = candidates.code(f"r{number}")
        mask = np.isin(candidates.tweet_id, np.array(sorted(bad), np.uint64))
        candidates.drop_kept(mask[candidates.rows], code)
        for tweet in before:
            if tweet in bad:
                expected.setdefault(tweet, f"r{number}")
    counts = candidates.settle()
    assert {d.tweet_id: d.filter for d in candidates.dropped()} == expected
    assert candidates.tweet_id.tolist() == before
    assert candidates.tweet_id[candidates.rows].tolist() == [t for t in before if t not in expected]
    assert counts.tolist() == [len(candidates.rows)] + [
        sum(name == reason for name in expected.values()) for reason in candidates.reasons
    ]


def test_columns_fit_and_have_new_names():
    candidates = merge([[(1, 1.0), (2, 1.0)]])
    candidates.add({"a": np.zeros(2)})
    for wrong in ({"a": np.zeros(2)}, {"b": np.zeros(3)}):
        with pytest.raises(AssertionError):
            candidates.add(wrong)
    candidates.drop_kept([0], candidates.code("r"))
    candidates.settle()
    candidates.add_kept({"c": np.zeros(1)})
    for wrong in ({"c": np.zeros(1)}, {"d": np.zeros(2)}):
        with pytest.raises(AssertionError):
            candidates.add_kept(wrong)


def test_scratch_keeps_one_of_each_kind_and_name():
    scratch = Scratch()
    first = scratch.of(Buffers)
    assert scratch.of(Buffers) is first
    assert scratch.of(Buffers, "other") is not first
    assert first.take("a", np.float32, 3, 4).shape == (3, 4)
    assert first.take("a", np.float32, 2).base is first.take("a", np.float32, 200).base
    assert first.take("a", np.float32, 5000).size == 5000
