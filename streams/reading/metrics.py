"""Metrics of the path from log to feed (docs/metrics.md lists them all). No ids in labels; base units."""

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from engine.models.state import ModelInForce
from streams.process.histogram import LATENCY_S, STAGE_S, BatchHistogram
from streams.process.version import VERSION
from streams.reading.feed_meter import FeedMeters

#: By room: bytes, the share in use of each bounded thing, and counters.
RoomGauges = Mapping[str, tuple[int, Mapping[str, float], Mapping[str, int]]]


class Rooms(Collector):
    """Bytes, fill and counters of every room, as last given to ``show``: a scrape never reads the state."""

    def __init__(self) -> None:
        self._gauges: RoomGauges = {}

    def show(self, gauges: RoomGauges) -> None:
        """Report these gauges from now on. Any thread may call this."""
        self._gauges = gauges

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
        for room, (bytes_max, fills, counters) in self._gauges.items():
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
        self.rooms = Rooms()
        registry.register(self.rooms)
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
        self.observe = Histogram(
            "murmuration_observe_seconds",
            "Time to look at the state before a batch",
            buckets=STAGE_S,
            registry=registry,
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
            "Age of the oldest record that is not applied yet, 0 when caught up",
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
        self.feeds = FeedMeters()
        registry.register(self.feeds)
        self.component_failures = Counter(
            "murmuration_component_failures_total", "Pipeline components that raised", ["component"], registry=registry
        )
        self.model_version, self.model_committed = _model_gauges(registry)
        self.motifs = _motif_counter(registry)
        self.log_failures = Counter(
            "murmuration_log_failures_total", "Reads or appends that the log refused", ["operation"], registry=registry
        )
        self.requests_waiting = Gauge(
            "murmuration_requests_waiting", "Feed requests in the queue or being computed", registry=registry
        )

    def note_models(self, models: Iterable[ModelInForce]) -> None:
        """Report which versions of models are in force. To be called after every change."""
        for model in models:
            self.model_version.labels(model.name).set(model.version)
            self.model_committed.labels(model.name).set(model.committed_ms / 1000.0)


def _motif_counter(registry: CollectorRegistry) -> Counter:
    return Counter(
        "murmuration_motifs_total",
        "Motifs found, by what became of them (allowed: a candidate for a notification, or why not)",
        ["result"],
        registry=registry,
    )


def _model_gauges(registry: CollectorRegistry) -> tuple[Gauge, Gauge]:
    """By model: its version in force, and the event time of the commit."""
    return (
        Gauge("murmuration_model_version", "Version in force of a model", ["model"], registry=registry),
        Gauge(
            "murmuration_model_committed_timestamp_seconds",
            "Event time at which a model's version in force was committed",
            ["model"],
            registry=registry,
        ),
    )
