"""The learner of the blend against its formula in plain numpy, and on made-up streams with a known answer."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.blend_learner import BlendLearner, BlendLearnerConfig
from engine.errors import InvariantError


def made(seed: int, *, tweets: int = 40, count: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.permutation(np.arange(1, tweets + 1, dtype=np.uint64)), rng.random((tweets, count))


def oracle(weights: np.ndarray, ids: np.ndarray, parts: np.ndarray, picked: int, config: BlendLearnerConfig):
    """One update, as the module's docstring writes it."""
    scores = parts @ weights
    order = np.lexsort([ids, -scores])
    equal = np.count_nonzero(scores == scores[picked])
    if np.count_nonzero(scores > scores[picked]) + (equal + 1) / 2 > config.reach or scores[picked] <= 0:
        return weights
    head = order[: config.head]
    z = np.exp(config.sharpness * (scores[head] / scores.max() - 1))
    z /= z.sum()
    w = weights * np.exp(config.rate * (parts[picked] - z @ parts[head]))
    w = np.maximum(w / w.sum(), config.weight_min)
    return w / w.sum()


@given(seed=st.integers(0, 2**32), head=st.integers(2, 60), reach=st.integers(1, 60), rate=st.floats(0.001, 1))
@settings(max_examples=60, deadline=None)
def test_updates_follow_the_formula(seed: int, head: int, reach: int, rate: float):
    config = BlendLearnerConfig(components=4, head=head, reach=reach, rate=rate)
    learner = BlendLearner(config)
    expected = learner.weights
    for step in range(5):
        ids, parts = made(seed + step)
        expected = oracle(expected, ids, parts, step, config)
        learner.learn(ids, parts, step)
        np.testing.assert_allclose(learner.weights, expected, rtol=1e-9)
        np.testing.assert_allclose(learner.blend(parts), parts @ expected, rtol=1e-9)
        learner.check()


@pytest.mark.parametrize("right", range(4))
def test_the_right_component_wins(right: int):
    """One component knows what is picked, three are noise: the blend comes close to that one alone."""
    learner = BlendLearner(BlendLearnerConfig(components=4))
    rng = np.random.default_rng(right)
    blended, alone = [], []
    for step in range(1500):
        ids, parts = made(1000 * right + step, tweets=200)
        parts[:, right] = parts[:, right] ** 4
        picked = int(rng.choice(200, p=parts[:, right] ** 3 / (parts[:, right] ** 3).sum()))
        scores = learner.blend(parts)
        if step >= 750:
            blended.append(np.count_nonzero(scores > scores[picked]) < 20)
            alone.append(np.count_nonzero(parts[:, right] > parts[picked, right]) < 20)
        learner.learn(ids, parts, picked)
    assert learner.weights.argmax() == right
    assert learner.weights[right] > 0.5
    assert np.mean(blended) > np.mean(alone) - 0.05


def test_a_change_of_the_world_is_followed():
    """No component is ever lost: when another becomes right, it takes the weight over."""
    learner = BlendLearner(BlendLearnerConfig(components=3))
    for right in (0, 2):
        for step in range(3000):
            ids, parts = made(10_000 * right + step, count=3)
            learner.learn(ids, parts, int(parts[:, right].argmax()))
        assert learner.weights.argmax() == right


def test_bounded_under_the_worst_picks():
    config = BlendLearnerConfig(components=3, rate=1.0, reach=2500)
    learner = BlendLearner(config)
    parts = np.zeros((50, 3))
    parts[0, 0] = parts[1, 1] = parts[2:, 2] = 1.0
    before = learner.weights
    for _ in range(5000):
        learner.learn(np.arange(1, 51, dtype=np.uint64), parts, 0)
        assert np.all(learner.weights <= before * np.exp(2 * config.rate) + 2 * config.weight_min)
        before = learner.weights
        learner.check()
    assert learner.weights.min() >= 0.9 * config.weight_min


def test_picks_out_of_reach_and_without_score_teach_nothing():
    learner = BlendLearner(BlendLearnerConfig(components=2, reach=3))
    parts = np.zeros((10, 2))
    parts[:, 0] = np.linspace(1, 0, 10)
    ids = np.arange(1, 11, dtype=np.uint64)
    learner.learn(ids, parts, 5)
    learner.learn(ids, parts, 9)
    assert learner.weights.tolist() == [0.5, 0.5]
    learner.learn(ids, parts, 0)
    assert learner.counters() == {"updates": 1, "beyond_reach": 1, "without_score": 1}
    assert learner.weights[0] > 0.5


def test_equal_calls_give_equal_bytes_and_arrays_are_the_state():
    config = BlendLearnerConfig(components=4)
    first, second = BlendLearner(config), BlendLearner(config)
    for step in range(50):
        first.learn(*made(step), step % 40)
    for step in range(25):
        second.learn(*made(step), step % 40)
    third = BlendLearner(config)
    for name, array in third.arrays().items():
        np.copyto(array, second.arrays()[name])
    for step in range(25, 50):
        third.learn(*made(step), step % 40)
    assert [a.tobytes() for a in third.arrays().values()] == [a.tobytes() for a in first.arrays().values()]
    assert first.bytes_max == sum(a.nbytes for a in first.arrays().values())


def test_a_copy_learns_apart_and_can_be_put_back():
    learner, same = BlendLearner(BlendLearnerConfig(components=4)), BlendLearner(BlendLearnerConfig(components=4))
    copy = learner.copy()
    for step in range(5):
        learner.learn(*made(step), step, copy)
        same.learn(*made(step), step)
    assert learner.weights.tolist() == [0.25] * 4
    assert not any(learner.counters().values())
    learner.put(copy)
    copy.weights[:] = 0
    assert learner.weights.tolist() == same.weights.tolist()
    assert learner.counters() == same.counters()


def test_what_does_not_fit_is_refused():
    learner = BlendLearner(BlendLearnerConfig(components=4))
    ids, parts = made(1)
    for wrong in ((ids[1:], parts, 0), (ids, parts[:, 1:], 0), (ids, parts, 40), (ids, parts, -1), (ids, parts + 1, 0)):
        with pytest.raises(ValueError, match=r"components"):
            learner.learn(*wrong)
    with pytest.raises(ValueError, match=r"components"):
        learner.learn(ids, np.full_like(parts, np.nan), 0)
    assert learner.weights.tolist() == [0.25] * 4


def test_check_finds_weights_that_must_not_be():
    learner = BlendLearner(BlendLearnerConfig(components=2))
    learner.arrays()["weights"][:] = (1.0, 0.0)
    with pytest.raises(InvariantError):
        learner.check()
    learner.arrays()["weights"][:] = (0.5, 0.6)
    with pytest.raises(InvariantError):
        learner.check()
