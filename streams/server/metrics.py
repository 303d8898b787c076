"""Metrics of serving. Every label's values come from a closed set; ids are never labels."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

#: Bounds of feed latency as the server sees it: from the frame read to its answer handed to the connection.
FEED_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class ServingMetrics:
    """Counters, gauges and histograms of the websocket and HTTP server, in the registry handed in."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._make_pushes(registry)
        self.connections = Gauge("murmuration_connections", "Open websocket connections", registry=registry)
        self.feed_requests = Counter(
            "murmuration_feed_requests_total",
            "Feeds asked for, by product, way (websocket, http, push) and result (ok or the error's name)",
            ["product", "way", "result"],
            registry=registry,
        )
        self.feed_seconds = Histogram(
            "murmuration_feed_request_seconds",
            "From the request read to its answer handed to the connection",
            ["product"],
            buckets=FEED_SECONDS,
            registry=registry,
        )
        # Looking a metric up by its labels costs more than counting.
        self._feeds_by_labels: dict[tuple[str, str, str], Counter] = {}
        self._seconds_by_product: dict[str, Histogram] = {}
        self._frames_by_type: dict[str, Counter] = {}
        self.frames = Counter(
            "murmuration_frames_received_total",
            "Client frames, by type (bad: not a frame)",
            ["type"],
            registry=registry,
        )
        self.errors = Counter(
            "murmuration_errors_sent_total",
            "Named errors, by way (websocket, http)",
            ["way", "error"],
            registry=registry,
        )
        self.slow_readers = Counter(
            "murmuration_slow_readers_total", "Connections cut because their client did not read", registry=registry
        )
        self.events_received = Counter(
            "murmuration_events_received_total",
            "Events from websockets and HTTP, by result (accepted or the reason of refusal)",
            ["result"],
            registry=registry,
        )
        self.sent_bytes = Counter(
            "murmuration_sent_bytes_total", "Bytes of frames handed to websocket connections", registry=registry
        )
        self.tcp_connections = Gauge(
            "murmuration_tcp_connections", "Open TCP connections, websockets included", registry=registry
        )
        self.tcp_cut = Counter(
            "murmuration_tcp_connections_cut_total",
            "TCP connections refused (address_full, full) or cut (silent, half_request, not_reading, gave_way)",
            ["reason"],
            registry=registry,
        )
        self.bodies = Gauge("murmuration_bodies", "Bodies of POST /v1/events that are being read", registry=registry)
        self.rate_limited = Counter(
            "murmuration_rate_limited_total", "Requests refused as too fast, by way", ["way"], registry=registry
        )
        self.served_dropped = Counter(
            "murmuration_served_dropped_total",
            "Feeds whose served record did not reach the log, by reason (queue_full, refused, closing)",
            ["reason"],
            registry=registry,
        )

    def _make_pushes(self, registry: CollectorRegistry) -> None:
        self.subscriptions = Gauge(
            "murmuration_subscriptions", "Websocket connections that asked for pushes", registry=registry
        )
        self.pushes = Counter("murmuration_pushes_total", "new_tweets and new_entries frames sent", registry=registry)
        self.push_feeds = Counter(
            "murmuration_push_feeds_total",
            "Feeds computed for subscribers, by cause (concerned: something happened that concerns the subscriber; "
            "refresh: in turn; entry: single entries only)",
            ["cause"],
            registry=registry,
        )
        self.notifications = Counter(
            "murmuration_notifications_total",
            "Notifications read from the log, by what became of them here (shown, not_connected, or why not)",
            ["result"],
            registry=registry,
        )
        self.pushes_due = Gauge(
            "murmuration_pushes_due", "Subscribers whose feed waits to be computed for a push", registry=registry
        )
        self.pushes_superseded = Counter(
            "murmuration_pushes_superseded_total",
            "Pushes replaced by a newer one before a slow connection could take them",
            registry=registry,
        )

    def count_feed(self, product: str, way: str, result: str, seconds: float) -> None:
        """Count a requested feed, and its time if it was answered."""
        labels = (product, way, result)
        counter = self._feeds_by_labels.get(labels)
        if counter is None:
            counter = self._feeds_by_labels[labels] = self.feed_requests.labels(*map(str, labels))
        counter.inc()
        if result == "ok":
            timer = self._seconds_by_product.get(product)
            if timer is None:
                timer = self._seconds_by_product[product] = self.feed_seconds.labels(str(product))
            timer.observe(seconds)

    def count_frame(self, kind: str) -> None:
        """Count a client's frame of a known type."""
        counter = self._frames_by_type.get(kind)
        if counter is None:
            counter = self._frames_by_type[kind] = self.frames.labels(kind)
        counter.inc()
