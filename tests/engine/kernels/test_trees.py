"""Trees as arrays against plain Python and against scikit-learn, and what is found wrong with them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingClassifier

from engine.kernels import trees as kernels
from streams.training.tie_trees import joined, trees_of
from tests.oracles.trees import drawn, probability

#: Whole numbers lie on thresholds; NaN is a missing value.
VALUES = np.array([-3.0, -2.0, -1.0, 0.0, 0.5, 1.0, 2.0, 3.0, np.nan, np.inf, -np.inf])


def probabilities(trees, base, rows, which=None, first=0, last=None):
    out = np.empty(len(rows))
    wanted = np.ones(len(rows), np.bool_) if which is None else which
    kernels.probabilities(trees, first, len(trees.roots) - 1 if last is None else last, base, rows, wanted, out)
    return out


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(0, 12), st.integers(1, 20))
def test_each_row_goes_down_every_tree(seed, count, splits, n):
    rng = np.random.default_rng(seed)
    trees = drawn(rng, count, splits)
    rows, which = rng.choice(VALUES, (n, 8)), rng.random(n) < 0.8
    first = int(rng.integers(0, count))
    found = probabilities(trees, 0.25, rows, which, first)
    expected = [
        probability(trees, first, count, 0.25, row) if wanted else 0.0
        for row, wanted in zip(rows.tolist(), which.tolist(), strict=True)
    ]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-15)
    # Each row by itself: neither its neighbors nor the vector width matter.
    again = [probabilities(trees, 0.25, rows[i : i + 1], which[i : i + 1], first)[0] for i in range(n)]
    assert found.tolist() == again


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.3]), st.integers(1, 6))
def test_probabilities_are_those_of_scikit_learn(seed, missing, depth):
    """Rows of few distinct values: many lie on the thresholds between them; some values are missing."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, 6, (300, 8)).astype(np.float64)
    rows[:, 1] = rng.normal(size=300)
    rows[rng.random(rows.shape) < missing] = np.nan
    truth = np.nan_to_num(rows[:, 0]) + np.nan_to_num(rows[:, 1]) + rng.normal(size=300) > 3
    truth[:2] = False, True
    classifier = HistGradientBoostingClassifier(max_iter=20, max_depth=depth, min_samples_leaf=3, random_state=seed)
    classifier.fit(rows, truth)
    base, nodes = trees_of(classifier)
    trees = joined(nodes)
    thresholds = trees.threshold[trees.left != np.arange(len(trees.left))]
    asked = np.concatenate([rows, rng.choice([*thresholds[:50].tolist(), np.nan, 0.0, 9.0], (200, 8))])
    found = probabilities(trees, base, asked)
    np.testing.assert_allclose(found, classifier.predict_proba(asked)[:, 1], rtol=0, atol=1e-12)
    assert kernels.fault(trees, 8, 16, np.empty(len(trees.value), np.int32)) == kernels.SOUND


def fault(trees, depth_max=16):
    return kernels.fault(trees, 8, depth_max, np.empty(len(trees.value), np.int32))


DAMAGE = {
    "to itself": lambda t: t.left.__setitem__(0, 0),
    "backwards": lambda t: t.right.__setitem__(2, 1) or t.left.__setitem__(2, 1),
    "into another tree": lambda t: t.right.__setitem__(0, len(t.value) - 1),
    "negative": lambda t: t.left.__setitem__(0, -1),
    "out of the nodes": lambda t: t.right.__setitem__(0, len(t.value)),
    "unknown feature": lambda t: t.feature.__setitem__(0, 8),
    "flag": lambda t: t.missing_left.__setitem__(0, 2),
    "roots": lambda t: t.roots.__setitem__(1, t.roots[2]),
    "first root": lambda t: t.roots.__setitem__(0, 1),
    "last root": lambda t: t.roots.__setitem__(-1, 3),
}


def two_trees():
    rng = np.random.default_rng(3)
    while (trees := drawn(rng, 3, 4)).roots[1] < 5:
        pass
    return trees


@pytest.mark.parametrize("how", DAMAGE)
def test_broken_trees_are_noticed(how):
    trees = two_trees()
    assert fault(trees) == kernels.SOUND
    DAMAGE[how](trees)
    assert fault(trees) == kernels.BROKEN


def test_numbers_that_are_none_and_deep_trees_are_noticed():
    for column, value in (("value", np.nan), ("value", np.inf), ("threshold", np.nan)):
        trees = two_trees()
        getattr(trees, column)[-1] = value
        assert fault(trees) == kernels.NOT_FINITE
    trees = two_trees()
    trees.threshold[0] = np.inf
    assert fault(trees) == kernels.SOUND
    assert fault(trees, 1) == kernels.BROKEN
