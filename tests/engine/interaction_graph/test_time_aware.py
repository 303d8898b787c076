"""Time-aware walks against the closed form of their expectation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import RequestError
from engine.interaction_graph.salsa import SalsaRequest, SalsaResult, SalsaScratch, salsa
from engine.interaction_graph.state import InteractionGraph

from .model import Op, small_graph_of

SCRATCH = SalsaScratch()
NOW = 200_000
HALF_LIVES_MS = (600e3, 3.6e6, 86.4e6, 1e15)


def ask(graph: InteractionGraph, **options: object) -> SalsaResult:
    given_ = {"query_user_id": 1, "seed_user_ids": np.ones(1, np.uint64), "seed_weights": np.ones(1)} | options
    return salsa(graph, SalsaRequest(**given_), SCRATCH)  # type: ignore[arg-type]


def expected(ops: list[Op], length: int, reset: float, half_life_s: float) -> dict[int, float]:
    """Each tweet's share of Σ visits · 2^(-age / half-life) for walks from user 1."""
    users = sorted({op.user for op in ops})
    tweets = sorted({op.tweet for op in ops})
    u = np.array([users.index(op.user) for op in ops])
    t = np.array([tweets.index(op.tweet) for op in ops])
    weight = 2.0 ** (-(NOW - np.array([op.second for op in ops])) / half_life_s)
    x = np.zeros(len(users))
    x[users.index(1)] = 1.0
    total = np.zeros(len(tweets))
    for _ in range((length + 1) // 2):
        along = ((1 - reset) * x / np.bincount(u))[u]
        total += np.bincount(t, along * weight, len(tweets))
        y = np.bincount(t, along, len(tweets))
        resets = reset * x.sum()
        x = np.bincount(u, (y / np.bincount(t))[t], len(users))
        x[users.index(1)] += resets
    return dict(zip(tweets, (total / total.sum()).tolist(), strict=True))


OPS = st.lists(
    st.builds(Op, st.integers(1, 5), st.integers(1, 7), st.just(1), st.integers(NOW - 90_000, NOW)),
    min_size=1,
    max_size=30,
)


@settings(deadline=None, max_examples=40)
@given(OPS, st.sampled_from([1, 3, 5]), st.integers(0, 2**64 - 1))
def test_shares_agree_with_the_closed_form(ops: list[Op], length: int, seed: int) -> None:
    ops = [*ops, Op(1, 1, 1, NOW - 1000)]
    graph = small_graph_of(ops)
    runs = [
        ask(
            graph, walks=40_000, length=length, half_lives_ms=HALF_LIVES_MS, time_ms=NOW * 1000, seed=(seed + r) % 2**64
        )
        for r in range(2)
    ]
    for h, half_life_ms in enumerate(HALF_LIVES_MS):
        exact = expected(ops, length, 0.3, half_life_ms / 1000)
        for result in runs:
            found = dict(zip(result.tweet_ids.tolist(), result.timed_scores[:, h].tolist(), strict=True))
            # The heaviest of few edges decides: a share moves by at most some multiples of 1/√(visits of an edge).
            for tweet, share in exact.items():
                assert found.get(tweet, 0.0) == pytest.approx(share, abs=0.06)
    mean = {
        t: np.mean([dict(zip(r.tweet_ids.tolist(), r.scores.tolist(), strict=True)).get(t, 0) for r in runs])
        for t in exact
    }
    blended = {t: np.mean([expected(ops, length, 0.3, h / 1000)[t] for h in HALF_LIVES_MS]) for t in exact}
    assert sum(mean.values()) == pytest.approx(1.0)
    assert 0.5 * sum(abs(mean[t] - blended[t]) for t in exact) < 0.04


def test_one_step_is_the_weighted_mean_of_edges() -> None:
    # 400 walks an edge: each share is the edge's weight, to the sampling error of its visits.
    rng = np.random.default_rng(2)
    ops = [Op(1, t + 1, 1, NOW - int(age)) for t, age in enumerate(rng.integers(0, 20_000, 50))]
    graph = small_graph_of(ops)
    walks = 500_000
    result = ask(
        graph, walks=walks, length=1, reset=0.0, half_lives_ms=HALF_LIVES_MS, time_ms=NOW * 1000, results_max=50
    )
    for h, half_life_ms in enumerate(HALF_LIVES_MS):
        exact = expected(ops, 1, 0.0, half_life_ms / 1000)
        order = [exact[t] for t in result.tweet_ids.tolist()]
        weights = np.array(order)
        error = weights * np.sqrt(50 / walks)
        z = (result.timed_scores[:, h] - weights) / error
        assert abs(z).max() < 5
        assert z.std() < 1.3


def test_an_endless_half_life_is_the_plain_walk() -> None:
    rng = np.random.default_rng(3)
    ops = [Op(int(u), int(t), 1, NOW - 5) for u, t in rng.integers(1, 30, (200, 2))] + [Op(1, 2, 1, NOW)]
    graph = small_graph_of(ops)
    plain = ask(graph, results_max=2500, seed=4)
    timed = ask(graph, results_max=2500, seed=4, half_lives_ms=(1e18,))
    assert timed.tweet_ids.tolist() == plain.tweet_ids.tolist()
    assert timed.visits.tolist() == plain.visits.tolist()
    assert timed.scores == pytest.approx(plain.scores)


@pytest.mark.parametrize("halvings", [900, 1000, 1021, 1040, 1060, 1073, 1090])
def test_weights_too_small_to_be_told_apart_are_none(halvings: int) -> None:
    """When everything is older than a thousand of the shortest half-lives, the sum of its weights has no inverse."""
    lives = (30e3, 210e3, 1_470e3, 10_290e3)
    old = NOW - int(halvings * lives[0] / 1000)
    graph = small_graph_of([Op(1, t, 1, old) for t in range(10, 15)] + [Op(2, 10, 1, old)])
    result = ask(graph, walks=1000, length=1, reset=0.0, half_lives_ms=lives, time_ms=NOW * 1000)
    assert sorted(result.tweet_ids.tolist()) == [10, 11, 12, 13, 14]
    assert np.isfinite(result.timed_scores).all()
    assert result.timed_scores[:, 3].sum() == pytest.approx(1.0)
    assert result.timed_scores[:, 0].sum() == pytest.approx(1.0 if halvings < 940 else 0.0)


def test_the_blend_decides_the_order() -> None:
    # Tweet 10 has two old edges, tweet 11 one new one.
    graph = small_graph_of([Op(1, 10, 1, NOW - 80_000), Op(1, 10, 2, NOW - 80_000), Op(1, 11, 1, NOW)])
    lives = (1e6, 1e15)
    options = {"walks": 10_000, "length": 1, "half_lives_ms": lives, "time_ms": NOW * 1000}
    assert ask(graph, **options, blend=(1.0, 0.0)).tweet_ids.tolist() == [11, 10]
    assert ask(graph, **options, blend=(0.0, 2.0)).tweet_ids.tolist() == [10, 11]
    result = ask(graph, **options, blend=(1.0, 3.0))
    assert result.scores == pytest.approx(result.timed_scores @ [0.25, 0.75])


@pytest.mark.parametrize("half_life_ms", [1.0, 5_000.0, 3.6e6, 1e12])
@pytest.mark.parametrize("span_s", [1000, 260_000, 1 << 31])
def test_age_tables_multiply_to_the_power(half_life_ms: float, span_s: int) -> None:
    tables, lows, bits = SalsaScratch().ages((half_life_ms,), span_s)
    rows = tables.reshape(-1, 4)
    last = len(rows) - 1
    for age in [0, 1, 2, 77, 999, 1000, span_s // 3, span_s]:
        found = rows[age & (lows - 1), 0] * rows[min(lows + (age >> bits), last), 0]
        assert found == pytest.approx(2.0 ** (-age * 1000 / half_life_ms), rel=1e-12, abs=1e-15)


@pytest.mark.parametrize(
    "options",
    [
        {"half_lives_ms": (0.0,)},
        {"half_lives_ms": (float("nan"),)},
        {"half_lives_ms": (1e6,) * 5},
        {"half_lives_ms": (1e6,), "blend": (1.0, 1.0)},
        {"half_lives_ms": (1e6, 1e7), "blend": (0.0, 0.0)},
        {"half_lives_ms": (1e6, 1e7), "blend": (-1.0, 2.0)},
        {"blend": (1.0,)},
    ],
)
def test_bad_half_lives_have_a_name(options: dict[str, object]) -> None:
    with pytest.raises(RequestError) as caught:
        ask(small_graph_of([]), **options)
    assert caught.value.code == "bad_walk_option"
