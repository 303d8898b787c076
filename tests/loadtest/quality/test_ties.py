"""Tie strength in societies: trees tell the next day better than the default score, and that better than recency."""

import numpy as np
import pytest

from loadtest.quality.ties import TiesOptions, evaluate_ties, interval

SMALL = TiesOptions(seeds=2, people=250, days=15, events_a_day=3500)


def test_trees_beat_the_default_score_and_recency():
    figures = evaluate_ties(SMALL)
    for kind in ("any", "explicit"):
        compared = figures["auc"][kind]
        for name in ("default score", "recency"):
            assert all(society["auc_" + kind] > 0.5 for society in figures["societies"])
            assert compared[f"trees minus {name}"][0] > 0, (kind, name)
        assert compared["default score"][0] > compared["recency"][0]


def test_an_interval_is_students():
    mean, half = interval(np.array([1.0, 2.0, 3.0]))
    assert (mean, half) == (2.0, pytest.approx(4.303 / np.sqrt(3)))
    assert np.isnan(interval(np.ones(1))[1])
