"""Metrics of jobs (docs/metrics.md)."""

from prometheus_client import CollectorRegistry, Counter, Gauge


class JobMetrics:
    """When each job last ran, how long it took, and how often it failed.

    The label is ``job_name``: Prometheus uses ``job`` for the scraped target.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, documentation: str) -> Gauge:
            return Gauge(f"murmuration_job_{name}", documentation, ["job_name"], registry=registry)

        self.running = gauge("running", "1 while the job's computation runs")
        self.due_time = gauge("due_timestamp_seconds", "Event time that the newest published result is for")
        self.seconds = gauge("seconds", "Time from the fork to the last published result")
        self.pause = gauge("pause_seconds", "How long the last start kept the state thread")
        self.result_bytes = gauge("result_bytes", "Bytes of the last published result")
        self.failures = Counter(
            "murmuration_job_failures_total",
            "Due times without a result, by reason (not_started, failed, overdue, too_large, not_published)",
            ["job_name", "reason"],
            registry=registry,
        )
