import asyncio

import numpy as np

from loadtest.benches.reputation import make_follows, run


def test_made_follows_are_distinct_and_nobody_follows_themselves() -> None:
    who, whom = make_follows(20_000, 1000)
    assert who.size == 20_000
    assert np.unique(np.stack((who, whom)), axis=1).shape[1] == 20_000
    assert (who != whom).all()


def test_the_benchmark_measures_both_ways() -> None:
    figures = asyncio.run(run(follows=20_000, accounts=1000, seconds=0, progress=lambda line: None))
    assert figures["follows"] == 19_800
    assert 0 < figures["warm_iterations"] < figures["cold_iterations"] <= 20
    assert figures["cold_cpu_s"] >= 0
