"""Histograms: bucket bounds that metrics share, a histogram that takes arrays, and quantiles of bucket counts."""

import threading
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

LATENCY_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
STAGE_S = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)


class BatchHistogram(Collector):
    """A histogram fed with arrays: a million observations cost one sorting into buckets, not a million calls."""

    def __init__(self, name: str, documentation: str, bounds: Sequence[float]) -> None:
        self.name, self.documentation = name, documentation
        self.bounds = np.array(bounds)
        self._lock = threading.Lock()
        self._counts = np.zeros(len(bounds) + 1, np.int64)
        self._sum = 0.0

    def observe(self, values: NDArray[np.floating[Any]]) -> None:
        """Add every value."""
        counts = np.bincount(np.searchsorted(self.bounds, values), minlength=len(self._counts))
        with self._lock:
            self._counts += counts
            self._sum += float(values.sum())

    def snapshot(self) -> NDArray[np.int64]:
        """Counts per bucket (not cumulative); the last bucket is above every bound."""
        with self._lock:
            return self._counts.copy()

    def collect(self) -> Iterable[Metric]:
        with self._lock:
            cumulative, total = np.cumsum(self._counts), self._sum
        labels = [*map(str, self.bounds.tolist()), "+Inf"]
        family = HistogramMetricFamily(self.name, self.documentation)
        family.add_metric([], list(zip(labels, cumulative.astype(float).tolist(), strict=True)), total)
        yield family


def quantile(counts: NDArray[np.int64], bounds: Sequence[float], q: float) -> float:
    """The q-quantile of bucket counts, interpolated within its bucket (0 when empty)."""
    total = int(counts.sum())
    if not total:
        return 0.0
    cumulative = np.cumsum(counts)
    bucket = int(np.searchsorted(cumulative, q * total))
    low = bounds[bucket - 1] if bucket else 0.0
    high = bounds[min(bucket, len(bounds) - 1)]
    before = int(cumulative[bucket - 1]) if bucket else 0
    within = (q * total - before) / max(int(counts[bucket]), 1)
    return low + (high - low) * min(max(within, 0.0), 1.0)
