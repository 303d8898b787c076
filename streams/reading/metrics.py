"""Metrics of the path from log to feed (docs/metrics.md lists them all). No ids in labels; base units."""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from streams.durable.snapshots import SnapshotInfo
from streams.process.version import VERSION

LATENCY_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
STAGE_S = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)

RoomGauges = Callable[[], Mapping[str, tuple[int, Mapping[str, float], Mapping[str, int]]]]


class BatchHistogram(Collector):
    """A histogram fed with arrays: a million observations a second cost a sort into buckets, not a million calls."""

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
        """Counts by bucket (not cumulative), the last one beyond every bound."""
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


class _Rooms(Collector):
    """Bytes, fill and counters of every room, read when asked."""

    def __init__(self, gauges: RoomGauges) -> None:
        self.gauges = gauges

    def collect(self) -> Iterable[Metric]:
        size = GaugeMetricFamily("murmuration_room_bytes", "Bytes of a room's arrays", labels=["room"])
        fill = GaugeMetricFamily(
            "murmuration_room_fill_ratio", "Share in use of each bounded thing", labels=["room", "what"]
        )
        events = CounterMetricFamily(
            "murmuration_room_events",
            "What happened in a room: added, evicted, dropped, by name",
            labels=["room", "what"],
        )
        for room, (bytes_max, fills, counters) in self.gauges().items():
            size.add_metric([room], bytes_max)
            for what, share in fills.items():
                fill.add_metric([room, what], share)
            for what, count in counters.items():
                events.add_metric([room, what], count)
        yield from (size, fill, events)


class EngineMetrics:
    """Everything measured between the log and the feed."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        build = Info("murmuration_build", "What is running", registry=registry)
        build.info({"version": VERSION})
        self.events = Counter(
            "murmuration_events_total",
            "Events read from the log, by topic and result (applied, duplicate, dead)",
            ["topic", "result"],
            registry=registry,
        )
        self.dead_letters = Counter(
            "murmuration_dead_letters_total", "Events that could not be used, by reason", ["reason"], registry=registry
        )
        self.ready = Gauge("murmuration_ready", "1 when caught up with the log", registry=registry)
        self.version = Gauge("murmuration_state_version", "Batches applied", registry=registry)
        self.clock = Gauge("murmuration_last_event_timestamp_seconds", "Newest event time applied", registry=registry)
        self.apply = Histogram(
            "murmuration_apply_seconds", "Time a batch holds the write lock", buckets=STAGE_S, registry=registry
        )
        self.decode = Histogram(
            "murmuration_decode_seconds", "Time to decode one read of the log", buckets=LATENCY_S, registry=registry
        )
        self.lag_records = Gauge(
            "murmuration_lag_records",
            "Records in the log that are not applied yet",
            ["topic", "partition"],
            registry=registry,
        )
        self.lag_seconds = Gauge(
            "murmuration_lag_seconds",
            "Age of the oldest appended record not applied yet, 0 when caught up",
            ["topic", "partition"],
            registry=registry,
        )
        self.append_freshness = BatchHistogram(
            "murmuration_append_freshness_seconds",
            "From an event's append to the first state version that feeds can read it in",
            LATENCY_S,
        )
        self.event_freshness = BatchHistogram(
            "murmuration_event_freshness_seconds",
            "From an event's own time to the first state version that feeds can read it in",
            LATENCY_S,
        )
        registry.register(self.append_freshness)
        registry.register(self.event_freshness)
        self.feed_stage = Histogram(
            "murmuration_feed_stage_seconds",
            "Time of a feed by stage",
            ["product", "stage"],
            buckets=STAGE_S,
            registry=registry,
        )
        self.candidates = Counter(
            "murmuration_candidates_total",
            "Candidates by stage, component and result (found, dropped, failed, skipped)",
            ["stage", "component", "result"],
            registry=registry,
        )
        self.component_failures = Counter(
            "murmuration_component_failures_total", "Pipeline components that raised", ["component"], registry=registry
        )
        self.log_failures = Counter(
            "murmuration_log_failures_total", "Reads or appends that the log refused", ["operation"], registry=registry
        )
        self.requests_waiting = Gauge(
            "murmuration_requests_waiting", "Feed requests in the queue or being computed", registry=registry
        )

    def watch_rooms(self, gauges: RoomGauges) -> None:
        """Report the rooms when scraped."""
        self.registry.register(_Rooms(gauges))


class DurableMetrics:
    """What is kept on disk for the next start."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, documentation: str) -> Gauge:
            return Gauge(f"murmuration_{name}", documentation, registry=registry)

        self.snapshot_version = gauge("snapshot_version", "State version of the newest snapshot")
        self.snapshot_time = gauge("snapshot_timestamp_seconds", "When the newest snapshot was taken")
        self.snapshot_bytes = gauge("snapshot_bytes", "Bytes of the newest snapshot")
        self.snapshot_seconds = gauge("snapshot_seconds", "Time to write the newest snapshot")
        self.snapshot_pause = gauge("snapshot_pause_seconds", "How long its start kept the state thread")
        self.snapshot_failures = Counter(
            "murmuration_snapshot_failures_total", "Snapshots that could not be written", registry=registry
        )
        self.gap_records = gauge("log_gap_records", "Records of the log that were lost before they were applied")

    def note_snapshot(self, info: SnapshotInfo, seconds: float, pause_s: float) -> None:
        """A snapshot is in force."""
        self.snapshot_version.set(info.version)
        self.snapshot_time.set(info.created_ms / 1000)
        self.snapshot_bytes.set(info.bytes)
        self.snapshot_seconds.set(seconds)
        self.snapshot_pause.set(pause_s)


class OrderMetrics:
    """The order that nodes share (``log.order = "shared"``)."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.proposals = Counter(
            "murmuration_order_proposals_total",
            "Proposals read from the shared order, by result (accepted, ignored)",
            ["result"],
            registry=registry,
        )
        self.leads = Gauge("murmuration_order_leads", "1 on the node whose proposals are accepted", registry=registry)
