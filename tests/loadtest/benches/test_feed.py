"""The feed bench, small: a real server is measured, the figures hang together, the search finds a known rate."""

import numpy as np
import pytest

from loadtest.benches import feed, feed_world
from loadtest.benches.feed import FeedBench, greatest_rate, is_good, measure
from loadtest.benches.feed_world import WorldSize
from loadtest.traffic.feed_load import LoadResult


def result(latency_ms, sent=None, late_ms=0.0):
    latency = np.array(latency_ms, float)
    return LoadResult(len(latency) if sent is None else sent, latency, 0, 1.0, 20.0, late_ms, 0.1)


@pytest.mark.parametrize(
    ("met", "good"),
    [
        (result([99.0] * 100), True),
        (result([1.0] * 98 + [500.0] * 2), False),
        (result([1.0] * 999 + [500.0]), True),
        (result([1.0] * 99, sent=100), False),
        (result([]), False),
        (result([1.0] * 100, late_ms=60.0), False),
    ],
)
def test_a_rate_is_good_when_all_are_answered_in_time_by_a_client_that_kept_up(met, good):
    assert is_good(met) is good


class Server:
    """Answers in time up to a rate; the first load beyond the half of it is disturbed once."""

    def __init__(self, limit):
        self.limit, self.disturbed = limit, False

    def run(self, load):
        disturbed = load.feeds_per_s > self.limit / 2 and not self.disturbed
        self.disturbed |= disturbed
        return result([200.0 if disturbed or load.feeds_per_s > self.limit else 5.0] * 10)


@pytest.mark.parametrize("limit", [30.0, 149.0, 150.0, 151.0, 700.0, 3500.0])
def test_the_search_finds_the_greatest_good_rate(limit):
    rate = greatest_rate(Server(limit), FeedBench(rate_max=4000.0), lambda line: None)
    assert rate <= limit < rate * feed.RATE_PRECISION


def test_the_search_ends_at_the_greatest_rate_asked_for():
    assert greatest_rate(Server(1e9), FeedBench(rate_max=400.0), lambda line: None) == 400.0


async def test_it_measures_a_real_server(tmp_path, monkeypatch):
    monkeypatch.setattr(feed_world.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(feed, "ALONE_FEEDS", 20)
    bench = FeedBench(WorldSize(people=100, events=3000), connections=20, step_s=0.2, half_s=1.0, rate_max=20.0)
    figures = await measure(bench, lambda line: None)
    assert 0 < figures["feeds_per_s"] <= 20.0
    assert figures["feeds_lost"] == 0
    assert figures["feed_entries_mean"] > 0
    assert 0 < figures["feed_ms_p50"] <= figures["feed_ms_p99"] <= figures["feed_ms_max"]
    assert 0 < figures["kernel_share"] < 1
    assert 0 < figures["execute_cpu_ms_per_feed"] < figures["server_cpu_ms_per_feed"]
    # Every entry shown was recorded, and applied.
    assert figures["served_entries_applied_per_feed"] > 0
    assert figures["audited_identical"] == figures["audited"] > 0
    (kept,) = tmp_path.glob("murmuration-bench-feed-*/*")
    assert kept.name == "kept"
