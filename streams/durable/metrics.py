"""Metrics of the durable folder (docs/metrics.md)."""

from prometheus_client import CollectorRegistry, Counter, Gauge

from streams.durable.snapshots import SnapshotInfo


class DurableMetrics:
    """Measures of what is kept on disk for the next start."""

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
        self.sync_failures = Counter(
            "murmuration_journal_sync_failures_total", "Syncs of the journal that failed", registry=registry
        )
        self.room_since = Gauge(
            "murmuration_room_knows_since_seconds",
            "Event time since when a room knows everything; 0: from the beginning of the history",
            ["room"],
            registry=registry,
        )
        self.skipped = gauge("skipped_pieces", "Versions whose pieces were passed over (recover --skip)")
        self.gap_records = gauge("log_gap_records", "Records of the log that were lost before they were applied")

    def note_snapshot(self, info: SnapshotInfo, seconds: float, pause_s: float) -> None:
        """A snapshot was published."""
        self.snapshot_version.set(info.version)
        self.snapshot_time.set(info.created_ms / 1000)
        self.snapshot_bytes.set(info.bytes)
        self.snapshot_seconds.set(seconds)
        self.snapshot_pause.set(pause_s)
