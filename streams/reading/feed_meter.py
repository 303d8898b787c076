"""Times and candidate counts of feeds: each reader thread counts for itself, and a scrape adds the threads up.

A feed makes some thirty observations. Incrementing a thread's dicts and lists costs a few µs for all of them; metrics
with labels and locks would take a noticeable share of the feed's time.
"""

import threading
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from streams.process.histogram import STAGE_S

_BOUNDS = [*map(str, STAGE_S), "+Inf"]


class _Stage:
    """A stage's histogram: counts per bucket (not cumulative), and the sum in seconds."""

    __slots__ = ("buckets", "seconds")

    def __init__(self) -> None:
        self.buckets = [0] * (len(STAGE_S) + 1)
        self.seconds = 0.0


class FeedMeter:
    """One thread's counts."""

    def __init__(self) -> None:
        #: By stage, component and result.
        self.candidates: Counter[tuple[str, str, str]] = Counter()
        #: CPU seconds by stage.
        self.cpu_s: defaultdict[str, float] = defaultdict(float)
        #: Feeds by product and tier of the viewer.
        self.tiers: Counter[tuple[str, str]] = Counter()
        #: By product and stage.
        self.stages: dict[tuple[str, str], _Stage] = {}
        #: The same by product, then by stage: no key is made to find one.
        self._by_product: dict[str, dict[str, _Stage]] = {}

    def note(self, product: str, wall_ms: Mapping[str, float], cpu_ms: Mapping[str, float]) -> None:
        """Count a feed's times by stage, ``total`` among them; of CPU time only the stages."""
        found, cpu_s = self._by_product.get(product), self.cpu_s
        if found is None:
            found = self._by_product[product] = {}
        for name, ms in wall_ms.items():
            stage = found.get(name)
            if stage is None:
                stage = found[name] = self.stages[product, name] = _Stage()
            seconds = ms / 1000.0
            stage.buckets[bisect_left(STAGE_S, seconds)] += 1
            stage.seconds += seconds
            if name != "total":
                cpu_s[name] += cpu_ms[name] / 1000.0


class FeedMeters(Collector):
    """The meters of all reader threads, as metrics."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._meters: list[FeedMeter] = []

    def new(self) -> FeedMeter:
        """A meter for the calling thread."""
        meter = FeedMeter()
        with self._lock:
            self._meters.append(meter)
        return meter

    def collect(self) -> Iterable[Metric]:
        with self._lock:
            meters = list(self._meters)
        yield self._stages(meters)
        candidates = CounterMetricFamily(
            "murmuration_candidates",
            "Candidates by stage, component and result (found, dropped, failed, skipped)",
            labels=("stage", "component", "result"),
        )
        for labels, count in sorted(sum((meter.candidates.copy() for meter in meters), Counter()).items()):
            candidates.add_metric(labels, count)
        yield candidates
        tiers = CounterMetricFamily(
            "murmuration_feeds_by_tier",
            "Feeds by product and by how much is known of the viewer",
            labels=("product", "tier"),
        )
        for pair, count in sorted(sum((meter.tiers.copy() for meter in meters), Counter()).items()):
            tiers.add_metric(pair, count)
        yield tiers
        cpu = CounterMetricFamily(
            "murmuration_feed_cpu_seconds",
            "CPU time of reader threads for feeds, by stage; finish: encoding the answer and the record",
            labels=("stage",),
        )
        spent = [meter.cpu_s.copy() for meter in meters]
        for stage in sorted({stage for stages in spent for stage in stages}):
            cpu.add_metric((stage,), sum(stages.get(stage, 0.0) for stages in spent))
        yield cpu

    @staticmethod
    def _stages(meters: list[FeedMeter]) -> Metric:
        family = HistogramMetricFamily(
            "murmuration_feed_stage_seconds", "Time of a feed by stage", labels=("product", "stage")
        )
        found = [meter.stages.copy() for meter in meters]
        for labels in sorted({labels for stages in found for labels in stages}):
            own = [stages[labels] for stages in found if labels in stages]
            cumulative, buckets = 0, []
            for bound, counts in zip(_BOUNDS, zip(*(stage.buckets for stage in own), strict=True), strict=True):
                cumulative += sum(counts)
                buckets.append((bound, float(cumulative)))
            family.add_metric(labels, buckets, sum(stage.seconds for stage in own))
        return family
