"""The metrics of processors. The engine's process and agents report them under the same names."""

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from streams.processors.base import Outcome
from streams.processors.exposures import Label

SHOW_INTERVAL_S = 1.0
#: Adding the windows up takes at most this share of a core.
SHOW_SHARE_MAX = 0.05


def show_pause_s(took_s: float) -> float:
    """How long to wait before the windows are added up again, if adding them up took ``took_s``."""
    return max(SHOW_INTERVAL_S, took_s / SHOW_SHARE_MAX)


class _Exposures(Collector):
    """The windows as they were last added up."""

    def __init__(self) -> None:
        self.totals: Mapping[Label, int] = {}

    def collect(self) -> Iterable[Metric]:
        family = GaugeMetricFamily(
            "murmuration_exposures",
            "Tweets shown within a window, by the author's group and the viewer's experiment bucket",
            labels=Label._fields,
        )
        for label, exposures in self.totals.items():
            family.add_metric(label, exposures)
        yield family


class ProcessorMetrics:
    """Counters and gauges of the slow path, in the given registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.feeds = Counter(
            "murmuration_processor_feeds_total",
            "Served feeds read by a processor, by result (applied, duplicate, late, full, refused)",
            ["processor", "result"],
            registry=registry,
        )
        self.state_failures = Counter(
            "murmuration_processor_state_failures_total",
            "Times that the file of the counted exposures could not be read (damaged) or written (unsaved), or was"
            " changed by somebody else (disturbed)",
            ["what"],
            registry=registry,
        )
        self._exposures = _Exposures()
        registry.register(self._exposures)

    def count(self, outcome: Outcome, refused: int) -> None:
        """Count the results of a batch."""
        results = {**outcome._asdict(), "refused": refused}
        for result, feeds in results.items():
            self.feeds.labels("exposures", result).inc(feeds)

    def show(self, totals: Mapping[Label, int]) -> None:
        """Report these windows from now on."""
        self._exposures.totals = totals


class NotificationMetrics:
    """Counters of the processor of notifications, in the given registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.candidates = Counter(
            "murmuration_notification_candidates_total",
            "Candidates for notifications that were decided about, by result (sent, or why not)",
            ["result"],
            registry=registry,
        )
