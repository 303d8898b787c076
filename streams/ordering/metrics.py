"""Metrics of the order that nodes share (docs/metrics.md)."""

from prometheus_client import CollectorRegistry, Counter, Gauge


class OrderMetrics:
    """Measures of the order that nodes share (``log.order = "shared"``)."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.proposals = Counter(
            "murmuration_order_proposals_total",
            "Proposals read from the shared order, by result (accepted, ignored)",
            ["result"],
            registry=registry,
        )
        self.leads = Gauge("murmuration_order_leads", "1 on the node whose proposals are accepted", registry=registry)
